"""Recipes: typed, validated, read from YAML and changed by dotted overrides."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Discriminator, Field, ValidationError, model_validator

from passband._checks import check_choice, nearest
from passband.training.sections import (
    AlignmentSettings,
    AnyData,
    AnyProcess,
    AudioData,
    AutoencoderKLModel,
    CheckerboardData,
    DiffWaveModel,
    DiTModel,
    EDMUNetModel,
    ForcingSettings,
    HubData,
    ImagesData,
    JiTModel,
    LatentsData,
    LossSettings,
    Model,
    ObjectiveSettings,
    OptimizerSettings,
    PipelineData,
    PipelineOptimizer,
    PipelineRegularizer,
    PipelineSampling,
    PipelineSettings,
    PipelineTraining,
    RegularizerSettings,
    SamplingSettings,
    Settings,
    STFTTerm,
    TrainingSettings,
    UNetModel,
    VPProcess,
    knows_no_class,
)


class RecipeError(ValueError):
    """A recipe that cannot be used; the message names each setting, what was got and what was expected."""


class BaseRecipe(Settings):
    """What the recipes of all tasks have in common."""

    name: str = Field(min_length=1, pattern=r"^[\w.-]+$")
    data: Annotated[AnyData, Discriminator("name")]

    def to_yaml(self) -> str:
        """The resolved recipe, every default spelled out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


