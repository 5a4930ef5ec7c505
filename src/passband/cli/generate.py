"""`passband generate`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from passband.cli.console import console, parse_share
from passband.integrations.text_to_image import GeneratorSettings, load_generator
from passband.sampling import SOLVERS
from passband.training.generate import Generation
from passband.training.prompts import BENCHMARKS
from passband.training.ranks import Ranks


def generate(
    prompts: Annotated[
        Path, typer.Argument(help="GenEval's evaluation_metadata.jsonl, or DPG-Bench's folder of .txt files.")
    ],
    model: Annotated[
        str,
        typer.Argument(
            help="Folder of a text-to-image model or of a diffusers pipeline, or a function, package.module:function."
        ),
    ],
    benchmark: Annotated[str, typer.Option(help=f"{' or '.join(BENCHMARKS)}.")],
    out: Annotated[Path, typer.Option(help="Folder of the images, as the benchmark's scorer reads it.")],
    images_per_prompt: Annotated[int, typer.Option(min=1, help="Images of each prompt; dpg: at most 4.")] = 4,
    seed: Annotated[int, typer.Option(help="Every image's seed follows from it.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Sampling steps; default: the model's.")] = None,
    solver: Annotated[str | None, typer.Option(help=f"{', '.join(SOLVERS)}; not for pipelines.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Scale of classifier-free guidance; 1 is none.")] = None,
    interval: Annotated[
        tuple[float, float] | None, typer.Option(help="Flow times between which guidance acts; not for pipelines.")
    ] = None,
    resolution: Annotated[int | None, typer.Option(min=1, help="Side in pixels; default: the model's.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once; changes no image.")] = 16,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps; default: the fastest there is.")] = None,
    share: Annotated[
        str, typer.Option(help="I/N: draw every N-th prompt from the I-th, on each of N machines.")
    ] = "1/1",
) -> None:
    """Draw a benchmark's prompts with a text-to-image model, into the folders that its scorer reads.

    GenEval: OUT/00000/metadata.jsonl and OUT/00000/samples/0000.png; DPG-Bench: OUT/NAME.png, four images in a square.
    Images that are there already are kept, so an interrupted command continues where it stopped. Several processes
    (`accelerate launch -m passband.cli generate ...`) share the work and draw the same images.
    """
    if benchmark not in BENCHMARKS:
        raise ValueError(f"--benchmark is {' or '.join(BENCHMARKS)}, got {benchmark!r}")
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, got the file {str(out)!r}: choose another place for the images")
    found = BENCHMARKS[benchmark].read(prompts)
    settings = GeneratorSettings(steps, solver, guidance, interval, resolution)
    where = str(Path(model).resolve()) if Path(model).is_dir() else model
    generation = Generation(benchmark, found, where, settings, images_per_prompt, seed, batch_size)
    part = parse_share(share)
    ranks = Ranks(device)
    console.quiet = not ranks.is_first
    generator = load_generator(model, settings, ranks.device)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("drawing")
            total = generation.write(
                generator,
                out,
                part,
                ranks,
                lambda done, total: progress.update(task, completed=done, total=total),
            )
    except KeyboardInterrupt:
        console.print("\ninterrupted; the same command continues")
        raise typer.Exit(130) from None
    console.print(f"{total} images of {len(found)} prompts are in {out}", markup=False)
    if part[1] > 1:
        console.print(f"this was share {share}; score the folder once it holds all of them", markup=False)
    side = resolution if resolution is not None else "RESOLUTION"
    line = BENCHMARKS[benchmark].scorer.format(out=out, images=images_per_prompt, resolution=side)
    console.print(f"the benchmark's own repository scores it: {line}", markup=False)
