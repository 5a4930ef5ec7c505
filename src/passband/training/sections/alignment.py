"""Representation alignment: what the tokens of a transformer are compared with."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, model_validator

from passband.training.sections.settings import Settings

#: What the name of features that are read with the latents starts with.
STORED = "stored:"


class PlainTarget(Settings):
    """The teacher's features as they are (REPA)."""

    name: Literal["plain"] = "plain"


class NormalizeTarget(Settings):
    """The features less a share of their spatial mean, over their spatial standard deviation (iREPA)."""

    name: Literal["normalize"]
    gamma: float = Field(1.0, ge=0)


class DoGTarget(Settings):
    """The features' band between two Gaussians, whose widths are shares of the shorter side of the grid."""

    name: Literal["dog"]
    sigma1: float = Field(0.0, ge=0)
    sigma2: float = Field(0.125, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> "DoGTarget":
        if self.sigma1 >= self.sigma2:
            raise ValueError(f"sigma1 must be below sigma2, got {self.sigma1} and {self.sigma2}")
        return self


class AlignmentSettings(Settings):
    """REPA: the tokens after a block, projected, are drawn to a teacher's features of the clean image."""

    teachers: tuple[str, ...] = Field(
        ("efficientnet-lite0",), min_length=1, description="`stored:NAME` for features that `passband encode` kept."
    )
    depth: int = Field(8, ge=1, description="The block whose tokens are aligned, counted from 1.")
    head: Literal["mlp", "conv"] = "mlp"
    hidden: int = Field(2048, ge=1)
    weight: float = Field(0.5, ge=0)
    target: Annotated[PlainTarget | NormalizeTarget | DoGTarget, Discriminator("name")] = PlainTarget()
    decay_steps: int | None = Field(None, ge=1)
    stop_step: int | None = Field(None, ge=1)

    @property
    def needs_images(self) -> bool:
        """Whether a teacher looks at the images themselves."""
        return any(not teacher.startswith(STORED) for teacher in self.teachers)

    @property
    def stored(self) -> tuple[str, ...]:
        """The names of the features that are read with the latents."""
        return tuple(teacher.removeprefix(STORED) for teacher in self.teachers if teacher.startswith(STORED))
