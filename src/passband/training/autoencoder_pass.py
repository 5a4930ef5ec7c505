"""One pass through an autoencoder, and one through its discriminator: what a step of each optimizer runs."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from passband.matching import draw_corner, draw_transform, dsm_mask, eq_transform
from passband.training.latent_teacher import LatentTeacher
from passband.training.sections import DSMTerm, EQTerm, LatentTerm


class Coded(NamedTuple):
    """What a pass through the autoencoder gives.

    Attributes:
        latent: drawn from the posterior.
        mean: the posterior's.
        kl: the posterior's divergence from the standard normal distribution, per pixel value of the image.
        target: the image that the reconstruction is compared with.
        reconstruction: what was decoded.
        teacher: the alignment with a teacher, 0 without.

    """

    latent: Tensor
    mean: Tensor
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
        mean, logvar = posterior.mean.float(), posterior.logvar.float()  # squares of lower precision overflow
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum((1, 2, 3))
        target, changed = change(images, latent)
        reconstruction = network.decode(changed).sample
        aligned = latent.new_zeros(()) if self.teacher is None else self.teacher(latent, images)
        return Coded(latent, posterior.mean, kl.mean() / images[0].numel(), target, reconstruction, aligned)


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
