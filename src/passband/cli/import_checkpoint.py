"""`passband import`: checkpoints of other projects, as safetensors and JSON."""

import contextlib
import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated
from urllib.parse import unquote, urlsplit

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from passband.cli.console import console
from passband.integrations.checkpoints.download import is_url
from passband.integrations.checkpoints.jit_shapes import size_name
from passband.integrations.diffwave import Imported as ImportedDiffWave
from passband.integrations.diffwave import import_diffwave
from passband.integrations.edm import Imported, import_edm
from passband.integrations.jit import FORCINGS, WEIGHTS, Choices, import_jit
from passband.integrations.jit import Imported as ImportedJiT
from passband.sampling import FAST_SCHEDULE

app = typer.Typer(
    help="Turn a checkpoint of another project into safetensors and JSON, without running anything in it.",
    no_args_is_help=True,
)

_PROCESSES = {"edm": "EDM's", "edm_vp": "the older VP", "edm_ve": "the older VE"}


@app.callback()
def group() -> None:
    """Turn a checkpoint of another project into safetensors and JSON, without running anything in it."""


@app.command("edm")
def edm(
    source: Annotated[str, typer.Argument(help="The .pkl file: a path or an address.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Folder to write; default: runs/NAME-OF-THE-FILE.")] = None,
    key: Annotated[str | None, typer.Option(help="Entry of the file; default: ema, else net, else G_ema.")] = None,
    sha256: Annotated[str | None, typer.Option(help="The hash that the file must have.")] = None,
) -> None:
    """Import a checkpoint of NVLabs' EDM.

    Such a file is a pickle, which could run anything when it is opened the usual way. Here only its data is read; a
    file that asks for more is refused.
    """
    folder = out or Path("runs") / _stem(source)
    with _downloading(source) as progress:
        found = import_edm(source, folder, key=key, sha256=sha256, progress=progress)
    _report(found, folder)


@app.command("jit")
def jit(
    source: Annotated[str, typer.Argument(help="The .pth file: a path or an address.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Folder to write; default: runs/NAME-OF-THE-FILE.")] = None,
    weights: Annotated[str | None, typer.Option(help=f"{', '.join(WEIGHTS)}; default: the first there is.")] = None,
    forcing: Annotated[
        str, typer.Option(help=f"{', '.join(FORCINGS)}; auto: linear, where the first projection is linear.")
    ] = "auto",
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Side in pixels, where the file leaves it open.")
    ] = None,
    context_start: Annotated[
        int | None, typer.Option(min=0, help="Block where the class tokens enter, for a size of your own.")
    ] = None,
    noise_scale: Annotated[
        float | None, typer.Option(help="Of the training's noise; default: recorded, else 1, and 2 from 512 pixels.")
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="The hash that the file must have.")] = None,
) -> None:
    """Import a checkpoint of JiT or of Spectral Forcing.

    Such a file is one of torch.save. Only its weights and plain values are read, and of the weights only those that
    are asked for; a file that asks for more is refused.
    """
    folder = out or Path("runs") / _stem(source)
    choices = Choices(weights, forcing, image_size, context_start, noise_scale)
    with _downloading(source) as progress:
        found = import_jit(source, folder, choices, sha256=sha256, progress=progress)
    _report_jit(found, folder)


@app.command("diffwave")
def diffwave(
    source: Annotated[str, typer.Argument(help="The .pt file: a path or an address.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Folder to write; default: runs/NAME-OF-THE-FILE.")] = None,
    sha256: Annotated[str | None, typer.Option(help="The hash that the file must have.")] = None,
) -> None:
    """Import a checkpoint of DiffWave.

    Such a file is one of torch.save, of either form. Only its weights and parameters are read; a file that asks for
    more is refused.
    """
    folder = out or Path("runs") / _stem(source)
    with _downloading(source) as progress:
        found = import_diffwave(source, folder, sha256=sha256, progress=progress)
    _report_diffwave(found, folder)


def _stem(source: str) -> str:
    name = unquote(urlsplit(source).path) if is_url(source) else source
    stem = PurePosixPath(Path(name).name).stem
    if not stem.strip("."):
        raise ValueError(f"cannot name a folder after {source!r}: give one with --out")
    return stem


def _report(found: Imported, folder: Path) -> None:
    read, config = found.checkpoint, found.config
    others = [name for name in read.keys if name != read.key]
    lines = {
        "network": f"{config['embedding_type']} embedding, {config['encoder_type']} encoder, "
        f"{found.parameters:,} parameters",
        "images": f"{config['img_resolution']} x {config['img_resolution']}, {config['img_channels']} channels",
        "classes": str(config["label_dim"] or "none"),
        "preconditioning": f"{_PROCESSES[read.process['name']]}, from {read.class_name}",
        "taken": f"{read.key!r}" + (f", of {', '.join(map(repr, read.keys))}" if others else ""),
        "set aside": f"{read.sources} source text(s), {read.source_characters:,} characters, none of it run"
        if read.sources
        else "nothing",
        "sha256": read.sha256,
    }
    _print(lines, folder, _settings(found, folder))


