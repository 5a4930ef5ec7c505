"""`passband train`: from a recipe to a run's folder, and one clear message for what goes wrong."""

import json
import os
import signal
from pathlib import Path

import pytest
import yaml

from passband.training import Trainer, load_recipe

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


def files(run: Path) -> dict[str, bytes]:
    """Weights, optimizer and log of a run."""
    return {
        str(file.relative_to(run)): file.read_bytes()
        for file in run.rglob("*")
        if file.is_file() and (file.suffix in (".safetensors", ".jsonl") or file.name == "state.json")
    }


def tiny(recipe: Path, arguments: list[str]) -> list[str]:
    """The overrides that fit a recipe: checkerboards have no path; 16 pixels bear one level of most wavelets."""
    found = load_recipe(recipe)
    overrides = [text for text in arguments[1:] if found.data.name == "images" or not text.startswith("data.path")]
    if found.regularizer is not None:
        terms = enumerate(found.regularizer.losses)
        overrides += [f"regularizer.losses[{place}].levels=1" for place, term in terms if term.name == "wavelet"]
    return overrides


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_trains_and_samples(passband, arguments: list[str], recipe: Path, tmp_path: Path):
    out = tmp_path / "run"
    result = passband("train", recipe, *tiny(recipe, arguments), "--out", out)
    assert result.status == 0, result.err
    assert f"{out} is trained to step 2" in result.err
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == [1, 2]
    assert all(entry["base"] > 0 and entry["spectral"] > 0 for entry in entries)
    assert (out / "samples" / "step-00000002.png").is_file()
    assert load_recipe(out / "recipe.yaml") == load_recipe(recipe, tiny(recipe, arguments))
    result = passband("sample", out, "--count", 3)
    assert result.status == 0, result.err
    names = {file.name for file in (out / "samples" / "step-00000002").glob("*.png")}
    assert names == {"000000.png", "000001.png", "000002.png"}


def test_the_run_lands_in_runs_under_its_name(passband, arguments: list[str]):
    assert passband("train", *arguments, "name=mine").status == 0
    assert (Path("runs") / "mine" / "checkpoints" / "step-00000002").is_dir()


class Interrupted(Trainer):
    """A trainer that is sent an interrupt in its second step."""

    def _update(self, batch):
        if self.step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return super()._update(batch)


def test_an_interrupted_run_resumes_to_the_same_bits(passband, arguments: list[str], tmp_path: Path, monkeypatch):
    longer = [*arguments, "training.steps=4", "training.save_every=2", "training.keep_checkpoints=9"]
    assert passband("train", *longer, "--out", tmp_path / "whole").status == 0
    with monkeypatch.context() as patch:
        patch.setattr("passband.cli.train.Trainer", Interrupted)
        stopped = passband("train", *longer, "--out", tmp_path / "parts")
    assert stopped.status == 130
    assert "stopped at step 2 and saved; continue with:\npassband train " in stopped.err
    assert stopped.err.rstrip().endswith(f"--out {tmp_path / 'parts'} --resume")
    refused = passband("train", *longer, "--out", tmp_path / "parts")
    assert refused.status == 2
    assert "holds a run already: continue it with --resume" in refused.err
    assert passband("train", *longer, "--out", tmp_path / "parts", "--resume").status == 0
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


def test_other_settings_do_not_resume(passband, arguments: list[str], run: Path):
    result = passband("train", *arguments, "optimizer.lr=0.5", "--out", run, "--resume")
    assert result.status == 2
    assert "optimizer.lr was 0.001, now 0.5" in result.err


def test_dry_run_prints_the_resolved_recipe_and_nothing_else(passband, arguments: list[str], tmp_path: Path):
    result = passband("train", *arguments, "optimizer.lr=1e-4", "--dry-run")
    assert (result.status, result.err) == (0, "")
    assert yaml.safe_load(result.out)["training"]["ema"] == 0.98
    printed = tmp_path / "printed.yaml"
    printed.write_text(result.out)
    assert load_recipe(printed) == load_recipe(arguments[0], [*arguments[1:], "optimizer.lr=1e-4"])
    assert list(Path().iterdir()) == []


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        (["trainig.steps=3"], ["unknown key 'trainig' (did you mean 'training'?)"]),
        (
            ["optimizer.lr=-1", "training.step=3"],
            ["optimizer.lr: Input should be greater", "unknown key 'step' (did you"],
        ),
        (["regularizer.losses[0].wavelet=har"], ["did you mean 'haar'"]),
        (["sampling.steps=0"], ["sampling.steps: Input should be greater than or equal to 1"]),
        (["oops"], ["an override is key=value"]),
        (["data.path=nowhere"], ["nowhere"]),
        (["data.resolution=64"], ["none of the 6 images", "40 x 34 is smaller than a tile of 64 x 64"]),
    ],
)
def test_faults_are_one_message_and_leave_nothing(passband, arguments, changes: list[str], messages: list[str]):
    result = passband("train", *arguments, *changes)
    assert result.status == 2
    assert result.err.startswith("error: ")
    assert all(message in result.err for message in messages), result.err
    assert "Traceback" not in result.err
    assert list(Path().iterdir()) == []


@pytest.mark.bad_input
def test_missing_recipe_and_empty_folder(passband, arguments: list[str], tmp_path: Path):
    missing = passband("train", "recipes/nowhere.yaml")
    assert missing.status == 2
    assert "there is no recipe at 'recipes/nowhere.yaml'" in missing.err
    empty = passband("train", *arguments, f"data.path={tmp_path}")
    assert empty.status == 2
    assert f"found no image in '{tmp_path}'" in empty.err


def broken(photos: Path, folder: Path, size: int) -> Path:
    """The photographs with one more, of which the first bytes are there: none, or the header but not all pixels."""
    folder.mkdir()
    for file in photos.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "broken.png").write_bytes((photos / "0.png").read_bytes()[:size])
    return folder


@pytest.mark.bad_input
@pytest.mark.parametrize("size", [0, 1000])
def test_a_broken_image_is_named_at_the_end(passband, arguments, photos: Path, tmp_path: Path, size: int):
    path = broken(photos, tmp_path / "broken", size)
    result = passband("train", *arguments, f"data.path={path}")
    assert result.status == 0, result.err
    told = result.err.index("1 file(s) could not be used and were left out")
    assert "broken.png: " in result.err[told:]
    strict = passband("train", *arguments, f"data.path={path}", "name=strict", "--strict")
    assert strict.status == 2
    assert "cannot use the image 'broken.png'" in strict.err
    assert not (Path("runs") / "strict" / "checkpoints").exists()


def test_a_long_list_of_broken_images_is_cut(passband, arguments: list[str], photos: Path, tmp_path: Path):
    path = broken(photos, tmp_path / "broken", 0)
    for i in range(24):
        (path / f"empty-{i:02d}.png").write_bytes(b"")
    result = passband("train", *arguments, f"data.path={path}")
    assert "25 file(s) could not be used" in result.err
    assert "empty-18.png" in result.err
    assert "empty-19.png" not in result.err
    assert "and 5 more" in result.err
