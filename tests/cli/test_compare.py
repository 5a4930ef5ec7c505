"""`compare` on small folders: the numbers it writes are those of a direct computation."""

import json
import zipfile
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from passband.cli.compare import compare
from passband.data import ImageFolder, save_image
from passband.forcing import LinearFront
from passband.metrics import log_spectral_distance, measure_power_law, passed_power
from passband.transforms import radial_psd

SIDE = 16


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(compare)
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def folder(path: Path, count: int, contrast: float, size: tuple[int, int] = (SIDE, SIDE), seed: int = 0) -> Path:
    path.mkdir()
    generator = torch.Generator().manual_seed(seed)
    for i in range(count):
        save_image((contrast * torch.randn(3, *size, generator=generator)).clamp(-1, 1), path / f"{i:03d}.png")
    return path


def mean_psd(path: Path, **options: object) -> torch.Tensor:
    data = ImageFolder(path, SIDE, **options)
    return radial_psd(torch.stack([data[i] for i in range(len(data))]).double()).mean((0, 1))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("images")
    return folder(root / "real", 65, 0.25), folder(root / "fake", 10, 0.125, seed=1)


@pytest.fixture(autouse=True)
def front_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures of the fronts are drawn in one test only; tests/reports/test_front.py looks at them."""
    if request.node.name != "test_the_power_law_and_the_fronts_are_those_of_the_real_images":
        monkeypatch.setattr("passband.reports.front._draw", lambda *_: [])


def test_numbers_equal_a_direct_computation(folders: tuple[Path, Path], tmp_path: Path) -> None:
    real, fake = folders
    result = run(real, fake, "--out", tmp_path, "--batch-size", 7)
    assert result.exit_code == 0, result.output
    numbers = json.loads((tmp_path / "results.json").read_text())
    expected = float(log_spectral_distance(mean_psd(fake), mean_psd(real)))
    assert numbers["lsd_db"] == pytest.approx(expected, rel=1e-4)
    assert numbers["count"] == {"real": 65, "fake": 10}
    assert numbers["size"] == [SIDE, SIDE]
    assert "6.0 dB too little power at all radii" in result.output
    assert f"{expected:.2f}" in result.output
    assert str(tmp_path / "index.html") in result.output
    assert (tmp_path / "index.html").is_file()


def test_halves_of_the_real_images_are_taken_in_turn(folders: tuple[Path, Path], tmp_path: Path) -> None:
    real, fake = folders
    run(real, fake, "--out", tmp_path, "--batch-size", 7)
    data = ImageFolder(real, SIDE)
    psd = radial_psd(torch.stack([data[i] for i in range(len(data))]).double()).mean(1)
    expected = float(log_spectral_distance(psd[::2].mean(0), psd[1::2].mean(0)))
    assert json.loads((tmp_path / "results.json").read_text())["reference_lsd_db"] == pytest.approx(expected, rel=1e-3)


def test_few_real_images_have_no_halves(folders: tuple[Path, Path], tmp_path: Path) -> None:
    real, fake = folders
    run(real, fake, "--out", tmp_path, "--limit", 8)
    numbers = json.loads((tmp_path / "results.json").read_text())
    assert numbers["reference_lsd_db"] is None
    assert numbers["count"] == {"real": 8, "fake": 8}


def test_zip_gray_and_tiles(folders: tuple[Path, Path], tmp_path: Path) -> None:
    _, fake = folders
    large = folder(tmp_path / "large", 2, 0.25, size=(3 * SIDE, 2 * SIDE + 5))
    archive = tmp_path / "large.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for image in large.iterdir():
            target.write(image, image.name)
    result = run(archive, fake, "--out", tmp_path / "out", "--crop", "tile", "--channels", 1)
    assert result.exit_code == 0, result.output
    numbers = json.loads((tmp_path / "out" / "results.json").read_text())
    assert numbers["count"]["real"] == 12
    assert len(numbers["channel_lsd_db"]) == 1
    expected = log_spectral_distance(mean_psd(fake, channels=1), mean_psd(large, crop="tile", channels=1))
    assert numbers["lsd_db"] == pytest.approx(float(expected), rel=1e-4)
    assert numbers["notes"] == []


def test_resized_images_are_said_to_be(folders: tuple[Path, Path], tmp_path: Path) -> None:
    _, fake = folders
    large = folder(tmp_path / "large", 3, 0.25, size=(32, 40))
    result = run(large, fake, "--out", tmp_path / "out")
    assert "3 of 3 real images were resized to 16 × 16 (the first from 40 × 32)" in result.output


@pytest.mark.parametrize("damage", ["empty", "truncated"])
def test_broken_image_is_left_out_counted_and_named(folders: tuple[Path, Path], tmp_path: Path, damage: str) -> None:
    real, _ = folders
    fake = folder(tmp_path / "fake", 5, 0.2, seed=2)
    expected = log_spectral_distance(mean_psd(fake), mean_psd(real))
    whole = (fake / "001.png").read_bytes()
    # Sorts before a whole image, whose pixels stand in for it in the dataset: they must not count twice.
    (fake / "000b.png").write_bytes(b"" if damage == "empty" else whole[: len(whole) // 2])
    result = run(real, fake, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "Left out of the fake images: 1. 000b.png" in result.output
    numbers = json.loads((tmp_path / "out" / "results.json").read_text())
    assert numbers["count"]["fake"] == 5
    assert numbers["lsd_db"] == pytest.approx(float(expected), rel=1e-4)
    assert "000b.png" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match=r"000b\.png"):
        raise run(real, fake, "--out", tmp_path / "out", "--strict").exception


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (["--crop", "tiles"], ValueError, "did you mean 'tile'"),
        (["--channels", "2"], ValueError, "channels must be 1"),
        (["--process", "flows"], ValueError, "did you mean 'flow'"),
        (["--kappa", "0"], ValueError, "kappa"),
        (["--window", "9"], ValueError, "tile"),
    ],
)
def test_unknown_options_are_clear_errors(folders, tmp_path: Path, options, error, message: str) -> None:
    with pytest.raises(error, match=message):
        raise run(*folders, "--out", tmp_path, *options).exception
    assert list(tmp_path.iterdir()) == []


def test_missing_and_empty_folders_are_clear_errors(folders, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="found neither audio nor images"):
        raise run(folders[0], tmp_path / "empty", "--out", tmp_path / "out").exception
    with pytest.raises(FileNotFoundError, match="nowhere"):
        raise run(tmp_path / "nowhere", folders[1], "--out", tmp_path / "out").exception


def test_a_file_in_the_place_of_the_report_is_a_clear_error(folders, tmp_path: Path) -> None:
    taken = tmp_path / "report"
    taken.write_text("something else")
    result = run(*folders, "--out", taken)
    assert isinstance(result.exception, ValueError)
    assert "--out must be a folder" in str(result.exception)
    assert taken.read_text() == "something else"


def test_tiles_of_photographs_lose_high_frequencies_to_a_blur(shared: Path, tmp_path: Path) -> None:
    from PIL import Image, ImageFilter

    for name in ("real", "fake"):
        (tmp_path / name).mkdir()
    image = Image.open(shared / "data" / "photos" / "Dragonfly_by_Bolly.jpg").convert("L").crop((1000, 600, 1512, 1112))
    image.save(tmp_path / "real" / "photo.png")
    image.filter(ImageFilter.GaussianBlur(0.7)).save(tmp_path / "fake" / "photo.png")
    options = ("--resolution", 64, "--crop", "tile", "--channels", 1)
    assert run(tmp_path / "real", tmp_path / "fake", "--out", tmp_path / "out", *options).exit_code == 0
    numbers = json.loads((tmp_path / "out" / "results.json").read_text())
    biases = [octave["bias_db"] for octave in numbers["octaves"]]
    assert abs(biases[0]) < 0.5
    assert biases[-1] < biases[-2] < biases[0]
    assert numbers["exponent"]["fake"] > numbers["exponent"]["real"] > 1.5


def test_the_power_law_and_the_fronts_are_those_of_the_real_images(folders: tuple[Path, Path], tmp_path: Path) -> None:
    real, fake = folders
    result = run(real, fake, "--out", tmp_path, "--batch-size", 7, "--process", "vp", "--kappa", 60)
    assert result.exit_code == 0, result.output
    fronts = json.loads((tmp_path / "results.json").read_text())["fronts"]
    data = ImageFolder(real, SIDE)
    expected = measure_power_law(torch.stack([data[i] for i in range(len(data))]))
    assert fronts["real"]["beta"] == pytest.approx(expected.beta, rel=1e-4)
    assert fronts["real"]["power"] == pytest.approx(expected.power.tolist(), rel=1e-4)
    assert fronts["fake"]["count"] == 10
    assert (fronts["process"], fronts["kappa"], fronts["window"]) == ("VP", 60, None)
    passed = passed_power(LinearFront(), torch.tensor([0.5]), expected, kappa=60)
    assert fronts["fronts"]["linear"]["noise"][2] == pytest.approx(float(passed.noise), rel=1e-4)
    assert "Fronts of Spectral Forcing on the real images" in result.output
    assert "The power of the real images goes as" in result.output
    assert "Which front fits the data" in (tmp_path / "index.html").read_text(encoding="utf-8")
    assert (tmp_path / "figures" / "front-plane.svg").is_file()


def test_gray_images_in_windows_name_the_recipe_s_forcing(tmp_path: Path) -> None:
    steps = torch.randn(40, 1, 32, 32, generator=torch.Generator().manual_seed(0)).cumsum(2).cumsum(3)
    (tmp_path / "real").mkdir()
    for i, image in enumerate(steps / steps.abs().amax((1, 2, 3), keepdim=True)):
        save_image(image, tmp_path / "real" / f"{i:02d}.png")
    options = ("--channels", 1, "--window", 16, "--exact")
    result = run(tmp_path / "real", tmp_path / "real", "--out", tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    fronts = json.loads((tmp_path / "out" / "results.json").read_text())["fronts"]
    assert fronts["real"]["size"] == [16, 16]
    assert fronts["recipe"] in result.output
    assert fronts["recipe"].endswith("size: 16}, window: 16, exact: true}")


@pytest.mark.parametrize(
    ("contrast", "count", "side", "reason"),
    [(0.0, 3, 16, "constant"), (0.25, 1, 16, "at least 2 real images"), (0.25, 3, 4, "at least 8 frequencies")],
)
def test_images_without_a_power_law_are_still_compared(
    tmp_path: Path, contrast: float, count: int, side: int, reason: str
) -> None:
    real = folder(tmp_path / "real", count, contrast, size=(side, side))
    fake = folder(tmp_path / "fake", 3, 0.25, size=(side, side), seed=1)
    result = run(real, fake, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert reason in result.output
    assert "nan" not in result.output
    numbers = json.loads((tmp_path / "out" / "results.json").read_text())
    assert reason in numbers["fronts"]["real"]["left_out"]
    assert numbers["count"]["real"] == count
    assert reason in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
