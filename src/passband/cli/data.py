"""`passband data prepare SOURCE... --out FILE.zip`: folders and zips of images as one dataset zip."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from passband.cli.console import console, parse_resolution, report_skipped
from passband.data import Prepared, prepare_images

app = typer.Typer(help="Prepare data sets.", no_args_is_help=True)


@app.callback()
def data() -> None:
    """Prepare data sets."""


@app.command("prepare")
def prepare(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCE", help="Folders and zips of images.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="The zip to write.", show_default=False)],
    resolution: Annotated[
        str, typer.Option(help="Of the samples, in pixels: 64, or HEIGHTxWIDTH, 48x64.", show_default=False)
    ],
    crop: Annotated[
        str, typer.Option(help="'center': the central part, resized. 'tile': all whole tiles at native resolution.")
    ] = "center",
    scale: Annotated[
        float, typer.Option(help="With tiles: resize the images by this factor first, 0.5 to half their sides.")
    ] = 1.0,
    channels: Annotated[int, typer.Option(help="3: red, green and blue. 1: luma.")] = 3,
    labels: Annotated[
        str,
        typer.Option(
            help="'folder': the first folder in a source is the class. 'json': from each source's dataset.json."
        ),
    ] = "none",
    subset: Annotated[
        str, typer.Option(help="'all', 'train' or 'eval': one side of a split by file and tile.")
    ] = "all",
    eval_share: Annotated[float, typer.Option(help="The share of samples in 'eval'.")] = 0.1,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Write this many squares at most, from all over the sources.")
    ] = None,
    image_format: Annotated[str, typer.Option("--format", help="Of the images in the zip: png.")] = "png",
    compression: Annotated[
        int, typer.Option(min=0, max=9, help="Of the PNGs: 0 is the quickest to read, 9 the smallest.")
    ] = 0,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that decode.", show_default="one per core, 16 at most")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first image that cannot be used.")] = False,
) -> None:
    """Make a dataset zip, in EDM's layout, from folders and zips of images.

    Interrupt it at will: the same command continues, and the zip comes out the same.
    """
    if image_format != "png":
        raise ValueError(
            f"unknown format: got {image_format!r}; expected 'png', the one without loss that all tools read"
        )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("reading headers", total=None)

        def show(description: str, done: int, total: int) -> None:
            progress.update(task, description=description, completed=done, total=total)

        try:
            made = prepare_images(
                sources,
                out,
                parse_resolution(resolution),
                crop=crop,
                scale=scale,
                channels=channels,
                labels=labels,
                subset=subset,
                eval_share=eval_share,
                limit=limit,
                strict=strict,
                compression=compression,
                workers=min(os.cpu_count() or 1, 16) if workers is None else workers,
                on_index=lambda done, total: show("reading headers", done, total),
                on_progress=lambda done, total: show("writing squares", done, total),
            )
        except KeyboardInterrupt:
            progress.stop()
            console.print("\ninterrupted: what is finished is kept; the same command continues")
            raise typer.Exit(130) from None
    _report(made, parse_resolution(resolution), channels)


def _report(made: Prepared, resolution: int | tuple[int, int], channels: int) -> None:
    report_skipped(made)
    if made.resumed:
        console.print(f"{made.resumed:,} of the squares had been finished before.")
    classes = f", {made.num_classes} classes" if made.num_classes else ""
    size = f"{made.nbytes / 1e6:,.1f} MB" if made.nbytes >= 1e6 else f"{made.nbytes / 1e3:,.0f} kB"
    height, width = (resolution, resolution) if isinstance(resolution, int) else resolution
    print(f"{made.path}: {made.images:,} images of {width} x {height}{classes}, {size}")
    side = f"{resolution}" if isinstance(resolution, int) else f"'[{height},{width}]'"
    settings = f"data.path={shlex.quote(str(made.path))} data.resolution={side} data.channels={channels}"
    labels = " data.labels=json" if made.num_classes else ""
    print(f"Train on it: passband train RECIPE {settings} data.crop=center{labels}")
