"""Triton kernels of the wavelet L1 losses: the weighted sums of |W(x - y)| per sample, and their gradient in x.

Haar: one launch that reads x and y once and writes the gradient once; each program has whole blocks of 2^levels samples
a side, so all levels happen in registers.
"""

from collections.abc import Sequence
from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from passband._triton import block_size, cdiv, launch, strides
from passband.regularization.kernels.pyramid import MOST_HAAR_LEVELS


@triton.jit
@no_type_check
def _sign(x, weight):
    """Weight times the sign of x, 0 at 0."""
    return tl.where(x > 0, weight, tl.where(x < 0, -weight, 0.0))


@triton.jit
@no_type_check
def _pairs(x, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Sums and differences of neighbours along the last axis of (ROWS, COLUMNS)."""
    left, right = tl.split(tl.reshape(x, (ROWS, COLUMNS // 2, 2)))
    return left + right, left - right


@triton.jit
@no_type_check
def _unpaired(low, high, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The adjoint of _pairs, (ROWS, COLUMNS)."""
    return tl.reshape(tl.join(low + high, low - high), (ROWS, COLUMNS))


@triton.jit
@no_type_check
def _alternate_rows(x, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Even and odd rows of (ROWS, COLUMNS)."""
    return tl.split(tl.permute(tl.reshape(x, (ROWS // 2, 2, COLUMNS)), (0, 2, 1)))


@triton.jit
@no_type_check
def _interleaved_rows(even, odd, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Undo _alternate_rows."""
    return tl.reshape(tl.permute(tl.join(even, odd), (0, 2, 1)), (ROWS, COLUMNS))


@triton.jit
@no_type_check
def _level(even, odd, w_ad, w_da, w_dd, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """One level: the approximation, the weighted L1 of the details, and its gradients in the three of them.

    Nothing is scaled: the 1/2 of each level is in the weights.
    """
    aa, ad = _pairs(even + odd, ROWS, COLUMNS)
    da, dd = _pairs(even - odd, ROWS, COLUMNS)
    total = tl.sum(w_ad * tl.abs(ad) + w_da * tl.abs(da) + w_dd * tl.abs(dd))
    return aa, total, _sign(ad, w_ad), _sign(da, w_da), _sign(dd, w_dd)


@triton.jit
@no_type_check
def _unlevel(aa, ad, da, dd, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The adjoint of _level's transform: even and odd rows."""
    low = _unpaired(aa, ad, ROWS, COLUMNS)
    high = _unpaired(da, dd, ROWS, COLUMNS)
    return low + high, low - high


@triton.jit
@no_type_check
def _haar_2d(
    x_ptr, y_ptr, gradient_ptr, sums_ptr,
    row_pairs, half_height, width, row_tiles, column_tiles,
    x_batch, x_channel, x_row, x_column,
    y_batch, y_channel, y_row, y_column,
    g_batch, g_channel, g_row, g_column,
    w_a,
    w_ad1, w_da1, w_dd1, w_ad2, w_da2, w_dd2, w_ad3, w_da3, w_dd3,
    w_ad4, w_da4, w_dd4, w_ad5, w_da5, w_dd5, w_ad6, w_da6, w_dd6,
    LEVELS: tl.constexpr, GRADIENT: tl.constexpr, PAIRS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """PAIRS pairs of rows (of all channels in turn) by COLUMNS columns of one sample."""
    program = tl.program_id(0).to(tl.int64)
    sample = program // (row_tiles * column_tiles)
    tile = program % (row_tiles * column_tiles)
    pair = (tile // column_tiles) * PAIRS + tl.arange(0, PAIRS)
    column = (tile % column_tiles) * COLUMNS + tl.arange(0, COLUMNS)
    channel = pair // half_height
    row = 2 * (pair % half_height)
    inside = (pair < row_pairs)[:, None] & (column < width)[None, :]

    # Even and odd rows are two loads, so that the first level needs no exchange between threads.
    x_ptr += sample * x_batch + (channel * x_channel + row * x_row)[:, None] + (column * x_column)[None, :]
    y_ptr += sample * y_batch + (channel * y_channel + row * y_row)[:, None] + (column * y_column)[None, :]
    even = tl.load(x_ptr, inside, 0.0).to(tl.float32) - tl.load(y_ptr, inside, 0.0).to(tl.float32)
    odd = tl.load(x_ptr + x_row, inside, 0.0).to(tl.float32) - tl.load(y_ptr + y_row, inside, 0.0).to(tl.float32)

    a, total, ad1, da1, dd1 = _level(even, odd, w_ad1, w_da1, w_dd1, PAIRS, COLUMNS)
    if LEVELS >= 2:
        even, odd = _alternate_rows(a, PAIRS, COLUMNS // 2)
        a, add, ad2, da2, dd2 = _level(even, odd, w_ad2, w_da2, w_dd2, PAIRS // 2, COLUMNS // 2)
        total += add
    if LEVELS >= 3:
        even, odd = _alternate_rows(a, PAIRS // 2, COLUMNS // 4)
        a, add, ad3, da3, dd3 = _level(even, odd, w_ad3, w_da3, w_dd3, PAIRS // 4, COLUMNS // 4)
        total += add
    if LEVELS >= 4:
        even, odd = _alternate_rows(a, PAIRS // 4, COLUMNS // 8)
        a, add, ad4, da4, dd4 = _level(even, odd, w_ad4, w_da4, w_dd4, PAIRS // 8, COLUMNS // 8)
        total += add
    if LEVELS >= 5:
        even, odd = _alternate_rows(a, PAIRS // 8, COLUMNS // 16)
        a, add, ad5, da5, dd5 = _level(even, odd, w_ad5, w_da5, w_dd5, PAIRS // 16, COLUMNS // 16)
        total += add
    if LEVELS >= 6:
        even, odd = _alternate_rows(a, PAIRS // 16, COLUMNS // 32)
        a, add, ad6, da6, dd6 = _level(even, odd, w_ad6, w_da6, w_dd6, PAIRS // 32, COLUMNS // 32)
        total += add
    tl.store(sums_ptr + program, total + tl.sum(w_a * tl.abs(a)))

    if GRADIENT:
        a = _sign(a, w_a)
        if LEVELS >= 6:
            even, odd = _unlevel(a, ad6, da6, dd6, PAIRS // 32, COLUMNS // 32)
            a = _interleaved_rows(even, odd, PAIRS // 16, COLUMNS // 32)
        if LEVELS >= 5:
            even, odd = _unlevel(a, ad5, da5, dd5, PAIRS // 16, COLUMNS // 16)
            a = _interleaved_rows(even, odd, PAIRS // 8, COLUMNS // 16)
        if LEVELS >= 4:
            even, odd = _unlevel(a, ad4, da4, dd4, PAIRS // 8, COLUMNS // 8)
            a = _interleaved_rows(even, odd, PAIRS // 4, COLUMNS // 8)
        if LEVELS >= 3:
            even, odd = _unlevel(a, ad3, da3, dd3, PAIRS // 4, COLUMNS // 4)
            a = _interleaved_rows(even, odd, PAIRS // 2, COLUMNS // 4)
        if LEVELS >= 2:
            even, odd = _unlevel(a, ad2, da2, dd2, PAIRS // 2, COLUMNS // 2)
            a = _interleaved_rows(even, odd, PAIRS, COLUMNS // 2)
        even, odd = _unlevel(a, ad1, da1, dd1, PAIRS, COLUMNS)
        dtype = gradient_ptr.dtype.element_ty
        gradient_ptr += sample * g_batch + (channel * g_channel + row * g_row)[:, None] + (column * g_column)[None, :]
        tl.store(gradient_ptr, even.to(dtype), inside)
        tl.store(gradient_ptr + g_row, odd.to(dtype), inside)


@triton.jit
@no_type_check
def _level_1d(x, w_d, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """One level along the last axis: the approximation, the weighted L1 of the details, and its gradient in them."""
    a, d = _pairs(x, ROWS, COLUMNS)
    return a, tl.sum(w_d * tl.abs(d)), _sign(d, w_d)


@triton.jit
@no_type_check
def _haar_1d(
    x_ptr, y_ptr, gradient_ptr, sums_ptr,
    rows, width, row_tiles, column_tiles,
    x_batch, x_channel, x_column,
    y_batch, y_channel, y_column,
    g_batch, g_channel, g_column,
    w_a, w_d1, w_d2, w_d3, w_d4, w_d5, w_d6,
    LEVELS: tl.constexpr, GRADIENT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """ROWS channels by COLUMNS positions of one sample."""
    program = tl.program_id(0).to(tl.int64)
    sample = program // (row_tiles * column_tiles)
    tile = program % (row_tiles * column_tiles)
    channel = (tile // column_tiles) * ROWS + tl.arange(0, ROWS)
    column = (tile % column_tiles) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (channel < rows)[:, None] & (column < width)[None, :]

    x_ptr += sample * x_batch + (channel * x_channel)[:, None] + (column * x_column)[None, :]
    y_ptr += sample * y_batch + (channel * y_channel)[:, None] + (column * y_column)[None, :]
    x = tl.load(x_ptr, inside, 0.0).to(tl.float32) - tl.load(y_ptr, inside, 0.0).to(tl.float32)

    a, total, d1 = _level_1d(x, w_d1, ROWS, COLUMNS)
    if LEVELS >= 2:
        a, add, d2 = _level_1d(a, w_d2, ROWS, COLUMNS // 2)
        total += add
    if LEVELS >= 3:
        a, add, d3 = _level_1d(a, w_d3, ROWS, COLUMNS // 4)
        total += add
    if LEVELS >= 4:
        a, add, d4 = _level_1d(a, w_d4, ROWS, COLUMNS // 8)
        total += add
    if LEVELS >= 5:
        a, add, d5 = _level_1d(a, w_d5, ROWS, COLUMNS // 16)
        total += add
    if LEVELS >= 6:
        a, add, d6 = _level_1d(a, w_d6, ROWS, COLUMNS // 32)
        total += add
    tl.store(sums_ptr + program, total + tl.sum(w_a * tl.abs(a)))

    if GRADIENT:
        a = _sign(a, w_a)
        if LEVELS >= 6:
            a = _unpaired(a, d6, ROWS, COLUMNS // 32)
        if LEVELS >= 5:
            a = _unpaired(a, d5, ROWS, COLUMNS // 16)
        if LEVELS >= 4:
            a = _unpaired(a, d4, ROWS, COLUMNS // 8)
        if LEVELS >= 3:
            a = _unpaired(a, d3, ROWS, COLUMNS // 4)
        if LEVELS >= 2:
            a = _unpaired(a, d2, ROWS, COLUMNS // 2)
        a = _unpaired(a, d1, ROWS, COLUMNS)
        gradient_ptr += sample * g_batch + (channel * g_channel)[:, None] + (column * g_column)[None, :]
        tl.store(gradient_ptr, a.to(gradient_ptr.dtype.element_ty), inside)


Weights = Sequence[Sequence[float]]


def haar_l1(
    estimate: Tensor, clean: Tensor, levels: int, weights: Weights, gradient: bool
) -> tuple[Tensor, Tensor | None]:
    r"""Weighted L1 of the Haar transform of estimate - clean, and its gradient, in one launch.

    Traffic: both inputs are read once, the gradient is written once. No more is kept or allocated than that and one
    number per program, which a torch sum adds up, always in the same order.

    Args:
        estimate: (batch, channels, \*spatial), 1 or 2 spatial axes with sides divisible by 2^levels; float32, float16
            or bfloat16, any strides.
        clean: the same shape, any of these dtypes and any strides.
        levels: 1 to 6.
        weights: finest level first, the weights of the level's details (d in 1-d; ad, da, dd in 2-d); at the end
            those of the approximation, (a,). They include whatever the sub-bands' sums are divided by.
        gradient: whether to compute the gradient.

    Returns:
        The values, (batch,) in float32, and the gradient of each sample's value in the estimate, in its dtype.

    """
    flat = _flat_weights(levels, weights, dims=estimate.ndim - 2)
    tiled = _tiles_2d if estimate.ndim == 4 else _tiles_1d
    kernel, sizes, tile = tiled(estimate, levels)
    programs = sizes[-2] * sizes[-1]
    result = torch.empty_like(estimate) if gradient else estimate
    sums = torch.empty((estimate.shape[0], programs), dtype=torch.float32, device=estimate.device)
    places = [step for x in (estimate, clean, result) for step in _steps(x)]
    pointers = (estimate.detach(), clean.detach(), result.detach(), sums)
    options: dict[str, Any] = {"LEVELS": levels, "GRADIENT": gradient, **tile}
    launch(kernel, sums.numel(), estimate.device, *pointers, *sizes, *places, *flat, **options)
    return sums.sum(1), result if gradient else None


def _flat_weights(levels: int, weights: Weights, dims: int) -> list[float]:
    """The approximation's weight, then every level's, with the transform's scale and zeros for levels not there."""
    scale = [2.0 ** (-dims * level / 2) for level in range(1, levels + 1)]
    details = [factor * w for factor, level in zip(scale, weights[:levels], strict=True) for w in level]
    missing = (MOST_HAAR_LEVELS - levels) * (2**dims - 1)
    return [scale[-1] * weights[levels][0], *details, *[0.0] * missing]


def _steps(x: Tensor) -> tuple[int, ...]:
    batch, channel, row, column = strides(x)
    return (batch, channel, row, column) if x.ndim == 4 else (batch, channel, column)


_TILE = 2048
"""Samples per program, where the levels do not ask for more: 16 per thread and tensor."""


def _tiles_2d(x: Tensor, levels: int) -> tuple[Any, tuple[int, ...], dict[str, Any]]:
    _, channels, height, width = x.shape
    block = 2**levels
    columns = _columns(width, block)
    pairs = block_size(channels * height, block, max(_TILE // columns, block)) // 2
    row_pairs = channels * height // 2
    sizes = (row_pairs, height // 2, width, cdiv(row_pairs, pairs), cdiv(width, columns))
    return _haar_2d, sizes, {"PAIRS": pairs, "COLUMNS": columns, "num_warps": 8 if 2 * pairs * columns > _TILE else 4}


def _tiles_1d(x: Tensor, levels: int) -> tuple[Any, tuple[int, ...], dict[str, Any]]:
    _, channels, width = x.shape
    columns = block_size(width, 2**levels, _TILE)
    rows = block_size(channels, 1, _TILE // columns)
    sizes = (channels, width, cdiv(channels, rows), cdiv(width, columns))
    return _haar_1d, sizes, {"ROWS": rows, "COLUMNS": columns, "num_warps": 4}


def _columns(width: int, block: int) -> int:
    """A tile's width: what divides the field if that is wide enough for whole memory transactions."""
    divisor = min(width & -width, 256)
    return divisor if divisor >= max(32, block) else block_size(width, block, 256)
