"""`passband grid GRID.yaml`: the same training with several losses and seeds, compared."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from passband.cli.console import console, parse_share
from passband.metrics import load_features
from passband.reports.grid import grid_report
from passband.reports.grid_tables import describe_grid, grid_notes, metric_tables
from passband.training import TrainingInterrupted
from passband.training.evaluate_audio import check_instruments
from passband.training.grid import Grid, GridProgress, collect, load_grid, run_grid
from passband.training.ranks import Ranks


def grid(
    file: Annotated[Path, typer.Argument(metavar="GRID", help="A YAML file that names recipe, arms, seeds and steps.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Settings to change, the grid's (`seeds=[0]`) or its recipes' (`data.path=PHOTOS`)."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the runs; default: runs/ and the grid's name.")] = None,
    share: Annotated[
        str, typer.Option(help="I/N: run every N-th combination from the I-th, on each of N machines.")
    ] = "1/1",
    table: Annotated[bool, typer.Option("--table", help="Only show the results that are there.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the combinations and stop.")] = False,
) -> None:
    """Train and evaluate every combination of models, arms and seeds, and compare the arms.

    Runs that are finished are kept and those that were started continue, so an interrupted command goes on where it
    stopped. The arms of a seed share the data order, the noise and the samples' seeds. Writes table.md, results.json
    and a page (index.html).
    """
    found = load_grid(file, overrides or [])
    root = out or Path("runs") / found.settings.name
    if dry_run:
        for combination in found.combinations:
            print(*combination)
        return
    ranks = Ranks()
    console.quiet = not ranks.is_first
    if root.exists() and not root.is_dir():
        raise ValueError(f"--out must be a folder, got the file {str(root)!r}: choose another place for the runs")
    if not table:
        if ranks.is_first:
            _check_reachable(found)
        _run(found, root, parse_share(share), ranks)
    ranks.wait()
    if ranks.is_first:
        results = collect(found, root)
        if table and not results["runs"]:
            # No page: it would replace one of other settings by an empty one.
            lacking, failed = len(results["missing"]), len(results["failed"])
            also = f", {failed} have failed" if failed else ""
            console.print(
                f"There is nothing to show: {lacking} of {lacking + failed} evaluations of these settings are not in "
                f"{str(root)!r}{also}; the same command without --table runs them",
                markup=False,
            )
            raise typer.Exit(1)
        page = grid_report(results, root)
        _print(results)
        Console().print(f"Page: {page}", markup=False, soft_wrap=True)


def _check_reachable(found: Grid) -> None:
    """Raise before hours of training if what the evaluations need is not there."""
    settings = found.settings.evaluate
    if settings.real is not None and not settings.real.exists():
        raise FileNotFoundError(
            f"evaluate.real: no such folder or zip of images: {str(settings.real)!r}; check the path"
            if settings.kind == "images"
            else f"evaluate.real: no such folder of audio: {str(settings.real)!r}; check the path"
        )
    if settings.kind == "audio":
        check_instruments(settings, found.recipes.values())
    elif set(settings.chosen) - {"lsd"}:
        for spec in settings.features:
            load_features(spec)


def _run(found: Grid, root: Path, share: tuple[int, int], ranks: Ranks) -> None:
    count, steps = len(found.share(*share)), ", ".join(f"{step:,}" for step in found.steps)
    console.print(f"{count} of {len(found.combinations)} runs, each evaluated at step {steps}, in {root}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=console) as progress:
            whole, part = progress.add_task("grid", total=None), progress.add_task("", total=None)

            def show(now: GridProgress) -> None:
                progress.update(whole, completed=now.done, total=now.total)
                progress.update(part, description=now.what, completed=now.part, total=now.parts)

            run_grid(found, root, share=share, ranks=ranks, on_progress=show)
    except (TrainingInterrupted, KeyboardInterrupt):
        console.print("\ninterrupted; the same command continues")
        raise typer.Exit(130) from None


def _print(results: Mapping[str, Any]) -> None:
    shown = Console()
    for title, (head, *rows) in metric_tables(results):
        table = Table(box=box.SIMPLE, pad_edge=False)
        for number, column in enumerate(head):
            table.add_column(column, justify="left" if number == 0 else "right", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        shown.print(title, style="bold", markup=False)
        shown.print(table)
    for note in grid_notes(results):
        shown.print(note, style="yellow", markup=False)
    shown.print(describe_grid(results), markup=False)
