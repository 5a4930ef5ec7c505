"""What the drop-ins for trainers share: a regularizer from plain values, masks, factors of samples, frames."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from passband._numerics import upcast
from passband.regularization import SpectralLoss, SpectralRegularizer

TermLike = SpectralRegularizer | Mapping[str, Any]
"""The term of a drop-in: a regularizer, or its arguments in plain values."""


def as_regularizer(regularizer: TermLike) -> SpectralRegularizer:
    """A regularizer, of its arguments in plain values where it is not one already."""
    if isinstance(regularizer, SpectralRegularizer):
        return regularizer
    if isinstance(regularizer, Mapping) and "loss" in regularizer:
        return SpectralRegularizer(**regularizer)
    raise TypeError(
        "regularizer must be a SpectralRegularizer or its arguments as a mapping such as "
        f"{{'loss': 'wavelet', 'weight': 0.01}}, got {regularizer!r}"
    )


def of_one_output(regularizer: TermLike) -> SpectralRegularizer:
    """The same, for a host that calls its network once: refuse a clean estimate that calls it again."""
    found = as_regularizer(regularizer)
    if found.needs_denoiser:
        raise ValueError(
            f"{found.clean_estimate!r} calls the network again, and the host's loss calls it once: leave "
            "clean_estimate at its default, or write the step yourself and pass denoiser="
        )
    return found


def masked_target(pred: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
    """The target where the mask is 1, the prediction itself where it is 0: the residual times the mask.

    The prediction stays the tensor that the base loss was made of, which a weight by gradient share needs.
    """
    if mask is None:
        return target
    pred, target = upcast(pred, target)
    return target + (1 - mask.to(pred.device, pred.dtype)) * (pred - target)


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


def by_frames(regularizer: SpectralRegularizer, per_frame: bool) -> SpectralRegularizer:
    """The same regularizer, whose loss takes a video's frames apart: all, or a single one, which is an image."""
    loss = FramesLoss(regularizer.loss, per_frame)
    return SpectralRegularizer(loss, regularizer.weight, regularizer.gate, regularizer.clean_estimate)


class FramesLoss(SpectralLoss):
    """The mean of a loss over the frames of (batch, channels, frames, height, width); of images, the loss.

    Args:
        loss: a loss.
        per_frame: take frames apart; otherwise several frames are one volume.

    """

    def __init__(self, loss: SpectralLoss, per_frame: bool) -> None:
        super().__init__()
        self.loss, self.per_frame = loss, per_frame

    def forward(self, estimate: Tensor, clean: Tensor) -> Tensor:
        """Return the loss of each sample, (batch,)."""
        if estimate.ndim == 5 and (self.per_frame or estimate.shape[2] == 1):
            frames: Tensor = self.loss(*(field.transpose(1, 2).flatten(0, 1) for field in (estimate, clean)))
            return frames.reshape(len(estimate), -1).mean(1)
        whole: Tensor = self.loss(estimate, clean)
        return whole

    def terms(self) -> Iterator[tuple[str, float, SpectralLoss]]:
        """The inner loss's terms, each by frames."""
        for name, weight, term in self.loss.terms():
            yield name, weight, FramesLoss(term, self.per_frame)

    @property
    def of_difference(self) -> bool:
        """As the inner loss."""
        return self.loss.of_difference
