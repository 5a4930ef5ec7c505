"""`passband finetune`: from a pipeline and images to a run's folder, a result for diffusers, and samples."""

import json
import os
import shlex
import signal
import sys
from pathlib import Path

import pytest
import torch
import yaml
from diffusers import DiffusionPipeline

from passband.data import save_image
from passband.training import RunFolder, Trainer, load_recipe

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes" / "finetune").glob("*.yaml"))
KIND = {"ddpm": "ddpm", "dit": "dit", "stable-diffusion": "sd", "sd3": "sd3", "flux": "flux"}
QUICK = [
    "training.trackers=[]",
    "training.batch_size=2",
    "training.log_every=1",
    "training.sample_every=null",
    "sampling.steps=2",
    "sampling.count=2",
]


@pytest.fixture(scope="module")
def barns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images in two folders, a caption beside each."""
    folder = tmp_path_factory.mktemp("barns")
    generator = torch.Generator().manual_seed(0)
    for i in range(4):
        save_image(torch.rand(3, 16, 16, generator=generator), folder / "ab"[i % 2] / f"{i}.png")
        (folder / "ab"[i % 2] / f"{i}.txt").write_text(f"a barn in season {i % 3}")
    return folder


def kind_of(recipe: Path) -> str:
    return KIND[recipe.stem.removesuffix("-lora")]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_resolves(passband, tiny_pipeline, barns: Path, recipe: Path):
    folder = tiny_pipeline(kind_of(recipe))
    result = passband("finetune", folder, barns, "--recipe", recipe, "--dry-run", "--resolution", 16)
    assert result.status == 0, result.err
    printed = yaml.safe_load(result.out)
    assert printed["pipeline"]["path"] == str(folder)
    assert printed["data"]["path"] == str(barns)
    assert printed["regularizer"]["weight"] == {"share": 0.1}
    assert (printed["pipeline"]["lora"] is not None) == recipe.stem.endswith("-lora")


def test_the_recipes_are_all_there():
    names = {"ddpm", "dit", "stable-diffusion", "stable-diffusion-lora", "sd3-lora", "flux-lora"}
    assert {file.stem for file in RECIPES} == names


@pytest.mark.parametrize(("kind", "size"), [("ddpm", 16), ("dit", 16), ("sd", 16), ("sd3", 16), ("flux", 256)])
def test_the_size_is_the_pipelines_own(passband, tiny_pipeline, barns: Path, kind: str, size: int):
    result = passband("finetune", tiny_pipeline(kind), barns, "--dry-run")
    printed = yaml.safe_load(result.out)
    assert printed["data"]["resolution"] == size
    assert printed["data"]["labels"] == ("folder" if kind == "dit" else "none")


def test_options_are_settings_by_short_names(passband, tiny_pipeline, barns: Path, tmp_path: Path):
    where = ("finetune", tiny_pipeline("sd"), barns, "--dry-run")
    options = ("--prompt", "a barn: red, 1", "--lora", 8, "--term", "wavelet", "--weight", 0.5, "--steps", 7)
    printed = yaml.safe_load(passband(*where, *options, "--resolution", "16x24", "--strict", "training.seed=3").out)
    assert printed["data"]["prompt"] == "a barn: red, 1"
    assert printed["data"]["resolution"] == [16, 24]
    assert printed["data"]["strict"] is True
    assert printed["pipeline"]["lora"]["rank"] == 8
    assert printed["optimizer"]["lr"] == 1e-4
    assert [term["name"] for term in printed["regularizer"]["losses"]] == ["wavelet"]
    assert printed["regularizer"]["weight"] == 0.5
    assert (printed["training"]["steps"], printed["training"]["seed"]) == (7, 3)
    assert yaml.safe_load(passband(*where, "--term", "none").out)["regularizer"] is None
    recipe = ROOT / "recipes" / "finetune" / "stable-diffusion-lora.yaml"
    printed = yaml.safe_load(passband(*where, "--recipe", recipe, "--lora", 4, "--term", "pixel").out)
    assert (printed["pipeline"]["lora"]["rank"], printed["pipeline"]["lora"]["base"]) == (4, "bf16")
    assert [term["name"] for term in printed["regularizer"]["losses"]] == ["pixel"]
    assert printed["regularizer"]["gate"]["max_ratio"] == 10
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(passband(*where, "--recipe", recipe).out)
    assert load_recipe(resolved).to_yaml() == resolved.read_text()


@pytest.mark.parametrize("lora", [False, True])
def test_from_a_pipeline_to_a_result(passband, tiny_pipeline, barns: Path, tmp_path: Path, lora: bool):
    out = tmp_path / "a run"
    options = ["--lora", 2] if lora else []
    result = passband("finetune", tiny_pipeline("sd"), barns, "--out", out, "--steps", 2, *options, *QUICK)
    assert result.status == 0, result.err
    assert f"{out} is trained to step 2; " in result.err
    assert "of the StableDiffusionPipeline in " in result.err
    assert "were trained on 4 images" in result.err
    lines = [line.strip() for line in result.err.splitlines() if line.startswith("    ")]
    namespace: dict[str, DiffusionPipeline] = {}
    exec("\n".join(lines[:-1]), namespace)
    image = namespace["pipeline"]("a barn", num_inference_steps=2, height=16, width=16, output_type="pt").images
    assert bool(torch.isfinite(image).all())
    assert lines[-1] == 'pipeline("A PROMPT").images[0].save("image.png")'
    assert (out / ("lora" if lora else "pipeline")).is_dir()
    entries = RunFolder(out).log()
    assert all(entry["base"] > 0 and entry["spectral"] > 0 for entry in entries)
    drawn = passband("sample", out, "--count", 3, "--prompt", "a red barn", "--prompt", "a blue barn")
    assert drawn.status == 0, drawn.err
    folder = out / "samples" / "step-00000002"
    assert {file.name for file in folder.glob("*.png")} == {"000000.png", "000001.png", "000002.png"}
    assert json.loads((folder / "settings.json").read_text())["prompts"] == ["a red barn", "a blue barn"]
    assert passband("sample", out, "--count", 2, "--out", tmp_path / "captions").status == 0
    noted = json.loads((tmp_path / "captions" / "settings.json").read_text())["prompts"]
    assert noted == [f"a barn in season {i}" for i in range(3)]


class Interrupted(Trainer):
    """A trainer that is sent an interrupt in its second step."""

    def _update(self, batch):
        if self.step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return super()._update(batch)


def test_ctrl_c_saves_and_says_how_to_go_on(passband, tiny_pipeline, barns: Path, tmp_path: Path, monkeypatch):
    command = ["finetune", tiny_pipeline("ddpm"), barns, "--steps", 3, "--term", "wavelet", *QUICK]
    with monkeypatch.context() as patch:
        patch.setattr("passband.cli.train.Trainer", Interrupted)
        stopped = passband(*command, "--out", tmp_path / "parts")
    assert stopped.status == 130
    assert "stopped at step 2 and saved; continue with:\npassband finetune " in stopped.err
    again = shlex.split(stopped.err.splitlines()[-1])[1:]
    assert again[-1] == "--resume"
    assert not (tmp_path / "parts" / "pipeline").exists()
    assert passband(*again).status == 0
    assert passband(*command, "--out", tmp_path / "whole").status == 0
    parts, whole = (
        (tmp_path / run / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
        for run in ("parts", "whole")
    )
    assert parts == whole


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--term", "wavlet"], "unknown --term: got 'wavlet' (did you mean 'wavelet'?)"),
        (["--term", "none", "--weight", 0.1], "--term none asks for none: leave one of them out"),
        (["--recipe", "nowhere.yaml"], "there is no recipe at 'nowhere.yaml'"),
        (["--recipe", ROOT / "recipes" / "photos64-flow-wavelet.yaml"], "is a recipe of the task 'denoiser'"),
        (["trainig.steps=3"], "unknown key 'trainig' (did you mean 'training'?)"),
        (["--resolution", "big"], "--resolution takes the side of a square"),
        (["data.captions=metadata"], "needs metadata.jsonl at the root of"),
        (["oops"], "an override is key=value"),
    ],
)
@pytest.mark.bad_input
def test_faults_are_one_message_and_leave_nothing(passband, tiny_pipeline, barns: Path, options, message: str):
    result = passband("finetune", tiny_pipeline("sd"), barns, *options, *QUICK)
    assert result.status == 2
    assert result.err.startswith("error: ")
    assert message in result.err
    assert "Traceback" not in result.err
    assert list(Path().iterdir()) == []


@pytest.mark.bad_input
def test_what_is_no_pipeline(passband, barns: Path, tmp_path: Path):
    missing = passband("finetune", "nowhere", barns)
    assert missing.status == 2
    assert "there is no folder 'nowhere': expected a diffusers pipeline on this machine" in missing.err
    other = passband("finetune", barns, barns)
    assert other.status == 2
    assert "is no diffusers pipeline: it has no model_index.json" in other.err


@pytest.mark.bad_input
@pytest.mark.parametrize("inside", ["", "run"])
def test_a_run_does_not_lie_in_what_it_reads(passband, tiny_pipeline, barns: Path, inside: str):
    for name, folder in (("pipeline", tiny_pipeline("sd")), ("images", barns)):
        before = sorted(folder.rglob("*"))
        result = passband("finetune", tiny_pipeline("sd"), barns, "--out", folder / inside)
        assert result.status == 2
        assert f"lies in the folder of the {name}" in result.err
        assert sorted(folder.rglob("*")) == before


@pytest.mark.bad_input
def test_adapters_without_peft(passband, tiny_pipeline, barns: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    result = passband("finetune", tiny_pipeline("sd"), barns, "--lora", 2, *QUICK)
    assert result.status == 2
    assert "peft" in result.err
    assert "pip install 'passband[lora]'" in result.err


@pytest.mark.bad_input
def test_sample_options_that_a_pipeline_does_not_take(passband, tiny_pipeline, barns: Path, tmp_path: Path, run: Path):
    out = tmp_path / "tuned"
    command = ("finetune", tiny_pipeline("ddpm"), barns, "--out", out, "--steps", 1, *QUICK)
    assert passband(*command).status == 0
    for options, message in (
        (["--solver", "heun"], "--solver: a diffusers pipeline draws by its own scheduler"),
        (["--prompt", "a barn"], "--prompt: a DDPMPipeline takes no prompts"),
        (["--guidance", 2], "--guidance: a DDPMPipeline takes neither classes nor prompts"),
        (["--weights", "emma"], "holds no weights 'emma' (did you mean 'ema'?)"),
    ):
        result = passband("sample", out, *options)
        assert result.status == 2
        assert message in result.err
    result = passband("sample", run, "--prompt", "a barn")
    assert result.status == 2
    assert "--prompt: for the run of a finetuned pipeline" in result.err
