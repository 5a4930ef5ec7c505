"""The low-pass on a CPU: windows in chunks that stay in the cache, each by matrices or by FFTs, whichever is faster."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from passband._linear import onednn
from passband._numerics import compute_dtype
from passband.forcing import _by_fft, _by_matrix
from passband.forcing._gains import Options

CHUNK_BYTES = 2**20
"""Of a chunk's windows, per thread: what a core's second-level cache holds."""

LARGEST_WINDOW = 2**22
"""In entries. For larger ones the tables of an FFT's order and turns take more than they save."""

FFT_PRODUCTS = {True: 400, False: 230}
"""With FFTs, a window takes as long as by matrices with so many products per entry, with oneDNN or without."""

Filter = Callable[[Tensor, Tensor], object]
"""Writes the filtered windows, (batch, windows, *window), into its second argument."""


def fits(z: Tensor, cutoffs: Tensor, options: Options) -> bool:
    """Whether this form takes a field: on a CPU, where cutoffs may be looked at, if they have values."""
    plain = type(z) in (Tensor, torch.nn.Parameter) and type(cutoffs) in (Tensor, torch.nn.Parameter)
    return plain and z.device.type == "cpu" and z.numel() > 0 and math.prod(options.window) <= LARGEST_WINDOW


def low_pass(z: Tensor, cutoffs: Tensor, options: Options) -> Tensor:
    """Filter every window at its sample's cutoff; cutoffs in the compute dtype, one or one per sample."""
    windows = _windows(z, options.window)
    result = torch.empty_like(windows)
    source, target = (x.flatten(0, 1)[None] if len(cutoffs) == 1 else x for x in (windows, result))
    for samples, parts in _chunks(source, compute_dtype(z)):
        apply = _filter(cutoffs[samples], options)
        for part in parts:
            _write(apply, source[samples, part], target[samples, part], options)
    return _field(result, z.shape)


def _windows(z: Tensor, window: tuple[int, ...]) -> Tensor:
    """(batch, channels times windows, *window), contiguous."""
    if z.shape[2:] == window:
        return z.contiguous()
    grid = [part for n, side in zip(z.shape[2:], window, strict=True) for part in (n // side, side)]
    axes = range(2, 2 + len(grid))
    return (
        z.reshape(*z.shape[:2], *grid).permute(0, 1, *axes[::2], *axes[1::2]).reshape(len(z), -1, *window).contiguous()
    )


def _field(windows: Tensor, shape: torch.Size) -> Tensor:
    window = windows.shape[2:]
    if shape[2:] == window:
        return windows
    counts = [n // side for n, side in zip(shape[2:], window, strict=True)]
    dims = len(window)
    order = [axis for pair in zip(range(2, 2 + dims), range(2 + dims, 2 + 2 * dims), strict=True) for axis in pair]
    return windows.reshape(*shape[:2], *counts, *window).permute(0, 1, *order).reshape(shape)


def _chunks(windows: Tensor, dtype: torch.dtype) -> Iterator[tuple[slice, list[slice]]]:
    """Slices of the samples, and for each those of its windows; several samples go together with all their windows."""
    limit = CHUNK_BYTES * torch.get_num_threads() // dtype.itemsize
    planes = max(1, limit // math.prod(windows.shape[2:]))
    samples, parts = windows.shape[:2]
    for first in range(0, samples, max(1, planes // parts)):
        of_sample = [slice(i, i + planes) for i in range(0, parts, planes)]
        yield slice(first, first + max(1, planes // parts)), of_sample


def _filter(cutoffs: Tensor, options: Options) -> Filter:
    """The filter at the cutoffs of some samples, with its mask made."""
    values = cutoffs.tolist()
    if options.exact and all(c == 1 for c in values):
        return lambda _, out: out.zero_()
    kept = _by_matrix.passed(max(values), options, cutoffs.dtype)
    if _by_matrix.products(kept, options.window) <= _fft_products(cutoffs.dtype):
        gains = _by_matrix.make_mask(cutoffs, options, kept)
        return lambda x, out: _by_matrix.low_pass(x, gains, options, out)
    mask = _by_fft.make_mask(cutoffs, options)
    return lambda x, out: _by_fft.low_pass(x, mask, options, out)


def _fft_products(dtype: torch.dtype) -> int:
    return FFT_PRODUCTS[dtype == torch.float32 and onednn() is not None]


def _write(apply: Filter, source: Tensor, target: Tensor, options: Options) -> None:
    x = source.to(compute_dtype(source))
    out = target if x is source else torch.empty_like(x)
    apply(x, out)
    if options.exact:
        torch.sub(x, out, out=out)
    if out is not target:
        target.copy_(out)
