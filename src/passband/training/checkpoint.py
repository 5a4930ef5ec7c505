"""Checkpoints in safetensors and JSON, written whole or not at all. Nothing is unpickled."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written or read; the message says which, why and what is left."""


def save_state(state: object, folder: Path, name: str) -> None:
    """Write nested dicts, lists, numbers, strings and tensors: these as NAME.safetensors, the rest as NAME.json."""
    tensors: dict[str, Tensor] = {}
    plain = _flatten(state, tensors)
    save_file(tensors, folder / f"{name}.safetensors")
    (folder / f"{name}.json").write_text(json.dumps(plain))


def load_state(folder: Path, name: str) -> Any:
    """Read what [`save_state`][passband.training.checkpoint.save_state] wrote.

    Raises:
        CheckpointError: if a file is missing or damaged.

    """
    try:
        tensors = load_file(folder / f"{name}.safetensors")
        return _unflatten(json.loads((folder / f"{name}.json").read_text()), tensors)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(folder, error) from error


def damaged(folder: Path, error: Exception) -> CheckpointError:
    """What to say of a checkpoint that cannot be read."""
    return CheckpointError(
        f"the checkpoint {str(folder)!r} cannot be read ({error}); delete that folder to resume from the one before it"
    )


def write_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Fill a folder by `write(folder)` beside its place and move it there once it is whole.

    Raises:
        CheckpointError: if the disk is full or the folder cannot be written; what was there before is untouched.

    """
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        write(partial)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if not isinstance(error, OSError | SafetensorError):
            raise
        raise CheckpointError(
            f"could not write the checkpoint {str(target)!r} ({error}); earlier checkpoints are untouched: "
            "make room or choose another --out, then resume"
        ) from error


def checkpoint_folder(root: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return root / f"step-{step:08d}"


def checkpoints(root: Path) -> list[tuple[int, Path]]:
    """(step, folder) of each whole checkpoint, oldest first."""
    found = [(folder.name.removeprefix("step-"), folder) for folder in root.glob("step-*")]
    return sorted((int(step), folder) for step, folder in found if step.isdigit())


def remove_old(root: Path, keep: int) -> None:
    """Delete all but the newest checkpoints."""
    for _, folder in checkpoints(root)[:-keep]:
        shutil.rmtree(folder, ignore_errors=True)


def _flatten(value: object, tensors: dict[str, Tensor]) -> object:
    if isinstance(value, Tensor):
        key = str(len(tensors))
        tensors[key] = value.detach().cpu().contiguous()
        return {"tensor": key}
    if isinstance(value, dict):
        # As pairs, since an optimizer's state has integer keys.
        return {"dict": [[key, _flatten(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_flatten(item, tensors) for item in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a checkpoint holds tensors, numbers, strings, lists and dicts, not {type(value).__name__}")


def _unflatten(plain: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(plain, dict):
        return plain
    ((kind, content),) = plain.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unflatten(item, tensors) for key, item in content}
    return [_unflatten(item, tensors) for item in content]
