"""Accelerate, set up as a recipe asks."""

import os
from typing import TYPE_CHECKING

import torch

from passband._checks import import_extra
from passband.training.config import AnyRecipe, RecipeError
from passband.training.group import leaving_at_exit
from passband.training.journal import check_trackers
from passband.training.run_folder import RunFolder
from passband.training.sharding import accelerator_options

if TYPE_CHECKING:
    from accelerate import Accelerator


def launch(recipe: AnyRecipe, folder: RunFolder) -> "Accelerator":
    """Devices, processes, precision and trackers, as the recipe asks.

    Raises:
        RecipeError: if the precision does not work here.
        ValueError: if a tracker is unknown.
        MissingExtraError: if Accelerate or a tracker is not installed.

    """
    accelerate = import_extra("accelerate", "train")
    utils = import_extra("accelerate.utils", "train")
    check_trackers(recipe.training.trackers)
    places = utils.ProjectConfiguration(project_dir=str(folder.root), logging_dir=str(folder.root / "trackers"))
    earlier = import_extra("accelerate.state", "train").is_initialized()
    try:
        with leaving_at_exit():
            found: Accelerator = accelerate.Accelerator(
                # torchrun does not say so, and Accelerate would take each process for the only one.
                cpu=int(os.environ.get("WORLD_SIZE", "1")) > 1 and _shares_cpu(),
                mixed_precision=recipe.training.precision,
                log_with=list(recipe.training.trackers) or None,
                project_config=places,
                # Parts are accumulated here, whatever the user's configuration of Accelerate says.
                gradient_accumulation_plugin=utils.GradientAccumulationPlugin(num_steps=1),
                kwargs_handlers=accelerator_options(recipe),
            )
    except ValueError as error:
        precision = recipe.training.precision
        if earlier:
            raise RecipeError(
                f"training.precision {precision!r} is another than that of an earlier run in this process, and a "
                "process has one: train the two in processes of their own"
            ) from error
        raise RecipeError(
            f"training.precision {precision!r} does not work on this device ({error}); set it to no or bf16"
        ) from error
    if recipe.training.precision == "fp16" and found.scaler is None:
        raise RecipeError(
            f"training.precision 'fp16' needs loss scaling, which there is none of on {found.device}: set it to bf16 "
            "or no, or train on a GPU"
        )
    return found


def _shares_cpu() -> bool:
    """Whether several processes compute on the CPU: there is no device, or one that knows no groups."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return found is None or found.type == "mps"
