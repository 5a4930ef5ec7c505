"""A trained network from a run's folder, or an imported one, ready to sample."""

from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Discriminator, TypeAdapter, ValidationError
from torch import nn

from passband.process import Process
from passband.training.build import build_process
from passband.training.checkpoint import CheckpointError, checkpoint_folder, checkpoints, torn
from passband.training.config import Recipe, load_recipe
from passband.training.networks import class_inputs, load_network, network_shape
from passband.training.run_folder import RunFolder
from passband.training.sections import AnyProcess, SamplingSettings, UNetModel

_PROCESS: TypeAdapter[AnyProcess] = TypeAdapter(Annotated[AnyProcess, Discriminator("name")])


class Restored(NamedTuple):
    """A trained network with what it was trained as.

    Attributes:
        model: the network, in evaluation mode.
        process: its process.
        sampling: how the recipe draws samples; EDM's sampler for an imported network.
        sample_shape: (channels, height, width) of a sample.
        num_classes: classes that it is given, 0 without.
        step: the checkpoint's step, 0 for an imported network.
        recipe: the run's recipe, None for an imported network.

    """

    model: nn.Module
    process: Process
    sampling: SamplingSettings
    sample_shape: tuple[int, int, int]
    num_classes: int
    step: int
    recipe: Recipe | None


def restore(root: str | Path, *, step: int | None = None, averaged: bool = True) -> Restored:
    """Load the network of a run's checkpoint, or an imported one, in evaluation mode.

    Args:
        root: the run's folder, or that of a network that `passband import` or `passband average` wrote.
        step: the checkpoint's step; default: the newest.
        averaged: the averaged (EMA) weights, or those of the last step.

    Raises:
        RecipeError: if root is no run folder.
        CheckpointError: if there is no such checkpoint, or it cannot be read.

    """
    if (Path(root) / "process.json").is_file():
        return _imported(Path(root))
    folder = RunFolder(Path(root))
    recipe = folder.recipe()
    step = _step(folder.checkpoints, step)
    model = _load(checkpoint_folder(folder.checkpoints, step) / ("ema" if averaged else "unet"))
    process, classes = build_process(recipe.process), _classes(model, recipe)
    return Restored(model.eval(), process, recipe.sampling, recipe.sample_shape, classes, step, recipe)


def _imported(root: Path) -> Restored:
    model = _load(root)
    settings = read_process(root / "process.json")
    process = build_process(settings)
    if (root / "recipe.yaml").is_file():  # of an average that was put together after training
        recipe = load_recipe(root / "recipe.yaml")
        classes = _classes(model, recipe)
        return Restored(model.eval(), process, recipe.sampling, recipe.sample_shape, classes, 0, recipe)
    shape = network_shape(model)
    # EDM's own settings: 18 steps for 32 x 32 pixels, 40 for 64 x 64.
    sampling = SamplingSettings(steps=18 if shape[-1] <= 32 else 40, solver="heun")
    return Restored(model.eval(), process, sampling, shape, class_inputs(model), 0, None)


def read_process(file: Path) -> AnyProcess:
    """The process that a process.json describes.

    Raises:
        CheckpointError: if it cannot be read.

    """
    try:
        return _PROCESS.validate_json(file.read_bytes())
    except (OSError, ValueError) as error:
        fault = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise CheckpointError(f"{str(file)!r} cannot be read ({fault}); import the checkpoint again") from error


def _classes(model: nn.Module, recipe: Recipe) -> int:
    null = isinstance(recipe.model, UNetModel) and recipe.model.label_dropout > 0
    return max(class_inputs(model) - null, 0)


def _step(root: Path, step: int | None) -> int:
    steps = [found for found, _ in checkpoints(root)]
    if not steps or (step is not None and step not in steps):
        raise CheckpointError(
            f"{str(root.parent)!r} has no checkpoint{'' if step is None else f' of step {step}'}: "
            f"it holds {f'those of steps {steps}' if steps else 'none yet; train it first'}"
        )
    step = steps[-1] if step is None else step
    fault = torn(checkpoint_folder(root, step))
    if fault is not None:
        raise CheckpointError(
            f"the checkpoint of step {step} in {str(root.parent)!r} is not whole ({fault}): ask for another of steps "
            f"{steps}, or resume the training, which continues from the newest whole one"
        )
    return step


def _load(folder: Path) -> nn.Module:
    try:
        return load_network(folder)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"the weights in {str(folder)!r} cannot be read: {error}") from error
