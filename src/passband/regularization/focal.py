"""Focal frequency loss."""

from functools import partial

import torch
from torch import Tensor

from passband._checks import check_number
from passband.regularization._gradient import with_gradient
from passband.regularization._inputs import check_spectral_pair, spectrum_mean
from passband.regularization.kernels.focal import focal
from passband.regularization.loss import Field, PerSample, SpectralLoss
from passband.transforms import rfftn


def focal_frequency_loss(estimate: Field, clean: Field, alpha: float = 1.0) -> PerSample:
    r"""Squared spectral difference, weighted by its own size: $\text{mean}\, w\, |F\hat x_0 - F x_0|^2$.

    $w = (|F\hat x_0 - F x_0| / \max |F\hat x_0 - F x_0|)^\alpha$ with the maximum of each channel's plane; w is held
    constant in the gradient, and 0 where the two are equal. At alpha = 0 it is the mean squared error, by Parseval.

    Args:
        estimate: clean estimate, (batch, channels, \*spatial), 1 to 3 spatial axes.
        clean: clean sample, of the same shape.
        alpha: how sharply the loss focuses, at least 0.

    Returns:
        One value per sample, (batch,): the mean over channels and frequencies.

    Raises:
        TypeError: if an input is not floating.
        ValueError: if shapes differ or have no spatial axes, or if alpha is negative.

    Example:
        >>> import torch
        >>> from passband.regularization import focal_frequency_loss
        >>> x, y = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
        >>> mse = (x - y).square().mean((1, 2, 3))
        >>> torch.allclose(focal_frequency_loss(x, y, alpha=0.0), mse)
        True

    Source: Jiang et al. 2021 (ICCV, arXiv:2012.12821), Eq. 8 and 9.
    """
    check_number("alpha", alpha)
    if not alpha >= 0:
        raise ValueError(f"alpha must be at least 0, got {alpha}")
    check_spectral_pair(estimate, clean)
    return with_gradient(partial(_focal, alpha=alpha), partial(focal, alpha=alpha), estimate, clean)


def _focal(estimate: Tensor, clean: Tensor, alpha: float) -> PerSample:
    difference = torch.view_as_real(rfftn(estimate - clean))
    power = difference.square().sum(-1)
    size = power.detach().sqrt()
    largest = size.flatten(2).amax(-1).reshape(*size.shape[:2], *(1,) * (size.ndim - 2))
    # Over a largest difference of 0 the weight would be 0 / 0; the power is 0 there too.
    weight = (size / largest.masked_fill(largest == 0, 1.0)) ** alpha
    return spectrum_mean(weight * power, clean.shape[2:])


class FocalFrequencyLoss(SpectralLoss):
    """[`focal_frequency_loss`][passband.regularization.focal_frequency_loss] as a module.

    Args:
        alpha: how sharply the loss focuses, at least 0.

    Raises:
        ValueError: if alpha is negative.

    Example:
        >>> import torch
        >>> from passband import FocalFrequencyLoss
        >>> FocalFrequencyLoss(alpha=2.0)(torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)).shape
        torch.Size([2])

    """

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        check_number("alpha", alpha)
        if not alpha >= 0:
            raise ValueError(f"alpha must be at least 0, got {alpha}")
        self.alpha = alpha

    @property
    def name(self) -> str:
        """`focal_frequency`."""
        return "focal_frequency"

    def forward(self, estimate: Field, clean: Field) -> PerSample:
        """Return [`focal_frequency_loss`][passband.regularization.focal_frequency_loss]."""
        return focal_frequency_loss(estimate, clean, self.alpha)

    def extra_repr(self) -> str:
        """Options, for the text of the module."""
        return f"alpha={self.alpha}"
