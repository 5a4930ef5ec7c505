"""Triton kernels of the Fourier losses: what lies between the forward and the inverse FFT, in one pass over memory.

A complex64 number is read and written as one 64-bit integer, so that its two parts travel together.
"""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from passband._triton import cdiv, even_block, launch

_COUPLINGS = {"frequency": 1, "energy": 2, "norm": 3}


@triton.jit
@no_type_check
def _load(pointer, inside):
    """Real and imaginary parts, 0 outside."""
    both = tl.load(pointer, inside, 0)
    real = both.to(tl.int32).to(tl.float32, bitcast=True)
    imaginary = (both >> 32).to(tl.int32).to(tl.float32, bitcast=True)
    return real, imaginary


@triton.jit
@no_type_check
def _store(pointer, real, imaginary, inside):
    low = real.to(tl.int32, bitcast=True).to(tl.int64) & 0xFFFFFFFF
    high = imaginary.to(tl.int32, bitcast=True).to(tl.int64) << 32
    tl.store(pointer, high | low, inside)


@triton.jit
@no_type_check
def _polar(real, imaginary):
    """Amplitude and direction (0 where there is no amplitude): no square over- or underflows, and NaN stays NaN."""
    x, y = tl.abs(real), tl.abs(imaginary)
    larger = tl.maximum(x, y, propagate_nan=tl.PropagateNan.ALL)
    ratio = tl.minimum(x, y) / tl.where(larger > 0, larger, 1.0)
    amplitude = larger * tl.sqrt(1.0 + ratio * ratio)
    divisor = tl.where(amplitude > 0, amplitude, 1.0)
    return amplitude, real / divisor, imaginary / divisor


@triton.jit
@no_type_check
def _angle(y, x):
    """atan2(y, x) for y >= 0, to float32's rounding; 0 at the origin."""
    across = tl.abs(x)
    larger, smaller = tl.maximum(y, across), tl.minimum(y, across)
    # A rotation by pi / 8 halves the range in which the polynomial has to hold.
    turned = smaller > 0.41421357 * larger
    top = tl.where(turned, smaller - larger, smaller)
    bottom = tl.where(turned, smaller + larger, larger)
    t = top / tl.where(bottom > 0, bottom, 1.0)
    z = t * t
    p = ((0.08060310306310654 * z - 0.13879849016666412) * z + 0.19977925717830658) * z - 0.33332955837249756
    angle = t + t * (z * p) + tl.where(turned, 0.7853981633974483, 0.0)
    angle = tl.where(y > across, 1.5707963267948966 - angle, angle)
    return tl.where(x < 0, 3.141592653589793 - angle, angle)


