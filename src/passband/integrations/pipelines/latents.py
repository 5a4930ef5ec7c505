"""What pipelines on latents share: an autoencoder in float32, and its scale and shift as the pipeline applies them."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from passband._checks import check_same_shape
from passband._numerics import no_autocast
from passband.integrations.autoencoder import Autoencoder
from passband.integrations.pipelines.base import TrainablePipeline


class LatentPipeline(TrainablePipeline):
    """A pipeline whose network works on the latents of an `AutoencoderKL`."""

    _companions = ("vae",)
    #: Sides of an image must be multiples of this many latent positions.
    _positions = 1
    #: Whether the pipeline applies the autoencoder's shift_factor.
    _shifts = False

    @property
    def autoencoder(self) -> Autoencoder:
        """The autoencoder, in float32 and frozen."""
        return Autoencoder(self.pipeline.vae, f"the vae of {str(self.folder)!r}")

    @property
    def image_channels(self) -> int:
        """Channels of an image."""
        return self.autoencoder.image_channels

    @property
    @abstractmethod
    def latent_channels(self) -> int:
        """Channels of the latents that the network denoises."""

    @property
    def multiple(self) -> int:
        """What the sides of an image must be multiples of."""
        return self.autoencoder.factor * self._positions

    def sample_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(channels, height, width) of the latents.

        Raises:
            ValueError: if a side is no positive multiple of what the autoencoder and the network need.

        """
        if min(height, width) < 1 or height % self.multiple or width % self.multiple:
            raise ValueError(
                f"the sides of an image must be multiples of {self.multiple} for the {self.class_name} of "
                f"{str(self.folder)!r}, got {height} x {width}: choose another resolution"
            )
        factor = self.autoencoder.factor
        return self.latent_channels, height // factor, width // factor

    def encode(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Latents of images, shifted and scaled as the network sees them, in float32 and without gradient.

        Args:
            images: (batch, image_channels, height, width), in [-1, 1].
            noise: unit noise of the latents' shape, to draw from the autoencoder's posterior; default: its mean.

        """
        self._check_images(images)
        with torch.no_grad(), no_autocast(images):
            mean, std = self.autoencoder.encode(images.float())
            if noise is not None:
                check_same_shape("noise", noise, "the latents", mean)
                mean = mean + std * noise.float()
            return self._scaled(mean)

    def decode(self, latents: Tensor) -> Tensor:
        """Images of latents, about [-1, 1], not clipped, in float32; gradients flow."""
        with no_autocast(latents):
            return self.autoencoder.decode(self._unscaled(latents.float()))

    def _scaled(self, latents: Tensor) -> Tensor:
        return (latents - self._shift) * self._scale

    def _unscaled(self, latents: Tensor) -> Tensor:
        return latents / self._scale + self._shift

    @property
    def _scale(self) -> float:
        return float(self._vae_config["scaling_factor"])

    @property
    def _shift(self) -> float:
        return float(self._vae_config.get("shift_factor") or 0.0) if self._shifts else 0.0

    @property
    def _vae_config(self) -> Any:
        return self.pipeline.vae.config

    def _check(self) -> None:
        has = self.autoencoder.latent_channels
        if has != self.latent_channels:
            raise ValueError(
                f"the vae of {str(self.folder)!r} has latents of {has} channels, and the {self.network_folder} takes "
                f"{self.latent_channels}: these parts are of different models, or the network takes more than latents "
                "(inpainting, depth), which is not supported"
            )
