"""Whether a finetuning's recipe, pipeline and images fit each other, and its spectral term."""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from passband.data import ImageSamples
from passband.integrations.pipelines import TrainablePipeline
from passband.regularization import DecodedLoss, SpectralRegularizer
from passband.regularization.decoded import Decode
from passband.training.build import build_regularizer
from passband.training.config import FinetuneRecipe, RecipeError


def check_fits(recipe: FinetuneRecipe, pipeline: TrainablePipeline, dataset: ImageSamples) -> None:
    """Raise where a recipe, its pipeline and its images do not fit each other.

    Raises:
        RecipeError: if they do not.

    """
    where = f"the {pipeline.class_name} in {str(pipeline.folder)!r}"
    try:
        pipeline.sample_shape(*recipe.data.size)
    except ValueError as error:
        raise RecipeError(f"data.resolution {recipe.data.resolution} does not fit the pipeline: {error}") from error
    if recipe.data.channels != pipeline.image_channels:
        raise RecipeError(
            f"{where} has images of {pipeline.image_channels} channel(s), and data.channels is {recipe.data.channels}: "
            f"set it to {pipeline.image_channels}"
        )
    if pipeline.condition == "classes":
        _check_classes(pipeline, dataset, where)
    _check_asked(recipe, pipeline, where)


def _check_classes(pipeline: TrainablePipeline, dataset: ImageSamples, where: str) -> None:
    if not dataset.num_classes:
        raise RecipeError(
            f"{where} draws images of classes, and the images have none: set data.labels to folder (the folders' "
            "names) or json (dataset.json, which may number them as the pipeline does)"
        )
    if dataset.num_classes > pipeline.classes:
        raise RecipeError(
            f"{where} knows {pipeline.classes} classes, and the images have {dataset.num_classes}: leave some out, or "
            f"number them 0 to {pipeline.classes - 1} in a dataset.json (data.labels: json)"
        )


def _check_asked(recipe: FinetuneRecipe, pipeline: TrainablePipeline, where: str) -> None:
    """Settings of what the pipeline does not take."""
    takes = pipeline.condition
    asked = {
        "data.prompt": (recipe.data.prompt is not None, "text"),
        "sampling.prompts": (bool(recipe.sampling.prompts), "text"),
        "data.labels": (recipe.data.labels != "none", "classes"),
    }
    for name, (given, kind) in asked.items():
        if given and takes != kind:
            raise RecipeError(f"{name} is for pipelines that take {kind}, and {where} takes {_TAKES[takes]}: leave it")
    if recipe.sampling.guidance is not None and takes == "none":
        raise RecipeError(f"sampling.guidance needs classes or prompts, and {where} takes none: set it to null")


_TAKES = {"none": "neither text nor classes", "classes": "classes", "text": "text"}


def build_term(recipe: FinetuneRecipe, pipeline: TrainablePipeline) -> SpectralRegularizer | None:
    """The spectral term of a recipe, None without; tried out on a blank sample, so that no step finds a fault.

    Raises:
        RecipeError: if it does not fit the samples or the process.

    """
    settings, process = recipe.regularizer, pipeline.process
    try:
        if recipe.loss.space != "prediction":
            process.loss_gain(process.sample_times(1), recipe.loss.space)
        found = build_regularizer(settings)
        if settings is None or found is None:
            return None
        found.loss(*(torch.zeros(1, *_compared(recipe, pipeline)),) * 2)
    except ValueError as error:
        raise RecipeError(f"the recipe's parts do not fit each other: {error}") from error
    if settings.pixels:
        found.loss = DecodedLoss(found.loss, decoder(pipeline), settings.crop)
    return found


def _compared(recipe: FinetuneRecipe, pipeline: TrainablePipeline) -> tuple[int, int, int]:
    """The shape of what the term compares."""
    settings, (height, width) = recipe.regularizer, recipe.data.size
    shape = pipeline.sample_shape(height, width)
    if settings is None or not settings.pixels:
        return shape
    if getattr(pipeline.pipeline, "vae", None) is None:
        raise ValueError(
            f"regularizer.pixels decodes latents, and a {pipeline.class_name} works on pixels: set it to false"
        )
    if settings.crop is None:
        return pipeline.image_channels, height, width
    sides = [min(settings.crop, side) * whole // side for side, whole in zip(shape[1:], (height, width), strict=True)]
    return pipeline.image_channels, sides[0], sides[1]


def decoder(pipeline: TrainablePipeline) -> Decode:
    """The pipeline's decoder, its activations computed again for the backward pass."""

    def decode(latents: Tensor) -> Tensor:
        if not (torch.is_grad_enabled() and latents.requires_grad):
            return pipeline.decode(latents)
        found: Tensor = checkpoint(pipeline.decode, latents, use_reentrant=False)
        return found

    return decode
