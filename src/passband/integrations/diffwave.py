"""Reads and writes the checkpoints of DiffWave's published code, which are files of torch.save: weights only."""

import io
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from passband._files import write_file
from passband.integrations.checkpoints.diffwave_params import (
    FIRST,
    TABLE,
    exported_params,
    mel_record,
    network_config,
    plain_params,
    process_record,
)
from passband.integrations.checkpoints.import_folder import (
    MEL_FILE,
    Progress,
    called,
    check_file,
    fetched,
    file_hash,
    write_import,
)
from passband.integrations.checkpoints.plain_pickle import CheckpointFormatError, shown
from passband.integrations.checkpoints.torch_save import network_tensors, read_torch_save
from passband.models import DiffWave, load_model
from passband.process import VP, Process, process_from_record

#: The dictionary with attributes that the published code keeps its parameters in; it is read as a dictionary.
_DICTIONARIES = [(OrderedDict, f"{module}.AttrDict") for module in ("diffwave.params", "params", "__main__")]


class DiffWaveCheckpoint(NamedTuple):
    """A checkpoint of DiffWave as data."""

    #: The file's entries; a file of weights alone has none.
    entries: tuple[str, ...]
    #: The network's constructor arguments as [`DiffWave`][passband.models.DiffWave] takes them.
    config: dict[str, Any]
    #: The process: its name (`vp`) and constructor arguments.
    process: dict[str, Any]
    #: The spectrograms, as [`MelSpectrogram`][passband.transforms.MelSpectrogram] takes them.
    mel: dict[str, Any]
    #: The file's own parameters, those that are plain values.
    params: dict[str, Any]
    #: The training's step, None if the file does not say.
    step: int | None
    #: The network's tensors by their published names, in float32; not copied where they are so.
    state: dict[str, Tensor]
    sha256: str


class Imported(NamedTuple):
    """What an import wrote."""

    checkpoint: DiffWaveCheckpoint
    parameters: int


class Exported(NamedTuple):
    """What an export wrote."""

    path: Path
    #: The parameters that stand in the file.
    params: dict[str, Any]
    parameters: int
    step: int
    #: What DiffWave's own code would do otherwise than this network asks for.
    differs: tuple[str, ...]


def read_diffwave(path: str | Path, *, sha256: str | None = None) -> DiffWaveCheckpoint:
    """Read a checkpoint of DiffWave (https://github.com/lmnt-com/diffwave), weights and parameters only.

    Both forms of torch.save are read, with and without an archive. What a file's parameters leave out is as published.

    Args:
        path: the file.
        sha256: the file's expected hash, in hexadecimal digits.

    Raises:
        UnsafeCheckpointError: if the file asks for more than tensors and plain values.
        CheckpointFormatError: if it is broken or of another kind, or its parameters and weights do not agree.
        OSError: if it cannot be opened.

    """
    return _read_named(Path(path), str(path), sha256)


def import_diffwave(
    source: str | Path, out: Path, *, sha256: str | None = None, progress: Progress | None = None
) -> Imported:
    """Turn a checkpoint of DiffWave into a folder of safetensors and JSON, weights only.

    The folder holds config.json and model.safetensors ([`load_model`][passband.models.load_model] reads them),
    process.json, mel.json and import.json (where it comes from). It is written whole or not at all.

    Args:
        source: the file, or its address: http, https or file.
        out: the folder to write: a new or an empty one, or an earlier import, which is replaced.
        sha256: the file's expected hash, in hexadecimal digits.
        progress: called with the bytes that a download has brought and their number, None if unknown.

    Returns:
        What was read, and the number of parameters.

    Raises:
        UnsafeCheckpointError: as for `read_diffwave`.
        CheckpointFormatError: as for `read_diffwave`, or if the tensors do not fit a DiffWave.
        FileExistsError: if out holds anything but an earlier import.
        OSError: if the file cannot be had, or the folder cannot be written.

    """
    with fetched(source, out, sha256, progress) as path:
        found = _read_named(path, str(source), sha256)
        model = _network(found, str(source))
        parameters = sum(parameter.numel() for parameter in model.parameters())
        origin = {
            "source": str(source),
            "format": "DiffWave torch.save",
            "sha256": found.sha256,
            "key": "model" if found.entries else None,
            "class": "DiffWave",
            "parameters": parameters,
            "discarded": [name for name in found.entries if name not in ("model", "params", "step")],
            "step": found.step,
            "params": found.params,
        }
        write_import(out, model, found.process, origin, found.mel)  # while the file is there: its tensors are mapped
    return Imported(found, parameters)


