"""`passband generate`: the folders of GenEval and DPG-Bench, file by file, whole after an interruption."""

import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from passband import Flow, SpectralForcing
from passband._seeds import seed_for
from passband.forcing import attached
from passband.integrations.text_to_image import GeneratorSettings, TextToImage
from passband.training.generate import Generation
from passband.training.prompts import BENCHMARKS
from passband.training.ranks import Ranks

ROOT = Path(__file__).resolve().parents[2]
SIDE = 4

PAINTER = '''
"""A model whose pixel tells prompt and seed, and which stops when it is told to."""
import hashlib
from pathlib import Path

import torch

def value(prompt, seed):
    return hashlib.sha256(f"{prompt} {seed}".encode()).digest()[0]

def paint(prompts, seeds):
    calls = Path("calls.txt")
    made = len(calls.read_text().split()) if calls.exists() else 0
    if Path("stop").exists() and made >= int(Path("stop").read_text()):
        raise KeyboardInterrupt
    calls.write_text("x " * (made + 1))
    values = torch.tensor([value(p, s) for p, s in zip(prompts, seeds)], dtype=torch.uint8)
    return values[:, None, None, None].expand(-1, 3, 4, 4)

def broken(prompts, seeds):
    return torch.full((len(prompts), 3, 4, 4), torch.nan)
'''


def value(prompt: str, seed: int) -> int:
    return hashlib.sha256(f"{prompt} {seed}".encode()).digest()[0]


@pytest.fixture
def painter(passband, monkeypatch: pytest.MonkeyPatch):
    """The model `painter:paint`, which reads its orders from the folder that the command runs in."""
    here = Path.cwd()
    (here / "painter.py").write_text(PAINTER)
    monkeypatch.syspath_prepend(here)
    yield here
    sys.modules.pop("painter", None)


@pytest.fixture
def geneval(tmp_path: Path) -> Path:
    prompts = ["a bench", "two cats", "a red dog", "a blue cup"]
    lines = [{"tag": "t", "include": [{"class": "cat", "count": 1}], "prompt": prompt} for prompt in prompts]
    file = tmp_path / "evaluation_metadata.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


@pytest.fixture
def dpg(tmp_path: Path) -> Path:
    folder = tmp_path / "prompts"
    folder.mkdir()
    for name, text in {"7": "a long prompt", "partiprompts12": "another one", "x": "a third"}.items():
        (folder / f"{name}.txt").write_text(f"{text}\n")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def pixels(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        assert image.mode == "RGB"
        return np.array(image)


def test_geneval_file_by_file(passband, painter: Path, geneval: Path, tmp_path: Path):
    out = tmp_path / "out"
    result = passband("generate", geneval, "painter:paint", "--benchmark", "geneval", "--out", out, "--batch-size", 3)
    assert result.status == 0
    assert f"16 images of 4 prompts are in {out}" in result.err
    assert f"evaluate_images.py {out}" in result.err
    expected = {"settings.json"}
    for i, line in enumerate(geneval.read_text().splitlines()):
        given = json.loads(line)
        assert json.loads((out / f"{i:05d}" / "metadata.jsonl").read_text()) == given
        expected |= {f"{i:05d}/metadata.jsonl"} | {f"{i:05d}/samples/{k:04d}.png" for k in range(4)}
        for k in range(4):
            image = pixels(out / f"{i:05d}" / "samples" / f"{k:04d}.png")
            assert image.shape == (SIDE, SIDE, 3)
            assert np.unique(image).tolist() == [value(given["prompt"], seed_for(0, k, f"prompt {i:05d}"))]
    assert set(files(out)) == expected


def test_dpg_file_by_file(passband, painter: Path, dpg: Path, tmp_path: Path):
    out = tmp_path / "out"
    result = passband("generate", dpg, "painter:paint", "--benchmark", "dpg", "--out", out, "--seed", 5)
    assert result.status == 0
    assert "12 images of 3 prompts" in result.err
    assert f"PIC_NUM=4 bash dpg_bench/dist_eval.sh {out} RESOLUTION" in result.err
    assert set(files(out)) == {"settings.json", "7.png", "partiprompts12.png", "x.png"}
    for name in ("7", "partiprompts12", "x"):
        image = pixels(out / f"{name}.png")
        assert image.shape == (2 * SIDE, 2 * SIDE, 3)
        text = (dpg / f"{name}.txt").read_text().strip()
        for k, (y, x) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
            crop = image[y * SIDE : (y + 1) * SIDE, x * SIDE : (x + 1) * SIDE]
            assert np.unique(crop).tolist() == [value(text, seed_for(5, k, f"prompt {name}"))]


@pytest.mark.parametrize("benchmark", ["geneval", "dpg"])
def test_an_interrupted_command_continues(passband, painter: Path, request, tmp_path: Path, benchmark: str):
    prompts = request.getfixturevalue(benchmark)
    options = ["painter:paint", "--benchmark", benchmark, "--batch-size", 4, "--out"]
    assert passband("generate", prompts, *options, tmp_path / "whole").status == 0
    (painter / "calls.txt").unlink()
    (painter / "stop").write_text("2")
    stopped = passband("generate", prompts, *options, tmp_path / "out")
    assert stopped.status == 130
    assert "interrupted; the same command continues" in stopped.err
    half = files(tmp_path / "out")
    assert (
        0
        < sum(name.endswith(".png") for name in half)
        < sum(name.endswith(".png") for name in files(tmp_path / "whole"))
    )
    times = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in half if name.endswith(".png")}
    (painter / "stop").unlink()
    assert passband("generate", prompts, *options, tmp_path / "out").status == 0
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in times} == times
    made = (painter / "calls.txt").read_text()
    assert passband("generate", prompts, *options, tmp_path / "out").status == 0
    assert (painter / "calls.txt").read_text() == made  # nothing was left to draw


