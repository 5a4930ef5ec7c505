"""Reads the checkpoints of NVLabs' EDM, which are pickles, without running anything in them.

The pickle is followed by `checkpoints.plain_pickle` with the closed list of names of `checkpoints.plain_objects`; its
objects become records, whose attributes hold the tensors and the arguments with which the network was made.
"""

from io import BufferedIOBase
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from passband.integrations.checkpoints.edm_records import (
    choose,
    constructor_arguments,
    inner,
    process_arguments,
    tensors,
)
from passband.integrations.checkpoints.import_folder import (
    OTHERS,
    Progress,
    called,
    check_file,
    fetched,
    file_hash,
    write_import,
)
from passband.integrations.checkpoints.plain_objects import Objects
from passband.integrations.checkpoints.plain_pickle import (
    CheckpointFormatError,
    UnsafeCheckpointError,
    load_plain,
    shown,
)
from passband.models import EDMUNet

__all__ = ["CheckpointFormatError", "EDMCheckpoint", "Imported", "UnsafeCheckpointError", "import_edm", "read_edm"]

#: What other files begin with, and what to say of them.
_OTHERS = {
    b"PK": "a ZIP archive, such as torch.save writes, or a data set; this command reads the .pkl files of NVLabs' EDM",
    **OTHERS,
    b"{": "JSON text, not a pickle",
}


class EDMCheckpoint(NamedTuple):
    """A checkpoint of NVLabs' EDM as data."""

    #: Which of the file's entries it is, and all of them.
    key: str
    keys: tuple[str, ...]
    #: The preconditioning's class, and the network's constructor arguments as [`EDMUNet`][passband.models.EDMUNet]
    #: takes them.
    class_name: str
    config: dict[str, Any]
    #: The process: its name (`edm`, `edm_vp` or `edm_ve`) and constructor arguments.
    process: dict[str, Any]
    #: The network's tensors, named as in the file without the leading `model.`.
    state: dict[str, Tensor]
    #: Number of source texts that the file carried and that were set aside, and their length.
    sources: int
    source_characters: int
    sha256: str


class Imported(NamedTuple):
    """What an import wrote."""

    checkpoint: EDMCheckpoint
    parameters: int
    #: The network's constructor arguments, defaults included.
    config: dict[str, Any]


def read_edm(path: str | Path, *, key: str | None = None, sha256: str | None = None) -> EDMCheckpoint:
    """Read a checkpoint of NVLabs' EDM (https://github.com/NVlabs/edm) without running anything in it.

    Read are `EDMPrecond`, `VPPrecond` and `VEPrecond` around a `SongUNet` (DDPM++ and NCSN++). The source texts that
    such a file carries are set aside unread.

    Args:
        path: the .pkl file.
        key: which entry of the file; default: the first of `ema`, `net`, `G_ema` that it has.
        sha256: the file's expected hash, in hexadecimal digits.

    Raises:
        UnsafeCheckpointError: if the file asks for anything but the names that such a checkpoint needs.
        CheckpointFormatError: if it is broken, of another kind or of an unsupported network, or has no such entry.
        OSError: if it cannot be opened.

    """
    return _read_named(Path(path), str(path), key, sha256)


def import_edm(
    source: str | Path,
    out: Path,
    *,
    key: str | None = None,
    sha256: str | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Turn a checkpoint of NVLabs' EDM into a folder of safetensors and JSON, without running anything in it.

    The folder holds config.json and model.safetensors ([`load_model`][passband.models.load_model] reads them),
    process.json and import.json (where it comes from). It is written whole or not at all. A download lies beside it
    while it is read.

    Args:
        source: the .pkl file, or its address: http, https or file.
        out: the folder to write: a new or an empty one, or an earlier import, which is replaced.
        key: see [`read_edm`][passband.integrations.edm.read_edm].
        sha256: likewise.
        progress: called with the bytes that a download has brought and their number, None if unknown.

    Returns:
        What was read, the number of parameters, and the network's whole configuration.

    Raises:
        UnsafeCheckpointError: as for `read_edm`.
        CheckpointFormatError: as for `read_edm`, or if the tensors do not fit the network that the file describes.
        FileExistsError: if out holds anything but an earlier import.
        OSError: if the file cannot be had, or the folder cannot be written.

    """
    with fetched(source, out, sha256, progress) as path:
        found = _read_named(path, str(source), key, sha256)
    model = _network(found)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    origin = {
        "source": str(source),
        "format": "NVLabs EDM pickle",
        "sha256": found.sha256,
        "key": found.key,
        "class": found.class_name,
        "parameters": parameters,
        "discarded": {"source_texts": found.sources, "characters": found.source_characters},
    }
    write_import(out, model, found.process, origin)
    return Imported(found, parameters, model.config)


def _read_named(path: Path, name: str, key: str | None, sha256: str | None) -> EDMCheckpoint:
    """The checkpoint, called by the name that the user gave in what is said of it."""
    check_file(path, name, ".pkl")
    with path.open("rb") as stream:
        digest = file_hash(stream, name, sha256)
        with called(name):
            return _read(stream, key, digest)


def _read(stream: BufferedIOBase, key: str | None, digest: str) -> EDMCheckpoint:
    size = stream.seek(0, 2)
    stream.seek(0)
    _check_kind(stream.read(64))
    stream.seek(0)
    objects = Objects(size)
    content = load_plain(stream, objects.names())
    if type(content) is int:
        raise CheckpointFormatError("is an older file of torch.save; this command reads the .pkl files of NVLabs' EDM")
    if type(content) is not dict:
        raise CheckpointFormatError(f"holds no dictionary of networks, but a value of type {type(content).__name__}")
    key, outer = choose(content, key)
    return EDMCheckpoint(
        key=key,
        keys=tuple(name if isinstance(name, str) else shown(name) for name in content),
        class_name=outer.class_name,
        config=constructor_arguments(inner(outer)),
        process=process_arguments(outer),
        state=tensors(outer, size),
        sources=len(objects.sources),
        source_characters=sum(map(len, objects.sources)),
        sha256=digest,
    )


def _check_kind(start: bytes) -> None:
    if not start:
        raise CheckpointFormatError("is empty: the download failed; get it anew")
    for prefix, what in _OTHERS.items():
        if start.lstrip().startswith(prefix):
            raise CheckpointFormatError(f"is {what}")
    if start[0] != 0x80:
        raise CheckpointFormatError("is no pickle of protocol 2 or later; give a .pkl file of NVLabs' EDM")


def _network(found: EDMCheckpoint) -> EDMUNet:
    """The network with the tensors in it, none copied and none filled with random numbers first."""
    config = found.config
    try:
        blocks = config.get("num_blocks", 4) * len(config.get("channel_mult", (1, 2, 2, 2)))
        if blocks > len(found.state):
            raise ValueError(f"{blocks} blocks and {len(found.state)} tensors")
        with torch.device("meta"):
            model = EDMUNet(**config)
        model.load_state_dict(found.state, strict=True, assign=True)
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        reason = " ".join(str(error).split())[:600]
        raise CheckpointFormatError(
            f"the checkpoint's tensors do not fit the network that it describes, {config}: {reason}"
        ) from error
    return model.eval()
