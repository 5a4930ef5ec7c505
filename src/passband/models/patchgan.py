"""PatchGAN: a discriminator that judges overlapping patches, with its hinge losses and the weight of its gradient."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from passband._checks import check_choice, check_floating, check_integer
from passband._numerics import upcast

_KERNEL, _SLOPE, _INIT_STD, _WIDEST = 4, 0.2, 0.02, 8
_NORMS = ("batch", "group", "none")


class PatchGAN(nn.Module):
    r"""Discriminator of pix2pix: a stack of 4x4 convolutions whose output judges one patch of the image each.

    `layers` convolutions of stride 2 and one of stride 1, each with a norm (not the first) and a leaky ReLU of slope
    0.2, then one convolution to one channel. Widths double, up to 8 times `base_channels`. A patch is 70 pixels wide
    with 3 layers, 34 with 2, 16 with 1; the smallest side of an image is $3 \cdot 2^{layers}$. State-dict names are
    those of pix2pix and taming-transformers.

    Weights begin as N(0, 0.02²), the norms' scales as N(1, 0.02²), biases at 0.

    The batch norm mixes the images of a batch: its outputs, alone of the three, depend on how a batch is divided among
    processes.

    Args:
        in_channels: channels of the image.
        base_channels: width of the first convolution.
        layers: convolutions of stride 2, at least 1.
        norm: `batch`, `group` (up to 32 groups of 4 channels or more) or `none`.

    Raises:
        TypeError: if a number is no integer.
        ValueError: if an option is out of range.

    Example:
        >>> import torch
        >>> from passband.models import PatchGAN
        >>> network = PatchGAN(base_channels=8)
        >>> network(torch.zeros(2, 3, 64, 64)).shape, network.patch_size
        (torch.Size([2, 1, 6, 6]), 70)

    Source:
        Isola et al., arXiv:1611.07004, Section 3.2.2 and Appendix 6.1.2.

    """

    def __init__(self, in_channels: int = 3, base_channels: int = 64, layers: int = 3, norm: str = "batch") -> None:
        super().__init__()
        for name, value in (("in_channels", in_channels), ("base_channels", base_channels), ("layers", layers)):
            check_integer(name, value)
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        check_choice("norm", norm, _NORMS)
        self.in_channels, self.layers = in_channels, layers
        widths = [base_channels * min(2**i, _WIDEST) for i in range(layers + 1)]
        parts: list[nn.Module] = [_convolution(in_channels, widths[0], 2), nn.LeakyReLU(_SLOPE)]
        for i in range(1, layers + 1):
            stride = 2 if i < layers else 1
            # The batch norm brings a bias of its own.
            parts.append(_convolution(widths[i - 1], widths[i], stride, bias=norm != "batch"))
            if norm != "none":
                parts.append(nn.BatchNorm2d(widths[i]) if norm == "batch" else _group_norm(widths[i]))
            parts.append(nn.LeakyReLU(_SLOPE))
        self.main = nn.Sequential(*parts, _convolution(widths[-1], 1, 1))
        self.apply(_initialise)

    @property
    def patch_size(self) -> int:
        """Side of the patch that one value of the output sees."""
        size = 1
        for stride in (1, 1, *(2,) * self.layers):
            size = (size - 1) * stride + _KERNEL
        return size

    @property
    def min_size(self) -> int:
        """Smallest side of an image."""
        return 3 << self.layers

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch 1 rows columns"]:
        """One logit per patch: high where it looks real.

        Raises:
            TypeError: if x is not floating.
            ValueError: if x is no batch of images of this network's channels, or too small for its layers.

        """
        check_floating("x", x)
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"x must have shape (batch, {self.in_channels}, height, width), got {tuple(x.shape)}")
        if (side := min(x.shape[2:])) < self.min_size:
            fitting = (side // 3).bit_length() - 1
            advice = (
                f"give layers={fitting}" if fitting > 0 else "give larger images (6 pixels are enough for layers=1)"
            )
            raise ValueError(
                f"a PatchGAN of {self.layers} layers needs sides of {self.min_size} pixels or more, "
                f"got {x.shape[2]}x{x.shape[3]}; {advice}"
            )
        result: Tensor = self.main(x)
        return result


def hinge_discriminator_loss(real: Float[Tensor, "..."], fake: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    r"""$\frac{1}{2} \left( \overline{\max(0, 1 - D(x))} + \overline{\max(0, 1 + D(\hat{x}))} \right)$, in float32.

    Args:
        real: the discriminator's logits of real images.
        fake: of made ones; give it these detached.

    Returns:
        The mean, a scalar: 1 where all logits are 0.

    Raises:
        TypeError: if the logits are not floating.

    Example:
        >>> import torch
        >>> from passband.models import hinge_discriminator_loss
        >>> hinge_discriminator_loss(torch.tensor([0.0, 2.0]), torch.tensor([-3.0, 0.5]))
        tensor(0.6250)

    Source:
        Lim & Ye, arXiv:1705.02894; halved as in Esser et al., arXiv:2012.09841 (taming-transformers).

    """
    check_floating("real", real)
    check_floating("fake", fake)
    real, fake = upcast(real, fake)
    return 0.5 * (functional.relu(1 - real).mean() + functional.relu(1 + fake).mean())


def generator_loss(fake: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    r"""$-\overline{D(\hat{x})}$, in float32: what the maker of images lowers.

    Args:
        fake: the discriminator's logits of made images, not detached.

    Returns:
        Minus the mean, a scalar.

    Raises:
        TypeError: if the logits are not floating.

    Example:
        >>> import torch
        >>> from passband.models import generator_loss
        >>> generator_loss(torch.tensor([1.0, 2.0]))
        tensor(-1.5000)

    """
    check_floating("fake", fake)
    (fake,) = upcast(fake)
    return -fake.mean()


def adaptive_weight(
    base_gradient: Float[Tensor, "*shape"],
    adversarial_gradient: Float[Tensor, "*shape"],
    *,
    epsilon: float = 1e-4,
    limit: float = 1e4,
) -> Float[Tensor, ""]:
    r"""$\frac{|g|}{|g_a| + \epsilon}$: makes the adversarial gradient as large as the base loss's, at the last layer.

    Args:
        base_gradient: gradient of the reconstruction loss with respect to the weights of the decoder's last layer.
        adversarial_gradient: that of the adversarial loss.
        epsilon: keeps the weight finite.
        limit: the weight is cut to [0, limit].

    Returns:
        The weight, a detached scalar in float32 on the gradients' device.

    Raises:
        TypeError: if a gradient is not floating.

    Example:
        >>> import torch
        >>> from passband.models import adaptive_weight
        >>> adaptive_weight(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 2.0]), epsilon=0.0)
        tensor(2.5000)

    Source:
        Esser et al., arXiv:2012.09841, Eq. 7, with the constants of taming-transformers.

    """
    check_floating("base_gradient", base_gradient)
    check_floating("adversarial_gradient", adversarial_gradient)
    base, adversarial = upcast(base_gradient.detach(), adversarial_gradient.detach())
    weight = torch.linalg.vector_norm(base) / (torch.linalg.vector_norm(adversarial) + epsilon)
    clamped: Tensor = weight.clamp(0.0, limit)
    return clamped


def _convolution(inputs: int, outputs: int, stride: int, *, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, _KERNEL, stride, padding=1, bias=bias)


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(channels, max(1, min(32, channels // 4))), channels)


def _initialise(module: Any) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, _INIT_STD)
    elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
        nn.init.normal_(module.weight, 1.0, _INIT_STD)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
