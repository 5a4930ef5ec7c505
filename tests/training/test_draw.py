"""Samples drawn into a folder: each the same bits whoever draws it, and however often drawing was interrupted."""

import json
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

from passband.data import to_uint8
from passband.process import EDM
from passband.sampling import sample
from passband.training import restore
from passband.training.conditioning import sampled_classes
from passband.training.draw import Drawing, NonFiniteSamplesError, missing, read_sample
from passband.training.ranks import Ranks
from passband.training.restore import Restored
from passband.training.sections import SamplingSettings


class Turn(Ranks):
    """One of several processes that take turns: what the first one said is told to the others."""

    said: ClassVar[list[object]] = []

    def __init__(self, index: int, count: int) -> None:
        self.index, self.count, self.device = index, count, torch.device("cpu")
        self.heard = iter(list(self.said))
        if index == 0:
            self.said.clear()

    def first(self, value):
        if self.index:
            return next(self.heard)
        self.said.append(value)
        return value

    def gather(self, value):
        return [value]


class Recorder(nn.Module):
    """A network that notes what it is called with."""

    def __init__(self, value: float = 0.1) -> None:
        super().__init__()
        self.value, self.calls, self.labels = value, 0, []

    def forward(self, x, t, class_labels=None):
        self.calls += 1
        self.labels.append(class_labels)
        return x * self.value


def network(model: nn.Module, classes: int = 0) -> Restored:
    return Restored(model, EDM(), SamplingSettings(steps=3), (1, 8, 8), classes, 0, None)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("*.png")}


def test_files_hold_the_samples_of_their_seeds(finished: Path, tmp_path: Path):
    found = restore(finished)
    Drawing(found, finished, batch_size=4).draw(tmp_path, range(3, 8))
    assert sorted(contents(tmp_path)) == [f"{seed:06d}.png" for seed in range(3, 8)]
    drawn = sample(found.model, found.process, (1, 16, 16), seeds=range(3, 7), steps=2)
    for place, seed in enumerate(range(3, 7)):
        assert torch.equal(read_sample(tmp_path, seed, 1), to_uint8(drawn[place]))


@pytest.mark.parametrize("count", [2, 3])
def test_several_processes_draw_what_one_draws(finished: Path, tmp_path: Path, count: int):
    drawing = Drawing(restore(finished), finished, batch_size=2)
    drawing.draw(tmp_path / "one", range(7))
    shares = []
    for index in range(count):
        before = set(contents(tmp_path / "many"))
        drawing.draw(tmp_path / "many", range(7), Turn(index, count))
        shares.append(set(contents(tmp_path / "many")) - before)
    assert all(shares)
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


def test_what_is_missing_is_drawn_to_the_same_bits(finished: Path, tmp_path: Path):
    drawing = Drawing(restore(finished), finished, batch_size=4)
    drawing.draw(tmp_path, range(10))
    before = contents(tmp_path)
    for seed in (1, 2, 9):
        (tmp_path / f"{seed:06d}.png").unlink()
    (tmp_path / "000000.png").write_bytes(b"kept")
    assert missing(tmp_path, range(12)) == {1, 2, 9, 10, 11}
    seen = []
    drawing.draw(tmp_path, range(10), on_drawn=lambda done, total: seen.append((done, total)))
    assert contents(tmp_path) == before | {"000000.png": b"kept"}
    assert seen == [(7, 10), (9, 10), (10, 10)]


def test_an_interrupt_loses_nothing(finished: Path, tmp_path: Path):
    drawing = Drawing(restore(finished), finished, batch_size=2)

    def interrupt(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drawing.draw(tmp_path / "cut", range(6), on_drawn=interrupt)
    assert len(contents(tmp_path / "cut")) == 4
    drawing.draw(tmp_path / "cut", range(6))
    drawing.draw(tmp_path / "whole", range(6))
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_each_seed_has_its_class(tmp_path: Path):
    model = Recorder()
    Drawing(network(model, classes=10), tmp_path, batch_size=3).draw(tmp_path / "out", range(5, 10))
    assert torch.equal(torch.cat([model.labels[0], model.labels[-1]]), sampled_classes(range(5, 10), 10))
    note = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert (note["classes"], note["class"]) == (10, "seed_for(seed, 0, 'class') % classes")


@pytest.mark.parametrize("solver", ["euler", "heun", "ancestral"])
@pytest.mark.parametrize("steps", [1, 4])
def test_network_evaluations_are_counted_right(tmp_path: Path, solver: str, steps: int):
    model = Recorder()
    drawing = Drawing(network(model), tmp_path, steps=steps, solver=solver)
    drawing.draw(tmp_path / "out", range(2))
    assert model.labels[0] is None
    assert drawing.evaluations == model.calls


def test_samples_that_are_not_finite_are_not_written(tmp_path: Path):
    drawing = Drawing(network(Recorder(float("nan"))), tmp_path)
    with pytest.raises(NonFiniteSamplesError, match=r"the samples of seeds \[0, 1\] are not finite"):
        drawing.draw(tmp_path / "out", range(2))
    assert contents(tmp_path / "out") == {}


def test_samples_of_another_process_that_are_not_finite_stop_this_one(tmp_path: Path):
    class Told(Turn):
        def gather(self, value):
            return [value, [7]] if value == [] else [value]

    with pytest.raises(NonFiniteSamplesError, match=r"the samples of seeds \[7\] are not finite"):
        Drawing(network(Recorder()), tmp_path).draw(tmp_path / "out", range(2), Told(0, 2))


def test_other_settings_are_refused_before_anything_is_drawn(tmp_path: Path):
    model = Recorder()
    Drawing(network(model), tmp_path).draw(tmp_path / "out", range(2))
    calls = model.calls
    with pytest.raises(ValueError, match="holds samples drawn with other settings"):
        Drawing(network(model), tmp_path, steps=2).draw(tmp_path / "out", range(3))
    assert model.calls == calls


@pytest.mark.parametrize("damage", [None, b"", b"\x89PNG\r\n\x1a\n half"])
def test_a_sample_that_cannot_be_read_is_named(tmp_path: Path, damage: bytes | None):
    if damage is not None:
        (tmp_path / "000003.png").write_bytes(damage)
    with pytest.raises(ValueError, match=r"000003\.png' cannot be read .*: delete it, and run the command again"):
        read_sample(tmp_path, 3, 3)
