"""The squared error, and the spectral term beside it."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from passband.process import Prediction
from passband.training.sections.settings import Settings


class LossSettings(Settings):
    """The base loss: squared (l2) or absolute (l1) error, in the space of the network's own prediction or another's."""

    space: Literal["prediction"] | Prediction = "prediction"
    distance: Literal["l2", "l1"] = "l2"


class AmplitudeTerm(Settings):
    """Fourier amplitude."""

    name: Literal["amplitude"]
    scale: float = 1.0


class AmplitudePhaseTerm(Settings):
    """Fourier amplitude and phase."""

    name: Literal["amplitude_phase"]
    scale: float = 1.0
    coupling: Literal["frequency", "energy", "norm"] = "frequency"
    rel: float = Field(1e-3, gt=0, lt=1)


class WaveletTerm(Settings):
    """Wavelet sub-bands."""

    name: Literal["wavelet"]
    scale: float = 1.0
    wavelet: str = "haar"
    levels: int | None = Field(None, ge=1)
    mode: str = "symmetric"
    stationary: bool = False


class FocalFrequencyTerm(Settings):
    """Focal frequency."""

    name: Literal["focal_frequency"]
    scale: float = 1.0
    alpha: float = Field(1.0, ge=0)


class PixelTerm(Settings):
    """Pixel-space L1, the control."""

    name: Literal["pixel"]
    scale: float = 1.0


class STFTTerm(Settings):
    """Fourier amplitude, or amplitude and phase, of short-time frames of several lengths (in samples)."""

    name: Literal["stft"]
    scale: float = 1.0
    kind: Literal["amplitude", "amplitude_phase"] = "amplitude"
    frame_lengths: tuple[Annotated[int, Field(ge=2)], ...] = Field((512, 1024, 2048), min_length=1)
    overlap: float = Field(0.75, ge=0, lt=1)
    window: Literal["hann", "rectangular"] = "hann"
    coupling: Literal["frequency", "energy", "norm"] = "frequency"
    rel: float = Field(1e-3, gt=0, lt=1)

    @model_validator(mode="after")
    def _fits(self) -> "STFTTerm":
        if self.kind == "amplitude" and (self.coupling, self.rel) != ("frequency", 1e-3):
            raise ValueError("coupling and rel are about phases: set kind to amplitude_phase, or leave them out")
        return self


Term = Annotated[
    AmplitudeTerm | AmplitudePhaseTerm | WaveletTerm | FocalFrequencyTerm | PixelTerm | STFTTerm, Discriminator("name")
]


class EDMWeightSettings(Settings):
    """EDM's weight of the noise level, times a number."""

    edm: float = Field(gt=0)


class ShareWeightSettings(Settings):
    """A share of the base loss's gradient."""

    share: float = Field(gt=0)


def _weight_kind(weight: object) -> str | None:
    if isinstance(weight, EDMWeightSettings | ShareWeightSettings):
        return "by_level" if isinstance(weight, EDMWeightSettings) else "by_share"
    if isinstance(weight, dict):
        return "by_level" if "edm" in weight else "by_share"
    if weight == "edm":
        return "name"
    return "number" if isinstance(weight, int | float) else None


WeightSettings = Annotated[
    Annotated[Annotated[float, Field(ge=0)], Tag("number")]
    | Annotated[Literal["edm"], Tag("name")]
    | Annotated[EDMWeightSettings, Tag("by_level")]
    | Annotated[ShareWeightSettings, Tag("by_share")],
    Discriminator(
        _weight_kind,
        custom_error_type="weight",
        custom_error_message="a weight is a number, 'edm', {edm: NUMBER} or {share: NUMBER}",
    ),
]


class GateSettings(Settings):
    """A gate on the noise ratio."""

    max_ratio: float = Field(gt=0)
    softness: float = Field(0.0, ge=0)


class DDIMSettings(Settings):
    """A clean estimate by so many deterministic updates; each but the first calls the network once more."""

    ddim: int = Field(ge=1)


def _estimate_kind(estimate: object) -> str | None:
    if isinstance(estimate, DDIMSettings | dict):
        return "by_updates"
    return "name" if estimate == "tweedie" else None


CleanEstimateSettings = Annotated[
    Annotated[Literal["tweedie"], Tag("name")] | Annotated[DDIMSettings, Tag("by_updates")],
    Discriminator(
        _estimate_kind,
        custom_error_type="clean_estimate",
        custom_error_message="a clean estimate is tweedie or {ddim: STEPS}",
    ),
]


class RegularizerSettings(Settings):
    """The spectral term: the sum of its losses, each times its scale, on the clean estimate."""

    losses: tuple[Term, ...]
    weight: WeightSettings = 0.01
    gate: GateSettings | None = None
    clean_estimate: CleanEstimateSettings = "tweedie"

    @field_validator("losses")
    @classmethod
    def _some(cls, losses: tuple[Term, ...]) -> tuple[Term, ...]:
        if not losses:
            raise ValueError("give at least one loss, or set regularizer to null")
        return losses
