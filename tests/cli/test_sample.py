"""`passband sample`: images named by their seeds, from one setting per folder."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from passband.data import ImageFolder, to_uint8
from passband.sampling import sample
from passband.training import draw, restore

FOLDER = Path("samples") / "step-00000002"


def pixels(folder: Path) -> torch.Tensor:
    data = ImageFolder(folder, 16)
    return torch.stack([data.pixels(i) for i in range(len(data))])


def test_images_are_the_samples_of_their_seeds(passband, run: Path):
    assert passband("sample", run, "--count", 3, "--seed", 5, "--steps", 3).status == 0
    assert sorted(file.name for file in (run / FOLDER).glob("*.png")) == ["000005.png", "000006.png", "000007.png"]
    found = restore(run)
    drawn = sample(found.model, found.process, (3, 16, 16), seeds=[5, 6, 7], steps=3)
    assert torch.equal(pixels(run / FOLDER), to_uint8(drawn))


def test_the_batch_size_changes_nothing(passband, run: Path, tmp_path: Path):
    for size in (1, 2, 5):
        assert passband("sample", run, "--count", 5, "--batch-size", size, "--out", tmp_path / str(size)).status == 0
    one, two, five = (pixels(tmp_path / str(size)).int() for size in (1, 2, 5))
    assert one.shape == (5, 3, 16, 16)
    # Rounding to pixels may tip over where the network's own sums differ in their last bit.
    assert (one - five).abs().max() <= 1
    assert (two - five).abs().max() <= 1


def test_what_is_there_is_kept_and_the_rest_is_drawn(passband, run: Path):
    assert passband("sample", run, "--count", 3).status == 0
    first, third = run / FOLDER / "000000.png", run / FOLDER / "000002.png"
    third_bytes = third.read_bytes()
    Image.new("RGB", (16, 16)).save(first)
    mark = first.read_bytes()
    third.unlink()
    result = passband("sample", run, "--count", 4)
    assert f"4 samples are in {run / FOLDER}" in result.err
    assert first.read_bytes() == mark
    assert third.read_bytes() == third_bytes
    assert len(list((run / FOLDER).glob("*.png"))) == 4


@pytest.mark.bad_input
@pytest.mark.parametrize("change", [["--steps", 3], ["--solver", "heun"], ["--weights", "last"]])
def test_samples_of_other_settings_are_not_mixed_in(passband, run: Path, tmp_path: Path, change: list[object]):
    assert passband("sample", run, "--count", 1).status == 0
    result = passband("sample", run, "--count", 2, *change)
    assert result.status == 2
    assert "holds samples drawn with other settings" in result.err
    assert len(list((run / FOLDER).glob("*.png"))) == 1
    assert passband("sample", run, "--count", 1, *change, "--out", tmp_path / "other").status == 0
    one, other = pixels(run / FOLDER), pixels(tmp_path / "other")
    assert not torch.equal(one, other)


@pytest.mark.bad_input
def test_samples_of_another_run_are_not_mixed_in(passband, run: Path, trained: Path, tmp_path: Path):
    assert passband("sample", run, "--count", 1, "--out", tmp_path / "shared").status == 0
    assert passband("sample", trained, "--count", 1, "--out", tmp_path / "shared").status == 2


def test_a_run_is_the_same_by_any_path(passband, run: Path, monkeypatch: pytest.MonkeyPatch):
    assert passband("sample", run, "--count", 1).status == 0
    monkeypatch.chdir(run.parent)
    assert passband("sample", "run", "--count", 2).status == 0


def test_the_settings_are_noted(passband, run: Path):
    passband("sample", run, "--count", 1)
    noted = json.loads((run / FOLDER / "settings.json").read_text())
    assert noted == {
        "run": str(run), "step": 2, "weights": "ema", "steps": 2, "solver": "euler", "spacing": None, "clip": None
    }  # fmt: skip


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--solver", "hein"], "unknown solver: got 'hein' (did you mean 'heun'?)"),
        (["--device", "toaster"], "cannot compute on --device toaster"),
        (["--checkpoint", 5], "has no checkpoint of step 5: it holds those of steps [2]"),
    ],
)
def test_wrong_options_claim_no_folder(passband, run: Path, options: list[object], message: str):
    result = passband("sample", run, *options)
    assert result.status == 2
    assert result.err.startswith("error: ")
    assert message in result.err
    assert not (run / FOLDER).exists()


@pytest.mark.bad_input
def test_no_run_folder(passband, tmp_path: Path):
    result = passband("sample", tmp_path)
    assert result.status == 2
    assert f"'{tmp_path}' is no run folder" in result.err


@pytest.mark.bad_input
def test_samples_that_are_not_finite_are_not_written(passband, run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(draw, "sample", lambda *_, seeds, **__: torch.full((len(seeds), 3, 16, 16), torch.nan))
    result = passband("sample", run, "--count", 2)
    assert result.status == 2
    assert "the samples of seeds [0, 1] are not finite" in result.err
    assert list((run / FOLDER).glob("*.png")) == []
