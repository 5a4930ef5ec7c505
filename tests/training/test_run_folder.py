"""A run's folder: what may change when it is resumed, and its log."""

from pathlib import Path
from typing import Any

import pytest

from passband.training import Recipe, RecipeError, RunFolder, make_recipe
from passband.training.checkpoint import checkpoint_folder, write_checkpoint

BASE: dict[str, Any] = {
    "name": "run",
    "data": {"name": "images", "path": "photos"},
    "process": {"name": "vp"},
    "regularizer": {"losses": [{"name": "wavelet"}], "weight": 0.1},
}


def recipe(**changes: dict[str, Any]) -> Recipe:
    """BASE with some of its settings changed."""
    return make_recipe({**BASE, **{key: {**BASE.get(key, {}), **value} for key, value in changes.items()}})


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run with checkpoints of steps 10 and 20."""
    run = RunFolder(tmp_path / "run")
    run.start(recipe())
    for step in (10, 20):
        write_checkpoint(run.checkpoints, step, lambda folder: (folder / "state.json").write_text("{}"))
    return run


def test_start_writes_the_resolved_recipe(tmp_path: Path):
    run = RunFolder(tmp_path / "a" / "b")
    run.start(recipe())
    assert run.recipe() == recipe()
    assert run.log() == []
    assert run.latest() is None


def test_a_run_is_not_overwritten(folder: RunFolder):
    before = folder.recipe_file.read_text()
    with pytest.raises(RecipeError, match="holds a run already: continue it with --resume, or choose another --out"):
        folder.start(recipe(training={"seed": 5}))
    assert folder.recipe_file.read_text() == before


def test_a_run_without_checkpoints_may_start_again(tmp_path: Path):
    run = RunFolder(tmp_path)
    run.start(recipe())
    run.append({"step": 1, "base": 1.0})
    run.snapshots.mkdir()
    (run.snapshots / "step-00000001-std-0.05.safetensors").touch()
    run.start(recipe(training={"seed": 5}))
    assert not run.snapshots.exists()
    assert run.recipe().training.seed == 5
    assert run.log() == []


def test_a_file_is_no_place_for_a_run(tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RecipeError, match=r"file' is a file: choose another --out"):
        RunFolder(tmp_path / "file").start(recipe())
    assert (tmp_path / "file").read_text() == "mine"


def test_no_run_folder(tmp_path: Path):
    with pytest.raises(RecipeError, match=r"is no run folder: it holds no recipe\.yaml"):
        RunFolder(tmp_path).recipe()


FREE = {
    "data": {"path": "elsewhere", "workers": 2, "strict": True},
    "sampling": {"count": 3, "steps": 7, "solver": "heun", "seed": 9, "clip": 1.0},
    "training": {
        "steps": 5,
        "log_every": 3,
        "save_every": 3,
        "sample_every": None,
        "keep_checkpoints": 5,
        "keep_steps": (3,),
        "trackers": (),
    },
}


@pytest.mark.parametrize(("part", "key", "value"), [(p, k, v) for p, values in FREE.items() for k, v in values.items()])
def test_settings_that_change_no_weight_may_change(folder: RunFolder, part: str, key: str, value: Any):
    changed = recipe(**{part: {key: value}})
    assert changed != recipe()
    folder.resume(changed)
    assert folder.recipe() == changed


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("data", "resolution", 32, "data.resolution was 64, now 32"),
        ("data", "flip", False, "data.flip was True, now False"),
        ("data", "crop", "tile", "data.crop was 'center', now 'tile'"),
        ("data", "limit", 3, "data.limit was None, now 3"),
        ("process", "name", "edm", "process.name was 'vp', now 'edm'"),
        ("model", "layers_per_block", 1, "model.layers_per_block was 2, now 1"),
        ("model", "dropout", 0.5, "model.dropout was 0.0, now 0.5"),
        ("regularizer", "weight", 0.2, "regularizer.weight was 0.1, now 0.2"),
        ("regularizer", "gate", {"max_ratio": 1.0}, "regularizer.gate was None, now {'max_ratio': 1.0"),
        ("optimizer", "lr", 1.0, "optimizer.lr was 0.0002, now 1.0"),
        ("training", "seed", 1, "training.seed was 0, now 1"),
        ("training", "batch_size", 1, "training.batch_size was 64, now 1"),
        ("training", "ema", 0.5, "training.ema was 0.999, now 0.5"),
        ("training", "precision", "bf16", "training.precision was 'no', now 'bf16'"),
    ],
)
def test_settings_that_change_weights_may_not(folder: RunFolder, part: str, key: str, value: Any, message: str):
    with pytest.raises(RecipeError, match="started with other settings, so it cannot be resumed") as caught:
        folder.resume(recipe(**{part: {key: value}}))
    assert message in str(caught.value)
    assert folder.recipe() == recipe()


def test_all_changes_are_named(folder: RunFolder):
    with pytest.raises(RecipeError) as caught:
        folder.resume(recipe(optimizer={"lr": 1.0}, training={"seed": 3, "steps": 1}))
    assert "optimizer.lr was 0.0002, now 1.0; training.seed was 0, now 3" in str(caught.value)
    assert "training.steps" not in str(caught.value)


def test_without_the_regularizer_it_is_another_run(folder: RunFolder):
    with pytest.raises(RecipeError, match=r"regularizer was \{.*\}, now None"):
        folder.resume(make_recipe({**BASE, "regularizer": None}))


def test_the_log_is_cut_back_to_the_newest_checkpoint(folder: RunFolder):
    for step in (5, 10, 15, 20, 25, 30):
        folder.append({"step": step, "base": step / 10})
    folder.resume(recipe())
    assert [entry["step"] for entry in folder.log()] == [5, 10, 15, 20]
    folder.append({"step": 25, "base": 9.0})
    assert folder.log()[-1] == {"step": 25, "base": 9.0}


def test_without_a_checkpoint_the_log_starts_anew(tmp_path: Path):
    run = RunFolder(tmp_path)
    run.start(recipe())
    run.append({"step": 1, "base": 1.0})
    run.resume(recipe())
    assert run.log() == []


@pytest.mark.parametrize("rest", ['{"step": 20, "ba', '{"step": 2', "2", '{"step": 20, "base": "'])
def test_half_a_line_is_left_out(folder: RunFolder, rest: str):
    folder.append({"step": 10, "base": 1.5})
    with folder.log_file.open("a") as file:
        file.write(rest)
    assert folder.log() == [{"step": 10, "base": 1.5}]
    folder.resume(recipe())
    folder.append({"step": 21, "base": 2.0})
    assert [entry["step"] for entry in folder.log()] == [10, 21]


def test_the_latest_checkpoint(folder: RunFolder):
    assert folder.latest() == (20, checkpoint_folder(folder.checkpoints, 20))
