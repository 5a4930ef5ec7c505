"""The families of networks that a recipe can name: how each is built, and what its configuration says of it."""

from typing import Any

from torch import nn

from passband.training.families.base import Family, Shape, Tap
from passband.training.families.diffwave import DiffWaveFamily
from passband.training.families.dit import DiTFamily
from passband.training.families.edm import EDMFamily
from passband.training.families.jit import JiTFamily
from passband.training.families.unet import UNetFamily
from passband.training.sections import Model

__all__ = ["Family", "Shape", "Tap", "family_named", "family_of"]

_FAMILIES: tuple[Family[Any], ...] = (UNetFamily(), EDMFamily(), JiTFamily(), DiTFamily(), DiffWaveFamily())


def family_of(network: nn.Module) -> Family[Any]:
    """The family of a network.

    Raises:
        ValueError: if it is of none.

    """
    for family in _FAMILIES:
        # Among the bases, since a sharded network is of a subclass.
        if family.class_name in (kind.__name__ for kind in type(network).__mro__):
            return family
    known = ", ".join(family.class_name for family in _FAMILIES)
    raise ValueError(f"networks of the class {type(network).__name__} are not trained here; expected one of {known}")


def family_named(settings: Model) -> Family[Any]:
    """The family that a recipe's section `model` names."""
    return next(family for family in _FAMILIES if family.name == settings.name)
