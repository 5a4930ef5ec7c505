"""Orthonormal DCT-II and its inverse, over whole axes or in blocks."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from passband._backend import by_hand
from passband._checks import check_batch, check_floating, check_integer, is_integer
from passband._linear import linear, pays
from passband._numerics import no_autocast, upcast
from passband._tables import Table, precise

_LARGEST_MATRIX = {"cpu": 256}
_LARGEST_MATRIX_ELSEWHERE = 512
_LONGEST_ROWS = 1024
"""Longer axes go through an FFT, where the matrix would cost more, with its copies at about 3 ns per entry on a CPU."""


def dct_matrix(
    n: int, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
) -> Float[Tensor, "frequencies positions"]:
    r"""Orthonormal DCT-II as a matrix.

    $C_{ki} = s_k \cos(\pi k (2i + 1) / 2n)$ with $s_0 = \sqrt{1/n}$, else $s_k = \sqrt{2/n}$. Its entries are
    computed in float64 and rounded once. Its inverse is its transpose, the DCT-III.

    Args:
        n: length of the axis, at least 1.
        dtype: dtype of the matrix.
        device: device of the matrix.

    Returns:
        The matrix, (n, n): row k is the wave of frequency k, in half-cycles over the axis.

    Raises:
        TypeError: if n is no integer.
        ValueError: if n is below 1.

    Example:
        >>> import torch
        >>> from passband.transforms import dct_matrix
        >>> c = dct_matrix(8)
        >>> torch.allclose(c @ c.T, torch.eye(8, dtype=torch.float64))
        True

    Source: N. Ahmed, T. Natarajan and K. R. Rao, Discrete Cosine Transform, IEEE Trans. Computers, 1974.

    """
    check_integer("n", n)
    if n < 1:
        raise ValueError(f"the DCT needs a length of at least 1, got {n}")
    place = torch.empty(0, device=device).device
    return basis(int(n), dtype, place).clone()


def _basis(n: int, device: torch.device) -> Tensor:
    i = torch.arange(n, device=device)
    k = i[:, None]
    # The angle has period 4n in k(2i+1); reducing it first keeps the argument of the cosine small and exact.
    angle = (k * (2 * i + 1) % (4 * n)).to(precise(device)) * (math.pi / (2 * n))
    return torch.where(k == 0, math.sqrt(1 / n), math.sqrt(2 / n) * angle.cos())


basis = Table(_basis)
"""The matrix of a length, shared: to be read only."""


def dct(
    x: Float[Tensor, "batch channels *spatial"], dims: Sequence[int] | None = None
) -> Float[Tensor, "batch channels *spatial"]:
    r"""Orthonormal DCT-II over spatial axes, per channel: `scipy.fft.dctn(type=2, norm="ortho")`.

    $X(k) = s_k \sum_i x(i) \cos(\pi k (2i + 1) / 2n)$ along each axis, $s_0 = \sqrt{1/n}$, else $\sqrt{2/n}$. It keeps
    the energy, and index 0 of every axis is the mean times $\sqrt{N}$.

    Args:
        x: real field, (batch, channels, \*spatial), 1 to 3 spatial axes.
        dims: the axes of x to transform, all spatial ones by default; -1 is the last.

    Returns:
        Coefficients of the same shape, in float32 (float64 for float64 input).

    Raises:
        TypeError: if x is not floating, or dims is a single number.
        ValueError: for a wrong number of dimensions, or dims that are not distinct spatial axes.

    Example:
        >>> import torch
        >>> from passband.transforms import dct, idct
        >>> x = torch.randn(2, 3, 8, 12)
        >>> torch.allclose(idct(dct(x)), x, atol=1e-5)
        True
        >>> dct(torch.ones(1, 1, 16)).squeeze()[0].item()
        4.0

    """
    check_batch("x", x)
    return _over_axes(x, _spatial_axes(x, dims), inverse=False)


def idct(
    coefficients: Float[Tensor, "batch channels *spatial"], dims: Sequence[int] | None = None
) -> Float[Tensor, "batch channels *spatial"]:
    r"""Inverse of [`dct`][passband.transforms.dct.dct] over the same axes: the orthonormal DCT-III.

    Args:
        coefficients: what `dct` returned, (batch, channels, \*frequencies), 1 to 3 spatial axes.
        dims: the axes that were transformed, all spatial ones by default; -1 is the last.

    Returns:
        The field, of the same shape, in float32 (float64 for float64 input).

    Raises:
        TypeError: if coefficients is not floating, or dims is a single number.
        ValueError: for a wrong number of dimensions, or dims that are not distinct spatial axes.

    Example:
        >>> import torch
        >>> from passband.transforms import dct, idct
        >>> x = torch.randn(1, 1, 5, 7, dtype=torch.float64)
        >>> torch.allclose(idct(dct(x, dims=(-1,)), dims=(-1,)), x)
        True

    """
    check_batch("coefficients", coefficients)
    return _over_axes(coefficients, _spatial_axes(coefficients, dims), inverse=True)


def low_dct(x: Tensor, axis: int, count: int) -> Tensor:
    """The `count` lowest frequencies of `dct` along one axis (not negative); of a short one, no others are computed."""
    if x.shape[axis] > _LONGEST_ROWS:
        return dct(x, dims=(axis,)).narrow(axis, 0, count)
    with no_autocast(x):
        return _product(x, axis, basis(x.shape[axis], x.dtype, x.device)[:count])


def block_dct(
    x: Float[Tensor, "batch channels *spatial"], block: int | Sequence[int] = 8
) -> Float[Tensor, "batch channels *blocks_and_frequencies"]:
    r"""Orthonormal DCT-II of every non-overlapping block, as in JPEG.

    Args:
        x: real field, (batch, channels, \*spatial), 1 to 3 spatial axes.
        block: side of the block, or one side per axis; each must divide its axis.

    Returns:
        (batch, channels, \*blocks, \*block): first the position of the block along each axis, then the frequency
        within it, so that a mask over frequencies broadcasts. A 2-d field (B, C, H, W) in blocks of 8 gives
        (B, C, H/8, W/8, 8, 8).

    Raises:
        TypeError: if x is not floating, or block is neither an integer nor one per axis.
        ValueError: for a wrong number of dimensions, or a side that its block does not divide.

    Example:
        >>> import torch
        >>> from passband.transforms import block_dct, block_idct
        >>> x = torch.randn(2, 3, 16, 24)
        >>> spectrum = block_dct(x)
        >>> spectrum.shape
        torch.Size([2, 3, 2, 3, 8, 8])
        >>> torch.allclose(block_idct(spectrum), x, atol=1e-5)
        True

    """
    check_batch("x", x)
    size = tuple(x.shape[2:])
    sides = _block_sides(size, block)
    dims = len(size)
    grid = [length for n, side in zip(size, sides, strict=True) for length in (n // side, side)]
    order = [0, 1, *range(2, 2 + 2 * dims, 2), *range(3, 2 + 2 * dims, 2)]
    blocks = x.reshape(*x.shape[:2], *grid).permute(order)
    return _over_axes(blocks, range(2 + dims, 2 + 2 * dims), inverse=False)


def block_idct(
    coefficients: Float[Tensor, "batch channels *blocks_and_frequencies"],
) -> Float[Tensor, "batch channels *spatial"]:
    r"""Inverse of [`block_dct`][passband.transforms.block_dct]; the block's shape is that of the last half of the axes.

    Args:
        coefficients: (batch, channels, \*blocks, \*block), as `block_dct` returns them.

    Returns:
        The field, (batch, channels, \*spatial).

    Raises:
        TypeError: if coefficients is not floating.
        ValueError: for a wrong number of dimensions.

    Example:
        >>> import torch
        >>> from passband.transforms import block_dct, block_idct
        >>> x = torch.randn(1, 1, 12, dtype=torch.float64)
        >>> torch.allclose(block_idct(block_dct(x, block=4)), x)
        True

    """
    check_floating("coefficients", coefficients)
    if coefficients.ndim not in (4, 6, 8) or 0 in coefficients.shape[1:]:
        raise ValueError(
            "coefficients must have shape (batch, channels, *blocks, *block) with 1 to 3 axes each, "
            f"got shape {tuple(coefficients.shape)}; pass what block_dct returns"
        )
    dims = (coefficients.ndim - 2) // 2
    x = _over_axes(coefficients, range(2 + dims, 2 + 2 * dims), inverse=True)
    order = [
        0,
        1,
        *(axis for pair in zip(range(2, 2 + dims), range(2 + dims, 2 + 2 * dims), strict=True) for axis in pair),
    ]
    size = [n * side for n, side in zip(x.shape[2 : 2 + dims], x.shape[2 + dims :], strict=True)]
    return x.permute(order).reshape(*x.shape[:2], *size)


def _spatial_axes(x: Tensor, dims: Sequence[int] | None) -> list[int]:
    if dims is None:
        return list(range(2, x.ndim))
    if isinstance(dims, int):
        raise TypeError(f"dims must be a sequence of axes, got {dims}; pass ({dims},)")
    axes = [dim + x.ndim if dim < 0 else dim for dim in dims]
    if not axes or len(set(axes)) < len(axes) or not all(2 <= axis < x.ndim for axis in axes):
        raise ValueError(
            f"dims must be distinct spatial axes of a tensor of shape {tuple(x.shape)}, one or more of "
            f"{tuple(range(2, x.ndim))} (or {tuple(range(2 - x.ndim, 0))}), got {tuple(dims)}"
        )
    return axes


def _block_sides(size: tuple[int, ...], block: int | Sequence[int]) -> tuple[int, ...]:
    sides = tuple(block) if isinstance(block, Sequence) else (block,) * len(size)
    if not all(is_integer(side) for side in sides):
        raise TypeError(f"block must be an int, or one int per axis, got {block!r}")
    if len(sides) != len(size):
        raise ValueError(f"block must be one side or one per axis ({len(size)}), got {sides}")
    if any(side < 1 or n % side for n, side in zip(size, sides, strict=True)):
        raise ValueError(
            f"blocks of {sides} do not tile a field of size {size}; crop or pad it, or pass sides that divide it "
            "(one per axis is allowed)"
        )
    return sides


def _over_axes(x: Tensor, axes: Sequence[int], inverse: bool) -> Tensor:
    (x,) = upcast(x)
    with no_autocast(x):
        if not by_hand(x) or type(x) is not Tensor:
            return _by_autograd(x, axes, inverse)
        if torch.is_grad_enabled() and x.requires_grad:
            result = _Transform.apply(x, tuple(axes), inverse)  # type: ignore[no-untyped-call]
            assert isinstance(result, Tensor)
            return result
        return _by_hand(x, axes, inverse)


class _Transform(torch.autograd.Function):
    """The transform, whose gradient is its inverse: it needs nothing kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, axes: tuple[int, ...], inverse: bool) -> Tensor:
        ctx.axes, ctx.inverse = axes, inverse
        return _by_hand(x, axes, inverse)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _over_axes(grad, ctx.axes, not ctx.inverse), None, None


