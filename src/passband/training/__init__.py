"""Training from recipes: configuration, the loop on Accelerate, checkpoints, and the checkerboard experiment."""

from passband.training.checkpoint import CheckpointError
from passband.training.config import Recipe, RecipeError, load_recipe, make_recipe
from passband.training.denoising import Losses, denoising_loss
from passband.training.guard import NonFiniteLossError
from passband.training.interrupt import TrainingInterrupted
from passband.training.restore import Restored, restore
from passband.training.run_folder import RunFolder
from passband.training.trainer import Trainer

__all__ = [
    "CheckpointError",
    "Losses",
    "NonFiniteLossError",
    "Recipe",
    "RecipeError",
    "Restored",
    "RunFolder",
    "Trainer",
    "TrainingInterrupted",
    "denoising_loss",
    "load_recipe",
    "make_recipe",
    "restore",
]
