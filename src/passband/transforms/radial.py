"""Radius of every frequency, pooling over it, the radially averaged PSD and its power law."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from passband._checks import check_choice, check_floating, is_integer
from passband._numerics import no_autocast, upcast
from passband.transforms.fourier import half_weights, rfftn

RadialKind = Literal["fft", "dct"]


class PowerLaw(NamedTuple):
    r"""A fit $P(k) = s\,k^{-\beta}$, made by [`power_law_fit`][passband.transforms.power_law_fit].

    Attributes:
        exponent: $\beta$, (\*batch,), float64: positive where power falls with the radius, about 2 for photographs.
        scale: $s$, (\*batch,), float64: the fitted power at $k = 1$, in the PSD's unit.

    """

    exponent: Tensor
    scale: Tensor


def radial_grid(
    size: Sequence[int],
    kind: RadialKind = "fft",
    half: bool = True,
    device: torch.device | str | None = None,
) -> Float[Tensor, "*frequencies"]:
    r"""Radius of every frequency of a field, in units of its shortest side.

    $\rho(k) = n_{min} \sqrt{\sum_i (k_i / n_i)^2}$, $n_{min}$ the shortest side. For `"fft"`, $k_i$ is the signed
    index, so $\rho$ counts cycles per shortest side (on a square: the plain norm of the index, $n/2$ at Nyquist along
    an axis). For `"dct"`, $k_i = 0 \ldots n_i - 1$ counts half-cycles, so $\rho$ is twice as large for the same wave.

    Args:
        size: spatial shape of the field, 1 to 3 entries.
        kind: `"fft"` (the layout of [`rfftn`][passband.transforms.rfftn]) or `"dct"`.
        half: for `"fft"`, keep only the non-redundant half of the last axis. Without meaning for `"dct"`.
        device: device of the result.

    Returns:
        Radii in float64 (float32 on a device without it), of the spectrum's shape.

    Raises:
        ValueError: for an unknown kind, an empty size or a side below 1.

    Example:
        >>> from passband.transforms import radial_grid
        >>> radial_grid((4, 4))[:, :2].round(decimals=3).tolist()
        [[0.0, 1.0], [1.0, 1.414], [2.0, 2.236], [1.0, 1.414]]
        >>> radial_grid((4, 8), kind="dct")[0].tolist()
        [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]

    """
    check_choice("kind", kind, get_args(RadialKind))
    size = _checked_size(size)
    shortest = min(size)
    dtype = _grid_dtype(device)
    squares = torch.zeros((), dtype=dtype, device=device)
    for axis, n in enumerate(size):
        index = torch.arange(n, device=device)
        if kind == "fft":
            index = torch.minimum(index, n - index)
            if half and axis == len(size) - 1:
                index = index[: n // 2 + 1]
        # Integers are multiplied before the division: rounding to bins then sees exact halves.
        radius = (index * shortest).to(dtype) / n
        squares = squares + radius.square().reshape([-1 if i == axis else 1 for i in range(len(size))])
    return squares.sqrt()


def radial_bins(
    size: Sequence[int],
    kind: RadialKind = "fft",
    half: bool = True,
    count: int | None = None,
    device: torch.device | str | None = None,
) -> Int[Tensor, "*frequencies"]:
    r"""Bin of every frequency: its radius rounded to an integer, or one of `count` equal rings.

    Without `count`, bin $\lfloor \rho + 1/2 \rfloor$ of the radius in units of the shortest side; with it,
    $\min(\mathrm{count} - 1, \lfloor \mathrm{count} \cdot \rho / \rho_{max} \rfloor)$, which reaches into the corners.

    Args:
        size: spatial shape of the field.
        kind: `"fft"` or `"dct"`, see [`radial_grid`][passband.transforms.radial_grid].
        half: for `"fft"`, keep only the non-redundant half of the last axis.
        count: number of equal rings, or None for integer radii.
        device: device of the result.

    Returns:
        Bin numbers (int64) of the spectrum's shape.

    Example:
        >>> from passband.transforms import radial_bins
        >>> radial_bins((4, 4)).tolist()
        [[0, 1, 2], [1, 1, 2], [2, 2, 3], [1, 1, 2]]
        >>> radial_bins((4, 4), kind="dct", count=2).tolist()
        [[0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1]]

    """
    radius = radial_grid(size, kind, half, device)
    if count is None:
        return torch.floor(radius + 0.5).long()
    if count < 1:
        raise ValueError(f"count is the number of radial bins, got {count}; pass at least 1")
    return torch.floor(count * radius / radius.max().clamp_min(1e-12)).long().clamp_max(count - 1)


def bin_frequencies(size: Sequence[int], unit: Literal["image", "pixel"] = "image") -> Float[Tensor, " bins"]:
    """Frequencies that the bins of [`radial_psd`][passband.transforms.radial_psd] stand for.

    Args:
        size: spatial shape of the field.
        unit: `"image"`: cycles per shortest side, 0, 1, ... N // 2; `"pixel"`: the same per sample, up to 0.5.

    Returns:
        Frequencies in float64, of shape (N // 2 + 1,), N the shortest side.

    Example:
        >>> from passband.transforms import bin_frequencies
        >>> bin_frequencies((8, 8), unit="pixel").tolist()
        [0.0, 0.125, 0.25, 0.375, 0.5]

    """
    check_choice("unit", unit, ("image", "pixel"))
    shortest = min(_checked_size(size))
    frequencies = torch.arange(shortest // 2 + 1, dtype=torch.float64)
    return frequencies if unit == "image" else frequencies / shortest


def band_pool(
    power: Float[Tensor, "*batch_and_frequencies"],
    bins: Int[Tensor, "*frequencies"],
    count: int,
    weights: Float[Tensor, "..."] | None = None,
) -> Float[Tensor, "*batch count"]:
    r"""Weighted mean of power in each bin.

    $\bar P_b = \sum_{k \in b} w_k P_k / \sum_{k \in b} w_k$. Differentiable in power; deterministic on the CPU (on CUDA
    under `torch.use_deterministic_algorithms`).

    Args:
        power: (\*batch, \*frequencies), any number of leading axes.
        bins: bin of every frequency; frequencies whose bin is not in 0 ... count - 1 are left out.
        count: number of bins.
        weights: weight of every frequency, broadcast against bins; for a half spectrum
            [`half_weights`][passband.transforms.half_weights]. None: all equal.

    Returns:
        Means of shape (\*batch, count); 0 in a bin that holds no frequency.

    Raises:
        TypeError: if power is not floating.
        ValueError: if power does not end in the shape of bins.

    Example:
        >>> import torch
        >>> from passband.transforms import band_pool
        >>> band_pool(torch.tensor([[1.0, 2.0, 4.0, 9.0]]), torch.tensor([0, 1, 1, 7]), count=3)
        tensor([[1., 3., 0.]])

    """
    check_floating("power", power)
    if tuple(power.shape[power.ndim - bins.ndim :]) != tuple(bins.shape) or bins.ndim > power.ndim:
        raise ValueError(
            f"power must end in the shape of bins, got power {tuple(power.shape)} and bins {tuple(bins.shape)}; "
            "make the bins with radial_bins for the same size, kind and half"
        )
    (power,) = upcast(power)
    leading = power.shape[: power.ndim - bins.ndim]
    with no_autocast(power):
        # One bin more than asked takes what is left out, so that no mask needs a host sync.
        flat = torch.where((bins < 0) | (bins >= count), count, bins).reshape(-1).to(power.device)
        weight = torch.ones((), dtype=power.dtype, device=power.device) if weights is None else weights.to(power)
        weight = weight.expand(bins.shape).reshape(-1)
        total = power.new_zeros(count + 1).index_add(0, flat, weight)
        values = power.reshape(-1, flat.numel()) * weight
        sums = values.new_zeros(values.shape[0], count + 1).index_add(1, flat, values)
        means = sums / torch.where(total > 0, total, torch.ones_like(total))
    return means[:, :count].reshape(*leading, count)


def radial_psd(x: Float[Tensor, "batch channels *spatial"]) -> Float[Tensor, "batch channels bins"]:
    r"""Radially averaged power spectral density.

    $P(k) = \operatorname{mean}_{\lfloor \rho + 1/2 \rfloor = k} |F x|^2$, $F$ the orthonormal DFT, $\rho$ the radius in
    cycles per shortest side. White noise of unit variance has $P = 1$ in every bin; a constant image of value $c$ has
    all its power, $c^2$ times the number of positions, in bin 0. Frequencies beyond bin $\lfloor N/2 \rfloor$ (the
    corners of the square) are left out: no ring there is complete.

    Args:
        x: real field, (batch, channels, \*spatial), 1 to 3 spatial axes; N is the shortest of them.

    Returns:
        PSD in float32 (float64 for float64 input), bins 0 ... N // 2, in x's units squared.

    Raises:
        TypeError: if x is not floating.
        ValueError: if x has no or more than 3 spatial dimensions.

    Example:
        >>> import torch
        >>> from passband.transforms import radial_psd
        >>> n = torch.arange(16, dtype=torch.float64)
        >>> wave = torch.cos(2 * torch.pi * 3 * n / 16).reshape(1, 1, 16)
        >>> radial_psd(wave).round(decimals=6).abs().tolist()
        [[[0.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0]]]

    """
    spectrum = rfftn(x)
    size = tuple(x.shape[2:])
    with no_autocast(spectrum.real):
        power = spectrum.real.square() + spectrum.imag.square()
    weights = half_weights(size, dtype=power.dtype, device=x.device)
    return band_pool(power, radial_bins(size, device=x.device), min(size) // 2 + 1, weights)


def power_law_fit(psd: Float[Tensor, "*batch bins"], low: int = 1, high: int | None = None) -> PowerLaw:
    r"""Least-squares fit of $P(k) = s\,k^{-\beta}$ to bins low ... high, on logarithms of both.

    Every bin counts once, so the upper octaves, which hold more bins, weigh more.

    Args:
        psd: (\*batch, bins), bin k at index k, as [`radial_psd`][passband.transforms.radial_psd] returns it. Average
            over samples first; the logarithm of a single sample's PSD is biased.
        low: first bin of the fit, at least 1 (k = 0 has no logarithm).
        high: last bin, included; None: the last one there is.

    Returns:
        The exponent and the scale, each of shape (\*batch,), in float64; not finite where the PSD has a zero in the
        range.

    Raises:
        TypeError: if psd is not floating.
        ValueError: if the range is not inside 1 ... bins - 1 or holds fewer than 2 bins.

    Example:
        >>> import torch
        >>> from passband.transforms import power_law_fit
        >>> k = torch.arange(33, dtype=torch.float64)
        >>> fit = power_law_fit(5 * k.clamp_min(1) ** -2.7)
        >>> round(float(fit.exponent), 6), round(float(fit.scale), 6)
        (2.7, 5.0)

    """
    check_floating("psd", psd)
    last = psd.shape[-1] - 1
    high = last if high is None else high
    if not 1 <= low < high <= last:
        raise ValueError(
            f"the fit needs at least 2 bins inside 1 ... {last} (bin 0 is the mean), got low={low}, high={high}"
        )
    log_k = torch.arange(low, high + 1, dtype=torch.float64, device=psd.device).log()
    log_p = psd[..., low : high + 1].double().log()
    centred = log_k - log_k.mean()
    slope = (log_p * centred).sum(-1) / centred.square().sum()
    return PowerLaw(exponent=-slope, scale=(log_p.mean(-1) - slope * log_k.mean()).exp())


def power_law_exponent(
    psd: Float[Tensor, "*batch bins"], low: int = 1, high: int | None = None
) -> Float[Tensor, "*batch"]:
    r"""The $\beta$ of $P(k) \sim k^{-\beta}$, see [`power_law_fit`][passband.transforms.power_law_fit].

    Args:
        psd: (\*batch, bins), bin k at index k, averaged over samples first.
        low: first bin of the fit, at least 1.
        high: last bin, included; None: the last one there is.

    Returns:
        The exponents, (\*batch,), in float64; not finite where the PSD has a zero in the range.

    Raises:
        TypeError: if psd is not floating.
        ValueError: if the range is not inside 1 ... bins - 1 or holds fewer than 2 bins.

    Example:
        >>> import torch
        >>> from passband.transforms import power_law_exponent
        >>> k = torch.arange(9, dtype=torch.float64)
        >>> bool(torch.isclose(power_law_exponent(k.clamp_min(1) ** -2), torch.tensor(2.0, dtype=torch.float64)))
        True

    """
    return power_law_fit(psd, low, high).exponent


def _checked_size(size: Sequence[int]) -> tuple[int, ...]:
    sides = tuple(size) if isinstance(size, Sequence) else ()
    if not 1 <= len(sides) <= 3 or not all(is_integer(side) and side >= 1 for side in sides):
        raise ValueError(f"size must be 1 to 3 positive side lengths, got {size}; pass x.shape[2:]")
    return sides


def _grid_dtype(device: torch.device | str | None) -> torch.dtype:
    return torch.float32 if device is not None and torch.device(device).type == "mps" else torch.float64
