"""Stationary (undecimated) wavelet transform (SWT) in one to three dimensions, equal to PyWavelets'."""

import math
from functools import partial

from jaxtyping import Float
from torch import Tensor

from passband._checks import check_batch
from passband._numerics import upcast
from passband.transforms._correlate import correlate, fold, scatter
from passband.transforms._extend import extend
from passband.transforms._filters import FilterBank, check_levels, filter_bank
from passband.transforms._subbands import Pair, WaveletCoefficients, check_subbands, merge_axes, split_axes


def swt(
    x: Float[Tensor, "batch channels *spatial"], wavelet: str = "haar", levels: int = 1, norm: bool = False
) -> WaveletCoefficients:
    r"""Stationary wavelet transform over the spatial axes, per channel; the coefficients are `pywt.swtn`'s.

    Along each axis, at level $s$ with the step $q = 2^{s-1}$, $a(i) = \sum_j h(j)\, x(i + q (L/2 - j))$ on the periodic
    field, and $d$ with the high-pass filter; nothing is decimated, so every sub-band has the field's shape and
    shifts with it.

    Args:
        x: real field, (batch, channels, \*spatial), 1 to 3 spatial axes, each divisible by 2 to the power levels.
        wavelet: any name of `pywt.wavelist(kind="discrete")`; it may be longer than the field.
        levels: number of levels, at least 1.
        norm: divide the filters by the square root of 2 per axis, so that with an orthogonal wavelet the sub-bands
            together keep the field's energy (`norm=True` of PyWavelets). Otherwise each level multiplies the energy of
            the approximation it splits by $2^d$ in d dimensions.

    Returns:
        The sub-bands in float32 (float64 for float64 input). Only the coarsest level keeps its approximation
        (`trim_approx=True` of PyWavelets): the finer ones follow from it and the details.

    Raises:
        TypeError: if x is not floating, wavelet no name, or levels no integer.
        ValueError: for a wrong number of dimensions, an unknown wavelet, or a side that 2 ** levels does not divide.

    Example:
        >>> import torch
        >>> from passband.transforms import iswt, swt
        >>> x = torch.randn(1, 3, 16, 24)
        >>> coefficients = swt(x, "db2", levels=3)
        >>> {tuple(band.shape) for _, _, band in coefficients.subbands()}
        {(1, 3, 16, 24)}
        >>> torch.allclose(iswt(coefficients), x, atol=1e-5)
        True

    Source: G. P. Nason and B. W. Silverman, The Stationary Wavelet Transform and some Statistical Applications, 1995.

    """
    check_batch("x", x)
    bank = _bank(wavelet, norm)
    size = tuple(x.shape[2:])
    check_stationary(size, levels)
    (x,) = upcast(x)
    details = []
    for level in range(levels):
        x, bands = split_axes(x, partial(_split, bank=bank, step=2**level))
        details.append(bands)
    return WaveletCoefficients(x, tuple(reversed(details)), wavelet, "periodization", size, True, norm)


def iswt(coefficients: WaveletCoefficients) -> Float[Tensor, "batch channels *spatial"]:
    """Inverse of [`swt`][passband.transforms.swt]: the mean of the inverses of all the decimated transforms in it.

    Exact for every wavelet but `dmey` (see [`idwt`][passband.transforms.idwt]). The transform is redundant, so
    coefficients that were changed need not be those of any field; then the result is that mean, as in PyWavelets.

    Args:
        coefficients: what `swt` returned, with any values in sub-bands of the same shape.

    Returns:
        The field, (batch, channels, *spatial), of spatial shape `coefficients.size` and the sub-bands' dtype.

    Raises:
        TypeError: if coefficients is not what `swt` returns.
        ValueError: if the coefficients are a decimated transform's, or a sub-band is missing or has the wrong shape.

    Example:
        >>> import torch
        >>> from passband.transforms import iswt, swt
        >>> x = torch.randn(1, 1, 32)
        >>> torch.allclose(iswt(swt(x, "sym4", levels=2)), x, atol=1e-5)
        True

    """
    if not isinstance(coefficients, WaveletCoefficients):
        raise TypeError(f"coefficients must be what swt returns, got {type(coefficients).__name__}")
    if not coefficients.stationary:
        raise ValueError("these are coefficients of the decimated transform; invert them with idwt")
    bank = _bank(coefficients.wavelet, coefficients.norm)
    check_subbands(coefficients, [coefficients.size] * coefficients.levels)
    x = coefficients.approximation
    for level, bands in zip(reversed(range(coefficients.levels)), coefficients.details, strict=True):
        x = merge_axes(x, bands, partial(_merge, bank=bank, step=2**level))
    return x


def _bank(wavelet: str, norm: bool) -> FilterBank:
    return filter_bank(wavelet, math.sqrt(0.5) if norm else 1.0)


def check_stationary(size: tuple[int, ...], levels: int) -> None:
    """Raise unless a field of that spatial shape allows that many levels."""
    check_levels(levels)
    if any(n % 2**levels for n in size):
        most = min((n & -n).bit_length() - 1 for n in size)
        raise ValueError(
            f"the stationary transform with {levels} level(s) needs sides divisible by {2**levels}, got a field of "
            f"size {size}; crop or pad it" + (f", or take at most {most} level(s)" if most else ", or use dwt")
        )


def _split(x: Tensor, axis: int, bank: FilterBank, step: int) -> Pair:
    half = bank.length // 2
    return correlate(extend(x, axis, step * (half - 1), step * half, "periodic"), bank.analysis, axis, dilation=step)


def _merge(pair: Pair, axis: int, bank: FilterBank, step: int) -> Tensor:
    full = scatter(pair, bank.synthesis, axis, dilation=step)
    return 0.5 * fold(full, axis, pair[0].shape[axis], step * (bank.length // 2 - 1))
