"""What losses on a half spectrum share: real FFTs, sums over the whole spectrum, work by parts, and the way back.

A sum over the whole spectrum of a real field, f(X) at each frequency, has the gradient irfftn(G) in the field (the
inverse is the adjoint, as both are orthonormal), G = df/d(Re X) + i df/d(Im X). G is itself the spectrum of a real
field, so its half is enough, with no weights.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

_WHOLE = 3 * 2**19
"""Bytes of a spectrum that are worked on as a whole on a CPU; larger ones in parts, which the caches hold."""

_PART = 2**20
"""Bytes of a spectrum in such a part; smaller ones cost more calls than they save memory traffic."""

_ROWS = 16
"""Signals to transform at a time at least: a few long ones cost nearly as much as these."""


def spectrum(x: Tensor) -> Tensor:
    """Orthonormal half spectrum of fields (batch, channels, *size)."""
    half: Tensor = torch.fft.rfftn(x, dim=tuple(range(2, x.ndim)), norm="ortho")
    return half


def field(half: Tensor, size: Sequence[int]) -> Tensor:
    """The inverse of `spectrum`."""
    x: Tensor = torch.fft.irfftn(half, s=tuple(size), dim=tuple(range(2, half.ndim)), norm="ortho")
    return x


def whole_sum_(half: Tensor, width: int) -> Tensor:
    """Sum over the whole spectrum, (batch,), of a real quantity (batch, ...) on the half spectrum; it is overwritten.

    Columns 0 and, of an even width, Nyquist occur once in the whole spectrum, all others twice.
    """
    half[..., :: half.shape[-1] - 1 if width % 2 == 0 else half.shape[-1]].mul_(0.5)
    return half.sum(tuple(range(1, half.ndim))).mul_(2)


def chunks(x: Tensor) -> Iterator[slice]:
    """Slices of the first axis of a field (batch, channels, *size) to work on at a time: all of it on a GPU.

    For planes instead of samples, pass the field as (batch x channels, 1, *size).
    """
    each = 2 * x.element_size() * math.prod((*x.shape[1:-1], x.shape[-1] // 2 + 1))
    if x.device.type != "cpu" or len(x) * each <= _WHOLE:
        yield slice(0, len(x))
        return
    parts = math.ceil(len(x) / max(_ROWS if x.ndim == 3 else 1, _PART // each))
    bounds = [len(x) * i // parts for i in range(parts + 1)]
    yield from map(slice, bounds[:-1], bounds[1:])


def by_planes(
    step: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], estimate: Tensor, clean: Tensor, wanted: bool
) -> tuple[Tensor, Tensor | None]:
    """Sums per sample, (batch,), and if wanted the gradient in the field, of a loss that sees each channel on its own.

    `step` gets both fields, or some planes of them as (planes, 1, *size), and returns the sum of each sample or plane
    and the gradient's spectrum.
    """
    size = clean.shape[2:]
    x, y = (whole.reshape(-1, 1, *size) for whole in (estimate, clean))
    parts = list(chunks(x))
    if len(parts) == 1:
        sums, half = step(estimate, clean)
        return sums, field(half, size) if wanted else None
    sums = x.new_empty(len(x))
    gradient = x.new_empty(x.shape) if wanted else None
    for part in parts:
        sums[part], half = step(x[part], y[part])
        if gradient is not None:
            gradient[part] = field(half, size)
    return sums.view(len(clean), -1).sum(1), None if gradient is None else gradient.view(clean.shape)


def modulus(x: Tensor, scratch: Tensor) -> Tensor:
    """|x| of a spectrum; on a CPU another one, or x itself, is overwritten on the way."""
    # On a CPU, `abs` of a complex number is a hypot, which costs more than an FFT.
    return squares(x, scratch).sqrt_() if x.device.type == "cpu" else x.abs()


def squares(x: Tensor, scratch: Tensor) -> Tensor:
    """|x|^2 of a spectrum; another one, or x itself, is overwritten on the way."""
    parts, written = torch.view_as_real(x), torch.view_as_real(scratch)
    torch.mul(parts, parts, out=written)
    return torch.add(*written.unbind(-1))
