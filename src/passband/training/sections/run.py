"""How a run goes: its optimizer, length, averages, and how samples are drawn."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from passband.training.sections.settings import Settings


class OptimizerSettings(Settings):
    """AdamW (with no weight decay: Adam), its learning rate warmed up linearly, then constant or falling."""

    lr: float = Field(2e-4, gt=0)
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    warmup_steps: int = Field(0, ge=0)
    schedule: Literal["constant", "cosine", "linear", "inverse_sqrt"] = "constant"
    decay_steps: int | None = Field(None, ge=1, description="Length of the fall, or start of inverse_sqrt.")
    clip_norm: float | None = Field(1.0, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> "OptimizerSettings":
        if self.schedule != "constant" and self.decay_steps is None:
            raise ValueError(f"schedule {self.schedule!r} needs decay_steps, the step at which it ends (or starts)")
        return self


class HalfLifeSettings(Settings):
    """EDM's average: weights lose half their share in `halflife` images; shorter in the first `ramp_up` of a run."""

    halflife: float = Field(gt=0)
    ramp_up: float | None = Field(0.05, gt=0)


def _ema_kind(ema: object) -> str | None:
    return "by_halflife" if isinstance(ema, dict | HalfLifeSettings) else "number"


EMASettings = Annotated[
    Annotated[Annotated[float, Field(ge=0, lt=1)], Tag("number")] | Annotated[HalfLifeSettings, Tag("by_halflife")],
    Discriminator(_ema_kind),
]


def _emas_kind(ema: object) -> str:
    return "several" if isinstance(ema, list | tuple) else "one"


EMAs = Annotated[
    Annotated[EMASettings, Tag("one")]
    | Annotated[Annotated[tuple[EMASettings, ...], Field(min_length=1)], Tag("several")],
    Discriminator(_emas_kind),
]


class SnapshotSettings(Settings):
    """Power-function averages stored for a choice of the average after training (post-hoc EMA)."""

    stds: tuple[Annotated[float, Field(gt=0, lt=0.28)], ...] = (0.05, 0.1)
    every: int = Field(ge=1)


class MonitorSettings(Settings):
    """Where the denoiser's spectrum is wrong, measured on a few samples of the data as the run goes."""

    every: int = Field(500, ge=1)
    samples: int = Field(16, ge=1)
    ratios: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] | None = Field(
        None, description="Noise levels, as sigma / alpha; default: 0.03, 0.1, 0.3 and 1."
    )
    weights: Literal["ema", "last"] = Field("ema", description="Those that are averaged, or those that are trained.")


class TrainingSettings(Settings):
    """Length, seed, averaging, precision, and what is written when."""

    steps: int = Field(100_000, ge=1)
    batch_size: int = Field(64, ge=1)
    accumulate: int = Field(1, ge=1)
    seed: int = 0
    ema: EMAs = Field(0.999, description="One average, or several: ema, ema2, ...")
    snapshots: SnapshotSettings | None = None
    precision: Literal["no", "fp16", "bf16"] = "no"
    compile: bool = False
    channels_last: bool = False
    sharding: Literal["none", "fsdp"] = "none"
    log_every: int = Field(10, ge=1)
    save_every: int = Field(1000, ge=1)
    keep_checkpoints: int = Field(2, ge=1)
    keep_steps: tuple[Annotated[int, Field(ge=1)], ...] = ()
    sample_every: int | None = Field(1000, ge=1)
    monitor: MonitorSettings | None = None
    trackers: tuple[str, ...] = ("tensorboard",)

    @field_validator("precision", mode="before")
    @classmethod
    def _no(cls, precision: object) -> object:
        return "no" if precision is False else precision  # as YAML reads a bare no


class GuidanceSettings(Settings):
    """Classifier-free guidance within an interval of the flow time."""

    scale: float = Field(ge=0)
    interval: tuple[float, float] = (0.0, 1.0)

    @field_validator("interval")
    @classmethod
    def _ordered(cls, interval: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= interval[0] <= interval[1] <= 1:
            raise ValueError(f"the interval is (low, high) in flow time, 0 noise to 1 data, got {interval}")
        return interval


class SamplingSettings(Settings):
    """How samples are drawn, while training and by `passband sample`."""

    count: int = Field(16, ge=1)
    steps: int = Field(50, ge=1)
    solver: Literal["euler", "heun", "ancestral"] = "euler"
    spacing: Literal["leading", "trailing", "uniform", "karras"] | None = None
    clip: float | None = Field(None, gt=0)
    seed: int = 0
    noise_schedule: tuple[Annotated[float, Field(gt=0, lt=1)], ...] | None = Field(
        None, description="Betas of a schedule for sampling; they take the place of steps and spacing."
    )
    guidance: GuidanceSettings | None = None
    classes: Literal["random", "balanced"] = Field("random", description="Balanced: seed modulo classes.")

    @field_validator("noise_schedule")
    @classmethod
    def _some(cls, betas: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if betas is not None and not betas:
            raise ValueError("give at least one beta, or null to sample by steps")
        return betas
