"""Recipes: typed, validated, read from YAML and changed by dotted overrides."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
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
from passband.process import Prediction


class RecipeError(ValueError):
    """A recipe that cannot be used; the message names each setting, what was got and what was expected."""


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


class ImagesData(Settings):
    """A folder or zip of images."""

    name: Literal["images"] = "images"
    path: Path
    resolution: int = Field(64, ge=4)
    crop: Literal["center", "tile"] = "center"
    channels: Literal[1, 3] = 3
    flip: bool = True
    subset: Literal["all", "train", "eval"] = "all"
    eval_share: float = Field(0.1, ge=0, le=1)
    limit: int | None = Field(None, ge=1)
    strict: bool = False
    workers: int = Field(0, ge=0)


class CheckerboardData(Settings):
    """Checkerboards, drawn as they are needed."""

    name: Literal["checkerboard"]
    resolution: int = Field(32, ge=4)
    cells: tuple[int, ...] = (2, 4)
    length: int = Field(1 << 20, ge=1)
    seed: int = 0


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


class FlowProcess(Settings):
    """Linear flow. Its time runs to time_scale, which is what a diffusers network is given."""

    name: Literal["flow"]
    prediction: Prediction = "velocity"
    data_at: Literal[0, 1] = 0
    time_scale: float = Field(1000.0, gt=0)
    logit_normal: tuple[float, float] | None = None


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
    """AdamW with a linear warm-up to a constant learning rate."""

    lr: float = Field(2e-4, gt=0)
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    weight_decay: float = Field(0.0, ge=0)
    warmup_steps: int = Field(0, ge=0)
    clip_norm: float | None = Field(1.0, gt=0)


class TrainingSettings(Settings):
    """Length, seed, averaging, precision, and what is written when."""

    steps: int = Field(100_000, ge=1)
    batch_size: int = Field(64, ge=1)
    seed: int = 0
    ema_decay: float = Field(0.999, ge=0, lt=1)
    precision: Literal["no", "fp16", "bf16"] = "no"
    log_every: int = Field(10, ge=1)
    save_every: int = Field(1000, ge=1)
    sample_every: int | None = Field(1000, ge=1)
    keep_checkpoints: int = Field(2, ge=1)
    tensorboard: bool = False


class SamplingSettings(Settings):
    """How samples are drawn, while training and by `passband sample`."""

    count: int = Field(16, ge=1)
    steps: int = Field(50, ge=1)
    solver: Literal["euler", "heun", "ancestral"] = "euler"
    spacing: Literal["leading", "trailing", "uniform", "karras"] | None = None
    clip: float | None = Field(None, gt=0)
    seed: int = 0


class Recipe(Settings):
    """One training run, whole."""

    name: str = Field(min_length=1, pattern=r"^[\w.-]+$")
    data: Annotated[ImagesData | CheckerboardData, Discriminator("name")]
    process: Annotated[VPProcess | EDMProcess | FlowProcess, Discriminator("name")]
    model: UNetModel = UNetModel()
    regularizer: RegularizerSettings | None = None
    optimizer: OptimizerSettings = OptimizerSettings()
    training: TrainingSettings = TrainingSettings()
    sampling: SamplingSettings = SamplingSettings()

    @model_validator(mode="after")
    def _fits(self) -> "Recipe":
        halvings = 2 ** (len(self.model.block_out_channels) - 1)
        if self.model.pretrained is None and self.data.resolution % halvings:
            raise ValueError(
                f"data.resolution {self.data.resolution} must be divisible by {halvings}, since the U-Net halves it "
                f"{len(self.model.block_out_channels) - 1} times"
            )
        return self

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one sample."""
        channels = self.data.channels if isinstance(self.data, ImagesData) else 1
        return channels, self.data.resolution, self.data.resolution

    def to_yaml(self) -> str:
        """The resolved recipe, every default spelled out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    r"""Read a recipe and apply dotted overrides such as `optimizer.lr=1e-4` or `regularizer=null`.

    Args:
        path: a YAML file.
        overrides: `key=value` settings; values are YAML, keys may go to any depth.

    Raises:
        RecipeError: if the file is missing or no YAML mapping, an override is no key=value, or a setting is unknown or
            out of range; all faults are listed.

    Example:
        >>> import tempfile, pathlib
        >>> from passband.training import load_recipe
        >>> text = "name: boards\ndata: {name: checkerboard}\nprocess: {name: vp}\n"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "recipe.yaml")
        ...     _ = file.write_text(text)
        ...     load_recipe(file, ["training.steps=10"]).training.steps
        10

    """
    file = Path(path)
    if not file.is_file():
        raise RecipeError(
            f"there is no recipe at {str(path)!r}: give the path of a YAML file, such as recipes/NAME.yaml"
        )
    values = _read(file, [_override(text) for text in overrides])
    if not isinstance(values, dict):
        raise RecipeError(f"a recipe is a mapping of settings, got a {type(values).__name__} in {str(path)!r}")
    return make_recipe({str(key): value for key, value in values.items()}, source=str(path))


def make_recipe(values: dict[str, Any], source: str = "the recipe") -> Recipe:
    """Validate plain values as a recipe.

    Raises:
        RecipeError: with one line per fault.

    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        faults = "\n".join(f"  {_describe(dict(fault), values)}" for fault in error.errors(include_url=False))
        raise RecipeError(f"{source} is not valid:\n{faults}") from error


