"""`compare` on small sets: what it prints and writes is what a direct computation finds."""

import errno
import json
import os
import shutil
import zipfile
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from passband.cli.compare import compare
from passband.data import ImageFolder, save_image
from passband.forcing import LinearFront
from passband.metrics import SampleSpectrum, compare_samples, measure_power_law, passed_power
from passband.metrics.sample_comparison import SampleComparison
from passband.reports import Beside, FrontReport, front_numbers
from passband.reports.compare import finite
from passband.reports.spectrum import spectrum_report
from passband.reports.spectrum.numbers import comparison_numbers, series_numbers
from passband.training import RunFolder, make_recipe

SIDE = 16


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(compare)
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def folder(path: Path, count: int, contrast: float, size: tuple[int, int] = (SIDE, SIDE), seed: int = 0) -> Path:
    path.mkdir()
    generator = torch.Generator().manual_seed(seed)
    for i in range(count):
        save_image((contrast * torch.randn(3, *size, generator=generator)).clamp(-1, 1), path / f"{seed}-{i:03d}.png")
    return path


def measured(path: Path, **options: Any) -> SampleSpectrum:
    data = ImageFolder(path, SIDE, **options)
    found = SampleSpectrum(path.name)
    found.update(torch.stack([data[i] for i in range(len(data))]), [data.origin(i)[0][:-4] for i in range(len(data))])
    return found


def differences(numbers: dict[str, Any], plane: str = "luma") -> list[float]:
    """Of the octaves in results.json, the highest first."""
    octaves = numbers["contrasts"]["octaves"]
    return list(octaves["difference"][octaves["labels"][0].index(plane)])


def results(out: Path) -> dict[str, Any]:
    numbers: dict[str, Any] = json.loads((out / "results.json").read_text())
    return numbers


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("images")
    return folder(root / "real", 65, 0.25), folder(root / "fake", 40, 0.125, seed=1)


def numbers_only(
    comparison: SampleComparison,
    out: Path,
    *,
    fronts: FrontReport | None = None,
    series: Sequence[tuple[str, SampleComparison]] = (),
    beside: Beside | None,
    settings: dict[str, Any],
    notes: list[str],
    real_images: torch.Tensor | None,
    fake_images: torch.Tensor | None,
    command: str | None,
) -> Path:
    """The report without its figures, which take seconds."""
    options = {"real_images": real_images, "fake_images": fake_images, "settings": settings, "notes": notes}
    signature(spectrum_report).bind(
        comparison, out, **options, fronts=fronts, series=series, beside=beside, command=command
    )
    out.mkdir(parents=True, exist_ok=True)
    document = {"notes": notes, "settings": settings, "series": series_numbers(series)}
    document |= {"images": [None if i is None else list(i.shape) for i in (real_images, fake_images)]}
    document |= {} if fronts is None else {"fronts": front_numbers(fronts)}
    (out / "results.json").write_text(json.dumps(finite(comparison_numbers(comparison) | document)))
    return out / "index.html"


