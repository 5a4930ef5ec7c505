"""Training an autoencoder: its objective term by term, its adversary, resuming, two processes, what diffusers loads."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file
from torch import Tensor

from passband._seeds import seed_for
from passband.matching import draw_corner, dsm_mask, esm_loss
from passband.sampling import SampleNoise
from passband.training import CheckpointError, RecipeError, RunFolder, Trainer, make_recipe
from passband.training.autoencoder import AutoencoderTask
from passband.training.restore import find_autoencoder, restore

TINY: dict[str, Any] = {
    "task": "autoencoder",
    "name": "tiny-vae",
    "data": {"name": "images", "resolution": 16, "flip": False},
    "model": {"block_out_channels": [8, 8], "layers_per_block": 1, "mid_attention": False, "norm_num_groups": 4},
    "objective": {"latent": []},
    "optimizer": {"lr": 1e-3},
    "training": {"steps": 4, "batch_size": 2, "ema": 0.5, "log_every": 1, "save_every": 2, "trackers": []},
}
ADVERSARY = {"start_step": 2, "base_channels": 4, "layers": 1, "norm": "group"}
TERMS = {
    "kl": {"name": "kl", "weight": 1e-3},
    "esm": {"name": "esm"},
    "dsm": {"name": "dsm", "corners": [8, 10]},
    "eq": {"name": "eq", "scale": [0.5, 1.0], "probability": 1.0},
    "teacher": {"name": "teacher"},
}


@pytest.fixture
def recipe(labelled: Path) -> Callable[..., Any]:
    """The tiny recipe of an autoencoder, with changes to its sections."""

    def make(**changes: dict[str, Any]) -> Any:
        values = {**TINY, "data": {**TINY["data"], "path": str(labelled)}}
        return make_recipe({k: {**v, **changes.get(k, {})} if isinstance(v, dict) else v for k, v in values.items()})

    return make


def objective_of(trainer: Trainer) -> tuple[Tensor, dict[str, Tensor], Any]:
    """The first step's objective, and its batch."""
    ((batch,),) = list(trainer._steps(0, 1))
    assert isinstance(trainer.task, AutoencoderTask)
    (turn, *_) = trainer.task.turns(0)
    found = turn.objective(batch)
    return found.total, found.terms, batch


def by_hand(trainer: Trainer, images: Tensor, positions: Tensor) -> tuple[Any, Tensor]:
    """Posterior and the latent drawn from it."""
    posterior = trainer.network.encode(images).latent_dist
    seeds = [seed_for(trainer.recipe.training.seed, int(p), "noise") for p in positions]
    return posterior, posterior.mean + posterior.std * SampleNoise(seeds).normal(posterior.mean.shape[1:])


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# The objective.


def test_l1_and_kl_are_sd_vaes_sums_over_the_number_of_pixel_values(recipe, tmp_path: Path):
    trainer = Trainer(recipe(objective={"latent": [TERMS["kl"]]}), tmp_path)
    total, terms, batch = objective_of(trainer)
    posterior, latent = by_hand(trainer, batch.clean, batch.positions)
    reconstruction = trainer.network.decode(latent).sample
    summed = (reconstruction - batch.clean).abs().sum() / 2 + 1e-3 * posterior.kl().mean()
    torch.testing.assert_close(total, summed / batch.clean[0].numel())
    assert terms.keys() == {"l1", "kl"}


def test_esm_is_that_of_images_and_drawn_latents(recipe, tmp_path: Path):
    term = {**TERMS["esm"], "of": "sample", "delta": 0.5, "weight": 2.0}
    trainer = Trainer(recipe(objective={"latent": [term]}), tmp_path)
    total, terms, batch = objective_of(trainer)
    _, latent = by_hand(trainer, batch.clean, batch.positions)
    torch.testing.assert_close(terms["esm"], esm_loss(batch.clean, latent, delta=0.5).detach())
    torch.testing.assert_close(total.detach(), terms["l1"] + 2 * terms["esm"])


def test_esm_of_the_means(recipe, tmp_path: Path):
    trainer = Trainer(recipe(objective={"latent": [TERMS["esm"]]}), tmp_path)
    _, terms, batch = objective_of(trainer)
    posterior, _ = by_hand(trainer, batch.clean, batch.positions)
    torch.testing.assert_close(terms["esm"], esm_loss(batch.clean, posterior.mean).detach())


def test_dsm_decodes_the_masked_latent_to_the_masked_image(recipe, tmp_path: Path):
    trainer = Trainer(recipe(objective={"latent": [TERMS["dsm"]]}), tmp_path)
    _, terms, batch = objective_of(trainer)
    _, latent = by_hand(trainer, batch.clean, batch.positions)
    image, latent = dsm_mask(batch.clean, latent, draw_corner(0, 0, (8, 10)))
    assert not torch.equal(image, batch.clean)
    expected = (trainer.network.decode(latent).sample - image).abs().mean()
    torch.testing.assert_close(terms["l1"], expected.detach())


