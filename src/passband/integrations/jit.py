"""Reads the checkpoints of JiT and of Spectral Forcing, which are files of torch.save: weights only."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from passband._checks import check_choice, nearest
from passband.integrations.checkpoints.import_folder import (
    Progress,
    called,
    check_file,
    fetched,
    file_hash,
    write_import,
)
from passband.integrations.checkpoints.jit_shapes import (
    forcing_config,
    network_config,
    network_state,
    process_arguments,
)
from passband.integrations.checkpoints.plain_pickle import CheckpointFormatError, shown
from passband.integrations.checkpoints.torch_save import read_torch_save
from passband.models import JiT

#: The weights in a checkpoint, and the entries that hold them; the first that is there is taken.
WEIGHTS = {"ema1": "model_ema1", "ema2": "model_ema2", "model": "model"}
FORCINGS = ("auto", "none", "linear")


class JiTCheckpoint(NamedTuple):
    """A checkpoint of JiT as data."""

    #: Which of the file's entries it is, and all of them; a file of weights alone has none.
    entry: str | None
    entries: tuple[str, ...]
    #: The network's constructor arguments as [`JiT`][passband.models.JiT] takes them.
    config: dict[str, Any]
    #: The process: its name (`flow`) and constructor arguments.
    process: dict[str, Any]
    #: The Spectral Forcing that goes with it, or None.
    forcing: dict[str, Any] | None
    #: The network's tensors, named as in the file without the leading `net.`, in float32; not copied where they are so.
    state: dict[str, Tensor]
    sha256: str


class Imported(NamedTuple):
    """What an import wrote."""

    checkpoint: JiTCheckpoint
    parameters: int


class Choices(NamedTuple):
    """What a checkpoint leaves open, or what is to be done otherwise than it says."""

    #: Which weights: a key of `WEIGHTS`; default: the first that the file has.
    weights: str | None = None
    #: `auto` (Spectral Forcing where the first projection is linear, as in its files), `none` or `linear`.
    forcing: str = "auto"
    #: Side of the images in pixels, where the shapes leave it open.
    image_size: int | None = None
    #: Block where the class tokens enter, where the size is none of the published ones.
    context_start: int | None = None
    #: Standard deviation of the training's noise; default: what is recorded, else the published 1 (2 from 512 pixels).
    noise_scale: float | None = None


def read_jit(path: str | Path, choices: Choices | None = None, *, sha256: str | None = None) -> JiTCheckpoint:
    """Read a checkpoint of JiT (https://github.com/LTH14/JiT) or Spectral Forcing, weights only.

    Entries that are not asked for, such as the optimizer's, are not read into memory.

    Args:
        path: the file.
        choices: what the file leaves open.
        sha256: the file's expected hash, in hexadecimal digits.

    Raises:
        UnsafeCheckpointError: if the file asks for more than tensors and plain values.
        CheckpointFormatError: if it is broken or of another kind, holds no such weights, or leaves open what is not
            among the choices.
        OSError: if it cannot be opened.
        ValueError: if a choice is unknown.

    """
    return _read_named(Path(path), str(path), choices or Choices(), sha256)


def import_jit(
    source: str | Path,
    out: Path,
    choices: Choices | None = None,
    *,
    sha256: str | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Turn a checkpoint of JiT or Spectral Forcing into a folder of safetensors and JSON, weights only.

    The folder holds config.json and model.safetensors ([`load_model`][passband.models.load_model] reads them; the
    forcing is recorded there), process.json and import.json (where it comes from). It is written whole or not at all.

    Args:
        source: the file, or its address: http, https or file.
        out: the folder to write: a new or an empty one, or an earlier import, which is replaced.
        choices: what the file leaves open.
        sha256: the file's expected hash, in hexadecimal digits.
        progress: called with the bytes that a download has brought and their number, None if unknown.

    Returns:
        What was read, and the number of parameters.

    Raises:
        UnsafeCheckpointError: as for `read_jit`.
        CheckpointFormatError: as for `read_jit`, or if the tensors do not fit a JiT.
        FileExistsError: if out holds anything but an earlier import.
        OSError: if the file cannot be had, or the folder cannot be written.
        ValueError: if a choice is unknown.

    """
    with fetched(source, out, sha256, progress) as path:
        found = _read_named(path, str(source), choices or Choices(), sha256)
        model = _network(found, str(source))
        parameters = sum(parameter.numel() for parameter in model.parameters())
        origin = {
            "source": str(source),
            "format": "JiT torch.save",
            "sha256": found.sha256,
            "key": found.entry,
            "class": "JiT",
            "parameters": parameters,
            "discarded": [name for name in found.entries if name != found.entry],
        }
        write_import(out, model, found.process, origin)  # while the file is there: its tensors are mapped, not copied
    return Imported(found, parameters)


def _read_named(path: Path, name: str, choices: Choices, sha256: str | None) -> JiTCheckpoint:
    """The checkpoint, called by the name that the user gave in what is said of it."""
    check_choice("forcing", choices.forcing, FORCINGS)
    if choices.weights is not None:
        check_choice("weights", choices.weights, WEIGHTS)
    check_file(path, name, "checkpoint")
    with path.open("rb") as stream:
        digest = file_hash(stream, name, sha256)
    with called(name):
        content = read_torch_save(path, "JiT or Spectral Forcing", safe=[argparse.Namespace])
        return _read(content, choices, path.stat().st_size, digest)


def _read(content: object, choices: Choices, size: int, digest: str) -> JiTCheckpoint:
    if not isinstance(content, dict):
        raise CheckpointFormatError(f"holds no dictionary of weights, but a value of type {type(content).__name__}")
    name, entry = _choose(content, choices.weights)
    arguments = content.get("args")
    recorded = vars(arguments) if isinstance(arguments, argparse.Namespace) else arguments
    known = recorded if isinstance(recorded, dict) else {}
    state = network_state(entry, size)
    config = network_config(state, known, choices.image_size, choices.context_start)
    return JiTCheckpoint(
        entry=name,
        entries=() if name is None else tuple(key if isinstance(key, str) else shown(key) for key in content),
        config=config,
        process=process_arguments(config, known, choices.noise_scale),
        forcing=forcing_config(config, choices.forcing),
        state=state,
        sha256=digest,
    )


def _choose(content: dict[Any, object], weights: str | None) -> tuple[str | None, Mapping[Any, object]]:
    """The entry of those weights, or the first of `WEIGHTS`; the file itself where it holds weights alone."""
    there = [short for short, name in WEIGHTS.items() if isinstance(content.get(name), dict)]
    if not there and content and all(isinstance(value, Tensor) for value in content.values()):
        if weights is not None:
            raise CheckpointFormatError(f"holds one set of weights and no {WEIGHTS[weights]!r}: leave out --weights")
        return None, content
    if not there:
        raise CheckpointFormatError(
            f"has none of the entries {', '.join(WEIGHTS.values())}; it has "
            f"{', '.join(shown(name) for name in list(content)[:8]) or 'none'}"
        )
    chosen = there[0] if weights is None else weights
    if chosen not in there:
        raise CheckpointFormatError(
            f"has no weights {chosen!r}{nearest(chosen, there)}: give --weights {' or '.join(there)}"
        )
    entry = content[WEIGHTS[chosen]]
    assert isinstance(entry, dict)
    return WEIGHTS[chosen], entry


def _network(found: JiTCheckpoint, source: str) -> JiT:
    """The network with the tensors in it, none copied and none filled with random numbers first."""
    try:
        with torch.device("meta"):
            model = JiT(**found.config)
        model.load_state_dict(found.state, strict=True, assign=True)
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointFormatError(
            f"the tensors in {source!r} do not fit a JiT: {reason}; get the file again, or take another of its weights"
        ) from error
    model.recorded_forcing = found.forcing
    return model.eval()
