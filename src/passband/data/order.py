"""The order in which samples are visited: a function of (seed, epoch) alone, never of the rank or of a restart."""

from collections.abc import Iterator

import torch
from jaxtyping import Int64
from torch import Tensor

from passband._seeds import seed_for


def epoch_order(length: int, seed: int, epoch: int) -> Int64[Tensor, " length"]:
    """The permutation of range(length) that one epoch visits.

    Args:
        length: number of samples in the dataset, at least 1.
        seed: the run's seed.
        epoch: number of whole passes before this one, at least 0.

    Returns:
        All indices 0 … length - 1, each once.

    Raises:
        ValueError: if length is under 1 or epoch is negative.

    Example:
        >>> from passband.data import epoch_order
        >>> sorted(epoch_order(4, seed=0, epoch=2).tolist())
        [0, 1, 2, 3]

    """
    if length < 1:
        raise ValueError(f"length must be at least 1, got {length}; the dataset is empty")
    if epoch < 0:
        raise ValueError(f"epoch must be at least 0, got {epoch}")
    generator = torch.Generator().manual_seed(seed_for(seed, epoch, "order"))
    return torch.randperm(length, generator=generator)


def batch_positions(step: int, batch_size: int, rank: int = 0, world_size: int = 1) -> range:
    """The global positions (samples seen before each) of one rank's contiguous share of global batch `step`.

    Args:
        step: number of global batches before this one, at least 0.
        batch_size: samples per global batch, over all ranks; a multiple of world_size.
        rank: this process, 0 … world_size - 1.
        world_size: number of processes.

    Raises:
        ValueError: if the batch does not divide among the ranks, or a number is out of its range.

    Example:
        >>> from passband.data import batch_positions
        >>> batch_positions(step=2, batch_size=6, rank=1, world_size=2)
        range(15, 18)

    """
    if step < 0:
        raise ValueError(f"step must be at least 0, got {step}")
    if world_size < 1 or not 0 <= rank < world_size:
        raise ValueError(f"rank must lie in 0 … world_size - 1, got rank {rank} of {world_size}")
    if batch_size < 1 or batch_size % world_size:
        raise ValueError(
            f"batch_size must be a positive multiple of the number of processes, got {batch_size} for {world_size}; "
            f"the batch size counts the samples of all processes together"
        )
    share = batch_size // world_size
    start = step * batch_size + rank * share
    return range(start, start + share)


class SampleOrder:
    """Map the number of samples seen so far to a dataset index: one seeded permutation per epoch, one after the other.

    Args:
        length: number of samples in the dataset.
        seed: the run's seed.

    Raises:
        ValueError: if length is under 1.

    Example:
        >>> from passband.data import SampleOrder
        >>> order = SampleOrder(length=5, seed=0)
        >>> sorted(order.index(position) for position in range(5, 10))  # the second epoch
        [0, 1, 2, 3, 4]

    """

    def __init__(self, length: int, seed: int) -> None:
        if length < 1:
            raise ValueError(f"length must be at least 1, got {length}; the dataset is empty")
        self.length = length
        self.seed = seed
        self._epoch = -1
        self._order: list[int] = []

    def index(self, position: int) -> int:
        """The dataset index visited at a global position (0 is the run's first sample).

        Raises:
            ValueError: if position is negative.

        """
        if position < 0:
            raise ValueError(f"position must be at least 0, got {position}")
        epoch, place = divmod(position, self.length)
        if epoch != self._epoch:
            self._order = epoch_order(self.length, self.seed, epoch).tolist()
            self._epoch = epoch
        return self._order[place]

    def batch_indices(self, step: int, batch_size: int, rank: int = 0, world_size: int = 1) -> list[int]:
        """The dataset indices of one rank's share of global batch `step`.

        The positions are those of [`batch_positions`][passband.data.batch_positions].

        Raises:
            ValueError: if the batch does not divide among the ranks, or a number is out of its range.

        """
        return [self.index(position) for position in batch_positions(step, batch_size, rank, world_size)]

    def batches(
        self, start: int, stop: int, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[list[int]]:
        """`batch_indices` of the steps start … stop - 1: a `batch_sampler` for `torch.utils.data.DataLoader`.

        Raises:
            ValueError: as `batch_indices`, when the first batch is asked for.

        """
        for step in range(start, stop):
            yield self.batch_indices(step, batch_size, rank, world_size)
