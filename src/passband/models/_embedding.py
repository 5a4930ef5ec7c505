"""How a U-Net is told its noise level and its class."""

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from passband._numerics import compute_dtype, upcast
from passband.process.base import checkable

_MAX_PERIOD = 10_000.0


def waves(phases: Float[Tensor, "batch half"]) -> Float[Tensor, "batch channels"]:
    """Sines, then cosines. Published code makes cosines first, and swaps the halves."""
    return torch.cat([phases.sin(), phases.cos()], dim=1)


class PositionalEmbedding(nn.Module):
    """Waves at frequencies that fall geometrically from 1 to exactly 1 / 10,000, the last included.

    Args:
        channels: width of the embedding, even, at least 4.

    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.frequencies = channels // 2

    def forward(self, times: Float[Tensor, " batch"]) -> Float[Tensor, "batch channels"]:
        """The embedding, in at least float32."""
        dtype = compute_dtype(times)
        exponents = torch.arange(self.frequencies, dtype=dtype, device=times.device) / (self.frequencies - 1)
        return waves(times.to(dtype)[:, None] * (1 / _MAX_PERIOD) ** exponents)


class FourierEmbedding(nn.Module):
    """Waves at fixed random frequencies, normally distributed.

    Args:
        channels: width of the embedding, even.
        scale: standard deviation of the frequencies.

    """

    freqs: Tensor

    def __init__(self, channels: int, scale: float = 16.0) -> None:
        super().__init__()
        self.register_buffer("freqs", torch.randn(channels // 2) * scale)

    def forward(self, times: Float[Tensor, " batch"]) -> Float[Tensor, "batch channels"]:
        """The embedding, in at least float32."""
        times, freqs = upcast(times, self.freqs)
        return waves(times[:, None] * (2 * math.pi * freqs))


def class_vectors(labels: Shaped[Tensor, "..."] | None, batch: int, label_dim: int, like: Tensor) -> Tensor:
    """Class labels as (batch, label_dim) rows: one-hot for integers, zeros without labels.

    Raises:
        TypeError: if labels is no tensor.
        ValueError: if its shape is neither (batch,) nor (batch, label_dim), or an index on the CPU is out of range.

    """
    if labels is None:
        return like.new_zeros(batch, label_dim)
    if not isinstance(labels, Tensor):
        raise TypeError(f"class_labels must be a torch.Tensor, got {type(labels).__name__}; use torch.as_tensor")
    if label_dim == 0:
        raise ValueError("class_labels were given to a network without classes; build it with label_dim above 0")
    if labels.shape == (batch, label_dim):
        return labels.to(like)
    if labels.shape != (batch,) or labels.is_floating_point():
        raise ValueError(
            f"class_labels must be integers of shape ({batch},) or rows of shape ({batch}, {label_dim}), "
            f"got {labels.dtype} of shape {tuple(labels.shape)}"
        )
    if checkable(labels) and not bool(((labels >= 0) & (labels < label_dim)).all()):
        raise ValueError(
            f"class_labels must lie in 0 ... {label_dim - 1}, got values from {labels.min()} to {labels.max()}"
        )
    return (labels[:, None] == torch.arange(label_dim, device=labels.device)).to(like)


def augment_vectors(labels: Shaped[Tensor, "..."] | None, batch: int, augment_dim: int, like: Tensor) -> Tensor:
    """Augmentation labels as (batch, augment_dim) rows; zeros (an image as it is) without labels.

    Raises:
        TypeError: if labels is no tensor.
        ValueError: if its shape is not (batch, augment_dim).

    """
    if labels is None:
        return like.new_zeros(batch, augment_dim)
    if not isinstance(labels, Tensor):
        raise TypeError(f"augment_labels must be a torch.Tensor, got {type(labels).__name__}; use torch.as_tensor")
    if labels.shape != (batch, augment_dim):
        hint = "" if augment_dim else ", which has no augmentation input; build it with augment_dim above 0"
        raise ValueError(
            f"augment_labels must have shape ({batch}, {augment_dim}) for this network{hint}, got {tuple(labels.shape)}"
        )
    return labels.to(like)
