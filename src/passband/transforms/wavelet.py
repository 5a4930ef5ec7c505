"""Decimated discrete wavelet transform (DWT) in one to three dimensions, equal to PyWavelets'."""

from collections.abc import Sequence
from functools import partial

import pywt
from jaxtyping import Float
from torch import Tensor

from passband._checks import check_batch, check_choice, is_integer
from passband._numerics import upcast
from passband.transforms._correlate import correlate, fold, scatter
from passband.transforms._extend import extend
from passband.transforms._filters import FilterBank, check_levels, filter_bank
from passband.transforms._subbands import Pair, WaveletCoefficients, check_subbands, merge_axes, split_axes

MODES: tuple[str, ...] = tuple(pywt.Modes.modes)
"""Boundary modes, by their PyWavelets names."""


def dwt(
    x: Float[Tensor, "batch channels *spatial"],
    wavelet: str = "haar",
    levels: int | None = None,
    mode: str = "symmetric",
) -> WaveletCoefficients:
    r"""Discrete wavelet transform over the spatial axes, per channel; the coefficients are `pywt.wavedecn`'s.

    Along each axis $a(i) = \sum_j h(j)\, x(2i + 1 - j)$ and $d(i) = \sum_j g(j)\, x(2i + 1 - j)$, with the low-pass $h$
    and the high-pass $g$ of the wavelet; each further level transforms the approximation.

    Args:
        x: real field, (batch, channels, \*spatial), 1 to 3 spatial axes of any size, odd ones too.
        wavelet: any name of `pywt.wavelist(kind="discrete")`.
        levels: number of levels, at least 1; by default the most that the shortest axis allows
            ([`dwt_max_levels`][passband.transforms.dwt_max_levels]).
        mode: how the field continues beyond its border: zero, constant, symmetric, reflect, periodic, smooth,
            antisymmetric, antireflect, or periodization. Only the last gives as many coefficients as positions (on even
            sizes), and with an orthogonal wavelet it keeps the energy; the others add a border of coefficients.

    Returns:
        The sub-bands in float32 (float64 for float64 input); [`idwt`][passband.transforms.idwt] inverts them.

    Raises:
        TypeError: if x is not floating, wavelet no name, or levels no integer.
        ValueError: for a wrong number of dimensions, an unknown wavelet or mode, or more levels than the size allows.

    Example:
        >>> import torch
        >>> from passband.transforms import dwt, idwt
        >>> x = torch.randn(2, 3, 16, 12)
        >>> coefficients = dwt(x, "bior1.3", levels=1)
        >>> [(level, name, tuple(band.shape[2:])) for level, name, band in coefficients.subbands()]
        [(1, 'aa', (10, 8)), (1, 'ad', (10, 8)), (1, 'da', (10, 8)), (1, 'dd', (10, 8))]
        >>> torch.allclose(idwt(coefficients), x, atol=1e-5)
        True

    Source: S. Mallat, A Theory for Multiresolution Signal Decomposition, IEEE PAMI 11(7), 1989.

    """
    check_batch("x", x)
    bank = filter_bank(wavelet)
    check_choice("mode", mode, MODES)
    size = tuple(x.shape[2:])
    levels = _checked_levels(size, wavelet, levels)
    (x,) = upcast(x)
    details = []
    for _ in range(levels):
        x, bands = split_axes(x, partial(_split, bank=bank, mode=mode))
        details.append(bands)
    return WaveletCoefficients(x, tuple(reversed(details)), wavelet, mode, size)


def idwt(coefficients: WaveletCoefficients) -> Float[Tensor, "batch channels *spatial"]:
    """Inverse of [`dwt`][passband.transforms.dwt], cropped to the size of the original field.

    It is exact for every wavelet but `dmey`, whose filters are a truncation: there the round trip is off by some
    percent of the field's standard deviation. Changed coefficients may be put in with `coefficients._replace(...)`.

    Args:
        coefficients: what `dwt` returned, with any values in sub-bands of the same shapes.

    Returns:
        The field, of spatial shape `coefficients.size`.

    Raises:
        TypeError: if coefficients is not what `dwt` returns.
        ValueError: if the coefficients are a stationary transform's, or a sub-band is missing or has the wrong shape.

    Example:
        >>> import torch
        >>> from passband.transforms import dwt, idwt
        >>> c = dwt(torch.randn(1, 1, 32), "db2", levels=2)
        >>> smooth = idwt(c._replace(details=tuple({"d": 0 * level["d"]} for level in c.details)))
        >>> smooth.shape
        torch.Size([1, 1, 32])

    """
    if not isinstance(coefficients, WaveletCoefficients):
        raise TypeError(f"coefficients must be what dwt returns, got {type(coefficients).__name__}")
    if coefficients.stationary:
        raise ValueError("these are coefficients of the stationary transform; invert them with iswt")
    bank = filter_bank(coefficients.wavelet)
    mode, sizes = coefficients.mode, [coefficients.size]
    for _ in coefficients.details:
        sizes.append(tuple(_coefficient_length(n, bank, mode) for n in sizes[-1]))
    check_subbands(coefficients, sizes[:0:-1])
    x = coefficients.approximation
    for bands, size in zip(coefficients.details, sizes[-2::-1], strict=True):
        x = merge_axes(x, bands, partial(_merge, bank=bank, mode=mode, size=size))
    return x.contiguous()