_UNREADABLE = (yaml.YAMLError, OmegaConfBaseException, OSError, ValueError, IndexError, TypeError)


def _override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise RecipeError(f"an override is key=value, such as optimizer.lr=1e-4; got {text!r}")
    try:
        # OmegaConf's YAML, in which 1e-4 is a number.
        return key, OmegaConf.from_dotlist([f"value={value}"])["value"]
    except _UNREADABLE as error:
        raise RecipeError(f"the override {text!r} cannot be read: {_first_line(error)}") from error


def _read(file: Path, overrides: Sequence[tuple[str, Any]]) -> object:
    try:
        tree = OmegaConf.load(file)
    except _UNREADABLE as error:
        raise RecipeError(f"{str(file)!r} cannot be read as a YAML recipe: {error}") from error
    for key, value in overrides:
        try:
            OmegaConf.update(tree, key, value, merge=False, force_add=True)
        except _UNREADABLE as error:
            raise RecipeError(f"the override of {key!r} does not fit {str(file)!r}: {_first_line(error)}") from error
    try:
        return OmegaConf.to_container(tree, resolve=True)
    except _UNREADABLE as error:
        raise RecipeError(f"{str(file)!r} cannot be resolved: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(getattr(error, "problem", None) or error).partition("\n")[0]


def _describe(fault: dict[str, Any], values: dict[str, Any]) -> str:
    where = _setting(fault, values)
    message = str(fault["msg"]).removeprefix("Value error, ")
    got = f" (got {fault['input']!r})"
    match fault["type"]:
        case "union_tag_not_found":
            where, message, got = [*where, "name"], "Field required", ""
        case "union_tag_invalid":
            name, known = str(fault["ctx"]["tag"]), str(fault["ctx"]["expected_tags"])
            hint = nearest(name, known.replace("'", "").split(", "))
            where, message, got = [*where, "name"], f"unknown name {name!r}{hint}; expected one of {known}", ""
        case "missing" | "value_error" | "unknown_key":
            got = ""
    return f"{'.'.join(where)}: {message}{got}" if where else f"{message}{got}"


def _setting(fault: dict[str, Any], values: dict[str, Any]) -> list[str]:
    """The setting's keys as written in the recipe: without the names of union members, which pydantic puts between."""
    found: list[str] = []
    inside: Any = values
    for part in fault["loc"]:
        if (isinstance(inside, dict) and part in inside) or (
            isinstance(inside, list | tuple) and isinstance(part, int)
        ):
            inside = inside[part]
        elif fault["type"] != "missing" or part != fault["loc"][-1]:
            continue
        found.append(str(part))
    return found
