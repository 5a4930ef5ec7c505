"""`compare` of folders of audio: the numbers it writes are those of a direct computation, and mismatches are errors."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import torch
import typer
from typer.testing import CliRunner, Result

from passband.cli.compare import compare
from passband.data import read_audio, save_audio, save_image
from passband.metrics import FrechetAudioDistance, MelStatistics, load_audio_measure

RATE = 16000
LENGTHS = (9000, 12000, 16000, 17000, 8192, 15000, 11111, 20000)


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(compare)
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def refused(*arguments: object) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, (ValueError, FileNotFoundError)), result.output
    return str(result.exception)


def folder(path: Path, names: str = "clip-{}.wav", low_pass: float | None = None, rate: int = RATE) -> Path:
    """The same eight sounds, noise that falls with the frequency, perhaps low-passed."""
    for number, length in enumerate(LENGTHS):
        generator = np.random.default_rng(number)
        audio = scipy.signal.lfilter([0.1], [1, -0.7], generator.standard_normal(length))
        if low_pass is not None:
            audio = scipy.signal.sosfiltfilt(scipy.signal.butter(8, low_pass, fs=RATE, output="sos"), audio)
        save_audio(path / names.format(number), torch.from_numpy(audio.copy()), rate)
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("audio")
    return folder(root / "real"), folder(root / "fake", "clip-{}.flac", low_pass=3550)


@pytest.fixture(autouse=True)
def figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of spectra are drawn in tests/reports."""
    monkeypatch.setattr("passband.reports.audio_compare.long_term_sections", lambda *_: [])


def welch(path: Path) -> np.ndarray:
    """Mean over all frames of all clips, by SciPy."""
    total, frames = np.zeros(513), 0
    for file in sorted(path.iterdir()):
        audio = read_audio(file).audio.double().numpy()
        count = (len(audio) - 1024) // 512 + 1
        total += count * scipy.signal.welch(audio, RATE, "hann", 1024, 512, detrend=False)[1]
        frames += count
    return total / frames


def numbers_of(out: Path) -> dict:
    return json.loads((out / "results.json").read_text())


def test_numbers_equal_a_direct_computation(folders: tuple[Path, Path], tmp_path: Path) -> None:
    real, fake = folders
    result = run(real, fake, "--out", tmp_path, "--players", 2, "--metrics", "lsd")
    assert result.exit_code == 0, result.output
    numbers = numbers_of(tmp_path)
    assert numbers["count"] == {"real": 8, "fake": 8}
    assert numbers["sample_rate"] == RATE
    assert numbers["settings"]["pairs of one name"] == 8
    expected = {"real": welch(real), "fake": welch(fake)}
    for side, psd in expected.items():
        np.testing.assert_allclose(numbers["psd"][side], psd, rtol=1e-5, atol=1e-15)
    phi = numbers["floor"] * expected["real"][1:].mean()
    ratio = 10 * np.log10((expected["fake"] + phi) / (expected["real"] + phi))
    assert numbers["lsd_db"] == pytest.approx(np.sqrt((ratio[1:] ** 2).mean()), rel=1e-4)

    measure, distance, lsd = load_audio_measure("lsd"), FrechetAudioDistance(MelStatistics()), []
    for number in range(8):
        pair = [read_audio(real / f"clip-{number}.wav").audio, read_audio(fake / f"clip-{number}.flac").audio]
        distance.update(real=pair[0], fake=pair[1], sample_rate=RATE)
        lsd.append(measure(pair[1], pair[0], RATE))
    assert numbers["measures"]["lsd"]["mean"] == pytest.approx(np.mean(lsd))
    assert numbers["measures"]["lsd"]["standard_error"] == pytest.approx(np.std(lsd, ddof=1) / 8**0.5)
    assert numbers["measures"]["lsd"]["clips"]["clip-3"] == pytest.approx(lsd[3])
    assert numbers["frechet_audio_distance"]["distance"] == pytest.approx(distance.compute().distance, rel=1e-6)
    assert numbers["frechet_audio_distance"]["reference"] > 0

    assert 2800 <= numbers["muffled"]["above_hz"] <= 3600  # the third of an octave that holds 3550 Hz
    assert "is muffled: above" in result.output
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.count("<audio ") == 4  # the first pair and the worst, both sides
    assert "clip-0" in page
    assert f"clip-{int(np.argmax(lsd))}" in page


def test_identical_folders_agree(folders: tuple[Path, Path], tmp_path: Path) -> None:
    real, _ = folders
    result = run(real, real, "--out", tmp_path, "--players", 0, "--metrics", "lsd")
    assert result.exit_code == 0, result.output
    numbers = numbers_of(tmp_path)
    assert numbers["lsd_db"] == 0
    assert numbers["muffled"] is None
    assert numbers["deviations"] == []
    assert numbers["measures"]["lsd"]["mean"] == pytest.approx(0, abs=1e-6)
    assert "agrees with that of the real audio" in result.output