def test_the_perceptual_distance_counts_by_its_weight(recipe, tmp_path: Path):
    objective = {"perceptual": {"name": "efficientnet-lite0", "weight": 0.25}}
    total, terms, _ = objective_of(Trainer(recipe(objective=objective), tmp_path))
    torch.testing.assert_close(total.detach(), terms["l1"] + 0.25 * terms["perceptual"])
    assert terms["perceptual"] > 0


# The adversary.


def adversarial(trainer: Trainer, step: int) -> tuple[Any, list[Any]]:
    ((batch,),) = list(trainer._steps(step, step + 1))
    return batch, list(trainer.task.turns(step))


def test_the_discriminator_waits_for_its_first_step(recipe, tmp_path: Path):
    trainer = Trainer(recipe(objective={"adversarial": ADVERSARY}), tmp_path)
    before = {name: value.clone() for name, value in trainer.task.beside["discriminator"].state_dict().items()}
    trainer.train(until=1)
    assert same(before, trainer.task.beside["discriminator"].state_dict())
    trainer.train(until=2)
    assert not same(before, trainer.task.beside["discriminator"].state_dict())
    first, second = RunFolder(tmp_path).log()
    assert "discriminator" not in first
    assert {"discriminator", "adversarial", "adversarial/weight"} < second.keys()


def test_each_turn_trains_its_own_network(recipe, tmp_path: Path):
    trainer = Trainer(recipe(objective={"adversarial": ADVERSARY}), tmp_path)
    batch, (generator, discriminator) = adversarial(trainer, 1)
    networks = trainer.network, trainer.task.beside["discriminator"]
    generator.objective(batch).total.backward()
    assert [any(p.grad is not None for p in network.parameters()) for network in networks] == [True, False]
    networks[0].zero_grad(set_to_none=True)
    discriminator.objective(batch).total.backward()
    assert [any(p.grad is not None for p in network.parameters()) for network in networks] == [False, True]


def test_the_adversary_is_as_strong_as_the_reconstruction_at_the_last_layer(recipe, tmp_path: Path):
    trainer = Trainer(recipe(objective={"adversarial": {**ADVERSARY, "weight": 0.5}}), tmp_path)
    batch, (generator, _) = adversarial(trainer, 1)
    found = generator.objective(batch)
    last = trainer.network.decoder.conv_out.weight
    last.grad = None
    (whole,) = torch.autograd.grad(found.total, last, retain_graph=True)
    posterior, latent = by_hand(trainer, batch.clean, batch.positions)
    del posterior
    l1 = (trainer.network.decode(latent).sample - batch.clean).abs().mean()
    (reconstruction,) = torch.autograd.grad(l1, last)
    assert (whole - reconstruction).norm() == pytest.approx(0.5 * reconstruction.norm().item(), rel=0.02)


def test_scaled_losses_weigh_the_adversary_as_plain_ones(recipe, tmp_path: Path):
    """As float16 is trained; there is no step where the scaled gradients overflow, and no NaN in its loss."""
    trainer = Trainer(recipe(objective={"adversarial": ADVERSARY}), tmp_path)
    batch, (generator, _) = adversarial(trainer, 1)
    plain = generator.objective(batch).terms["adversarial/weight"]
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    torch.testing.assert_close(generator.objective(batch).terms["adversarial/weight"], plain)
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=float("inf"))
    assert generator.objective(batch).total.isfinite()


def test_the_discriminator_has_its_own_learning_rate(recipe, tmp_path: Path):
    adversary = {**ADVERSARY, "lr": 5e-4, "betas": [0.5, 0.9]}
    trainer = Trainer(recipe(objective={"adversarial": adversary}), tmp_path)
    group = trainer.task.learners["discriminator"].optimizer.param_groups[0]
    assert (group["lr"], tuple(group["betas"])) == (5e-4, (0.5, 0.9))


# Runs.


@pytest.mark.parametrize("term", TERMS)
def test_a_resumed_run_reaches_the_same_bits(recipe, tmp_path: Path, term: str):
    settings = recipe(objective={"latent": [TERMS[term]], "adversarial": ADVERSARY}, training={"sample_every": 4})
    Trainer(settings, tmp_path / "whole").train()
    Trainer(settings, tmp_path / "parts").train(until=2)
    Trainer(settings, tmp_path / "parts", resume=True).train()
    whole, parts = (RunFolder(tmp_path / name).checkpoints / "step-00000004" for name in ("whole", "parts"))
    files = sorted(file.relative_to(whole) for file in whole.rglob("*.safetensors"))
    assert {file.parts[0] for file in files} >= {"vae", "ema", "discriminator.safetensors", "state.safetensors"}
    assert ("teacher.safetensors" in {file.name for file in files}) == (term == "teacher")
    for file in files:
        assert same(load_file(whole / file), load_file(parts / file)), file
    assert (tmp_path / "whole" / "samples" / "step-00000004.png").is_file()


