"""Recipes: every setting survives the trip through YAML, and every fault is named."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from passband.training import RecipeError, load_recipe, make_recipe, sections

RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.yaml"))
SMALL: dict[str, Any] = {"name": "small", "data": {"name": "checkerboard"}, "process": {"name": "vp"}}
TEXT = """
name: small
data: {name: checkerboard, cells: [2, 4]}
process: {name: vp}
regularizer:
  losses: [{name: amplitude}, {name: wavelet, levels: 2}]
  weight: 0.1
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(TEXT)
    return path


def faults(values: dict[str, Any]) -> str:
    with pytest.raises(RecipeError) as caught:
        make_recipe(values)
    return str(caught.value)


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "recipe.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# Round trips.


@pytest.mark.parametrize("data", [{"name": "images", "path": "photos"}, {"name": "checkerboard"}])
@pytest.mark.parametrize("process", ["vp", "edm", "flow"])
@pytest.mark.parametrize("weight", [0.25, "edm", {"edm": 0.5}, {"share": 0.1}])
def test_defaults_survive_the_trip_through_yaml(tmp_path: Path, data: dict[str, Any], process: str, weight: Any):
    losses = [{"name": name} for name in ("amplitude", "amplitude_phase", "wavelet", "focal_frequency", "pixel")]
    regularizer = {"losses": losses, "weight": weight, "gate": {"max_ratio": 3}}
    recipe = make_recipe({**SMALL, "data": data, "process": {"name": process}, "regularizer": regularizer})
    assert load_recipe(write(tmp_path, recipe.to_yaml())) == recipe


def test_to_yaml_spells_every_setting_out():
    text = make_recipe(SMALL).to_yaml()
    for settings in (sections.CheckerboardData, sections.VPProcess, sections.UNetModel, sections.OptimizerSettings):
        for key in settings.model_fields:
            assert f"  {key}:" in text
    assert "regularizer: null" in text


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_of_the_repository_load(path: Path, tmp_path: Path):
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert load_recipe(write(tmp_path, recipe.to_yaml())) == recipe


@pytest.mark.parametrize("name", ["finetune", "photos32-pretrain"])
def test_recipes_of_edm_load(name: str, tmp_path: Path):
    recipe = load_recipe(RECIPES[0].parent / "edm" / f"{name}.yaml")
    assert recipe.model.name == "edm_unet"
    assert load_recipe(write(tmp_path, recipe.to_yaml())) == recipe


JIT_RECIPES = sorted((RECIPES[0].parent / "jit").glob("jit-*.yaml"))


@pytest.mark.parametrize("path", JIT_RECIPES, ids=lambda path: path.stem)
def test_recipes_of_jit_load(path: Path, tmp_path: Path):
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert (recipe.model.name, recipe.loss.space) == ("jit", "velocity")
    assert (recipe.forcing is not None) == path.stem.endswith("-forcing")
    assert load_recipe(write(tmp_path, recipe.to_yaml())) == recipe


def test_there_are_recipes_of_jit_with_and_without_forcing():
    names = {path.stem for path in JIT_RECIPES}
    published = {f"jit-{size}-imagenet256{forcing}" for size in ("b16", "b32", "700m") for forcing in ("", "-forcing")}
    assert published | {"jit-mnist", "jit-photos32", "jit-photos64"} == names


MATCHING_RECIPES = [path for kind in ("vae", "dit") for path in sorted((RECIPES[0].parent / kind).glob("*.yaml"))]


@pytest.mark.parametrize("path", MATCHING_RECIPES, ids=lambda path: path.stem)
def test_recipes_of_spectrum_matching_load(path: Path, tmp_path: Path):
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert recipe.task == {"vae": "autoencoder", "dit": "denoiser"}[path.parent.name]
    if path.parent.name == "vae":
        named = [term.name for term in recipe.objective.latent]
        assert next((kind for kind in ("esm", "dsm", "eq") if f"-{kind}" in path.stem), "kl") in named
    else:
        target = {"repa": "plain", "irepa": "normalize", "dog": "dog"}.get(path.stem.rpartition("-")[2])
        assert (recipe.alignment.target.name if recipe.alignment else None) == target
    assert load_recipe(write(tmp_path, recipe.to_yaml())) == recipe


