"""`passband inspect AUTOENCODER DATA`: is this latent space easy to learn for a diffusion model?"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from passband.cli.console import console, parse_resolution, report_skipped
from passband.cli.stages import Stages, stages
from passband.data import ImageFolder
from passband.training.inspect import InspectionSettings, inspect_autoencoders
from passband.training.ranks import usable_device
from passband.training.restore import find_autoencoder


def inspect(
    autoencoder: Annotated[
        Path,
        typer.Argument(
            help="Folder of a run that trained an autoencoder, or of a saved AutoencoderKL or pipeline.",
            show_default=False,
        ),
    ],
    data: Annotated[Path, typer.Argument(help="Folder or zip of images.", show_default=False)],
    against: Annotated[
        Path | None, typer.Option(help="Another autoencoder, inspected on the same images and shown beside it.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the page, the figures and results.json.")] = Path(
        "runs/inspect"
    ),
    resolution: Annotated[
        str, typer.Option(help="Side of the images in pixels, or HEIGHTxWIDTH; a multiple of the latent's factor.")
    ] = "64",
    crop: Annotated[
        str, typer.Option(help="'tile': all whole tiles at native resolution. 'center': the central part, resized.")
    ] = "tile",
    count: Annotated[int, typer.Option(min=1, help="Images to measure, at most.")] = 512,
    probes: Annotated[
        int, typer.Option(min=0, help="Of them, how many the decoder is probed with, some twenty times each.")
    ] = 128,
    subset: Annotated[str, typer.Option(help="all, or one side of a split by name: train or eval.")] = "all",
    checkpoint: Annotated[
        int | None, typer.Option(help="Of the first autoencoder's run: the checkpoint's step; default: newest.")
    ] = None,
    weights: Annotated[str, typer.Option(help="Likewise: ema, another average (ema2), or last.")] = "ema",
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once.")] = 16,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps; default: the fastest there is.")] = None,
    seed: Annotated[int, typer.Option(help="Of the white noise that latents are compared with.")] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first image that cannot be read.")] = False,
) -> None:
    """Inspect an autoencoder: is its latent space easy to learn for a diffusion model?

    Measures the spectrum of the latents against that of the images, where each latent frequency lands in the decoded
    image, low-passed and scaled latents, how the channels are used, and the reconstruction. Writes a page (index.html)
    with a verdict in words, its figures and the numbers (results.json).
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, got the file {str(out)!r}: choose another place for the report")
    settings = InspectionSettings(count=count, probes=probes, batch_size=batch_size, seed=seed)
    place = usable_device(device)
    found = [find_autoencoder(autoencoder, step=checkpoint, weights=weights)]
    found += [] if against is None else [find_autoencoder(against)]
    side = parse_resolution(resolution)
    height, width = (side, side) if isinstance(side, int) else side
    for each in found:
        each.latent_shape(height, width)  # sides that do not fit show before the data are read
    channels = found[0].image_channels
    if any(each.image_channels != channels for each in found):
        raise ValueError(f"both must take images of as many channels, got {[each.image_channels for each in found]}")
    with stages() as progress:
        show = Stages(progress)
        options: dict[str, Any] = {"crop": crop, "channels": channels, "subset": subset, "limit": count}
        dataset = ImageFolder(
            data, side, **options, strict=strict, progress=lambda done, total: show("reading headers", done, total)
        )
        shown = {
            "autoencoder": str(autoencoder),
            **({"checkpoint": str(checkpoint)} if checkpoint is not None else {}),
            **({"weights": weights} if weights != "ema" else {}),
            **({} if against is None else {"against": str(against)}),
            "images from": str(data),
            "crop": crop,
            "subset": subset,
            "seed": str(seed),
        }
        page = inspect_autoencoders(found, dataset, out, settings=settings, device=place, shown=shown, on_measured=show)
    report_skipped(dataset)
    _print(out)
    console.print(f"Page: {page}", markup=False)


def _print(out: Path) -> None:
    """The verdict and its table, on standard output."""
    document = json.loads((out / "results.json").read_text(encoding="utf-8"))
    shown = Console()
    found = document["autoencoders"]
    table = Table()
    table.add_column("question")
    for name in found:
        table.add_column(name)
    for answers in zip(*(each["findings"] for each in found.values()), strict=True):
        table.add_row(answers[0]["question"], *(f"{each['value']}\n{each['rating']}" for each in answers))
    shown.print(table)
    for sentence in document["verdict"]:
        shown.print(sentence, markup=False, highlight=False)
    for note in document["notes"]:
        shown.print(note, style="yellow", markup=False, highlight=False)
