"""The networks that recipes name: built, loaded, and asked what they take."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from passband.integrations._saved import load_saved, saved_class
from passband.integrations.diffusers import expecting_forcing
from passband.models import load_model
from passband.training.families import Shape, family_named, family_of
from passband.training.sections import Model


def build_network(settings: Model, shape: Shape, seed: int, num_classes: int = 0, heads: int = 1) -> nn.Module:
    """The network for samples of a shape, its initial weights drawn from the seed, or the pretrained one.

    Args:
        settings: a recipe's section `model`.
        shape: (channels, *spatial) of a sample.
        seed: of the initial weights.
        num_classes: of the data; used where the settings are class-conditional.
        heads: outputs of the samples' channels, as the process asks for.

    Raises:
        ValueError: if the settings make no network for this shape, or a pretrained network has other channels, another
            resolution or other classes than the data.
        OSError: if there is no saved network at `pretrained`, or it is damaged.

    """
    classes = num_classes if settings.class_conditional else 0
    family = family_named(settings)
    if settings.pretrained is None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return family.build(settings, shape, classes, heads)
    network = load_network(settings.pretrained)
    found = family_of(network)
    if found is not family:
        raise ValueError(
            f"the network at {str(settings.pretrained)!r} is of the class {type(network).__name__}, which "
            f"model.name {settings.name!r} is not: set it to {found.name}"
        )
    _check_fits(network, settings, shape, classes, heads)
    return family.adapted(network, settings)


def load_network(folder: Path) -> nn.Module:
    """A network as its library saves it, from safetensors alone: nothing is unpickled.

    Raises:
        OSError: if there is none, or it is damaged.
        ValueError: if its weights do not fit its configuration.

    """
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        hint = "; of a run, take checkpoints/step-N/ema" if (folder / "recipe.yaml").is_file() else ""
        raise FileNotFoundError(
            f"there is no saved network at {str(folder)!r}: expected a folder with config.json and *.safetensors{hint}"
        )
    name = saved_class(folder)
    if name not in _OF_DIFFUSERS:
        return load_model(folder)
    with expecting_forcing():
        network = load_saved(str(name), folder)
    return family_of(network).prepared(network)


#: The classes of networks that diffusers loads.
_OF_DIFFUSERS = ("UNet2DModel", "DiTTransformer2DModel")


def network_shape(network: nn.Module) -> Shape:
    """(channels, *spatial) of the samples that a network was made for; channels alone, where it takes any length."""
    return family_of(network).shape(_config(network))


def class_inputs(network: nn.Module) -> int:
    """How many classes a network tells apart, 0 without; a null class counts, where it has one."""
    return family_of(network).class_inputs(_config(network))


def data_classes(network: nn.Module, settings: Model | None) -> int:
    """How many classes of the data a network is given, 0 without.

    Args:
        network: the network.
        settings: the section `model` of the recipe that it was trained by, None if it was imported.

    """
    return max(class_inputs(network) - family_of(network).has_null(settings), 0)


def augment_inputs(network: nn.Module) -> int:
    """The width of the augmentation labels that a network takes, 0 without."""
    return family_of(network).augment_inputs(_config(network))


def _config(network: nn.Module) -> Mapping[str, Any]:
    found: Any = network.config
    return dict(found)


def _check_fits(network: nn.Module, settings: Model, shape: Shape, classes: int, heads: int) -> None:
    where = f"the network at {str(settings.pretrained)!r}"
    channels = network_shape(network)[0]
    if channels != shape[0]:
        raise ValueError(f"{where} has {channels} channels, the data {shape[0]}; set data.channels")
    family_of(network).check(_config(network), where, shape, heads)
    if classes and data_classes(network, settings) != classes:
        raise ValueError(
            f"{where} takes {class_inputs(network) or 'no'} classes, the data has {classes}; use the data it was "
            "trained on, or set model.class_conditional to false"
        )
    if class_inputs(network) and not classes:
        raise ValueError(
            f"{where} is class-conditional: set model.class_conditional to true and data.labels to json or folder "
            "(latents: stored)"
        )
