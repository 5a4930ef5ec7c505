"""Triton kernels of the bior1.3 wavelet L1 loss: one launch per level forward, one per level back.

Along an axis, with the mirrored field x(-1 - i) = x(i), the high-pass is the Haar difference and the low-pass the Haar
sum with one eighth of the neighbouring differences: d(i) = x(2i-2) - x(2i-1), a(i) = x(2i-2) + x(2i-1)
+ (x(2i-3) - x(2i-4) + x(2i) - x(2i+1)) / 8. The scale, 1/sqrt(2) per axis and level, is in the weights.
"""

from collections.abc import Sequence
from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from passband._triton import block_size, cdiv, launch, strides


@triton.jit
@no_type_check
def _mirrored(i, n):
    return tl.where(i < 0, -1 - i, tl.where(i >= n, 2 * n - 1 - i, i))


@triton.jit
@no_type_check
def _sign(x):
    return tl.where(x > 0, 1.0, tl.where(x < 0, -1.0, 0.0))


@triton.jit
@no_type_check
def _low_tap(k):
    """The low-pass at place k of its window of 6, 0 outside."""
    away = tl.abs(2 * k - 5)
    return tl.where(away == 1, 1.0, tl.where(away == 3, 0.125, tl.where(away == 5, -0.125, 0.0)))


@triton.jit
@no_type_check
def _high_tap(k):
    return tl.where(k == 2, 1.0, tl.where(k == 3, -1.0, 0.0))


@triton.jit
@no_type_check
def _taps(p, i, n):
    """What output i takes of position p, low- and high-pass, with p's mirror images beyond both ends."""
    here, before, after = p - 2 * i + 4, 3 - p - 2 * i, 2 * n + 3 - p - 2 * i
    low = _low_tap(here) + _low_tap(before) + _low_tap(after)
    high = _high_tap(here) + _high_tap(before) + _high_tap(after)
    return low, high


@triton.jit
@no_type_check
def _difference(x_ptr, y_ptr, x_offset, y_offset, inside, FIRST: tl.constexpr):
    value = tl.load(x_ptr + x_offset, inside, 0.0).to(tl.float32)
    if FIRST:
        value -= tl.load(y_ptr + y_offset, inside, 0.0).to(tl.float32)
    return value


@triton.jit
@no_type_check
def _filtered_row(x_ptr, y_ptr, j, width, x_step, y_step, inside, FIRST: tl.constexpr):
    """Low- and high-pass along the columns at outputs j, of the rows that the pointers point at."""
    c0, c1, c2 = _mirrored(2 * j - 4, width), _mirrored(2 * j - 3, width), _mirrored(2 * j - 2, width)
    c3, c4, c5 = _mirrored(2 * j - 1, width), _mirrored(2 * j, width), _mirrored(2 * j + 1, width)
    v0 = _difference(x_ptr, y_ptr, c0 * x_step, c0 * y_step, inside, FIRST)
    v1 = _difference(x_ptr, y_ptr, c1 * x_step, c1 * y_step, inside, FIRST)
    v2 = _difference(x_ptr, y_ptr, c2 * x_step, c2 * y_step, inside, FIRST)
    v3 = _difference(x_ptr, y_ptr, c3 * x_step, c3 * y_step, inside, FIRST)
    v4 = _difference(x_ptr, y_ptr, c4 * x_step, c4 * y_step, inside, FIRST)
    v5 = _difference(x_ptr, y_ptr, c5 * x_step, c5 * y_step, inside, FIRST)
    return v2 + v3 + 0.125 * ((v1 - v0) + (v4 - v5)), v2 - v3


