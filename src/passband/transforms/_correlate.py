"""Correlation with a bank of short filters along one axis, and its adjoint.

Both are linear, so each is the other's derivative and nothing is kept for the backward pass. They are sums of shifted
views: for these filters that is several times faster on the CPU than a convolution and its transpose, and on a GPU it
stays in full float32, where a convolution rounds to TF32 by default. Every other sample of an axis whose samples lie
side by side in memory is slow to reach, so that such an axis is first taken apart into its even and odd samples.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

Bank = tuple[tuple[float, ...], ...]


class _Plan(NamedTuple):
    bank: Bank
    axis: int
    stride: int
    dilation: int

    def outputs(self, size: int) -> int:
        return (size - self.dilation * (len(self.bank[0]) - 1) - 1) // self.stride + 1

    def inputs(self, count: int) -> int:
        return self.stride * (count - 1) + self.dilation * (len(self.bank[0]) - 1) + 1

    def tap(self, x: Tensor, k: int, count: int) -> Tensor:
        """The samples of x that tap k meets, as a view."""
        window = x.narrow(self.axis, self.dilation * k, self.stride * (count - 1) + 1)
        return window if self.stride == 1 else window[(slice(None),) * self.axis + (slice(None, None, self.stride),)]

    def apart(self, x: Tensor) -> bool:
        """Whether even and odd samples are to be put apart."""
        return self.stride == 2 and self.dilation == 1 and self.axis == x.ndim - 1 and len(self.bank[0]) > 2


def correlate(x: Tensor, bank: Bank, axis: int, stride: int = 1, dilation: int = 1) -> tuple[Tensor, ...]:
    r"""$y_j(i) = \sum_k f_j(k)\, x(s i + d k)$ along one axis, for each filter $f_j$ of the bank (of one length)."""
    return cast(
        tuple[Tensor, ...],
        _Correlate.apply(x, _Plan(bank, axis, stride, dilation)),  # type: ignore[no-untyped-call]
    )


def scatter(parts: Sequence[Tensor], bank: Bank, axis: int, stride: int = 1, dilation: int = 1) -> Tensor:
    r"""Adjoint of one or two parts: $x(s i + d k) = \sum_j f_j(k)\, y_j(i)$, of length $s (n - 1) + d (L - 1) + 1$."""
    first, second = (*parts, None)[:2]
    plan = _Plan(bank, axis, stride, dilation)
    return cast(Tensor, _Scatter.apply(first, second, plan))  # type: ignore[no-untyped-call]


def fold(x: Tensor, axis: int, period: int, offset: int) -> Tensor:
    r"""Wrap an axis around a circle: $y(t) = \sum_m x(t + offset + m \cdot period)$."""
    missing = -x.shape[axis] % period
    if missing:
        filler = x.new_zeros((*x.shape[:axis], missing, *x.shape[axis + 1 :]))
        x = torch.cat([x, filler], dim=axis)
    turns = x.reshape(*x.shape[:axis], x.shape[axis] // period, period, *x.shape[axis + 1 :])
    return turns.sum(axis).roll(-offset, axis)


class _Correlate(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, plan: _Plan) -> tuple[Tensor, ...]:
        count = plan.outputs(x.shape[plan.axis])
        if plan.apart(x):
            phases = [x[..., phase::2].contiguous() for phase in (0, 1)]
            views = [phases[k % 2].narrow(plan.axis, k // 2, count) for k in range(len(plan.bank[0]))]
        else:
            views = [plan.tap(x, k, count) for k in range(len(plan.bank[0]))]
        return tuple(_weighted_sum(views, taps) for taps in plan.bank)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG004
        ctx.plan = inputs[1]
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, None]:
        plan: _Plan = ctx.plan
        used = [(taps, grad) for taps, grad in zip(plan.bank, grads, strict=True) if grad is not None]
        if not used:
            return None, None
        bank, parts = zip(*used, strict=True)
        return scatter(parts, bank, *plan[1:]), None


class _Scatter(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(first: Tensor, second: Tensor | None, plan: _Plan) -> Tensor:
        axis, count = plan.axis, first.shape[plan.axis]
        size = plan.inputs(count)
        apart = plan.apart(first)
        if apart:
            phases = first.new_zeros((2, *first.shape[:axis], (size + 1) // 2))
            views = [phases[k % 2].narrow(axis, k // 2, count) for k in range(len(plan.bank[0]))]
        else:
            x = first.new_zeros((*first.shape[:axis], size, *first.shape[axis + 1 :]))
            views = [plan.tap(x, k, count) for k in range(len(plan.bank[0]))]
        for taps, part in zip(plan.bank, (first,) if second is None else (first, second), strict=True):
            for view, tap in zip(views, taps, strict=True):
                if tap != 0:
                    view.add_(part, alpha=tap)
        if apart:
            x = phases.movedim(0, -1).reshape(*first.shape[:axis], 2 * phases.shape[-1]).narrow(axis, 0, size)
        return x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG004
        ctx.plan = inputs[2]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        first, second = (*correlate(grad, *ctx.plan), None)[:2]
        return first, second, None


def _weighted_sum(views: Sequence[Tensor], taps: tuple[float, ...]) -> Tensor:
    (first, weight), *others = [(view, tap) for view, tap in zip(views, taps, strict=True) if tap != 0]
    total = first * weight
    for view, tap in others:
        total.add_(view, alpha=tap)
    return total
