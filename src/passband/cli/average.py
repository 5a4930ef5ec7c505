"""`passband average`."""

from pathlib import Path
from typing import Annotated

import typer

from passband.cli.console import console
from passband.training.average import write_average

_NAMES = {"config.json", "process.json", "recipe.yaml"}  # of an average's folder, beside its weights


def average(
    run: Annotated[Path, typer.Argument(help="The folder of a run with training.snapshots.")],
    std: Annotated[float, typer.Option(help="Width of the average, as a share of the training: 0.05 to 0.15.")],
    step: Annotated[int | None, typer.Option(min=1, help="End of the average; default: the last snapshot.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the network; default: RUN/averages/std-STD.")] = None,
) -> None:
    """Choose the length of the weights' average after the training (post-hoc EMA)."""
    folder = out or run / "averages" / f"std-{std}"
    _check_free(folder)
    error = write_average(run, std, folder, step=step)
    console.print(
        f"{folder} holds the average of std {std}, {error:.1%} from the one asked for; draw samples with: "
        f"passband sample {folder}"
    )


def _check_free(folder: Path) -> None:
    """Raise unless the folder is new, empty or an earlier average from which nothing was drawn."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"{str(folder)!r} is a file: --out names the folder to write")
    held = {path.name for path in folder.iterdir()}
    other = sorted(name for name in held if name not in _NAMES and not name.endswith((".safetensors", ".index.json")))
    if other or (held and not held >= _NAMES):
        name = (other or sorted(held))[0]
        raise FileExistsError(f"{str(folder)!r} holds something else ({name!r}): choose another --out")
