"""What every import of a checkpoint has: the file that it reads, its hash, its faults, and the folder it writes."""

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from passband import __version__
from passband._checks import import_extra
from passband._files import replace_folder, write_file
from passband.integrations.checkpoints.download import downloaded, is_url
from passband.integrations.checkpoints.plain_pickle import CheckpointFormatError, UnsafeCheckpointError
from passband.models import Saveable, save_model

#: Names of the files of an imported checkpoint.
FILES = ("config.json", "model.safetensors", "process.json", "import.json")
#: Of a network of audio, beside these.
MEL_FILE = "mel.json"

#: What files begin with that are no checkpoint of any kind, and what to say of them.
OTHERS = {
    b"<": "a web page: the download failed or the address is that of a page; get the file itself",
    b"version https://git-lfs": "a Git LFS pointer, not the file it stands for; run git lfs pull",
}

Progress = Callable[[int, int | None], None]


@contextlib.contextmanager
def fetched(source: str | Path, out: Path, sha256: str | None, progress: Progress | None) -> Iterator[Path]:
    """The file of an import, downloaded beside out if it is an address; what can be checked before that is."""
    check_free(out)
    check_hash(sha256)
    if is_url(str(source)):
        with downloaded(str(source), beside=out, progress=progress) as path:
            yield path
    else:
        yield Path(source)


@contextlib.contextmanager
def called(name: str) -> Iterator[None]:
    """Say which file a fault is of, by the name that the user gave."""
    try:
        yield
    except UnsafeCheckpointError as error:
        raise UnsafeCheckpointError(
            f"{name!r} is refused, and nothing in it was run: it {error}. Do not open it by other means; "
            "get the checkpoint from where its authors publish it"
        ) from error
    except CheckpointFormatError as error:
        raise CheckpointFormatError(f"{name!r} {error}") from error


def check_free(out: Path) -> None:
    """Raise FileExistsError if out holds anything but an earlier import."""
    if not out.exists():
        return
    if not out.is_dir():
        raise FileExistsError(f"{str(out)!r} is a file: --out names the folder to write")
    held = sorted(path.name for path in out.iterdir())
    known = {*FILES, MEL_FILE}
    if held and (not set(held) <= known or "import.json" not in held):
        other = next((name for name in held if name not in known), held[0])
        raise FileExistsError(f"{str(out)!r} holds something else ({other!r}): choose another --out for the import")


def check_hash(sha256: str | None) -> None:
    """Raise ValueError if this is no SHA-256: said before a long download."""
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256.strip()):
        raise ValueError(f"a SHA-256 has 64 hexadecimal digits, got {sha256!r}: correct --sha256")


def check_file(path: Path, name: str, kind: str) -> None:
    """Raise unless there is a file, called by the name that the user gave."""
    if path.is_dir():
        raise CheckpointFormatError(f"{name!r} is a folder: give the {kind} file itself")
    if not path.exists():
        raise FileNotFoundError(f"there is no file at {name!r}: give the path of a {kind} file, or its address")


def file_hash(stream: BufferedIOBase, name: str, sha256: str | None) -> str:
    """The SHA-256 of a file, which must be the expected one where that is given."""
    digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if sha256 is not None and digest != sha256.strip().lower():
        raise CheckpointFormatError(
            f"{name!r} has the SHA-256 {digest}, expected {sha256}: it is not the file that was meant; "
            "get it anew, or correct --sha256"
        )
    return digest


def write_import(
    out: Path,
    model: Saveable,
    process: Mapping[str, Any],
    origin: Mapping[str, Any],
    mel: Mapping[str, Any] | None = None,
) -> None:
    """Write the folder of an import, whole or not at all."""

    def write(folder: Path) -> None:
        try:
            save_model(model, folder)
        except import_extra("safetensors", "train").SafetensorError as error:
            raise OSError(f"the network could not be written ({error}): make room, or choose another --out") from error
        contents = {"process.json": process, MEL_FILE: mel, "import.json": {**origin, "passband": __version__}}
        for name, content in contents.items():
            if content is not None:
                write_file(folder / name, (json.dumps(content, indent=1) + "\n").encode())

    replace_folder(out, write)
