"""The training loop: equal to one written by hand, to itself after an interruption, and whole whatever goes wrong."""

import errno
import hashlib
import io
import json
import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import UNet2DModel
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from passband._seeds import seed_for
from passband.data import save_image
from passband.models import EDMUNet
from passband.training import (
    CheckpointError,
    NonFiniteLossError,
    RecipeError,
    RunFolder,
    Trainer,
    TrainingInterrupted,
    denoiser,
    denoising_loss,
    make_recipe,
    restore,
)
from passband.training import (
    trainer as trainer_module,
)
from passband.training.batches import batches
from passband.training.build import build_dataset, build_process, build_regularizer
from passband.training.denoising import Losses, draw
from passband.training.ema import reconstruct
from passband.training.networks import build_network
from passband.training.run_folder import snapshots


def steps(root: Path) -> list[str]:
    return sorted(folder.name for folder in (root / "checkpoints").iterdir())


def files(root: Path) -> dict[str, bytes]:
    """Everything in a run's last checkpoint, and its log."""
    last = RunFolder(root).latest()
    assert last is not None
    found = {str(file.relative_to(last[1])): file.read_bytes() for file in last[1].rglob("*") if file.is_file()}
    return found | {"log": (root / "log.jsonl").read_bytes()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


# What training does.


@pytest.mark.parametrize("process", ["vp", "edm", "flow"])
def test_equals_a_loop_written_by_hand(tiny, tmp_path: Path, process: str):
    changes: dict[str, Any] = {"process": {"name": process}, "model": {"dropout": 0.0}, "training": {"seed": 4}}
    recipe = tiny(**changes, optimizer={"clip_norm": 0.1, "weight_decay": 0.01, "betas": [0.8, 0.9]})
    trainer = Trainer(recipe, tmp_path)
    trainer.train(until=5)

    network = build_network(recipe.model, recipe.sample_shape, seed_for(4, 0, "model"))
    optimizer = torch.optim.AdamW(network.parameters(), 1.0, (0.8, 0.9), weight_decay=0.01)
    parts = build_process(recipe.process), build_regularizer(recipe.regularizer)
    average: dict[str, Tensor] = {}
    for step, batch in enumerate(batches(build_dataset(recipe.data), 0, 5, 2, seed=4)):
        loss = denoising_loss(network.train(), *parts, batch, 4).total
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1, (step + 1) / 3)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 0.1)
        optimizer.step()
        now = {name: value.clone() for name, value in network.state_dict().items()}
        average = {name: 0.5 * average[name] + 0.5 * value for name, value in now.items()} if average else now
    assert same(trainer.network.state_dict(), network.state_dict())
    for name, value in trainer.averaged.state_dict().items():
        torch.testing.assert_close(value, average[name])


def test_a_process_has_one_precision(tiny, tmp_path: Path):
    Trainer(tiny(), tmp_path / "full")
    with pytest.raises(RecipeError, match=r"'bf16' is another than that of an earlier run in this process"):
        Trainer(tiny(training={"precision": "bf16"}), tmp_path / "half")


@pytest.mark.skipif(torch.cuda.is_available(), reason="fp16 works on this machine")
def test_fp16_needs_a_gpu(tiny, tmp_path: Path):
    AcceleratorState._reset_state()
    try:
        with pytest.raises(RecipeError, match=r"'fp16' needs loss scaling, which there is none of on cpu"):
            Trainer(tiny(training={"precision": "fp16"}), tmp_path)
    finally:
        AcceleratorState._reset_state()


def test_training_learns(tiny, tmp_path: Path):
    changes: dict[str, Any] = {"training": {"steps": 60, "batch_size": 8, "save_every": 60, "sample_every": None}}
    Trainer(tiny(**changes, optimizer={"lr": 5e-3}), tmp_path).train()
    log = RunFolder(tmp_path).log()
    first, last = (sum(entry["base"] for entry in part) / 10 for part in (log[:10], log[-10:]))
    assert last < 0.7 * first


