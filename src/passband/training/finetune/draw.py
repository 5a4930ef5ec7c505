"""Samples of a pipeline that a run has trained, as files named by their seeds, shared among processes."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import nn

from passband.data import CaptionedImages, save_image
from passband.integrations.pipelines import TrainablePipeline
from passband.training.checkpoint import CheckpointError, checkpoint_folder
from passband.training.conditioning import CLASS_RULES, sampled_classes
from passband.training.config import FinetuneRecipe
from passband.training.draw import OnDrawn, claim, in_turns, missing, sample_name, split
from passband.training.finetune.adapters import Adapters
from passband.training.finetune.parts import DTYPES, autocasting, build_images, opened, trainable
from passband.training.ranks import Ranks
from passband.training.restore import checkpoint_step, weights_folder
from passband.training.run_folder import RunFolder


def is_finetuned(root: Path) -> bool:
    """Whether a folder is that of a run that trained a pipeline.

    Raises:
        RecipeError: if it holds a recipe that cannot be read.

    """
    return (root / "recipe.yaml").is_file() and isinstance(RunFolder(root).recipe(), FinetuneRecipe)


class Finetuned(NamedTuple):
    """A pipeline with the network of a run's checkpoint.

    Attributes:
        pipeline: the pipeline.
        network: its network, in evaluation mode.
        recipe: the run's.
        step: the checkpoint's.
        weights: whose they are.

    """

    pipeline: TrainablePipeline
    network: nn.Module
    recipe: FinetuneRecipe
    step: int
    weights: str


def restore_pipeline(root: Path, *, step: int | None = None, weights: str = "ema") -> Finetuned:
    """Open the pipeline of a run, with the network of its checkpoint.

    Args:
        root: the run's folder.
        step: the checkpoint's step; default: the newest.
        weights: `ema`, another average of the run (`ema2`), or `last` for those of the last step.

    Raises:
        CheckpointError: if there is no such checkpoint, or it cannot be read.
        FileNotFoundError, ValueError: if the pipeline that the run started from cannot be opened.

    """
    folder = RunFolder(root)
    recipe = folder.recipe()
    assert isinstance(recipe, FinetuneRecipe)
    step = checkpoint_step(root, step)
    pipeline = opened(recipe)
    place = weights_folder(checkpoint_folder(folder.checkpoints, step), pipeline.network_folder, weights)
    network = trainable(pipeline, recipe)
    target = network if recipe.pipeline.lora is None else Adapters(network)
    try:
        files = [load_file(file) for file in sorted(place.glob("*.safetensors"))]
        target.load_state_dict({name: value for file in files for name, value in file.items()})
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"the weights in {str(place)!r} cannot be read: {error}") from error
    return Finetuned(pipeline, network.eval(), recipe, step, weights)


class PipelineDrawing(NamedTuple):
    """How samples are drawn by a pipeline; what is None is as the run's recipe or the pipeline has it.

    Attributes:
        found: the pipeline.
        run: the run's folder.
        prompts: taken in turns.
        steps: sampling steps.
        guidance: guidance scale.
        batch_size: samples at once.

    """

    found: Finetuned
    run: Path
    prompts: tuple[str, ...] = ()
    steps: int | None = None
    guidance: float | None = None
    batch_size: int = 4

    def draw(self, folder: Path, seeds: Sequence[int], ranks: Ranks, on_drawn: OnDrawn | None = None) -> None:
        """Draw the samples of these seeds that the folder lacks: `SEED.png`.

        Args:
            folder: where they lie, or shall lie.
            seeds: one for each sample.
            ranks: the processes that share the work; all must call this.
            on_drawn: called after each batch of this process.

        Raises:
            ValueError: if the folder holds samples drawn with other settings, or a sample is not finite.

        """
        asked, note = self._asked()
        claim(folder, note, ranks)
        lacking = ranks.first(missing(folder, seeds))
        batches = [batch for batch in split(seeds, self.batch_size) if lacking.intersection(batch)]
        self.found.network.to(ranks.device)
        there = len(seeds) - len(lacking)
        in_turns(
            batches,
            lambda batch: self._draw(batch, lacking, asked(batch), folder),
            ranks,
            lambda batch: len(lacking.intersection(batch)),
            None if on_drawn is None else lambda done: on_drawn(there + done, len(seeds)),
        )

    def _draw(self, seeds: Sequence[int], lacking: set[int], asked: dict[str, Any], folder: Path) -> list[int]:
        found, sampling = self.found, self.found.recipe.sampling
        height, width = found.recipe.data.size
        with autocasting(found.network, lambda: trained_precision(found)):
            images = found.pipeline.draw(
                found.network,
                seeds=seeds,
                **asked,
                steps=self.steps or sampling.steps,
                guidance=sampling.guidance if self.guidance is None else self.guidance,
                height=height,
                width=width,
            )
        bad = [seed for seed, image in zip(seeds, images, strict=True) if not bool(torch.isfinite(image).all())]
        for seed, image in zip(seeds, images, strict=True):
            if seed in lacking and not bad:
                save_image(image, folder / sample_name(seed))
        return bad

    def _asked(self) -> tuple[Callable[[Sequence[int]], dict[str, Any]], dict[str, Any]]:
        """What samples are asked for by their seeds, and what tells them from others, kept beside them."""
        found, sampling = self.found, self.found.recipe.sampling
        note: dict[str, Any] = {
            "run": str(self.run.resolve()),
            "step": found.step,
            "weights": found.weights,
            "steps": self.steps or sampling.steps,
            "guidance": sampling.guidance if self.guidance is None else self.guidance,
        }
        if found.pipeline.condition == "none":
            return lambda _: {}, note
        if found.pipeline.condition == "classes":
            classes = build_images(found.recipe).num_classes
            note |= {"classes": classes, "class": CLASS_RULES[sampling.classes]}
            return lambda seeds: {"classes": sampled_classes(seeds, classes, sampling.classes).tolist()}, note
        prompts = self.prompts or sampling.prompts or _captions(found.recipe)
        return lambda seeds: {"prompts": [prompts[seed % len(prompts)] for seed in seeds]}, note | {
            "prompts": list(prompts)
        }


def trained_precision(found: Finetuned) -> AbstractContextManager[Any]:
    """The precision that a network was trained in, on its device."""
    dtype = DTYPES[found.recipe.training.precision]
    device = next(found.network.parameters()).device.type
    return torch.autocast(device, dtype, enabled=dtype != torch.float32)


def _captions(recipe: FinetuneRecipe) -> tuple[str, ...]:
    images = build_images(recipe)
    assert isinstance(images, CaptionedImages)
    return images.captions
