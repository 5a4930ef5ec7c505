"""The low-pass of small windows on a CPU: by products with the DCT's matrix, of the frequencies alone that pass.

Each product contracts the last axis and, by the order of its factors, leaves the new one first or last, so that all
windows of a chunk go through in one product per axis and nothing is transposed in between.
"""

import math

import torch
from torch import Tensor

from passband._linear import linear
from passband._tables import Table
from passband.forcing._gains import Options, gains_at, relative_radius
from passband.transforms.dct import basis

Size = tuple[int, ...]


def tolerance(dtype: torch.dtype) -> float:
    """Gains below it count as 0: half a unit in the last place of 1, well below what rounding does in the products."""
    return torch.finfo(dtype).eps / 2


def passed(largest_cutoff: float, options: Options, dtype: torch.dtype) -> Size:
    """How many of the lowest frequencies along each axis pass at all, rounded up to eighths: each size is a kernel."""
    size = two_axes(options.window)
    if options.exact or math.isnan(largest_cutoff):
        return size
    radius = largest_cutoff - math.log(tolerance(dtype)) / options.kappa  # sigmoid(-x) < exp(-x)
    largest = math.hypot(*((n - 1) / n for n in size))
    return tuple(_eighths(n, radius * largest) for n in size)


def _eighths(n: int, share: float) -> int:
    step = -(-n // 8)
    return min(n, step * (math.floor(min(share, 1.0) * n) // step + 1))


def products(kept: Size, window: Size) -> float:
    """Multiplications per entry of a window, there and back."""
    columns = two_axes(window)[1]
    if columns == 1:
        return 2.0 * kept[0]
    return 2 * kept[1] * (1 + kept[0] / columns)


def make_mask(cutoffs: Tensor, options: Options, kept: Size) -> Tensor:
    """The gains of the kept frequencies at each cutoff, (columns, batch, 1, rows)."""
    rho = _RADII(two_axes(options.window), cutoffs.dtype, cutoffs.device)[: kept[1], : kept[0]]
    return gains_at(cutoffs[:, None], rho[:, None], options)[:, :, None]


def low_pass(x: Tensor, mask: Tensor, options: Options, out: Tensor) -> None:
    """Filter windows, (batch, windows, *window), both tensors contiguous; the mask holds a sample, or each of them."""
    rows, columns = two_axes(options.window)
    along_rows, along_columns = (
        basis(n, x.dtype, x.device)[:kept]
        for n, kept in zip((rows, columns), (mask.shape[3], mask.shape[0]), strict=True)
    )
    spectrum = x.view(-1, columns)
    if columns > 1:
        spectrum = linear(along_columns, spectrum)  # (kept columns, batch * windows * rows)
    spectrum = linear(spectrum.view(-1, rows), along_rows)
    spectrum.view(len(mask), *x.shape[:2], -1).mul_(mask)
    spectrum = linear(spectrum, along_rows.T)
    if columns > 1:
        spectrum = linear(spectrum.view(len(mask), -1).T, along_columns.T)
    out.copy_(spectrum.view(out.shape))


def two_axes(window: Size) -> Size:
    """A window as rows and columns; a signal is one column."""
    return (*window, 1) if len(window) == 1 else window


def _radii(size: Size, device: torch.device) -> Tensor:
    return relative_radius(size, torch.float64, device).T.contiguous()


_RADII = Table(_radii, largest=8)
