"""Networks as diffusers saves them: a folder with config.json and weights in safetensors; nothing is unpickled."""

import json
from pathlib import Path
from typing import Any

from torch import nn

from passband._checks import import_extra


def saved_class(folder: Path) -> object:
    """The name of the class that config.json gives.

    Raises:
        ValueError: if the file is damaged.

    """
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text())
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise ValueError(f"{str(file)!r} is damaged: it holds no JSON object; save or import the network again")
    return config.get("_class_name")


def load_saved(kind: str, folder: Path) -> nn.Module:
    """The network of a class of diffusers, by the class's name.

    Raises:
        OSError: if there is none, or it is damaged.
        ValueError: if its weights do not fit its configuration, or some are missing.
        MissingExtraError: if diffusers is not installed.

    """
    found: Any = getattr(import_extra("diffusers", "train"), kind)
    try:
        network, report = found.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"the {kind} at {str(folder)!r} cannot be loaded ({error})") from error
    if report["missing_keys"]:
        raise ValueError(
            f"the {kind} at {str(folder)!r} lacks the weights {sorted(report['missing_keys'])[:3]} and more"
        )
    assert isinstance(network, nn.Module)
    return network