@triton.jit
@no_type_check
def _place(count, blocks, spacing, columns, BLOCK: tl.constexpr):
    """Of this program: its sample, where its elements lie in the sample, their columns, and which of them exist."""
    program = tl.program_id(0).to(tl.int64)
    sample = program // blocks
    start = (program % blocks) * BLOCK
    step = tl.arange(0, BLOCK)
    # Columns need 32 bits alone, where the start of the block does not.
    column = (start % (spacing * columns)).to(tl.int32) + step
    return sample, start + step, (column // spacing) % columns, start + step < count


@triton.jit
@no_type_check
def _half_weight(column, nyquist):
    """How often a column of the half spectrum occurs in the whole one."""
    return tl.where((column == 0) | (column == nyquist), 1.0, 2.0)


@triton.jit
@no_type_check
def _amplitude(
    x_ptr, y_ptr, sums_ptr, count, blocks, spacing, columns, nyquist, GRADIENT: tl.constexpr, BLOCK: tl.constexpr
):
    sample, offset, column, inside = _place(count, blocks, spacing, columns, BLOCK)
    x_ptr += sample * count + offset
    real, imaginary = _load(x_ptr, inside)
    a, cosine, sine = _polar(real, imaginary)
    real, imaginary = _load(y_ptr + sample * count + offset, inside)
    clean, _, _ = _polar(real, imaginary)
    gap = tl.abs(a - clean) * _half_weight(column, nyquist)
    tl.store(sums_ptr + tl.program_id(0), tl.sum(gap))
    if GRADIENT:
        sign = tl.where(a > clean, 1.0, tl.where(a < clean, -1.0, 0.0))
        _store(x_ptr, sign * cosine, sign * sine, inside)


@triton.jit
@no_type_check
def _amplitude_phase(
    x_ptr, y_ptr, floor_ptr, means_ptr, sums_ptr, count, blocks, spacing, columns, nyquist,
    COUPLING: tl.constexpr, SUMS: tl.constexpr, GRADIENT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """COUPLING: 1 frequency, 2 energy, 3 norm; the last one's gradient needs the means of its two sums."""
    sample, offset, column, inside = _place(count, blocks, spacing, columns, BLOCK)
    x_ptr += sample * count + offset
    real, imaginary = _load(x_ptr, inside)
    clean_real, clean_imaginary = _load(y_ptr + sample * count + offset, inside)
    a, cosine, sine = _polar(real, imaginary)
    clean, clean_cosine, clean_sine = _polar(clean_real, clean_imaginary)
    floor = tl.load(floor_ptr + sample)

    # Of the unit vectors, so that no product underflows; equal phases give an exact 0 without fused products.
    cross = sine * clean_cosine - cosine * clean_sine
    theta = _angle(tl.abs(cross), cosine * clean_cosine + sine * clean_sine)
    p, q = tl.minimum(a / floor, 1e9), tl.minimum(clean / floor, 1e9)
    p, q = p * p, q * q
    fade = q / ((p + 1.0) * (q + 1.0))  # K in units of the floor
    turn = p * fade * theta
    gap = tl.abs(a - clean)

    if SUMS:
        weight = _half_weight(column, nyquist)
        program = tl.program_id(0).to(tl.int64)
        if COUPLING == 1:
            tl.store(sums_ptr + program, tl.sum(weight * gap * (1.0 + turn)))
        if COUPLING == 2:
            tl.store(sums_ptr + program, tl.sum(weight * (gap + clean * turn)))
        if COUPLING == 3:
            tl.store(sums_ptr + 2 * program, tl.sum(weight * gap))
            tl.store(sums_ptr + 2 * program + 1, tl.sum(weight * turn))

    if GRADIENT:
        if COUPLING == 1:
            m, k = 1.0 + turn, gap
        if COUPLING == 2:
            m, k = 1.0, clean
        if COUPLING == 3:
            m, k = 1.0 + tl.load(means_ptr + 2 * sample + 1), tl.load(means_ptr + 2 * sample)
        along = tl.where(a > clean, 1.0, tl.where(a < clean, -1.0, 0.0)) * m
        # a K k, with one division by the floor: what is left of X is its direction.
        rest = (a / floor) * (fade / floor) * k
        along += rest * (2.0 * theta / (p + 1.0))
        across = tl.where(cross > 0, rest, tl.where(cross < 0, -rest, 0.0))
        _store(x_ptr, along * cosine - across * sine, along * sine + across * cosine, inside)


def amplitude_(x: Tensor, y: Tensor, width: int, gradient: bool) -> Tensor:
    r"""Sum the differences of amplitudes, $w\, ||X| - |Y||$, and turn X into their gradient, in one launch.

    The sum is over channels and the half spectrum, whose columns count w times: 1 for column 0 and an even width's
    last, else 2. The gradient $\text{sign}(|X| - |Y|)\, X / |X|$ (0 where X is 0) is without w.

    Traffic: X and Y are read once, the gradient is written once. Spectra of equal, dense strides with the batch
    outermost are taken as they are; others by a contiguous copy.

    Args:
        x: half spectrum of the estimate, (batch, channels, \*half), complex64; overwritten if gradient.
        y: half spectrum of the clean sample, of the same shape and dtype.
        width: length of the field's last axis.
        gradient: whether x becomes the gradient.

    Returns:
        The sums, (batch,) in float32.

    """
    layout = _Layout(x, y, width)
    sums = layout.new_sums(1)
    layout.launch(_amplitude, sums, GRADIENT=gradient)
    if gradient:
        layout.write_back(x)
    return sums.sum(1).squeeze(1)


def amplitude_phase_(x: Tensor, y: Tensor, width: int, floor: Tensor, coupling: str, gradient: bool) -> Tensor:
    r"""Sum what `passband.regularization.kernels.phase` defines, and turn X into its gradient G.

    Traffic: X and Y are read once, G is written once; `norm` with gradient reads X and Y twice, since its gradient
    needs the means. Layouts as in `amplitude_`.

    Args:
        x: half spectrum of the estimate, (batch, channels, \*half), complex64; overwritten if gradient.
        y: half spectrum of the clean sample, of the same shape and dtype.
        width: length of the field's last axis.
        floor: smallest amplitude whose phase counts, (batch,) in float32, above 0.
        coupling: frequency, energy or norm.
        gradient: whether x becomes G.

    Returns:
        The weighted sums, (batch,); for `norm` (batch, 2), of the differences of amplitudes and of faded phases.

    """
    layout, code = _Layout(x, y, width), _COUPLINGS[coupling]
    apart = coupling == "norm"
    sums = layout.new_sums(2 if apart else 1)
    options: dict[str, Any] = {"COUPLING": code, "fused": False}
    floor = floor.detach().contiguous()
    layout.launch(_amplitude_phase, floor, floor, sums, SUMS=True, GRADIENT=gradient and not apart, **options)
    totals = sums.sum(1)
    if gradient and apart:
        means = totals / (x[0, :, ..., 0].numel() * width)
        layout.launch(_amplitude_phase, floor, means, sums, SUMS=False, GRADIENT=True, **options)
    if gradient:
        layout.write_back(x)
    return totals if apart else totals.squeeze(1)


class _Layout:
    """Two spectra as kernels take them, and the numbers that say where a column is."""

    def __init__(self, x: Tensor, y: Tensor, width: int) -> None:
        x, y = x.detach().resolve_conj(), y.detach().resolve_conj()
        if not _dense_samples(x) or x.stride() != y.stride():
            x, y = x.contiguous(), y.contiguous()
        self.x, self.y = x.view(torch.int64), y.view(torch.int64)
        self.count = x[0].numel() if len(x) else 0
        self.block = even_block(self.count, 128, 1024)
        self.blocks = cdiv(self.count, self.block)
        self.options: dict[str, Any] = {"BLOCK": self.block, "num_warps": max(1, self.block // 256)}
        nyquist = width // 2 if width % 2 == 0 else -1
        self.sizes = (self.count, self.blocks, max(x.stride(-1), 1), x.shape[-1], nyquist)

    def new_sums(self, kinds: int) -> Tensor:
        """Room for one number of each kind per program."""
        return torch.empty((len(self.x), self.blocks, kinds), dtype=torch.float32, device=self.x.device)

    def launch(self, kernel: Any, *rest: Tensor, **options: Any) -> None:
        programs = len(self.x) * self.blocks
        launch(kernel, programs, self.x.device, self.x, self.y, *rest, *self.sizes, **self.options, **options)

    def write_back(self, x: Tensor) -> None:
        """Copy what was written, if it was to a copy."""
        if self.x.data_ptr() != x.data_ptr():
            x.copy_(self.x.view(torch.complex64))


def _dense_samples(x: Tensor) -> bool:
    """Whether each sample fills one stretch of memory, one sample after the other."""
    if x.stride(-1) * x.shape[-1] >= 2**30:
        return False
    steps = sorted((step, size) for step, size in zip(x.stride(), x.shape, strict=True) if size > 1)
    length = 1
    for step, size in steps:
        if step != length:
            return False
        length *= size
    return len(x) < 2 or x.stride(0) == x[0].numel()
