"""Files of adapters: in diffusers' layout where its pipeline has a loader of them, else in peft's."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from passband._checks import import_extra
from passband._files import replace_folder
from passband.integrations.pipelines.parts import read_json

if TYPE_CHECKING:
    from passband.integrations.pipelines.base import TrainablePipeline

#: The file of diffusers' layout, and the two of peft's.
DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
PEFT_FILE, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
#: What peft writes before the names of layers.
PEFT_PREFIX = "base_model.model"

_METADATA = "lora_adapter_metadata"


def write_adapters(
    folder: Path, weights: Mapping[str, Tensor], config: Mapping[str, Any], pipeline: "TrainablePipeline"
) -> Path:
    """Write weights and their configuration, whole or not at all.

    Args:
        folder: where to.
        weights: by their names in the network.
        config: rank, alpha, layers: few fields, since versions of peft differ in the rest and refuse unknown ones.
        pipeline: whose network it is.

    Raises:
        FileExistsError: if the folder holds something else.
        OSError: if it cannot be written.

    """
    held = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if folder.is_file() or not held <= {DIFFUSERS_FILE, PEFT_FILE, PEFT_CONFIG}:
        raise FileExistsError(f"{str(folder)!r} holds something else: choose another folder for the adapters")
    place = pipeline.network_folder

    def in_diffusers(partial: Path) -> None:
        named = {f"{place}_lora_layers": dict(weights), f"{place}_lora_adapter_metadata": dict(config)}
        type(pipeline.pipeline).save_lora_weights(str(partial), **named)

    def in_peft(partial: Path) -> None:
        named = {f"{PEFT_PREFIX}.{name}": value for name, value in weights.items()}
        import_extra("safetensors.torch", "train").save_file(named, str(partial / PEFT_FILE), metadata={"format": "pt"})
        text = json.dumps({"peft_type": "LORA", **config}, indent=2) + "\n"
        (partial / PEFT_CONFIG).write_text(text, encoding="utf-8")

    return replace_folder(folder, in_diffusers if pipeline.loads_lora else in_peft)


def read_adapters(folder: Path, place: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights by their names in the network, and what is known of their configuration.

    Raises:
        FileNotFoundError: if there are none.
        ValueError: if a file is damaged.

    """
    for name, prefix in ((DIFFUSERS_FILE, place), (PEFT_FILE, PEFT_PREFIX)):
        if not (folder / name).is_file():
            continue
        weights, metadata = _read_weights(folder / name)
        config = metadata if name == DIFFUSERS_FILE else read_json(folder / PEFT_CONFIG)
        return _inside(weights, prefix), _inside(config, prefix) if name == DIFFUSERS_FILE else config
    raise FileNotFoundError(
        f"there are no adapters at {str(folder)!r}: expected a folder with {DIFFUSERS_FILE} (diffusers) or {PEFT_FILE} "
        "(peft)"
    )


def _read_weights(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    safetensors = import_extra("safetensors", "train")
    try:
        with safetensors.safe_open(str(file), framework="pt") as opened:
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
            metadata = json.loads((opened.metadata() or {}).get(_METADATA, "{}"))
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{str(file)!r} is damaged ({error}); save the adapters again") from error
    return weights, metadata


def _inside(found: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(f"{prefix}."): value for name, value in found.items() if name.startswith(f"{prefix}.")}
