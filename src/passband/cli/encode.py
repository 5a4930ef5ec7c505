"""`passband encode AUTOENCODER DATA --out FOLDER`: the latents of a data set, to train on."""

import os
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from passband.cli.console import console, parse_resolution, report_skipped
from passband.data import SkippedImage
from passband.integrations.teachers import load_teacher
from passband.reports.page import current_command
from passband.training.build import build_dataset
from passband.training.config import invalid, load_recipe
from passband.training.encode import Encoded
from passband.training.encode import encode as encode_images
from passband.training.ranks import Ranks
from passband.training.restore import find_autoencoder
from passband.training.sections import HubData, ImagesData


def encode(
    autoencoder: Annotated[
        Path,
        typer.Argument(help="A run that trained an autoencoder, or a folder that diffusers saved.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the latents.", show_default=False)],
    data: Annotated[
        str | None, typer.Argument(help="A folder or zip of images; or give --recipe.", show_default=False)
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Take the section data of this recipe; the options below change it.")
    ] = None,
    resolution: Annotated[
        str | None, typer.Option(help="Of the images: 64, or HEIGHTxWIDTH, 48x64.", show_default=False)
    ] = None,
    crop: Annotated[
        str | None, typer.Option(help="'center': the central part, resized. 'tile': all whole tiles.")
    ] = None,
    image_scale: Annotated[
        float | None, typer.Option(help="With tiles: resize the images by this factor first, 0.5 to half their sides.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="'folder': the first folder is the class. 'json': from dataset.json.")
    ] = None,
    subset: Annotated[str | None, typer.Option(help="'all', 'train' or 'eval': one side of a split by file.")] = None,
    eval_share: Annotated[float | None, typer.Option(help="The share of samples in 'eval'.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Encode this many images at most.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first broken image.")] = False,
    flips: Annotated[bool, typer.Option("--flips", help="The latents of the flipped images too.")] = False,
    teacher: Annotated[
        list[str] | None,
        typer.Option(
            help="Write the features of a teacher: efficientnet-lite0[:LAYER], dinov2:FOLDER or module:package.name; "
            "may be repeated."
        ),
    ] = None,
    dtype: Annotated[str, typer.Option(help="Of what is stored: float16 or float32.")] = "float16",
    scale: Annotated[
        str, typer.Option(help="Standardise with one shift and scale for all ('global'), or for each 'channel'.")
    ] = "global",
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once in each process.")] = 32,
    shard_size: Annotated[int, typer.Option(min=1, help="Images of a file; what a kill may cost a process.")] = 1024,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that read images.", show_default="0 on the CPU, 8 at most")
    ] = None,
    checkpoint: Annotated[int | None, typer.Option(help="Of a run: step of the checkpoint; default: newest.")] = None,
    weights: Annotated[str, typer.Option(help="Of a run: ema, another average (ema2), or last.")] = "ema",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps; default: the fastest there is.")] = None,
) -> None:
    """Encode a data set, so that diffusion is trained on its latents without the autoencoder.

    Writes mean and standard deviation of each image's latent in shards (safetensors), their statistics and scale
    (latents.json), and a copy of the autoencoder. Interrupt it at will: the same command continues. Several processes
    share the work and write the same bytes (`torchrun -m passband.cli encode ...`, or `accelerate launch`).
    """
    ranks = Ranks(device)
    console.quiet = not ranks.is_first
    found = find_autoencoder(autoencoder, step=checkpoint, weights=weights)
    given = {
        "resolution": None if resolution is None else parse_resolution(resolution),
        "crop": crop,
        "scale": image_scale,
        "labels": labels,
        "subset": subset,
        "eval_share": eval_share,
        "limit": limit,
        "strict": strict or None,
    }
    settings = _settings(data, recipe, given, found.image_channels)
    teachers = [load_teacher(spec, ranks.device) for spec in teacher or []]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("reading headers", total=None)
            dataset = build_dataset(settings)
            progress.update(task, description="encoding")
            made = encode_images(
                dataset,
                found,
                out,
                flips=flips,
                teachers=teachers,
                dtype=dtype,
                scale=scale,
                batch_size=batch_size,
                shard_size=shard_size,
                workers=_workers(ranks) if workers is None else workers,
                data=settings.model_dump(mode="json"),
                ranks=ranks,
                on_progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
    except KeyboardInterrupt:
        how = "" if ranks.count == 1 else " (by the same launcher)"
        console.print(f"\ninterrupted: what is finished is kept; continue with{how}:\n{current_command()}")
        raise typer.Exit(130) from None
    report_skipped(_Skipped(made))
    if ranks.is_first:
        _print(made)


class _Skipped:
    def __init__(self, made: Encoded) -> None:
        self.skipped = [SkippedImage(*found) for found in made.skipped]


def _settings(data: str | None, recipe: Path | None, given: dict[str, Any], channels: int) -> ImagesData | HubData:
    """The section `data` that the options describe."""
    values: dict[str, Any] = {"name": "images"}
    if recipe is not None:
        section = load_recipe(recipe).data
        if not isinstance(section, ImagesData | HubData):
            raise ValueError(f"{str(recipe)!r} is no recipe of images: its data are {section.name!r}")
        values = section.model_dump()
    elif data is None:
        raise ValueError("name what to encode: a folder or zip of images after the autoencoder, or --recipe FILE")
    elif given["resolution"] is None:
        raise ValueError("say the size of the images: --resolution 256, or HEIGHTxWIDTH, --resolution 192x256")
    values |= {name: value for name, value in given.items() if value is not None}
    values |= {"channels": channels, "path": values.get("path") if data is None else data}
    if values["name"] == "images":
        values["path"] = Path(values["path"]).expanduser().resolve()  # to be found from anywhere later
    try:
        return (ImagesData if values["name"] == "images" else HubData).model_validate(values)
    except ValidationError as error:
        raise invalid("the data", error, values) from error


def _workers(ranks: Ranks) -> int:
    return 0 if ranks.device.type == "cpu" else min((os.cpu_count() or 1) // ranks.count, 8)


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e9:,.2f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:,.2f} MB"


def _print(made: Encoded) -> None:
    shown, header = Console(), made.header
    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in ("channel", "mean", "std", "shift", "scale"):
        table.add_column(column, justify="right")
    facts = header["statistics"]
    rows = zip(facts["mean"], facts["std"], header["shift"], header["scale"], strict=True)
    for channel, row in enumerate(rows):
        table.add_row(str(channel), *(f"{value:.4f}" for value in row))
    shown.print(table)
    channels, height, width = header["shape"]
    count, new = header["count"], header["count"] - made.resumed
    speed = f", {new / made.seconds:.1f} images/s" if new > 0 and made.seconds > 0 else ", all of them there before"
    shown.print(
        f"{count:,} latents of {channels} x {height} x {width}{' and their flips' if header['flips'] else ''}, "
        f"{_size(made.nbytes)}{speed}; they are in {made.path}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
    for name in header["teachers"]:
        shown.print(f"Features of a teacher, in a recipe: stored:{name}", highlight=False, markup=False)
    found = ["data.name=latents", f"data.path={made.path}", f"data.shape=[{channels},{height},{width}]"]
    found += ["data.labels=stored"] if header["num_classes"] else []
    found += [] if header["flips"] else ["data.flip=false"]
    settings = shlex.join(found)
    shown.print(f"Train on them with: passband train RECIPE {settings}", soft_wrap=True, highlight=False, markup=False)
