"""Recipes of JiT with and without Spectral Forcing: trained, saved, resumed, restored as they were, or refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from passband.forcing import attached, recorded
from passband.models import JiT, load_model
from passband.process import Flow
from passband.training import Trainer, make_recipe
from passband.training.batches import Batch
from passband.training.checkpoint import CheckpointError
from passband.training.conditioning import no_classes, sampled_classes
from passband.training.config import Recipe, RecipeError, load_recipe
from passband.training.denoising import denoising_loss, draw
from passband.training.draw import Drawing, read_sample
from passband.training.networks import build_network
from passband.training.restore import guided, restore
from passband.training.sections import JiTModel

FORCING = {"front": {"name": "linear", "c_min": 0.05, "c_max": 1.0}, "kappa": 30.0, "window": None, "exact": False}
PROCESS = {
    "name": "flow", "data_at": 1, "prediction": "sample", "time_scale": 1, "logit_normal": [-0.8, 0.8],
    "velocity_floor": 0.05,
}  # fmt: skip
MODEL = {
    "name": "jit", "size": "B/8", "patch_size": 4, "hidden_size": 16, "depth": 2, "num_heads": 2, "bottleneck_dim": 8,
    "in_context_len": 2, "in_context_start": 1, "class_conditional": True, "label_dropout": 0.3,
}  # fmt: skip


def jit_recipe(labelled: Path, **changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "name": "jit",
        "data": {"name": "images", "path": str(labelled), "resolution": 16, "labels": "folder"},
        "process": PROCESS,
        "model": MODEL,
        "forcing": FORCING,
        "loss": {"space": "velocity"},
        "optimizer": {"lr": 1e-2, "betas": [0.9, 0.95]},
        "training": {
            "steps": 4, "batch_size": 4, "ema": [0.9, 0.5], "log_every": 1, "save_every": 2, "sample_every": None,
            "trackers": [],
        },
        "sampling": {
            "count": 2, "steps": 3, "solver": "heun", "guidance": {"scale": 2.0, "interval": [0.1, 1.0]},
            "classes": "balanced",
        },
    }  # fmt: skip
    return make_recipe({**values, **changes})


@pytest.fixture(scope="module")
def forced(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("forced") / "run"
    Trainer(jit_recipe(labelled), root).train()
    return root


@pytest.fixture(scope="module")
def plain(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("plain") / "run"
    Trainer(jit_recipe(labelled, forcing=None), root).train()
    return root


def test_a_checkpoint_holds_transformer_averages_and_the_forcing(forced: Path):
    checkpoint = forced / "checkpoints" / "step-00000004"
    assert {"transformer", "ema", "ema2"} <= {found.name for found in checkpoint.iterdir()}
    for name in ("transformer", "ema", "ema2"):
        assert json.loads((checkpoint / name / "config.json").read_text())["_spectral_forcing"] == FORCING
        assert recorded(load_model(checkpoint / name)) == FORCING


def test_both_averages_follow_their_own_decay(labelled: Path, tmp_path: Path):
    trainer = Trainer(jit_recipe(labelled), tmp_path / "run")
    name = "final_layer.linear.bias"
    trainer.train(until=1)
    first = trainer.network.state_dict()[name].clone()
    trainer.train(until=2)
    second = trainer.network.state_dict()[name]
    for average, decay in (("ema", 0.9), ("ema2", 0.5)):
        found = trainer.averages[average].module.state_dict()[name]
        torch.testing.assert_close(found, decay * first + (1 - decay) * second)


def test_it_is_restored_with_its_forcing_and_draws_what_the_trainer_draws(forced: Path, labelled: Path):
    trainer = Trainer(jit_recipe(labelled), forced, resume=True)
    found = restore(forced)
    assert isinstance(found.model, JiT)
    assert found.forcing == FORCING
    drawing = Drawing(found, forced)
    assert drawing.note["forcing"] == FORCING
    assert drawing.note["guidance"] == {"scale": 2.0, "interval": [0.1, 1.0]}
    assert (found.num_classes, drawing.note["class"]) == (3, "seed % classes")
    for weights, model in (
        ("ema", trainer.averaged),
        ("ema2", trainer.averages["ema2"].module),
        ("last", trainer.network),
    ):
        restored = restore(forced, weights=weights).model
        assert attached(restored) is not None
        assert all(
            torch.equal(a, b) for a, b in zip(model.state_dict().values(), restored.state_dict().values(), strict=True)
        )


def test_samples_of_trainer_and_of_the_restored_network_are_equal(forced: Path, labelled: Path, tmp_path: Path):
    trainer = Trainer(jit_recipe(labelled), forced, resume=True)
    drawing = Drawing(restore(forced), forced)
    drawing.draw(tmp_path / "samples", range(2))
    expected = (trainer.sample(range(2)).clamp(-1, 1) + 1) * 127.5
    for seed in range(2):
        assert (read_sample(tmp_path / "samples", seed, 3).float() - expected[seed]).abs().max() <= 1


def test_the_forcing_matters_and_another_than_the_recorded_one_needs_insistence(forced: Path, plain: Path):
    with pytest.raises(ValueError, match=r"trained with Spectral Forcing .* asked to sample without Spectral Forcing"):
        restore(forced, forcing="none")
    with pytest.raises(ValueError, match="trained without Spectral Forcing, and is asked to sample with"):
        restore(plain, forcing="linear")
    with pytest.raises(ValueError, match=r"unknown forcing: got 'liner' .did you mean 'linear'"):
        restore(plain, forcing="liner")
    assert restore(forced, forcing="linear").forcing == FORCING  # the recorded one by its name
    assert restore(forced, forcing="none", insist=True).forcing is None
    assert restore(plain).forcing is None
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([0.1, 0.2])
    with torch.no_grad():
        with_it, without = (restore(forced, forcing=f, insist=True).model(x, t) for f in ("recorded", "none"))
    assert not torch.allclose(with_it, without)
    assert restore(plain, forcing="linear", insist=True).forcing == FORCING


@pytest.mark.parametrize("forcing", ["recorded", "none"])
def test_samples_are_drawn_without_the_forcing_on_insistence(forced: Path, tmp_path: Path, forcing: str):
    drawing = Drawing(restore(forced, forcing=forcing, insist=True), forced)
    drawing.draw(tmp_path / forcing, range(1))
    assert read_sample(tmp_path / forcing, 0, 3).shape == (3, 16, 16)
    assert ("forcing" in drawing.note) == (forcing == "recorded")


def test_guidance_needs_a_network_that_knows_no_class(labelled: Path, forced: Path, tmp_path: Path):
    assert guided(restore(forced), 3.0).sampling.guidance.scale == 3.0
    recipe = jit_recipe(labelled, model={**MODEL, "label_dropout": 0}, sampling={"steps": 2})
    Trainer(recipe, tmp_path / "run").train(until=1)
    found = restore(tmp_path / "run")
    assert guided(found, None) is found
    assert guided(found, 1.0).sampling.guidance.scale == 1
    with pytest.raises(ValueError, match=r"guidance needs .* trained without classes too.*label_dropout is 0"):
        guided(found, 2.0)


def test_an_unknown_average_names_those_there_are(forced: Path):
    with pytest.raises(CheckpointError, match=r"holds no weights 'ema3' .did you mean 'ema'.*: ema, ema2"):
        restore(forced, weights="ema3")


def test_a_resumed_run_reaches_the_same_bits(forced: Path, labelled: Path, tmp_path: Path):
    recipe = jit_recipe(labelled)
    Trainer(recipe, tmp_path / "run").train(until=2)
    again = Trainer(recipe, tmp_path / "run", resume=True)
    again.train()
    whole = load_model(forced / "checkpoints" / "step-00000004" / "transformer").state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in again.network.state_dict().items())


def test_a_pretrained_network_keeps_weights_and_forcing_under_another_dropout(forced: Path):
    folder = forced / "checkpoints" / "step-00000004" / "ema"
    settings = JiTModel(**{**MODEL, "pretrained": folder})
    kept = build_network(settings, (3, 16, 16), 0, 3)
    changed = build_network(settings.model_copy(update={"dropout": 0.5}), (3, 16, 16), 0, 3)
    assert (kept.config["proj_drop"], changed.config["attn_drop"], changed.config["proj_drop"]) == (0, 0.5, 0.5)
    assert recorded(kept) == recorded(changed) == FORCING
    assert all(torch.equal(value, changed.state_dict()[name]) for name, value in kept.state_dict().items())


def test_a_forced_network_is_fine_tuned_with_its_forcing_or_deliberately_without(
    forced: Path, labelled: Path, tmp_path: Path
):
    model = {**MODEL, "pretrained": str(forced / "checkpoints" / "step-00000004" / "ema")}
    with pytest.raises(RecipeError, match=r"was trained with Spectral Forcing: set forcing to .*linear"):
        Trainer(jit_recipe(labelled, model=model, forcing=None), tmp_path / "a")
    identity = {"front": {"name": "constant", "cutoff": 1.0}, "exact": True}
    for number, forcing in enumerate((FORCING, identity)):
        trainer = Trainer(jit_recipe(labelled, model=model, forcing=forcing), tmp_path / f"run-{number}")
        trainer.train(until=1)
        assert attached(trainer.network) is not None


@pytest.mark.parametrize(
    ("process", "space"),
    [
        ({**PROCESS, "prediction": "velocity", "hybrid": True}, "prediction"),
        ({**PROCESS, "prediction": "velocity"}, "prediction"),
        (PROCESS, "sample"),
        (PROCESS, "prediction"),
    ],
)
def test_every_prediction_trains_and_samples(labelled: Path, tmp_path: Path, process: dict, space: str):
    recipe = jit_recipe(labelled, process=process, loss={"space": space})
    trainer = Trainer(recipe, tmp_path / "run")
    trainer.train(until=2)
    outputs = 6 if process.get("hybrid") else 3
    assert trainer.network.config["out_channels"] == outputs
    assert torch.isfinite(trainer.sample(range(2))).all()


def test_the_v_loss_of_a_clean_prediction_is_the_published_one():
    process = Flow(1, "sample", logit_normal=(-0.8, 0.8), velocity_floor=0.05)
    clean = torch.randn(8, 1, 4, 4)
    batch = Batch(clean, torch.arange(8))
    model = lambda x, t: 0.5 * x  # noqa: E731
    found = denoising_loss(model, process, None, batch, seed=3, space="velocity").base
    noise, t = draw(process, batch, 3)
    t = t.reshape(-1, 1, 1, 1)
    noisy = t * clean + (1 - t) * noise
    floored = (1 - t).clamp(min=0.05)
    expected = ((0.5 * noisy - noisy) / floored - (clean - noisy) / floored).square().mean()
    torch.testing.assert_close(found, expected)


def test_gradient_checkpointing_changes_no_gradient(labelled: Path, tmp_path: Path):
    settings = JiTModel(**MODEL)
    networks = [
        build_network(s, (3, 16, 16), 0, 3)
        for s in (settings, settings.model_copy(update={"gradient_checkpointing": True}))
    ]
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([0.2, 0.7])
    for network in networks:
        torch.nn.init.normal_(network.final_layer.linear.weight, std=0.1)
        network.load_state_dict(networks[0].state_dict())
        network.train()(x, t, torch.tensor([0, 3])).square().mean().backward()
    for a, b in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad)


def test_classes_in_turn_and_the_null_class():
    assert sampled_classes(range(2, 8), 3, "balanced").tolist() == [2, 0, 1, 2, 0, 1]
    network = build_network(JiTModel(**MODEL), (3, 16, 16), 0, 3)
    assert no_classes(network, 2).tolist() == [3, 3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {**MODEL, "size": "B/15"}}, r"model.size: unknown size .did you mean 'B/16'.*7B/32"),
        (
            {"model": {**MODEL, "label_dropout": 0}},
            "sampling.guidance needs a network that is trained with and without",
        ),
        (  # its last class is one of the data
            {"model": {"name": "unet", "pretrained": "unet", "class_conditional": True}},
            "sampling.guidance needs a network that is trained with and without",
        ),
        ({"process": {**PROCESS, "hybrid": True}}, "process: hybrid makes a velocity: set prediction to velocity"),
        ({"forcing": {"front": {"name": "contour"}}}, "forcing.front.beta: Field required"),
        ({"forcing": {"front": {"name": "liner"}}}, "forcing.front.name: unknown name 'liner' .did you mean 'linear'"),
        ({"loss": {"space": "velocty"}}, "loss.space"),
        ({"training": {"ema": []}}, "training.ema"),
        ({"sampling": {"guidance": {"scale": 2, "interval": [0.5, 0.1]}}}, r"the interval is \(low, high\)"),
    ],
)
def test_what_a_recipe_cannot_say(labelled: Path, changes: dict, message: str):
    with pytest.raises(RecipeError, match=message):
        jit_recipe(labelled, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {**MODEL, "patch_size": 5}}, "16"),
        ({"forcing": {"window": 5}}, "window"),
    ],
)
def test_what_does_not_fit_the_data_is_said_before_anything_is_written(
    labelled: Path, tmp_path: Path, changes, message
):
    with pytest.raises(ValueError, match=message):
        Trainer(jit_recipe(labelled, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_recipe_extends_another(tmp_path: Path):
    (tmp_path / "base.yaml").write_text(
        "name: base\ndata: {name: checkerboard, resolution: 16}\nprocess: {name: vp}\noptimizer: {lr: 0.1, eps: 0.2}\n"
    )
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "child.yaml").write_text("extends: ../base.yaml\nname: child\noptimizer: {lr: 0.3}\n")
    found = load_recipe(tmp_path / "more" / "child.yaml", ["optimizer.weight_decay=0.5"])
    assert (found.name, found.optimizer.lr, found.optimizer.eps, found.optimizer.weight_decay) == (
        "child",
        0.3,
        0.2,
        0.5,
    )


def test_recipes_that_extend_each_other_or_nothing_are_refused(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    (tmp_path / "c.yaml").write_text("extends: nowhere.yaml\n")
    with pytest.raises(RecipeError, match="extends itself"):
        load_recipe(tmp_path / "a.yaml")
    with pytest.raises(RecipeError, match=r"nowhere.yaml' cannot be read"):
        load_recipe(tmp_path / "c.yaml")


def test_an_imported_network_is_sampled_as_published(forced: Path, tmp_path: Path):
    model = load_model(forced / "checkpoints" / "step-00000004" / "ema")
    model.save_pretrained(tmp_path)
    (tmp_path / "process.json").write_text(json.dumps(PROCESS))
    found = restore(tmp_path)
    assert (found.forcing, found.num_classes, found.sample_shape) == (FORCING, 3, (3, 16, 16))
    assert (found.sampling.steps, found.sampling.solver, found.sampling.classes) == (50, "heun", "balanced")
    assert found.sampling.guidance is not None
    assert isinstance(found.process, Flow)
    assert found.process.velocity_floor == 0.05
    drawing = Drawing(found, tmp_path, steps=2)
    drawing.draw(tmp_path / "samples", range(2))
    assert len(list((tmp_path / "samples").glob("*.png"))) == 2
