"""Whether the parts of a recipe fit each other: found out before anything is written, not hours later."""

from pathlib import Path

import torch
from torch import nn

from passband.data import Augment
from passband.process import Process
from passband.regularization import SpectralRegularizer
from passband.sampling import time_grid
from passband.training.build import build_process, build_regularizer
from passband.training.config import Recipe, RecipeError
from passband.training.networks import augment_inputs
from passband.training.restore import read_process


def fitting_parts(recipe: Recipe) -> tuple[Process, SpectralRegularizer | None]:
    """The process and the spectral term, tried out on a blank sample.

    Raises:
        RecipeError: if the losses do not fit the samples, or the process cannot be sampled as the recipe asks.

    """
    try:
        process, regularizer = build_process(recipe.process), build_regularizer(recipe.regularizer)
        if regularizer is not None:
            blank = torch.zeros(1, *recipe.sample_shape)
            regularizer.loss(blank, blank)
        time_grid(process, recipe.sampling.steps, recipe.sampling.spacing)
    except ValueError as error:
        raise RecipeError(f"the recipe's parts do not fit each other: {error}") from error
    return process, regularizer


def check_network(recipe: Recipe, network: nn.Module, process: Process) -> None:
    """Raise unless the network takes the augmentation labels it is given and was made for the process.

    Raises:
        RecipeError: if it does not.

    """
    _check_augment(recipe, network)
    _check_preconditioning(recipe, process)


def _check_augment(recipe: Recipe, network: nn.Module) -> None:
    if recipe.data.augment is None:
        return
    needed, found = Augment(recipe.data.augment.probability).label_dim, augment_inputs(network)
    if found != needed:
        raise RecipeError(
            f"data.augment needs a network that takes {needed} augmentation labels, or its samples are augmented too; "
            f"this one takes {found or 'none'}: set model.augment_dim to {needed}, choose another model.pretrained, or "
            "set data.augment to null"
        )


def _check_preconditioning(recipe: Recipe, process: Process) -> None:
    """An imported network says what it was trained with."""
    file = (recipe.model.pretrained or Path()) / "process.json"
    if recipe.model.pretrained is None or not file.is_file():
        return
    imported = build_process(read_process(file))
    if (type(imported), imported.sigma_data) != (type(process), process.sigma_data):
        raise RecipeError(
            f"the network at {str(recipe.model.pretrained)!r} was trained with {imported!r}, the recipe has "
            f"{process!r}: set process as {str(file)!r} has it"
        )
