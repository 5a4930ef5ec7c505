"""Losses whose gradient is written by hand: computed with the value, and kept instead of what led to it."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from passband._backend import by_hand
from passband._numerics import no_autocast, upcast
from passband.regularization._held import hold, zero_of
from passband.regularization.loss import PerSample


class Gradient(NamedTuple):
    """The gradient of per-sample values, each in its own sample.

    Attributes:
        kept: of the estimate's shape; it is kept in the estimate's dtype.
        scale: a number to multiply by at the end, so that what is kept is of order 1 (halves underflow at 6e-8).

    """

    kept: Tensor
    scale: float = 1.0


Plain = Callable[[Tensor, Tensor], PerSample]
"""The formula, (estimate, clean) -> (batch,), by operations that autograd knows."""

ByHand = Callable[[Tensor, Tensor, bool], tuple[PerSample, Gradient | None]]
"""The same value, and the gradient in the estimate if the flag asks for it; called without autograd."""


def with_gradient(
    plain: Plain, hand: ByHand, estimate: Tensor, clean: Tensor, piecewise_linear: bool = False
) -> PerSample:
    """Return a loss's values, of which autograd gets the gradient that `hand` computes with them.

    Both functions get the fields in their compute dtype, outside autocast. The plain one runs where autograd alone can
    answer: where the clean sample needs a gradient, second derivatives, `torch.func`, forward mode, compiled code.

    Args:
        plain: the formula.
        hand: values and gradient.
        estimate: checked clean estimate, in the dtype it came in.
        clean: checked clean sample.
        piecewise_linear: the second derivative in the estimate is 0, so the inputs need not be at hand for it.

    """
    track = torch.is_grad_enabled()
    if not by_hand(estimate, clean) or (track and clean.requires_grad):
        return _upcast_call(plain, estimate, clean)
    if not (track and estimate.requires_grad):
        return _upcast_call(lambda x, y: hand(x, y, False)[0], estimate, clean)
    values = _WithGradient.apply(estimate, clean, plain, hand, piecewise_linear)  # type: ignore[no-untyped-call]
    return cast(Tensor, values)


def _upcast_call(function: Plain, estimate: Tensor, clean: Tensor) -> PerSample:
    with no_autocast(clean):
        x, y = upcast(estimate, clean)
        return function(x, y)


class _WithGradient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, estimate: Tensor, clean: Tensor, plain: Plain, hand: ByHand, piecewise_linear: bool
    ) -> Tensor:
        with no_autocast(clean):
            x, y = upcast(estimate, clean)
            values, gradient = hand(x, y, True)
        assert gradient is not None
        ctx.save_for_backward(gradient.kept.to(estimate.dtype))
        ctx.plain, ctx.scale = plain, gradient.scale
        # For second derivatives alone, and by a node of their own, so that others do not touch them.
        ctx.zero, ctx.inputs = (zero_of(estimate), None) if piecewise_linear else (None, hold(estimate, clean))
        return values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled() and ctx.inputs is not None:
            estimate, clean = ctx.inputs.saved_tensors
            return _again(ctx.plain, estimate, clean, grad), None, None, None, None
        (kept,) = ctx.saved_tensors
        factors = (grad * ctx.scale).view(-1, *(1,) * (kept.ndim - 1))
        if torch.is_grad_enabled():
            factors = factors + ctx.zero
        return (kept * factors).to(kept.dtype), None, None, None, None


def _again(plain: Plain, estimate: Tensor, clean: Tensor, grad: Tensor) -> Tensor:
    """The gradient with a graph of its own, by the formula."""
    values = _upcast_call(plain, estimate, clean)
    (gradient,) = torch.autograd.grad(values, estimate, grad, create_graph=True)
    return gradient
