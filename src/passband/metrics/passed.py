"""How much of the data's power, and of the noise's, a front of Spectral Forcing lets through."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from passband._checks import check_floating
from passband.forcing.fronts import Front
from passband.forcing.operator import check_kappa
from passband.metrics.power_law import PowerLawResult
from passband.transforms import radial_bins, radial_grid


class PassedPower(NamedTuple):
    """What [`passed_power`][passband.metrics.passed_power] computes; one value per flow time, float64.

    Attributes:
        cutoff: the front's cutoff, a share of the largest DCT radius.
        signal: share of the data's power that passes, the mean left out.
        mean: share of the mean's power that passes.
        noise: share of the noise's power that passes, over all frequencies.
        lost: share of the data's power, the mean left out, that is stopped although it is above the noise's at its
            frequency: signal that the model could have used.

    """

    cutoff: Tensor
    signal: Tensor
    mean: Tensor
    noise: Tensor
    lost: Tensor


def passed_power(
    front: Front,
    tau: Float[Tensor, " times"],
    power: PowerLawResult,
    *,
    kappa: float = 30.0,
    exact: bool = False,
) -> PassedPower:
    r"""Shares of signal and noise power that a front lets through, at some flow times.

    With the mask $M(\tau) = \mathrm{sigmoid}(\kappa (c(\tau) - \rho))$ and the data's power P, both over the DCT's
    frequencies: signal $\sum M^2 \alpha^2 P / \sum \alpha^2 P$ without the mean, noise $\operatorname{mean} M^2$. The
    shares depend on the flow time alone, so they hold for every process.

    Args:
        front: cutoff of each flow time, as those of `passband.forcing`.
        tau: flow times in [0, 1], (times,).
        power: the data's power, from [`measure_power_law`][passband.metrics.measure_power_law]; for forcing in windows,
            measured in windows of the same size.
        kappa: steepness of the mask, above 0.
        exact: the operator's exact variant, see `passband.forcing.spectral_low_pass`.

    Returns:
        One value of each kind per flow time.

    Raises:
        TypeError: if tau is not floating, or kappa no number.
        ValueError: if tau is not one-dimensional, or outside [0, 1], or kappa is not above 0.

    Example:
        >>> import torch
        >>> from passband.metrics import measure_power_law, passed_power
        >>> white = torch.randn(50, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> passed = passed_power(lambda tau: 0.1 + 0 * tau, torch.tensor([0.3, 0.7]), measure_power_law(white))
        >>> passed.cutoff.tolist(), (passed.signal - passed.noise).abs().max().item() < 0.02
        ([0.1, 0.1], True)

    """
    check_floating("tau", tau)
    check_kappa(kappa)
    if tau.ndim != 1 or not bool(((tau >= 0) & (tau <= 1)).all()):
        raise ValueError(f"tau must hold flow times in [0, 1] along one axis, got {tau}")
    tau = tau.detach().double().cpu()
    cutoff = front(tau)
    grid = radial_grid(power.size, "dct").flatten()
    # Frequencies of one radius pass alike: each radius is computed once, weighted by their number.
    radius, place, count = torch.unique(grid, return_inverse=True, return_counts=True)
    bins = torch.zeros_like(count).scatter(0, place, radial_bins(power.size, "dct").flatten())
    density = power.power[bins] * count
    density[0] = 0  # the mean
    rows = []
    for time, cut in zip(tau, cutoff, strict=True):
        gain = _gain(radius / radius.max(), cut, kappa, exact).square()
        above = power.power[bins] * (time / (1 - time)).square() > 1
        rows.append(
            torch.stack(
                [
                    (gain * density).sum() / density.sum(),
                    gain[0],
                    (gain * count).sum() / count.sum(),
                    ((1 - gain) * density * above).sum() / density.sum(),
                ]
            )
        )
    signal, mean, noise, lost = torch.stack(rows).unbind(1)
    return PassedPower(cutoff, signal, mean, noise, lost)


def _gain(radius: Float64[Tensor, " n"], cutoff: Tensor, kappa: float, exact: bool) -> Float64[Tensor, " n"]:
    gain = torch.sigmoid(kappa * (cutoff - radius))
    if not exact:
        return gain
    strength = (kappa * (1 - cutoff) / 4).clamp(max=1)
    return 1 - strength * (1 - gain / torch.sigmoid(kappa * cutoff))
