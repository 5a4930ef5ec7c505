"""Text-to-image models: one in pixel space made of diffusers' and transformers' parts, and a door for any other."""

import contextlib
import importlib
import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from passband._checks import check_choice, import_extra, nearest
from passband._files import replace_folder
from passband.data import to_uint8
from passband.forcing import SpectralForcing, attached, recorded
from passband.integrations.diffusers import expecting_forcing
from passband.process import Process, process_from_record, process_record
from passband.sampling import SOLVERS, Guidance, sample

#: Parts of a saved model: three folders, and the process.
UNET, TEXT_ENCODER, TOKENIZER, PROCESS = "unet", "text_encoder", "tokenizer", "process.json"

#: From prompts and seeds, one of each per image, to pixels (batch, 3, height, width).
Generator = Callable[[Sequence[str], Sequence[int]], UInt8[Tensor, "batch 3 height width"]]


@dataclass
class TextToImage:
    """A text-to-image model in pixel space: a U-Net that reads a text encoder's tokens, and its process.

    Every prompt is padded to the tokenizer's `model_max_length`, so that an image depends on its own prompt and seed
    alone, not on the batch.

    Args:
        unet: diffusers' `UNet2DConditionModel`, in evaluation mode; Spectral Forcing may be attached to it.
        text_encoder: a transformers encoder, called with `input_ids` and `attention_mask`, whose `last_hidden_state`
            has the width of the U-Net's `cross_attention_dim`.
        tokenizer: a transformers tokenizer with a padding token and a `model_max_length`.
        process: the process that the U-Net was trained with.

    Example:
        >>> from passband.integrations.text_to_image import TextToImage
        >>> model = TextToImage.from_pretrained("runs/text-to-image")  # doctest: +SKIP
        >>> images = model(["a red circle on a blue background"], seeds=[0], guidance=3.0)  # doctest: +SKIP

    """

    unet: nn.Module
    text_encoder: nn.Module
    tokenizer: Any
    process: Process

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "TextToImage":
        """Load the model that a folder holds, in evaluation mode; Spectral Forcing is on where its U-Net records it.

        Args:
            folder: with `unet/`, `text_encoder/`, `tokenizer/` in diffusers' layout (weights in safetensors), and
                `process.json`. Nothing is downloaded, and no code in it is run.

        Raises:
            FileNotFoundError: if one of these is not there.
            ValueError: if one cannot be read, or the parts do not fit together.

        """
        root = Path(folder)
        for name in (UNET, TEXT_ENCODER, TOKENIZER, PROCESS):
            if not (root / name).exists():
                raise FileNotFoundError(
                    f"{str(root)!r} has no {name}: a text-to-image model is a folder with {UNET}/, {TEXT_ENCODER}/, "
                    f"{TOKENIZER}/ and {PROCESS}, as TextToImage.save_pretrained writes it"
                )
        process = _read_process(root / PROCESS)
        unet: Any = _load(
            root / UNET, lambda _: import_extra("diffusers", "integrations").UNet2DConditionModel, use_safetensors=True
        )
        encoder: Any = _load(root / TEXT_ENCODER, _encoder_class, use_safetensors=True)
        tokenizer = _load(root / TOKENIZER, lambda _: import_extra("transformers", "integrations").AutoTokenizer)
        forcing = recorded(unet)
        if forcing is not None and attached(unet) is None:
            SpectralForcing.from_config(forcing, process).attach(unet)
        width, wanted = encoder.config.hidden_size, unet.config.cross_attention_dim
        if width != wanted:
            raise ValueError(
                f"the text encoder in {str(root)!r} gives tokens of width {width}, and the U-Net takes {wanted}: "
                "these parts are of different models"
            )
        return cls(unet.eval(), encoder.eval(), tokenizer, process)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model into a folder that `from_pretrained` reads, whole or not at all.

        Raises:
            FileExistsError: if the folder holds anything but such a model.
            OSError: if it cannot be written.
            TypeError: if the process is of a kind of its own, which no name stands for.

        """
        root = Path(folder)
        record = process_record(self.process)
        held = {path.name for path in root.iterdir()} if root.is_dir() else set()
        if root.is_file() or not held <= {UNET, TEXT_ENCODER, TOKENIZER, PROCESS}:
            raise FileExistsError(f"{str(root)!r} holds something else: choose another folder for the model")

        def write(partial: Path) -> None:
            with _quiet():
                for name in (UNET, TEXT_ENCODER, TOKENIZER):
                    getattr(self, name).save_pretrained(partial / name)
            (partial / PROCESS).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

        replace_folder(root, write)

    def to(self, device: torch.device | str) -> "TextToImage":
        """Move both networks to a device."""
        self.unet.to(device)
        self.text_encoder.to(device)
        return self

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the images that the U-Net was made for."""
        config: Any = self.unet.config
        size = config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return config.in_channels, height, width

    def encode(self, prompts: Sequence[str]) -> Float[Tensor, "batch tokens width"]:
        """The text encoder's tokens of the prompts, which the U-Net takes as `encoder_hidden_states`.

        Args:
            prompts: one text per image; what exceeds the tokenizer's `model_max_length` is cut off.

        """
        found = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        device = next(self.text_encoder.parameters()).device
        output = self.text_encoder(
            input_ids=found["input_ids"].to(device), attention_mask=found["attention_mask"].to(device)
        )
        tokens: Tensor = output.last_hidden_state
        return tokens.to(next(self.unet.parameters()).dtype)

    @torch.no_grad()
    def __call__(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        guidance: float = 1.0,
        interval: tuple[float, float] = (0.0, 1.0),
        steps: int = 50,
        solver: str = "euler",
        size: int | tuple[int, int] | None = None,
        batch_size: int | None = None,
        on_step: Callable[[int, int], None] | None = None,
        unforced_ok: bool = False,
    ) -> Float[Tensor, "batch channels height width"]:
        """Images of the prompts, in [-1, 1] as far as the model keeps to it, on its device.

        Image i depends on prompts[i] and seeds[i] alone, as far as the network's own arithmetic does.

        Args:
            prompts: one text per image.
            seeds: one seed per image.
            guidance: scale of classifier-free guidance against the empty prompt; 1 is none.
            interval: (low, high) in flow time, 0 noise and 1 data, in which guidance acts.
            steps: number of steps.
            solver: `euler`, `heun` or `ancestral`, see [`sample`][passband.sampling.sample].
            size: side, or (height, width), in pixels; default: the U-Net's own.
            batch_size: largest number of images at once; default: all.
            on_step: called with (steps done, steps in all).
            unforced_ok: see [`sample`][passband.sampling.sample].

        Raises:
            TypeError: if prompts is one string.
            ValueError: if there is not one seed per prompt, an option is out of range, or the U-Net is without the
                forcing that it was trained with.

        """
        if isinstance(prompts, str):
            raise TypeError(f"prompts must be a list of texts, got the text {prompts!r}: put it into a list")
        if len(prompts) != len(seeds):
            raise ValueError(f"give one seed per prompt: got {len(prompts)} prompts and {len(seeds)} seeds")
        channels, *sides = self.sample_shape
        if size is not None:
            sides = [size, size] if isinstance(size, int) else list(size)
        empty = self.encode([""]).expand(len(prompts), -1, -1)
        return sample(
            self.unet,
            self.process,
            (channels, *sides),
            seeds=seeds,
            steps=steps,
            solver=solver,
            conditioning={"encoder_hidden_states": self.encode(prompts)},
            guidance=Guidance(guidance, {"encoder_hidden_states": empty}, interval),
            batch_size=batch_size,
            device=empty.device,
            on_step=on_step,
            unforced_ok=unforced_ok,
        )