def export_diffwave(
    source: str | Path | DiffWave,
    out: str | Path,
    *,
    process: Process | None = None,
    mel: Mapping[str, Any] | None = None,
    inference_schedule: Sequence[float] | None = None,
    step: int | None = None,
    replace: bool = False,
) -> Exported:
    """Write a network as a checkpoint of DiffWave's published code: step, model, optimizer, params and scaler.

    The optimizer's entry is that of an Adam that has not begun. `torch.load(weights_only=True)` reads the file. What
    the published code does not leave open about spectrograms is kept under parameters that begin with `mel_`.

    Args:
        source: the folder of an imported network, or a network.
        out: the file to write.
        process: of a network: the VP process that it was trained with, with linear betas.
        mel: of a network: its spectrograms, the arguments of [`MelSpectrogram`][passband.transforms.MelSpectrogram].
        inference_schedule: betas that the file recommends for sampling; default: those that were imported, or the
            fast schedule, where the process reaches its noise, else the training's.
        step: the training's step; default: the one that was imported, or 0.
        replace: whether a file that is there may be replaced.

    Returns:
        What was written, and in what DiffWave's own code differs.

    Raises:
        TypeError: if source is another network.
        ValueError: if process or mel is missing, or the process is none that DiffWave's code knows.
        FileNotFoundError: if the folder holds no imported DiffWave.
        FileExistsError: if there is such a file, and replace is off.
        OSError: if the file cannot be written.

    """
    out = Path(out)
    if out.is_dir():
        raise FileExistsError(f"{str(out)!r} is a folder: give the name of the file to write")
    if out.exists() and not replace:
        raise FileExistsError(f"{str(out)!r} is there already: choose another name, or replace it (--replace)")
    recorded: dict[str, Any] = {}
    if not isinstance(source, DiffWave):
        source, process, mel, recorded = _imported_folder(source)
    if mel is None or process is None:
        raise ValueError("an export needs the network's process and mel: pass both, or the folder of an import")
    if type(process) is not VP or process.prediction != "epsilon":
        raise ValueError(f"DiffWave's code samples networks that predict the noise of a VP process, got {process!r}")
    params, differs = exported_params(source, process, mel, inference_schedule)
    kept = dict(recorded.get("params") or {})
    if inference_schedule is not None:
        kept.pop("inference_noise_schedule", None)
    params = {**kept, **{name: value for name, value in params.items() if name not in kept}}
    step = recorded.get("step") or 0 if step is None else step
    _write(out, source, params, step)
    return Exported(out, params, sum(parameter.numel() for parameter in source.parameters()), step, tuple(differs))


def _write(out: Path, model: DiffWave, params: dict[str, Any], step: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=params["learning_rate"])
    content = {
        "step": step,
        "model": {name: value.detach().cpu().float().contiguous() for name, value in model.state_dict().items()},
        "optimizer": optimizer.state_dict(),
        "params": params,
        "scaler": {},
    }
    # Through memory: the archive would else be named after the hidden file, and a full disk be torch's RuntimeError.
    archive = io.BytesIO()
    torch.save(content, archive)
    write_file(out, archive.getvalue())


def _imported_folder(folder: str | Path) -> tuple[DiffWave, Process, dict[str, Any], dict[str, Any]]:
    """Network, process, mel and import.json."""
    root = Path(folder)
    for name in ("process.json", MEL_FILE):
        if not (root / name).is_file():
            raise FileNotFoundError(
                f"there is no imported DiffWave at {str(folder)!r}: {name} is missing; give a folder that "
                "passband import diffwave wrote"
            )
    model = load_model(root)
    if not isinstance(model, DiffWave):
        raise TypeError(f"{str(folder)!r} holds a {type(model).__name__}, expected a DiffWave")
    origin = _json(root / "import.json") if (root / "import.json").is_file() else {}
    return model, process_from_record(_json(root / "process.json")), _json(root / MEL_FILE), origin


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ValueError(f"{str(file)!r} is damaged: it holds no JSON object; import the checkpoint again")
    return content


def _read_named(path: Path, name: str, sha256: str | None) -> DiffWaveCheckpoint:
    """The checkpoint, called by the name that the user gave in what is said of it."""
    check_file(path, name, "checkpoint")
    with path.open("rb") as stream:
        digest = file_hash(stream, name, sha256)
    with called(name):
        content = read_torch_save(path, "DiffWave", safe=_DICTIONARIES, older=True)
        return _read(content, path.stat().st_size, digest)


def _read(content: object, size: int, digest: str) -> DiffWaveCheckpoint:
    if not isinstance(content, dict):
        raise CheckpointFormatError(f"holds no dictionary of weights, but a value of type {type(content).__name__}")
    entry, alone = content.get("model"), all(isinstance(value, Tensor) for value in content.values())
    if not isinstance(entry, dict) and not (content and alone):
        listed = ", ".join(shown(name) for name in list(content)[:8]) or "none"
        raise CheckpointFormatError(f"has no entry 'model' with weights; it has {listed}")
    whole = isinstance(entry, dict)
    params = plain_params(content.get("params")) if whole else {}
    state = network_tensors(entry if isinstance(entry, dict) else content, FIRST, "DiffWave", size, TABLE)
    config = network_config(state, params)
    step = content.get("step") if whole else None
    return DiffWaveCheckpoint(
        entries=tuple(name if isinstance(name, str) else shown(name) for name in content) if whole else (),
        config=config,
        process=process_record(params),
        mel=mel_record(config, params),
        params=params,
        step=step if type(step) is int and step >= 0 else None,
        state=state,
        sha256=digest,
    )


def _network(found: DiffWaveCheckpoint, source: str) -> DiffWave:
    """The network with the tensors in it, none copied and none filled with random numbers first."""
    try:
        with torch.device("meta"):
            model = DiffWave(**found.config)
        model.load_state_dict(found.state, strict=True, assign=True)
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointFormatError(
            f"the tensors in {source!r} do not fit a DiffWave: {reason}; get the file again"
        ) from error
    return model.eval()
