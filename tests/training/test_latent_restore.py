"""A network that draws latents: its run folder holds what decodes them, and its samples are images."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL

from passband.data import from_uint8, save_image
from passband.integrations.autoencoder import load_network
from passband.sampling import sample
from passband.training import CheckpointError, RecipeError, Trainer, make_recipe
from passband.training.average import write_average
from passband.training.build import build_dataset
from passband.training.draw import Drawing, read_sample
from passband.training.encode import encode
from passband.training.evaluate import EvaluationSettings, Evaluator, real_images
from passband.training.restore import Restored, find_autoencoder, is_autoencoder, restore
from passband.training.sections import ImagesData

#: Images of 16 x 24 pixels, latents of 8 x 12: not square.
DATA: dict[str, Any] = {"name": "images", "resolution": [16, 24], "labels": "folder", "subset": "train"}


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Encoded images of two classes, a quarter of them held out."""
    root, generator = tmp_path_factory.mktemp("latents"), torch.Generator().manual_seed(0)
    for index in range(16):
        save_image(
            torch.rand(3, 16, 24, generator=generator) * 2 - 1, root / "images" / "ab"[index % 2] / f"{index}.png"
        )
    torch.manual_seed(1)
    network = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
    )
    network.save_pretrained(root / "saved")
    data = ImagesData.model_validate({**DATA, "path": root / "images", "eval_share": 0.25})
    autoencoder = find_autoencoder(root / "saved")
    encode(build_dataset(data), autoencoder, root / "encoded", flips=True, data=data.model_dump(mode="json"))
    return root


def recipe_of(latents: Path, **changes: Any) -> dict[str, Any]:
    sizes = {"patch_size": 2, "hidden_size": 16, "depth": 2, "num_heads": 2, "bottleneck_dim": 8, "in_context_len": 0}
    return {
        "name": "latent",
        "data": {"name": "latents", "path": str(latents / "encoded"), "shape": [4, 8, 12], "labels": "stored"},
        "process": {"name": "flow", "time_scale": 1.0},
        "model": {"name": "jit", "class_conditional": True, "label_dropout": 0.1, **sizes},
        "training": {"steps": 2, "batch_size": 4, "ema": 0.5, "sample_every": None, "trackers": []},
        "sampling": {"steps": 2, "count": 2},
        **changes,
    }


@pytest.fixture(scope="module")
def run(latents: Path) -> Path:
    """A run that was trained on them."""
    recipe = recipe_of(latents)
    recipe["training"]["snapshots"] = {"every": 1}
    Trainer(make_recipe(recipe), latents / "run").train()
    return latents / "run"


@pytest.fixture(scope="module")
def restored(run: Path) -> Restored:
    return restore(run)


def test_a_latent_run_says_both_shapes(restored: Restored) -> None:
    assert restored.sample_shape == (4, 8, 12)
    assert restored.image_shape == (3, 16, 24)
    assert restored.num_classes == 2


def test_decoding_undoes_the_scale_first(latents: Path, restored: Restored) -> None:
    facts = json.loads((latents / "encoded" / "latents.json").read_text())
    standard = torch.randn(2, 4, 8, 12)
    own = standard * torch.tensor(facts["scale"])[:, None, None] + torch.tensor(facts["shift"])[:, None, None]
    network = AutoencoderKL.from_pretrained(latents / "saved").eval()
    with torch.no_grad():
        expected = network.decode(own).sample
    assert restored.decode is not None
    assert torch.allclose(restored.decode(standard), expected, atol=1e-5)


def test_samples_are_written_as_images(run: Path, restored: Restored, tmp_path: Path) -> None:
    Drawing(restored, run, batch_size=2).draw(tmp_path, range(3))
    conditioning = {"class_labels": torch.tensor([0, 0])}
    settings = restored.sampling.model_copy(update={"classes": "balanced"})
    Drawing(restored._replace(sampling=settings), run, batch_size=1).draw(tmp_path / "balanced", [0, 2])
    drawn = sample(restored.model, restored.process, (4, 8, 12), seeds=[0, 2], steps=2, conditioning=conditioning)
    assert restored.decode is not None
    images = restored.decode(drawn)
    for image, seed in zip(images, [0, 2], strict=True):
        pixels = read_sample(tmp_path / "balanced", seed, 3)
        assert pixels.shape == (3, 16, 24)
        assert (from_uint8(pixels) - image.clamp(-1, 1)).abs().max() <= 1 / 127.5
    assert len(list(tmp_path.glob("*.png"))) == 3


def test_its_real_images_are_those_held_out_of_the_encoding(latents: Path, restored: Restored) -> None:
    found = real_images(restored, EvaluationSettings())
    names = {path.name for path in (latents / "images").rglob("*.png")}
    data = ImagesData.model_validate({**DATA, "path": latents / "images", "eval_share": 0.25})
    encoded = set(build_dataset(data).names)  # type: ignore[attr-defined]
    assert 0 < found.count < len(names)
    assert not encoded & set(found.data.names)  # type: ignore[attr-defined]
    assert found.read(0).shape == (3, 16, 24)