def _read_process(file: Path) -> Process:
    with _named(file):
        record = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError(f"expected a JSON object, got {record!r}")
        return process_from_record(record)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say which part of a model an error is about."""
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:400]
        raise ValueError(f"{str(path)!r} cannot be read: {reason}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars, and without diffusers' warning of a recorded forcing."""
    bars = import_extra("transformers.utils.logging", "integrations")
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        with expecting_forcing():
            yield
    finally:
        if shown:
            bars.enable_progress_bar()


def _load(folder: Path, find_class: Callable[[Path], Any], **options: object) -> Any:
    """A part of a model from its folder; nothing is downloaded."""
    with _named(folder), _quiet():
        return find_class(folder).from_pretrained(folder, local_files_only=True, **options)


def _encoder_class(folder: Path) -> Any:
    """The class of transformers that the encoder's configuration names."""
    transformers = import_extra("transformers", "integrations")
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    name = (config.architectures or [""])[0]
    found = getattr(transformers, name, None) if name.isidentifier() else None
    if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
        raise ValueError(f"its config.json names the architecture {name!r}, which is no model of transformers")
    return found


@dataclass(frozen=True)
class GeneratorSettings:
    """How images are drawn; what is None is as the model has it.

    Args:
        steps: sampling steps.
        solver: the solver's name, for a [`TextToImage`][passband.integrations.text_to_image.TextToImage] alone.
        guidance: scale of classifier-free guidance; 1 is none.
        interval: (low, high) in flow time in which guidance acts, for a `TextToImage` alone.
        resolution: side of the images in pixels.

    """

    steps: int | None = None
    solver: str | None = None
    guidance: float | None = None
    interval: tuple[float, float] | None = None
    resolution: int | None = None

    def __post_init__(self) -> None:
        if self.solver is not None:
            check_choice("solver", self.solver, SOLVERS)

    def given(self) -> dict[str, Any]:
        """What is not None."""
        return {name: value for name, value in vars(self).items() if value is not None}