def test_dropout_is_on_in_training_and_off_in_sampling(finished: Path, tiny, tmp_path: Path):
    without = Trainer(tiny(model={"dropout": 0.0}), tmp_path)
    without.train()
    assert RunFolder(finished).log()[0]["base"] != RunFolder(tmp_path).log()[0]["base"]
    trainer = Trainer(tiny(), copied(finished, tmp_path), resume=True)
    trainer.task.main.model.train()
    assert torch.equal(trainer.sample(range(2), averaged=False), trainer.sample(range(2), averaged=False))
    assert trainer.network.training


def test_the_folder_tells_the_run(finished: Path, tiny):
    folder = RunFolder(finished)
    assert folder.recipe() == tiny()
    assert [entry["step"] for entry in folder.log()] == [1, 2, 3, 4, 5, 6]
    assert all(set(entry) == {"step", "base", "spectral", "spectral/amplitude"} for entry in folder.log())
    assert all(entry["spectral"] == pytest.approx(0.01 * entry["spectral/amplitude"]) for entry in folder.log())
    assert steps(finished) == ["step-00000004", "step-00000006"]  # keep_checkpoints: 2
    grids = sorted((finished / "samples").iterdir())
    assert [grid.name for grid in grids] == ["step-00000003.png", "step-00000006.png"]
    with Image.open(grids[0]) as image:
        assert image.width * image.height >= 2 * 16 * 16


def test_only_the_checkpoints_asked_for_are_kept(tiny, tmp_path: Path):
    Trainer(tiny(training={"save_every": 1, "keep_checkpoints": 3, "sample_every": None}), tmp_path).train()
    assert steps(tmp_path) == ["step-00000004", "step-00000005", "step-00000006"]
    assert list(tmp_path.glob("samples/*")) == []


def test_logging_is_as_sparse_as_asked_and_has_the_last_step(tiny, tmp_path: Path):
    seen = []
    trainer = Trainer(tiny(training={"log_every": 4, "sample_every": None}, regularizer=None), tmp_path)
    trainer.train(on_log=lambda step, entry: seen.append((step, entry)))
    assert [step for step, _ in seen] == [4, 6]
    assert [entry for _, entry in seen] == RunFolder(tmp_path).log()
    assert all(set(entry) == {"step", "base"} for _, entry in seen)


def test_checkpoints_load_with_diffusers(finished: Path, tiny, tmp_path: Path):
    trainer = Trainer(tiny(), copied(finished, tmp_path), resume=True)
    last = finished / "checkpoints" / "step-00000006"
    for name, network in (("unet", trainer.network), ("ema", trainer.averaged)):
        loaded = UNet2DModel.from_pretrained(last / name, use_safetensors=True)
        assert same(loaded.state_dict(), network.state_dict())
    assert not same(trainer.network.state_dict(), trainer.averaged.state_dict())
    assert {file.suffix for file in last.rglob("*") if file.is_file()} == {".json", ".safetensors"}


def test_a_pretrained_network_is_where_training_starts(finished: Path, tiny, tmp_path: Path):
    start = finished / "checkpoints" / "step-00000006" / "ema"
    trainer = Trainer(tiny(model={"pretrained": str(start)}), tmp_path)
    assert same(trainer.network.state_dict(), UNet2DModel.from_pretrained(start).state_dict())


