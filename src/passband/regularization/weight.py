"""Weights: how strongly the spectral term counts beside the base loss."""

import math
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from passband._checks import check_number
from passband._numerics import upcast
from passband.process import Process, Time
from passband.regularization.loss import PerSample


@runtime_checkable
class Weight(Protocol):
    """Weighs the per-sample values of the spectral term."""

    def __call__(
        self, values: PerSample, *, process: Process, t: Time, pred: Tensor, base_loss: Tensor | None
    ) -> PerSample:
        """Return the weighted values."""
        ...


class ConstantWeight:
    """The same number for all samples (the paper's *unweighted* term).

    Args:
        value: lambda, finite and at least 0.

    Raises:
        TypeError, ValueError: if value is no such number.

    """

    def __init__(self, value: float) -> None:
        self.value = _checked("weight", value)

    def __call__(
        self, values: PerSample, *, process: Process, t: Time, pred: Tensor, base_loss: Tensor | None
    ) -> PerSample:
        """Return value times the values."""
        return self.value * values

    def __repr__(self) -> str:
        return f"ConstantWeight({self.value})"


class EDMWeight:
    r"""A number times EDM's $\lambda(r) = (r^2 + \sigma_d^2) / (r \sigma_d)^2$ (the paper's *weighted* term).

    0 at r = 0, where EDM's weight is infinite and the clean estimate of every prediction but `sample` exact.
    """

    def __init__(self, value: float = 1.0) -> None:
        self.value = _checked("weight", value)

    def __call__(
        self, values: PerSample, *, process: Process, t: Time, pred: Tensor, base_loss: Tensor | None
    ) -> PerSample:
        """Return the values times EDM's weight at their noise ratio."""
        weight = process.edm_weight(t).reshape(-1).to(values.device, values.dtype)
        # Infinity times the term's 0 would be NaN.
        return self.value * weight.masked_fill(weight.isinf(), 0.0) * values

    def __repr__(self) -> str:
        return f"EDMWeight({self.value})"


class GradientShare:
    r"""Keep the term's gradient at a stated share of the base loss's, both taken at the network's output.

    $\lambda = s\, \|\nabla_p L\| / \|\nabla_p L_S\|$, held constant in the gradient and 0 where the term has none. It
    costs one more backward through each loss (not through the network, but for the further calls of a clean estimate by
    several updates). With several processes, each takes the share of its own batch.

    Args:
        share: the share s, e.g. 0.1.

    Raises:
        ValueError: if share is not positive and finite; when called, if base_loss is missing or does not depend on
            pred.

    """

    def __init__(self, share: float) -> None:
        check_number("share", share)
        if not 0 < share < math.inf:
            raise ValueError(f"share must be positive and finite, got {share}")
        self.share = share

    def __call__(
        self, values: PerSample, *, process: Process, t: Time, pred: Tensor, base_loss: Tensor | None
    ) -> PerSample:
        """Return the values times the weight that gives their mean the stated share of base_loss's gradient."""
        if base_loss is None:
            raise ValueError(
                "a weight by gradient share needs the base loss: call the regularizer with base_loss=loss (a scalar)"
            )
        if not pred.requires_grad:
            return self.share * values  # Evaluation: there are no gradients to compare.
        base = _gradient_norm("base_loss", base_loss, pred)
        term = _gradient_norm("the spectral term", values.mean(), pred)
        # 0 / 0 would be NaN where the term is switched off for the whole batch.
        weight = torch.where(term > 0, self.share * base / term.masked_fill(term == 0, 1.0), 0.0)
        return weight.to(values.dtype) * values

    def __repr__(self) -> str:
        return f"GradientShare({self.share})"


def _gradient_norm(name: str, loss: Tensor, pred: Tensor) -> Tensor:
    if not isinstance(loss, Tensor):
        raise TypeError(f"{name} must be a scalar tensor, got {type(loss).__name__}; pass the loss before .item()")
    if loss.ndim != 0:
        raise ValueError(f"{name} must be a scalar, got shape {tuple(loss.shape)}; reduce it with .mean()")
    gradient = None
    if loss.requires_grad:
        scale = torch.full_like(loss, _half_scale(pred))
        (gradient,) = torch.autograd.grad(loss, pred, scale, retain_graph=True, allow_unused=True)
    if gradient is None:
        raise ValueError(f"{name} does not depend on pred: compute it from the same network output, with gradients on")
    (gradient,) = upcast(gradient.detach())
    norm: Tensor = gradient.norm()
    return norm


def _half_scale(pred: Tensor) -> float:
    """What keeps the gradient of a mean over many elements above float16's smallest numbers; common to both losses."""
    return min(max(pred.numel() / 256, 1.0), 2.0**15) if pred.dtype == torch.float16 else 1.0


def _checked(name: str, value: float) -> float:
    check_number(name, value)
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a finite number of at least 0, got {value}")
    return float(value)