def test_diffusers_loads_what_was_trained(recipe, tmp_path: Path):
    trainer = Trainer(recipe(), tmp_path)
    trainer.train()
    checkpoint = RunFolder(tmp_path).checkpoints / "step-00000004"
    last = AutoencoderKL.from_pretrained(checkpoint / "vae")
    assert same(last.state_dict(), trainer.network.state_dict())
    averaged = find_autoencoder(tmp_path)
    assert same(averaged.network.state_dict(), trainer.averaged.state_dict())
    assert not same(last.state_dict(), averaged.network.state_dict())


def test_pictures_are_images_beside_their_reconstructions(recipe, tmp_path: Path):
    trainer = Trainer(recipe(), tmp_path)
    drawn = trainer.sample(range(2))
    assert drawn.shape == (4, 3, 16, 16)
    assert torch.equal(drawn[2], trainer.dataset[1])


def test_a_saved_autoencoder_is_trained_on(recipe, tmp_path: Path):
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    published = AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, latent_channels=3, **blocks)
    published.save_pretrained(tmp_path / "pipeline" / "vae")
    trainer = Trainer(recipe(model={"pretrained": str(tmp_path / "pipeline")}), tmp_path / "run")
    assert same(published.state_dict(), trainer.network.state_dict())
    trainer.train(until=1)
    assert not same(published.state_dict(), trainer.network.state_dict())


SCRIPT = """
import gc, sys
from torch.nn.parallel import DistributedDataParallel
from passband.training import Trainer, load_recipe
trainer = Trainer(load_recipe(sys.argv[1]), sys.argv[2])
assert trainer.accelerator.num_processes == 2
trainer.train()
trainer.end()
# A wrapped network that outlives its group may hang or abort the process.
assert not any(type(found) is DistributedDataParallel for found in gc.get_objects())
"""


def test_two_processes_give_the_numbers_of_one(recipe, two_processes, tmp_path: Path):
    latent = [TERMS["kl"], TERMS["esm"], TERMS["dsm"]]
    settings = recipe(objective={"latent": latent, "adversarial": ADVERSARY}, training={"batch_size": 4})
    (tmp_path / "recipe.yaml").write_text(settings.to_yaml())
    two_processes("-c", SCRIPT, tmp_path / "recipe.yaml", tmp_path / "two")
    Trainer(settings, tmp_path / "one").train()
    for one, two in zip(RunFolder(tmp_path / "one").log(), RunFolder(tmp_path / "two").log(), strict=True):
        assert two == pytest.approx(one, rel=1e-3, abs=1e-6)


# What does not work.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": {"latent": [TERMS["dsm"], TERMS["eq"]]}}, "dsm and eq both change what is decoded"),
        ({"objective": {"latent": [TERMS["kl"], TERMS["kl"]]}}, "each term counts once, got kl"),
        ({"objective": {"l1": 0}}, "nothing here asks for a reconstruction"),
        ({"objective": {"latent": [{"name": "esn"}]}}, "unknown name 'esn' .did you mean 'esm'"),
        ({"objective": {"latent": [{"name": "eq", "scale": [1.0, 0.5]}]}}, "the range of scales must rise"),
        ({"data": {"resolution": 15}}, "data.resolution 15 must be divisible by 2"),
        ({"data": {"name": "checkerboard"}}, "checkerboard"),
        ({"training": {"snapshots": {"every": 2}}}, "snapshots are averages to choose from for denoisers"),
        ({"training": {"sharding": "fsdp"}}, "an autoencoder is not divided"),
        ({"training": {"batch_size": 3, "accumulate": 2}}, "must be a multiple of training.accumulate"),
    ],
)
def test_recipes_that_do_not_fit(recipe, changes: dict[str, Any], message: str):
    with pytest.raises(RecipeError, match=message):
        recipe(**changes)


def test_unknown_tasks_are_refused():
    with pytest.raises(RecipeError, match=r"task.*autoencoder"):
        make_recipe({**TINY, "task": "autoencodr"})


def test_a_pretrained_network_must_take_the_images(recipe, tmp_path: Path):
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    gray = AutoencoderKL(in_channels=1, block_out_channels=(8, 8), norm_num_groups=4, **blocks)
    gray.save_pretrained(tmp_path / "gray")
    with pytest.raises(ValueError, match=r"takes 1 channels, the data has 3; set data\.channels"):
        Trainer(recipe(model={"pretrained": str(tmp_path / "gray")}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_discriminator_too_large_for_the_images_shows_at_the_start(recipe, tmp_path: Path):
    large = {**ADVERSARY, "start_step": 50_001, "layers": 3}
    with pytest.raises(RecipeError, match=r"needs images of 24 pixels or more, got 16 x 16: lower .*layers"):
        Trainer(recipe(objective={"adversarial": large}), tmp_path / "run")
    scaled = {"latent": [{**TERMS["eq"], "scale": [0.25, 1.0]}], "adversarial": ADVERSARY}
    with pytest.raises(RecipeError, match=r"needs images of 6 pixels or more, got 16 x 16, scaled by eq to 4 x 4"):
        Trainer(recipe(objective=scaled), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_autoencoder_is_not_sampled(recipe, tmp_path: Path):
    Trainer(recipe(), tmp_path).train(until=1)
    with pytest.raises((RecipeError, CheckpointError), match="passband inspect"):
        restore(tmp_path)
