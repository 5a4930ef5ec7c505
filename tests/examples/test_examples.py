"""The examples run, on their own data and on given files; the term is in their loss and in its gradient."""

import ast
import hashlib
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import passband
import passband.sampling
from passband.data import save_audio, save_image

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
#: What each leaves in its folder.
FILES = {
    "diffusers_ddpm": {"samples.png", "spectrum.png", "model_index.json", "unet", "scheduler"},
    "flow_from_scratch": {"samples.png", "spectrum.png"},
    "edm_loop": {"samples.png", "spectrum.png"},
    "vae_finetune": {"images.png", "spectrum.png", "config.json", "diffusion_pytorch_model.safetensors"},
    "audio": {"original.wav", "before.wav", "after.wav", "spectrograms.png"},
}
#: The file that says whether the network was trained otherwise.
OUTCOME = {
    "diffusers_ddpm": "unet/diffusion_pytorch_model.safetensors",
    "flow_from_scratch": "samples.png",
    "edm_loop": "samples.png",
    "vae_finetune": "diffusion_pytorch_model.safetensors",
    "audio": "after.wav",
}

#: Diffusers' warm-up starts from a learning rate of 0, so the second step is the first that trains.
STEPS = {"diffusers_ddpm": 2}

Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run an example in this process with few sampling steps, and return what it printed."""
    sample, vocode = passband.sample, passband.sampling.vocode

    def few_samples(*args: Any, **options: Any) -> torch.Tensor:
        return sample(*args, **{**options, "steps": 2, "seeds": range(8)})

    def few_steps(*args: Any, **options: Any) -> torch.Tensor:
        return vocode(*args, **{**options, "steps": 2})

    monkeypatch.setattr(passband, "sample", few_samples)
    monkeypatch.setattr(passband.sampling, "vocode", few_steps)

    def run(name: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        with torch.random.fork_rng(devices=[]):
            runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def last(printed: str) -> tuple[float, float]:
    """The last loss and term that were printed."""
    loss, term = re.findall(r"^step \d+  loss (\d+\.\d+)  spectral (\d+\.\d+)$", printed, re.MULTILINE)[-1]
    return float(loss), float(term)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", FILES)
def test_the_term_is_logged_and_trains_the_network(name: str, run: Run, tmp_path: Path) -> None:
    steps = STEPS.get(name, 1)
    printed = run(name, "--steps", steps, "--weight", 0.5, "--out", tmp_path / "with")
    assert {path.name for path in (tmp_path / "with").iterdir()} == FILES[name]
    assert printed.splitlines()[-1].startswith(("look at", "listen to"))
    loss, term = last(printed)
    assert term > 0
    plain, none = last(run(name, "--steps", steps, "--weight", 0, "--out", tmp_path / "without"))
    if name == "vae_finetune":  # prints the reconstruction's loss and the unweighted divergence
        assert (loss, term) == (plain, none)
    else:
        assert none == 0
        assert loss - plain == pytest.approx(term, abs=1.1e-4)
    assert digest(tmp_path / "with" / OUTCOME[name]) != digest(tmp_path / "without" / OUTCOME[name])


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in range(2):
        save_image(torch.rand(3, 70, 70) * 2 - 1, tmp_path / "images" / f"{number}.png")
    return tmp_path / "images"


@pytest.mark.parametrize(
    ("name", "options"),
    [("diffusers_ddpm", ["--resolution", "16"]), ("flow_from_scratch", ["--forcing"]), ("edm_loop", [])],
)
def test_they_take_a_folder_of_images(name: str, options: list[str], run: Run, images: Path, tmp_path: Path) -> None:
    loss, term = last(run(name, images, "--steps", 1, "--out", tmp_path / "out", *options))
    assert loss > 0
    assert term > 0


def test_the_autoencoder_that_was_saved_is_fine_tuned(run: Run, images: Path, tmp_path: Path) -> None:
    run("vae_finetune", images, "--steps", 1, "--out", tmp_path / "first")
    run("vae_finetune", images, "--autoencoder", tmp_path / "first", "--steps", 1, "--out", tmp_path / "second")
    weights = [tmp_path / name / OUTCOME["vae_finetune"] for name in ("first", "second")]
    assert digest(weights[0]) != digest(weights[1])


def test_the_vocoder_takes_a_folder_of_audio(run: Run, tmp_path: Path) -> None:
    save_audio(tmp_path / "clips" / "0.wav", 0.3 * torch.randn(20_000), 16_000)
    _, term = last(run("audio", tmp_path / "clips", "--steps", 1, "--out", tmp_path / "out"))
    assert term > 0


@pytest.mark.parametrize("name", FILES)
def test_they_are_short_and_their_added_lines_are_marked(name: str) -> None:
    text = (EXAMPLES / f"{name}.py").read_text()
    assert len(text.splitlines()) < 80
    marks = [int(mark) for mark in re.findall(r"  # (\d)\b", text)]
    assert marks == list(range(1, len(marks) + 1))
    assert 2 <= len(marks) <= 5
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring is not None
    assert f"python examples/{name}.py" in docstring
