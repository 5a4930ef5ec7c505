"""Representation alignment: a transformer's tokens beside its output, and the teachers that they are compared with."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from passband.integrations.teachers import Teacher, load_teacher
from passband.matching import AlignmentLoss
from passband.training.batches import Batch, as_pixels
from passband.training.families import family_of
from passband.training.sections import STORED, AlignmentSettings


class AlignedDenoiser(nn.Module):
    """A transformer that gives, beside its own output, its tokens after a block, projected to its teachers' widths.

    All of it is one module, so that several processes share the gradients of the projections too.

    Args:
        network: a network whose family has tokens (DiT, JiT), with its hooks.
        alignment: projects the tokens and compares them.
        depth: the block, counted from 1.

    Raises:
        ValueError: if the network has no tokens, fewer blocks, or tokens of another width than the alignment projects.

    Example:
        >>> import torch
        >>> from passband.matching import AlignmentLoss
        >>> from passband.models import JiT
        >>> from passband.training.alignment import AlignedDenoiser
        >>> network = JiT((8, 12), 2, in_channels=4, hidden_size=16, depth=2, num_heads=2, in_context_len=0)
        >>> aligned = AlignedDenoiser(network, AlignmentLoss(16, 24, hidden=32), depth=1)
        >>> output, projected = aligned(torch.randn(2, 4, 8, 12), torch.rand(2))
        >>> output.shape, [found.shape for found in projected.values()]
        (torch.Size([2, 4, 8, 12]), [torch.Size([2, 24, 4, 6])])

    Source: Yu et al. 2024, "Representation Alignment for Generation" (arXiv:2410.06940).
    """

    def __init__(self, network: nn.Module, alignment: AlignmentLoss, depth: int) -> None:
        super().__init__()
        tap = family_of(network).tap(network, depth)
        self.network = network
        self.alignment = alignment
        self._to_field = tap.to_field
        self._kept = _Kept()
        tap.module.register_forward_hook(self._kept)

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Tensor]]:
        """The network's own output, and the projected tokens, by teacher."""
        self._kept.wanted = True
        output = self.network(*args, **kwargs)
        # Gradient checkpointing runs the block again in backward, when nothing may be kept.
        self._kept.wanted = False
        tokens, self._kept.output = self._kept.output, None
        assert tokens is not None
        return output, self.alignment.project(self._to_field(tokens))


class _Kept:
    """A forward hook that keeps the module's output while it is wanted; copies of the module keep nothing."""

    def __init__(self) -> None:
        self.wanted = False
        self.output: Tensor | None = None

    def __call__(self, module: nn.Module, args: object, output: Tensor) -> None:
        if self.wanted:
            self.output = output


def build_alignment(
    settings: AlignmentSettings, network: nn.Module, widths: Mapping[str, int], seed: int = 0
) -> AlignedDenoiser:
    """The network with the projections and the loss that the settings name.

    Args:
        settings: a recipe's section `alignment`.
        network: the transformer to be trained.
        widths: of each teacher's features, by its name.
        seed: of the projections' initial weights.

    Raises:
        ValueError: if the network has no tokens, or fewer blocks than the settings' depth.

    """
    width = family_of(network).tap(network, settings.depth).width
    target = settings.target
    options: dict[str, Any] = target.model_dump()
    options["target"] = options.pop("name")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        alignment = AlignmentLoss(
            width,
            dict(widths),
            head=settings.head,
            hidden=settings.hidden,
            weight=settings.weight,
            decay_steps=settings.decay_steps,
            stop_step=settings.stop_step,
            **options,
        )
    return AlignedDenoiser(network, alignment, settings.depth)


class Teachers:
    """The features that a batch's clean samples have: stored with the latents, or of the teachers that see its images.

    Args:
        settings: a recipe's section `alignment`.
        device: where the teachers compute.
        dataset: the data; of latents, its `teachers` says which features are stored with them.

    Attributes:
        widths: channels of each teacher's features, by its name.

    Raises:
        ValueError: if a teacher is unknown, named twice, or its features are not stored.
        OSError, ImportError: if a teacher cannot be loaded.

    """

    def __init__(self, settings: AlignmentSettings, device: torch.device | str, dataset: object = None) -> None:
        kept: Mapping[str, Any] | None = getattr(dataset, "teachers", None)
        self._pixels = kept is None  # the samples themselves are images
        self._stored: list[str] = []
        self._teachers: dict[str, Teacher] = {}
        self.widths: dict[str, int] = {}
        for spec in settings.teachers:
            if spec.startswith(STORED):
                name = spec.removeprefix(STORED)
                width = _stored_width(name, kept or {})
                self._stored.append(name)
            else:
                teacher = load_teacher(spec, device)
                name, width = teacher.name, teacher.width
                self._teachers[name] = teacher
            if name in self.widths:
                raise ValueError(f"alignment.teachers names {name!r} twice: each teacher counts once")
            self.widths[name] = width

    @property
    def stored(self) -> tuple[str, ...]:
        """Names of the features that the data are to give with each batch."""
        return tuple(self._stored)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """The features of a batch, (batch, width, rows, columns), by teacher."""
        found = {name: _given(batch.features, name) for name in self._stored}
        if self._teachers:
            images = self._images(batch)
            found |= {name: teacher(images) for name, teacher in self._teachers.items()}
        return {name: found[name] for name in self.widths}

    def _images(self, batch: Batch) -> Tensor:
        if batch.images is not None:
            return batch.images
        if not self._pixels:
            raise ValueError(
                "a teacher has to see the images of these latents, and the batch holds none: read them with images, or "
                "keep its features (passband encode --teacher) and name it stored:NAME"
            )
        return as_pixels(batch.clean)


def _stored_width(name: str, kept: Mapping[str, Any]) -> int:
    if name not in kept:
        there = f"it holds those of {', '.join(kept)}" if kept else "it holds none"
        raise ValueError(
            f"the data has no stored features of {name!r} ({there}): encode it with --teacher, or name the teacher "
            "without stored:"
        )
    return int(kept[name][0])


def _given(features: Mapping[str, Tensor] | None, name: str) -> Tensor:
    if features is None or name not in features:
        raise ValueError(f"the batch lacks the stored features of {name!r}")
    return features[name]
