"""The tasks by their recipes."""

from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset

from passband.training.autoencoder import AutoencoderTask
from passband.training.build import build_dataset
from passband.training.config import AnyRecipe, AutoencoderRecipe, FinetuneRecipe, Recipe
from passband.training.denoiser import DenoiserTask
from passband.training.finetune import FinetuneTask
from passband.training.finetune.parts import build_images
from passband.training.fit import fitting_parts
from passband.training.sections import LatentsData
from passband.training.sharding import check_sharding
from passband.training.task import Task

if TYPE_CHECKING:
    from accelerate import Accelerator


def check_task(recipe: AnyRecipe) -> None:
    """Raise where the parts of a recipe do not fit each other: before anything is read or written.

    Raises:
        RecipeError: if they do not.

    """
    if isinstance(recipe, Recipe):
        fitting_parts(recipe)
        check_sharding(recipe)


def reads_images(recipe: AnyRecipe) -> bool:
    """Whether the images are read beside their latents, for a teacher to look at."""
    if not isinstance(recipe, Recipe) or not isinstance(recipe.data, LatentsData):
        return False
    return recipe.alignment is not None and recipe.alignment.needs_images


def build_data(recipe: AnyRecipe) -> Dataset[Any]:
    """The data set that a recipe's task is trained on.

    Raises:
        FileNotFoundError, ValueError: if the data cannot be read.

    """
    if isinstance(recipe, FinetuneRecipe):
        return build_images(recipe)
    return build_dataset(recipe.data, images=reads_images(recipe))


def build_task(recipe: AnyRecipe, accelerator: "Accelerator", dataset: Dataset[Any]) -> Task:
    """The task that a recipe names.

    Raises:
        RecipeError: if the recipe does not fit its data.
        ValueError, OSError: if a network cannot be used.

    """
    if isinstance(recipe, AutoencoderRecipe):
        return AutoencoderTask(recipe, accelerator, dataset)
    if isinstance(recipe, FinetuneRecipe):
        return FinetuneTask(recipe, accelerator, dataset)
    return DenoiserTask(recipe, accelerator, dataset)
