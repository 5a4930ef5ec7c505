"""The averages of the weights that a recipe asks for."""

from passband.training.config import AnyRecipe
from passband.training.ema import ConstantDecay, HalfLife, PowerAverage, Profile
from passband.training.sections import HalfLifeSettings


def profiles(recipe: AnyRecipe) -> dict[str, Profile]:
    """The averages of the weights by the names of their folders in a checkpoint."""
    settings = recipe.training
    emas = settings.ema if isinstance(settings.ema, tuple) else (settings.ema,)
    names = ["ema", *(f"ema{number}" for number in range(2, len(emas) + 1))]
    stds = settings.snapshots.stds if settings.snapshots else ()
    found: dict[str, Profile] = {name: _profile(ema) for name, ema in zip(names, emas, strict=True)}
    return found | {power_name(std): PowerAverage(std) for std in stds}


def _profile(ema: float | HalfLifeSettings) -> Profile:
    return HalfLife(ema.halflife, ema.ramp_up) if isinstance(ema, HalfLifeSettings) else ConstantDecay(ema)


def power_name(std: float) -> str:
    """The name of a power average's folder in a checkpoint."""
    return f"power-{std}"
