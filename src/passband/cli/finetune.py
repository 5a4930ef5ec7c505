"""`passband finetune`."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from passband.cli.console import parse_resolution
from passband.cli.train import train_run
from passband.training.finetune import TERMS, FinetuneRequest


def finetune(
    pipeline: Annotated[Path, typer.Argument(help="The folder of a diffusers pipeline (model_index.json).")],
    images: Annotated[
        Path,
        typer.Argument(help="A folder or zip of images, with captions (metadata.jsonl, NAME.txt) or classes beside."),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings to change, such as `optimizer.lr=2e-5 training.ema=0.999`.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The run's folder.")] = Path("runs/finetune"),
    recipe: Annotated[Path | None, typer.Option(help="A YAML recipe, such as those in recipes/finetune.")] = None,
    prompt: Annotated[str | None, typer.Option(help="One caption for all images.")] = None,
    lora: Annotated[int | None, typer.Option(min=1, help="Train adapters of this rank; default: all weights.")] = None,
    term: Annotated[
        str | None, typer.Option(help=f"The spectral term: {', '.join(TERMS)}; default: the recipe's, amplitude_phase.")
    ] = None,
    weight: Annotated[
        float | None,
        typer.Option(min=0, help="Weight of the term; default: the recipe's, a tenth of the base loss's gradient."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps; default: the recipe's, 2000.")] = None,
    resolution: Annotated[
        str | None, typer.Option(help="Side of the images, or HEIGHTxWIDTH; default: the recipe's, the pipeline's own.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the folder.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first file that cannot be read.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe and stop.")] = False,
) -> None:
    """Go on training a diffusers pipeline, with a spectral term.

    The run's folder holds what that of `passband train` holds, and in the end the pipeline itself (RUN/pipeline) or its
    adapters (RUN/lora), of averaged weights, for diffusers to load. Ctrl-C saves a checkpoint; `--resume` continues.
    """
    request = FinetuneRequest(
        pipeline=pipeline,
        images=images,
        recipe=recipe,
        prompt=prompt,
        lora=lora,
        term=term,
        weight=weight,
        steps=steps,
        resolution=None if resolution is None else parse_resolution(resolution),
        strict=strict,
        overrides=tuple(overrides or ()),
    )
    settings = request.settings()
    _check_out(out, pipeline, images)
    if dry_run:
        print(settings.to_yaml(), end="")
        return
    given = {
        "--recipe": recipe,
        "--prompt": prompt,
        "--lora": lora,
        "--term": term,
        "--weight": weight,
        "--steps": steps,
        "--resolution": resolution,
    }
    options = [part for name, value in given.items() if value is not None for part in (name, str(value))]
    flags = ["--strict"] if strict else []
    again = ["passband", "finetune", str(pipeline), str(images), *(overrides or []), "--out", str(out)]
    train_run(settings, out, resume=resume, again=shlex.join([*again, *options, "--resume", *flags]))


def _check_out(out: Path, pipeline: Path, images: Path) -> None:
    """Raise ValueError if the run's folder is one of those that it reads, or lies in it."""
    for name, folder in (("the pipeline", pipeline), ("the images", images)):
        if folder.resolve() in (out.resolve(), *out.resolve().parents):
            raise ValueError(f"--out {str(out)!r} lies in the folder of {name}, {str(folder)!r}: choose another")