class Recipe(BaseRecipe):
    """One training run of a denoiser, whole."""

    task: Literal["denoiser"] = "denoiser"
    process: Annotated[AnyProcess, Discriminator("name")]
    model: Model = UNetModel()
    forcing: ForcingSettings | None = None
    loss: LossSettings = LossSettings()
    regularizer: RegularizerSettings | None = None
    alignment: AlignmentSettings | None = None
    optimizer: OptimizerSettings = OptimizerSettings()
    training: TrainingSettings = TrainingSettings()
    sampling: SamplingSettings = SamplingSettings()

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(channels, *spatial) of one sample: of a latent, where the data are latents; (1, samples) of audio."""
        if isinstance(self.data, LatentsData):
            return self.data.shape
        if isinstance(self.data, AudioData):
            return 1, self.data.length
        channels = 1 if isinstance(self.data, CheckerboardData) else self.data.channels
        return channels, *self.data.size

    @model_validator(mode="after")
    def _fits(self) -> "Recipe":
        self._check_audio()
        if not isinstance(self.data, AudioData):
            self._check_sides()
        self._check_labels()
        self._check_guidance()
        self._check_alignment()
        self._check_schedule()
        self._check_frames()
        _check_parts(self.training)
        return self

    def _check_audio(self) -> None:
        speaks, heard = isinstance(self.model, DiffWaveModel), isinstance(self.data, AudioData)
        if speaks != heard:
            raise ValueError(
                f"model.name {self.model.name} and data.name {self.data.name} do not fit: audio is for diffwave, and "
                "diffwave for audio"
            )
        if not isinstance(self.model, DiffWaveModel) or not isinstance(self.data, AudioData):
            return
        model, mel = self.model, self.data.mel
        if model.unconditional or model.pretrained is not None:
            return
        if model.n_mels != mel.n_mels:
            raise ValueError(f"model.n_mels {model.n_mels} must be data.mel.n_mels, {mel.n_mels}")
        if math.prod(model.upsample_factors) != mel.hop_length:
            raise ValueError(
                f"the product of model.upsample_factors {list(model.upsample_factors)} must be data.mel.hop_length, "
                f"{mel.hop_length}"
            )

    def _check_sides(self) -> None:
        if isinstance(self.model, DiTModel) and self.sample_shape[1] != self.sample_shape[2]:
            raise ValueError(
                f"dit takes squares, and the data are {self.sample_shape[1]} x {self.sample_shape[2]}: set model.name "
                "to jit (with a patch_size of 1 or 2 for latents)"
            )
        if self.model.pretrained is not None or not isinstance(self.model, UNetModel | EDMUNetModel):
            return
        unet = isinstance(self.model, UNetModel)
        halvings = len(self.model.block_out_channels if isinstance(self.model, UNetModel) else self.model.channel_mult)
        sides = self.sample_shape[1:]
        if any(side % 2 ** (halvings - 1) for side in sides):
            latents = isinstance(self.data, LatentsData)
            where = "data.shape" if latents else "data.resolution"
            got = sides[0] if sides[0] == sides[1] else sides
            raise ValueError(
                f"{where} {got} must be divisible by {2 ** (halvings - 1)}, since the U-Net "
                f"halves it {halvings - 1} times ({'block_out_channels' if unet else 'channel_mult'})"
            )

    def _check_labels(self) -> None:
        labelled = (isinstance(self.data, ImagesData | LatentsData) and self.data.labels != "none") or (
            isinstance(self.data, HubData) and self.data.label_column is not None
        )
        if self.model.class_conditional and not labelled:
            raise ValueError(
                "model.class_conditional needs labels: set data.labels to json (a zip's dataset.json) or folder, to "
                "stored for latents, or data.label_column of a hub data set"
            )
        if self.model.label_dropout and not self.model.class_conditional:
            raise ValueError(
                "model.label_dropout leaves out classes, and this network is given none: set model.class_conditional "
                "to true, or model.label_dropout to 0"
            )
        takes_augment = isinstance(self.model, EDMUNetModel) and (self.model.pretrained or self.model.augment_dim)
        if self.data.augment is not None and not takes_augment:
            raise ValueError(
                "data.augment needs a network that is told what was done to the image, or its samples are augmented "
                "too: set model.name to edm_unet and model.augment_dim to 9"
            )

    def _check_guidance(self) -> None:
        if self.sampling.guidance is None:
            return
        if not self.model.class_conditional or not knows_no_class(self.model):
            raise ValueError(
                "sampling.guidance needs a network that is trained with and without classes: set "
                "model.class_conditional to true and model.label_dropout to 0.1, or sampling.guidance to null"
            )

    def _check_schedule(self) -> None:
        if self.sampling.noise_schedule is not None and not isinstance(self.process, VPProcess):
            raise ValueError(
                f"sampling.noise_schedule holds betas of a vp process, and process.name is {self.process.name}: set it "
                "to null, and sampling.steps instead"
            )

    def _check_frames(self) -> None:
        """Losses over short-time frames are for audio."""
        for term in () if self.regularizer is None else self.regularizer.losses:
            if not isinstance(term, STFTTerm):
                continue
            if not isinstance(self.data, AudioData):
                raise ValueError(
                    f"regularizer: stft is a loss of audio, and data.name is {self.data.name}: take amplitude, wavelet "
                    "or another loss of images"
                )

    def _check_alignment(self) -> None:
        if self.alignment is None:
            return
        if not isinstance(self.model, JiTModel | DiTModel):
            raise ValueError("alignment needs a transformer, whose tokens it compares: set model.name to dit or jit")
        if self.alignment.stored and not isinstance(self.data, LatentsData):
            raise ValueError("alignment.teachers: features are stored with latents alone; name the teacher itself")
        if self.training.sharding != "none":
            raise ValueError("alignment does not work with training.sharding 'fsdp': set sharding to none")


class AutoencoderRecipe(BaseRecipe):
    """One training run of an autoencoder, whole."""

    task: Literal["autoencoder"]
    data: Annotated[ImagesData | HubData, Discriminator("name")]
    model: AutoencoderKLModel = AutoencoderKLModel()
    objective: ObjectiveSettings = ObjectiveSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    training: TrainingSettings = TrainingSettings()

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        return self.data.channels, *self.data.size

    @model_validator(mode="after")
    def _fits(self) -> "AutoencoderRecipe":
        if self.data.augment is not None:
            raise ValueError("data.augment is for denoisers that are told of it: set it to null")
        if self.training.snapshots is not None:
            raise ValueError("training.snapshots are averages to choose from for denoisers: set it to null")
        if self.training.monitor is not None:
            raise ValueError(
                "training.monitor looks at the estimates of denoisers, and this is an autoencoder: set it to null, and "
                "look at its latents with passband inspect"
            )
        if self.training.sharding != "none":
            raise ValueError("an autoencoder is not divided among processes: set training.sharding to none")
        if self.model.pretrained is None:
            factor = 2 ** (len(self.model.block_out_channels) - 1)
            if any(side % factor for side in self.data.size):
                raise ValueError(
                    f"data.resolution {self.data.resolution} must be divisible by {factor}, since the autoencoder "
                    "halves it that often (block_out_channels)"
                )
        _check_parts(self.training)
        return self


class FinetuneRecipe(BaseRecipe):
    """One training run that starts from a diffusers pipeline, whole; the process is the pipeline's own."""

    task: Literal["finetune"]
    pipeline: PipelineSettings
    data: PipelineData
    loss: LossSettings = LossSettings()
    regularizer: PipelineRegularizer | None = None
    optimizer: PipelineOptimizer = PipelineOptimizer()
    training: PipelineTraining = PipelineTraining()
    sampling: PipelineSampling = PipelineSampling()

    @model_validator(mode="after")
    def _fits(self) -> "FinetuneRecipe":
        if self.training.snapshots is not None:
            raise ValueError(
                "training.snapshots are averages to choose from for denoisers that are trained from scratch: set it to "
                "null, or training.ema to several averages"
            )
        if self.training.sharding != "none":
            raise ValueError("a pipeline is not divided among processes: set training.sharding to none")
        lora = self.pipeline.lora
        if lora is not None and lora.base != "fp32" and self.training.precision == "no":
            raise ValueError(
                f"pipeline.lora.base {lora.base!r} goes with autocast: set training.precision to bf16 (or fp16), or "
                "pipeline.lora.base to fp32"
            )
        if any(isinstance(term, STFTTerm) for term in (self.regularizer.losses if self.regularizer else ())):
            raise ValueError("regularizer: stft is a loss of audio: take amplitude, wavelet or another loss of images")
        _check_parts(self.training)
        return self