def _by_autograd(x: Tensor, axes: Sequence[int], inverse: bool) -> Tensor:
    for axis in axes:
        x = _by_fft(x, axis, inverse) if _is_long(x, axis) else _by_matrix(x, axis, inverse)
    return x


def _by_hand(x: Tensor, axes: Sequence[int], inverse: bool) -> Tensor:
    for axis in axes:
        if _is_long(x, axis):
            x = _by_fft(x, axis, inverse)
        else:
            x = _by_linear(x, axis, inverse) if x.device.type == "cpu" else _by_matrix(x, axis, inverse)
    return x


def _is_long(x: Tensor, axis: int) -> bool:
    return x.shape[axis] > _LARGEST_MATRIX.get(x.device.type, _LARGEST_MATRIX_ELSEWHERE)


def _matrix(x: Tensor, axis: int, inverse: bool) -> Tensor:
    """What to multiply a column by."""
    matrix = basis(x.shape[axis], x.dtype, x.device)
    return matrix.T if inverse else matrix


def _by_matrix(x: Tensor, axis: int, inverse: bool) -> Tensor:
    return _product(x, axis, _matrix(x, axis, inverse))


def _product(x: Tensor, axis: int, matrix: Tensor) -> Tensor:
    if axis == x.ndim - 1:
        return x @ matrix.T
    if axis == x.ndim - 2:
        return matrix @ x
    return (x.movedim(axis, -1) @ matrix.T).movedim(-1, axis)


