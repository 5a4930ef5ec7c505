"""Spectral Forcing."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field

from passband.training.sections.settings import Settings


class LinearFrontSettings(Settings):
    """A cutoff that rises with the flow time."""

    name: Literal["linear"] = "linear"
    c_min: float = Field(0.05, ge=0, le=1)
    c_max: float = Field(1.0, ge=0, le=1)


class ConstantFrontSettings(Settings):
    """One cutoff at all times."""

    name: Literal["constant"]
    cutoff: float = Field(ge=0, le=1)


class ContourFrontSettings(Settings):
    """The frequency at which the data's power meets the noise's; `passband compare` measures beta and k1."""

    name: Literal["contour"]
    beta: float = Field(gt=0)
    k1: float = Field(gt=0)
    size: int | tuple[int, int] | None = Field(None, description="Where k1 was measured; default: the data's.")
    approximate: bool = True
    c_min: float = Field(0.0, ge=0, le=1)


AnyFront = LinearFrontSettings | ConstantFrontSettings | ContourFrontSettings


class ForcingSettings(Settings):
    """Spectral Forcing: the low-pass on the network's input."""

    front: Annotated[AnyFront, Discriminator("name")] = LinearFrontSettings()
    kappa: float = Field(30.0, gt=0)
    window: int | tuple[int, int] | None = None
    exact: bool = False
