"""DDPM and DDIM pipelines: a U-Net on pixels, without condition."""

from typing import Any

from torch import Tensor, nn

from passband.integrations.pipelines.base import TrainablePipeline
from passband.integrations.pipelines.drawing import Drawing


class PixelPipeline(TrainablePipeline):
    """`DDPMPipeline` and `DDIMPipeline`: a `UNet2DModel` whose images depend on the noise alone."""

    condition = "none"
    network_folder = "unet"
    network_classes = ("UNet2DModel",)

    @property
    def image_channels(self) -> int:
        """Channels of an image."""
        return int(self.network.config["in_channels"])  # type: ignore[index]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the U-Net's configuration, the only one that the pipeline draws."""
        return square(self.network.config["sample_size"])  # type: ignore[index]

    def sample_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(channels, height, width) of an image.

        Raises:
            ValueError: if this is not the size that the pipeline draws.

        """
        check_own_size(self, height, width)
        return self.image_channels, height, width

    def encode(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """The images themselves.

        Raises:
            ValueError: if they have other channels, or noise is given.

        """
        self._check_images(images)
        if noise is not None:
            raise ValueError(f"a {self.class_name} works on pixels and has no posterior to draw from: leave noise")
        return images

    def decode(self, latents: Tensor) -> Tensor:
        """The images themselves."""
        return latents

    def model(self, network: nn.Module) -> nn.Module:
        """`forward(x, t)`; of a U-Net that also learns a variance, the mean half."""
        return _Pixels(network, self.image_channels)

    def _check(self) -> None:
        config: Any = self.network.config
        if config["sample_size"] is None:
            raise ValueError(
                f"the unet of {str(self.folder)!r} has no sample_size in its config.json, without which a "
                f"{self.class_name} cannot draw: write the side of its images there"
            )
        if config.get("class_embed_type") is not None or config.get("num_class_embeds") is not None:
            raise ValueError(
                f"the unet of {str(self.folder)!r} takes classes, which a {self.class_name} does not give it: such a "
                "network needs a loop of its own"
            )
        check_outputs(self.network, str(self.folder))

    def _call(self, drawing: Drawing) -> Any:
        count = len(drawing.seeds)
        call = self.pipeline(batch_size=count, generator=drawing.generators, output_type="np", **drawing.options)
        return call.images


class _Pixels(nn.Module):
    def __init__(self, network: nn.Module, channels: int) -> None:
        super().__init__()
        self.network = network
        self.channels = channels

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        output: Tensor = self.network(x, t, return_dict=False)[0]
        return output[:, : self.channels]


def square(size: Any) -> tuple[int, int]:
    """(height, width) of a configuration's side or pair of sides."""
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def check_own_size(pipeline: TrainablePipeline, height: int, width: int) -> None:
    """Raise unless this is the one size that the pipeline draws."""
    if (height, width) != pipeline.size:
        own = "{} x {}".format(*pipeline.size)
        raise ValueError(
            f"a {pipeline.class_name} draws images of its network's own size, here {own}, got {height} x {width}: "
            f"train at {own}"
        )


def check_outputs(network: nn.Module, where: str) -> None:
    """Raise unless the network returns as many channels as it takes, or twice as many (a learned variance)."""
    config: Any = network.config
    taken, given = config["in_channels"], config["out_channels"] or config["in_channels"]
    if given not in (taken, 2 * taken):
        raise ValueError(
            f"the network of {where!r} takes {taken} channels and returns {given}: expected {taken}, or {2 * taken} "
            "with a learned variance (inpainting and depth networks take more, and are not supported)"
        )
