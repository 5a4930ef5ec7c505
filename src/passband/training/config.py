"""Recipes: typed, validated, read from YAML and changed by dotted overrides."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Discriminator, Field, ValidationError, model_validator

from passband._checks import nearest
from passband.process import Prediction


class RecipeError(ValueError):
    """A recipe that cannot be used; the message names each setting, what was got and what was expected."""


class Settings(BaseModel):
    """The base of all settings: unknown keys are errors that name the nearest known one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, values: Any) -> Any:
        if isinstance(values, dict):
            for key in values:
                if key not in cls.model_fields:
                    known = ", ".join(cls.model_fields)
                    raise ValueError(f"unknown key {key!r}{nearest(str(key), cls.model_fields)}; known keys: {known}")
        return values


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
    block_out_channels: tuple[int, ...] = (64, 128, 256)
    layers_per_block: int = Field(2, ge=1)
    attention_levels: tuple[int, ...] = ()
    mid_attention: bool = True
    attention_head_dim: int = Field(32, ge=1)
    norm_num_groups: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)


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


class GateSettings(Settings):
    """A gate on the noise ratio."""

    max_ratio: float = Field(gt=0)
    softness: float = Field(0.0, ge=0)


class RegularizerSettings(Settings):
    """The spectral term: the sum of its losses, each times its scale."""

    losses: tuple[Term, ...] = Field(min_length=1)
    weight: Annotated[float, Field(ge=0)] | Literal["edm"] | EDMWeightSettings | ShareWeightSettings = 0.01
    gate: GateSettings | None = None


class OptimizerSettings(Settings):
    """AdamW with a linear warm-up to a constant learning rate."""

    lr: float = Field(2e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
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
    """Read a recipe and apply dotted overrides such as `optimizer.lr=1e-4` or `regularizer=null`.

    Args:
        path: a YAML file.
        overrides: `key=value` settings; values are YAML, keys may go to any depth.

    Raises:
        RecipeError: if the file is missing or no YAML mapping, an override is no key=value, or a setting is unknown or
            out of range; all faults are listed.

    Example:
        >>> import tempfile, pathlib
        >>> from passband.training import load_recipe
        >>> text = "name: boards\\ndata: {name: checkerboard}\\nprocess: {name: vp}\\n"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "recipe.yaml")
        ...     _ = file.write_text(text)
        ...     load_recipe(file, ["training.steps=10"]).training.steps
        10

    """
    file = Path(path)
    if not file.is_file():
        raise RecipeError(f"there is no recipe at {str(path)!r}: give the path of a YAML file, such as recipes/NAME.yaml")
    try:
        tree = OmegaConf.load(file)
        for text in overrides:
            key, value = _override(text)
            OmegaConf.update(tree, key, value, merge=False, force_add=True)
        values = OmegaConf.to_container(tree, resolve=True)
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError, IndexError, TypeError) as error:
        raise RecipeError(f"{str(path)!r} cannot be read as a YAML recipe with these overrides: {error}") from error
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
        faults = "\n".join(f"  {_describe(dict(fault))}" for fault in error.errors(include_url=False))
        raise RecipeError(f"{source} is not valid:\n{faults}") from error


def _override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise RecipeError(f"an override is key=value, such as optimizer.lr=1e-4; got {text!r}")
    # OmegaConf's YAML, in which 1e-4 is a number.
    return key, OmegaConf.from_dotlist([f"value={value}"])["value"]


def _describe(fault: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    message = str(fault["msg"]).removeprefix("Value error, ")
    got = "" if fault["type"] in ("missing", "value_error") else f" (got {fault['input']!r})"
    return f"{where}: {message}{got}" if where else f"{message}{got}"
