"""The task of training a denoiser: on pixels or latents, with a spectral term, forcing, and alignment."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from passband._seeds import seed_for
from passband.data import AudioFolder, save_audio
from passband.sampling import sample
from passband.training.alignment import AlignedDenoiser, Teachers, build_alignment
from passband.training.batches import Batch
from passband.training.build import classes_of
from passband.training.conditioning import Conditioner, sampling_options
from passband.training.config import Recipe, RecipeError
from passband.training.decode import AUTOENCODER, LATENTS, LatentDecoder, keep_autoencoder, latent_decoder
from passband.training.denoising import denoising_loss, draw
from passband.training.families import family_named
from passband.training.fit import check_network, fitting_parts
from passband.training.learner import Learner
from passband.training.networks import build_network, data_classes
from passband.training.sampler import sampler_options, sampler_settings
from passband.training.sections import AudioData, LatentsData, build_mel
from passband.training.sharding import check_sharding
from passband.training.spectrograms import ShownClips, vocoder_mel
from passband.training.task import Objective, Task, Turn, Watched

if TYPE_CHECKING:
    from accelerate import Accelerator


class DenoiserTask(Task):
    """A network that predicts what its process asks for.

    Args:
        recipe: the recipe.
        accelerator: the run's.
        dataset: its data.

    Attributes:
        process: the process.
        regularizer: the spectral term, None without.

    Raises:
        RecipeError: if the recipe's parts do not fit each other or the data.
        ValueError, OSError: if a pretrained network cannot be used.

    """

    shown = ("base", "spectral", "alignment")
    remedy = "Lower optimizer.lr or regularizer.weight, set optimizer.clip_norm, or gate the term with regularizer.gate"

    def __init__(self, recipe: Recipe, accelerator: "Accelerator", dataset: Dataset[Any]) -> None:
        self.recipe, self.accelerator = recipe, accelerator
        self.folder = family_named(recipe.model).folder
        self.process, self.regularizer, forcing = fitting_parts(recipe)
        check_sharding(recipe)
        network = self._build(classes_of(dataset))
        if forcing is not None:
            forcing.attach(network)
        self._teachers: Teachers | None = None
        trained: nn.Module = network
        if recipe.alignment is not None:
            self._teachers = Teachers(recipe.alignment, accelerator.device, dataset)
            trained = build_alignment(
                recipe.alignment, network, self._teachers.widths, seed_for(recipe.training.seed, 0, "alignment")
            )
        if recipe.training.channels_last:
            trained = trained.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._decode: LatentDecoder | None = None
        if isinstance(recipe.data, LatentsData):
            path = recipe.data.path
            self._decode = latent_decoder(path / AUTOENCODER, path / LATENTS).to(accelerator.device)
        shards, compiled = recipe.training.sharding == "fsdp", recipe.training.compile
        learner = Learner(trained, accelerator, recipe.optimizer, shards=shards, compiled=compiled)
        self.learners = {"network": learner}
        self._mel = vocoder_mel(self.network, recipe.data)
        if self._mel is not None:
            self._mel.to(accelerator.device)
            assert isinstance(recipe.data, AudioData)
            assert isinstance(dataset, AudioFolder)
            self._shown = ShownClips(recipe.data, dataset)
        self._conditioner = Conditioner.of(self.network, recipe.model.label_dropout, recipe.training.seed, self._mel)

    def _build(self, classes: int) -> nn.Module:
        recipe = self.recipe
        if recipe.model.class_conditional and not classes:
            raise RecipeError(
                "model.class_conditional needs labels, and the data has none (its dataset.json says null, or its "
                "latents were encoded without --labels)"
            )
        seed = seed_for(recipe.training.seed, 0, "model")
        network = build_network(recipe.model, recipe.sample_shape, seed, classes, self.process.heads)
        check_network(recipe, network, self.process)
        return network

    @property
    def network(self) -> nn.Module:
        """See the base class."""
        found = self.main.network
        return found.network if isinstance(found, AlignedDenoiser) else found

    @property
    def beside(self) -> Mapping[str, nn.Module]:  # type: ignore[override]
        """The projections of the alignment."""
        found = self.main.network
        return {"alignment": found.alignment} if isinstance(found, AlignedDenoiser) else {}

    def turns(self, step: int) -> Sequence[Turn]:
        """See the base class."""
        return [Turn(self.main, lambda batch: self._objective(batch, step))]

    def _objective(self, batch: Batch, step: int) -> Objective:
        space = self.recipe.loss.space
        projecting = None if self._teachers is None else _Projecting(self.main.forward)
        losses = denoising_loss(
            projecting or self.main.forward,
            self.process,
            self.regularizer,
            batch,
            self.recipe.training.seed,
            self._conditioner(batch),
            None if space == "prediction" else space,
            self.recipe.loss.distance,
        )
        terms = {"base": losses.base.detach()}
        if self.regularizer is not None and losses.spectral is not None:
            terms["spectral"] = losses.spectral.detach()
            terms |= {f"spectral/{name}": value for name, value in self.regularizer.terms.items() if name != "total"}
        if projecting is None:
            return Objective(losses.total, terms)
        alignment = self._alignment(projecting.projected, batch, step)
        return Objective(losses.total + alignment.total, terms | alignment.terms)

    def _alignment(self, projected: dict[str, Tensor], batch: Batch, step: int) -> Objective:
        aligned = self.main.network
        assert isinstance(aligned, AlignedDenoiser)
        assert self._teachers is not None
        if aligned.alignment.weight_at(step) == 0:
            # The projections stay part of the graph, as several processes need; the teachers rest.
            return Objective(0 * torch.stack([found.sum() for found in projected.values()]).sum(), {})
        total = aligned.alignment.compare(projected, self._teachers(batch), step)
        terms = {f"alignment/{name}": value for name, value in aligned.alignment.terms.items() if name != "total"}
        return Objective(total, {"alignment": total.detach(), **terms})

    def watched(self, batch: Batch) -> Watched:
        """See the base class; no class is left out."""
        conditioner = replace(self._conditioner, label_dropout=0.0)
        per = {LatentsData: "position", AudioData: "sample"}.get(type(self.recipe.data), "pixel")
        return Watched(self.process, batch.clean, conditioner(batch), per)

    @torch.no_grad()
    def draw(self, network: nn.Module, seeds: range) -> Tensor:
        """Samples with the recipe's settings, decoded where they are latents."""
        settings = self.recipe.sampling
        drawn = sample(
            network,
            self.process,
            self.recipe.sample_shape,
            seeds=seeds,
            **sampler_options(sampler_settings(settings, self.process), self.process),
            device=self.accelerator.device,
            **self._given(network, seeds),
        )
        return drawn if self._decode is None else self._decode(drawn)

    def _given(self, network: nn.Module, seeds: range) -> dict[str, Any]:
        """What the samples of some seeds are drawn with."""
        device = self.accelerator.device
        if self._mel is not None:
            return {"conditioning": {"spectrogram": self._shown.spectrograms(self._mel, seeds, device)}}
        classes = data_classes(network, self.recipe.model)
        return sampling_options(network, self.recipe.sampling, seeds, classes, device)

    def show(self, drawn: Tensor, stem: Path) -> NDArray[np.uint8]:
        """See the base class; audio is written as one file, its spectrograms as the picture."""
        if not isinstance(self.recipe.data, AudioData):
            return super().show(drawn, stem)
        drawn = drawn.cpu().float()
        # Where it is NaN the file is silent, and the picture says so: a bad sample shall not end the training.
        save_audio(stem.with_suffix(".wav"), drawn.flatten().nan_to_num(0.0), self.recipe.data.sample_rate)
        spectrograms = build_mel(self.recipe.data).normalized(drawn).flip(-2)
        return super().show(2 * spectrograms - 1, stem)

    def furnish(self, root: Path) -> None:
        """Keep a copy of the autoencoder that samples are decoded with."""
        if isinstance(self.recipe.data, LatentsData):
            keep_autoencoder(self.recipe.data.path, root)

    @property
    def shown_seeds(self) -> range:
        """See the base class."""
        settings = self.recipe.sampling
        return range(settings.seed, settings.seed + settings.count)

    def as_seen(self, batch: Batch) -> dict[str, Tensor]:
        """See the base class."""
        noise, t = draw(self.process, batch, self.recipe.training.seed)
        noisy = self.process.add_noise(batch.clean, noise, t)
        return {"clean": batch.clean, "noise": noise, "t": t, "noisy": noisy}


class _Projecting:
    """An aligned denoiser as a network like any other; it keeps the projected tokens of the last call."""

    def __init__(self, model: Callable[..., Any]) -> None:
        self.model = model
        self.projected: dict[str, Tensor] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        output, self.projected = self.model(*args, **kwargs)
        return output
