"""The task of training a diffusers pipeline further: its whole network or adapters, on pixels or latents."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from passband._seeds import seed_for
from passband.data import CaptionedImages, ImageSamples
from passband.regularization import DecodedLoss
from passband.sampling import Model, SampleNoise
from passband.training.batches import Batch
from passband.training.conditioning import sampled_classes
from passband.training.config import FinetuneRecipe
from passband.training.denoising import denoising_loss, draw
from passband.training.finetune.adapters import Adapters, count_text, holding
from passband.training.finetune.condition import Conditions
from passband.training.finetune.fit import build_term, check_fits
from passband.training.finetune.parts import autocasting, latent, opened, trainable
from passband.training.finetune.usage import usage
from passband.training.learner import Learner
from passband.training.task import Objective, Task, Turn, Watched

if TYPE_CHECKING:
    from accelerate import Accelerator

#: Where a run's results lie in its folder.
PIPELINE, LORA = "pipeline", "lora"


class FinetuneTask(Task):
    """A pipeline's network, trained on its own noising and prediction; all else of the pipeline stays as it is.

    Args:
        recipe: the recipe.
        accelerator: the run's.
        dataset: its images, with captions or classes where the pipeline takes them.

    Attributes:
        pipeline: the pipeline.
        process: its process, for images of the recipe's size.
        regularizer: the spectral term, None without.

    Raises:
        RecipeError: if the recipe does not fit the pipeline or the data.
        FileNotFoundError, ValueError: if the pipeline cannot be opened.
        MissingExtraError: if diffusers is not installed; or peft, for adapters.

    """

    shown = ("base", "spectral")
    remedy = "Lower optimizer.lr or regularizer.weight, set optimizer.clip_norm, or gate the term with regularizer.gate"

    def __init__(self, recipe: FinetuneRecipe, accelerator: "Accelerator", dataset: Dataset[Any]) -> None:
        assert isinstance(dataset, ImageSamples)
        self.recipe, self.accelerator, self.dataset = recipe, accelerator, dataset
        self.pipeline = opened(recipe)
        self.folder = self.pipeline.network_folder
        check_fits(recipe, self.pipeline, dataset)
        self.process = self.pipeline.process_at(*recipe.data.size)
        self.regularizer = build_term(recipe, self.pipeline)
        self.pipeline.to(accelerator.device)
        settings, training = recipe.pipeline, recipe.training
        store = accelerator.device if settings.embeddings == "device" else torch.device("cpu")
        self._conditions = Conditions(self.pipeline, dataset, recipe.data.dropout, training.seed, store)
        self._live = trainable(self.pipeline, recipe)
        trained = self.pipeline.model(self._live)
        if training.channels_last:
            trained = trained.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.learners = {"network": Learner(trained, accelerator, recipe.optimizer, compiled=training.compile)}
        self._network = self._live if settings.lora is None else Adapters(self._live)

    @property
    def network(self) -> nn.Module:
        """The pipeline's network; of adapters, these alone."""
        return self._network

    @property
    def beside(self) -> Mapping[str, nn.Module]:  # type: ignore[override]
        """Nothing."""
        return {}

    def turns(self, step: int) -> Sequence[Turn]:
        """See the base class."""
        del step
        return [Turn(self.main, self._objective)]

    def _objective(self, batch: Batch) -> Objective:
        seed, space = self.recipe.training.seed, self.recipe.loss.space
        if self.regularizer is not None and isinstance(self.regularizer.loss, DecodedLoss):
            self.regularizer.loss.reseed(seed_for(seed, int(batch.positions[0]), "crop"))
        losses = denoising_loss(
            self.main.forward,
            self.process,
            self.regularizer,
            self._encoded(batch),
            seed,
            self._conditions(batch),
            None if space == "prediction" else space,
            self.recipe.loss.distance,
        )
        terms = {"base": losses.base.detach()}
        if self.regularizer is not None and losses.spectral is not None:
            terms["spectral"] = losses.spectral.detach()
            terms |= {f"spectral/{name}": value for name, value in self.regularizer.terms.items() if name != "total"}
        return Objective(losses.total, terms)

    def _encoded(self, batch: Batch) -> Batch:
        """The batch as it is noised: latents drawn from (seed, global position), or the pixels themselves."""
        images = batch.clean
        if not latent(self.pipeline):
            return batch
        shape = self.pipeline.sample_shape(*self.recipe.data.size)
        seeds = [seed_for(self.recipe.training.seed, int(p), "posterior") for p in batch.positions]
        noise = SampleNoise(seeds, images.device).normal(shape)
        return batch._replace(clean=self.pipeline.encode(images, noise))

    def watched(self, batch: Batch) -> Watched:
        """See the base class; latents where the pipeline has them, and no condition is left out."""
        conditions = copy(self._conditions)
        conditions.dropout = 0.0
        with torch.no_grad():
            clean, given = self._encoded(batch).clean, conditions(batch)
        return Watched(self.process, clean, given, "position" if latent(self.pipeline) else "pixel")

    @contextmanager
    def calling(self, network: nn.Module) -> Iterator[Model]:
        """See the base class."""
        with self._drawing(network) as live, autocasting(live, self.accelerator.autocast):
            yield self.pipeline.model(live)

    @torch.no_grad()
    def draw(self, network: nn.Module, seeds: range) -> Tensor:
        """Samples by the pipeline itself, of the recipe's prompts or classes."""
        with self._drawing(network) as live, autocasting(live, self.accelerator.autocast):
            return self.pipeline.draw(
                live,
                seeds=seeds,
                **self.asked(seeds),
                steps=self.recipe.sampling.steps,
                guidance=self.recipe.sampling.guidance,
                height=self.recipe.data.size[0],
                width=self.recipe.data.size[1],
            )

    def asked(self, seeds: Sequence[int]) -> dict[str, Any]:
        """The prompts or classes of samples, by their seeds."""
        settings = self.recipe.sampling
        if self.pipeline.condition == "classes":
            return {"classes": sampled_classes(seeds, self.dataset.num_classes, settings.classes).tolist()}
        if self.pipeline.condition == "none":
            return {}
        assert isinstance(self.dataset, CaptionedImages)
        prompts = settings.prompts or self.dataset.captions
        return {"prompts": [prompts[seed % len(prompts)] for seed in seeds]}

    @contextmanager
    def _drawing(self, network: nn.Module) -> Iterator[nn.Module]:
        """A network of the pipeline's kind with these weights."""
        if self.recipe.pipeline.lora is None:
            yield network
            return
        with holding(self._live, network) as live:
            yield live

    @property
    def shown_seeds(self) -> range:
        """See the base class."""
        settings = self.recipe.sampling
        return range(settings.seed, settings.seed + settings.count)

    def as_seen(self, batch: Batch) -> dict[str, Tensor]:
        """See the base class."""
        encoded = self._encoded(batch)
        noise, t = draw(self.process, encoded, self.recipe.training.seed)
        noisy = self.process.add_noise(encoded.clean, noise, t)
        seen = {"clean": encoded.clean, "noise": noise, "t": t, "noisy": noisy}
        return seen | {"images": batch.clean} if latent(self.pipeline) else seen

    # The result.

    def write_result(self, root: Path, network: nn.Module) -> Path:
        """Write the pipeline with a network, or its adapters, into the run's folder, for diffusers to load.

        Raises:
            OSError: if it cannot be written.

        """
        if self.recipe.pipeline.lora is None:
            return self.pipeline.save(root / PIPELINE, network)
        with holding(self._live, network) as live:
            return self.pipeline.save_lora(root / LORA, live)

    def summary(self, root: Path) -> str:
        """What was trained and where it lies, in words."""
        adapters = self.recipe.pipeline.lora is not None
        what = f"its {self.folder}'s adapters" if adapters else f"the whole pipeline, its {self.folder}"
        count, where = len(self.dataset), root / (LORA if adapters else PIPELINE)
        return (
            f"{count_text(self._live)} of the {self.pipeline.class_name} in {self.recipe.pipeline.path} were trained "
            f"on {count} image{'' if count == 1 else 's'}\n{what} of averaged weights: {where}"
        )

    def usage(self, root: Path) -> list[str]:
        """Lines of Python that draw from the result."""
        result = root / (PIPELINE if self.recipe.pipeline.lora is None else LORA)
        return usage(self.pipeline, result, self.recipe.data.size)