def test_the_published_experiments_of_spectrum_matching_have_recipes():
    celeba = {f"vae-celeba256-{term}" for term in ("kl", "esm", "dsm", "eq")}
    imagenet = {"vae-imagenet256-kl", "vae-imagenet256-dsm"}
    transformers = {f"dit-latents-{kind}" for kind in ("repa", "irepa", "repa-dog")}
    assert celeba | imagenet | transformers <= {path.stem for path in MATCHING_RECIPES}


def test_there_are_recipes_for_every_process():
    assert {load_recipe(path).process.name for path in RECIPES} == {"vp", "edm", "flow"}


def test_sample_shape():
    assert make_recipe(SMALL).sample_shape == (1, 32, 32)
    gray = {"name": "images", "path": "x", "channels": 1, "resolution": 8}
    assert make_recipe({**SMALL, "data": gray}).sample_shape == (1, 8, 8)


# Overrides.


@pytest.mark.parametrize(
    ("override", "setting", "expected"),
    [
        ("optimizer.lr=1e-4", "optimizer.lr", 1e-4),
        ("training.steps=7", "training.steps", 7),
        ("training.sample_every=null", "training.sample_every", None),
        ("regularizer=null", "regularizer", None),
        ("data.cells=[1, 8]", "data.cells", (1, 8)),
        ("data.cells[1]=8", "data.cells", (2, 8)),
        ("regularizer.losses.1.levels=3", "regularizer.losses.1.levels", 3),
        ("regularizer.losses[1].wavelet=bior1.3", "regularizer.losses.1.wavelet", "bior1.3"),
        ("regularizer.weight.share=0.2", "regularizer.weight.share", 0.2),
        ("regularizer.weight={edm: 2}", "regularizer.weight.edm", 2.0),
        ("regularizer.gate.max_ratio=4", "regularizer.gate.max_ratio", 4.0),
        ("process={name: flow, data_at: 1}", "process.data_at", 1),
        ("data={name: images, path: a=b}", "data.path", Path("a=b")),
    ],
)
def test_overrides(file: Path, override: str, setting: str, expected: Any):
    found: Any = load_recipe(file, [override])
    for part in setting.split("."):
        found = found[int(part)] if part.isdigit() else getattr(found, part)
    assert found == expected


def test_later_overrides_win_and_the_rest_stays(file: Path):
    changed = load_recipe(file, ["optimizer.lr=1", "optimizer.lr=2e-3"])
    assert changed.optimizer.lr == 2e-3
    assert changed == load_recipe(file).model_copy(update={"optimizer": changed.optimizer})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lr", r"an override is key=value, such as optimizer\.lr=1e-4; got 'optimizer\.lr'"),
        ("=1", "an override is key=value"),
        ("data=[1,", r"the override 'data=\[1,' cannot be read"),
        ("data.path=${nowhere}", "cannot be read: Interpolation key 'nowhere' not found"),
        ("data.cells[9]=1", r"'data\.cells\[9\]' does not fit .*index out of range"),
        ("data.cells[a]=1", r"'data\.cells\[a\]' does not fit"),
        ("optimizer.lrr=1", r"optimizer: unknown key 'lrr' \(did you mean 'lr'\?\)"),
        ("data..cells=1", "data: unknown key ''"),
    ],
)
def test_overrides_that_do_not_fit(file: Path, override: str, message: str):
    with pytest.raises(RecipeError, match=message):
        load_recipe(file, [override])


