"""Extension of a signal beyond its ends, by slices, mirrors and sums (so its gradient is exact and deterministic)."""

from collections.abc import Callable

import torch
from torch import Tensor

_Step = Callable[[Tensor, int, int], Tensor]


def extend(x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    """Add `before` and `after` samples along an axis, in PyWavelets' sense of mode, however short x is.

    Args:
        x: any tensor.
        axis: the axis to extend, not negative.
        before: samples to add in front.
        after: samples to add behind.
        mode: zero, constant, symmetric, reflect, periodic, smooth, antisymmetric or antireflect.

    """
    parts = [x]
    if before:
        parts.insert(0, _behind(_head(x, axis, before, mode).flip(axis), axis, before, mode).flip(axis))
    if after:
        parts.append(_behind(x, axis, after, mode))
    return torch.cat(parts, dim=axis) if len(parts) > 1 else x


def _head(x: Tensor, axis: int, count: int, mode: str) -> Tensor:
    """As much of x as its extension in front depends on, so that no more is turned around."""
    size = x.shape[axis]
    if count >= size:
        return x
    return x.narrow(axis, size - count, count) if mode == "periodic" else x.narrow(axis, 0, count + 1)


def _behind(x: Tensor, axis: int, count: int, mode: str) -> Tensor:
    """The count samples that follow x."""
    size = x.shape[axis]
    if mode == "zero":
        return x.new_zeros((*x.shape[:axis], count, *x.shape[axis + 1 :]))
    step, reach = _STEPS[mode]
    if size <= reach:
        step, reach = _edge, 0
    if step in (_edge, _line) or count <= size - reach:
        return step(x, axis, count)
    # One pass can reuse what is there at most once; a filter longer than the signal needs several.
    x = torch.cat([x, step(x, axis, size - reach)], dim=axis)
    rest = _behind(x, axis, count - (size - reach), mode)
    return torch.cat([x.narrow(axis, size, size - reach), rest], dim=axis)


def _edge(x: Tensor, axis: int, count: int) -> Tensor:
    shape = list(x.shape)
    shape[axis] = count
    return x.narrow(axis, x.shape[axis] - 1, 1).expand(shape)


def _line(x: Tensor, axis: int, count: int) -> Tensor:
    last = _edge(x, axis, 1)
    before = x.narrow(axis, x.shape[axis] - 2, 1)
    steps = torch.arange(1, count + 1, dtype=x.dtype, device=x.device)
    return last + (last - before) * steps.reshape(-1, *[1] * (x.ndim - axis - 1))


def _periodic(x: Tensor, axis: int, count: int) -> Tensor:
    return x.narrow(axis, 0, count)


def _symmetric(x: Tensor, axis: int, count: int) -> Tensor:
    return x.narrow(axis, x.shape[axis] - count, count).flip(axis)


def _reflect(x: Tensor, axis: int, count: int) -> Tensor:
    return x.narrow(axis, x.shape[axis] - 1 - count, count).flip(axis)


def _antisymmetric(x: Tensor, axis: int, count: int) -> Tensor:
    return -_symmetric(x, axis, count)


def _antireflect(x: Tensor, axis: int, count: int) -> Tensor:
    return 2 * x.narrow(axis, x.shape[axis] - 1, 1) - _reflect(x, axis, count)


_STEPS: dict[str, tuple[_Step, int]] = {
    "constant": (_edge, 0),
    "smooth": (_line, 1),
    "periodic": (_periodic, 0),
    "symmetric": (_symmetric, 0),
    "antisymmetric": (_antisymmetric, 0),
    "reflect": (_reflect, 1),
    "antireflect": (_antireflect, 1),
}
"""How each mode continues a signal, and how many of its samples (the mirror) it does not repeat."""
