"""Wavelet L1 loss, decimated or stationary."""

from collections.abc import Callable
from math import prod

from passband.regularization._gradient import with_gradient
from passband.regularization._inputs import check_pair
from passband.regularization.kernels.wavelet import WaveletL1
from passband.regularization.loss import Field, PerSample, SpectralLoss
from passband.transforms import check_transform
from passband.transforms._filters import filter_bank
from passband.transforms._subbands import subband_names
from passband.transforms.stationary import check_stationary
from passband.transforms.wavelet import dwt_sizes

SubbandWeights = Callable[[int, str], float]
"""The weight of a sub-band by its level (1 = finest) and name (`ad`, `da`, `dd`; the approximation: `aa`)."""


def equal_weights(level: int, name: str) -> float:  # noqa: ARG001
    """Return 1 for every sub-band."""
    return 1.0


def wavelet_loss(
    estimate: Field,
    clean: Field,
    wavelet: str = "haar",
    levels: int | None = None,
    mode: str = "symmetric",
    stationary: bool = False,
    weights: SubbandWeights = equal_weights,
) -> PerSample:
    r"""Sum over sub-bands of the mean absolute difference, $\sum_{s,\ell} \gamma(s,\ell)\, \text{mean}\, |W - \hat W|$.

    The transform is linear, so it is taken once, of the difference. L1 is the point: with squares, an orthonormal
    wavelet loss is the mean squared error again, with one weight per sub-band.

    Args:
        estimate: clean estimate, (batch, channels, \*spatial), 1 to 3 spatial axes.
        clean: clean sample, of the same shape.
        wavelet: any discrete wavelet of PyWavelets, such as `haar` or `bior1.3`.
        levels: number of levels; default: as many as the shortest side allows (stationary: 1).
        mode: boundary mode of PyWavelets; the stationary transform is always periodic.
        stationary: use the undecimated transform, which moves with a shift (sides must be divisible by 2^levels).
        weights: gamma, a function of (level, sub-band name), default 1; the coarsest approximation counts.

    Returns:
        One value per sample, (batch,).

    Raises:
        TypeError: if an input is not floating.
        ValueError: if shapes differ, on an unknown wavelet or mode, or if the size does not allow the levels.

    Example:
        >>> import torch
        >>> from passband.regularization import wavelet_loss
        >>> x, y = torch.randn(4, 3, 16, 16), torch.randn(4, 3, 16, 16)
        >>> wavelet_loss(x, y, "bior1.3", levels=1).shape
        torch.Size([4])

    Source: Spectral Regularization (arXiv:2603.02447).
    """
    check_pair(estimate, clean)
    sizes = _sizes(tuple(clean.shape[2:]), wavelet, levels, mode, stationary)
    loss = WaveletL1(wavelet, len(sizes), mode, stationary, _weights(clean.shape[1], sizes, weights))
    return with_gradient(loss.plain, loss.by_hand, estimate, clean, piecewise_linear=True)


class WaveletLoss(SpectralLoss):
    """[`wavelet_loss`][passband.regularization.wavelet_loss] as a module.

    Args:
        wavelet: any discrete wavelet of PyWavelets.
        levels: number of levels; default: as many as the shortest side allows (stationary: 1).
        mode: boundary mode of PyWavelets.
        stationary: use the undecimated transform.
        weights: gamma, a function of (level, sub-band name).

    Raises:
        ValueError: on an unknown wavelet or mode, or levels under 1; when called, if the size does not allow them.
        TypeError: if weights is not a function.

    Example:
        >>> import torch
        >>> from passband import WaveletLoss
        >>> loss = WaveletLoss("bior1.3", levels=1, weights=lambda level, name: 0.0 if name == "aa" else 1.0)
        >>> loss(torch.ones(2, 3, 16, 16), torch.zeros(2, 3, 16, 16)).abs().max().item() < 1e-5  # details alone
        True

    """

    def __init__(
        self,
        wavelet: str = "haar",
        levels: int | None = None,
        mode: str = "symmetric",
        stationary: bool = False,
        weights: SubbandWeights = equal_weights,
    ) -> None:
        super().__init__()
        check_transform(wavelet, levels, mode)
        if not callable(weights):
            raise TypeError(f"weights must be a function of (level, sub-band name), got {type(weights).__name__}")
        self.wavelet, self.levels, self.mode, self.stationary = wavelet, levels, mode, stationary
        self.weights = weights

    @property
    def of_difference(self) -> bool:
        """True: the transform is linear."""
        return True

    def forward(self, estimate: Field, clean: Field) -> PerSample:
        """Return [`wavelet_loss`][passband.regularization.wavelet_loss]."""
        return wavelet_loss(estimate, clean, self.wavelet, self.levels, self.mode, self.stationary, self.weights)

    def extra_repr(self) -> str:
        """Options, for the text of the module."""
        return f"{self.wavelet!r}, levels={self.levels}, mode={self.mode!r}, stationary={self.stationary}"


def _sizes(
    size: tuple[int, ...], wavelet: str, levels: int | None, mode: str, stationary: bool
) -> tuple[tuple[int, ...], ...]:
    """Spatial shapes of the sub-bands of each level, finest first."""
    if not stationary:
        return dwt_sizes(size, wavelet, levels, mode)
    levels = 1 if levels is None else levels
    filter_bank(wavelet)
    check_stationary(size, levels)
    return (size,) * levels


def _weights(
    channels: int, sizes: tuple[tuple[int, ...], ...], weights: SubbandWeights
) -> dict[tuple[int, str], float]:
    """The weight of a coefficient of each sub-band, its share of a mean included."""
    levels, (approximation, *details) = len(sizes), subband_names(len(sizes[0]))
    keys = [(levels, approximation), *((level, name) for level in range(levels, 0, -1) for name in details)]
    return {(level, name): float(weights(level, name)) / (channels * prod(sizes[level - 1])) for level, name in keys}
