"""Finetuning a diffusers pipeline: the loss by hand, each kind end to end, bit for bit after an interruption."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import DiffusionPipeline
from safetensors.torch import load_file
from torch import Tensor

from passband._seeds import seed_for
from passband.data import save_image
from passband.integrations.pipelines import open_pipeline
from passband.regularization import DecodedLoss, WaveletLoss
from passband.sampling import SampleNoise
from passband.training import NonFiniteLossError, RecipeError, RunFolder, Trainer, make_recipe
from passband.training.batches import Batch
from passband.training.config import FinetuneRecipe
from passband.training.finetune import FinetuneTask
from passband.training.finetune.adapters import Adapters
from passband.training.finetune.condition import Conditions

KINDS = ("ddpm", "dit", "sd", "sdxl", "sd3", "flux")
TEXT = ("sd", "sdxl", "sd3", "flux")
MakeFinetune = Callable[..., FinetuneRecipe]

BASE: dict[str, Any] = {
    "task": "finetune",
    "name": "tiny",
    "data": {"resolution": 16},
    "regularizer": {"losses": [{"name": "wavelet", "levels": 1}], "weight": 0.1},
    "optimizer": {"lr": 1e-3},
    "training": {
        "steps": 4,
        "batch_size": 2,
        "ema": 0.5,
        "log_every": 1,
        "save_every": 2,
        "sample_every": None,
        "trackers": [],
    },
    "sampling": {"count": 2, "steps": 2},
}


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images in two folders, each with a caption."""
    folder = tmp_path_factory.mktemp("captioned")
    generator = torch.Generator().manual_seed(0)
    lines = []
    for i in range(6):
        name = f"{'ab'[i % 2]}/{i}.png"
        save_image(torch.rand(3, 20, 16, generator=generator) * 2 - 1, folder / name)
        lines.append(json.dumps({"file_name": name, "text": f"picture {i % 3}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def tuned(tiny_pipeline, captioned: Path) -> MakeFinetune:
    """The recipe of a kind of pipeline, with changes such as training={"steps": 3}."""

    def make(kind: str, **changes: Any) -> FinetuneRecipe:
        own: dict[str, Any] = {"pipeline": {"path": str(tiny_pipeline(kind))}, "data": {"path": str(captioned)}}
        if kind == "dit":
            own["data"]["labels"] = "folder"
        values = joined(joined(BASE, own), changes)
        recipe = make_recipe({name: value for name, value in values.items() if value is not None})
        assert isinstance(recipe, FinetuneRecipe)
        return recipe

    return make


def joined(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        result[key] = joined(base[key], value) if both else value
    return result


def finetuning(trainer: Trainer) -> FinetuneTask:
    assert isinstance(trainer.task, FinetuneTask)
    return trainer.task


def last_files(root: Path) -> dict[str, bytes]:
    """Everything in a run's last checkpoint, and its log."""
    last = RunFolder(root).latest()
    assert last is not None
    found = {str(file.relative_to(last[1])): file.read_bytes() for file in last[1].rglob("*") if file.is_file()}
    return found | {"log": (root / "log.jsonl").read_bytes()}


def weights(folder: Path) -> dict[str, Tensor]:
    return {name: value for file in sorted(folder.glob("*.safetensors")) for name, value in load_file(file).items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def seeded(batch: Batch, name: str, shape: tuple[int, ...]) -> Tensor:
    return SampleNoise([seed_for(0, int(p), name) for p in batch.positions], "cpu").normal(shape)


# The loss.


def first_batch(trainer: Trainer) -> Batch:
    return next(trainer._batches(0, 1))


def by_hand(kind: str, folder: Path, batch: Batch, captions: list[str]) -> tuple[Tensor, Tensor, Tensor]:
    """Network output and clean estimate by the parts of a diffusers pipeline, and the target, as in its scripts."""
    parts = DiffusionPipeline.from_pretrained(folder)
    images = batch.clean
    if kind == "ddpm":
        latents = images
    else:
        posterior = parts.vae.encode(images).latent_dist
        drawn = posterior.mean + posterior.std * seeded(batch, "posterior", tuple(posterior.mean.shape[1:]))
        shift = parts.vae.config.shift_factor if kind == "flux" else 0.0
        latents = (drawn - shift) * parts.vae.config.scaling_factor
    draws = SampleNoise([seed_for(0, int(p), "noise") for p in batch.positions], "cpu")
    if kind == "flux":
        times = draws.times(open_pipeline(folder).process_at(16, 16))
        noise = draws.normal(tuple(latents.shape[1:]))
        sigma = (times / 1000).reshape(-1, 1, 1, 1)
        noisy = ((1 - sigma) * latents + sigma * noise).float()
        prompt, pooled, text_ids = parts.encode_prompt(captions, None, max_sequence_length=512)
        tokens = parts._pack_latents(noisy, *noisy.shape)
        ids = parts._prepare_latent_image_ids(2, noisy.shape[2] // 2, noisy.shape[3] // 2, "cpu", torch.float32)
        guidance = torch.ones(2) if parts.transformer.config.guidance_embeds else None
        output = parts.transformer(
            hidden_states=tokens,
            timestep=times.float() / 1000,
            guidance=guidance,
            pooled_projections=pooled,
            encoder_hidden_states=prompt,
            txt_ids=text_ids,
            img_ids=ids,
        ).sample
        pred = parts._unpack_latents(output, 16, 16, parts.vae_scale_factor)
        return pred, noise - latents, (noisy - sigma * pred).float()
    times = draws.times(open_pipeline(folder).process)
    noise = draws.normal(tuple(latents.shape[1:]))
    noisy = parts.scheduler.add_noise(latents, noise, times)
    if kind == "ddpm":
        pred = parts.unet(noisy, times).sample
    elif kind == "dit":
        pred = parts.transformer.eval()(noisy, timestep=times, class_labels=batch.classes).sample[:, :4]
    else:
        ids = parts.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        pred = parts.unet(noisy, times, encoder_hidden_states=parts.text_encoder(ids)[0]).sample
    alpha = parts.scheduler.alphas_cumprod[times].sqrt().reshape(-1, 1, 1, 1)
    return pred, noise, (noisy - (1 - alpha**2).sqrt() * pred) / alpha


@pytest.mark.parametrize("kind", ["ddpm", "dit", "sd", "flux"])
def test_the_loss_is_that_of_the_pipelines_parts(tuned, tiny_pipeline, tmp_path: Path, kind: str):
    trainer = Trainer(tuned(kind, data={"dropout": 0.0}), tmp_path)
    task, batch = finetuning(trainer), first_batch(trainer)
    objective = task._objective(batch)
    with torch.no_grad():
        captions = [trainer.dataset.class_names[int(number)] for number in batch.classes] if kind in TEXT else []
        pred, target, estimate = by_hand(kind, tiny_pipeline(kind), batch, captions)
        clean = task._encoded(batch).clean
        spectral = 0.1 * WaveletLoss(levels=1)(estimate, clean).mean()
    torch.testing.assert_close(objective.terms["base"], (pred - target).square().mean(), rtol=2e-4, atol=0)
    torch.testing.assert_close(objective.terms["spectral"], spectral, rtol=2e-3, atol=0)
    torch.testing.assert_close(objective.total.detach(), objective.terms["base"] + objective.terms["spectral"])
    assert set(objective.terms) == {"base", "spectral", "spectral/wavelet"}


def test_pixels_compares_what_latents_decode_to(tuned, tmp_path: Path):
    plain = finetuning(Trainer(tuned("sd"), tmp_path / "latents"))
    trainer = Trainer(tuned("sd", regularizer={"pixels": True, "crop": 4}), tmp_path / "pixels")
    task, batch = finetuning(trainer), first_batch(trainer)
    objective = task._objective(batch)
    again = task._objective(batch)
    assert torch.equal(objective.terms["base"], plain._objective(batch).terms["base"])
    assert torch.equal(objective.total, again.total)  # the place of the crop follows from the step
    assert "spectral/decoded_wavelet" in objective.terms
    again.total.backward()
    assert any(parameter.grad is not None for parameter in task.network.parameters())
    whole = finetuning(Trainer(tuned("sd", regularizer={"pixels": True}), tmp_path / "whole"))
    assert whole.regularizer is not None
    seen: dict[str, Tensor] = {}
    whole.regularizer.loss.register_forward_hook(
        lambda _, inputs, output: seen.update(estimate=inputs[0], clean=inputs[1], value=output)
    )
    whole._objective(batch)
    vae = whole.pipeline.pipeline.vae
    with torch.no_grad():
        estimate, clean = (vae.decode(seen[name] / vae.config.scaling_factor).sample for name in ("estimate", "clean"))
        expected = WaveletLoss(levels=1)(estimate, clean)
    assert isinstance(whole.regularizer.loss, DecodedLoss)
    torch.testing.assert_close(seen["value"].detach(), expected, rtol=1e-4, atol=1e-6)
    assert not any(parameter.requires_grad for parameter in vae.parameters())


@pytest.mark.parametrize("kind", ["ddpm", "sd"])
def test_a_bad_batch_is_kept_as_the_network_saw_it(tuned, tmp_path: Path, kind: str):
    trainer = Trainer(tuned(kind), tmp_path)
    next(finetuning(trainer).network.parameters()).data.fill_(float("nan"))
    with pytest.raises(NonFiniteLossError, match="failed-step-00000001"):
        trainer.train()
    found = load_file(tmp_path / "failed-step-00000001" / "batch.safetensors")
    assert ("images" in found) == (kind == "sd")
    noisy = finetuning(trainer).process.add_noise(found["clean"], found["noise"], found["t"])
    assert torch.equal(found["noisy"], noisy)


@pytest.mark.parametrize(
    ("kind", "changes", "call"),
    [
        ("ddpm", {}, "pipeline()"),
        ("dit", {}, "pipeline(class_labels=[0], guidance_scale=1.0)"),  # its null class is not diffusers' 1000
        ("sd", {}, 'pipeline("A PROMPT")'),
        ("sd", {"data": {"resolution": [16, 32]}}, 'pipeline("A PROMPT", height=16, width=32)'),
    ],
)
def test_the_last_line_of_usage_draws_what_was_trained(
    tuned, tmp_path: Path, kind: str, changes: dict[str, Any], call: str
):
    task = finetuning(Trainer(tuned(kind, **changes), tmp_path))
    assert task.usage(tmp_path)[-1] == f'{call}.images[0].save("image.png")'
    pipeline = DiffusionPipeline.from_pretrained(task.pipeline.folder)
    image = eval(call, {"pipeline": partial(pipeline, num_inference_steps=2)}).images[0]
    assert image.size == tuple(reversed(task.recipe.data.size))


def test_captions_are_dropped_by_position_for_the_pipelines_own_unconditional(tuned, tmp_path: Path):
    trainer = Trainer(tuned("sdxl", data={"dropout": 0.5}), tmp_path)
    pipeline = finetuning(trainer).pipeline
    conditions = Conditions(pipeline, trainer.dataset, 0.5, 0, torch.device("cpu"))
    positions = torch.arange(400)
    batch = Batch(torch.zeros(400, 1), positions, positions % 3)
    found, empty = conditions(batch), pipeline.unconditional()
    dropped = (found["text_embeds"] == empty["text_embeds"]).all(1)
    assert 150 < dropped.sum() < 250
    texts = pipeline.embed(trainer.dataset.class_names)
    for name, rows in found.items():
        assert torch.equal(rows[~dropped], texts[name][positions[~dropped] % 3])
    assert torch.equal(conditions(Batch(*(part[7:] for part in batch[:3])))["text_embeds"], found["text_embeds"][7:])


def test_classes_are_dropped_for_the_null_class(tuned, tmp_path: Path):
    trainer = Trainer(tuned("dit", data={"dropout": 1.0}), tmp_path)
    task, batch = finetuning(trainer), first_batch(trainer)
    assert task._conditions(batch)["class_labels"].tolist() == [task.pipeline.classes] * 2


# From a pipeline to a result.


@pytest.mark.parametrize("kind", KINDS)
def test_a_pipeline_is_trained_and_opens_in_diffusers(tuned, tiny_pipeline, tmp_path: Path, kind: str):
    trainer = Trainer(tuned(kind, training={"steps": 2, "sample_every": 2}), tmp_path)
    task = finetuning(trainer)
    trainer.train()
    assert (tmp_path / "samples" / "step-00000002.png").is_file()
    entries = RunFolder(tmp_path).log()
    assert [sorted(entry) for entry in entries] == [["base", "spectral", "spectral/wavelet", "step"]] * 2
    result = task.write_result(tmp_path, trainer.averaged)
    assert result == tmp_path / "pipeline"
    before, after = tiny_pipeline(kind) / task.folder, result / task.folder
    assert not same(weights(before), weights(after))
    assert same(weights(after), dict(trainer.averaged.state_dict()))
    for part in ("vae", "text_encoder", "text_encoder_2"):
        if (tiny_pipeline(kind) / part).is_dir():
            assert same(weights(tiny_pipeline(kind) / part), weights(result / part))
    namespace: dict[str, Any] = {}
    lines = task.usage(tmp_path)
    exec("\n".join(lines[:-1]), namespace)
    assert type(namespace["pipeline"]).__name__ == task.pipeline.class_name
    assert f"{sum(p.numel() for p in task.network.parameters()):,} weights" in task.summary(tmp_path)
    images = trainer.sample(range(2))
    assert images.shape == (2, 3, 16, 16)
    assert bool(torch.isfinite(images).all())


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_are_trained_and_saved_alone(tuned, tiny_pipeline, tmp_path: Path, kind: str):
    pytest.importorskip("peft")
    recipe = tuned(kind, pipeline={"lora": {"rank": 2}}, training={"steps": 2}, optimizer={"lr": 0.1})
    trainer = Trainer(recipe, tmp_path)
    task = finetuning(trainer)
    before = {name: value.clone() for name, value in task._live.state_dict().items()}
    plain = open_pipeline(tiny_pipeline(kind))
    untouched = task.pipeline.draw(plain.network, seeds=range(2), **task.asked(range(2)), steps=2, height=16, width=16)
    assert torch.allclose(trainer.sample(range(2)), untouched, atol=1e-5)  # adapters start as nothing
    trainer.train()
    trained = {name for name, value in task._live.state_dict().items() if not torch.equal(value, before[name])}
    assert trained
    assert all("lora" in name for name in trained)
    _, checkpoint = RunFolder(tmp_path).latest() or pytest.fail("no checkpoint")
    stored = {file.name for file in (checkpoint / "ema").iterdir()}
    assert stored == {"adapters.safetensors"}
    assert set(weights(checkpoint / task.folder)) == {name for name, _ in Adapters(task._live).named_parameters()}
    moments = load_file(checkpoint / "state.safetensors")
    assert sum(value.numel() for value in moments.values() if value.ndim) == 2 * sum(
        parameter.numel() for parameter in Adapters(task._live).parameters()
    )
    result = task.write_result(tmp_path, trainer.averaged)
    assert result == tmp_path / "lora"
    namespace: dict[str, Any] = {}
    exec("\n".join(task.usage(tmp_path)[:-1]), namespace)
    drawn = trainer.sample(range(2))
    assert not torch.allclose(drawn, untouched, atol=1e-3)
    loaded = getattr(namespace["pipeline"], task.folder)
    again = plain.draw(loaded, seeds=range(2), **task.asked(range(2)), steps=2, height=16, width=16)
    torch.testing.assert_close(again, drawn, atol=1e-4, rtol=0)


# Going on.


@pytest.mark.parametrize(("kind", "lora"), [("sd", None), ("flux", {"rank": 2, "dropout": 0.2})])
def test_resuming_reaches_the_same_bits(tuned, tmp_path: Path, kind: str, lora: dict[str, Any] | None):
    recipe = tuned(kind, pipeline={"lora": lora}, training={"accumulate": 2}, data={"dropout": 0.5})
    Trainer(recipe, tmp_path / "whole").train()
    Trainer(recipe, tmp_path / "parts").train(until=2)
    resumed = Trainer(recipe, tmp_path / "parts", resume=True)
    assert resumed.step == 2
    resumed.train()
    assert last_files(tmp_path / "parts") == last_files(tmp_path / "whole")


def test_bf16_trains_and_draws_above_a_base_of_bf16(tuned, tmp_path: Path):
    lora = {"rank": 2, "base": "bf16"}
    AcceleratorState._reset_state()
    try:
        trainer = Trainer(tuned("sd3", pipeline={"lora": lora}, training={"precision": "bf16", "steps": 1}), tmp_path)
        trainer.train()
        images = trainer.sample(range(2))
    finally:
        AcceleratorState._reset_state()
    dtypes = {("lora" in name, weight.dtype) for name, weight in finetuning(trainer)._live.named_parameters()}
    assert dtypes == {(True, torch.float32), (False, torch.bfloat16)}
    assert images.dtype == torch.float32
    assert bool(torch.isfinite(images).all())
    assert "forward" not in vars(finetuning(trainer)._live)  # as it was before the drawing


SCRIPT = """
import sys
from passband.training import Trainer, load_recipe
Trainer(load_recipe(sys.argv[1]), sys.argv[2]).train(until=2)
"""


def test_two_processes_equal_one(tuned, two_processes, tmp_path: Path):
    recipe = tuned("dit")
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    Trainer(recipe, tmp_path / "one").train(until=2)
    two_processes("-c", SCRIPT, tmp_path / "recipe.yaml", tmp_path / "two")
    ends = [weights(tmp_path / run / "checkpoints" / "step-00000002" / "ema") for run in ("one", "two")]
    assert ends[0].keys() == ends[1].keys()
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-3, atol=2e-5)


# What does not fit.


@pytest.mark.parametrize(
    ("kind", "changes", "error", "message"),
    [
        ("sd", {"data": {"resolution": 20}}, RecipeError, r"data.resolution 20 does not fit the pipeline: .*multiples"),
        ("ddpm", {"data": {"channels": 1}}, RecipeError, r"has images of 3 channel\(s\), and data.channels is 1"),
        ("dit", {"data": {"labels": "none"}}, RecipeError, r"draws images of classes, and the images have none"),
        ("ddpm", {"data": {"prompt": "x"}}, RecipeError, r"data.prompt is for pipelines that take text, .* neither"),
        ("sd", {"data": {"labels": "folder"}}, RecipeError, r"data.labels is for pipelines that take classes"),
        ("ddpm", {"sampling": {"guidance": 2.0}}, RecipeError, r"sampling.guidance needs classes or prompts"),
        ("ddpm", {"regularizer": {"pixels": True}}, RecipeError, r"regularizer.pixels decodes latents, .* on pixels"),
        (
            "sd",
            {"regularizer": {"losses": [{"name": "wavelet", "levels": 9}]}},
            RecipeError,
            r"the recipe's parts do not fit each other: .*level",
        ),
        ("sd", {"pipeline": {"training_guidance": 3.5}}, RecipeError, r"training_guidance is for .*Flux dev"),
        ("sd", {"data": {"captions": "files"}}, ValueError, r"6 of 6 images in .* have no caption"),
        ("sd", {"pipeline": {"path": "nowhere"}}, FileNotFoundError, r"there is no folder 'nowhere'"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_written(
    tuned, tmp_path: Path, kind: str, changes: dict[str, Any], error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        Trainer(tuned(kind, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unknown_pipeline_is_named(tuned, tiny_pipeline, tmp_path: Path):
    folder = Path(shutil.copytree(tiny_pipeline("ddpm"), tmp_path / "other"))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "KandinskyPipeline"}))
    with pytest.raises(ValueError, match=r"holds a KandinskyPipeline.*supported are .*FluxPipeline"):
        Trainer(tuned("ddpm", pipeline={"path": str(folder)}), tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pipeline": {"lora": {"rnk": 4}}}, r"pipeline.lora: unknown key 'rnk' \(did you mean 'rank'\?\)"),
        ({"data": {"promt": "x"}}, r"data: unknown key 'promt' \(did you mean 'prompt'\?\)"),
        ({"process": {"name": "vp"}}, r"unknown key 'process'.*known keys: name, data, task, pipeline"),
        ({"data": {"augment": {}}}, r"data: augment is for networks that are told of it"),
        ({"data": {"prompt": "x", "captions": "files"}}, r"prompt is the caption of all images"),
        ({"regularizer": {"crop": 8}}, r"crop is a part of the latent to decode: set pixels"),
        ({"regularizer": {"losses": [{"name": "stft"}]}}, r"stft is a loss of audio"),
        ({"training": {"sharding": "fsdp"}}, r"a pipeline is not divided among processes"),
        ({"training": {"snapshots": {"every": 2}}}, r"training.snapshots are averages to choose from"),
        ({"training": {"batch_size": 3, "accumulate": 2}}, r"batch_size 3 must be a multiple of training.accumulate"),
        ({"pipeline": {"lora": {"rank": 2, "base": "bf16"}}}, r"pipeline.lora.base 'bf16' goes with autocast"),
    ],
)
def test_wrong_settings_are_named(tuned, changes: dict[str, Any], message: str):
    with pytest.raises(RecipeError, match=message):
        tuned("sd", **changes)


def test_gradient_checkpointing_changes_nothing(tuned, tmp_path: Path):
    kinds = [{}, {"gradient_checkpointing": True}]
    for number, pipeline in enumerate(kinds):
        Trainer(tuned("sd", pipeline=pipeline), tmp_path / str(number)).train(until=2)
    ends = [weights(tmp_path / str(number) / "checkpoints" / "step-00000002" / "unet") for number in range(2)]
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-4, atol=1e-6)
