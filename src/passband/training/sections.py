"""The sections of a recipe: what each setting is, its range and its default."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from passband._checks import nearest
from passband.models import JIT_SIZES
from passband.process import Prediction


class Settings(BaseModel):
    """The base of all settings: unknown keys are errors that name the nearest known one."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="wrap")
    @classmethod
    def _known_keys(cls, values: Any, handler: Callable[[Any], Any]) -> Any:
        try:
            return handler(values)
        except ValidationError as error:
            faults = [cls._named(dict(fault)) for fault in error.errors(include_url=False)]
            raise ValidationError.from_exception_data(error.title, faults) from None

    @classmethod
    def _named(cls, fault: dict[str, Any]) -> InitErrorDetails:
        """The fault as it was found, an unknown key of these settings with the nearest known one."""
        where: tuple[int | str, ...] = fault["loc"]
        message, kind = str(fault["msg"]), fault["type"]
        if kind == "extra_forbidden" and len(where) == 1:
            key, known = str(where[0]), ", ".join(cls.model_fields)
            message = f"unknown key {key!r}{nearest(key, cls.model_fields)}; known keys: {known}"
            where, kind = (), "unknown_key"
        # As a value, since braces in a message would be taken for a template.
        plain = PydanticCustomError(kind, "{message}", {**fault.get("ctx", {}), "message": message})
        return InitErrorDetails(type=plain, loc=where, input=fault["input"])


class AugmentSettings(Settings):
    """EDM's non-leaking augmentation, whose labels the network is given."""

    probability: float = Field(0.12, ge=0, le=1)


class PictureData(Settings):
    """What all data sets of pictures have in common."""

    name: str
    path: Path | str
    resolution: int = Field(64, ge=4)
    crop: Literal["center", "tile"] = "center"
    scale: float = Field(1.0, gt=0)
    channels: Literal[1, 3] = 3
    flip: bool = True
    subset: Literal["all", "train", "eval"] = "all"
    eval_share: float = Field(0.1, ge=0, le=1)
    limit: int | None = Field(None, ge=1)
    augment: AugmentSettings | None = None
    strict: bool = False
    workers: int = Field(0, ge=0)


class ImagesData(PictureData):
    """A folder or zip of images."""

    name: Literal["images"] = "images"
    path: Path
    labels: Literal["none", "json", "folder"] = "none"


class HubData(PictureData):
    """A data set of the Hugging Face library: a folder that it saved, local files, or a name."""

    name: Literal["hub"]
    path: str
    split: str = "train"
    image_column: str = "image"
    label_column: str | None = None


class CheckerboardData(Settings):
    """Checkerboards, drawn as they are needed."""

    name: Literal["checkerboard"]
    resolution: int = Field(32, ge=4)
    cells: tuple[int, ...] = (2, 4)
    length: int = Field(1 << 20, ge=1)
    seed: int = 0
    # What the other kinds of data may do in training, and this one does not.
    flip: ClassVar[bool] = False
    augment: ClassVar[AugmentSettings | None] = None
    workers: ClassVar[int] = 0


class PowerLawData(Settings):
    """Gaussian power-law fields with a texture, drawn as they are needed."""

    name: Literal["power_law"]
    resolution: int = Field(32, ge=5)
    beta: float = Field(2.0, ge=0)
    share: float = Field(0.0, ge=0, lt=1, description="Of the power, that the texture has.")
    kind: Literal["noise", "signal"] = Field("noise", description="Whether the low band predicts the texture.")
    cutoff: int | None = Field(None, ge=1)
    std: float = Field(0.3, gt=0)
    channels: Literal[1, 3] = 1
    length: int = Field(1 << 20, ge=1)
    seed: int = 0
    flip: ClassVar[bool] = False
    augment: ClassVar[AugmentSettings | None] = None
    workers: ClassVar[int] = 0

    @model_validator(mode="after")
    def _fits(self) -> "PowerLawData":
        highest = (self.resolution - 2) // 3
        if self.cutoff is not None and self.cutoff > highest:
            raise ValueError(f"cutoff must be at most {highest} for resolution {self.resolution}, got {self.cutoff}")
        return self


class VPProcess(Settings):
    """DDPM's process."""

    name: Literal["vp"]
    prediction: Prediction = "epsilon"
    schedule: Literal["linear", "cosine"] = "linear"
    steps: int = Field(1000, ge=1)


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


AnyData = ImagesData | HubData | CheckerboardData | PowerLawData
AnyProcess = VPProcess | EDMProcess | VPPreconditionedProcess | VEPreconditionedProcess | FlowProcess


