"""The parts of JiT: patches, attention, SwiGLU, and the embeddings of time and class."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from passband._numerics import compute_dtype

PatchEmbedding = Literal["conv", "linear"]

_TIME_WIDTH = 256
_MAX_PERIOD = 10_000.0


class RMSNorm(nn.Module):
    """Division by the root mean square, in at least float32 whatever the input's dtype.

    Args:
        width: of the last dimension.

    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """The normalised input, in its dtype."""
        dtype = compute_dtype(x)
        return functional.rms_norm(x.to(dtype), self.weight.shape, self.weight.to(dtype), eps=1e-6).to(x.dtype)


class PatchEmbed(nn.Module):
    """Patches through a narrow linear layer (the bottleneck), then to the tokens' width.

    The first layer is a strided convolution, or the same as a matrix over flattened patches (channel, then row, then
    column): the two differ in the shape of their weight alone, and either loads the other's.

    Args:
        channels: of the images.
        patch_size: side of the patches.
        bottleneck: width of the first layer.
        width: of the tokens.
        form: of the first layer's weight: `conv` or `linear`.

    """

    def __init__(self, channels: int, patch_size: int, bottleneck: int, width: int, form: PatchEmbedding) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj1: nn.Module = (
            nn.Conv2d(channels, bottleneck, patch_size, stride=patch_size, bias=False)
            if form == "conv"
            else nn.Linear(channels * patch_size**2, bottleneck, bias=False)
        )
        self.proj2 = nn.Conv2d(bottleneck, width, 1)
        self.register_load_state_dict_pre_hook(_other_form)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, channels, height, width) as tokens (batch, patches, width), row by row."""
        if isinstance(self.proj1, nn.Conv2d):
            return self.proj2(self.proj1(x)).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]
        rows, columns = x.shape[2] // self.patch_size, x.shape[3] // self.patch_size
        patches = functional.unfold(x, self.patch_size, stride=self.patch_size).transpose(1, 2)
        features = self.proj1(patches).transpose(1, 2).reshape(len(x), -1, rows, columns)
        return self.proj2(features).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


def _other_form(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Give a weight of the other form this one's shape, where the numbers of elements agree."""
    name, wanted = prefix + "proj1.weight", module.get_parameter("proj1.weight")
    got = state.get(name)
    if not isinstance(got, Tensor) or {got.ndim, wanted.ndim} != {2, 4}:
        return
    if got.shape[0] == wanted.shape[0] and got.numel() == wanted.numel():
        state[name] = got.reshape(wanted.shape)


class TimeEmbedding(nn.Module):
    """Waves of the flow time, cosines before sines, through a small network.

    Args:
        width: of the embedding.

    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(_TIME_WIDTH, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        """Times (batch,) as (batch, width)."""
        dtype, half = compute_dtype(t), _TIME_WIDTH // 2
        exponents = torch.arange(half, dtype=dtype, device=t.device) * (-math.log(_MAX_PERIOD) / half)
        phases = t.to(dtype)[:, None] * exponents.exp()
        waves = torch.cat([phases.cos(), phases.sin()], dim=1)
        return self.mlp(waves.to(self.mlp[0].weight.dtype))  # type: ignore[no-any-return, arg-type]


class LabelEmbedding(nn.Module):
    """One vector per class, and a last one for no class.

    Args:
        classes: number of classes, the null class not counted.
        width: of the vectors.

    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, width)

    def forward(self, labels: Tensor) -> Tensor:
        """Labels (batch,) as (batch, width)."""
        return self.embedding_table(labels)  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Self-attention with normalised queries and keys that are turned by the tokens' positions.

    Args:
        width: of the tokens.
        heads: number of heads.
        attn_drop: share of the attention weights dropped in training.
        proj_drop: share of the output dropped in training.

    """

    def __init__(self, width: int, heads: int, attn_drop: float = 0.0, proj_drop: float = 0.0) -> None:
        super().__init__()
        self.heads, self.attn_drop = heads, attn_drop
        self.q_norm, self.k_norm = RMSNorm(width // heads), RMSNorm(width // heads)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Tensor, rotary: Tensor) -> Tensor:
        """Tokens (batch, tokens, width), with their rotations (2, tokens, head width / 2)."""
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = rotate(self.q_norm(q), rotary), rotate(self.k_norm(k), rotary)
        mixed = functional.scaled_dot_product_attention(q, k, v, dropout_p=self.attn_drop if self.training else 0.0)
        return self.proj_drop(self.proj(mixed.transpose(1, 2).flatten(2)))  # type: ignore[no-any-return]


def rotate(x: Tensor, rotary: Tensor) -> Tensor:
    """Turn each pair of neighbouring features by its token's angle, in at least float32."""
    dtype = compute_dtype(x, rotary)
    pairs, (cos, sin) = x.to(dtype).reshape(*x.shape[:-1], -1, 2), rotary.to(dtype).unbind(0)
    if torch.compiler.is_compiling():  # which fuses this, and does not compile complex numbers
        even, odd = pairs.unbind(-1)
        turned = torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1)
    else:  # one pass over the memory
        turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.complex(cos, sin))
    return turned.flatten(-2).to(x.dtype)


