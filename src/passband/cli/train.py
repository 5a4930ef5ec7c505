"""`passband train`."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from passband.cli.console import console, report_skipped
from passband.training import Trainer, TrainingInterrupted, load_recipe
from passband.training.checkpoint import checkpoints
from passband.training.config import AnyRecipe, AutoencoderRecipe
from passband.training.finetune import FinetuneTask


def train(
    recipe: Annotated[Path, typer.Argument(help="A YAML recipe.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings to change, such as `data.path=PHOTOS optimizer.lr=1e-4`.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; default: runs/ and the recipe's name.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the folder.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first file that cannot be read.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe and stop.")] = False,
) -> None:
    """Train a model from a recipe.

    The run's folder holds the resolved recipe, a log, samples, and checkpoints in safetensors that diffusers loads too.
    Ctrl-C saves a checkpoint; `--resume` continues from it to the same weights. Several processes: start it with
    `accelerate launch -m passband.cli train ...` or `torchrun -m passband.cli train ...`.
    """
    settings = _settings(recipe, overrides or [], strict)
    if dry_run:
        print(settings.to_yaml(), end="")
        return
    folder = out or Path("runs") / settings.name
    again = ["passband", "train", str(recipe), *(overrides or []), "--out", str(folder), "--resume"]
    train_run(settings, folder, resume=resume, again=shlex.join([*again, *(["--strict"] if strict else [])]))


def train_run(settings: AnyRecipe, folder: Path, *, resume: bool, again: str) -> None:
    """Train what a recipe names, and say what to do with it.

    Args:
        settings: the recipe.
        folder: the run's.
        resume: continue the run in it.
        again: the command that continues it.

    """
    trainer = Trainer(settings, folder, resume=resume)
    console.quiet = not trainer.accelerator.is_main_process
    _report_torn(trainer)
    try:
        _train(trainer)
        done = _next(trainer, folder)
    except TrainingInterrupted as stop:
        how = "" if trainer.accelerator.num_processes == 1 else " (by the same launcher)"
        console.print(f"\n{stop}; continue with{how}:\n{again}", markup=False)
        raise typer.Exit(130) from None
    finally:
        report_skipped(trainer.dataset)
        trainer.end()
    console.print(f"{folder} is trained to step {trainer.step}; {done}", markup=False)


def _next(trainer: Trainer, folder: Path) -> str:
    recipe = trainer.recipe
    if isinstance(trainer.task, FinetuneTask):
        return _result(trainer.task, trainer)
    if isinstance(recipe, AutoencoderRecipe):
        data = recipe.data
        images = f"{data.path} --resolution {'x'.join(map(str, data.size))} --crop {data.crop}"
        held_out = " --subset eval" if data.subset == "train" else ""
        return (
            f"look at its latents with: passband inspect {folder} {images}{held_out}; write them with: passband encode "
            f"{folder} --recipe {folder / 'recipe.yaml'} --out LATENTS"
        )
    return f"draw samples with: passband sample {folder}"


def _result(task: FinetuneTask, trainer: Trainer) -> str:
    """Write what diffusers loads, and say how."""
    root = trainer.folder.root
    if trainer.accelerator.is_main_process:
        task.write_result(root, trainer.averaged)
    trainer.accelerator.wait_for_everyone()
    lines = "\n".join(f"    {line}" for line in task.usage(root))
    return f"{task.summary(root)}\nto sample: passband sample {shlex.quote(str(root))}, or in Python:\n\n{lines}"


def _report_torn(trainer: Trainer) -> None:
    ahead = [folder.name for step, folder in checkpoints(trainer.folder.checkpoints) if step > trainer.step]
    if ahead:
        console.print(
            f"[yellow]left out, since their files are not as they were written: {', '.join(ahead)}; continuing from "
            f"step {trainer.step}"
        )


def _settings(recipe: Path, overrides: Sequence[str], strict: bool) -> AnyRecipe:
    return load_recipe(recipe, [*overrides, "data.strict=true"] if strict else overrides)


def _train(trainer: Trainer) -> None:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}"),
    )
    with Progress(*columns, console=console) as progress:
        reading = progress.add_task("reading images", total=None, losses="")
        trainer.preload(lambda done, total: progress.update(reading, completed=done, total=total))
        progress.remove_task(reading)
        task = progress.add_task("training", total=trainer.recipe.training.steps, completed=trainer.step, losses="")

        def show(step: int, entry: dict[str, float]) -> None:
            losses = "  ".join(f"{name} {entry[name]:.4f}" for name in trainer.task.shown if name in entry)
            progress.update(task, completed=step, losses=losses)

        trainer.train(on_log=show)
