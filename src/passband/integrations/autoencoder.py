"""Autoencoders of diffusers, loaded from safetensors alone and asked for latents and images."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from passband.integrations._saved import load_saved, saved_class

#: The subfolder of a saved pipeline that holds its autoencoder.
_IN_PIPELINE = "vae"
_CLASS = "AutoencoderKL"


class Posterior(NamedTuple):
    """The Gaussian that an image is encoded to.

    Attributes:
        mean: (batch, channels, height, width), in the network's own scale.
        std: the standard deviation, of the same shape; zeros for an autoencoder without.

    """

    mean: Float[Tensor, "batch channels height width"]
    std: Float[Tensor, "batch channels height width"]


class Autoencoder:
    """An autoencoder as the rest of the library sees it: images to latents and back.

    Latents are in the network's own scale: the `scaling_factor` of its configuration is not applied, since
    `passband encode` measures one on the data. Gradients flow where they are enabled.

    Args:
        network: diffusers' `AutoencoderKL`, or a module with its `encode(x).latent_dist` and `decode(z).sample`.
        name: what to call it, for people to read.

    Raises:
        TypeError: if the network has no encode and decode.

    Example:
        >>> import torch
        >>> from diffusers import AutoencoderKL
        >>> from passband.integrations.autoencoder import Autoencoder
        >>> network = AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4,
        ...     down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2)
        >>> autoencoder = Autoencoder(network)
        >>> mean, std = autoencoder.encode(torch.zeros(1, 3, 16, 24))
        >>> autoencoder.factor, tuple(mean.shape), tuple(autoencoder.decode(mean).shape)
        (2, (1, 4, 8, 12), (1, 3, 16, 24))

    """

    def __init__(self, network: nn.Module, name: str = "autoencoder") -> None:
        if not (hasattr(network, "encode") and hasattr(network, "decode") and hasattr(network, "config")):
            raise TypeError(
                f"expected an autoencoder with encode, decode and config, such as diffusers' {_CLASS}; got a "
                f"{type(network).__name__}"
            )
        self.network: Any = network
        self.name = name

    @property
    def factor(self) -> int:
        """How many pixels a side of a latent position covers."""
        return int(2 ** (len(self.network.config["block_out_channels"]) - 1))

    @property
    def image_channels(self) -> int:
        """Channels of an image."""
        return int(self.network.config["in_channels"])

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""
        return int(self.network.config["latent_channels"])

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(channels, height, width) of the latent of an image.

        Raises:
            ValueError: if the image's sides are no multiples of the factor.

        """
        factor = self.factor
        if height % factor or width % factor:
            raise ValueError(
                f"the sides of an image must be multiples of {factor} for {self.name}, got {height} x {width}: choose "
                "another resolution"
            )
        return self.latent_channels, height // factor, width // factor

    def encode(self, images: Float[Tensor, "batch channels height width"]) -> Posterior:
        """The posterior of images in [-1, 1]."""
        found = self.network.encode(images).latent_dist
        return Posterior(found.mean, found.std)

    def decode(
        self, latents: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch image_channels rows columns"]:
        """The images of latents, about [-1, 1], not clipped."""
        decoded = self.network.decode(latents).sample
        assert isinstance(decoded, Tensor)
        return decoded

    def to(self, device: torch.device | str) -> "Autoencoder":
        """Move the network to a device, and return self."""
        self.network.to(device)
        return self


def load_network(path: str | Path) -> nn.Module:
    """An AutoencoderKL from a folder that diffusers saved, or from a saved pipeline's `vae`; nothing is unpickled.

    Raises:
        OSError: if there is none at path, or it is damaged.
        ValueError: if it is another kind of network, or weights are missing.
        MissingExtraError: if diffusers is not installed.

    """
    folder = Path(path)
    if not (folder / "config.json").is_file() and (folder / _IN_PIPELINE / "config.json").is_file():
        # Not a pipeline, where `vae` would be the last weights without a word.
        if (folder / "manifest.json").is_file() and (folder / "ema").is_dir():
            raise ValueError(
                f"{str(path)!r} is a checkpoint of a training run, with several sets of weights: name one, "
                f"{str(folder / 'ema')!r} (averaged) or {str(folder / _IN_PIPELINE)!r} (of the last step)"
            )
        folder = folder / _IN_PIPELINE
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise FileNotFoundError(
            f"there is no saved autoencoder at {str(path)!r}: expected a folder with config.json and *.safetensors, "
            f"as {_CLASS}.save_pretrained writes it, or a pipeline's folder with one in {_IN_PIPELINE}/"
            + (" (those of a run are in its checkpoints/step-STEP/ema)" if (folder / "checkpoints").is_dir() else "")
        )
    found = saved_class(folder)
    if found != _CLASS:
        raise ValueError(f"the network at {str(folder)!r} is of the class {found}, expected {_CLASS}")
    return load_saved(_CLASS, folder)
