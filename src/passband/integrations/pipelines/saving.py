"""Writing a trained pipeline: its network anew, everything else as it was found."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from passband._files import replace_folder
from passband.integrations.pipelines.lora import has_lora, merged
from passband.integrations.pipelines.parts import INDEX, PICKLED, own_variant, read_json, variant_of

if TYPE_CHECKING:
    from passband.integrations.pipelines.base import TrainablePipeline

_INDEX = ".safetensors.index"
#: Copies of weights for other programs, as folders of the hub often hold them: they would be the old ones.
_FOREIGN = (".h5", ".msgpack", ".onnx", ".onnx_data", ".tflite")


def save_pipeline(pipeline: "TrainablePipeline", folder: Path, network: nn.Module) -> Path:
    """Write the pipeline with this network into a folder, whole or not at all.

    Raises:
        FileExistsError: if the folder holds something else, or is the one that was opened.
        OSError: if it cannot be written.

    """
    check_place(folder, pipeline.folder)
    plain: Any = merged(network) if has_lora(network) else network
    index = read_json(pipeline.folder / INDEX)
    scheduler = pipeline.pipeline.scheduler
    index |= {pipeline.network_folder: _named(plain), "scheduler": _named(scheduler)}

    written = (pipeline.network_folder, "scheduler")

    def write(partial: Path) -> None:
        for name, entry in index.items():
            source = pipeline.folder / name
            if isinstance(entry, list) and name not in written and source.is_dir():
                copy_part(source, partial / name, pipeline.variant)
        plain.save_pretrained(str(partial / pipeline.network_folder))
        scheduler.save_pretrained(str(partial / "scheduler"))
        (partial / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")

    return replace_folder(folder, write)


def _named(part: object) -> list[str]:
    return ["diffusers", type(part).__name__]


def check_place(folder: Path, source: Path) -> None:
    """Raise FileExistsError unless a pipeline may be written here."""
    if folder.resolve() == source.resolve():
        raise FileExistsError(
            f"{str(folder)!r} is the pipeline that was opened, and is kept: choose another folder for the trained one"
        )
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / INDEX).is_file()):
        raise FileExistsError(f"{str(folder)!r} holds something else: choose another folder for the pipeline")


def copy_part(source: Path, target: Path, variant: str | None) -> None:
    """Copy a part; the files of the variant that was opened take the plain names, pickles stay behind."""
    target.mkdir()
    variant = own_variant(source, variant)
    for file in source.rglob("*"):
        if not file.is_file() or file.suffix in (*PICKLED, *_FOREIGN) or _is_of_others(file, variant):
            continue
        place = (target / file.relative_to(source)).with_name(_plain_name(file.name, variant))
        place.parent.mkdir(parents=True, exist_ok=True)
        if variant is not None and _INDEX in file.name:
            place.write_text(_plain_index(read_json(file), variant), encoding="utf-8")
        else:
            shutil.copyfile(file, place)


def _is_of_others(file: Path, variant: str | None) -> bool:
    """Whether it holds weights, or their index, of another variant than the one that was opened."""
    if file.suffix == ".safetensors":
        return variant_of(file) != variant
    return _INDEX in file.name and f"{_INDEX}." + (f"{variant}.json" if variant else "json") not in file.name


def _plain_index(index: Mapping[str, Any], variant: str) -> str:
    weights = {name: _plain_name(file, variant) for name, file in index["weight_map"].items()}
    return json.dumps({**index, "weight_map": weights}, indent=2) + "\n"


def _plain_name(name: str, variant: str | None) -> str:
    """The name without the variant."""
    return name if variant is None else name.replace(f".{variant}", "", 1)
