"""The task of training an autoencoder: reconstruction, adversary, and what is asked of its latents."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from passband._seeds import seed_for
from passband.matching import draw_corner, draw_transform, dsm_mask, eq_transform, esm_loss
from passband.models import PatchGAN, adaptive_weight, generator_loss, hinge_discriminator_loss
from passband.sampling import SampleNoise
from passband.training.batches import Batch
from passband.training.build import build_autoencoder
from passband.training.config import AutoencoderRecipe
from passband.training.latent_teacher import LatentTeacher
from passband.training.learner import Learner
from passband.training.perceptual import build_perceptual
from passband.training.sections import DSMTerm, EQTerm, ESMTerm, KLTerm, LatentTerm, TeacherTerm
from passband.training.task import Objective, Task, Turn

if TYPE_CHECKING:
    from accelerate import Accelerator

_PICTURES = 8


class Coded(NamedTuple):
    """What a pass through the autoencoder gives.

    Attributes:
        latent: drawn from the posterior.
        kl: the posterior's divergence from the standard normal distribution, per pixel value of the image.
        target: the image that the reconstruction is compared with.
        reconstruction: what was decoded.
        teacher: the alignment with a teacher, 0 without.

    """

    latent: Tensor
    kl: Tensor
    target: Tensor
    reconstruction: Tensor
    teacher: Tensor


class AutoencoderPass(nn.Module):
    """One pass, in one module, so that several processes and compilers see a single forward.

    Args:
        network: diffusers' AutoencoderKL.
        teacher: the alignment of its latents, None without.

    """

    def __init__(self, network: nn.Module, teacher: LatentTeacher | None) -> None:
        super().__init__()
        self.network, self.teacher = network, teacher

    def forward(self, images: Tensor, noise: Tensor, change: "Change") -> Coded:
        """Encode, draw, change image and latent alike, decode."""
        network: Any = self.network
        posterior = network.encode(images).latent_dist
        latent = posterior.mean + posterior.std * noise
        kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).float().sum((1, 2, 3))
        target, changed = change(images, latent)
        reconstruction = network.decode(changed).sample
        aligned = latent.new_zeros(()) if self.teacher is None else self.teacher(latent, images)
        return Coded(latent, kl.mean() / images[0].numel(), target, reconstruction, aligned)


class Change:
    """What is done to image and latent alike before the decoder: nothing, DSM's mask, or EQ-VAE's scale and turn.

    Args:
        terms: the terms of the latents.
        seed: the run's.
        step: the step, whose draw all processes and parts share.

    """

    def __init__(self, terms: Sequence[LatentTerm], seed: int, step: int) -> None:
        self._apply: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda image, latent: (image, latent)
        for term in terms:
            if isinstance(term, DSMTerm):
                corner = draw_corner(seed, step, term.corners)
                self._apply = partial(dsm_mask, corner=corner, block=term.block)
            if isinstance(term, EQTerm):
                scale, turns = draw_transform(
                    seed, step, scale=term.scale, turns=term.turns, probability=term.probability
                )
                self._apply = partial(eq_transform, scale=scale, turns=turns)

    def __call__(self, image: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """The image and the latent, changed."""
        return self._apply(image, latent)


class DiscriminatorPass(nn.Module):
    """Both judgements of the discriminator in one forward, each with its own batch statistics.

    Args:
        network: the discriminator.

    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """The logits of real images and of reconstructions, in float32."""
        return self.network(real).float(), self.network(fake.to(real)).float()


class AutoencoderTask(Task):
    """diffusers' AutoencoderKL: L1, a perceptual distance, a PatchGAN, and the terms of the latents.

    The means over pixel values stand where SD-VAE sums them: its objective over their number, weights unchanged.

    Args:
        recipe: the recipe.
        accelerator: the run's.
        dataset: its images.

    Raises:
        ValueError, OSError: if a pretrained network, perceptual distance or teacher cannot be used.

    """

    folder = "vae"
    shown = ("l1", "esm", "kl", "adversarial")

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
        self.learners = {"network": Learner(trained, accelerator, recipe.optimizer)}
        self._forward = torch.compile(self.main.model) if recipe.training.compile else self.main.model
        if objective.adversarial is not None:
            self.learners["discriminator"] = self._build_discriminator()
        self._seen: list[tuple[Tensor, Tensor]] = []

    def _build_discriminator(self) -> Learner:
        settings = self.recipe.objective.adversarial
        assert settings is not None
        with torch.random.fork_rng():
            torch.manual_seed(seed_for(self.recipe.training.seed, 0, "discriminator"))
            network = PatchGAN(self.recipe.sample_shape[0], settings.base_channels, settings.layers, settings.norm)
        own = {"lr": settings.lr, "betas": settings.betas}
        changes = {name: value for name, value in own.items() if value is not None}
        return Learner(DiscriminatorPass(network), self.accelerator, self.recipe.optimizer.model_copy(update=changes))

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
        coded: Coded = self._forward(images, self._noise(batch), change)
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
                found["esm"] = esm_loss(
                    images, coded.latent, delta=term.delta, bins=term.bins, reference=term.reference
                )
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
        gradients = [torch.autograd.grad(value, last, retain_graph=True)[0] for value in (base, loss)]
        # Those of the whole batch, or the weight would depend on how many processes share it.
        base_gradient, adversarial_gradient = (self.accelerator.reduce(found, "mean") for found in gradients)
        return loss, settings.weight * adaptive_weight(base_gradient, adversarial_gradient)

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
