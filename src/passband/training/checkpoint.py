"""Checkpoints in safetensors and JSON, written whole or not at all. Nothing is unpickled."""

import hashlib
import json
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from passband._files import replace_folder

MANIFEST = "manifest.json"


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


def write_checkpoint(root: Path, step: int, write: Callable[[Path], None]) -> Path:
    """Fill a folder by `write(folder)`, add a manifest of what it holds, and move it into its place once it is on disk.

    Raises:
        CheckpointError: if the disk is full or the folder cannot be written; what was there before is untouched.

    """
    target = checkpoint_folder(root, step)

    def fill(folder: Path) -> None:
        write(folder)
        (folder / MANIFEST).write_text(json.dumps(_contents(folder), indent=1))

    try:
        return replace_folder(target, fill)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"could not write the checkpoint {str(target)!r} ({error}); earlier checkpoints are untouched: "
            "make room or choose another --out, then resume"
        ) from error


def checkpoint_folder(root: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return root / f"step-{step:08d}"


def checkpoints(root: Path) -> list[tuple[int, Path]]:
    """(step, folder) of each checkpoint, oldest first."""
    found = [(folder.name.removeprefix("step-"), folder) for folder in root.glob("step-*")]
    return sorted((int(step), folder) for step, folder in found if step.isdigit())


def newest_whole(root: Path) -> tuple[int, Path] | None:
    """(step, folder) of the newest checkpoint whose files are as they were written; None without any checkpoint.

    Raises:
        CheckpointError: if there are checkpoints and none is whole.

    """
    found = checkpoints(root)
    faults = []
    for step, folder in reversed(found):
        fault = torn(folder)
        if fault is None:
            return step, folder
        faults.append(f"{folder.name}: {fault}")
    if not found:
        return None
    raise CheckpointError(
        f"none of the checkpoints in {str(root)!r} is whole ({'; '.join(faults)}): copy one back from elsewhere, or "
        "delete the folder to start again"
    )


def torn(folder: Path) -> str | None:
    """What is wrong with a checkpoint's files, None where they are as they were written."""
    try:
        listed = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        return f"its {MANIFEST} cannot be read ({error})"
    if not isinstance(listed, dict):
        return f"its {MANIFEST} is damaged"
    for name, facts in listed.items():
        try:
            if facts != _facts(folder / name):
                return f"{name} is not as it was written"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return None


def remove_old(root: Path, step: int, keep: int, kept_steps: Collection[int] = ()) -> None:
    """Delete all but the newest checkpoints and those of steps to keep, and what a killed process left half done.

    Args:
        root: folder of the checkpoints.
        step: that of the checkpoint just written. Later ones are torn, or the run would have resumed from them: they
            do not count.
        keep: how many of the newest stay.
        kept_steps: steps whose checkpoints stay too.

    """
    for leftover in root.glob(".*"):
        shutil.rmtree(leftover, ignore_errors=True)
    removable = [folder for found, folder in checkpoints(root) if found <= step and found not in kept_steps]
    for folder in removable[: max(len(removable) - keep, 0)]:
        # Renamed first: a folder that is half deleted never counts as a checkpoint.
        doomed = folder.with_name(f".{folder.name}.old")
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def _contents(folder: Path) -> dict[str, list[int | str]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _facts(path) for path in files}


def _facts(path: Path) -> list[int | str]:
    """Size and hash of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    return [path.stat().st_size, digest]


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
