"""A trained network from a run's folder, ready to sample."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from passband.process import Process
from passband.training.build import build_process, load_network
from passband.training.checkpoint import CheckpointError, checkpoint_folder, checkpoints
from passband.training.config import Recipe
from passband.training.run_folder import RunFolder

if TYPE_CHECKING:
    from diffusers import UNet2DModel


class Restored(NamedTuple):
    """A trained network with what it was trained as."""

    model: "UNet2DModel"
    process: Process
    recipe: Recipe
    step: int


def restore(root: str | Path, *, step: int | None = None, averaged: bool = True) -> Restored:
    """Load the network of a run's checkpoint, in evaluation mode.

    Args:
        root: the run's folder.
        step: the checkpoint's step; default: the newest.
        averaged: the averaged (EMA) weights, or those of the last step.

    Raises:
        RecipeError: if root is no run folder.
        CheckpointError: if there is no such checkpoint, or it cannot be read.

    """
    folder = RunFolder(Path(root))
    recipe = folder.recipe()
    steps = [found for found, _ in checkpoints(folder.checkpoints)]
    if not steps or (step is not None and step not in steps):
        raise CheckpointError(
            f"{str(root)!r} has no checkpoint{'' if step is None else f' of step {step}'}: "
            f"it holds {f'those of steps {steps}' if steps else 'none yet; train it first'}"
        )
    step = steps[-1] if step is None else step
    weights = checkpoint_folder(folder.checkpoints, step) / ("ema" if averaged else "unet")
    try:
        model = load_network(weights)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"the weights in {str(weights)!r} cannot be read: {error}") from error
    return Restored(model.eval(), build_process(recipe.process), recipe, step)
