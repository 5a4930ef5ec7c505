"""The task of training an autoencoder: reconstruction, adversary, and what is asked of its latents."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from passband._seeds import seed_for
from passband.matching import eq_transform, esm_loss
from passband.models import PatchGAN, adaptive_weight, generator_loss, hinge_discriminator_loss
from passband.sampling import SampleNoise
from passband.training.autoencoder_pass import AutoencoderPass, Change, Coded, DiscriminatorPass
from passband.training.batches import Batch
from passband.training.build import build_autoencoder
from passband.training.config import AutoencoderRecipe, RecipeError
from passband.training.latent_teacher import LatentTeacher
from passband.training.learner import Learner
from passband.training.perceptual import build_perceptual
from passband.training.sections import EQTerm, ESMTerm, KLTerm, LatentTerm, TeacherTerm
from passband.training.task import Objective, Task, Turn

if TYPE_CHECKING:
    from accelerate import Accelerator

_PICTURES = 8


class AutoencoderTask(Task):
    """diffusers' AutoencoderKL: L1, a perceptual distance, a PatchGAN, and the terms of the latents.

    The means over pixel values stand where SD-VAE sums them: its objective over their number, weights unchanged.

    Args:
        recipe: the recipe.
        accelerator: the run's.
        dataset: its images.

    Raises:
        RecipeError: if the discriminator is too large for the images.
        ValueError, OSError: if a pretrained network, perceptual distance or teacher cannot be used.

    """

    folder = "vae"
    shown = ("l1", "perceptual", "esm", "kl", "teacher", "adversarial")

    def __init__(self, recipe: AutoencoderRecipe, accelerator: "Accelerator", dataset: Dataset[Any]) -> None:
        self.recipe, self.accelerator, self.dataset = recipe, accelerator, dataset
        objective, seed = recipe.objective, recipe.training.seed
        network = build_autoencoder(recipe.model, recipe.sample_shape, seed_for(seed, 0, "model"))
        self.perceptual = build_perceptual(objective.perceptual)
        if self.perceptual is not None:
            self.perceptual.to(accelerator.device)
        self.terms: dict[str, LatentTerm] = {term.name: term for term in objective.latent}
        teacher = self.terms.get("teacher")
        aligned = None
        if isinstance(teacher, TeacherTerm):
            channels = int(network.config["latent_channels"])  # type: ignore[index]
            aligned = LatentTeacher(teacher, channels, seed_for(seed, 0, "teacher"), accelerator.device)
        trained: nn.Module = AutoencoderPass(network, aligned)
        if recipe.training.channels_last:
            trained = trained.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        learner = Learner(trained, accelerator, recipe.optimizer, compiled=recipe.training.compile)
        self.learners = {"network": learner}
        if objective.adversarial is not None:
            self.learners["discriminator"] = self._build_discriminator()
        self._seen: list[tuple[Tensor, Tensor]] = []

    def _build_discriminator(self) -> Learner:
        settings = self.recipe.objective.adversarial
        assert settings is not None
        with torch.random.fork_rng():
            torch.manual_seed(seed_for(self.recipe.training.seed, 0, "discriminator"))
            network = PatchGAN(self.recipe.sample_shape[0], settings.base_channels, settings.layers, settings.norm)
        self._check_smallest(network)
        own = {"lr": settings.lr, "betas": settings.betas}
        changes = {name: value for name, value in own.items() if value is not None}
        return Learner(DiscriminatorPass(network), self.accelerator, self.recipe.optimizer.model_copy(update=changes))

    def _check_smallest(self, discriminator: PatchGAN) -> None:
        """Raise where the smallest images are too small for it: at the start, not at its first step."""
        images, term = torch.empty(1, *self.recipe.sample_shape, device="meta"), self.terms.get("eq")
        if isinstance(term, EQTerm):
            latents = torch.empty(1, *self._latent_shape(images), device="meta")
            images, _ = eq_transform(images, latents, min(term.scale), 0)
        height, width = images.shape[2:]
        if min(height, width) < discriminator.min_size:
            scaled = f", scaled by eq to {height} x {width}" if isinstance(term, EQTerm) else ""
            raise RecipeError(
                f"objective.adversarial of {discriminator.layers} layers needs images of {discriminator.min_size} "
                f"pixels or more, got {self.recipe.sample_shape[1]} x {self.recipe.sample_shape[2]}{scaled}: lower "
                "objective.adversarial.layers, or set data.resolution"
            )

    @property
    def _discriminator(self) -> nn.Module:
        found = self.learners["discriminator"].network
        assert isinstance(found, DiscriminatorPass)
        return found.network

    @property
    def _pass(self) -> AutoencoderPass:
        found = self.main.network
        assert isinstance(found, AutoencoderPass)
        return found

    @property
    def network(self) -> nn.Module:
        """See the base class."""
        return self._pass.network

    @property
    def beside(self) -> dict[str, nn.Module]:  # type: ignore[override]
        """The discriminator, and the projection of the teacher's alignment."""
        found = {"discriminator": self._discriminator} if "discriminator" in self.learners else {}
        teacher = self._pass.teacher
        return found if teacher is None else found | {"teacher": teacher.alignment}

    def turns(self, step: int) -> Sequence[Turn]:
        """See the base class. The discriminator's turn comes second, on the same images and reconstructions."""
        self._seen = []
        adversarial = self.recipe.objective.adversarial
        playing = adversarial is not None and step + 1 >= adversarial.start_step
        turns = [Turn(self.main, lambda batch: self._objective(batch, step, playing))]
        if playing:
            turns.append(Turn(self.learners["discriminator"], lambda _: self._discrimination(*self._seen.pop(0))))
        return turns

    def _objective(self, batch: Batch, step: int, playing: bool) -> Objective:
        objective, seed = self.recipe.objective, self.recipe.training.seed
        images = batch.clean
        change = Change(objective.latent, seed, step)
        coded: Coded = self.main.forward(images, self._noise(batch), change)
        target, reconstruction = coded.target, coded.reconstruction.float()
        terms = {"l1": (reconstruction - target.float()).abs().mean()}
        total = objective.l1 * terms["l1"]
        if objective.perceptual is not None and self.perceptual is not None:
            terms["perceptual"] = self.perceptual(reconstruction, target).mean()
            total = total + objective.perceptual.weight * terms["perceptual"]
        if playing:
            terms["adversarial"], weight = self._adversarial(reconstruction, total)
            total = total + weight * terms["adversarial"]
            terms["adversarial/weight"] = weight
            self._seen.append((target.detach(), reconstruction.detach()))
        terms |= (found := self._latent_terms(images, coded))
        for name, value in found.items():
            total = total + getattr(self.terms[name], "weight", 0.0) * value
        return Objective(total, {name: value.detach() for name, value in terms.items()})

    def _noise(self, batch: Batch) -> Tensor:
        """The posterior's noise, from (seed, global position)."""
        seed = self.recipe.training.seed
        shape = self._latent_shape(batch.clean)
        return SampleNoise([seed_for(seed, int(p), "noise") for p in batch.positions], batch.clean.device).normal(shape)

    def _latent_shape(self, images: Tensor) -> tuple[int, int, int]:
        config: Any = self.network.config
        factor = 2 ** (len(config["block_out_channels"]) - 1)
        return int(config["latent_channels"]), images.shape[-2] // factor, images.shape[-1] // factor

    def _latent_terms(self, images: Tensor, coded: Coded) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for term in self.recipe.objective.latent:
            if isinstance(term, KLTerm):
                found["kl"] = coded.kl
            if isinstance(term, ESMTerm):
                latent = coded.latent if term.of == "sample" else coded.mean
                found["esm"] = esm_loss(images, latent, delta=term.delta, bins=term.bins, reference=term.reference)
            if isinstance(term, TeacherTerm):
                found["teacher"] = coded.teacher
        return found

    def _adversarial(self, reconstruction: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        """The generator's loss, and its weight by the gradients of the decoder's last layer."""
        settings = self.recipe.objective.adversarial
        assert settings is not None
        discriminator = self._discriminator.requires_grad_(False)
        loss = generator_loss(discriminator(reconstruction))
        discriminator.requires_grad_(True)
        network: Any = self.network
        last = network.decoder.conv_out.weight
        scaler = self.accelerator.scaler
        # In float16 the gradients of means over pixels vanish unless they are scaled, as those of training are.
        unit = 1.0 if scaler is None else scaler.scale(torch.ones_like(loss.detach()))
        gradients = [torch.autograd.grad(unit * value, last, retain_graph=True)[0] / unit for value in (base, loss)]
        # Those of the whole batch, or the weight would depend on how many processes share it.
        base_gradient, adversarial_gradient = (self.accelerator.reduce(found, "mean") for found in gradients)
        weight = adaptive_weight(base_gradient, adversarial_gradient)
        # Scaled gradients may overflow, and such a step is left out: the loss must not say that it diverged.
        return loss, settings.weight * (weight if scaler is None else weight.nan_to_num(nan=0.0))

    def _discrimination(self, real: Tensor, fake: Tensor) -> Objective:
        model = self.learners["discriminator"].model
        loss = hinge_discriminator_loss(*model(real, fake))
        return Objective(loss, {"discriminator": loss.detach()})

    @torch.no_grad()
    def draw(self, network: nn.Module, seeds: range) -> Tensor:
        """The images of these numbers, each followed by its reconstruction."""
        model: Any = network
        images = torch.stack([self.dataset[seed % len(self.dataset)] for seed in seeds])  # type: ignore[arg-type]
        images = images.to(self.accelerator.device)
        found = model.decode(model.encode(images).latent_dist.mean).sample
        return torch.stack([images, found.to(images)], dim=1).flatten(0, 1)

    @property
    def shown_seeds(self) -> range:
        """See the base class."""
        return range(min(_PICTURES, len(self.dataset)))  # type: ignore[arg-type]

    def as_seen(self, batch: Batch) -> dict[str, Tensor]:
        """See the base class."""
        return {"clean": batch.clean, "noise": self._noise(batch)}
