"""Resampling by 2 with a separable filter, alone and in front of (or behind) a convolution."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

Direction = Literal["up", "down"]


def resample_kernel(taps: Sequence[float]) -> Float[Tensor, "1 1 size size"]:
    """The outer product of a filter's taps with itself, of sum 1."""
    # On the CPU first: the meta device would load PyTorch's compiler for these few numbers.
    line = torch.as_tensor(taps, dtype=torch.float32, device="cpu")
    return (line.outer(line) / line.sum().square())[None, None].to(torch.get_default_device())


def downsample(
    x: Float[Tensor, "batch channels height width"], kernel: Float[Tensor, "1 1 size size"], padding: int
) -> Float[Tensor, "batch channels half_height half_width"]:
    """Filter and keep every second pixel; zeros beyond the border."""
    weight = kernel.to(x.dtype).expand(x.shape[1], -1, -1, -1)
    return functional.conv2d(x, weight, stride=2, padding=padding, groups=x.shape[1])


def upsample(
    x: Float[Tensor, "batch channels height width"], kernel: Float[Tensor, "1 1 size size"], padding: int
) -> Float[Tensor, "batch channels double_height double_width"]:
    """Zeros between the pixels, then the filter with gain 4; zeros beyond the border."""
    weight = (4 * kernel).to(x.dtype).expand(x.shape[1], -1, -1, -1)
    return functional.conv_transpose2d(x, weight, stride=2, padding=padding, groups=x.shape[1])


class Resample(nn.Module):
    """Resampling alone.

    Args:
        taps: the filter, of even length.
        direction: `up` or `down`.

    """

    resample_filter: Tensor

    def __init__(self, taps: Sequence[float], direction: Direction) -> None:
        super().__init__()
        self.direction = direction
        self.padding = (len(taps) - 1) // 2
        self.register_buffer("resample_filter", resample_kernel(taps))

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels rows columns"]:
        """Half or double the sides."""
        resample = upsample if self.direction == "up" else downsample
        return resample(x, self.resample_filter, self.padding)


class ResampledConv2d(nn.Conv2d):
    """A convolution of the resampled input.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: side of the convolution's kernel, odd.
        taps: the resampling filter, of even length.
        direction: `up` or `down`.

    """

    resample_filter: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, taps: Sequence[float], direction: Direction
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.direction = direction
        self.filter_padding = (len(taps) - 1) // 2
        self.register_buffer("resample_filter", resample_kernel(taps))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (nn.Conv2d's name)
        """Resample, then convolve."""
        resample = upsample if self.direction == "up" else downsample
        return super().forward(resample(input, self.resample_filter, self.filter_padding))


class DownsampledConv2d(nn.Conv2d):
    """A convolution whose output is downsampled; both are padded at once, so borders differ from the other order.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: side of the convolution's kernel, odd.
        taps: the resampling filter, of even length.

    """

    resample_filter: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, taps: Sequence[float]) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2 + (len(taps) - 1) // 2)
        self.register_buffer("resample_filter", resample_kernel(taps))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (nn.Conv2d's name)
        """Convolve, then downsample."""
        return downsample(super().forward(input), self.resample_filter, padding=0)
