"""`passband import`: checkpoints of other projects, as safetensors and JSON."""

import shlex
from pathlib import Path, PurePosixPath
from typing import Annotated
from urllib.parse import unquote, urlsplit

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from passband.cli.console import console
from passband.integrations._download import is_url
from passband.integrations.edm import Imported, import_edm

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
    with _progress(disable=not is_url(source)) as progress:
        task = progress.add_task("downloading", visible=False)
        found = import_edm(
            source,
            folder,
            key=key,
            sha256=sha256,
            progress=lambda done, total: progress.update(task, completed=done, total=total, visible=True),
        )
    _report(found, folder)


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
    console.print(f"Imported {str(folder)!r}", markup=False)
    for name, text in lines.items():
        console.print(f"  {name:<16}{text}", markup=False)
    console.print("Next:")
    console.print(f"  passband sample {shlex.quote(str(folder))}", markup=False)
    console.print(f"  passband train RECIPE {_settings(found, folder)}", markup=False)


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
    return " ".join(shlex.quote(f"{key}={value}") for key, value in settings.items())


def _progress(*, disable: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=console, transient=True, disable=disable)