@pytest.fixture(autouse=True)
def quick_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are drawn in tests/reports."""
    monkeypatch.setattr("passband.training.compare.spectrum_report", numbers_only)


def test_numbers_equal_a_direct_computation(folders: tuple[Path, Path], tmp_path: Path) -> None:
    result = run(*folders, "--out", tmp_path, "--batch-size", 7)
    assert result.exit_code == 0, result.output
    numbers = results(tmp_path)
    direct = compare_samples(*(measured(path) for path in folders))
    octaves = direct.contrasts["octaves"]
    luma = octaves.labels[0].index("luma")
    assert differences(numbers) == pytest.approx(octaves.difference[luma].tolist(), rel=1e-5)
    assert numbers["lsd_db"]["value"] == pytest.approx(direct.lsd.value, rel=1e-5)
    assert numbers["count"] == {"real": 65, "fake": 40}
    assert numbers["images"] == [[24, 3, SIDE, SIDE], [24, 3, SIDE, SIDE]]
    assert numbers["size"] == [SIDE, SIDE]
    assert numbers["settings"]["real read as"] == "65 central parts of 65 images"
    for sentence in numbers["summary"]:
        assert " ".join(sentence.split()) in " ".join(result.output.split())
    assert f"Page: {tmp_path / 'index.html'}" in result.output
    low, high, floor = (float(each[luma, 0]) for each in (octaves.low, octaves.high, octaves.floor))
    row = next(line for line in result.output.splitlines() if "1/4–1/2" in line and "│" in line)
    cells = [cell.strip().replace("−", "-") for cell in row.strip("│").split("│")]
    assert float(cells[1]) == pytest.approx(float(octaves.difference[luma, 0]), abs=0.006)
    assert [float(part) for part in cells[2].split("…")] == pytest.approx([low, high], abs=0.006)
    assert float(cells[3]) == pytest.approx(floor, abs=0.006)
    assert cells[4] == "differs"
    assert differences(numbers)[0] == pytest.approx(-6.0, abs=0.3)  # half the contrast, but for clipping


def test_a_set_does_not_differ_from_itself(folders: tuple[Path, Path], tmp_path: Path) -> None:
    result = run(folders[0], folders[0], "--out", tmp_path, "--replicates", 40)
    numbers = results(tmp_path)
    assert numbers["same"]
    assert numbers["paired"]
    assert differences(numbers) == [0] * 4
    assert "differs" not in result.output


def test_zip_gray_and_tiles(folders: tuple[Path, Path], tmp_path: Path) -> None:
    _, fake = folders
    large = folder(tmp_path / "large", 3, 0.25, size=(3 * SIDE, 2 * SIDE + 5))
    archive = tmp_path / "large.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for image in large.iterdir():
            target.write(image, image.name)
    options = ("--crop", "tile", "--channels", 1, "--replicates", 40)
    result = run(archive, fake, "--out", tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    numbers = results(tmp_path / "out")
    assert numbers["count"]["real"] == 18
    assert numbers["planes"] == ["1"]
    assert numbers["notes"] == []
    direct = compare_samples(measured(large, crop="tile", channels=1), measured(fake, channels=1))
    expected = direct.contrasts["octaves"].difference[0].tolist()
    assert differences(numbers, "1") == pytest.approx(expected, rel=1e-5)


def test_resized_images_are_said_to_be(folders: tuple[Path, Path], tmp_path: Path) -> None:
    large = folder(tmp_path / "large", 3, 0.25, size=(32, 40))
    result = run(large, folders[1], "--out", tmp_path / "out", "--replicates", 40)
    assert "3 of 3 real images were resized to 16 × 16 (the first from 40 × 32)" in result.output


def test_broken_images_are_left_out_counted_and_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    fake = folder(tmp_path / "fake", 5, 0.2, seed=2)
    whole = (fake / "2-001.png").read_bytes()
    (fake / "2-000b.png").write_bytes(whole[: len(whole) // 2])
    (fake / "2-000c.png").touch()
    result = run(folders[0], fake, "--out", tmp_path / "out", "--replicates", 40)
    assert result.exit_code == 0, result.output
    assert "Left out of the fake images: 2. 2-000c.png" in result.output
    assert "2-000b.png" in result.output
    assert results(tmp_path / "out")["count"]["fake"] == 5
    with pytest.raises(ValueError, match=r"2-000c\.png"):
        raise run(folders[0], fake, "--out", tmp_path / "out", "--strict").exception


def test_arrays_of_samples_give_what_their_images_give(folders: tuple[Path, Path], tmp_path: Path) -> None:
    real, fake = folders
    data = ImageFolder(fake, SIDE)
    np.savez(tmp_path / "samples.npz", data.pixel_batch(range(len(data))).permute(0, 2, 3, 1).numpy(), np.arange(40))
    for name, path in (("images", fake), ("array", tmp_path / "samples.npz")):
        assert run(real, path, "--out", tmp_path / name, "--replicates", 40).exit_code == 0
    numbers = [results(tmp_path / name) for name in ("images", "array")]
    assert differences(numbers[1]) == pytest.approx(differences(numbers[0]), rel=1e-5)
    reading = numbers[1]["settings"]["fake read as"]
    assert reading == (
        "samples.npz, array 'arr_0': 40 images of 16 × 16 × 3 (uint8, channels last), 0 … 255 became −1 … 1"
    )


def test_latents_and_signals_have_no_pictures_and_no_luma(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name, shape in (("latents", (4, 16, 16)), ("signals", (2, 64))):
        for side, scale in (("real", 2), ("fake", 1)):
            np.save(tmp_path / f"{side}-{name}.npy", scale * random.standard_normal((60, *shape)).astype(np.float32))
        paths = (tmp_path / f"real-{name}.npy", tmp_path / f"fake-{name}.npy")
        result = run(*paths, "--out", tmp_path / name, "--replicates", 40)
        assert result.exit_code == 0, result.output
        numbers = results(tmp_path / name)
        assert numbers["kind"] == name
        assert numbers["images"] == [None, None]
        assert ("fronts" in numbers) == (name == "latents")
        assert differences(numbers, "2")[0] == pytest.approx(-6.02, abs=0.5)


def test_shares_of_two_machines_are_compared_like_the_whole(folders: tuple[Path, Path], tmp_path: Path) -> None:
    options = ("--batch-size", 10, "--replicates", 40)
    for share in ("1/2", "2/2"):
        result = run(*folders, "--out", tmp_path / "parts", "--share", share, *options)
        assert result.exit_code == 0, result.output
    result = run(tmp_path / "parts" / "real", tmp_path / "parts" / "fake", "--out", tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    run(*folders, "--out", tmp_path / "whole", *options)
    shared, whole = results(tmp_path / "out"), results(tmp_path / "whole")
    assert shared["contrasts"]["octaves"]["low"][3] == pytest.approx(whole["contrasts"]["octaves"]["low"][3], rel=1e-9)
    assert shared["images"] == whole["images"]
    assert shared["settings"]["real read as"] == "65 images, measured before"
    with pytest.raises(ValueError, match="measured with replicates 40: give --replicates 40, or measure them again"):
        raise run(tmp_path / "parts" / "real", folders[1], "--out", tmp_path / "out").exception
    with pytest.raises(ValueError, match="measured with window None: leave out --window, or measure them again"):
        raise run(tmp_path / "parts" / "real", folders[1], "--out", tmp_path / "out", *options, "--window", 8).exception


def test_real_samples_are_measured_once_for_many_comparisons(folders, tmp_path: Path, monkeypatch) -> None:
    options = ("--keep-measured", tmp_path / "kept", "--replicates", 40)
    run(*folders, "--out", tmp_path / "a", *options)
    (kept,) = (tmp_path / "kept").iterdir()
    before = kept.stat().st_mtime_ns
    read: list[str] = []
    monkeypatch.setattr("passband.training.image_samples.read_samples", lambda *_: read.append("a file"))
    again = run(
        folders[0], tmp_path / "a" / "measured" / "fake.spectrum.safetensors", "--out", tmp_path / "b", *options
    )
    assert again.exit_code == 0, again.output
    assert (read, kept.stat().st_mtime_ns) == ([], before)
    assert differences(results(tmp_path / "b")) == differences(results(tmp_path / "a"))


def test_a_limit_says_that_it_does_not_reach_what_was_measured_before(folders, tmp_path: Path) -> None:
    options = ("--replicates", 40)
    run(*folders, "--out", tmp_path / "a", *options)
    (measured_before,) = (tmp_path / "a" / "measured").glob("real*")
    run(measured_before, folders[1], "--out", tmp_path / "b", "--limit", 30, *options)
    assert results(tmp_path / "b")["count"] == {"real": 65, "fake": 30}
    (note,) = results(tmp_path / "b")["notes"]
    assert note.startswith("The real set was measured before, on 65 samples: --limit 30 has no effect on it.")
    run(measured_before, folders[1], "--out", tmp_path / "c", "--limit", 65, *options)
    assert results(tmp_path / "c")["notes"] == []


def test_copies_of_some_files_are_said_to_be_no_pairs(tmp_path: Path) -> None:
    options = ("--out", tmp_path / "out", "--replicates", 40)
    real = folder(tmp_path / "real", 16, 0.25)
    for number, file in enumerate(sorted(real.iterdir())):
        file.rename(real / f"a{number}{file.suffix}")
    fake = Path(shutil.copytree(real, tmp_path / "fake"))
    run(real, fake, *options)
    assert (results(tmp_path / "out")["paired"], results(tmp_path / "out")["notes"]) == (True, [])
    for file in sorted(fake.iterdir())[5:]:
        file.unlink()
    run(real, fake, *options)
    assert not results(tmp_path / "out")["paired"]
    (note,) = results(tmp_path / "out")["notes"]
    assert note.startswith("5 of 16 real and 5 fake files have the same names. If these show the same content, compare")


def test_numbers_of_generated_images_are_no_names(tmp_path: Path) -> None:
    paths = folder(tmp_path / "real", 12, 0.25), folder(tmp_path / "fake", 8, 0.25, seed=1)
    for path in paths:
        for file in path.iterdir():
            file.rename(file.with_name(file.name[2:]))
    result = run(*paths, "--out", tmp_path / "out", "--replicates", 40)
    assert result.exit_code == 0, result.output
    assert results(tmp_path / "out")["notes"] == []


def test_a_run_is_compared_at_all_its_steps(folders: tuple[Path, Path], tmp_path: Path) -> None:
    data = {"name": "images", "path": "x", "resolution": SIDE}
    RunFolder(tmp_path / "run").start(make_recipe({"name": "run", "data": data, "process": {"name": "vp"}}))
    for step, contrast in ((5, 0.5), (100, 0.25)):
        folder(tmp_path / f"step {step}", 40, contrast, seed=step)
        shutil.copytree(tmp_path / f"step {step}", tmp_path / "run" / "samples" / f"step-{step:08d}")
    result = run(folders[0], tmp_path / "run", "--out", tmp_path / "out", "--replicates", 40)
    assert result.exit_code == 0, result.output
    numbers = results(tmp_path / "out")
    assert [each["step"] for each in numbers["series"]] == ["5", "100"]
    tops = [differences(each)[0] for each in numbers["series"]]
    assert tops == pytest.approx([5.5, 0], abs=0.6)  # twice the contrast is 6 dB, less what is clipped
    assert differences(numbers)[0] == tops[1]
    assert "luma, step 100" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--crop", "tiles"], "did you mean 'tile'"),
        (["--channels", "2"], "channels must be 1"),
        (["--process", "flows"], "did you mean 'flow'"),
        (["--kappa", "0"], "kappa"),
        (["--window", "9"], "tile"),
        (["--taper", "han"], "did you mean 'hann'"),
        (["--values", "0..2"], r"unknown values: got '0\.\.2'"),
        (["--resolution", "big"], "--resolution takes the side"),
        (["--share", "3/2"], "--share takes I/N with I from 1 to N"),
        (["--share", "1/2", "--keep-measured", "kept"], "leave out --keep-measured"),
        (["--metrics", "lsd"], "--metrics is for audio, and these are images, latents and signals"),
    ],
)
def test_unknown_options_are_clear_errors(folders, tmp_path: Path, options: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        raise run(*folders, "--out", tmp_path, *options).exception
    assert list(tmp_path.iterdir()) == []


def test_missing_empty_and_mixed_paths_are_clear_errors(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "a.wav").touch()
    with pytest.raises(ValueError, match="found neither audio nor images"):
        raise run(folders[0], tmp_path / "empty", "--out", tmp_path / "out").exception
    with pytest.raises(FileNotFoundError, match="nowhere"):
        raise run(tmp_path / "nowhere", folders[1], "--out", tmp_path / "out").exception
    with pytest.raises(ValueError, match="both must hold the same kind"):
        raise run(tmp_path / "audio", folders[1], "--out", tmp_path / "out").exception


def test_a_file_in_the_place_of_the_report_is_a_clear_error(folders: tuple[Path, Path], tmp_path: Path) -> None:
    taken = tmp_path / "report"
    taken.write_text("something else")
    result = run(*folders, "--out", taken)
    assert isinstance(result.exception, ValueError)
    assert "--out must be a folder" in str(result.exception)
    assert taken.read_text() == "something else"
    with pytest.raises(ValueError, match=r"since '.*report' is a file: choose another place"):
        raise run(*folders, "--out", taken / "deeper" / "still").exception


def test_a_file_in_the_place_of_what_is_kept_is_a_clear_error(folders, tmp_path: Path) -> None:
    image = next(folders[0].iterdir())
    for kept in (image, image / "real.spectrum.safetensors"):
        with pytest.raises(ValueError, match=r"--keep-measured cannot be .* is a file: choose another place"):
            raise run(*folders, "--out", tmp_path / "out", "--keep-measured", kept).exception
    assert not (tmp_path / "out").exists()


def test_latents_and_files_of_images_are_not_compared(folders: tuple[Path, Path], tmp_path: Path) -> None:
    np.save(tmp_path / "latents.npy", np.zeros((5, 4, SIDE, SIDE), dtype=np.float32))
    with pytest.raises(ValueError, match=r"holds images, '.*latents.npy' latents; .* say so with --values"):
        raise run(folders[0], tmp_path / "latents.npy", "--out", tmp_path / "out").exception


def test_a_place_that_takes_no_files_is_said_before_anything_is_measured(folders, tmp_path, monkeypatch) -> None:
    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("passband.training.compare_settings.tempfile.TemporaryFile", refuse)
    monkeypatch.setattr("passband.training.compare.measure_sets", None)
    with pytest.raises(
        ValueError, match=r"nothing can be written into .*\(Read-only file system\): choose another --out"
    ):
        raise run(*folders, "--out", tmp_path / "out").exception


def test_tiles_of_photographs_lose_high_frequencies_to_a_blur(shared: Path, tmp_path: Path) -> None:
    from PIL import Image, ImageFilter

    for name in ("real", "fake"):
        (tmp_path / name).mkdir()
    image = Image.open(shared / "data" / "photos" / "Dragonfly_by_Bolly.jpg").convert("L").crop((1000, 600, 1512, 1112))
    for row in range(4):
        for column in range(4):
            name = f"{row}{column}.png"
            box = (128 * column, 128 * row, 128 * column + 128, 128 * row + 128)
            image.crop(box).save(tmp_path / "real" / name)
            image.filter(ImageFilter.GaussianBlur(1)).crop(box).save(tmp_path / "fake" / name)
    options = ("--resolution", 64, "--crop", "tile", "--channels", 1)
    result = run(tmp_path / "real", tmp_path / "fake", "--out", tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    numbers = results(tmp_path / "out")
    assert numbers["paired"]
    found = differences(numbers, "1")
    assert found[0] < found[1] < found[2] < -0.1
    assert abs(found[-1]) < 0.1
    called = numbers["contrasts"]["octaves"]["different"][0]
    assert called[:2] == [True, True]
    assert not called[-1]
    laws = numbers["power_law"]
    assert laws["fake"]["exponent"] > laws["real"]["exponent"] > 1.5


def test_the_power_law_and_the_fronts_are_those_of_the_real_images(folders: tuple[Path, Path], tmp_path: Path) -> None:
    result = run(*folders, "--out", tmp_path, "--batch-size", 7, "--process", "vp", "--kappa", 60, "--replicates", 40)
    assert result.exit_code == 0, result.output
    fronts = results(tmp_path)["fronts"]
    data = ImageFolder(folders[0], SIDE)
    expected = measure_power_law(torch.stack([data[i] for i in range(len(data))]))
    assert fronts["real"]["beta"] == pytest.approx(expected.beta, rel=1e-4)
    assert fronts["real"]["power"] == pytest.approx(expected.power.tolist(), rel=1e-4)
    assert fronts["fake"]["count"] == 40
    assert (fronts["process"], fronts["kappa"], fronts["window"]) == ("VP", 60, None)
    passed = passed_power(LinearFront(), torch.tensor([0.5]), expected, kappa=60)
    assert fronts["fronts"]["linear"]["noise"][2] == pytest.approx(float(passed.noise), rel=1e-4)
    assert "Fronts of Spectral Forcing on the real samples" in result.output
    assert "The power of the real images goes as" in result.output


def test_gray_images_in_windows_name_the_recipe_s_forcing(tmp_path: Path) -> None:
    steps = torch.randn(40, 1, 32, 32, generator=torch.Generator().manual_seed(0)).cumsum(2).cumsum(3)
    (tmp_path / "real").mkdir()
    for i, image in enumerate(steps / steps.abs().amax((1, 2, 3), keepdim=True)):
        save_image(image, tmp_path / "real" / f"{i:02d}.png")
    options = ("--channels", 1, "--window", 16, "--exact", "--replicates", 40)
    result = run(tmp_path / "real", tmp_path / "real", "--out", tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    fronts = results(tmp_path / "out")["fronts"]
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
    result = run(real, fake, "--out", tmp_path / "out", "--replicates", 40)
    assert result.exit_code == 0, result.output
    assert reason in result.output
    assert "nan" not in result.output
    numbers = results(tmp_path / "out")
    assert reason in numbers["fronts"]["real"]["left_out"]
    assert numbers["count"]["real"] == count