# Faults in the settings.


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"trainin": {}}, "  unknown key 'trainin' (did you mean 'training'?); known keys: name, data, task, process"),
        ({"data": {"name": "checkerboard", "cell": [2]}}, "  data: unknown key 'cell' (did you mean 'cells'?)"),
        ({"data": {"path": "x", "name": "images", "size": 1}}, "  data: unknown key 'size'; known keys: name, path"),
        ({"process": {"name": "vp", "stepps": 3}}, "  process: unknown key 'stepps' (did you mean 'steps'?)"),
        (
            {"process": {"name": "edm", "sigmadata": 3}},
            "  process: unknown key 'sigmadata' (did you mean 'sigma_data'?)",
        ),
        ({"process": {"name": "flow", "dataat": 1}}, "  process: unknown key 'dataat' (did you mean 'data_at'?)"),
        ({"model": {"channels": [8]}}, "  model: unknown key 'channels' (did you mean 'block_out_channels'?)"),
        ({"optimizer": {"LR": 1}}, "  optimizer: unknown key 'LR'; known keys: lr, betas"),
        ({"training": {"batchsize": 1}}, "  training: unknown key 'batchsize' (did you mean 'batch_size'?)"),
        ({"sampling": {"step": 1}}, "  sampling: unknown key 'step' (did you mean 'steps'?)"),
        (
            {"regularizer": {"losses": [{"name": "amplitude"}, {"name": "wavelet", "level": 1}]}},
            "  regularizer.losses.1: unknown key 'level' (did you mean 'levels'?)",
        ),
        (
            {"regularizer": {"losses": [{"name": "pixel"}], "weight": {"edm": 1, "shar": 1}}},
            "  regularizer.weight: unknown key 'shar'; known keys: edm",
        ),
        (
            {"regularizer": {"losses": [{"name": "pixel"}], "gate": {"max_ration": 1}}},
            "  regularizer.gate: unknown key 'max_ration' (did you mean 'max_ratio'?)",
        ),
    ],
)
def test_unknown_keys_name_the_nearest(values: dict[str, Any], line: str):
    assert line in faults({**SMALL, **values})


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"name": "a/b"}, "  name: String should match pattern"),
        ({"data": 3}, "  data: Input should be a mapping, {key: value, ...} (got 3)"),
        ({"data": {}}, "  data.name: Field required"),
        ({"data": {"name": "images"}}, "  data.path: Field required"),
        ({"data": {"name": "image", "path": "x"}}, "  data.name: unknown name 'image' (did you mean 'images'?)"),
        ({"data": {"name": "boards"}}, "expected one of 'images', 'hub', 'checkerboard'"),
        (
            {"data": {"name": "checkerboard", "resolution": 3}},
            "  data.resolution: Input should be greater than or equal",
        ),
        ({"data": {"name": "checkerboard", "cells": [2, "x"]}}, "  data.cells.1: Input should be a valid integer"),
        ({"data": {"name": "images", "path": "x", "crop": "tiles"}}, "  data.crop: Input should be 'center' or 'tile'"),
        ({"data": {"name": "images", "path": "x", "channels": 2}}, "  data.channels: Input should be 1 or 3"),
        ({"data": {"name": "images", "path": "x", "eval_share": 1.5}}, "  data.eval_share: Input should be less than"),
        ({"process": {"name": "ddpm"}}, "  process.name: unknown name 'ddpm'"),
        ({"process": {"name": "vp", "prediction": "eps"}}, "  process.prediction: Input should be 'epsilon', 'sample'"),
        ({"process": {"name": "flow", "data_at": 2}}, "  process.data_at: Input should be 0 or 1"),
        ({"model": {"block_out_channels": []}}, "  model.block_out_channels: Tuple should have at least 1 item"),
        ({"model": {"block_out_channels": [0]}}, "  model.block_out_channels.0: Input should be greater than or equal"),
        (
            {"model": {"block_out_channels": [48]}},
            "  model: block_out_channels (48,) must be multiples of norm_num_groups",
        ),
        (
            {"model": {"attention_levels": [3]}},
            "  model: attention_levels [3] do not exist: the levels are 0 (finest) to 2",
        ),
        ({"model": {"attention_levels": [-1]}}, "  model: attention_levels [-1] do not exist"),
        ({"model": {"attention_head_dim": 512}}, "  model: attention_head_dim 512 exceeds the 256 channels"),
        (
            {"model": {"attention_head_dim": 65, "attention_levels": [0]}},
            "attention_head_dim 65 exceeds the 64 channels",
        ),
        ({"model": {"dropout": 1}}, "  model.dropout: Input should be less than 1"),
        ({"regularizer": {}}, "  regularizer.losses: Field required"),
        ({"regularizer": {"losses": []}}, "  regularizer.losses: give at least one loss, or set regularizer to null"),
        (
            {"regularizer": {"losses": [{"name": "amplitud"}]}},
            "  regularizer.losses.0.name: unknown name 'amplitud' (did",
        ),
        (
            {"regularizer": {"losses": [{"name": "pixel"}], "weight": "emd"}},
            "  regularizer.weight: a weight is a number, 'edm', {edm: NUMBER} or {share: NUMBER} (got 'emd')",
        ),
        (
            {"regularizer": {"losses": [{"name": "pixel"}], "weight": -1}},
            "  regularizer.weight: Input should be greater",
        ),
        (
            {"regularizer": {"losses": [{"name": "pixel"}], "weight": {"share": 0}}},
            "  regularizer.weight.share: Input should be greater than 0 (got 0)",
        ),
        ({"optimizer": {"lr": 0}}, "  optimizer.lr: Input should be greater than 0 (got 0)"),
        ({"optimizer": {"lr": float("inf")}}, "  optimizer.lr: Input should be a finite number (got inf)"),
        ({"optimizer": {"lr": float("nan")}}, "  optimizer.lr: Input should be a finite number (got nan)"),
        ({"optimizer": {"betas": [0.9, 1]}}, "  optimizer.betas.1: Input should be less than 1"),
        ({"training": {"steps": 1.5}}, "  training.steps: Input should be a valid integer"),
        ({"training": {"trackers": "wandb"}}, "  training.trackers: Input should be a list (got 'wandb')"),
        ({"training": {"precision": "fp8"}}, "  training.precision: Input should be 'no', 'fp16' or 'bf16'"),
        (
            {"training": {"keep_checkpoints": 0}},
            "  training.keep_checkpoints: Input should be greater than or equal to 1",
        ),
        ({"sampling": {"solver": "euler_a"}}, "  sampling.solver: Input should be 'euler', 'heun' or 'ancestral'"),
    ],
)
def test_wrong_types_and_ranges(values: dict[str, Any], line: str):
    assert line in faults({**SMALL, **values})


