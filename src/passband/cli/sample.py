"""`passband sample`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from passband.cli.console import console
from passband.sampling import SOLVERS
from passband.training.draw import Drawing
from passband.training.ranks import Ranks
from passband.training.restore import guided, restore


def sample(
    run: Annotated[
        Path, typer.Argument(help="The folder of a run that `passband train` wrote, or of an imported network.")
    ],
    count: Annotated[int, typer.Option(min=1, help="Number of samples.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the first sample; sample i has seed + i.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Sampling steps; default: the recipe's.")] = None,
    solver: Annotated[str | None, typer.Option(help=f"{', '.join(SOLVERS)}; default: the recipe's.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples at once; changes no sample.")] = 32,
    checkpoint: Annotated[int | None, typer.Option(help="Step of the checkpoint; default: the newest.")] = None,
    weights: Annotated[str, typer.Option(help="ema, another average (ema2), or last: those of the last step.")] = "ema",
    guidance: Annotated[float | None, typer.Option(min=0, help="Guidance scale; default: the recipe's.")] = None,
    forcing: Annotated[
        str, typer.Option(help="Spectral Forcing: recorded (as it was trained), none, or linear (the published one).")
    ] = "recorded",
    insist: Annotated[bool, typer.Option("--insist", help="With another forcing than it was trained with.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps; default: the fastest there is.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the images; default: RUN/samples/step-STEP.")] = None,
) -> None:
    """Draw samples from a trained model, as PNG files named by their seeds; latents are decoded.

    Images that are there already are kept, so an interrupted command continues where it stopped. Several processes
    (`accelerate launch -m passband.cli sample ...`) share the work and draw the same samples.
    """
    if out is not None and out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, got the file {str(out)!r}: choose another place for the samples")
    found = restore(run, step=checkpoint, weights=weights, forcing=forcing, insist=insist)
    drawing = Drawing(guided(found, guidance), run, steps, solver, batch_size)
    ranks = Ranks(device)
    console.quiet = not ranks.is_first
    folder = out or run / "samples" / f"step-{found.step:08d}"
    try:
        with Progress(console=console) as progress:
            task = progress.add_task("sampling", total=count)
            drawing.draw(
                folder,
                range(seed, seed + count),
                ranks,
                lambda done, total: progress.update(task, completed=done, total=total),
            )
    except KeyboardInterrupt:
        console.print("\ninterrupted; the same command continues")
        raise typer.Exit(130) from None
    console.print(f"{count} samples are in {folder}")