@triton.jit
@no_type_check
def _tile(channels, row_tiles, column_tiles, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Sample, channel, rows (as a column), columns (as a row) and number of this program."""
    program = tl.program_id(0).to(tl.int64)
    tiles = row_tiles * column_tiles
    plane = program // tiles
    tile = program % tiles
    row = ((tile // column_tiles) * ROWS + tl.arange(0, ROWS))[:, None]
    column = ((tile % column_tiles) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    return plane // channels, plane % channels, row, column, program


@triton.jit
@no_type_check
def _forward(
    x_ptr, y_ptr, low_ptr, signs_ptr, sums_ptr,
    channels, height, width, low_height, low_width, row_tiles, column_tiles, band, all_sums, first_sum,
    x_batch, x_channel, x_row, x_column,
    y_batch, y_channel, y_row, y_column,
    w_a, w_ad, w_da, w_dd,
    DIMS: tl.constexpr, FIRST: tl.constexpr, LAST: tl.constexpr, GRADIENT: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """One level: the approximation, the signs of the details, and the weighted sums; FIRST: of a difference."""
    sample, channel, i, j, program = _tile(channels, row_tiles, column_tiles, ROWS, COLUMNS)
    inside = (i < low_height) & (j < low_width)
    x_ptr += sample * x_batch + channel * x_channel
    y_ptr += sample * y_batch + channel * y_channel
    offset = (sample * channels + channel) * low_height * low_width + i * low_width + j
    signs_ptr += offset
    if DIMS == 1:
        aa, ad = _filtered_row(x_ptr, y_ptr, j, width, x_column, y_column, inside, FIRST)
        total = w_ad * tl.abs(ad)
    else:
        aa, ad = tl.zeros((ROWS, COLUMNS), tl.float32), tl.zeros((ROWS, COLUMNS), tl.float32)
        da, dd = tl.zeros((ROWS, COLUMNS), tl.float32), tl.zeros((ROWS, COLUMNS), tl.float32)
        for k in range(6):
            row = _mirrored(2 * i - 4 + k, height)
            low, high = _filtered_row(
                x_ptr + row * x_row, y_ptr + row * y_row, j, width, x_column, y_column, inside, FIRST
            )
            along, across = _low_tap(k), _high_tap(k)
            aa += along * low
            ad += along * high
            da += across * low
            dd += across * high
        total = w_ad * tl.abs(ad) + w_da * tl.abs(da) + w_dd * tl.abs(dd)
        if GRADIENT:
            tl.store(signs_ptr + band, _sign(da).to(tl.int8), inside)
            tl.store(signs_ptr + 2 * band, _sign(dd).to(tl.int8), inside)
    if GRADIENT:
        tl.store(signs_ptr, _sign(ad).to(tl.int8), inside)
    if LAST:
        total += w_a * tl.abs(aa)
    if GRADIENT or not LAST:
        tl.store(low_ptr + offset, aa, inside)
    tiles = channels * row_tiles * column_tiles
    tl.store(sums_ptr + sample * all_sums + first_sum + program % tiles, tl.sum(tl.where(inside, total, 0.0)))


@triton.jit
@no_type_check
def _gathered_row(
    a_ptr, d_ptr, q, width, low_width, start, end, inside, w_a, w_d,
    LAST: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The adjoint along the columns at positions q, of the rows of two bands that the pointers point at."""
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for shift in range(-1, 5):
        if (shift >= start) & (shift < end):
            j = q // 2 + shift
            low, high = _taps(q, j, width)
            there = inside & (j >= 0) & (j < low_width)
            a = tl.load(a_ptr + j, there & (low != 0), 0).to(tl.float32)
            if LAST:
                a = _sign(a)
            d = tl.load(d_ptr + j, there & (high != 0), 0).to(tl.float32)
            total += low * (w_a * a) + high * (w_d * d)
    return total


@triton.jit
@no_type_check
def _reach(start, size, n):
    """Which outputs i = p // 2 + shift take part in the gradient at positions p: more where mirror images do."""
    first = tl.where(start < 4, -1, 0)
    end = tl.where(start + size > n - 6, 5, 3)
    return first, end


@triton.jit
@no_type_check
def _backward(
    gradient_ptr, low_ptr, signs_ptr,
    channels, height, width, low_height, low_width, row_tiles, column_tiles, band,
    g_batch, g_channel, g_row, g_column,
    w_a, w_ad, w_da, w_dd,
    DIMS: tl.constexpr, LAST: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The gradient in one level's input, of its approximation's gradient (LAST: of its sign) and its details' signs."""
    sample, channel, p, q, program = _tile(channels, row_tiles, column_tiles, ROWS, COLUMNS)
    inside = (p < height) & (q < width)
    plane = (sample * channels + channel) * low_height * low_width
    tile = program % (row_tiles * column_tiles)
    start, end = _reach((tile % column_tiles) * COLUMNS, COLUMNS, width)
    low_ptr += plane
    signs_ptr += plane
    if DIMS == 1:
        total = _gathered_row(
            low_ptr, signs_ptr, q, width, low_width, start, end, inside, w_a, w_ad, LAST, ROWS, COLUMNS
        )
    else:
        total = tl.zeros((ROWS, COLUMNS), tl.float32)
        first_row, last_row = _reach((tile // column_tiles) * ROWS, ROWS, height)
        border = (first_row < 0) | (last_row > 3)
        for shift in range(-1, 5):
            if (shift >= first_row) & (shift < last_row):
                i = p // 2 + shift
                low, high = _taps(p, i, height)
                there = inside & (i >= 0) & (i < low_height)
                row = i * low_width
                a_ptr, ad_ptr, da_ptr = low_ptr + row, signs_ptr + row, signs_ptr + band + row
                total += low * _gathered_row(
                    a_ptr, ad_ptr, q, width, low_width, start, end, there & (low != 0), w_a, w_ad, LAST, ROWS, COLUMNS
                )
                if (shift == 1) | border:  # elsewhere, the high-pass has one row
                    total += high * _gathered_row(
                        da_ptr, da_ptr + band, q, width, low_width, start, end, there & (high != 0), w_da, w_dd,
                        False, ROWS, COLUMNS,
                    )  # fmt: skip
    gradient_ptr += sample * g_batch + channel * g_channel + p * g_row + q * g_column
    tl.store(gradient_ptr, total.to(gradient_ptr.dtype.element_ty), inside)


Weights = Sequence[Sequence[float]]


def bior13_l1(
    estimate: Tensor, clean: Tensor, levels: int, weights: Weights, gradient: bool
) -> tuple[Tensor, Tensor | None]:
    r"""Weighted L1 of the bior1.3 transform of estimate - clean in PyWavelets' mode `symmetric`, and its gradient.

    One launch per level forward and one back, since the levels' sizes do not nest. Traffic in 2-d, of fields with N
    values: both are read (what neighbouring outputs share comes from the cache), N / 4 float32 values of the
    approximation and 3 N / 4 bytes of signs are written and read again, the gradient is written; each further level
    costs about a quarter of the one before.

    Args:
        estimate: (batch, channels, \*spatial), 1 or 2 spatial axes with sides of 5 or more (shorter ones are
            mirrored more than once); float32, float16 or bfloat16, any strides.
        clean: the same shape, any of these dtypes and any strides.
        levels: at least 1.
        weights: finest level first, the weights of the level's details (d in 1-d; ad, da, dd in 2-d); at the end
            those of the approximation, (a,). They include whatever the sub-bands' sums are divided by.
        gradient: whether to compute the gradient.

    Returns:
        The values, (batch,) in float32, and the gradient of each sample's value in the estimate, in its dtype.

    """
    plan = [_Level(size, estimate.shape) for size in _sizes(estimate, levels)]
    sums = estimate.new_empty((estimate.shape[0], sum(level.programs for level in plan)), dtype=torch.float32)
    x, signs, first_sum = estimate.detach(), [], 0
    for index, level in enumerate(plan):
        last = index == levels - 1
        low = level.new_low(x) if gradient or not last else sums
        signs.append(level.new_signs(x) if gradient else sums)
        y = clean.detach() if index == 0 else x
        numbers = _scaled(weights, index, estimate.ndim - 2, last)
        options = {"FIRST": index == 0, "LAST": last, "GRADIENT": gradient}
        level.forward(x, y, low, signs[-1], sums, (sums.shape[1], first_sum), numbers, options)
        x, first_sum = low, first_sum + level.programs
    values = sums.sum(1)
    if not gradient:
        return values, None
    for index, level in reversed(list(enumerate(plan))):
        last = index == levels - 1
        result = torch.empty_like(estimate) if index == 0 else level.new_gradient(x)
        level.backward(result, x, signs[index], _scaled(weights, index, estimate.ndim - 2, last), last)
        x = result
    return values, x


def _sizes(x: Tensor, levels: int) -> list[tuple[int, ...]]:
    """The spatial shape that each level transforms."""
    sizes = [tuple(x.shape[2:])]
    for _ in range(levels - 1):
        sizes.append(tuple((n + 5) // 2 for n in sizes[-1]))
    return sizes


def _scaled(weights: Weights, index: int, dims: int, last: bool) -> tuple[float, ...]:
    """Weights of a, ad, da, dd with the scale of the transform; 1 for an approximation that is transformed further."""
    scale = 2.0 ** (-dims * (index + 1) / 2)
    details = [scale * w for w in weights[index]] + [0.0] * (3 - len(weights[index]))
    return (scale * weights[-1][0] if last else 1.0, *details)


class _Level:
    """The sizes of one level, and its two launches."""

    def __init__(self, size: tuple[int, ...], shape: torch.Size) -> None:
        self.dims, self.batch, self.channels = len(size), shape[0], shape[1]
        self.size = size if len(size) == 2 else (1, *size)
        low = tuple((n + 5) // 2 for n in size)
        self.low = low if len(size) == 2 else (1, *low)
        self.shape, self.low_shape = (*shape[:2], *size), (*shape[:2], *low)
        self.band = shape[0] * shape[1] * self.low[0] * self.low[1]
        self.programs = self.channels * _count(self.low)

    def new_low(self, x: Tensor) -> Tensor:
        return torch.empty(self.low_shape, dtype=torch.float32, device=x.device)

    def new_gradient(self, x: Tensor) -> Tensor:
        return torch.empty(self.shape, dtype=torch.float32, device=x.device)

    def new_signs(self, x: Tensor) -> Tensor:
        return torch.empty((2**self.dims - 1, *self.low_shape), dtype=torch.int8, device=x.device)

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        low: Tensor,
        signs: Tensor,
        sums: Tensor,
        place: tuple[int, int],
        weights: tuple[float, ...],
        options: dict[str, Any],
    ) -> None:
        tiles, tile = _tiles(self.low)
        sizes = (self.channels, *self.size, *self.low, *tiles, self.band, *place)
        steps = (*strides(x), *strides(y))
        programs = self.batch * self.programs
        options = {**options, **tile, "DIMS": self.dims}
        launch(_forward, programs, x.device, x, y, low, signs, sums, *sizes, *steps, *weights, **options)

    def backward(self, gradient: Tensor, low: Tensor, signs: Tensor, weights: tuple[float, ...], last: bool) -> None:
        tiles, tile = _tiles(self.size)
        sizes = (self.channels, *self.size, *self.low, *tiles, self.band)
        programs = self.batch * self.channels * tiles[0] * tiles[1]
        options: dict[str, Any] = {"DIMS": self.dims, "LAST": last, **tile}
        device = gradient.device
        launch(_backward, programs, device, gradient, low, signs, *sizes, *strides(gradient), *weights, **options)


def _tiles(size: tuple[int, ...]) -> tuple[tuple[int, int], dict[str, Any]]:
    """How many tiles a plane has along rows and columns, and their sides."""
    columns = block_size(size[1], 16, 64 if size[0] > 1 else 512)
    rows = block_size(size[0], 1, 512 // columns)
    return (cdiv(size[0], rows), cdiv(size[1], columns)), {"ROWS": rows, "COLUMNS": columns}


def _count(size: tuple[int, ...]) -> int:
    (rows, columns), _ = _tiles(size)
    return rows * columns