def _check_parts(training: TrainingSettings) -> None:
    batch, parts = training.batch_size, training.accumulate
    if batch % parts:
        raise ValueError(f"training.batch_size {batch} must be a multiple of training.accumulate, {parts}")


AnyRecipe = Recipe | AutoencoderRecipe | FinetuneRecipe
_TASKS: dict[str, type[Recipe] | type[AutoencoderRecipe] | type[FinetuneRecipe]] = {
    "denoiser": Recipe,
    "autoencoder": AutoencoderRecipe,
    "finetune": FinetuneRecipe,
}


def denoiser_recipe(recipe: AnyRecipe, purpose: str) -> Recipe:
    """The recipe, where it is a denoiser's.

    Args:
        recipe: any recipe.
        purpose: what a denoiser is needed for, in words.

    Raises:
        RecipeError: if it is an autoencoder's or a pipeline's.

    """
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, FinetuneRecipe):
        raise RecipeError(
            f"{purpose} needs a denoiser of this library, and {recipe.name!r} trains a diffusers pipeline: draw its "
            "samples with `passband sample`, or by diffusers from the run's pipeline or lora folder"
        )
    raise RecipeError(
        f"{purpose} needs a denoiser, and {recipe.name!r} trains an autoencoder: look at one with `passband inspect`, "
        "or write its latents with `passband encode` and train on them"
    )


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> AnyRecipe:
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
    return make_recipe(read_settings(file, [parse_override(text) for text in overrides]), source=str(path))


def make_recipe(values: dict[str, Any], source: str = "the recipe") -> AnyRecipe:
    """Validate plain values as a recipe of their `task`: `denoiser`, the default, `autoencoder` or `finetune`.

    Raises:
        RecipeError: with one line per fault.

    """
    task = values.get("task", "denoiser")
    try:
        check_choice("task", task, _TASKS)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{source} is not valid:\n  task: {error}") from error
    try:
        return _TASKS[task].model_validate(values)
    except ValidationError as error:
        raise invalid(source, error, values) from error


def invalid(source: str, error: ValidationError, values: dict[str, Any]) -> RecipeError:
    """What to say of settings that are not valid: one line per fault."""
    faults = "\n".join(f"  {_describe(dict(fault), values)}" for fault in error.errors(include_url=False))
    return RecipeError(f"{source} is not valid:\n{faults}")


_UNREADABLE = (yaml.YAMLError, OmegaConfBaseException, OSError, ValueError, IndexError, TypeError)


def parse_override(text: str) -> tuple[str, Any]:
    """Key and value of a `key=value` setting.

    Raises:
        RecipeError: if it is none, or the value cannot be read.

    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise RecipeError(f"an override is key=value, such as optimizer.lr=1e-4; got {text!r}")
    try:
        # OmegaConf's YAML, in which 1e-4 is a number.
        return key, OmegaConf.from_dotlist([f"value={value}"])["value"]
    except _UNREADABLE as error:
        raise RecipeError(f"the override {text!r} cannot be read: {_first_line(error)}") from error


def read_settings(file: Path, overrides: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The plain values of a YAML file, with some of them changed.

    A file whose `extends` names another (a path relative to its own) changes that one's values and adds its own.

    Raises:
        RecipeError: if it cannot be read, or is no mapping.

    """
    return _changed(_read_tree(file, ()), overrides, repr(str(file)))


def changed_settings(values: dict[str, Any], overrides: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Plain values with some of them changed, as those of a file are.

    Raises:
        RecipeError: if a change does not fit.

    """
    return _changed(OmegaConf.create(values), overrides, "the recipe")


def _changed(tree: Any, overrides: Sequence[tuple[str, Any]], where: str) -> dict[str, Any]:
    for key, value in overrides:
        try:
            OmegaConf.update(tree, key, value, merge=False, force_add=True)
        except _UNREADABLE as error:
            raise RecipeError(f"the override of {key!r} does not fit {where}: {_first_line(error)}") from error
    try:
        values = OmegaConf.to_container(tree, resolve=True)
    except _UNREADABLE as error:
        raise RecipeError(f"{where} cannot be resolved: {_first_line(error)}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"a mapping of settings was expected, got a {type(values).__name__} in {where}")
    return {str(key): value for key, value in values.items()}


def _read_tree(file: Path, chain: tuple[Path, ...]) -> Any:
    """A file's values over those of the file that it extends."""
    if file.resolve() in chain:
        raise RecipeError(f"{str(chain[0])!r} extends itself, by way of {str(file)!r}: take one `extends` out")
    try:
        tree = OmegaConf.load(file)
        parent = tree.pop("extends", None) if isinstance(tree, DictConfig) else None
        if parent is None:
            return tree
        return OmegaConf.merge(_read_tree(file.parent / str(parent), (*chain, file.resolve())), tree)
    except RecipeError:
        raise
    except _UNREADABLE as error:
        raise RecipeError(f"{str(file)!r} cannot be read as a YAML recipe: {error}") from error


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
        case "tuple_type" | "list_type":
            message = "Input should be a list"
        case "model_type" | "model_attributes_type":
            message = "Input should be a mapping, {key: value, ...}"
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