def test_real_images_from_elsewhere(latents: Path, restored: Restored) -> None:
    found = real_images(restored, EvaluationSettings(real=latents / "images"))
    assert (found.count, tuple(found.read(0).shape)) == (16, (3, 16, 24))


def test_it_is_evaluated_on_images(run: Path, tmp_path: Path) -> None:
    settings = EvaluationSettings(count=4, metrics=("lsd",), features=())
    results = Evaluator(settings).evaluate(run, tmp_path / "out")
    (entry,) = results["metrics"]
    assert entry["metric"] == "lsd"
    assert entry["value"] > 0
    assert (entry["real"], entry["fake"]) == (real_images(restore(run), settings).count, 4)


def test_an_average_of_its_snapshots_is_decoded_too(run: Path, tmp_path: Path) -> None:
    write_average(run, 0.1, tmp_path / "average")
    assert restore(tmp_path / "average").image_shape == (3, 16, 24)


def test_a_run_without_its_autoencoder(run: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(run, tmp_path / "copy"))
    shutil.rmtree(copied / "autoencoder")
    with pytest.raises(CheckpointError, match=r"the autoencoder that decodes these latents cannot be read from .*copy"):
        restore(copied)


def test_find_autoencoder_takes_folders_and_latents(latents: Path, run: Path, tmp_path: Path) -> None:
    image = torch.rand(1, 3, 16, 24)
    expected = find_autoencoder(latents / "saved").encode(image).mean
    assert torch.equal(find_autoencoder(latents / "encoded").encode(image).mean, expected)
    assert torch.equal(find_autoencoder(run / "autoencoder").encode(image).mean, expected)
    shutil.copytree(latents / "saved", tmp_path / "pipeline" / "vae")
    assert torch.equal(find_autoencoder(tmp_path / "pipeline").encode(image).mean, expected)
    assert [is_autoencoder(path) for path in (latents / "saved", latents / "encoded", tmp_path / "pipeline", run)] == [
        True,
        True,
        True,
        False,
    ]


def test_find_autoencoder_refuses_a_denoiser(run: Path) -> None:
    with pytest.raises(
        ValueError, match=r"is the run of a denoiser.*the autoencoder of its latents is in .*autoencoder"
    ):
        find_autoencoder(run)


def test_a_folder_has_no_steps(latents: Path) -> None:
    with pytest.raises(ValueError, match=r"a checkpoint's step and weights belong to a run's folder"):
        find_autoencoder(latents / "saved", step=3)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no saved autoencoder"):
        find_autoencoder(tmp_path)


def test_a_checkpoint_is_no_pipeline(autoencoder_run: Path) -> None:
    with pytest.raises(ValueError, match="is a checkpoint of a training run, with several sets of weights: name one"):
        find_autoencoder(autoencoder_run / "checkpoints" / "step-00000002")
    with pytest.raises(FileNotFoundError, match="those of a run are in its checkpoints/step-STEP/ema"):
        load_network(autoencoder_run)


@pytest.fixture(scope="module")
def autoencoder_run(latents: Path) -> Path:
    """A run that trained an autoencoder."""
    sizes = {"block_out_channels": [8, 8], "layers_per_block": 1, "norm_num_groups": 4, "mid_attention": False}
    recipe = {
        "task": "autoencoder",
        "name": "tiny",
        "data": {**DATA, "path": str(latents / "images"), "eval_share": 0.25, "labels": "none"},
        "model": {"name": "autoencoder_kl", **sizes},
        "training": {"steps": 2, "batch_size": 2, "save_every": 1, "ema": 0.5, "sample_every": None, "trackers": []},
    }
    Trainer(make_recipe(recipe), latents / "vae").train()
    return latents / "vae"


def test_an_autoencoder_is_not_sampled(autoencoder_run: Path) -> None:
    with pytest.raises(RecipeError, match=r"'tiny' trains an autoencoder.*passband inspect.*passband encode"):
        restore(autoencoder_run)


def test_the_weights_of_an_autoencoder_run(autoencoder_run: Path) -> None:
    assert is_autoencoder(autoencoder_run)
    folder = autoencoder_run / "checkpoints" / "step-00000002"
    for weights, place in (("ema", "ema"), ("last", "vae")):
        found = find_autoencoder(autoencoder_run, weights=weights)
        saved = AutoencoderKL.from_pretrained(folder / place)
        assert found.name == "tiny"
        assert all(torch.equal(value, saved.state_dict()[name]) for name, value in found.network.state_dict().items())
    early = find_autoencoder(autoencoder_run, step=1).network.state_dict()
    late = find_autoencoder(autoencoder_run).network.state_dict()
    assert not all(torch.equal(early[name], late[name]) for name in early)
    with pytest.raises(CheckpointError, match=r"holds no weights 'ema2'.*; expected last, or one of the averages: ema"):
        find_autoencoder(autoencoder_run, weights="ema2")