def test_folders_without_common_names_have_spectra_and_no_pairs(folders: tuple[Path, Path], tmp_path: Path) -> None:
    real, _ = folders
    fake = folder(tmp_path / "fake", "seed-{}.wav")
    result = run(real, fake, "--out", tmp_path / "out", "--players", 1, "--limit", 5)
    assert result.exit_code == 0, result.output
    numbers = numbers_of(tmp_path / "out")
    assert numbers["measures"] == {}
    assert numbers["count"] == {"real": 5, "fake": 5}
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "the clips beside each other are different sounds" in page
    assert page.count("<audio ") == 2
    message = refused(real, fake, "--out", tmp_path / "out", "--metrics", "lsd")
    assert "compare pairs of one name" in message


def test_broken_and_short_files_are_left_out_and_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    real, _ = folders
    fake = folder(tmp_path / "fake")
    (fake / "clip-0.wav").write_bytes(b"no audio")
    save_audio(fake / "tiny.wav", torch.full((500,), 0.1), RATE)
    result = run(real, fake, "--out", tmp_path / "out", "--players", 0, "--metrics", "none")
    assert result.exit_code == 0, result.output
    numbers = numbers_of(tmp_path / "out")
    assert numbers["count"] == {"real": 8, "fake": 7}
    assert "Left out of the fake clips: 2." in result.output
    assert all(name in " ".join(numbers["notes"]) for name in ("clip-0.wav", "tiny.wav"))
    assert "clip-0.wav" in refused(real, fake, "--out", tmp_path / "out", "--strict")


def test_the_lower_sample_rate_counts(folders: tuple[Path, Path], tmp_path: Path) -> None:
    real, _ = folders
    fake = folder(tmp_path / "fake", rate=8000)
    arguments = (real, fake, "--out", tmp_path / "out", "--players", 0, "--metrics", "none")
    assert run(*arguments).exit_code == 0
    assert numbers_of(tmp_path / "out")["sample_rate"] == 8000
    assert "8 of 8 real clips were resampled to 8000 Hz." in numbers_of(tmp_path / "out")["notes"]
    assert run(*arguments, "--sample-rate", 12000).exit_code == 0
    assert numbers_of(tmp_path / "out")["sample_rate"] == 12000
    assert any("they have nothing in the highest frequencies" in note for note in numbers_of(tmp_path / "out")["notes"])


def test_mismatches_are_clear_errors(folders: tuple[Path, Path], tmp_path: Path) -> None:
    real, fake = folders
    images, mixed, out = tmp_path / "images", tmp_path / "mixed", tmp_path / "out"
    for path in (images, mixed):
        path.mkdir()
        save_image(torch.zeros(3, 8, 8), path / "a.png")
    save_audio(mixed / "b.wav", torch.zeros(8000), RATE)
    assert "both must hold the same kind" in refused(real, images, "--out", out)
    assert "both must hold the same kind" in refused(images, fake, "--out", out)
    assert "holds audio (1 files, such as 'b.wav') and images" in refused(mixed, fake, "--out", out)
    assert "no such" in refused(tmp_path / "missing", tmp_path / "missing", "--out", out)
    assert f"no such folder or file: {str(tmp_path / 'missing')!r}" in refused(real, tmp_path / "missing", "--out", out)
    (tmp_path / "empty").mkdir()
    assert "found neither audio nor images" in refused(real, tmp_path / "empty", "--out", out)
    assert "is one file of audio: give the folder" in refused(real, fake / "clip-0.flac", "--out", out)
    assert "--window is for images, latents and signals, and these are audio" in refused(
        real, fake, "--out", out, "--window", 16
    )
    assert "--crop is for images, latents" in refused(real, fake, "--out", out, "--crop", "tile")
    assert "--metrics is for audio" in refused(images, images, "--out", out, "--metrics", "lsd")
    assert "unknown audio measure" in refused(real, fake, "--out", out, "--metrics", "lst")
    assert not out.exists()


def test_folders_of_broken_files_are_an_error(folders: tuple[Path, Path], tmp_path: Path) -> None:
    real, _ = folders
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.wav").write_bytes(b"no audio")
    assert "a.wav" in refused(real, broken, "--out", tmp_path / "out")


def test_a_single_pair_has_no_standard_error(folders: tuple[Path, Path], tmp_path: Path) -> None:
    real, fake = folders
    (tmp_path / "one").mkdir()
    shutil.copy(fake / "clip-0.flac", tmp_path / "one")
    result = run(real, tmp_path / "one", "--out", tmp_path / "out", "--players", 0)
    assert "8 real and 1 fake clip, 1 pair of one name." in result.output
    assert "nan" not in result.output
