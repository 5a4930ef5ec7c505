"""A trained network from its folder: the same weights, ready to sample."""

import shutil
from pathlib import Path

import pytest
import torch

from passband.models import EDMUNet
from passband.process import VP, VPPreconditioned
from passband.sampling import sample
from passband.training import CheckpointError, RecipeError, Trainer, restore


def test_restored_networks_sample_as_the_trainer_does(finished: Path, tiny, tmp_path: Path):
    trainer = Trainer(tiny(), shutil.copytree(finished, tmp_path / "run"), resume=True)
    for averaged in (True, False):
        found = restore(finished, weights="ema" if averaged else "last")
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
    message = r"step 6 .*is not whole \(ema/diffusion.*ask for another of steps \[4, 6\]"
    with pytest.raises(CheckpointError, match=message):
        restore(root)
    assert restore(root, step=4).step == 4


# A network that was imported.


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    network = EDMUNet(16, 3, label_dim=4, model_channels=8, channel_mult=(1, 2), num_blocks=1, attn_resolutions=())
    network.save_pretrained(tmp_path / "imported")
    (tmp_path / "imported" / "process.json").write_text('{"name": "edm_vp"}')
    return tmp_path / "imported"


def test_an_imported_network(imported: Path):
    found = restore(imported)
    assert isinstance(found.process, VPPreconditioned)
    assert (found.sample_shape, found.num_classes, found.step, found.recipe) == ((3, 16, 16), 4, 0, None)
    assert (found.sampling.steps, found.sampling.solver) == (18, "heun")
    assert not found.model.training


def test_an_imported_network_has_one_set_of_weights(imported: Path):
    with pytest.raises(CheckpointError, match="holds one set of weights, got 'ema2': leave --weights out"):
        restore(imported, weights="ema2")


@pytest.mark.parametrize("text", ["", "{}", '{"name": "edm", "sigma": 3}', '{"name": "nonsense"}'])
def test_a_damaged_process_file(imported: Path, text: str):
    (imported / "process.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"process\.json' cannot be read .*import the checkpoint again"):
        restore(imported)
