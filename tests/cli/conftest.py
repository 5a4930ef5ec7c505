"""The command as a user meets it, a few photographs, and one small trained run."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from passband.cli import main
from passband.data import save_image

ROOT = Path(__file__).resolve().parents[2]

#: What makes any recipe tiny.
TINY = [
    "data.resolution=16",
    "model.block_out_channels=[8, 8]",
    "model.norm_num_groups=4",
    "model.mid_attention=false",
    "training.steps=2",
    "training.batch_size=2",
    "training.log_every=1",
    "training.sample_every=2",
    "sampling.count=2",
    "sampling.steps=2",
]


class Result(NamedTuple):
    status: int
    out: str
    err: str


Command = Callable[..., Result]


@pytest.fixture
def passband(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Command:
    """Run `passband ARGUMENTS` in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["passband", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        code = stop.value.code
        if isinstance(code, str):
            return Result(1, printed.out, printed.err + code)
        return Result(code or 0, printed.out, printed.err)

    return run


@pytest.fixture(autouse=True)
def no_pdf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are not drawn as PDF, which takes the longest and has a test of its own."""
    monkeypatch.setattr("passband.reports.figures.to_pdf", lambda figure: b"%PDF")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images of 40 by 34 pixels: four tiles of 16 each."""
    folder = tmp_path_factory.mktemp("photos")
    generator = torch.Generator().manual_seed(0)
    for i in range(6):
        save_image(torch.randn(3, 34, 40, generator=generator).clamp(-1, 1) / 2, folder / f"{i}.png")
    return folder


@pytest.fixture(scope="session")
def arguments(photos: Path) -> list[str]:
    """A recipe and the overrides that train it in a blink."""
    recipe = ROOT / "recipes" / "photos64-flow-wavelet.yaml"
    return [str(recipe), f"data.path={photos}", *TINY]


@pytest.fixture(scope="session")
def trained(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run trained to its last step, 2; not to be changed."""
    from passband.training import Trainer, load_recipe

    root = tmp_path_factory.mktemp("trained") / "run"
    Trainer(load_recipe(arguments[0], arguments[1:]), root).train()
    return root


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained run."""
    return Path(shutil.copytree(trained, tmp_path / "run"))
