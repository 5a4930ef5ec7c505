"""How samples are noised, and what the network predicts."""

from typing import Any, Literal

from pydantic import Field, model_validator

from passband.process import Prediction
from passband.training.sections.settings import Settings


class VPProcess(Settings):
    """DDPM's process. Betas run from beta_start to beta_end, in the linear schedule alone (null: 1e-4 to 0.02)."""

    name: Literal["vp"]
    prediction: Prediction = "epsilon"
    schedule: Literal["linear", "cosine"] = "linear"
    steps: int = Field(1000, ge=1)
    beta_start: float | None = Field(None, ge=0, lt=1)
    beta_end: float | None = Field(None, ge=0, lt=1)

    @model_validator(mode="before")
    @classmethod
    def _linear_range(cls, values: Any) -> Any:
        """Write the linear schedule's own range out, so that a resolved recipe shows it."""
        if not isinstance(values, dict) or values.get("schedule", "linear") != "linear":
            return values
        known = {key: value for key, value in values.items() if value is not None}
        return {"beta_start": 1e-4, "beta_end": 0.02} | known

    @model_validator(mode="after")
    def _fits(self) -> "VPProcess":
        if self.beta_start is None and self.beta_end is None:
            return self
        if self.schedule != "linear":
            raise ValueError(f"beta_start and beta_end are the linear schedule's, got schedule: {self.schedule}")
        if self.beta_start is None or self.beta_end is None or self.beta_start > self.beta_end:
            raise ValueError(f"beta_start must not be above beta_end, got {self.beta_start} and {self.beta_end}")
        return self


class EDMProcess(Settings):
    """EDM's process."""

    name: Literal["edm"]
    prediction: Prediction = "edm"
    sigma_data: float = Field(0.5, gt=0)
    sigma_min: float = Field(0.002, gt=0)
    sigma_max: float = Field(80.0, gt=0)
    p_mean: float = -1.2
    p_std: float = Field(1.2, gt=0)


class VPPreconditionedProcess(Settings):
    """The VP preconditioning of a denoiser at noise level sigma."""

    name: Literal["edm_vp"]


class VEPreconditionedProcess(Settings):
    """The VE preconditioning of a denoiser at noise level sigma."""

    name: Literal["edm_ve"]


class FlowProcess(Settings):
    """Linear flow. Its time runs to time_scale, which is what a diffusers network is given."""

    name: Literal["flow"]
    prediction: Prediction = "velocity"
    data_at: Literal[0, 1] = 0
    time_scale: float = Field(1000.0, gt=0)
    logit_normal: tuple[float, float] | None = None
    velocity_floor: float = Field(0.0, ge=0, lt=1)
    hybrid: bool = False
    noise_scale: float = Field(1.0, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> "FlowProcess":
        if self.hybrid and self.prediction != "velocity":
            raise ValueError(f"hybrid makes a velocity: set prediction to velocity, got {self.prediction}")
        return self


AnyProcess = VPProcess | EDMProcess | VPPreconditionedProcess | VEPreconditionedProcess | FlowProcess
