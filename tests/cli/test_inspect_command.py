"""`inspect` on a tiny AutoencoderKL: its page, its numbers and its errors."""

import json
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from passband.cli.inspect import inspect
from passband.data import ImageFolder, save_image
from passband.integrations.autoencoder import load_network
from passband.metrics import psnr


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(inspect)
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


@pytest.fixture(autouse=True)
def figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures are drawn in one test only; tests/reports/test_inspection_page.py looks at them."""
    if request.node.name != "test_the_numbers_are_those_of_the_network":
        monkeypatch.setattr("passband.reports.inspection.figure_sections", lambda *_: [])


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    network = diffusers.AutoencoderKL(
        block_out_channels=(4, 4),
        norm_num_groups=2,
        layers_per_block=1,
        mid_block_add_attention=False,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )
    folder = tmp_path_factory.mktemp("networks") / "tiny-vae"
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    generator = torch.Generator().manual_seed(0)
    for i in range(3):
        save_image(torch.rand(3, 32, 48, generator=generator) * 2 - 1, folder / f"{i}.png")
    return folder


def test_the_numbers_are_those_of_the_network(saved: Path, photos: Path, tmp_path: Path) -> None:
    result = run(saved, photos, "--resolution", 16, "--out", tmp_path, "--count", 8, "--probes", 2, "--device", "cpu")
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    numbers = document["autoencoders"]["tiny-vae"]
    assert (numbers["count"], numbers["probed"]) == (8, 2)
    assert numbers["image_shape"] == [3, 16, 16]
    assert numbers["latent_shape"] == [4, 8, 8]
    data, network = ImageFolder(photos, 16, crop="tile", limit=8), load_network(saved).eval()
    with torch.no_grad():
        x = torch.stack([data[i] for i in range(8)])
        expected = float(psnr(x, network.decode(network.encode(x).latent_dist.mean).sample).mean())
    assert numbers["means"]["psnr"]["mean"] == pytest.approx(expected, rel=1e-4)
    assert document["verdict"][0] in " ".join(result.stdout.split())
    assert document["settings"]["images from"] == str(photos)
    assert (tmp_path / "index.html").is_file()
    assert (tmp_path / "figures" / "bands.svg").is_file()
    assert str(tmp_path / "index.html") in result.output


def test_two_autoencoders_and_images_that_are_not_square(saved: Path, photos: Path, tmp_path: Path) -> None:
    result = run(
        saved, photos, "--against", saved, "--resolution", "32x48", "--out", tmp_path, "--count", 2, "--probes", 0
    )
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert list(document["autoencoders"]) == ["tiny-vae (1)", "tiny-vae (2)"]
    assert document["autoencoders"]["tiny-vae (1)"]["latent_shape"] == [4, 16, 24]
    assert "No measure separates" in document["verdict"][-1]


def test_mistakes_show_before_anything_is_measured(saved: Path, photos: Path, tmp_path: Path) -> None:
    def error(*arguments: object) -> str:
        return str(run(*arguments, "--out", tmp_path / "out").exception)

    assert "multiples of 2" in error(saved, photos, "--resolution", 15)
    assert "--resolution takes" in error(saved, photos, "--resolution", "16x16x16")
    assert "there is no saved autoencoder" in error(photos, photos)
    assert "nothing" in error(saved, tmp_path / "none").lower() or "no " in error(saved, tmp_path / "none").lower()
    (tmp_path / "file").write_text("")
    assert "--out must be a folder" in str(run(saved, photos, "--out", tmp_path / "file").exception)
    assert not (tmp_path / "out").exists()
