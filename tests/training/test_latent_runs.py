"""Training on latents: a DiT, a JiT on images that are not square, teachers on the fly and stored, two processes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiTTransformer2DModel
from safetensors.torch import load_file

from passband.data import LatentShards, save_image
from passband.integrations.autoencoder import Autoencoder
from passband.integrations.teachers import load_teacher
from passband.training import RecipeError, RunFolder, Trainer, make_recipe, restore
from passband.training.alignment import Teachers
from passband.training.build import build_autoencoder, build_dataset
from passband.training.draw import Drawing
from passband.training.encode import encode
from passband.training.sections import AutoencoderKLModel, ImagesData

LITE0 = "efficientnet-lite0"
ask = Teachers.__call__
ALIGNMENT = {"teachers": [LITE0], "depth": 1, "hidden": 16}
MODELS: dict[str, dict[str, Any]] = {
    "dit": {"name": "dit", "patch_size": 2, "num_layers": 2, "num_heads": 2, "head_dim": 8},
    "jit": {
        "name": "jit", "patch_size": 1, "hidden_size": 16, "depth": 2, "num_heads": 2, "bottleneck_dim": 8,
        "in_context_len": 2, "in_context_start": 1,
    },
}  # fmt: skip


def encoded(root: Path, size: int | tuple[int, int]) -> Path:
    """Latents of 9 images in three classes, by a small autoencoder that halves their sides four times."""
    height, width = (size, size) if isinstance(size, int) else size
    generator = torch.Generator().manual_seed(0)
    for index in range(9):
        smooth = torch.rand(1, 3, 3, 4, generator=generator)
        image = torch.nn.functional.interpolate(smooth, (height, width), mode="bicubic")[0] * 2 - 1
        save_image(image, root / "images" / "abc"[index % 3] / f"{index}.png")
    data = ImagesData(path=root / "images", resolution=size, labels="folder")
    settings = AutoencoderKLModel(
        block_out_channels=(4, 4, 4), layers_per_block=1, norm_num_groups=2, mid_attention=False
    )
    autoencoder = Autoencoder(build_autoencoder(settings, (3, height, width), 0).eval())
    teacher = load_teacher(LITE0)
    facts = data.model_dump(mode="json")
    encode(build_dataset(data), autoencoder, root / "latents", flips=True, teachers=[teacher], data=facts)
    return root / "latents"


@pytest.fixture(scope="session")
def square(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoded(tmp_path_factory.mktemp("square"), 32)


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoded(tmp_path_factory.mktemp("wide"), (48, 64))


def recipe(latents: Path, network: str = "dit", **changes: Any) -> Any:
    """A tiny run on latents."""
    shape = [4, 8, 8] if latents.parent.name.startswith("square") else [4, 12, 16]
    values: dict[str, Any] = {
        "name": "latent",
        "data": {"name": "latents", "path": str(latents), "shape": shape},
        "process": {"name": "flow", "data_at": 0, "time_scale": 1},
        "model": MODELS[network],
        "optimizer": {"lr": 1e-3},
        "training": {"steps": 4, "batch_size": 4, "ema": 0.5, "log_every": 1, "save_every": 2, "trackers": []},
        "sampling": {"count": 2, "steps": 2},
    }
    for key, change in changes.items():
        values[key] = {**values.get(key, {}), **change} if isinstance(change, dict) else change
    return make_recipe(values)


def stored_name(latents: Path) -> str:
    return next(iter(LatentShards(latents).teachers))


@pytest.mark.parametrize("model", MODELS)
def test_a_run_on_latents_resumes_to_the_same_bits(square: Path, tmp_path: Path, model: str):
    settings = recipe(square, model, alignment=ALIGNMENT)
    Trainer(settings, tmp_path / "whole").train()
    Trainer(settings, tmp_path / "parts").train(until=2)
    Trainer(settings, tmp_path / "parts", resume=True).train()
    whole, parts = (RunFolder(tmp_path / name).checkpoints / "step-00000004" for name in ("whole", "parts"))
    for file in sorted(whole.rglob("*.safetensors")):
        one, other = load_file(file), load_file(parts / file.relative_to(whole))
        assert all(torch.equal(one[name], other[name]) for name in one), file
    assert (whole / "alignment.safetensors").is_file()


def test_channels_last_saves_projections_that_are_convolutions(square: Path, tmp_path: Path):
    settings = recipe(square, alignment={**ALIGNMENT, "head": "conv"}, training={"steps": 2, "channels_last": True})
    trainer = Trainer(settings, tmp_path)
    trainer.train(until=2)
    resumed = Trainer(settings, tmp_path, resume=True)
    one, other = (found.task.beside["alignment"].state_dict() for found in (trainer, resumed))
    assert any(not value.is_contiguous() for value in one.values())
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_diffusers_loads_the_transformer(square: Path, tmp_path: Path):
    trainer = Trainer(recipe(square), tmp_path)
    trainer.train()
    checkpoint = RunFolder(tmp_path).checkpoints / "step-00000004"
    loaded = DiTTransformer2DModel.from_pretrained(checkpoint / "transformer")
    for name, value in trainer.network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


def test_alignment_with_images_that_are_not_square(wide: Path, tmp_path: Path):
    trainer = Trainer(recipe(wide, "jit", alignment={**ALIGNMENT, "target": {"name": "dog"}}), tmp_path)
    before = {name: value.clone() for name, value in trainer.task.beside["alignment"].state_dict().items()}
    trainer.train()
    log = RunFolder(tmp_path).log()
    assert all(entry["alignment"] != 0 for entry in log)
    after = trainer.task.beside["alignment"].state_dict()
    assert not any(torch.equal(before[name], after[name]) for name in before)
    assert trainer.sample(range(2)).shape == (2, 3, 48, 64)


def test_stored_features_are_those_of_the_images(wide: Path, tmp_path: Path):
    """Within the half precision in which they are stored."""
    logs = []
    for number, teachers in enumerate([[LITE0], [f"stored:{stored_name(wide)}"]]):
        settings = recipe(wide, "jit", alignment={**ALIGNMENT, "teachers": teachers})
        Trainer(settings, tmp_path / str(number)).train(until=2)
        logs.append([entry["alignment"] for entry in RunFolder(tmp_path / str(number)).log()])
    assert logs[0] == pytest.approx(logs[1], rel=2e-2, abs=1e-4)


def test_after_its_last_step_the_alignment_rests(square: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr(Teachers, "__call__", lambda self, batch: asked.append(1) or ask(self, batch))
    trainer = Trainer(recipe(square, alignment={**ALIGNMENT, "stop_step": 2}), tmp_path)
    trainer.train(until=3)
    assert len(asked) == 2
    assert ["alignment" in entry for entry in RunFolder(tmp_path).log()] == [True, True, False]


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


def test_two_processes_give_the_numbers_of_one(wide: Path, two_processes: Callable[..., Any], tmp_path: Path):
    settings = recipe(wide, "jit", alignment={**ALIGNMENT, "head": "conv", "target": {"name": "normalize"}})
    (tmp_path / "recipe.yaml").write_text(settings.to_yaml())
    two_processes("-c", SCRIPT, tmp_path / "recipe.yaml", tmp_path / "two")
    alone = Trainer(settings, tmp_path / "one")
    alone.train()
    for one, two in zip(RunFolder(tmp_path / "one").log(), RunFolder(tmp_path / "two").log(), strict=True):
        assert two == pytest.approx(one, rel=1e-4, abs=1e-6)
    found = load_file(next((tmp_path / "two" / "checkpoints" / "step-00000004" / "transformer").glob("*.safetensors")))
    for name, value in alone.network.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


def test_classes_are_learned_and_asked_for(square: Path, tmp_path: Path):
    settings = recipe(
        square,
        data={"labels": "stored"},
        model={"class_conditional": True, "label_dropout": 0.1},
        sampling={"guidance": {"scale": 2.0}},
    )
    Trainer(settings, tmp_path).train(until=2)
    assert restore(tmp_path).num_classes == 3


def test_samples_are_decoded_to_images(square: Path, tmp_path: Path):
    Trainer(recipe(square), tmp_path / "run").train()
    found = restore(tmp_path / "run")
    Drawing(found, tmp_path / "run", batch_size=2).draw(tmp_path / "samples", range(3))
    files = sorted((tmp_path / "samples").glob("*.png"))
    assert len(files) == 3
    again = ImagesData(path=tmp_path / "samples", resolution=32)
    assert build_dataset(again)[0].shape == (3, 32, 32)
    assert (tmp_path / "run" / "autoencoder" / "latents.json").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"shape": [4, 12, 12]}}, r"are \[4, 8, 8\], the recipe's data.shape is \[4, 12, 12\]"),
        ({"alignment": {"teachers": ["stored:dinov2"]}}, "no stored features of 'dinov2'"),
        ({"model": MODELS["dit"] | {"patch_size": 3}}, "patch"),
        ({"alignment": {"depth": 9}}, "block"),
    ],
)
def test_what_does_not_fit_shows_before_anything_is_written(
    square: Path, tmp_path: Path, changes: dict[str, Any], message: str
):
    with pytest.raises(ValueError, match=message):
        Trainer(recipe(square, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_flips_must_be_stored(square: Path, tmp_path: Path):
    data = ImagesData(path=square.parent / "images", resolution=32)
    settings = AutoencoderKLModel(block_out_channels=(4, 4, 4), layers_per_block=1, norm_num_groups=2)
    autoencoder = Autoencoder(build_autoencoder(settings, (3, 32, 32), 0).eval())
    encode(build_dataset(data), autoencoder, tmp_path / "square-plain")
    with pytest.raises(ValueError, match=r"encode with --flips, or set data\.flip to false"):
        Trainer(recipe(square, data={"path": str(tmp_path / "square-plain")}), tmp_path / "run")
    changes = {"path": str(tmp_path / "square-plain"), "flip": False}
    with pytest.raises(ValueError, match="encode with --teacher"):
        Trainer(recipe(square, data=changes, alignment=ALIGNMENT), tmp_path / "run")
    Trainer(recipe(square, data=changes), tmp_path / "run").train(until=1)


def test_a_run_goes_on_with_its_own_latents_alone(square: Path, tmp_path: Path):
    latents = shutil.copytree(square, tmp_path / "square" / "latents")
    settings = recipe(latents)
    Trainer(settings, tmp_path / "run").train(until=2)
    facts = json.loads((latents / "latents.json").read_text())
    (latents / "latents.json").write_text(json.dumps({**facts, "shift": [0.5] * 4}))
    with pytest.raises(RecipeError, match="trained on other latents"):
        Trainer(settings, tmp_path / "run", resume=True)


def test_dit_takes_squares(wide: Path):
    with pytest.raises(RecipeError, match=r"dit takes squares.*set model\.name to jit"):
        recipe(wide, "dit")
    unet = {"name": "unet", "block_out_channels": [8, 8], "norm_num_groups": 4, "mid_attention": False}
    with pytest.raises(RecipeError, match="alignment needs a transformer"):
        make_recipe({**recipe(wide, "jit").model_dump(), "model": unet, "alignment": ALIGNMENT})
