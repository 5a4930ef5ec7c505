"""Reads files of torch.save: tensors and plain values only."""

import pickle
import re
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from passband.integrations.checkpoints.import_folder import OTHERS
from passband.integrations.checkpoints.plain_pickle import CheckpointFormatError, UnsafeCheckpointError, shown

#: A class that is admitted, under its own name or under the one that the file gives it.
Safe = Callable[..., Any] | tuple[Callable[..., Any], str]

#: What the older form, without an archive, begins with: two bytes of the protocol and its magic number.
_OLDER = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
#: What other files begin with, and what to say of them.
_OTHERS = {
    b"\x80": "a pickle or an older file of torch.save; this command reads the ZIP files that torch.save writes",
    **OTHERS,
    b"{": "JSON text, not a file of torch.save",
}


def read_torch_save(path: Path, kind: str, *, safe: Sequence[Safe] = (), older: bool = False) -> object:
    """The content of a file, its tensors mapped from it where it is an archive: read when they are looked at.

    Args:
        path: the file.
        kind: whose checkpoints are meant, for messages.
        safe: classes without code of their own that are admitted beside tensors and plain values.
        older: whether the form that torch.save wrote before 1.6, without an archive, is read too.

    Raises:
        UnsafeCheckpointError: if the file asks for more, or would swell.
        CheckpointFormatError: if it is broken or of another kind.

    """
    with path.open("rb") as stream:
        start = stream.read(64)
    plain = older and start.startswith(_OLDER)
    if not plain:
        _check_archive(path, start, kind)
    try:
        with torch.serialization.safe_globals(list(safe)):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=not plain)
    except pickle.UnpicklingError as error:
        raise _refusal(error) from error
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError) as error:
        raise CheckpointFormatError(f"is damaged ({' '.join(str(error).split())[:200]}); get it anew") from error
    except (EOFError, RecursionError, MemoryError, OverflowError, UnicodeDecodeError, tarfile.TarError) as error:
        raise CheckpointFormatError(f"is damaged ({type(error).__name__}); get it anew") from error


def _check_archive(path: Path, start: bytes, kind: str) -> None:
    """Raise unless this is a file of torch.save whose parts lie in it as they are, so that none can swell."""
    if not start:
        raise CheckpointFormatError("is empty: the download failed; get it anew")
    for prefix, what in _OTHERS.items():
        if start.lstrip().startswith(prefix):
            raise CheckpointFormatError(f"is {what}")
    if not start.startswith(b"PK"):
        raise CheckpointFormatError(f"is no file of torch.save; give a checkpoint of {kind}")
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        raise CheckpointFormatError(f"is damaged or cut short ({error}); get it anew") from error
    if not any(part.filename.endswith("/data.pkl") for part in parts):
        raise CheckpointFormatError("is a ZIP archive, but none that torch.save writes (it has no data.pkl)")
    if any(part.compress_type != zipfile.ZIP_STORED or part.file_size != part.compress_size for part in parts):
        raise UnsafeCheckpointError("has compressed parts, which torch.save does not write")
    if sum(part.file_size for part in parts) > path.stat().st_size:
        raise UnsafeCheckpointError("has parts that are larger than the file")


def _refusal(error: pickle.UnpicklingError) -> CheckpointFormatError:
    """What PyTorch's reader of weights did not take, without its advice to read the file by unsafe means."""
    text = " ".join(str(error).split()).partition("trusted source.")[2].partition("Check the documentation")[0]
    asked = re.search(r"GLOBAL (\S{1,80})|Trying to \w+", text)
    if asked is None:
        return CheckpointFormatError(f"is damaged ({text.strip()[:200] or 'no pickle'}); get it anew")
    return UnsafeCheckpointError(f"asks for {asked[1] or 'a class'}, which weights and plain values do not need")


def network_tensors(
    entry: Mapping[Any, object], first: str, kind: str, size: int, skipped: re.Pattern[str] | None = None
) -> dict[str, Tensor]:
    """A network's tensors in float32 by their names, without what stands before all of them (`net.`, `module.`).

    Args:
        entry: of the checkpoint.
        first: the name of one tensor, which tells what stands before it.
        kind: of network, for messages.
        size: of the file in bytes, which the tensors may not exceed.
        skipped: names of what some files hold and the network computes.

    Raises:
        UnsafeCheckpointError: if there are more numbers than the file has room for.
        CheckpointFormatError: if there is no such network, or something else among its tensors.

    """
    names = [name for name in entry if isinstance(name, str) and name.endswith(first)]
    if len(names) != 1:
        raise CheckpointFormatError(f"holds no {kind}: expected one tensor {first}, got {len(names)}")
    prefix = names[0].removesuffix(first)
    state, total = {}, 0
    for name, tensor in entry.items():
        if not isinstance(name, str) or not name.startswith(prefix):
            raise CheckpointFormatError(f"has the entry {shown(name)} outside the network {shown(prefix)}")
        if skipped is not None and skipped.fullmatch(name.removeprefix(prefix)):
            continue
        total += _bytes(name, tensor)
        if total > size:
            raise UnsafeCheckpointError("asks for more tensors than the file has room for")
        assert isinstance(tensor, Tensor)
        if not torch.isfinite(tensor).all():
            raise CheckpointFormatError(f"has NaN or infinity in the tensor {shown(name)}: it is damaged; get it anew")
        state[name.removeprefix(prefix)] = tensor.detach().float().contiguous()
    return state


def _bytes(name: str, tensor: object) -> int:
    if not isinstance(tensor, Tensor):
        raise CheckpointFormatError(f"has no tensor but a {type(tensor).__name__} under {shown(name)}")
    if not tensor.is_floating_point() or tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise CheckpointFormatError(f"has under {shown(name)} a tensor of {tensor.dtype}, expected floating-point ones")
    return tensor.numel() * tensor.element_size()