def dwt_max_levels(size: Sequence[int], wavelet: str = "haar") -> int:
    r"""Count the levels that a spatial shape allows at most.

    $\lfloor \log_2 (N / (L - 1)) \rfloor$ for the shortest side $N$ and filters of $L$ taps: beyond it every
    coefficient depends on how the field continues past its border. 0 means that the wavelet is too long for the field.

    Args:
        size: spatial shape of the field, one positive side or more.
        wavelet: any name of `pywt.wavelist(kind="discrete")`.

    Returns:
        The number of levels, at least 0.

    Raises:
        TypeError: if size is no sequence of integers, or wavelet no name.
        ValueError: if the wavelet is unknown, or size is empty.

    Example:
        >>> from passband.transforms import dwt_max_levels
        >>> dwt_max_levels((64, 48)), dwt_max_levels((64, 48), "db4"), dwt_max_levels((8, 8), "sym8")
        (5, 2, 0)

    """
    if not isinstance(size, Sequence) or not all(is_integer(side) for side in size):
        raise TypeError(f"size must be the field's spatial shape, such as (64, 64), got {size!r}; pass x.shape[2:]")
    if not size:
        raise ValueError("size must hold at least one side, got none; pass x.shape[2:]")
    return max((min(size) // (filter_bank(wavelet).length - 1)).bit_length() - 1, 0)


def dwt_sizes(size: Sequence[int], wavelet: str, levels: int | None, mode: str) -> tuple[tuple[int, ...], ...]:
    """Spatial shapes of the sub-bands of each level, finest first, of a field of that shape.

    Raises:
        TypeError, ValueError: as `dwt` does.

    """
    bank = filter_bank(wavelet)
    check_choice("mode", mode, MODES)
    sizes = [tuple(size)]
    for _ in range(_checked_levels(sizes[0], wavelet, levels)):
        sizes.append(tuple(_coefficient_length(n, bank, mode) for n in sizes[-1]))
    return tuple(sizes[1:])


def check_transform(wavelet: str, levels: int | None, mode: str) -> None:
    """Check what can be checked of a transform's options before a field is there.

    Raises:
        TypeError, ValueError: on an unknown wavelet or mode, or levels under 1.

    """
    filter_bank(wavelet)
    check_choice("mode", mode, MODES)
    if levels is not None:
        check_levels(levels)


def _checked_levels(size: tuple[int, ...], wavelet: str, levels: int | None) -> int:
    if levels is not None:
        check_levels(levels)
    most = dwt_max_levels(size, wavelet)
    if most == 0:
        taps = filter_bank(wavelet).length
        raise ValueError(
            f"wavelet {wavelet!r} has {taps} taps, so the shortest side must be at least {2 * (taps - 1)}, got a "
            f"field of size {size}; choose a shorter wavelet ('haar' needs 2) or a larger field"
        )
    if levels is None:
        return most
    if levels > most:
        raise ValueError(
            f"too many levels: a field of size {size} allows at most {most} with wavelet {wavelet!r}, got {levels}; "
            "take fewer levels, a shorter wavelet or a larger field"
        )
    return levels


def _coefficient_length(size: int, bank: FilterBank, mode: str) -> int:
    return (size + 1) // 2 if mode == "periodization" else (size + bank.length - 1) // 2


def _split(x: Tensor, axis: int, bank: FilterBank, mode: str) -> Pair:
    size, taps = x.shape[axis], bank.length
    if mode == "periodization":
        x = extend(x, axis, 0, size % 2, "constant")
        x = extend(x, axis, taps // 2 - 1, taps // 2 - 1, "periodic")
    else:
        x = extend(x, axis, taps - 2, 2 * _coefficient_length(size, bank, mode) - size, mode)
    return correlate(x, bank.analysis, axis, stride=2)


def _merge(pair: Pair, axis: int, bank: FilterBank, mode: str, size: tuple[int, ...]) -> Tensor:
    length = size[axis - 2]
    full = scatter(pair, bank.synthesis, axis, stride=2)
    if mode == "periodization":
        return fold(full, axis, length + length % 2, bank.length // 2 - 1).narrow(axis, 0, length)
    return full.narrow(axis, bank.length - 2, length)
