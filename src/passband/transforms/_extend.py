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
    front, behind = edges(x, axis, before, after, mode)
    parts = [part for part in (front, x, behind) if part is not None]
    return torch.cat(parts, dim=axis) if len(parts) > 1 else x


def edges(x: Tensor, axis: int, before: int, after: int, mode: str) -> tuple[Tensor | None, Tensor | None]:
    """What `extend` adds in front and behind; None for no samples."""
    front = behind = None
    if before:
        front = _in_front(x, axis, before, mode)
    if after:
        behind = _behind(x, axis, after, mode)
    return front, behind


def retract_(x: Tensor, axis: int, front: Tensor | None, behind: Tensor | None, mode: str) -> None:
    """Adjoint of `edges`, added to x in place: each sample of an edge goes back to where it was taken from."""
    for edge, in_front in ((front, True), (behind, False)):
        if edge is None or mode == "zero":
            continue
        if edge.shape[axis] <= x.shape[axis] - _STEPS[mode][1] or mode in ("constant", "smooth"):
            _give_back(x, axis, edge, mode, in_front)
        else:  # an edge longer than the signal, which is its own continuation several times
            x.add_(_give_back_slowly(x, axis, edge, mode, in_front))


def _give_back(x: Tensor, axis: int, edge: Tensor, mode: str, in_front: bool) -> None:
    size, count = x.shape[axis], edge.shape[axis]

    def inner(start: int, length: int) -> Tensor:
        """Samples of x, counted from the end where the edge is."""
        return x.narrow(axis, start if in_front else size - start - length, length)

    if mode == "smooth" and size > 1:
        steps = torch.arange(1, count + 1, dtype=x.dtype, device=x.device).reshape(-1, *[1] * (x.ndim - axis - 1))
        slope = (edge * (steps.flip(0) if in_front else steps)).sum(axis, keepdim=True)
        inner(0, 1).add_(edge.sum(axis, keepdim=True)).add_(slope)
        inner(1, 1).sub_(slope)
    elif mode == "periodic":
        inner(size - count, count).add_(edge)
    elif mode in ("symmetric", "antisymmetric"):
        inner(0, count).add_(edge.flip(axis), alpha=1 if mode == "symmetric" else -1)
    elif mode in ("reflect", "antireflect") and size > 1:
        inner(1, count).add_(edge.flip(axis), alpha=1 if mode == "reflect" else -1)
        if mode == "antireflect":
            inner(0, 1).add_(edge.sum(axis, keepdim=True), alpha=2)
    else:
        inner(0, 1).add_(edge.sum(axis, keepdim=True))


def _give_back_slowly(x: Tensor, axis: int, edge: Tensor, mode: str, in_front: bool) -> Tensor:
    count = edge.shape[axis]
    with torch.enable_grad():
        source = torch.zeros_like(x, requires_grad=True)
        made = edges(source, axis, count if in_front else 0, 0 if in_front else count, mode)[0 if in_front else 1]
        assert made is not None
        return torch.autograd.grad(made, source, edge)[0]


def _in_front(x: Tensor, axis: int, count: int, mode: str) -> Tensor:
    """The count samples in front of x."""
    sign, start = {"symmetric": (1, 0), "antisymmetric": (-1, 0), "reflect": (1, 1)}.get(mode, (0, 0))
    if sign and count <= x.shape[axis] - start:
        mirrored = x.narrow(axis, start, count).flip(axis)
        return mirrored if sign > 0 else -mirrored
    return _behind(_head(x, axis, count, mode).flip(axis), axis, count, mode).flip(axis)


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
