"""One name or path to an extractor."""

from pathlib import Path

import torch

from passband._checks import nearest
from passband.metrics.efficientnet import efficientnet_lite0
from passband.metrics.features import FeatureExtractor
from passband.metrics.torchscript import TorchScriptFeatures, fetch
from passband.models.efficientnet import HEAD

_LITE0 = "efficientnet-lite0"


def load_features(spec: str, device: torch.device | str = "cpu", *, sha256: str | None = None) -> FeatureExtractor:
    """An extractor by its name, path or URL.

    | spec | what |
    |---|---|
    | `efficientnet-lite0` | block 4, 40 features, see [`efficientnet_lite0`][passband.metrics.efficientnet_lite0] |
    | `efficientnet-lite0:N`, `efficientnet-lite0:head` | another block, the 1280 features before the classifier |
    | path or URL of a TorchScript file | [`TorchScriptFeatures`][passband.metrics.TorchScriptFeatures] |

    Downloads are kept in torch.hub's folder of checkpoints.

    Args:
        spec: see the table.
        device: where the network runs.
        sha256: hex digest that a TorchScript file must have; None takes any.

    Raises:
        FileNotFoundError: if a path does not exist.
        MissingExtraError: if EfficientNet's wheels are not installed.
        OSError: if a download fails.
        ValueError: if spec is none of these, or a file is not what it should be.

    Example:
        >>> from passband.metrics import load_features
        >>> load_features("efficientnet-lite0:head").dim
        1280

    """
    network, _, layer = spec.partition(":")
    if network == _LITE0:
        if layer not in ("", HEAD) and not layer.isdecimal():
            raise ValueError(f"unknown layer in {spec!r}; write {_LITE0}:N with N a block 0 … 15, or {_LITE0}:{HEAD}")
        return efficientnet_lite0(HEAD if layer == HEAD else int(layer or 4)).to(device)
    if "://" in spec:
        return TorchScriptFeatures(fetch(spec, sha256), sha256).to(device)
    path = Path(spec)
    if path.is_file():
        return TorchScriptFeatures(path, sha256).to(device)
    if path.suffix or len(path.parts) > 1:
        raise FileNotFoundError(f"no TorchScript file at {spec}; give a path, a URL, or {_LITE0!r}")
    raise ValueError(
        f"unknown features: got {spec!r}{nearest(spec, [_LITE0])}; expected {_LITE0!r}, '{_LITE0}:N', "
        f"'{_LITE0}:{HEAD}', or the path or URL of a TorchScript file"
    )