def _by_linear(x: Tensor, axis: int, inverse: bool) -> Tensor:
    n, matrix = x.shape[axis], _matrix(x, axis, inverse)
    if axis == x.ndim - 1:
        return linear(x.reshape(-1, n), matrix).view(x.shape)
    if axis == x.ndim - 2 and pays(n, n, x.shape[-1]):
        planes = x.reshape(-1, n, x.shape[-1])
        result = torch.empty_like(planes)
        for plane, target in zip(planes, result, strict=True):
            target.copy_(linear(matrix, plane.T))
        return result.view(x.shape)
    return _by_matrix(x, axis, inverse)


def _by_fft(x: Tensor, axis: int, inverse: bool) -> Tensor:
    """By one real FFT of the even samples followed by the odd ones reversed (Makhoul, 1980)."""
    transform = _idct_by_fft if inverse else _dct_by_fft
    return transform(x.movedim(axis, -1)).movedim(-1, axis)


def _dct_by_fft(x: Tensor) -> Tensor:
    """DCT-II along the last axis: the turned spectrum holds DCT(k) - i DCT(n - k)."""
    n = x.shape[-1]
    shuffled = torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], dim=-1)
    spectrum = torch.fft.rfft(shuffled) * _turns(x)[0]
    return torch.cat([spectrum.real, -spectrum.imag[..., 1 : (n + 1) // 2].flip(-1)], dim=-1)


def _idct_by_fft(x: Tensor) -> Tensor:
    n = x.shape[-1]
    half = n // 2 + 1
    mirrored = torch.cat([torch.zeros_like(x[..., :1]), -x[..., n - half + 1 :].flip(-1)], dim=-1)
    spectrum = torch.complex(x[..., :half], mirrored) * _turns(x)[1]
    shuffled = torch.fft.irfft(spectrum, n=n, norm="forward")
    even = (n + 1) // 2
    samples = torch.stack([shuffled[..., :even], _padded(shuffled[..., even:].flip(-1), even)], dim=-1)
    return samples.reshape(*x.shape[:-1], 2 * even).narrow(-1, 0, n)


def _padded(x: Tensor, length: int) -> Tensor:
    return torch.nn.functional.pad(x, (0, length - x.shape[-1]))


def _turns(x: Tensor) -> Tensor:
    return _TURNS(x.shape[-1], x.dtype.to_complex(), x.device)


def _quarter_turns(n: int, device: torch.device) -> Tensor:
    """What turns a real FFT's half spectrum into the DCT's pairs, and these back, (2, n // 2 + 1)."""
    k = torch.arange(n // 2 + 1, device=device)
    angle = k.to(precise(device)) * (-math.pi / (2 * n))
    there, back = (
        torch.where(k == 0, math.sqrt(1 / n), torch.full_like(angle, s)) for s in (math.sqrt(2 / n), math.sqrt(0.5 / n))
    )
    return torch.stack([torch.polar(there, angle), torch.polar(back, -angle)])


_TURNS = Table(_quarter_turns)