class SwiGLU(nn.Module):
    """A gated network of two thirds of the width that its ratio names.

    Args:
        width: of the tokens.
        hidden: the width that an ungated network would have.
        drop: share of the hidden features dropped in training.

    """

    def __init__(self, width: int, hidden: int, drop: float = 0.0) -> None:
        super().__init__()
        inner = int(hidden * 2 / 3)
        self.w12 = nn.Linear(width, 2 * inner)
        self.w3 = nn.Linear(inner, width)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens of the same shape."""
        gate, value = self.w12(x).chunk(2, dim=-1)
        return self.w3(self.drop(functional.silu(gate) * value))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention and a gated network, each shifted, scaled and gated by the condition (adaLN).

    Args:
        width: of the tokens.
        heads: number of heads.
        mlp_ratio: hidden width over width, before the gate's two thirds.
        attn_drop: see `Attention`.
        proj_drop: likewise, and of the gated network's hidden features.

    """

    def __init__(
        self, width: int, heads: int, mlp_ratio: float = 4.0, attn_drop: float = 0.0, proj_drop: float = 0.0
    ) -> None:
        super().__init__()
        self.norm1 = RMSNorm(width)
        self.attn = Attention(width, heads, attn_drop, proj_drop)
        self.norm2 = RMSNorm(width)
        self.mlp = SwiGLU(width, int(width * mlp_ratio), proj_drop)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, condition: Tensor, rotary: Tensor) -> Tensor:
        """Tokens of the same shape."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(condition)[:, None].chunk(6, dim=-1)
        x = x + gate1 * self.attn(modulate(self.norm1(x), shift1, scale1), rotary)
        return x + gate2 * self.mlp(modulate(self.norm2(x), shift2, scale2))  # type: ignore[no-any-return]


class FinalLayer(nn.Module):
    """Tokens to the pixels of their patches.

    Args:
        width: of the tokens.
        outputs: numbers per patch.

    """

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.norm_final = RMSNorm(width)
        self.linear = nn.Linear(width, outputs)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Tokens (batch, tokens, outputs)."""
        shift, scale = self.adaLN_modulation(condition)[:, None].chunk(2, dim=-1)
        return self.linear(modulate(self.norm_final(x), shift, scale))  # type: ignore[no-any-return]


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """The input scaled about 1, then shifted."""
    return x * (1 + scale) + shift


def images(tokens: Tensor, rows: int, columns: int, patch_size: int) -> Tensor:
    """Tokens (batch, rows * columns, patch * patch * channels) as images, the channel last in a token."""
    pixels = tokens.reshape(len(tokens), rows, columns, patch_size, patch_size, -1).permute(0, 5, 1, 3, 2, 4)
    return pixels.reshape(len(tokens), -1, rows * patch_size, columns * patch_size)


def initialise(module: nn.Module) -> None:
    """Weights of a new network: Xavier's uniform ones and no biases, small embeddings, modulation zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            outputs, inputs = layer.weight.shape[0], math.prod(layer.weight.shape[1:])
            bound = math.sqrt(6 / (inputs + outputs))
            nn.init.uniform_(layer.weight, -bound, bound)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, RMSNorm):
            nn.init.ones_(layer.weight)
    for layer in module.modules():
        if isinstance(layer, Block | FinalLayer):  # so that a new block passes its input on
            silence(layer.adaLN_modulation)
        elif isinstance(layer, TimeEmbedding):
            for parameter in (layer.mlp[0].weight, layer.mlp[2].weight):
                nn.init.normal_(parameter, std=0.02)  # type: ignore[arg-type]
        elif isinstance(layer, nn.Embedding):
            nn.init.normal_(layer.weight, std=0.02)


def silence(layer: nn.Module) -> None:
    """Let a linear layer give zeros."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
