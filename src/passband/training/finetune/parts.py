"""The parts of a finetuning: its images, its pipeline, and the network that is trained."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from passband._checks import import_extra
from passband._seeds import seed_for
from passband.data import CaptionedImages, ImageFolder, ImageSamples
from passband.integrations.pipelines import TrainablePipeline, open_pipeline
from passband.integrations.pipelines.transformers import FluxTraining
from passband.training.config import FinetuneRecipe, RecipeError
from passband.training.finetune.info import pipeline_info

#: By the names of recipes.
DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def build_images(recipe: FinetuneRecipe) -> ImageSamples:
    """The images of a recipe, with the captions or classes that its pipeline takes.

    Raises:
        FileNotFoundError, ValueError: if images or captions cannot be read; or there is no such pipeline.

    """
    condition, data = pipeline_info(recipe.pipeline.path).condition, recipe.data
    left = {"name", "path", "resolution", "flip", "augment", "workers", "labels", "captions", "prompt", "dropout"}
    options = data.model_dump(exclude=left)
    if condition == "text":
        return CaptionedImages(data.path, data.resolution, captions=data.captions, prompt=data.prompt, **options)
    labels = data.labels if condition == "classes" else "none"
    return ImageFolder(data.path, data.resolution, labels=labels, **options)


def opened(recipe: FinetuneRecipe) -> TrainablePipeline:
    """The pipeline of a recipe, the weights below adapters in the precision that it names.

    Raises:
        FileNotFoundError, ValueError, TypeError: if it cannot be opened.
        RecipeError: if a setting does not fit it.
        MissingExtraError: if adapters are asked for and peft is not installed.

    """
    settings = recipe.pipeline
    if settings.lora is not None:
        import_extra("peft", "lora")  # before gigabytes are loaded
    found = open_pipeline(settings.path, prediction=settings.prediction, variant=settings.variant)
    if settings.lora is not None and settings.lora.base != "fp32":
        nn.Module.to(found.network, DTYPES[settings.lora.base])  # diffusers' own warns of modules that there are not
    if settings.training_guidance is None:
        return found
    if not isinstance(found, FluxTraining):
        raise RecipeError(
            f"pipeline.training_guidance is for networks with an input for it (Flux dev), and a {found.class_name} has "
            "none: set it to null"
        )
    found.training_guidance = settings.training_guidance
    return found


@contextmanager
def autocasting(network: nn.Module, autocast: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
    """Calls of a network in the precision of the training; what a pipeline does around them stays in float32."""
    plain, own = network.forward, network.__dict__.get("forward")

    def forward(*args: Any, **kwargs: Any) -> Any:
        with autocast():
            return in_full(plain(*args, **kwargs))

    network.forward = forward
    try:
        yield
    finally:
        if own is None:
            del network.__dict__["forward"]
        else:
            network.forward = own


def in_full(output: Any) -> Any:
    """A network's output, a tuple or one of diffusers', in float32."""
    if isinstance(output, tuple):
        return tuple(value.float() if isinstance(value, Tensor) else value for value in output)
    output.sample = output.sample.float()
    return output


def latent(pipeline: TrainablePipeline) -> bool:
    """Whether a pipeline noises latents rather than pixels."""
    return getattr(pipeline.pipeline, "vae", None) is not None


def trainable(pipeline: TrainablePipeline, recipe: FinetuneRecipe) -> nn.Module:
    """The pipeline's network, ready to be trained, with adapters where the recipe asks for them.

    Raises:
        ValueError: if it knows no gradient checkpointing, or the adapters do not fit it.
        MissingExtraError: if adapters are asked for and peft is not installed.

    """
    settings, network = recipe.pipeline, pipeline.network
    if settings.gradient_checkpointing:
        enable: Any = getattr(network, "enable_gradient_checkpointing", None)
        if enable is None or not getattr(network, "_supports_gradient_checkpointing", False):
            raise ValueError(
                f"{type(network).__name__} knows no gradient checkpointing: set pipeline.gradient_checkpointing to "
                "false"
            )
        enable()
    if settings.lora is None:
        return network.requires_grad_(True)
    options = settings.lora.model_dump(exclude={"base"})
    adapted = pipeline.add_lora(network, **options, seed=seed_for(recipe.training.seed, 0, "lora"))
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return adapted
