"""Perceptual distances: how far two images are apart in the features of a frozen network."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from passband._checks import check_floating, check_same_shape
from passband._numerics import no_autocast
from passband.models.efficientnet import PIXEL_MEAN, PIXEL_STD, STRIDE, EfficientNetBlocks, load_efficientnet_lite0

Distance = TypeVar("Distance", bound="PerceptualDistance")

_EPSILON = 1e-10


def unit_difference(
    a: Float[Tensor, "batch channels rows columns"], b: Float[Tensor, "batch channels rows columns"]
) -> Float[Tensor, "batch channels rows columns"]:
    r"""Squared difference of two maps whose vectors have been brought to length 1: $(a/|a| - b/|b|)^2$ per position.

    A vector of zeros stays one, with a gradient of zero through its length.

    Example:
        >>> import torch
        >>> from passband.models.perceptual import unit_difference
        >>> a, b = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1), torch.tensor([0.0, 7.0]).view(1, 2, 1, 1)
        >>> unit_difference(a, b).flatten()
        tensor([0.3600, 0.0400])

    Source:
        Zhang et al., arXiv:1801.03924, Section 3.

    """
    units = [x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + _EPSILON) for x in (a, b)]
    squares: Tensor = (units[0] - units[1]).square()
    return squares


class PerceptualDistance(nn.Module):
    """Base of the distances here: a frozen network in evaluation mode, through which gradients reach both images.

    A subclass gives `distance`, and calls `freeze` at the end of its constructor. It computes in its parameters' dtype
    (float32, unless converted), outside autocast.
    """

    @abstractmethod
    def distance(
        self, x: Float[Tensor, "batch 3 height width"], y: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, " batch"]:
        """The distance of images that have been checked."""

    def freeze(self: Distance) -> Distance:
        """No gradients for the parameters; evaluation mode."""
        return self.requires_grad_(False).eval()

    def train(self: Distance, mode: bool = True) -> Distance:
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(
        self, x: Float[Tensor, "batch channels height width"], y: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, " batch"]:
        """Distance of each pair of images in [-1, 1], gray or RGB.

        Raises:
            TypeError: if an image is not floating.
            ValueError: if the shapes differ, or are not (batch, 1 or 3, height, width).

        """
        check_floating("x", x)
        check_floating("y", y)
        check_same_shape("x", x, "y", y)
        if x.ndim != 4 or x.shape[1] not in (1, 3) or 0 in x.shape[2:]:
            raise ValueError(f"images must have shape (batch, 1 or 3, height, width), got {tuple(x.shape)}")
        dtype = next(self.parameters()).dtype
        with no_autocast(x):
            return self.distance(*(image.to(dtype).expand(-1, 3, -1, -1) for image in (x, y)))


class EfficientNetDistance(PerceptualDistance):
    r"""Distance in the features of EfficientNet-Lite0, whose ImageNet weights come with the extra `eval`.

    As LPIPS without its learned weights: $\frac{1}{L} \sum_l \frac{1}{H_l W_l} \sum_{hw} |\hat{y}^l_{hw} -
    \hat{x}^l_{hw}|^2$, the features of each position brought to length 1; so it lies in [0, 4]. Images with a side
    under 32 are enlarged until it has 32, bilinearly.

    It is no LPIPS: the numbers of the two cannot be compared.

    Args:
        blocks: whose features are compared, 0 … 15; by default the last one at each of the strides 2, 4, 8 and 16.

    Raises:
        MissingExtraError: if the wheels are not installed.
        ValueError: if a block does not exist.

    Example:
        >>> import torch
        >>> from passband.models import EfficientNetDistance
        >>> distance = EfficientNetDistance()
        >>> x = torch.zeros(2, 3, 32, 48)
        >>> distance(x, x)
        tensor([0., 0.])

    Source:
        Zhang et al., arXiv:1801.03924, for the distance; Tan & Le, arXiv:1905.11946, for the network.

    """

    def __init__(self, blocks: Sequence[int] = (0, 2, 4, 10)) -> None:
        super().__init__()
        self.features = EfficientNetBlocks(load_efficientnet_lite0()[0], blocks)
        self.freeze()

    def distance(
        self, x: Float[Tensor, "batch 3 height width"], y: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, " batch"]:
        """The mean over the blocks."""
        pairs = zip(self.features(_input(x)), self.features(_input(y)), strict=True)
        distances = [unit_difference(a, b).sum(1).mean((1, 2)) for a, b in pairs]
        return torch.stack(distances).mean(0)


def _input(x: Tensor) -> Tensor:
    short = min(x.shape[2:])
    if short < STRIDE:
        size = [round(side * STRIDE / short) for side in x.shape[2:]]
        x = functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
    return ((x + 1) * 127.5 - PIXEL_MEAN) / PIXEL_STD