def load_generator(
    source: str | Path, settings: GeneratorSettings | None = None, device: torch.device | str = "cpu"
) -> Generator:
    """A text-to-image model of any kind, as a function from prompts and seeds to pixels.

    Args:
        source: a folder that [`TextToImage`][passband.integrations.text_to_image.TextToImage] or a diffusers pipeline
            (with its `model_index.json`, weights in safetensors) was saved to; or `package.module:function`, which is
            imported and called as `function(prompts, seeds)` with lists, and returns images: a tensor (batch, channels,
            height, width), uint8 or floating in [-1, 1], or a list of PIL images.
        settings: how images are drawn.
        device: where; a function of your own sees to that itself.

    Raises:
        FileNotFoundError: if there is no such folder, or no model in it.
        ValueError: if it cannot be read, or a setting is not this model's to have.

    """
    settings = GeneratorSettings() if settings is None else settings
    folder = Path(source)
    if folder.is_dir():
        if (folder / PROCESS).is_file():
            return _from_parts(TextToImage.from_pretrained(folder).to(device), settings)
        if (folder / "model_index.json").is_file():
            return _from_pipeline(folder, settings, device)
        raise FileNotFoundError(
            f"{str(folder)!r} holds no text-to-image model: it has neither {PROCESS} (TextToImage.save_pretrained) "
            "nor model_index.json (a diffusers pipeline)"
        )
    module, _, name = str(source).partition(":")
    if not name or not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise FileNotFoundError(
            f"there is no folder {str(source)!r}: give that of a model, or a function as package.module:function"
        )
    return _from_function(module, name, settings)


def _from_parts(model: TextToImage, settings: GeneratorSettings) -> Generator:
    options = settings.given()
    if "resolution" in options:
        options["size"] = options.pop("resolution")
    return lambda prompts, seeds: pixels(model(prompts, seeds, **options), len(seeds))


def _from_pipeline(folder: Path, settings: GeneratorSettings, device: torch.device | str) -> Generator:
    options = settings.given()
    for name in ("solver", "interval"):
        if name in options:
            raise ValueError(f"a diffusers pipeline has no {name} to choose: its scheduler is in its folder; leave it")
    if "resolution" in options:
        options["height"] = options["width"] = options.pop("resolution")
    named = {"steps": "num_inference_steps", "guidance": "guidance_scale"}
    options = {named.get(name, name): value for name, value in options.items()}
    with _named(folder):
        pipeline = import_extra("diffusers", "integrations").DiffusionPipeline.from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        )
    taken = inspect.signature(pipeline.__call__).parameters
    if not {"prompt", "generator"} <= set(taken):
        raise ValueError(f"{str(folder)!r} holds a {type(pipeline).__name__}, which takes no prompt and generator")
    unknown = [name for name in options if name not in taken]
    if unknown:
        raise ValueError(f"{type(pipeline).__name__} takes no {', '.join(unknown)}: leave that option")
    pipeline.to(device)
    pipeline.set_progress_bar_config(disable=True)

    def generate(prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        noise = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        return pixels(pipeline(prompt=list(prompts), generator=noise, **options).images, len(seeds))

    return generate


def _from_function(module: str, name: str, settings: GeneratorSettings) -> Generator:
    if given := settings.given():
        raise ValueError(f"{', '.join(given)}: a function of your own has its settings itself; leave these options")
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"cannot import {module!r} ({error}): its folder must be on Python's path, such as PYTHONPATH=."
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{module!r} has no {part!r}{nearest(part, dir(found))}")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"{module}:{name} is no function but a {type(found).__name__}")
    function: Callable[[list[str], list[int]], object] = found
    return lambda prompts, seeds: pixels(function(list(prompts), list(seeds)), len(seeds))


def pixels(images: object, count: int) -> UInt8[Tensor, "batch 3 height width"]:
    """Images of any usual kind as RGB pixels on the CPU.

    Args:
        images: a tensor (batch, 1 or 3, height, width), uint8 or floating in [-1, 1], or a list of PIL images.
        count: how many there must be.

    Raises:
        TypeError: if they are of another kind.
        ValueError: if there are more or fewer, or a value is not finite.

    Example:
        >>> import torch
        >>> from passband.integrations.text_to_image import pixels
        >>> pixels(torch.zeros(1, 1, 2, 2), 1).unique().tolist()
        [128]

    """
    if isinstance(images, list | tuple) and all(hasattr(image, "convert") for image in images):
        arrays = [torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1) for image in images]
        if len({array.shape for array in arrays}) > 1:
            raise ValueError("the model returned images of different sizes in one batch")
        images = torch.stack(arrays) if arrays else torch.empty(0, 3, 1, 1, dtype=torch.uint8)
    if not isinstance(images, Tensor) or not (images.dtype == torch.uint8 or images.is_floating_point()):
        got = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(
            f"the model must return a tensor, uint8 or floating in [-1, 1], or a list of PIL images, got {got}"
        )
    if images.ndim != 4 or images.shape[1] not in (1, 3) or len(images) != count:
        raise ValueError(
            f"the model must return {count} images as (batch, 1 or 3 channels, height, width), "
            f"got shape {tuple(images.shape)}"
        )
    if images.is_floating_point():
        if not bool(images.isfinite().all()):
            raise ValueError("the images are not finite: the model diverged, or needs another solver or more steps")
        images = to_uint8(images)
    return images.cpu().expand(-1, 3, -1, -1).contiguous()
