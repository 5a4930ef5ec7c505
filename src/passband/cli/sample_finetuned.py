"""`passband sample` of a run that trained a diffusers pipeline."""

from collections.abc import Mapping
from pathlib import Path

from rich.progress import Progress

from passband.cli.console import console
from passband.training.finetune.draw import PipelineDrawing
from passband.training.ranks import Ranks


def refuse(others: Mapping[str, object]) -> None:
    """Raise ValueError if an option for other networks is given.

    Args:
        others: their values by name; None or False where they are not given.

    """
    given = [name for name, value in others.items() if value]
    if given:
        raise ValueError(f"{', '.join(given)}: a diffusers pipeline draws by its own scheduler and code; leave it out")


def sample_finetuned(drawing: PipelineDrawing, ranks: Ranks, seeds: range, out: Path | None) -> None:
    """Draw samples by the pipeline itself.

    Args:
        drawing: how.
        ranks: the processes that share the work.
        seeds: one for each sample.
        out: the samples' folder.

    Raises:
        ValueError: if an option does not fit the pipeline.

    """
    pipeline = drawing.found.pipeline
    if drawing.prompts and pipeline.condition != "text":
        raise ValueError(f"--prompt: a {pipeline.class_name} takes no prompts; leave it out")
    if drawing.guidance is not None and pipeline.condition == "none":
        raise ValueError(f"--guidance: a {pipeline.class_name} takes neither classes nor prompts; leave it out")
    console.quiet = not ranks.is_first
    folder = out or drawing.run / "samples" / f"step-{drawing.found.step:08d}"
    with Progress(console=console) as progress:
        task = progress.add_task("sampling", total=len(seeds))
        drawing.draw(folder, seeds, ranks, lambda done, total: progress.update(task, completed=done, total=total))
    console.print(f"{len(seeds)} samples are in {folder}", markup=False)