class UNetModel(Settings):
    """diffusers' UNet2DModel, in its terms, or one that was saved (`pretrained`, a folder with config.json)."""

    name: Literal["unet"] = "unet"
    pretrained: Path | None = None
    block_out_channels: tuple[Annotated[int, Field(ge=1)], ...] = Field((64, 128, 256), min_length=1)
    layers_per_block: int = Field(2, ge=1)
    attention_levels: tuple[int, ...] = ()
    mid_attention: bool = True
    attention_head_dim: int = Field(32, ge=1)
    norm_num_groups: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    class_conditional: bool = False
    label_dropout: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _fits(self) -> "UNetModel":
        if self.pretrained is not None:
            return self
        widths, groups, head = self.block_out_channels, self.norm_num_groups, self.attention_head_dim
        unknown = [level for level in self.attention_levels if not 0 <= level < len(widths)]
        if unknown:
            raise ValueError(f"attention_levels {unknown} do not exist: the levels are 0 (finest) to {len(widths) - 1}")
        if any(width % groups for width in widths):
            raise ValueError(f"block_out_channels {widths} must be multiples of norm_num_groups, {groups}")
        attended = [widths[level] for level in self.attention_levels] + [widths[-1]] * self.mid_attention
        if attended and min(attended) < head:
            raise ValueError(
                f"attention_head_dim {head} exceeds the {min(attended)} channels of a level with attention: lower it, "
                "or take the attention out (attention_levels, mid_attention)"
            )
        return self


class EDMUNetModel(Settings):
    """EDM's U-Net in its DDPM++ or NCSN++ form, or one that was imported or saved (`pretrained`, its folder)."""

    name: Literal["edm_unet"]
    pretrained: Path | None = None
    form: Literal["ddpmpp", "ncsnpp"] = "ddpmpp"
    model_channels: int = Field(128, ge=1)
    channel_mult: tuple[Annotated[int, Field(ge=1)], ...] = Field((1, 2, 2, 2), min_length=1)
    num_blocks: int = Field(4, ge=1)
    attn_resolutions: tuple[int, ...] = (16,)
    dropout: float | None = Field(None, ge=0, lt=1, description="Default: 0.1, or that of the pretrained network.")
    augment_dim: int = Field(0, ge=0)
    class_conditional: bool = False
    label_dropout: float = Field(0.0, ge=0, lt=1)


class JiTModel(Settings):
    """JiT of a published size, any part of it changed, or one that was imported or saved (`pretrained`, its folder)."""

    name: Literal["jit"]
    pretrained: Path | None = None
    size: str = "B/16"
    patch_size: int | None = Field(None, ge=1)
    hidden_size: int | None = Field(None, ge=1)
    depth: int | None = Field(None, ge=1)
    num_heads: int | None = Field(None, ge=1)
    bottleneck_dim: int | None = Field(None, ge=1)
    in_context_len: int | None = Field(None, ge=0)
    in_context_start: int | None = Field(None, ge=0)
    patch_embedding: Literal["conv", "linear"] | None = None
    dropout: float | None = Field(
        None, ge=0, lt=1, description="Of attention and projections; default: 0, or the pretrained's."
    )
    gradient_checkpointing: bool = False
    class_conditional: bool = False
    label_dropout: float = Field(0.0, ge=0, lt=1)

    @field_validator("size")
    @classmethod
    def _known(cls, size: str) -> str:
        if size not in JIT_SIZES:
            raise ValueError(f"unknown size{nearest(size, JIT_SIZES)}; the sizes are {', '.join(JIT_SIZES)}")
        return size

    @property
    def changes(self) -> dict[str, Any]:
        """The constructor's arguments in which the network differs from its size."""
        fields = ("patch_size", "hidden_size", "depth", "num_heads", "bottleneck_dim", "in_context_len")
        names = (*fields, "in_context_start", "patch_embedding")
        found = {name: getattr(self, name) for name in names} | {"attn_drop": self.dropout, "proj_drop": self.dropout}
        return {name: value for name, value in found.items() if value is not None}


Model = Annotated[
    Annotated[UNetModel, Tag("unet")] | Annotated[EDMUNetModel, Tag("edm_unet")] | Annotated[JiTModel, Tag("jit")],
    Discriminator(
        lambda model: model.get("name", "unet") if isinstance(model, dict) else getattr(model, "name", None),
        custom_error_type="model",
        custom_error_message=(
            "the model's name is unet (diffusers' UNet2DModel), edm_unet (EDM's DDPM++ and NCSN++) or jit"
        ),
    ),
]


def knows_no_class(model: Model) -> bool:
    """Whether a class-conditional network of these settings can be asked for no class, as guidance does.

    Pretrained ones are assumed to, but for the U-Net, which has a null class by its label dropout alone.
    """
    return model.label_dropout > 0 or (model.pretrained is not None and not isinstance(model, UNetModel))


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


class LossSettings(Settings):
    """The squared error's space: that of the network's own prediction, or another's."""

    space: Literal["prediction"] | Prediction = "prediction"


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


Term = Annotated[
    AmplitudeTerm | AmplitudePhaseTerm | WaveletTerm | FocalFrequencyTerm | PixelTerm, Discriminator("name")
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


class RegularizerSettings(Settings):
    """The spectral term: the sum of its losses, each times its scale."""

    losses: tuple[Term, ...]
    weight: WeightSettings = 0.01
    gate: GateSettings | None = None

    @field_validator("losses")
    @classmethod
    def _some(cls, losses: tuple[Term, ...]) -> tuple[Term, ...]:
        if not losses:
            raise ValueError("give at least one loss, or set regularizer to null")
        return losses


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
    trackers: tuple[str, ...] = ("tensorboard",)


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
    guidance: GuidanceSettings | None = None
    classes: Literal["random", "balanced"] = Field("random", description="Balanced: seed modulo classes.")
