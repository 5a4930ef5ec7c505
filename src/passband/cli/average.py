"""`passband average`."""

from pathlib import Path
from typing import Annotated

import typer

from passband.cli.console import console
from passband.training.average import write_average


def average(
    run: Annotated[Path, typer.Argument(help="The folder of a run with training.snapshots.")],
    std: Annotated[float, typer.Option(help="Width of the average, as a share of the training: 0.05 to 0.15.")],
    step: Annotated[int | None, typer.Option(min=1, help="End of the average; default: the last snapshot.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the network; default: RUN/averages/std-STD.")] = None,
) -> None:
    """Choose the length of the weights' average after the training (post-hoc EMA)."""
    folder = out or run / "averages" / f"std-{std}"
    error = write_average(run, std, folder, step=step)
    console.print(
        f"{folder} holds the average of std {std}, {error:.1%} from the one asked for; draw samples with: "
        f"passband sample {folder}"
    )
