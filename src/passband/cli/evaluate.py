"""`passband evaluate RUN`: how good are a network's samples, and is their spectrum right?"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from passband._checks import check_choice
from passband.cli.console import console
from passband.reports.evaluation import COLUMNS, evaluation_rows, metric_texts
from passband.sampling import SOLVERS
from passband.training.evaluate import EvaluationSettings, Evaluator, MetricName, evaluation_folder
from passband.training.ranks import Ranks

_METRICS = get_args(MetricName)


def evaluate(
    run: Annotated[
        Path, typer.Argument(help="The folder of a run that `passband train` wrote, or of an imported network.")
    ],
    real: Annotated[
        Path | None,
        typer.Option(help="Folder or zip of real images; default: the recipe's data, the held-out part if it has one."),
    ] = None,
    count: Annotated[int, typer.Option(min=2, help="Number of samples; compare equal numbers only.")] = 50_000,
    seed: Annotated[int, typer.Option(help="Seed of the first sample; sample i has seed + i.")] = 0,
    features: Annotated[
        list[str] | None,
        typer.Option(
            help="efficientnet-lite0[:LAYER], or a TorchScript file (path or URL); may be repeated.",
            show_default="efficientnet-lite0",
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(help=f"Of {', '.join(_METRICS)}, separated by commas; default: what the features allow."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Sampling steps; default: the recipe's.")] = None,
    solver: Annotated[str | None, typer.Option(help=f"{', '.join(SOLVERS)}; default: the recipe's.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once.")] = 64,
    checkpoint: Annotated[int | None, typer.Option(help="Step of the checkpoint; default: the newest.")] = None,
    weights: Annotated[str, typer.Option(help="ema, another average (ema2), or last: those of the last step.")] = "ema",
    guidance: Annotated[float | None, typer.Option(min=0, help="Guidance scale; default: the recipe's.")] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="Use this many real images at most.")] = None,
    real_stats: Annotated[
        Path | None,
        typer.Option(help="File that keeps what was measured of the real images; default: one in RUN/real-stats."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps; default: the fastest there is.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of samples, page and results.json; default: RUN/evaluation/step-STEP.")
    ] = None,
) -> None:
    """Evaluate a trained model: draw samples and compare them with real images.

    Writes a page (index.html), its figures and the numbers (results.json). What is there already is kept: an
    interrupted command continues where it stopped. Several processes share the work:
    `accelerate launch -m passband.cli evaluate ...`.
    """
    if out is not None and out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, got the file {str(out)!r}: choose another place for the report")
    settings = EvaluationSettings(
        count=count,
        seed=seed,
        features=tuple(features or ["efficientnet-lite0"]),
        metrics=_metrics(metrics),
        steps=steps,
        solver=solver,
        weights=weights,
        guidance=guidance,
        real=real,
        limit=limit,
        batch_size=batch_size,
    )
    ranks = Ranks(device)
    console.quiet = not ranks.is_first
    evaluator = Evaluator(settings, ranks, real_stats=real_stats)
    try:
        with stages() as progress:
            results = evaluator.evaluate(run, out, step=checkpoint, on_progress=Stages(progress))
    except KeyboardInterrupt:
        console.print("\ninterrupted; the same command continues")
        raise typer.Exit(130) from None
    if ranks.is_first:
        _print(results, out or evaluation_folder(run, results["samples"]["step"]))


class Stages:
    """One progress bar for each stage of a piece of work.

    Args:
        progress: where they are shown.

    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.tasks: dict[str, Any] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show how far a stage is."""
        if what not in self.tasks:
            self.tasks[what] = self.progress.add_task(what)
        self.progress.update(self.tasks[what], completed=done, total=total)


def stages() -> Progress:
    """The progress bars of a command's stages."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)


def _metrics(text: str | None) -> tuple[MetricName, ...] | None:
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        check_choice("metric in --metrics", name, _METRICS)
    return tuple(name for name in _METRICS if name in names)


def _print(results: Mapping[str, Any], folder: Path) -> None:
    shown = Console()
    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in COLUMNS:
        # In a narrow terminal the names break, never the numbers.
        table.add_column(column, justify="left" if column == "metric" else "right", no_wrap=column != "metric")
    for row in evaluation_rows(results):
        table.add_row(*row)
    shown.print(table)
    for text in metric_texts(results):
        shown.print(text, markup=False, highlight=False)
    for note in results["notes"]:
        shown.print(note, style="yellow", markup=False)
    shown.print(f"Page: {folder / 'index.html'}", markup=False, soft_wrap=True)
