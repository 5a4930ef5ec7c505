"""A trained network from its folder: the same weights, ready to sample."""

import shutil
from pathlib import Path

import pytest
import torch

from passband.process import VP
from passband.sampling import sample
from passband.training import CheckpointError, RecipeError, Trainer, restore


def test_restored_networks_sample_as_the_trainer_does(finished: Path, tiny, tmp_path: Path):
    trainer = Trainer(tiny(), shutil.copytree(finished, tmp_path / "run"), resume=True)
    for averaged in (True, False):
        found = restore(finished, averaged=averaged)
        assert found.step == 6
        assert not found.model.training
        assert isinstance(found.process, VP)
        assert found.recipe == tiny()
        drawn = sample(found.model, found.process, found.recipe.sample_shape, seeds=range(2), steps=2)
        assert torch.equal(drawn, trainer.sample(range(2), averaged=averaged))
    assert not torch.equal(trainer.sample(range(2)), trainer.sample(range(2), averaged=False))


def test_an_earlier_checkpoint(finished: Path):
    early, late = (restore(finished, step=step).model.state_dict() for step in (4, 6))
    assert not all(torch.equal(early[name], late[name]) for name in early)
    assert restore(finished, step=4).step == 4


def test_a_checkpoint_that_is_not_there(finished: Path):
    with pytest.raises(CheckpointError, match=r"has no checkpoint of step 5: it holds those of steps \[4, 6\]"):
        restore(finished, step=5)


def test_a_run_without_checkpoints(finished: Path, tmp_path: Path):
    shutil.copy(finished / "recipe.yaml", tmp_path)
    with pytest.raises(CheckpointError, match="has no checkpoint: it holds none yet; train it first"):
        restore(tmp_path)


def test_no_run_folder(tmp_path: Path):
    with pytest.raises(RecipeError, match="is no run folder"):
        restore(tmp_path / "nowhere")


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_damaged_weights(finished: Path, tmp_path: Path, damage: str):
    root = shutil.copytree(finished, tmp_path / "run")
    weights = root / "checkpoints" / "step-00000006" / "ema" / "diffusion_pytorch_model.safetensors"
    weights.unlink() if damage == "missing" else weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="step-00000006/ema' cannot be read"):
        restore(root)
    assert restore(root, averaged=False).step == 6