def test_shares_and_batches_give_the_same_files(passband, painter: Path, geneval: Path, tmp_path: Path):
    options = ["generate", geneval, "painter:paint", "--benchmark", "geneval", "--out"]
    passband(*options, tmp_path / "whole")
    first = passband(*options, tmp_path / "parts", "--share", "1/3", "--batch-size", 1)
    assert "this was share 1/3" in first.err
    assert {name.split("/")[0] for name in files(tmp_path / "parts") if name.endswith(".png")} == {"00000", "00003"}
    for share in ("2/3", "3/3"):
        assert passband(*options, tmp_path / "parts", "--share", share, "--batch-size", 5).status == 0
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


@pytest.mark.bad_input
@pytest.mark.parametrize("change", [["--seed", 1], ["--images-per-prompt", 2], ["prompt"]])
def test_other_settings_are_not_mixed_in(passband, painter: Path, geneval: Path, tmp_path: Path, change: list[object]):
    options = ["generate", geneval, "painter:paint", "--benchmark", "geneval", "--out", tmp_path / "out"]
    assert passband(*options).status == 0
    before = files(tmp_path / "out")
    if change == ["prompt"]:
        geneval.write_text(geneval.read_text().replace("two cats", "three cats"))
        change = []
    result = passband(*options, *change)
    assert result.status == 2
    assert "holds samples drawn with other settings" in result.err
    assert files(tmp_path / "out") == before


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--benchmark", "genval"], "--benchmark is geneval or dpg, got 'genval'"),
        (["--benchmark", "dpg"], "is no folder: DPG-Bench's prompts"),
        (["--benchmark", "geneval", "--share", "3/2"], "--share takes I/N"),
        (["--benchmark", "geneval", "--steps", 5], "steps: a function of your own has its settings itself"),
        (["--benchmark", "geneval", "--solver", "hein"], "did you mean 'heun'"),
        (["--benchmark", "geneval", "--device", "toaster"], "cannot compute on --device toaster"),
    ],
)
def test_wrong_options_claim_no_folder(
    passband, painter: Path, geneval: Path, tmp_path: Path, options: list[object], message: str
):
    result = passband("generate", geneval, "painter:paint", "--out", tmp_path / "out", *options)
    assert result.status == 2
    assert message in result.err
    assert not (tmp_path / "out").exists()


@pytest.mark.bad_input
def test_dpg_shows_four_images_at_most(passband, painter: Path, dpg: Path, tmp_path: Path):
    options = ["--benchmark", "dpg", "--out", tmp_path / "out", "--images-per-prompt", 5]
    result = passband("generate", dpg, "painter:paint", *options)
    assert result.status == 2
    assert "at least 1 and at most 4" in result.err


