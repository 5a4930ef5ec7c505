"""The parts of a saved diffusers pipeline: what its folder names, whether each is whole, and loading them one by one.

Nothing is unpickled, nothing is downloaded, and no code that the folder brings is run.
"""

import contextlib
import inspect
import json
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from passband._checks import import_extra, nearest
from passband.integrations.diffusers import expecting_forcing

INDEX = "model_index.json"
#: Parts that play no role in training: neither looked at nor loaded, and copied when a pipeline is saved.
UNUSED = frozenset({"safety_checker", "feature_extractor", "image_encoder"})
#: Weights that only unpickling reads.
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
_LIBRARIES = ("diffusers", "transformers")
#: NAME.fp16.safetensors, NAME.fp16-00001-of-00002.safetensors, and the older NAME-00001-of-00002.fp16.safetensors.
_VARIANT = re.compile(r"[^.]+?(\.(?P<early>[^.]+?))?(-\d+-of-\d+)?(\.(?P<late>[^.]+))?\.safetensors$")


def read_index(folder: Path, supported: Mapping[str, object]) -> dict[str, Any]:
    """What model_index.json holds: the pipeline's class, its parts as [library, class], and its options.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged, or names a class that is not supported.

    """
    _check_folder(folder)
    file = folder / INDEX
    if not file.is_file():
        near = [str(place) for place in (folder.parent, folder / "pipeline") if (place / INDEX).is_file()]
        hint = f"; there is one in {near[0]!r}" if near else ""
        raise FileNotFoundError(
            f"{str(folder)!r} is no diffusers pipeline: it has no {INDEX}; expected a folder that "
            f"DiffusionPipeline.save_pretrained wrote{hint}"
        )
    index = read_json(file)
    name = index.get("_class_name")
    if not isinstance(name, str) or name not in supported:
        hint = nearest(name, supported) if isinstance(name, str) else ""
        raise ValueError(f"{str(folder)!r} holds a {name}{hint}; supported are {', '.join(supported)}")
    return index


def _check_folder(folder: Path) -> None:
    if folder.is_file():
        raise FileNotFoundError(
            f"{str(folder)!r} is a file: expected the folder of a diffusers pipeline; diffusers makes one of a single "
            "file: PIPELINE_CLASS.from_single_file(FILE).save_pretrained(FOLDER)"
        )
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no folder {str(folder)!r}: expected a diffusers pipeline on this machine; download one first "
            "(hf download NAME --local-dir FOLDER)"
        )


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: if the file is damaged.

    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{str(file)!r} cannot be read ({error}); save the pipeline again") from error
    if not isinstance(found, dict):
        raise ValueError(f"{str(file)!r} is damaged: it holds no JSON object; save the pipeline again")
    return found


