"""Plain L1 on the clean estimate: the control that tells a spectral effect from one of weighting."""

import math

from torch import Tensor

from passband.regularization._gradient import Gradient, with_gradient
from passband.regularization._inputs import check_pair
from passband.regularization.loss import Field, PerSample, SpectralLoss


def pixel_loss(estimate: Field, clean: Field) -> PerSample:
    r"""Mean absolute difference in pixel (sample) space, $\text{mean}\, |\hat x_0 - x_0|$.

    A loss on the clean estimate also re-weights noise levels, whatever domain it is taken in. A spectral loss that is
    not better than this one at the same weight owes its gain to that.

    Args:
        estimate: clean estimate, (batch, channels, \*spatial), 1 to 3 spatial axes.
        clean: clean sample, of the same shape.

    Returns:
        One value per sample, (batch,).

    Raises:
        TypeError: if an input is not floating.
        ValueError: if shapes differ or have no spatial axes.

    Example:
        >>> import torch
        >>> from passband.regularization import pixel_loss
        >>> pixel_loss(torch.zeros(1, 1, 4), torch.full((1, 1, 4), 0.5)).item()
        0.5

    """
    check_pair(estimate, clean)
    return with_gradient(_plain, _by_hand, estimate, clean, piecewise_linear=True)


def _plain(estimate: Tensor, clean: Tensor) -> PerSample:
    return (estimate - clean).abs().flatten(1).mean(1)


def _by_hand(estimate: Tensor, clean: Tensor, wanted: bool) -> tuple[PerSample, Gradient | None]:
    difference = estimate - clean
    values = difference.abs().flatten(1).mean(1)
    # Signs as floating numbers: integers keep a quarter of the bytes, and cost more time to make and to multiply.
    return values, Gradient(difference.sign_(), 1 / math.prod(clean.shape[1:])) if wanted else None


class PixelLoss(SpectralLoss):
    """[`pixel_loss`][passband.regularization.pixel_loss] as a module.

    Example:
        >>> import torch
        >>> from passband.regularization import PixelLoss
        >>> PixelLoss()(torch.zeros(2, 1, 4), torch.ones(2, 1, 4)).tolist()
        [1.0, 1.0]

    """

    @property
    def of_difference(self) -> bool:
        """True."""
        return True

    def forward(self, estimate: Field, clean: Field) -> PerSample:
        """Return [`pixel_loss`][passband.regularization.pixel_loss]."""
        return pixel_loss(estimate, clean)
