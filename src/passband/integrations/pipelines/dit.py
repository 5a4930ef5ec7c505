"""DiT: a transformer on square latents, with classes."""

import inspect
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from passband.integrations.pipelines.drawing import Drawing
from passband.integrations.pipelines.latents import LatentPipeline
from passband.integrations.pipelines.pixels import check_outputs, check_own_size

#: The null class that DiTPipeline's guidance has, whatever the network's number of classes.
_PIPELINE_NULL = 1000


class DiTTraining(LatentPipeline):
    """`DiTPipeline`: a `DiTTransformer2DModel`; of its learned variance, the half is left out that is no mean.

    The network's own dropping of labels, which is on in training mode and takes its chance from PyTorch's global state,
    is switched off: drop a label by the null class.
    """

    condition = "classes"
    network_folder = "transformer"
    network_classes = ("DiTTransformer2DModel", "Transformer2DModel")

    def _check(self) -> None:
        super()._check()
        check_outputs(self.network, str(self.folder))
        self.classes = int(self._config["num_embeds_ada_norm"])
        for module in self.network.modules():
            if hasattr(module, "dropout_prob"):
                module.dropout_prob = 0.0  # type: ignore[assignment]

    @property
    def _config(self) -> Any:
        return self.network.config

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return int(self._config["in_channels"])

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the transformer's configuration, the only one that the pipeline draws."""
        side = int(self._config["sample_size"]) * self.autoencoder.factor
        return side, side

    def sample_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(channels, height, width) of the latents.

        Raises:
            ValueError: if this is not the size that the pipeline draws.

        """
        check_own_size(self, height, width)
        return super().sample_shape(height, width)

    def class_conditioning(self, classes: Tensor) -> dict[str, Tensor]:
        """`class_labels`, (batch,); the null class is `classes`.

        Raises:
            TypeError: if they are no integers.
            ValueError: if one on the CPU is out of range.

        """
        if not isinstance(classes, Tensor) or classes.is_floating_point() or classes.ndim != 1:
            raise TypeError(f"classes must be a tensor (batch,) of integers, got {classes!r}")
        if classes.device.type == "cpu" and bool(((classes < 0) | (classes > self.classes)).any()):
            raise ValueError(
                f"classes must be 0 to {self.classes - 1}, or {self.classes} for none, got {classes.min()} to "
                f"{classes.max()}: the pipeline of {str(self.folder)!r} has {self.classes} classes"
            )
        return {"class_labels": classes.long()}

    def model(self, network: nn.Module) -> nn.Module:
        """`forward(x, t, class_labels)`, the mean half of the output."""
        return _DiT(network, self.latent_channels)

    def _check_drawing(self, drawing: Drawing) -> None:
        super()._check_drawing(drawing)
        self.class_conditioning(torch.as_tensor(list(drawing.classes or ())))

    def _call(self, drawing: Drawing) -> Any:
        guided = drawing.options.get("guidance_scale", _default(self.pipeline, "guidance_scale")) > 1
        handle = None
        if guided and self.classes != _PIPELINE_NULL:
            network = getattr(self.pipeline, self.network_folder)
            handle = network.register_forward_pre_hook(_NullClass(self.classes), with_kwargs=True)
        try:
            # This pipeline gives its scheduler no generators, so one that draws takes PyTorch's own, which an image
            # must have to itself to be the same in every batch.
            at_once = 1 if _draws(self.pipeline.scheduler) else len(drawing.seeds)
            parts = [slice(i, i + at_once) for i in range(0, len(drawing.seeds), at_once)]
            return np.concatenate([self._part(drawing, part) for part in parts])
        finally:
            if handle is not None:
                handle.remove()

    def _part(self, drawing: Drawing, part: slice) -> Any:
        generators, labels = drawing.generators[part], [int(label) for label in (drawing.classes or ())[part]]
        torch.manual_seed(generators[0].initial_seed())
        return self.pipeline(class_labels=labels, generator=generators, output_type="np", **drawing.options).images


class _DiT(nn.Module):
    def __init__(self, network: nn.Module, channels: int) -> None:
        super().__init__()
        self.network = network
        self.channels = channels

    def forward(self, x: Tensor, t: Tensor, class_labels: Tensor) -> Tensor:
        output: Tensor = self.network(x, timestep=t, class_labels=class_labels, return_dict=False)[0]
        return output[:, : self.channels]


class _NullClass:
    """The network's own null class in the second half of a guided batch, where the pipeline has that of ImageNet."""

    def __init__(self, null: int) -> None:
        self.null = null

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        del module
        labels = kwargs["class_labels"].clone()
        labels[len(labels) // 2 :] = self.null
        return args, kwargs | {"class_labels": labels}


def _draws(scheduler: Any) -> bool:
    """Whether the scheduler adds noise of its own at its steps."""
    stochastic = str(scheduler.config.get("algorithm_type")).startswith("sde")
    return stochastic or "Ancestral" in type(scheduler).__name__ or type(scheduler).__name__ == "DDPMScheduler"


def _default(pipeline: Any, name: str) -> Any:
    return inspect.signature(type(pipeline).__call__).parameters[name].default