def test_a_bare_no_is_no_boolean():
    assert make_recipe({**SMALL, "training": {"precision": False}}).training.precision == "no"


def test_all_faults_are_listed_each_once():
    text = faults(
        {
            "name": "",
            "data": {"name": "checkerboard", "cells": "x", "sizes": 1},
            "optimizer": {"lr": -1, "beta": 1, "decay": 2},
            "trainin": {},
        }
    )
    lines = text.splitlines()
    assert lines[0] == "the recipe is not valid:"
    starts = ("name:", "data.cells:", "data: unknown key 'sizes'", "process: Field required", "optimizer.lr:")
    starts += ("optimizer: unknown key 'beta'", "optimizer: unknown key 'decay'", "unknown key 'trainin'")
    for start in starts:
        assert sum(line.startswith(f"  {start}") for line in lines) == 1, (start, text)
    assert len(lines) == 1 + len(starts)


def test_resolution_must_be_divisible_by_the_network_s_halvings():
    assert "data.resolution 36 must be divisible by 8" in faults(
        {**SMALL, "data": {"name": "checkerboard", "resolution": 36}, "model": {"block_out_channels": [64] * 4}}
    )
    pretrained = {"block_out_channels": [64] * 4, "pretrained": "folder"}  # its own configuration counts
    make_recipe({**SMALL, "data": {"name": "checkerboard", "resolution": 36}, "model": pretrained})


def test_label_dropout_needs_labels():
    for name in ("unet", "edm_unet"):
        model = {"name": name, "label_dropout": 0.1}
        assert "model.label_dropout leaves out classes" in faults({**SMALL, "model": model})


def test_settings_cannot_be_changed_after_they_were_checked():
    with pytest.raises(ValueError, match="frozen"):
        make_recipe(SMALL).optimizer.lr = -1  # type: ignore[misc]


# Files.


def test_missing_file_and_folder(tmp_path: Path):
    for path in (tmp_path / "nowhere.yaml", tmp_path):
        with pytest.raises(RecipeError, match=f"there is no recipe at '{path}': give the path of a YAML file"):
            load_recipe(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: [1,", "cannot be read as a YAML recipe"),
        ("name: a\nname: b", "duplicate key"),
        (b"\xff\xfe\x00bin", "cannot be read as a YAML recipe"),
        ("3", "cannot be read as a YAML recipe"),
        ("- 1\n- 2", "a mapping of settings was expected, got a list"),
        ("name: ${nowhere}", "cannot be resolved: Interpolation key 'nowhere' not found"),
        ("", "data: Field required"),
    ],
)
def test_broken_files(tmp_path: Path, text: str | bytes, message: str):
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(write(tmp_path, text))
    assert str(tmp_path / "recipe.yaml") in str(caught.value)


@pytest.mark.parametrize("settings", [value for value in vars(sections).values() if isinstance(value, type)])
def test_no_settings_take_unknown_keys(settings: type):
    if issubclass(settings, sections.Settings):
        with pytest.raises(ValueError, match="unknown key 'surely_unknown'"):
            TypeAdapter(settings).validate_python({"surely_unknown": 1})
