"""Files and folders that are written whole or not at all, and are on the disk when the call returns."""

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeGuard

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES)


_UNTOUCHED = "this was not written, what was there before is untouched; free some space"


@contextmanager
def written_whole(path: Path, kept: str = _UNTOUCHED, *, synced: bool = True) -> Iterator[Path]:
    """A hidden name beside path to write to, moved to path once that has gone well; missing folders are made.

    Args:
        path: the file.
        kept: what there is, and what to do, if the disk is full: for the error.
        synced: wait until it has reached the disk; without, a power cut may lose it, or leave it empty.

    Raises:
        OSError: if it cannot be written, the disk being full for instance; what was there before is untouched.

    """
    partial = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        if synced:
            _sync(partial)
        partial.replace(path)
        if synced:
            _sync(path.parent)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if _is_full(error):
            raise _full(error, path, kept) from error
        raise


def write_file(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write a file beside its place, let it reach the disk, and move it there; missing folders are made.

    Raises:
        OSError: if it cannot be written, the disk being full for instance; what was there before is untouched.

    """
    path = Path(path)
    with written_whole(path) as partial:
        partial.write_bytes(data)
    return path


def replace_folder(target: str | os.PathLike[str], write: Callable[[Path], None]) -> Path:
    """Fill a hidden folder by `write(folder)`, let it reach the disk, and put it in the place of target.

    A folder that is there already gives way at the very end. Whatever goes wrong before, an error of `write` included,
    leaves it as it was. A process killed between the two renames of that end leaves it beside its place as
    `.NAME.previous`, which the next call puts back first.

    Args:
        target: the folder.
        write: called with an empty folder, to fill it.

    Raises:
        OSError: if it cannot be written, the disk being full for instance.

    """
    target = Path(target)
    partial, previous = _beside(target), target.with_name(f".{target.name}.previous")
    try:
        partial.mkdir(parents=True)
        write(partial)
        for path in sorted(partial.rglob("*"), reverse=True):
            _sync(path)
        _sync(partial)
        _restore(target, previous)
        if target.exists():
            target.rename(previous)
        partial.rename(target)
        _sync(target.parent)
        _sync(target.absolute().parents[1])  # whose list holds the parent, which may be new
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        _restore(target, previous)
        if _is_full(error):
            raise _full(error, target, _UNTOUCHED) from error
        raise
    shutil.rmtree(previous, ignore_errors=True)
    return target


def _beside(path: Path) -> Path:
    """A hidden name of its own, so that several writers do not meet."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.partial")


def _restore(target: Path, previous: Path) -> None:
    if not previous.exists():
        return
    if target.exists():
        shutil.rmtree(previous, ignore_errors=True)
    else:
        previous.rename(target)


def _sync(path: Path) -> None:
    """Let a file's content, or a folder's list of names, reach the disk."""
    if path.is_symlink() or (path.is_dir() and os.name == "nt"):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (path.is_dir() and error.errno in _NO_FOLDER_SYNC):
            raise
    finally:
        os.close(descriptor)


def _is_full(error: BaseException) -> TypeGuard[OSError]:
    return isinstance(error, OSError) and error.errno in _FULL


def _full(error: OSError, path: Path, kept: str) -> OSError:
    return OSError(error.errno, f"the disk is full ({error.strerror}): {kept}", str(path))
