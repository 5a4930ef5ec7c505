"""What the drop-ins for trainers share: a regularizer from plain values, masked residuals, factors of samples."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from passband.regularization import SpectralRegularizer


def as_regularizer(regularizer: SpectralRegularizer | Mapping[str, Any]) -> SpectralRegularizer:
    """A regularizer, of its arguments in plain values where it is not one already."""
    if isinstance(regularizer, SpectralRegularizer):
        return regularizer
    if isinstance(regularizer, Mapping) and "loss" in regularizer:
        return SpectralRegularizer(**regularizer)
    raise TypeError(
        "regularizer must be a SpectralRegularizer or its arguments as a mapping such as "
        f"{{'loss': 'wavelet', 'weight': 0.01}}, got {regularizer!r}"
    )


def masked(pred: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
    """The prediction where the mask is 1, the target where it is 0: there the residual, and its gradient, is 0."""
    if mask is None:
        return pred
    return target.to(pred.dtype) + mask.to(pred.device, pred.dtype) * (pred - target)


def factors(*weights: Tensor | None) -> Tensor | None:
    """The product of the factors of each sample that are there, (batch,); one value per sample, whatever the shape."""
    found: Tensor | None = None
    for weight in weights:
        if weight is not None:
            each = weight.flatten(1).mean(1) if weight.ndim > 1 else weight
            found = each if found is None else found * each.to(found.device)
    return found


def as_shaped(clean: Tensor, pred: Tensor) -> Tensor:
    """The clean sample without the single-frame axis that some caches keep and the prediction has lost."""
    return clean.squeeze(2) if clean.ndim == pred.ndim + 1 and clean.shape[2] == 1 else clean