def test_tensorboard_gets_what_the_log_gets(tiny, tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = tiny(training={"trackers": ["tensorboard"], "steps": 2, "sample_every": 2})
    trainer = Trainer(recipe, tmp_path)
    trainer.train()
    trainer.end()
    events = EventAccumulator(str(tmp_path / "trackers" / "tiny"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("base")]
    assert found == [(entry["step"], pytest.approx(entry["base"])) for entry in RunFolder(tmp_path).log()]
    assert set(events.Tags()["scalars"]) == {"base", "spectral", "spectral/amplitude"}
    assert events.Tags()["images"]
    picture = Image.open(io.BytesIO(events.Images(events.Tags()["images"][0])[0].encoded_image_string))
    assert picture.size == Image.open(tmp_path / "samples" / "step-00000002.png").size


def test_an_unknown_tracker_is_named_before_anything_is_written(tiny, tmp_path: Path):
    with pytest.raises(ValueError, match=r"unknown tracker: got 'tensorbord' \(did you mean 'tensorboard'"):
        Trainer(tiny(training={"trackers": ["tensorbord"]}), tmp_path / "run")
    with pytest.raises(ValueError, match=r"the tracker 'clearml' is not installed"):
        Trainer(tiny(training={"trackers": ["clearml"]}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("accumulate", [2, 4])
def test_parts_of_a_batch_give_the_step_of_the_whole(tiny, tmp_path: Path, accumulate: int):
    def weights(root: Path, **training: int) -> dict[str, Tensor]:
        settings = {"batch_size": 8, "steps": 2, "sample_every": None, **training}
        trainer = Trainer(tiny(model={"dropout": 0.0}, training=settings, optimizer={"clip_norm": 0.5}), root)
        trainer.train()
        return trainer.network.state_dict()

    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts", accumulate=accumulate)
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-3, atol=1e-5)
    logs = [RunFolder(tmp_path / name).log() for name in ("whole", "parts")]
    for one, other in zip(*logs, strict=True):
        assert one == pytest.approx(other, rel=1e-5)


def test_the_learning_rate_follows_its_schedule(tiny, tmp_path: Path):
    settings = {"warmup_steps": 0, "schedule": "linear", "decay_steps": 4}
    trainer = Trainer(tiny(optimizer=settings), tmp_path)
    for until, expected in ((1, 1e-3), (3, 5e-4), (6, 0.0)):
        trainer.train(until=until)
        assert trainer.task.main.optimizer.param_groups[0]["lr"] == pytest.approx(expected)


def test_channels_last_resumes_in_its_layout(tiny, tmp_path: Path):
    recipe = tiny(training={"channels_last": True, "sample_every": None})
    Trainer(recipe, tmp_path).train(until=2)
    trainer = Trainer(recipe, tmp_path, resume=True)
    weight = next(weight for weight in trainer.network.parameters() if weight.ndim == 4 and weight.shape[1] > 1)
    assert not weight.is_contiguous()
    assert trainer.task.main.optimizer.state[weight]["exp_avg"].stride() == weight.stride()


def test_the_average_by_half_life(tiny, tmp_path: Path):
    trainer = Trainer(tiny(training={"ema": {"halflife": 4, "ramp_up": None}}), tmp_path)
    start = {name: value.clone() for name, value in trainer.averaged.state_dict().items()}
    trainer.train(until=1)
    decay = 0.5 ** (2 / 4)
    for name, value in trainer.averaged.state_dict().items():
        torch.testing.assert_close(value, decay * start[name] + (1 - decay) * trainer.network.state_dict()[name])


EDM = {
    "name": "edm_unet",
    "model_channels": 8,
    "channel_mult": [1, 2],
    "num_blocks": 1,
    "attn_resolutions": [],
    "augment_dim": 9,
    "class_conditional": True,
    "label_dropout": 0.3,
}


def edm_recipe(tiny, labelled: Path, **training: object):
    data: dict[str, Any] = {"name": "images", "path": labelled, "resolution": 16, "labels": "folder", "flip": False}
    data["augment"] = {"probability": 0.5}
    values = tiny(training=training).model_dump() | {"data": data, "process": {"name": "edm"}, "model": EDM}
    return make_recipe(values | {"sampling": {"count": 2, "steps": 2, "solver": "heun"}})


def test_edm_with_classes_and_augmentation_trains_resumes_and_restores(tiny, labelled: Path, tmp_path: Path):
    seen = []
    trainer = Trainer(edm_recipe(tiny, labelled), tmp_path / "whole")
    trainer.task.main.model.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True)
    trainer.train()
    trained = seen[:3]
    assert all(set(kwargs) == {"class_labels", "augment_labels"} for kwargs in trained)
    assert all(kwargs["class_labels"].shape == (2, 3) for kwargs in trained)
    assert any(bool(kwargs["augment_labels"].any()) for kwargs in trained)
    Trainer(edm_recipe(tiny, labelled), tmp_path / "parts").train(until=4)
    Trainer(edm_recipe(tiny, labelled), tmp_path / "parts", resume=True).train()
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    found = restore(tmp_path / "whole")
    assert isinstance(found.model, EDMUNet)
    assert found.num_classes == 3
    assert same(found.model.state_dict(), trainer.averaged.state_dict())


def test_a_few_steps_of_a_pretrained_edm_network(tiny, labelled: Path, tmp_path: Path):
    Trainer(edm_recipe(tiny, labelled), tmp_path / "first").train()
    start = tmp_path / "first" / "checkpoints" / "step-00000006" / "ema"
    recipe = edm_recipe(tiny, labelled, steps=1)
    model = {"name": "edm_unet", "pretrained": str(start), "class_conditional": True, "dropout": 0.0}
    trainer = Trainer(make_recipe(recipe.model_dump() | {"model": model}), tmp_path / "second")
    assert same(trainer.network.state_dict(), restore(tmp_path / "first").model.state_dict())
    trainer.train()
    assert not same(trainer.network.state_dict(), restore(tmp_path / "first").model.state_dict())


@pytest.mark.parametrize("labels", [0, 5])
def test_augmentation_needs_a_network_that_is_told(tiny, labelled: Path, tmp_path: Path, labels: int):
    recipe = edm_recipe(tiny, labelled)
    network = build_network(recipe.model.model_copy(update={"augment_dim": labels}), recipe.sample_shape, 0, 3)
    network.save_pretrained(tmp_path / "network")
    model = {"name": "edm_unet", "pretrained": str(tmp_path / "network"), "class_conditional": True}
    with pytest.raises(RecipeError, match=f"takes 9 augmentation labels.*this one takes {labels or 'none'}"):
        Trainer(make_recipe(recipe.model_dump() | {"model": model}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_snapshots_make_averages_of_any_width(tiny, tmp_path: Path):
    settings = {"steps": 24, "snapshots": {"stds": [0.05, 0.1], "every": 2}, "sample_every": None, "save_every": 12}
    Trainer(tiny(training=settings), tmp_path).train(until=11)
    shutil.rmtree(tmp_path / "checkpoints" / "step-00000011", ignore_errors=True)
    trainer = Trainer(tiny(training=settings), tmp_path, resume=True)
    trainer.train()
    stored = snapshots(tmp_path)
    assert [(found.std, found.images) for found in stored[:4]] == [(0.05, 4), (0.1, 4), (0.05, 8), (0.1, 8)]
    assert len(stored) == 24
    tracked = trainer.averages["power-0.1"].state_dict()
    for name, value in reconstruct(stored, std=0.1).items():
        torch.testing.assert_close(value, tracked[name], rtol=1e-4, atol=1e-5)


def test_the_preconditioning_of_an_imported_network_must_be_the_recipes(tiny, labelled: Path, tmp_path: Path):
    Trainer(edm_recipe(tiny, labelled, steps=1), tmp_path / "first").train()
    start = tmp_path / "first" / "checkpoints" / "step-00000001" / "ema"
    (start / "process.json").write_text('{"name": "edm_vp"}')
    recipe = edm_recipe(tiny, labelled).model_dump()
    recipe["model"] = {"name": "edm_unet", "pretrained": str(start), "class_conditional": True}
    with pytest.raises(RecipeError, match=r"was trained with VPPreconditioned\(.*, the recipe has EDM\("):
        Trainer(make_recipe(recipe), tmp_path / "second")
    Trainer(make_recipe(recipe | {"process": {"name": "edm_vp"}}), tmp_path / "second").train(until=1)


def test_snapshots_of_another_memory_layout(tiny, tmp_path: Path):
    settings = {"steps": 2, "snapshots": {"every": 1}, "channels_last": True, "sample_every": None}
    trainer = Trainer(tiny(training=settings), tmp_path)
    trainer.train()
    found = load_file(snapshots(tmp_path)[-1].weights)
    assert same(found, trainer.averages["power-0.1"].state_dict())


def test_bfloat16(tiny, tmp_path: Path):
    AcceleratorState._reset_state()
    try:
        trainer = Trainer(tiny(training={"precision": "bf16", "steps": 2}), tmp_path)
        trainer.train()
    finally:
        AcceleratorState._reset_state()
    assert {weight.dtype for weight in trainer.network.parameters()} == {torch.float32}
    full = Trainer(tiny(training={"steps": 2}), tmp_path / "full")
    full.train()
    logs = [RunFolder(root).log()[0]["base"] for root in (tmp_path, tmp_path / "full")]
    assert logs[0] != logs[1]
    assert logs[0] == pytest.approx(logs[1], rel=0.05)


# Interrupted and resumed.


def test_stages_give_the_bits_of_one_go(finished: Path, tiny, tmp_path: Path):
    Trainer(tiny(), tmp_path).train(until=2)
    resumed = Trainer(tiny(), tmp_path, resume=True)
    resumed.train(until=3)
    resumed.train(until=4)
    assert resumed.step == 4
    Trainer(tiny(), tmp_path, resume=True).train()
    assert files(tmp_path) == files(finished)


def test_a_killed_run_continues_from_its_last_checkpoint(finished: Path, tiny, tmp_path: Path):
    root = copied(finished, tmp_path)
    shutil.rmtree(root / "checkpoints" / "step-00000006")
    (root / "checkpoints" / ".step-00000006.partial" / "unet").mkdir(parents=True)
    with (root / "log.jsonl").open("a") as log:
        log.write('{"step": 7, "ba')
    trainer = Trainer(tiny(), root, resume=True)
    assert trainer.step == 4
    torch.rand(3)  # the global generator is elsewhere
    trainer.train()
    assert files(root) == files(finished)
    assert steps(root) == ["step-00000004", "step-00000006"]


def test_resuming_a_finished_run_changes_nothing(finished: Path, tiny, tmp_path: Path):
    root = copied(finished, tmp_path)
    Trainer(tiny(), root, resume=True).train()
    assert files(root) == files(finished)


def test_resuming_nothing_starts(tiny, tmp_path: Path):
    trainer = Trainer(tiny(), tmp_path, resume=True)
    assert trainer.step == 0
    assert RunFolder(tmp_path).recipe() == tiny()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_saves(finished: Path, tiny, tmp_path: Path, number: signal.Signals):
    before = signal.getsignal(number)

    def stop(step: int, entry: dict[str, float]) -> None:
        if step == 3:
            os.kill(os.getpid(), number)

    trainer = Trainer(tiny(), tmp_path)
    with pytest.raises(TrainingInterrupted, match="stopped at step 3 and saved"):
        trainer.train(on_log=stop)
    assert signal.getsignal(number) is before
    assert steps(tmp_path) == ["step-00000002", "step-00000003"]
    Trainer(tiny(), tmp_path, resume=True).train()
    assert files(tmp_path) == files(finished)


def test_a_second_interrupt_stops_at_once(tiny, tmp_path: Path):
    def stop(step: int, entry: dict[str, float]) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)  # ignored, where a shell started the tests in the background
    with pytest.raises(KeyboardInterrupt):
        Trainer(tiny(), tmp_path).train(on_log=stop)
    assert signal.getsignal(signal.SIGINT) is before
    assert not (tmp_path / "checkpoints").exists()


def test_training_works_in_a_thread(finished: Path, tiny, tmp_path: Path):
    thread = threading.Thread(target=Trainer(tiny(), tmp_path).train)
    thread.start()
    thread.join()
    assert files(tmp_path) == files(finished)


def test_an_existing_run_is_not_overwritten(finished: Path, tiny, tmp_path: Path):
    root = copied(finished, tmp_path)
    with pytest.raises(RecipeError, match="holds a run already"):
        Trainer(tiny(), root)
    assert files(root) == files(finished)


def test_other_settings_do_not_resume(finished: Path, tiny, tmp_path: Path):
    with pytest.raises(RecipeError, match=r"optimizer\.lr was 0\.001, now 0\.5"):
        Trainer(tiny(optimizer={"lr": 0.5}), copied(finished, tmp_path), resume=True)


def test_a_longer_run_continues(finished: Path, tiny, tmp_path: Path):
    root = copied(finished, tmp_path)
    Trainer(tiny(training={"steps": 7}), root, resume=True).train()
    assert steps(root)[-1] == "step-00000007"


@pytest.mark.parametrize(
    "file",
    ["state.safetensors", "state.json", "unet/diffusion_pytorch_model.safetensors", "ema/config.json", "manifest.json"],
)
@pytest.mark.parametrize("damage", ["gone", "cut", "flipped"])
def test_a_torn_checkpoint_gives_way_to_the_one_before(finished: Path, tiny, tmp_path: Path, file: str, damage: str):
    root = copied(finished, tmp_path)
    torn = root / "checkpoints" / "step-00000006" / file
    content = torn.read_bytes()
    match damage:
        case "gone":
            torn.unlink()
        case "cut":
            torn.write_bytes(content[:-5])
        case "flipped":
            torn.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
    trainer = Trainer(tiny(), root, resume=True)
    assert trainer.step == 4
    trainer.train()
    assert files(root) == files(finished)


def test_when_all_checkpoints_are_torn_nothing_is_overwritten(finished: Path, tiny, tmp_path: Path):
    root = copied(finished, tmp_path)
    for folder in (root / "checkpoints").iterdir():
        (folder / "state.json").unlink()
    before = sorted(root.rglob("*"))
    with pytest.raises(CheckpointError, match=r"none of the checkpoints in .* is whole \(step-00000006: state\.json"):
        Trainer(tiny(), root, resume=True)
    assert sorted(root.rglob("*")) == before


def test_a_state_of_another_format_is_named(finished: Path, tiny, tmp_path: Path):
    root = copied(finished, tmp_path)
    folder = root / "checkpoints" / "step-00000006"
    (folder / "state.json").write_text('{"dict": [["step", 6]]}')
    listed = json.loads((folder / "manifest.json").read_text())
    content = (folder / "state.json").read_bytes()
    listed["state.json"] = [len(content), hashlib.blake2b(content, digest_size=16).hexdigest()]
    (folder / "manifest.json").write_text(json.dumps(listed))
    with pytest.raises(CheckpointError, match="step-00000006' cannot be read"):
        Trainer(tiny(), root, resume=True)


def test_steps_asked_for_are_kept_for_good(tiny, tmp_path: Path):
    settings = {"save_every": 1, "keep_checkpoints": 1, "keep_steps": [2, 3], "sample_every": None}
    Trainer(tiny(training=settings), tmp_path).train()
    assert steps(tmp_path) == ["step-00000002", "step-00000003", "step-00000006"]


# What goes wrong.


def spoil(monkeypatch: pytest.MonkeyPatch, step: int, change) -> None:
    """Change the losses of one step."""
    calls = []

    def loss(model, *rest) -> Losses:
        calls.append(None)
        losses = denoising_loss(model, *rest)
        return change(model, losses) if len(calls) == step else losses

    monkeypatch.setattr(denoiser, "denoising_loss", loss)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize(("log_every", "stopped"), [(1, 3), (100, 4)])
def test_a_bad_loss_stops_before_it_is_saved(
    tiny, tmp_path: Path, monkeypatch, bad: float, log_every: int, stopped: int
):
    spoil(monkeypatch, 3, lambda model, losses: losses._replace(base=losses.base * bad))
    trainer = Trainer(tiny(training={"log_every": log_every, "sample_every": None}), tmp_path)
    message = f"NaN or infinite at step 3, so training stopped at step {stopped}; the checkpoint of step 2 is kept"
    with pytest.raises(NonFiniteLossError, match=message):
        trainer.train()
    assert steps(tmp_path) == ["step-00000002"]
    assert [entry["step"] for entry in RunFolder(tmp_path).log()] == ([1, 2] if log_every == 1 else [])
    # The batch is there for study, as the network saw it.
    failed = tmp_path / "failed-step-00000003"
    found = load_file(failed / "batch.safetensors")
    (batch,) = batches(trainer.dataset, 2, 3, 2, seed=0)
    noise, t = draw(trainer.task.process, batch, 0)
    assert same(found, batch_tensors(batch, noise, t, trainer.task.process.add_noise(batch.clean, noise, t)))
    assert json.loads((failed / "batch.json").read_text())["step"] == 3


def batch_tensors(batch, noise: Tensor, t: Tensor, noisy: Tensor) -> dict[str, Tensor]:
    return {"clean": batch.clean, "positions": batch.positions, "noise": noise, "t": t, "noisy": noisy}


def test_the_files_of_a_bad_batch_are_named(tiny, tmp_path: Path, monkeypatch):
    for name in ("a", "b"):
        save_image(torch.zeros(1, 16, 16), tmp_path / "images" / f"{name}.png")
    spoil(monkeypatch, 1, lambda model, losses: losses._replace(base=losses.base * float("nan")))
    data = {"name": "images", "path": str(tmp_path / "images"), "resolution": 16, "channels": 1}
    recipe = make_recipe(tiny().model_dump() | {"data": data})
    with pytest.raises(NonFiniteLossError, match="failed-step-00000001"):
        Trainer(recipe, tmp_path / "run").train()
    facts = json.loads((tmp_path / "run" / "failed-step-00000001" / "batch.json").read_text())
    assert sorted(facts["files"]) == [["a.png", 0], ["b.png", 0]]


def test_a_bad_spectral_term_counts_too(tiny, tmp_path: Path, monkeypatch):
    spoil(monkeypatch, 1, lambda model, losses: losses._replace(spectral=losses.spectral * float("nan")))
    with pytest.raises(NonFiniteLossError, match=r"at step 1, .*no checkpoint had been written"):
        Trainer(tiny(), tmp_path).train()


def test_a_finite_loss_with_a_bad_gradient_is_not_saved(tiny, tmp_path: Path, monkeypatch):
    def bad_gradient(model, losses: Losses) -> Losses:
        zero = next(model.parameters()).sum() * 0
        return losses._replace(base=losses.base + zero.sqrt())

    spoil(monkeypatch, 4, bad_gradient)
    with pytest.raises(NonFiniteLossError, match=r"weights became NaN or infinite.*the checkpoint of step 2 is kept"):
        Trainer(tiny(training={"sample_every": None}), tmp_path).train()
    assert steps(tmp_path) == ["step-00000002"]


def test_a_bad_loss_spoils_no_snapshot(tiny, tmp_path: Path, monkeypatch):
    spoil(monkeypatch, 2, lambda model, losses: losses._replace(base=losses.base * float("nan")))
    settings = {"snapshots": {"every": 3}, "log_every": 100, "save_every": 100, "sample_every": None}
    with pytest.raises(NonFiniteLossError, match=r"at step 2, so training stopped at step 3"):
        Trainer(tiny(training=settings), tmp_path).train()
    assert not (tmp_path / "snapshots").exists()


def test_a_huge_learning_rate_is_not_saved(tiny, tmp_path: Path):
    with pytest.raises(NonFiniteLossError, match=r"at step 2, .*Lower optimizer\.lr"):
        Trainer(tiny(optimizer={"lr": 1e30, "warmup_steps": 0}), tmp_path).train()
    assert not (tmp_path / "checkpoints").exists()


def test_a_full_disk_leaves_the_earlier_checkpoint(finished: Path, tiny, tmp_path: Path):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        trainer = Trainer(tiny(), tmp_path)
        trainer.train(until=2)
        patch.setattr(trainer_module, "save_state", full)
        with pytest.raises(CheckpointError, match=r"No space left on device.*earlier checkpoints are untouched"):
            trainer.train()
    assert steps(tmp_path) == ["step-00000002"]
    Trainer(tiny(), tmp_path, resume=True).train()
    assert files(tmp_path) == files(finished)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling": {"steps": 2000}}, "fit each other: steps must be at least 1 and at most 1000, got 2000"),
        ({"process": {"name": "flow"}, "sampling": {"spacing": "karras"}}, "fit each other: spacing 'karras' needs"),
        ({"data": {"cells": [3]}}, "a cell size must divide half the image's size"),
        ({"process": {"name": "edm", "sigma_min": 3.0, "sigma_max": 2.0}}, "expected 0 < sigma_min < sigma_max"),
        ({"model": {"pretrained": "nowhere"}}, "there is no saved network at 'nowhere'"),
        ({"regularizer": {"losses": [{"name": "wavelet", "wavelet": "har"}]}}, "fit each other: .*did you mean 'haar'"),
        ({"regularizer": {"losses": [{"name": "wavelet", "levels": 9}]}}, "fit each other: .*levels"),
    ],
)
def test_faults_show_before_anything_is_written(tiny, tmp_path: Path, changes: dict[str, Any], message: str):
    recipe = tiny(**changes)
    with pytest.raises((ValueError, OSError), match=message):
        Trainer(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Two processes.

SCRIPT = """
import gc, os, signal, sys
from torch.nn.parallel import DistributedDataParallel
from passband.training import CheckpointError, Trainer, TrainingInterrupted, load_recipe, trainer as module

def stop(step, entry):
    if step == 2:
        os.kill(os.getpid(), signal.SIGINT)

recipe = load_recipe(sys.argv[1])
try:
    Trainer(recipe, sys.argv[2]).train(on_log=stop)
except TrainingInterrupted as error:
    print("interrupted:", error)
trainer = Trainer(recipe, sys.argv[2], resume=True)
assert trainer.accelerator.num_processes == 2 and trainer.step == 2

odd = recipe.model_copy(update={"training": recipe.training.model_copy(update={"batch_size": 3})})
try:
    Trainer(odd, sys.argv[2] + "-odd")
except ValueError as error:
    print("not shared out:", error)

def full(*_):
    raise OSError(28, "No space left on device")

first = trainer.accelerator.is_main_process
save_state, module.save_state = module.save_state, full if first else module.save_state
try:
    trainer.save()
except CheckpointError:
    print("not saved")
module.save_state = save_state
try:
    Trainer(recipe, sys.argv[2] + ("" if first else "-elsewhere"), resume=True)
except CheckpointError as error:
    print("not shared:", error)
trainer.train()
trainer.end()
# A wrapped network that outlives its group may hang or abort the process.
assert not any(type(found) is DistributedDataParallel for found in gc.get_objects())
"""


def test_two_processes_give_the_numbers_of_one(tiny, two_processes, tmp_path: Path):
    recipe = tiny(model={"dropout": 0.0}, training={"batch_size": 4, "steps": 4})
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.to_yaml())
    outputs = two_processes("-c", SCRIPT, file, tmp_path / "two")
    assert all("interrupted: stopped at step 2" in output for output in outputs)
    assert all("not shared out: batch_size must be a multiple of processes" in output for output in outputs)
    assert not (tmp_path / "two-odd").exists()
    assert all("not saved" in output for output in outputs)
    assert all("not shared: the processes would resume from different steps, [0, 2]" in output for output in outputs)
    alone = Trainer(recipe, tmp_path / "one")
    alone.train()
    one, two = RunFolder(tmp_path / "one"), RunFolder(tmp_path / "two")
    assert len(two.log()) == 4
    for expected, found in zip(one.log(), two.log(), strict=True):
        assert found == pytest.approx(expected, rel=1e-5)
    loaded = UNet2DModel.from_pretrained(two.checkpoints / "step-00000004" / "unet").state_dict()
    for name, value in alone.network.state_dict().items():
        torch.testing.assert_close(loaded[name], value, rtol=1e-5, atol=1e-5)