def _report_jit(found: ImportedJiT, folder: Path) -> None:
    read, config = found.checkpoint, found.checkpoint.config
    name, side, forcing = size_name(config), config["input_size"], read.forcing
    front = "" if forcing is None else ", ".join(f"{key} {value}" for key, value in forcing["front"].items())
    others = [entry for entry in read.entries if entry != read.entry]
    lines = {
        "network": f"{'JiT' if name is None else f'JiT-{name}'}: {config['depth']} blocks of width "
        f"{config['hidden_size']}, patches of {config['patch_size']}, {found.parameters:,} parameters",
        "images": f"{side} x {side}, {config['in_channels']} channels",
        "classes": str(config["num_classes"] or "none"),
        "prediction": "a clean image and a velocity" if "hybrid" in read.process else "the clean image",
        "forcing": f"{front}, kappa {forcing['kappa']}" if forcing else "none",
        "noise": f"of scale {read.process.get('noise_scale', 1)}",
        "taken": "the weights" if read.entry is None else repr(read.entry),
        "set aside": ", ".join(others) or "nothing",
        "sha256": read.sha256,
    }
    settings: dict[str, object] = {"model.name": "jit", "model.pretrained": folder}
    settings |= {f"process.{key}": _as_yaml(value) for key, value in read.process.items()}
    settings |= {"data.resolution": side, "data.channels": config["in_channels"]}
    if config["num_classes"]:
        settings["model.class_conditional"] = "true"
    if forcing is not None:
        settings["forcing"] = _as_yaml(forcing)
    _print(lines, folder, _joined(settings))


def _report_diffwave(found: ImportedDiffWave, folder: Path) -> None:
    read, config, mel, process = (
        found.checkpoint,
        found.checkpoint.config,
        found.checkpoint.mel,
        found.checkpoint.process,
    )
    dilation = 2 ** (min(config["dilation_cycle_length"], config["residual_layers"]) - 1)
    fast = read.params.get("inference_noise_schedule")
    others = [name for name in read.entries if name not in ("model", "params", "step")]
    spoken = (
        "none: it draws waveforms of its own"
        if config["unconditional"]
        else f"{mel['n_mels']} mel bands, windows of {mel['win_length'] or mel['n_fft']}, one per {mel['hop_length']} "
        "samples"
    )
    lines = {
        "network": f"{config['residual_layers']} layers of {config['residual_channels']} channels, dilations up to "
        f"{dilation}, {found.parameters:,} parameters",
        "audio": f"{mel['sample_rate']:,} Hz",
        "spectrograms": spoken,
        "noise": f"{process['steps']} steps, betas from {process['beta_start']:g} to {process['beta_end']:g}",
        "trained": "unknown" if read.step is None else f"{read.step:,} steps",
        "set aside": ", ".join(others) or "nothing",
        "sha256": read.sha256,
    }
    settings: dict[str, object] = {"model.name": "diffwave", "model.pretrained": folder}
    settings |= {f"process.{key}": value for key, value in process.items()}
    if config["unconditional"]:
        settings["model.unconditional"] = "true"
    settings |= {"data.name": "audio", "data.sample_rate": mel["sample_rate"]}
    settings |= {f"data.mel.{key}": _as_yaml(mel[key]) for key in mel if key != "sample_rate"}
    options = "" if config["unconditional"] else " --input AUDIO"
    if isinstance(fast, list) and len(fast) < process["steps"]:
        named = "fast" if tuple(fast) == FAST_SCHEDULE else ",".join(f"{beta:g}" for beta in fast)
        options += f" --schedule {named}"
    _print(lines, folder, _joined(settings), options)


def _print(lines: dict[str, str], folder: Path, settings: str, options: str = "") -> None:
    console.print(f"Imported {str(folder)!r}", markup=False)
    for name, text in lines.items():
        console.print(f"  {name:<16}{text}", markup=False)
    console.print("Next:")
    console.print(f"  passband sample {shlex.quote(str(folder))}{options}", markup=False)
    console.print(f"  passband train RECIPE {settings}", markup=False)


def _settings(found: Imported, folder: Path) -> str:
    """What a recipe must say to train this network."""
    config = found.config
    settings = {
        "model.name": "edm_unet",
        "model.pretrained": folder,
        "process.name": found.checkpoint.process["name"],
        "data.resolution": config["img_resolution"],
        "data.channels": config["img_channels"],
    }
    if config["label_dim"]:
        settings |= {"model.class_conditional": "true", "data.labels": "json"}
    return _joined(settings)


def _as_yaml(value: object) -> object:
    return value if isinstance(value, str) else json.dumps(value)


def _joined(settings: Mapping[str, object]) -> str:
    return " ".join(shlex.quote(f"{key}={value}") for key, value in settings.items())


@contextlib.contextmanager
def _downloading(source: str) -> Iterator[Callable[[int, int | None], None]]:
    """What shows how far a download is: to be called with the bytes that are there, and their number."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not is_url(source)) as progress:
        task = progress.add_task("downloading", visible=False)
        yield lambda done, total: progress.update(task, completed=done, total=total, visible=True)
