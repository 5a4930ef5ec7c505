"""`passband export`: networks in the file formats of other projects."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from passband.cli.console import console
from passband.integrations.checkpoints.import_folder import MEL_FILE
from passband.integrations.diffwave import Exported, export_diffwave
from passband.models import DiffWave
from passband.training.restore import restore
from passband.training.sections import AudioData

app = typer.Typer(help="Write a network in the file format of another project.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Write a network in the file format of another project."""


@app.command("diffwave")
def diffwave(
    source: Annotated[Path, typer.Argument(help="The folder of a run, or of an imported network.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="The .pt file to write.", show_default=False)],
    weights: Annotated[str, typer.Option(help="ema, another average (ema2), or last: those of the last step.")] = "ema",
    checkpoint: Annotated[int | None, typer.Option(help="Step of the checkpoint; default: the newest.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a file that is there.")] = False,
) -> None:
    """Export a DiffWave to a checkpoint of its published code.

    The file holds step, model, optimizer, params and scaler, and is read by torch.load(weights_only=True).
    """
    imported = (source / MEL_FILE).is_file()
    if imported and (checkpoint is not None or weights != "ema"):
        raise ValueError(
            f"{str(source)!r} is an imported network, which has one set of weights: leave --weights and --checkpoint"
        )
    found = (
        export_diffwave(source, out, replace=replace)
        if imported
        else _from_run(source, out, weights, checkpoint, replace)
    )
    _report(found)


def _from_run(source: Path, out: Path, weights: str, checkpoint: int | None, replace: bool) -> Exported:
    found = restore(source, step=checkpoint, weights=weights)
    data = None if found.recipe is None else found.recipe.data
    if not isinstance(found.model, DiffWave) or not isinstance(data, AudioData):
        raise ValueError(
            f"{str(source)!r} holds a {type(found.model).__name__}, expected a DiffWave that was trained on audio"
        )
    mel = {"sample_rate": data.sample_rate, **data.mel.model_dump()}
    return export_diffwave(
        found.model,
        out,
        process=found.process,
        mel=mel,
        inference_schedule=found.sampling.noise_schedule,
        step=found.step,
        replace=replace,
    )


def _report(found: Exported) -> None:
    params = found.params
    steps, fast = len(params["noise_schedule"]), len(params["inference_noise_schedule"])
    lines = {
        "network": f"{params['residual_layers']} layers of {params['residual_channels']} channels, "
        f"{found.parameters:,} parameters",
        "audio": f"{params['sample_rate']:,} Hz",
        "noise": f"{steps} steps in training, {fast} for sampling",
        "trained": f"{found.step:,} steps",
        "optimizer": "Adam, not begun",
    }
    console.print(f"Exported {str(found.path)!r}", markup=False)
    for name, text in lines.items():
        console.print(f"  {name:<16}{text}", markup=False)
    if found.differs:
        console.print("DiffWave's own code does otherwise:")
        for text in found.differs:
            console.print(f"  {text}", markup=False)
    console.print("Next:")
    console.print("  set what its entry params says in the params.py of DiffWave's code, which reads sizes there alone")
    console.print(f"  passband import diffwave {shlex.quote(str(found.path))}", markup=False)
