"""`passband demo`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from passband.cli.console import console
from passband.reports.demo import demo_report, paired_rows
from passband.training import TrainingInterrupted
from passband.training.demo import Experiment, pictures, run_experiment


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the runs and the report.")] = Path("runs/demo"),
    size: Annotated[int, typer.Option(help="Side of the boards in pixels; 64 is the paper's.")] = 32,
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas.")] = "2,3,4",
    budget: Annotated[
        int, typer.Option(help="Training steps of the first of three measurements (at 1, 2, 4 times it).")
    ] = 400,
    samples: Annotated[int, typer.Option(help="Samples drawn for each measurement.")] = 128,
    solver: Annotated[str, typer.Option(help="ancestral (DDPM's own sampler) or euler (DDIM).")] = "ancestral",
    workers: Annotated[int | None, typer.Option(min=1, help="Runs at a time; default: one per processor.")] = None,
) -> None:
    """Run the checkerboard experiment: a DDPM with and without a spectral term.

    Trains both on the same seeds and writes samples, spectra, curves, a table and results.json. Run again, it continues
    where it was interrupted.
    """
    experiment = Experiment(size=size, seeds=_seeds(seeds), budget=budget, samples=samples, solver=solver)
    console.print(f"training {len(experiment.runs)} models to {experiment.steps[-1]:,} steps each, into {out}")
    try:
        results = _run(experiment, out, workers)
    except TrainingInterrupted as stop:  # A run was asked to stop, this process was not.
        console.print(f"\n{str(stop).partition(';')[0]}; the same command continues")
        raise typer.Exit(130) from None
    page = demo_report(results, pictures(experiment, out), out)
    console.print(_table(results))
    console.print(f"{results['seconds']:.0f} s; the report is {page}, the numbers are in {out / 'results.json'}")


def _run(experiment: Experiment, out: Path, workers: int | None) -> dict[str, Any]:
    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("training", total=None)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        return run_experiment(experiment, out, workers=workers, on_progress=show)


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--seeds takes integers separated by commas, such as 2,3,4; got {text!r}") from None


def _table(results: dict[str, Any]) -> Table:
    table = Table(
        box=box.SIMPLE,
        pad_edge=False,
        title="means over seeds; paired difference with its standard error",
        title_style="",
    )
    for column in ("measure", "steps", "baseline", "with term", "ratio", "difference"):
        table.add_column(column, justify="left" if column == "measure" else "right", no_wrap=True)
    for row in paired_rows(results):
        table.add_row(*row)
    return table
