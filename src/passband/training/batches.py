"""Training batches that depend on (seed, global position) alone: on no rank, worker or restart."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from passband._seeds import seed_for
from passband.data import SampleOrder, batch_positions, random_flip


class Batch(NamedTuple):
    """Clean samples and their global positions (how many samples of the run came before each)."""

    clean: Tensor
    positions: Tensor


class _Positioned(Dataset[tuple[Tensor, int]]):
    """A data set asked for by global position."""

    def __init__(self, dataset: Dataset[Tensor], seed: int, flip: bool) -> None:
        self.dataset, self.seed, self.flip = dataset, seed, flip
        self.order = SampleOrder(len(dataset), seed)  # type: ignore[arg-type]

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        clean = self.dataset[self.order.index(position)]
        if self.flip:
            clean = random_flip(clean, seed_for(self.seed, position, "flip"))
        return clean, position


class _Share:
    """The positions of one rank's share of each global batch, from a step on."""

    def __init__(self, start: int, stop: int, batch_size: int, rank: int, world_size: int) -> None:
        self.steps, self.batch_size, self.rank, self.world_size = range(start, stop), batch_size, rank, world_size

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            yield list(batch_positions(step, self.batch_size, self.rank, self.world_size))

    def __len__(self) -> int:
        return len(self.steps)


def batches(
    dataset: Dataset[Tensor],
    start: int,
    stop: int,
    batch_size: int,
    seed: int,
    *,
    flip: bool = False,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Batch]:
    """The batches of steps start to stop - 1.

    Raises:
        ValueError: if a sample is not finite, or the batch size does not divide among the ranks.

    """
    positioned = _Positioned(dataset, seed, flip)
    share = _Share(start, stop, batch_size, rank, world_size)
    pin = torch.cuda.is_available()
    loader = DataLoader(positioned, batch_sampler=share, num_workers=workers, pin_memory=pin)
    for clean, positions in loader:
        _check_finite(clean, positions, positioned.order)
        yield Batch(clean, positions)


def _check_finite(clean: Tensor, positions: Tensor, order: SampleOrder) -> None:
    finite = torch.isfinite(clean).flatten(1).all(1)
    if not bool(finite.all()):
        bad = [order.index(int(position)) for position in positions[~finite]]
        raise ValueError(f"the data holds NaN or infinity in sample(s) {bad}: repair or remove them, then resume")
