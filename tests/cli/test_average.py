"""`passband average`: another length of the weights' average, chosen after the training."""

import json
from pathlib import Path

import pytest
import torch

from passband.training import Trainer, load_recipe, restore
from passband.training.ema import reconstruct
from passband.training.run_folder import snapshots


@pytest.fixture(scope="module")
def stored(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of twelve steps that stored averages every third."""
    root = tmp_path_factory.mktemp("stored") / "run"
    more = ["training.steps=12", "training.snapshots.every=3", "training.sample_every=null", "training.trackers=[]"]
    Trainer(load_recipe(arguments[0], [*arguments[1:], *more]), root).train()
    return root


def test_an_average_is_a_network_that_samples(passband, stored: Path, tmp_path: Path):
    result = passband("average", stored, "--std", 0.08, "--out", tmp_path / "average")
    assert result.status == 0, result.err
    assert "holds the average of std 0.08" in result.err
    found = restore(tmp_path / "average")
    expected = reconstruct(snapshots(stored), std=0.08)
    assert all(torch.equal(value, expected[name]) for name, value in found.model.state_dict().items())
    assert (found.sampling, found.recipe) == (restore(stored).sampling, restore(stored).recipe)
    result = passband("sample", tmp_path / "average", "--count", 2, "--out", tmp_path / "samples")
    assert result.status == 0, result.err
    assert len(list((tmp_path / "samples").glob("*.png"))) == 2


def test_an_earlier_end(passband, stored: Path, tmp_path: Path):
    assert passband("average", stored, "--std", 0.1, "--step", 6, "--out", tmp_path / "six").status == 0
    early = restore(tmp_path / "six").model.state_dict()
    late = reconstruct(snapshots(stored), std=0.1)
    assert not all(torch.equal(value, late[name]) for name, value in early.items())


def test_it_lands_in_the_run(passband, stored: Path):
    assert passband("average", stored, "--std", 0.05).status == 0
    assert json.loads((stored / "averages" / "std-0.05" / "process.json").read_text())["name"] == "flow"


@pytest.mark.bad_input
def test_what_cannot_be_averaged(passband, stored: Path, run: Path, tmp_path: Path):
    for arguments, message in (
        ((tmp_path, "--std", 0.1), "is no run folder"),
        ((run, "--std", 0.1), "holds no snapshots of averaged weights: train with training.snapshots"),
        ((stored, "--std", 0.9), "std must lie above 0 and be at most 0.289"),
        ((stored, "--std", 0.1, "--step", 99), "from snapshots up to 24: nothing is known"),
    ):
        result = passband("average", *arguments)
        assert result.status == 2
        assert message in result.err
        assert "Traceback" not in result.err


@pytest.mark.bad_input
def test_nothing_of_the_users_gives_way(passband, stored: Path, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    file = tmp_path / "mine" / "notes.txt"
    file.write_text("mine")
    for out, message in ((file, "is a file"), (file.parent, "holds something else ('notes.txt')")):
        result = passband("average", stored, "--std", 0.1, "--out", out)
        assert (result.status, message in result.err) == (2, True)
    assert file.read_text() == "mine"
    out = tmp_path / "twice"
    assert [passband("average", stored, "--std", std, "--out", out).status for std in (0.1, 0.05)] == [0, 0]
