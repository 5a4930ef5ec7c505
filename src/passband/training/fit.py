"""Whether the parts of a recipe fit each other: found out before anything is written, not hours later."""

import json
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from passband.data import Augment
from passband.forcing import SpectralForcing, recorded
from passband.process import VP, Process
from passband.regularization import SpectralRegularizer
from passband.training.build import build_forcing, build_process, build_regularizer
from passband.training.config import Recipe, RecipeError
from passband.training.networks import augment_inputs
from passband.training.records import read_mel, read_process
from passband.training.sampler import sampler_settings
from passband.training.sections import AudioData, build_mel


class Parts(NamedTuple):
    """What a recipe names beside data and network.

    Attributes:
        process: the process.
        regularizer: the spectral term, None without.
        forcing: the low-pass on the network's input, None without.

    """

    process: Process
    regularizer: SpectralRegularizer | None
    forcing: SpectralForcing | None


def fitting_parts(recipe: Recipe) -> Parts:
    """The process, the spectral term and the forcing, tried out on a blank sample.

    Raises:
        RecipeError: if the losses or the forcing do not fit the samples, or the process cannot be sampled as the recipe
            asks.

    """
    try:
        process, regularizer = build_process(recipe.process), build_regularizer(recipe.regularizer)
        forcing = build_forcing(recipe.forcing, process, recipe.sample_shape[1:])
        blank = torch.zeros(1, *recipe.sample_shape)
        if regularizer is not None:
            regularizer.loss(blank, blank)
        if forcing is not None:
            forcing(blank, process.noise_time)
        if recipe.loss.space != "prediction":
            process.loss_gain(process.sample_times(1), recipe.loss.space)
        sampler_settings(recipe.sampling, process)
    except ValueError as error:
        raise RecipeError(f"the recipe's parts do not fit each other: {error}") from error
    return Parts(process, regularizer, forcing)


def check_network(recipe: Recipe, network: nn.Module, process: Process) -> None:
    """Raise unless the network takes the augmentation labels it is given and was made for process, data and forcing.

    Raises:
        RecipeError: if it does not.

    """
    _check_augment(recipe, network)
    _check_preconditioning(recipe, process)
    _check_spectrograms(recipe, network)
    _check_forcing(recipe, network)


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
    if any(getattr(imported, name, None) != getattr(process, name, None) for name in _TRAINED_WITH) or type(
        imported
    ) is not type(process):
        raise RecipeError(
            f"the network at {str(recipe.model.pretrained)!r} was trained with {imported!r}, the recipe has "
            f"{process!r}: set process as {str(file)!r} has it"
        )
    if isinstance(imported, VP) and isinstance(process, VP) and not _same_levels(imported, process):
        raise RecipeError(
            f"the network at {str(recipe.model.pretrained)!r} knows noise by the index in its schedule, of "
            f"{imported.steps} steps to a noise ratio of {imported.noise_ratio(imported.noise_time):.4g}; the recipe's "
            f"has {process.steps} to {process.noise_ratio(process.noise_time):.4g}: set process as {str(file)!r} has it"
        )


def _same_levels(a: VP, b: VP) -> bool:
    times = torch.arange(a.steps, dtype=torch.float64)
    return a.steps == b.steps and torch.allclose(a.noise_ratio(times), b.noise_ratio(times), rtol=1e-4, atol=0)


def _check_spectrograms(recipe: Recipe, network: nn.Module) -> None:
    """An imported network of audio says which spectrograms it speaks; one without still has a sample rate."""
    file = (recipe.model.pretrained or Path()) / "mel.json"
    if recipe.model.pretrained is None or not file.is_file() or not isinstance(recipe.data, AudioData):
        return
    imported, given = read_mel(file), build_mel(recipe.data)
    speaks = not getattr(network, "unconditional", False)
    names = _SPECTROGRAM if speaks else _SPECTROGRAM[:1]
    differing = [name for name in names if getattr(imported, name) != getattr(given, name)]
    if speaks and not differing and not torch.allclose(imported.bank, given.bank):
        differing = ["f_min, f_max, scale or area_norm"]
    if differing:
        raise RecipeError(
            f"the network at {str(recipe.model.pretrained)!r} was trained on audio that differs from the recipe's in "
            f"{', '.join(differing)}: set data.sample_rate and data.mel as {str(file)!r} has them, or, to teach it "
            "others, remove that file"
        )


_SPECTROGRAM = ("sample_rate", "n_fft", "win_length", "hop_length", "n_mels")


#: What of a process a network's weights depend on.
_TRAINED_WITH = ("prediction", "sigma_data", "data_at", "time_scale", "hybrid", "noise_scale")


def _check_forcing(recipe: Recipe, network: nn.Module) -> None:
    """A network that was trained with Spectral Forcing goes on with it, unless the recipe says otherwise."""
    trained = recorded(network)
    if trained is not None and recipe.forcing is None:
        raise RecipeError(
            f"the network at {str(recipe.model.pretrained)!r} was trained with Spectral Forcing: set forcing to "
            f"{json.dumps(trained)}, or, to go on without, to the identity, "
            "{front: {name: constant, cutoff: 1}, exact: true}"
        )
