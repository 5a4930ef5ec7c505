"""What is trained: all that the loop knows of it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from passband.data import from_uint8, save_image
from passband.process import Process
from passband.reports import image_mosaic
from passband.sampling import Model
from passband.training.batches import Batch
from passband.training.learner import Learner


class Objective(NamedTuple):
    """What a part of a batch is trained for.

    Attributes:
        total: what is minimised, a scalar.
        terms: its terms, to be logged: scalars without gradients.

    """

    total: Tensor
    terms: dict[str, Tensor]


class Turn(NamedTuple):
    """One optimizer's part of a step: it steps once, after the objective of each part of the batch."""

    learner: Learner
    objective: Callable[[Batch], Objective]


class Watched(NamedTuple):
    """Some samples as a monitor of the spectrum looks at them.

    Attributes:
        process: the process that the network is trained with.
        clean: the samples, as they are noised.
        conditioning: the network's further keyword arguments for them.
        per: what a frequency counts cycles per: a pixel, a position of a latent, or a sample of a signal.

    """

    process: Process
    clean: Tensor
    conditioning: dict[str, Tensor]
    per: str = "pixel"


class Task(ABC):
    """A kind of training: its networks, what each step minimises, and what there is to look at.

    Attributes:
        learners: by name; the first holds the network that is averaged.
        beside: further modules of a checkpoint, by the names of their files.

    """

    #: The folder of the network in a checkpoint.
    folder: str
    #: What to do where the loss is not finite.
    remedy: ClassVar[str] = "Lower optimizer.lr, or set optimizer.clip_norm"
    #: The terms that a progress bar shows.
    shown: ClassVar[tuple[str, ...]] = ("base",)
    learners: dict[str, Learner]
    beside: Mapping[str, nn.Module]

    @property
    def main(self) -> Learner:
        """The learner of the network that is averaged."""
        return next(iter(self.learners.values()))

    @property
    @abstractmethod
    def network(self) -> nn.Module:
        """The network that is averaged and saved as its library does."""

    @abstractmethod
    def turns(self, step: int) -> Sequence[Turn]:
        """What step `step` does, counted from 0, optimizer by optimizer."""

    @abstractmethod
    def draw(self, network: nn.Module, seeds: range) -> Tensor:
        """Images or audio by a network of this kind: samples, or pictures and their reconstructions."""

    def show(self, drawn: Tensor, stem: Path) -> NDArray[np.uint8]:
        """Write what `draw` gave as files whose names begin with stem; a picture of it, (height, width, 3)."""
        mosaic = image_mosaic(drawn)
        save_image(from_uint8(torch.from_numpy(mosaic).permute(2, 0, 1)), stem.with_suffix(".png"))
        return mosaic

    def watched(self, batch: Batch) -> Watched:
        """What a monitor of the spectrum looks at, of a batch.

        Raises:
            TypeError: if nothing is denoised.

        """
        raise TypeError(f"{type(self).__name__} trains no denoiser, so there is nothing to monitor in a batch of it")

    def calling(self, network: nn.Module) -> AbstractContextManager[Model]:
        """A network of this kind, to be called with noisy samples and times."""
        return nullcontext(network)

    def furnish(self, root: Path) -> None:  # noqa: B027
        """Write what the run's samples need, beside its checkpoints, into the run's folder."""

    @property
    @abstractmethod
    def shown_seeds(self) -> range:
        """Those that the run's own pictures are drawn with."""

    @abstractmethod
    def as_seen(self, batch: Batch) -> dict[str, Tensor]:
        """A batch as the network saw it, to be kept for study."""
