"""A run that is monitored: the same weights, its own log and pictures, every kind of denoiser."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from passband.data import save_image
from passband.training import RecipeError, RunFolder, Trainer, make_recipe

MONITOR: dict[str, Any] = {"every": 3, "samples": 4, "ratios": [0.1, 1.0]}


@pytest.fixture(scope="module")
def monitored(tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of `finished`, monitored and shown to TensorBoard."""
    root = tmp_path_factory.mktemp("monitored")
    trainer = Trainer(tiny(training={"monitor": MONITOR, "trackers": ["tensorboard"]}), root)
    trainer.train()
    trainer.end()
    return root


def test_the_weights_are_the_same_bit_for_bit(monitored: Path, finished: Path):
    one, other = (root / "checkpoints" / "step-00000006" for root in (monitored, finished))
    for name in ("unet/diffusion_pytorch_model.safetensors", "ema/diffusion_pytorch_model.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    assert RunFolder(monitored).log() == RunFolder(finished).log()
    assert RunFolder(finished).spectrum_log() == []


def test_it_writes_a_log_pictures_and_what_trackers_show(monitored: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    entries = RunFolder(monitored).spectrum_log()
    assert [entry["step"] for entry in entries] == [3, 6]
    assert entries[0].keys() == entries[1].keys()
    assert {name.split("/")[2] for name in entries[0] if name != "step"} == {"noise-0.1", "noise-1"}
    assert entries[0] != {**entries[1], "step": 3}
    pictures = sorted((monitored / "spectra").iterdir())
    assert [picture.name for picture in pictures] == ["step-00000003.png", "step-00000006.png"]
    events = EventAccumulator(str(monitored / "trackers" / "tiny"))
    events.Reload()
    assert {name for name in events.Tags()["scalars"] if name.startswith("spectrum/")} == entries[0].keys() - {"step"}
    name = "spectrum/excess/noise-0.1/0.25-0.5"
    shown = [(event.step, event.value) for event in events.Scalars(name)]
    assert shown == [(entry["step"], pytest.approx(entry[name])) for entry in entries]
    assert [event.step for event in events.Images("spectrum")] == [3, 6]
    with Image.open(pictures[0]) as picture:
        assert events.Images("spectrum")[0].width == picture.width


def test_a_resumed_run_measures_what_one_does(monitored: Path, tiny, tmp_path: Path):
    recipe = tiny(training={"monitor": MONITOR, "sample_every": None})
    Trainer(recipe, tmp_path).train(until=4)
    late = tmp_path / "spectrum.jsonl"
    late.write_text(late.read_text() + json.dumps({"step": 5, "spectrum/left": 1.0}) + '\n{"cut')
    Trainer(recipe, tmp_path, resume=True).train()
    assert RunFolder(tmp_path).spectrum_log() == RunFolder(monitored).spectrum_log()


def test_it_may_be_switched_on_when_resuming(finished: Path, tiny, tmp_path: Path):
    root = Path(shutil.copytree(finished, tmp_path / "run"))
    recipe = tiny(training={"monitor": MONITOR | {"every": 7, "weights": "last"}, "steps": 7, "sample_every": None})
    Trainer(recipe, root, resume=True).train()
    assert [entry["step"] for entry in RunFolder(root).spectrum_log()] == [7]


def test_adapters_of_a_pipeline_are_watched_in_its_latents(tiny_pipeline, tmp_path: Path):
    for number in range(2):
        save_image(torch.rand(3, 16, 16) * 2 - 1, tmp_path / "images" / f"{number}.png")
    values: dict[str, Any] = {
        "task": "finetune",
        "name": "tiny",
        "pipeline": {"path": str(tiny_pipeline("sd")), "lora": {"rank": 2}},
        "data": {"path": str(tmp_path / "images"), "resolution": 16, "prompt": "a picture"},
        "training": {"steps": 1, "batch_size": 2, "sample_every": None, "trackers": []},
        "sampling": {"count": 1, "steps": 1},
    }
    found = []
    for name, monitor in (("with", {"every": 1, "ratios": [0.3]}), ("without", None)):
        values["training"]["monitor"] = monitor
        trainer = Trainer(make_recipe(values), tmp_path / name)
        trainer.train()
        found.append(trainer.network.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[1])
    (entry,) = RunFolder(tmp_path / "with").spectrum_log()
    assert all(torch.tensor(value).isfinite() for value in entry.values())


def test_an_autoencoder_has_no_estimates_to_monitor():
    values: dict[str, Any] = {"task": "autoencoder", "name": "ae", "data": {"name": "images", "path": "x.zip"}}
    with pytest.raises(RecipeError, match=r"training.monitor looks at the estimates of denoisers.*set it to null"):
        make_recipe(values | {"training": {"monitor": {}}})


def test_a_level_out_of_reach_is_told_before_the_first_step(tiny, tmp_path: Path):
    trainer = Trainer(tiny(training={"monitor": {"ratios": [1e-4]}}), tmp_path)
    with pytest.raises(ValueError, match=r"lie between 0\.01 and 157, got 0\.0001"):
        trainer.train()
    assert trainer.step == 0
