"""What every trainable pipeline offers, whatever its kind."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from passband._checks import check_batch
from passband.integrations.pipelines import lora, saving
from passband.integrations.pipelines.drawing import DEPENDS, Drawing, check_drawing, in_place
from passband.integrations.pipelines.parts import INDEX, named_parts, read_json
from passband.process import Process

Condition = Literal["none", "classes", "text"]


class TrainablePipeline(ABC):
    """A diffusers pipeline as a training loop needs it.

    Made by [`open_pipeline`][passband.integrations.pipelines.open_pipeline]. All networks are in float32, in evaluation
    mode and frozen; unfreeze `network` to train it. The autoencoder and the text encoders stay as they are. Under
    adapters, `network` may be turned to half precision: adapters stay in float32, and so does what is around it.

    Attributes:
        folder: where it was opened.
        class_name: diffusers' class, such as `StableDiffusionPipeline`.
        condition: what an image depends on beside the noise: `none`, `classes` or `text`.
        network: the denoiser.
        network_folder: its place in the folder: `unet` or `transformer`.
        process: the process that it is trained in, its prediction included.
        classes: the number of classes, 0 without; also the index of the null class.
        pipeline: the diffusers pipeline itself; its text encoders are None until they are needed.
        device: where the autoencoder and the text encoders are; see `to`.
        variant: of the weights' files that were opened.

    """

    condition: ClassVar[Condition]
    network_folder: ClassVar[str]
    #: Classes of networks that it takes.
    network_classes: ClassVar[tuple[str, ...]]
    #: Whether the class of diffusers has a loader of LoRA weights.
    loads_lora: ClassVar[bool] = False

    def __init__(self, folder: Path, pipeline: Any, process: Process, variant: str | None = None) -> None:
        self.folder = folder
        self.pipeline = pipeline
        self.process = process
        self.class_name = type(pipeline).__name__
        self.network: nn.Module = getattr(pipeline, self.network_folder)
        self.classes = 0
        self.device = torch.device("cpu")
        self.variant = variant
        self._named = named_parts(read_json(folder / INDEX))
        pipeline.set_progress_bar_config(disable=True)
        self._check()

    def __repr__(self) -> str:
        return f"<{self.class_name} from {str(self.folder)!r}, {self.process!r}>"

    # What is noised.

    @property
    @abstractmethod
    def image_channels(self) -> int:
        """Channels of an image."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """(height, width) of the images that the pipeline draws unless told otherwise."""

    @abstractmethod
    def sample_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(channels, height, width) of what is noised for images of this size.

        Raises:
            ValueError: if the pipeline cannot have images of this size.

        """

    @abstractmethod
    def encode(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """What is noised: images, or their latents, scaled as the network sees them; without gradient.

        Args:
            images: (batch, image_channels, height, width), in [-1, 1].
            noise: unit noise of the latents' shape, to draw from the autoencoder's posterior; default: its mean.

        """

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Images about [-1, 1] of what `encode` gives, not clipped; gradients flow."""

    def process_at(self, height: int, width: int) -> Process:
        """The process for images of this size: of flows, the times at which training looks may depend on it."""
        del height, width
        return self.process

    # What it depends on.

    def embed(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """The conditioning of texts, one row each along dimension 0, on the pipeline's device.

        Raises:
            TypeError: if prompts is one text, or the pipeline takes none.

        """
        raise TypeError(f"a {self.class_name} takes no prompts: its images depend on {DEPENDS[self.condition]}")

    def unconditional(self) -> dict[str, Tensor]:
        """One row: the conditioning that guidance takes for no text; for dropped captions.

        Raises:
            TypeError: if the pipeline takes no texts.

        """
        raise TypeError(f"a {self.class_name} takes no prompts: its images depend on {DEPENDS[self.condition]}")

    def drop_text_encoders(self) -> None:  # noqa: B027 (most kinds have none)
        """Free the memory of the text encoders; they are loaded again where they are needed."""

    def class_conditioning(self, classes: Tensor) -> dict[str, Tensor]:
        """The conditioning of class indices (batch,), 0 to `classes` - 1, and `classes` for none.

        Raises:
            TypeError: if the pipeline takes no classes, or they are no integers.

        """
        raise TypeError(f"a {self.class_name} takes no classes: its images depend on {DEPENDS[self.condition]}")

    # The network.

    @abstractmethod
    def model(self, network: nn.Module) -> nn.Module:
        """The network behind one signature, `forward(x, t, **conditioning)`, that returns the prediction alone.

        x is what `encode` gives, noised; t are times as the process's `model_time` gives them; the conditioning is what
        `embed` or `class_conditioning` give. It has the network's parameters and no others.

        Args:
            network: `network`, or a copy of it, with or without adapters.

        """

    def draw(
        self,
        network: nn.Module,
        *,
        seeds: Sequence[int],
        prompts: Sequence[str] | None = None,
        classes: Sequence[int] | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> Tensor:
        """Images (batch, channels, height, width) in [-1, 1], on the CPU, as the diffusers pipeline draws them.

        Args:
            network: what denoises; put into the pipeline for the call, in evaluation mode.
            seeds: one per image.
            prompts: one per image, for `text`.
            classes: one per image, for `classes`.
            steps: how many; default: the pipeline's own.
            guidance: its scale; default: the pipeline's own.
            height: of the images; default: the pipeline's own.
            width: of the images; default: the pipeline's own.

        Raises:
            TypeError: if prompts is one text.
            ValueError: if the conditioning is not the pipeline's, or not one per seed, or the size does not fit.

        """
        options = {"num_inference_steps": steps, "guidance_scale": guidance}
        given = {name: value for name, value in options.items() if value is not None}
        height, width = self.size[0] if height is None else height, self.size[1] if width is None else width
        drawing = Drawing(seeds, prompts, classes, height, width, given)
        self._check_drawing(drawing)
        with torch.no_grad(), in_place(self, network):
            images = self._call(drawing)
        return torch.from_numpy(images).permute(0, 3, 1, 2).float().contiguous() * 2 - 1

    def to(self, device: torch.device | str) -> "TrainablePipeline":
        """Move everything but the network to a device, and return self."""
        self.device = torch.device(device)
        for name in self._companions:
            if (part := getattr(self.pipeline, name, None)) is not None:
                part.to(self.device)
        return self

    # Saving.

    def save(self, folder: str | Path, network: nn.Module) -> Path:
        """Write the whole pipeline with this network, adapters folded in, whole or not at all.

        Everything else is copied from the folder that was opened. `DiffusionPipeline.from_pretrained` opens it.

        Args:
            folder: where to; a pipeline that is there gives way.
            network: the trained one.

        Raises:
            FileExistsError: if the folder holds something else, or is the one that was opened.
            OSError: if it cannot be written.

        """
        return saving.save_pipeline(self, Path(folder), network)

    # LoRA.

    def add_lora(
        self,
        network: nn.Module,
        *,
        rank: int,
        alpha: float | None = None,
        targets: Sequence[str] | None = None,
        dropout: float = 0.0,
        seed: int = 0,
    ) -> nn.Module:
        """Put adapters into the network, in place: they alone train, and they change nothing before they do.

        Args:
            network: the network; returned.
            rank: of the adapters.
            alpha: their scale is alpha / rank; default: rank.
            targets: ends of the names of layers; default: the projections of attention.
            dropout: on the adapters' input.
            seed: of their first weights.

        Raises:
            MissingExtraError: if peft is not installed.
            ValueError: if a number is out of range, the network has adapters, or no layer has such a name.

        """
        return lora.add_lora(network, rank=rank, alpha=alpha, targets=targets, dropout=dropout, seed=seed)

    def lora_parameters(self, network: nn.Module) -> list[nn.Parameter]:
        """The adapters' parameters, in the network's order."""
        return lora.lora_parameters(network)

    def save_lora(self, folder: str | Path, network: nn.Module) -> Path:
        """Write the adapters alone, whole or not at all.

        In diffusers' layout where the class has `load_lora_weights`, which loads the folder; else in peft's, for
        `peft.PeftModel.from_pretrained(pipeline.unet, folder)`.

        Raises:
            ValueError: if the network has no adapters.
            OSError: if it cannot be written.

        """
        return lora.save_lora(self, Path(folder), network)

    def load_lora(self, network: nn.Module, folder: str | Path) -> nn.Module:
        """Put the adapters that `save_lora` wrote into the network, in place, ready to train on.

        Raises:
            FileNotFoundError: if there are none.
            ValueError: if they are damaged or of another network, or the network has adapters.

        """
        return lora.load_lora(self, network, Path(folder))

    def merged(self, network: nn.Module) -> nn.Module:
        """A copy of the network with its adapters folded in, of the class that it was before."""
        return lora.merged(network)

    # What a kind defines.

    #: Names of the parts, besides the network, that live on a device.
    _companions: ClassVar[tuple[str, ...]] = ()

    def _check(self) -> None:  # noqa: B027 (some kinds have nothing to check)
        """Raise unless the parts fit the kind."""

    def _check_drawing(self, drawing: Drawing) -> None:
        """Raise unless the pipeline can draw this."""
        check_drawing(self, drawing)

    @abstractmethod
    def _call(self, drawing: Drawing) -> Any:
        """Images (batch, height, width, channels) in [0, 1], a NumPy array, by the pipeline's own call."""

    def _check_images(self, images: Tensor) -> None:
        check_batch("images", images, (2,))
        if images.shape[1] != self.image_channels:
            raise ValueError(
                f"a {self.class_name} takes images of {self.image_channels} channels, got shape {tuple(images.shape)}"
            )