def named_parts(index: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """The library and class of each part that is there and plays a role.

    Raises:
        ValueError: if one is of another library than diffusers and transformers.

    """
    parts = {}
    for name, entry in index.items():
        if name.startswith("_") or name in UNUSED or not isinstance(entry, list) or len(entry) != 2:
            continue
        library, kind = entry
        if library is None and kind is None:
            continue
        if library not in _LIBRARIES or not isinstance(kind, str):
            raise ValueError(
                f"the part {name!r} of the pipeline is {library}.{kind}: only classes of {' and '.join(_LIBRARIES)} "
                "are loaded, no code of its own"
            )
        parts[name] = (library, kind)
    return parts


def taken_parts(kind: Any, named: Mapping[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """Those that the constructor of the pipeline's class takes."""
    return {name: part for name, part in named.items() if name in inspect.signature(kind.__init__).parameters}


def class_of(library: str, kind: str) -> Any:
    """A class of diffusers or transformers.

    Raises:
        ValueError: if the installed version has none of this name.
        MissingExtraError: if the library is not installed, or one that the class needs.

    """
    module = import_extra(library, "integrations")
    try:
        with _without_torchvision():
            found = getattr(module, kind)
    except (AttributeError, ImportError) as error:
        raise ValueError(
            f"{library} {module.__version__} has no {kind} ({error}); the pipeline needs another version of {library}"
        ) from error
    for needed in getattr(found, "_backends", ()):  # an empty stand-in where one of these is missing
        import_extra(needed, "integrations")
    return found


def load_part(folder: Path, name: str, library: str, kind: str, variant: str | None) -> Any:
    """One part, in float32, in evaluation mode and frozen if it is a network.

    Raises:
        FileNotFoundError: if its folder is missing.
        ValueError: if it is damaged, or its weights do not fit its configuration or are there as pickles only.

    """
    is_network = check_part(folder, name, library, kind, variant)
    part, found = folder / name, class_of(library, kind)
    options: dict[str, Any] = {"local_files_only": True}
    if is_network:
        options |= {"use_safetensors": True, "variant": own_variant(part, variant), "output_loading_info": True}
    try:
        with _quiet(library):
            loaded = found.from_pretrained(str(part), **options)
    except (RuntimeError, TypeError, ValueError, KeyError, OSError, AttributeError, ImportError) as error:
        raise ValueError(f"the {kind} at {str(part)!r} cannot be loaded ({error})") from error
    if not is_network:
        return loaded
    network, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"the {kind} at {str(part)!r} lacks the weights {missing[:3]} and {len(missing)} in all")
    return network.float().eval().requires_grad_(False)


def check_part(folder: Path, name: str, library: str, kind: str, variant: str | None) -> bool:
    """See that a part is there and, of a network, its weights; say whether it is one.

    Raises:
        FileNotFoundError: if it is missing.
        ValueError: if its weights are damaged, or there as pickles only.

    """
    if not (folder / name).is_dir():
        raise FileNotFoundError(
            f"{str(folder)!r} has no {name}/, which its {INDEX} names; save or copy the pipeline again"
        )
    found = class_of(library, kind)
    is_network = isinstance(found, type) and issubclass(found, nn.Module)
    if is_network:
        check_weights(folder / name, own_variant(folder / name, variant))
    return is_network


def check_weights(folder: Path, variant: str | None) -> None:
    """See that a network's weights are there in safetensors, every file whole.

    Raises:
        FileNotFoundError: if there are none.
        ValueError: if there are pickles only, or a file is damaged or missing.

    """
    found = sorted(folder.glob("*.safetensors"))
    files = [file for file in found if variant_of(file) == variant]
    if not files:
        raise _no_weights(folder, variant, sorted({other for file in found if (other := variant_of(file))}))
    for index in folder.glob("*.safetensors.index*.json"):
        if variant is None or f".{variant}." in index.name:
            files += _shards(index)
    safetensors = import_extra("safetensors", "train")
    for file in files:
        try:
            with safetensors.safe_open(str(file), framework="pt"):
                pass
        except (safetensors.SafetensorError, OSError) as error:
            raise ValueError(f"{str(file)!r} is damaged ({error}); save or copy the pipeline again") from error


def own_variant(folder: Path, variant: str | None) -> str | None:
    """The variant if this part has weights of it, else None: the plain ones."""
    return variant if any(variant_of(file) == variant for file in folder.glob("*.safetensors")) else None


def variant_of(file: Path) -> str | None:
    """`fp16` of model.fp16.safetensors and of its shards, None of plain weights."""
    match = _VARIANT.match(file.name)
    return match["early"] or match["late"] if match else None


def _no_weights(folder: Path, variant: str | None, others: list[str]) -> Exception:
    what = "weights in safetensors" + (f" of the variant {variant!r}" if variant else "")
    if others:
        return ValueError(
            f"{str(folder)!r} has no {what}, only of the variant {others[0]!r}: pass variant={others[0]!r}"
        )
    if pickled := [file.name for file in sorted(folder.iterdir()) if file.suffix in PICKLED]:
        return ValueError(
            f"{str(folder)!r} has no {what}, only {pickled[0]}, which is a pickle and is not read: if you trust it, "
            "load it with diffusers (use_safetensors=False) and save it again with save_pretrained"
        )
    return FileNotFoundError(f"{str(folder)!r} has no {what} (*.safetensors); save or copy the pipeline again")


def _shards(index: Path) -> list[Path]:
    weights = read_json(index).get("weight_map")
    names = sorted(set(weights.values())) if isinstance(weights, dict) else []
    for name in names:
        if not (index.parent / str(name)).is_file():
            raise ValueError(f"{str(index.parent)!r} lacks {name}, which {index.name} names; copy the pipeline again")
    return [index.parent / str(name) for name in names]


def build_pipeline(kind: Any, index: Mapping[str, Any], parts: Mapping[str, Any]) -> Any:
    """The diffusers pipeline of these parts; what is not among them is None, its options are the index's."""
    taken = list(inspect.signature(kind.__init__).parameters)[1:]
    options = {name: index[name] for name in taken if name in index and not _is_part(index[name])}
    empty = dict.fromkeys(name for name in taken if _is_part(index.get(name)))
    if "requires_safety_checker" in taken:
        options["requires_safety_checker"] = False  # it is not loaded here, and stays in what is saved
        empty |= {"safety_checker": None, "feature_extractor": None}
    return kind(**(empty | options | dict(parts)))


def _is_part(entry: object) -> bool:
    return isinstance(entry, list) and len(entry) == 2


@contextlib.contextmanager
def _quiet(library: str) -> Iterator[None]:
    """Load without bars, without transformers' reports, whose facts our errors repeat, and knowing of forcing."""
    bars, log = import_extra(f"{library}.utils.logging", "integrations"), logging.getLogger("transformers")
    shown, level = bars.is_progress_bar_enabled(), log.level
    bars.disable_progress_bar()
    log.setLevel(logging.ERROR)
    try:
        with expecting_forcing():
            yield
    finally:
        log.setLevel(level)
        if shown:
            bars.enable_progress_bar()


@contextlib.contextmanager
def _without_torchvision() -> Iterator[None]:
    """Import without transformers' advice to install what nothing here uses: its image processors work without."""
    log = logging.getLogger("transformers.utils.import_utils")
    log.addFilter(_says_nothing_of_torchvision)
    try:
        yield
    finally:
        log.removeFilter(_says_nothing_of_torchvision)


def _says_nothing_of_torchvision(record: logging.LogRecord) -> bool:
    return "requires torchvision" not in record.getMessage()
