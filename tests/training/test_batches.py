"""Batches depend on (seed, global position) alone."""

import itertools
import os
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from passband._seeds import seed_for
from passband.data import ImageFolder, SampleOrder, save_image
from passband.training.batches import Batch, Reading, batches

FLIPPED = Reading(flip=True)
SEED = 3


class Ramps(Dataset[Tensor]):
    """Sample i is a ramp that starts at i, so that index and flip can be read from it."""

    def __init__(self, length: int = 10, bad: tuple[int, ...] = ()) -> None:
        self.length, self.bad = length, bad

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        ramp = index + torch.arange(4) / 10
        return (ramp if index not in self.bad else ramp / 0).expand(1, 4, 4)


def joined(found: list[Batch]) -> Batch:
    return Batch(torch.cat([batch.clean for batch in found]), torch.cat([batch.positions for batch in found]))


def same(one: Batch, other: Batch) -> bool:
    return torch.equal(one.clean, other.clean) and torch.equal(one.positions, other.positions)


def test_positions_order_and_flips_are_those_of_their_definitions():
    found = joined(list(batches(Ramps(), 0, 4, batch_size=6, seed=SEED, reading=FLIPPED)))
    assert found.positions.tolist() == list(range(24))
    order = SampleOrder(10, SEED)
    flips = 0
    for position, clean in enumerate(found.clean):
        expected = Ramps()[order.index(position)]
        if seed_for(SEED, position, "flip") % 2:
            expected, flips = expected.flip(-1), flips + 1
        assert torch.equal(clean, expected)
    assert 0 < flips < 24


def test_each_epoch_visits_every_sample_once():
    found = joined(list(batches(Ramps(), 0, 4, batch_size=5, seed=SEED)))
    first, second = found.clean[:10, 0, 0, 0].int().tolist(), found.clean[10:, 0, 0, 0].int().tolist()
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_the_batch_of_one_process(world_size: int):
    alone = list(batches(Ramps(), 0, 3, 6, SEED, reading=FLIPPED))
    shares = [
        batches(Ramps(), 0, 3, 6, SEED, reading=FLIPPED, rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    together = [joined(list(parts)) for parts in zip(*shares, strict=True)]
    assert len(together) == 3
    assert all(same(one, other) for one, other in zip(alone, together, strict=True))


def test_a_later_start_continues_the_same_batches():
    whole = list(batches(Ramps(), 0, 5, 4, SEED, reading=FLIPPED))
    parts = [
        *batches(Ramps(), 0, 2, 4, SEED, reading=FLIPPED),
        *batches(Ramps(), 2, 5, 4, SEED, reading=FLIPPED),
    ]
    assert all(same(one, other) for one, other in zip(whole, parts, strict=True))


def test_workers_change_nothing():
    alone = list(batches(Ramps(), 1, 4, 4, SEED, reading=FLIPPED))
    workers = list(batches(Ramps(), 1, 4, 4, SEED, reading=FLIPPED, workers=2))
    assert all(same(one, other) for one, other in zip(alone, workers, strict=True))


class Disturbed(Ramps):
    """Its workers get the signals that a launcher or a terminal sends to all processes."""

    def __getitem__(self, index: int) -> Tensor:
        if get_worker_info() is not None:
            for number in (signal.SIGINT, signal.SIGTERM):
                os.kill(os.getpid(), number)
        return super().__getitem__(index)


def test_workers_leave_signals_to_the_main_process():
    alone = list(batches(Ramps(), 0, 3, 4, SEED))
    workers = list(batches(Disturbed(), 0, 3, 4, SEED, workers=1))
    assert all(same(one, other) for one, other in zip(alone, workers, strict=True))


def test_images_that_workers_leave_out_are_known(tmp_path: Path):
    for index in range(6):
        save_image(torch.rand(3, 8, 8) * 2 - 1, tmp_path / f"{index}.png")
    content = (tmp_path / "4.png").read_bytes()
    (tmp_path / "4.png").write_bytes(content[: len(content) // 2])
    alone, shared = ImageFolder(tmp_path, 8), ImageFolder(tmp_path, 8)
    list(batches(alone, 0, 6, 2, SEED))
    list(batches(shared, 0, 6, 2, SEED, workers=2))
    assert [image.name for image in shared.skipped] == ["4.png"]
    assert shared.skipped == alone.skipped


def test_another_seed_gives_another_order():
    one, other = (joined(list(batches(Ramps(), 0, 2, 5, seed))).clean for seed in (0, 1))
    assert not torch.equal(one, other)


def test_the_global_generator_changes_nothing():
    torch.manual_seed(0)
    one = joined(list(batches(Ramps(), 0, 2, 5, SEED, reading=FLIPPED)))
    torch.manual_seed(1)
    assert same(one, joined(list(batches(Ramps(), 0, 2, 5, SEED, reading=FLIPPED))))


def test_no_steps_left():
    assert list(batches(Ramps(), 5, 5, 4, SEED)) == []


def test_samples_that_are_not_finite_are_named_by_their_index():
    found = batches(Ramps(bad=(4, 7)), 0, 2, 5, SEED)
    order = SampleOrder(10, SEED)
    first_batch = [order.index(position) for position in range(5)]
    bad = [index for index in first_batch if index in (4, 7)] or [
        index for index in (order.index(position) for position in range(5, 10)) if index in (4, 7)
    ]
    with pytest.raises(ValueError, match="NaN or infinity in sample") as caught:
        list(found)
    assert f"sample(s) {bad}" in str(caught.value)


def test_the_batch_must_divide_among_the_ranks():
    with pytest.raises(ValueError, match="multiple of processes x accumulate, got 5 for 2 x 1"):
        next(batches(Ramps(), 0, 1, 5, SEED, world_size=2))


def test_batches_are_made_as_they_are_needed(tmp_path: Path):
    endless = batches(Ramps(), 0, 10**9, 2, SEED)
    assert len(list(itertools.islice(endless, 3))) == 3
