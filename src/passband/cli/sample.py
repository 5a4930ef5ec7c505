"""`passband sample`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.progress import Progress

from passband._checks import check_choice
from passband.cli.console import console
from passband.data import save_image
from passband.reports.page import write_file
from passband.sampling import SOLVERS, time_grid
from passband.sampling import sample as draw
from passband.training.restore import Restored, restore


def sample(
    run: Annotated[Path, typer.Argument(help="The folder of a run that `passband train` wrote.")],
    count: Annotated[int, typer.Option(min=1, help="Number of samples.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the first sample; sample i has seed + i.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Sampling steps; default: the recipe's.")] = None,
    solver: Annotated[str | None, typer.Option(help=f"{', '.join(SOLVERS)}; default: the recipe's.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples at once; changes no sample.")] = 32,
    checkpoint: Annotated[int | None, typer.Option(help="Step of the checkpoint; default: the newest.")] = None,
    last_weights: Annotated[bool, typer.Option("--last-weights", help="Not the averaged (EMA) weights.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps; default: the fastest there is.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the images; default: RUN/samples/step-STEP.")] = None,
) -> None:
    """Draw samples from a trained model, as PNG files named by their seeds.

    Images that are there already are kept, so an interrupted command continues where it stopped.
    """
    found = restore(run, step=checkpoint, averaged=not last_weights)
    settings = found.recipe.sampling.model_dump(exclude={"count", "seed"})
    settings |= {key: value for key, value in {"steps": steps, "solver": solver}.items() if value is not None}
    # Before the folder is claimed for these settings.
    check_choice("solver", settings["solver"], SOLVERS)
    time_grid(found.process, settings["steps"], settings["spacing"])
    place = _device(device)
    folder = out or run / "samples" / f"step-{found.step:08d}"
    _claim(folder, {"run": str(run.resolve()), "step": found.step, "averaged": not last_weights, **settings})
    missing = [i for i in range(seed, seed + count) if not (folder / _name(i)).is_file()]
    found.model.to(place)
    with Progress(console=console) as progress:
        task = progress.add_task("sampling", total=count, completed=count - len(missing))
        for batch in _split(missing, batch_size):
            _draw(found, batch, settings, place, folder)
            progress.advance(task, len(batch))
    console.print(f"{count} samples are in {folder}")


def _draw(found: Restored, seeds: list[int], settings: dict[str, Any], device: torch.device, folder: Path) -> None:
    shape = found.recipe.sample_shape
    images = draw(found.model, found.process, shape, seeds=seeds, device=device, **settings).cpu()
    bad = [seed for seed, image in zip(seeds, images, strict=True) if not bool(torch.isfinite(image).all())]
    if bad:
        raise ValueError(
            f"the samples of seeds {bad} are not finite: the network diverged in training, or needs another --solver "
            "or more --steps"
        )
    for seed, image in zip(seeds, images, strict=True):
        save_image(image, folder / _name(seed))


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Note the settings in the folder, and refuse to mix samples of different ones."""
    note = folder / "settings.json"
    if note.is_file() and json.loads(note.read_text()) != settings:
        raise ValueError(f"{str(folder)!r} holds samples drawn with other settings ({note}): choose another --out")
    write_file(note, json.dumps(settings, indent=1).encode())


def _name(seed: int) -> str:
    return f"{seed:06d}.png"


def _split(seeds: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(seeds), size):
        yield seeds[start : start + size]


def _device(name: str | None) -> torch.device:
    """The device of that name, the fastest there is without one."""
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"cannot compute on --device {name}: {str(error).partition(chr(10))[0]}") from error
    return device
