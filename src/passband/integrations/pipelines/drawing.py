"""Drawing by a diffusers pipeline's own call, with a network put into its place for that time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

if TYPE_CHECKING:
    from passband.integrations.pipelines.base import TrainablePipeline

#: Arguments of networks that are counts.
_POSITIONS = ("img_ids", "txt_ids")

#: What images depend on, in words.
DEPENDS = {"none": "the noise alone", "classes": "classes", "text": "prompts"}


class Drawing(NamedTuple):
    """What is asked of a pipeline's call.

    Attributes:
        seeds: one per image.
        prompts: one per image, or None.
        classes: one per image, or None.
        height: of the images, in pixels.
        width: of the images, in pixels.
        options: of the call: `num_inference_steps` and `guidance_scale`, where they are given.

    """

    seeds: Sequence[int]
    prompts: Sequence[str] | None
    classes: Sequence[int] | None
    height: int
    width: int
    options: dict[str, Any]

    @property
    def generators(self) -> list[torch.Generator]:
        """One generator per seed, on the CPU, so that an image is the same in every batch and on every device."""
        return [torch.Generator("cpu").manual_seed(int(seed)) for seed in self.seeds]


def check_drawing(pipeline: "TrainablePipeline", drawing: Drawing) -> None:
    """Raise unless the pipeline can draw this.

    Raises:
        TypeError: if prompts is one text.
        ValueError: if the conditioning is not the pipeline's, or not one per seed, or the size does not fit.

    """
    name, depends = pipeline.class_name, DEPENDS[pipeline.condition]
    if len(drawing.seeds) == 0:
        raise ValueError("draw needs at least one seed, one per image; got none")
    for what, kind, given in (("prompts", "text", drawing.prompts), ("classes", "classes", drawing.classes)):
        if (given is not None) != (pipeline.condition == kind):
            raise ValueError(
                f"a {name} draws images that depend on {depends}: {'give' if given is None else 'leave'} {what}"
            )
        if isinstance(given, str):
            raise TypeError(f"{what} must be a list of texts, got the text {given!r}: put it into a list")
        if given is not None and len(given) != len(drawing.seeds):
            raise ValueError(f"give one seed per image: got {len(given)} {what} and {len(drawing.seeds)} seeds")
    if "guidance_scale" in drawing.options and pipeline.condition == "none":
        raise ValueError(f"a {name} has no guidance: its images depend on {depends}; leave it")
    pipeline.sample_shape(drawing.height, drawing.width)


@contextmanager
def in_place(pipeline: "TrainablePipeline", network: nn.Module) -> Iterator[None]:
    """The network in the pipeline's place, in evaluation mode, everything on its device; undone afterwards.

    A network in half precision is given its inputs in it, and all else stays in float32. PyTorch's own random state is
    left as it was.
    """
    modes = [(module, module.training) for module in network.modules()]
    device, before = next(network.parameters()).device, pipeline.device
    setattr(pipeline.pipeline, pipeline.network_folder, network.eval())
    try:
        pipeline.to(device)
        with _cast(network), torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        setattr(pipeline.pipeline, pipeline.network_folder, pipeline.network)
        pipeline.to(before)
        for module, training in modes:
            module.training = training


@contextmanager
def _cast(network: nn.Module) -> Iterator[None]:
    dtype = next(parameter.dtype for parameter in network.parameters() if parameter.is_floating_point())
    if dtype == torch.float32:
        yield
        return
    handles = [
        network.register_forward_pre_hook(lambda _, args, kwargs: _inputs(args, kwargs, dtype), with_kwargs=True),
        network.register_forward_hook(lambda *called: _to(called[-1], torch.float32)),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _inputs(args: tuple[Any, ...], kwargs: dict[str, Any], dtype: torch.dtype) -> tuple[Any, Any]:
    """Samples and embeddings in this dtype; positions, and times, which have one dimension at most, as they are."""
    kept = {name: value for name, value in kwargs.items() if name in _POSITIONS}
    return _to(args, dtype), _to(kwargs, dtype) | kept


def _to(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(dtype) if value.is_floating_point() and value.ndim > 1 else value
    if isinstance(value, tuple):
        return tuple(_to(item, dtype) for item in value)
    if isinstance(value, dict):  # an output of diffusers is one, too
        return type(value)(**{name: _to(item, dtype) for name, item in value.items()})
    return value
