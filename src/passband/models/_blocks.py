"""The residual block of EDM's U-Net, with self-attention at some resolutions."""

import math
from collections.abc import Sequence
from typing import TypeVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from passband.models._resample import Direction, ResampledConv2d

_GROUPS, _GROUP_SIZE, _EPSILON = 32, 4, 1e-6
#: What keeps the variance of the sum of two branches.
SKIP_SCALE = math.sqrt(0.5)
#: Gains of the initial weights: almost nothing for a branch's last layer, little for attention.
ZERO_GAIN, ATTENTION_GAIN = 1e-5, math.sqrt(0.2)

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def initialised(layer: Layer, gain: float = 1.0) -> Layer:
    """The layer with Xavier-uniform weights times gain, and biases of 0."""
    nn.init.xavier_uniform_(layer.weight, gain=gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def group_norm(channels: int) -> nn.GroupNorm:
    """Up to 32 groups of 4 channels or more.

    Raises:
        ValueError: if the groups do not divide the channels.

    """
    groups = min(_GROUPS, channels // _GROUP_SIZE)
    if groups == 0 or channels % groups:
        raise ValueError(
            f"{channels} channels cannot be normalised in {max(groups, 1)} groups of {_GROUP_SIZE} or more: choose "
            "model_channels and channel_mult so that each width, and each sum of two that the decoder joins, is a "
            "multiple of 32 (below 128: of 4)"
        )
    return nn.GroupNorm(groups, channels, eps=_EPSILON)


def attend(qkv: Float[Tensor, "batch thrice height width"]) -> Float[Tensor, "batch channels height width"]:
    """Self-attention of one head over all pixels; query, key and value are interleaved along the channels."""
    batch, thrice, height, width = qkv.shape
    # Contiguous, because the fast kernels want queries whose channels lie side by side.
    query, key, value = qkv.reshape(batch, thrice // 3, 3, -1).permute(2, 0, 3, 1).contiguous()[:, :, None].unbind(0)
    attended = functional.scaled_dot_product_attention(query, key, value)
    return attended[:, 0].transpose(1, 2).reshape(batch, -1, height, width)


class UNetBlock(nn.Module):
    """Two convolutions with the embedding added between them, a skip around both, and optional attention.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        embedding_channels: width of the embedding.
        dropout: share of the activations that is dropped before the second convolution, in training.
        attention: whether self-attention follows.
        resample: `up` or `down` to double or halve the sides, None to keep them.
        taps: the resampling filter.

    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding_channels: int,
        *,
        dropout: float,
        taps: Sequence[float],
        attention: bool = False,
        resample: Direction | None = None,
    ) -> None:
        super().__init__()
        self.dropout = dropout

        def convolution(kernel_size: int) -> nn.Conv2d:
            if resample is None:
                return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
            return ResampledConv2d(in_channels, out_channels, kernel_size, taps, resample)

        self.norm0 = group_norm(in_channels)
        self.conv0 = initialised(convolution(3))
        self.affine = initialised(nn.Linear(embedding_channels, out_channels))
        self.norm1 = group_norm(out_channels)
        self.conv1 = initialised(nn.Conv2d(out_channels, out_channels, 3, padding=1), ZERO_GAIN)
        self.skip = initialised(convolution(1)) if in_channels != out_channels or resample else None
        self.norm2 = group_norm(out_channels) if attention else None
        self.qkv = initialised(nn.Conv2d(out_channels, 3 * out_channels, 1), ATTENTION_GAIN) if attention else None
        self.proj = initialised(nn.Conv2d(out_channels, out_channels, 1), ZERO_GAIN) if attention else None

    def forward(
        self, x: Float[Tensor, "batch in_channels height width"], embedding: Float[Tensor, "batch channels"]
    ) -> Float[Tensor, "batch out_channels rows columns"]:
        """The block's output."""
        y = self.conv0(functional.silu(self.norm0(x)))
        y = functional.silu(self.norm1(y + self.affine(embedding)[:, :, None, None]))
        y = self.conv1(functional.dropout(y, self.dropout, self.training))
        around: Tensor = x if self.skip is None else self.skip(x)
        x = SKIP_SCALE * (around + y)
        if self.norm2 is None or self.qkv is None or self.proj is None:
            return x
        attended: Tensor = self.proj(attend(self.qkv(self.norm2(x))))
        return SKIP_SCALE * (x + attended)