@pytest.mark.bad_input
def test_images_that_are_not_finite_are_not_written(passband, painter: Path, dpg: Path, tmp_path: Path):
    result = passband("generate", dpg, "painter:broken", "--benchmark", "dpg", "--out", tmp_path / "out")
    assert result.status == 2
    assert "the images are not finite" in result.err
    assert set(files(tmp_path / "out")) == {"settings.json"}


class OneOfTwo(Ranks):
    """One of two processes that start at the same time; what the first sends is kept for the second."""

    sent: ClassVar[list[object]] = []

    def __init__(self, index: int):
        self.count, self.index, self.device = 2, index, torch.device("cpu")

    def first(self, value):
        if self.index == 0:
            self.sent.append(value)
        return self.sent[-1]

    def gather(self, value):
        return [value, None]


def test_two_processes_share_the_work_and_draw_the_same(dpg: Path, geneval: Path, tmp_path: Path):
    drawn: list[list[str]] = [[], []]

    def generator(index: int):
        def paint(prompts, seeds):
            drawn[index] += prompts
            shades = torch.tensor([value(*pair) for pair in zip(prompts, seeds, strict=True)], dtype=torch.uint8)
            return shades[:, None, None, None].expand(-1, 3, SIDE, SIDE)

        return paint

    for name, path in {"geneval": geneval, "dpg": dpg}.items():
        prompts = BENCHMARKS[name].read(path)
        generation = Generation(name, prompts, "m", GeneratorSettings(), batch_size=3)
        for index in range(2):
            generation.write(generator(index), tmp_path / name / "two", ranks=OneOfTwo(index))
        counts = [len(part) for part in drawn]
        assert min(counts) >= sum(counts) / 3
        assert sum(counts) == 4 * len(prompts)
        drawn = [[], []]
        generation.write(generator(0), tmp_path / name / "one")
        assert files(tmp_path / name / "two") == files(tmp_path / name / "one")
        drawn = [[], []]


@pytest.fixture(scope="session")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's model with Spectral Forcing, trained for two steps and saved; not to be changed."""
    spec = importlib.util.spec_from_file_location("example_of_the_command", ROOT / "examples" / "text_to_image.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    torch.manual_seed(0)
    process = Flow(1, "sample", time_scale=1000)
    model = example.make_model(process, width=32)
    SpectralForcing(process).attach(model.unet)
    example.train(model, 2, batch_size=2)
    folder = tmp_path_factory.mktemp("text") / "model"
    model.save_pretrained(folder)
    return folder


def test_a_trained_model_draws_both_prompt_sets(passband, text_model: Path, geneval: Path, dpg: Path, tmp_path: Path):
    options = ["--steps", 2, "--guidance", 2, "--interval", 0.1, 1, "--resolution", 16, "--device", "cpu"]
    first = passband("generate", geneval, text_model, "--benchmark", "geneval", "--out", tmp_path / "one", *options)
    second = passband("generate", dpg, text_model, "--benchmark", "dpg", "--out", tmp_path / "two", *options)
    assert (first.status, second.status) == (0, 0)
    assert f"dist_eval.sh {tmp_path / 'two'} 16" in second.err
    model = TextToImage.from_pretrained(text_model)
    assert attached(model.unet) is not None
    seeds = [seed_for(0, i, "prompt 00002") for i in range(4)]
    drawn = model(["a red dog"] * 4, seeds, steps=2, guidance=2.0, interval=(0.1, 1.0), size=16).clamp(-1, 1)
    for i, image in enumerate((drawn.permute(0, 2, 3, 1) + 1) * 127.5):
        there = pixels(tmp_path / "one" / "00002" / "samples" / f"{i:04d}.png")
        assert np.abs(there - image.numpy()).max() <= 1.5  # half a step of rounding, one of the batch's own
    assert pixels(tmp_path / "two" / "x.png").shape == (32, 32, 3)
    noted = json.loads((tmp_path / "one" / "settings.json").read_text())
    assert noted["model"] == str(text_model)
    assert (noted["steps"], noted["guidance"], noted["interval"], noted["solver"]) == (2, 2.0, [0.1, 1.0], None)
