"""Triton kernel of the DCT low-pass: the spectrum times its mask, which is computed on the way and lies nowhere."""

import math
from collections.abc import Sequence
from typing import Any, no_type_check

import triton
import triton.language as tl
from torch import Tensor

from passband._triton import cdiv, even_block, launch

LARGEST_PLANE = 2**30
"""More coefficients than this in one channel of one sample are left to torch."""


@triton.jit
@no_type_check
def _sigmoid(x):
    return 1.0 / (1.0 + tl.exp(tl.where(x < -80.0, 80.0, -x)))  # NaN stays, nothing overflows


@triton.jit
@no_type_check
def _mask(
    spectrum_ptr, cutoffs_ptr, count, blocks, cutoff_step, columns, row_length, plane,
    kappa, row_unit, column_unit, EXACT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """BLOCK coefficients of one sample, times M or 1 - M'."""
    program = tl.program_id(0).to(tl.int64)
    sample = program // blocks
    start = (program % blocks) * BLOCK
    step = tl.arange(0, BLOCK)
    inside = start + step < count
    spectrum_ptr += sample * count + start + step
    c = tl.load(cutoffs_ptr + sample * cutoff_step)

    place = (start % plane).to(tl.int32) + step  # within the plane, or past its end by less than a block
    column = (place % columns).to(tl.float32) * column_unit
    row = ((place % plane) // row_length).to(tl.float32) * row_unit
    rho = tl.sqrt(row * row + column * column)
    if EXACT:
        share = tl.minimum(kappa * 0.25 * (1.0 - c), 1.0)
        gain = share * (1.0 - tl.exp(-kappa * rho)) * _sigmoid(kappa * (rho - c))
    else:
        gain = _sigmoid(kappa * (c - rho))
    tl.store(spectrum_ptr, tl.load(spectrum_ptr, inside, 0.0) * gain, inside)


def mask_(spectrum: Tensor, cutoffs: Tensor, window: Sequence[int], kappa: float, exact: bool) -> None:
    r"""Multiply a DCT spectrum in place by $M = \text{sigmoid}(\kappa (c - \rho))$, or by $1 - M'$ for the exact form.

    $\rho$ is the DCT radius over its largest in the window. The spectrum is read and written once, and nothing else.

    Args:
        spectrum: (batch, channels, windows, frequencies) in 1-d, (batch, channels, windows, frequencies, windows,
            frequencies) in 2-d, float32; frequencies may be fewer than the window's side, its lowest ones.
        cutoffs: c, (batch,) or (1,), float32.
        window: sides of the window.
        kappa: steepness of the edge.
        exact: whether to multiply by $1 - M'$.

    """
    x = spectrum.detach()
    if not x.is_contiguous():
        x = x.contiguous()
    count = x[0].numel() if len(x) else 0
    rows, columns = (1, x.shape[3]) if len(window) == 1 else (x.shape[3], x.shape[5])
    row_length = columns if len(window) == 1 else columns * x.shape[4]
    largest = math.sqrt(sum(((n - 1) / n) ** 2 for n in window)) or 1.0
    row_unit, column_unit = (1 / (n * largest) for n in (window[0], window[-1]))
    block = even_block(count, 128, 1024)
    blocks = cdiv(count, block)
    places = (count, blocks, min(len(cutoffs) - 1, 1), columns, row_length, rows * row_length)
    numbers = (float(kappa), row_unit, column_unit)
    options: dict[str, Any] = {"EXACT": exact, "BLOCK": block, "num_warps": max(1, block // 256)}
    launch(_mask, len(x) * blocks, x.device, x, cutoffs.detach().contiguous(), *places, *numbers, **options)
    if x is not spectrum and x.data_ptr() != spectrum.data_ptr():
        spectrum.copy_(x)
