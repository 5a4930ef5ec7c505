"""`compare` of folders of audio: the numbers it writes are those of a direct computation, and mismatches are errors."""

import json
import shutil
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import torch
import typer
from typer.testing import CliRunner, Result

from passband.cli.compare import compare
from passband.data import read_audio, save_audio, save_image
from passband.metrics import FrechetAudioDistance, MelStatistics, SampleSpectrum, compare_samples, load_audio_measure
from passband.metrics.sample_comparison import SampleComparison
from passband.reports import Beside, Page, spectrum_report, write_page
from passband.reports.compare import finite
from passband.reports.spectrum.numbers import comparison_numbers, series_numbers

RATE, FRAME, REPLICATES = 16000, 4096, 40
LENGTHS = (9000, 12000, 16000, 17000, 8192, 15000, 11111, 20000)


def run(*arguments: object) -> Result:
    if "--replicates" not in arguments:
        arguments = (*arguments, "--replicates", REPLICATES)
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


def numbers_only(comparison: SampleComparison, out: Path, *, beside: Beside | None, **shown: object) -> Path:
    """The report without its figures, which are drawn in tests/reports."""
    signature(spectrum_report).bind(comparison, out, beside=beside, **shown)
    out.mkdir(parents=True, exist_ok=True)
    numbers = {} if beside is None else beside.numbers
    document = comparison_numbers(comparison) | {**numbers, "settings": shown["settings"], "notes": shown["notes"]}
    document |= {"series": series_numbers(shown["series"])}
    (out / "results.json").write_text(json.dumps(finite(document)))
    sections = [] if beside is None else [*beside.first, *beside.last]
    return write_page(Page("Clips", "", sections, command="c"), out / "index.html")


@pytest.fixture(autouse=True)
def quick_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("passband.training.compare.spectrum_report", numbers_only)


def numbers_of(out: Path) -> dict:
    return json.loads((out / "results.json").read_text())


def measured(path: Path, **options: object) -> SampleSpectrum:
    """The frames of all clips, keyed by their names."""
    spectrum = SampleSpectrum(path.name, kind="signals", sample_rate=RATE, **options)
    for file in sorted(path.iterdir()):
        audio = read_audio(file).audio
        frames = audio[: len(audio) // FRAME * FRAME].reshape(-1, 1, FRAME)
        spectrum.update(frames, [file.stem] * len(frames))
    return spectrum


def test_numbers_equal_a_direct_computation(folders: tuple[Path, Path], tmp_path: Path) -> None:
    real, fake = folders
    result = run(real, fake, "--out", tmp_path, "--players", 2, "--metrics", "lsd")
    assert result.exit_code == 0, result.output
    numbers = numbers_of(tmp_path)
    direct = compare_samples(measured(real, replicates=REPLICATES), measured(fake, replicates=REPLICATES))
    octaves = direct.contrasts["octaves"]
    assert numbers["sample_rate"] == RATE
    assert numbers["count"] == {"real": 22, "fake": 22}
    assert numbers["paired"]
    assert numbers["contrasts"]["octaves"]["labels"][1][:3] == ["4–8 kHz", "2–4 kHz", "1–2 kHz"]
    assert numbers["contrasts"]["octaves"]["difference"][0] == pytest.approx(octaves.difference[0].tolist(), rel=1e-4)
    assert numbers["contrasts"]["octaves"]["low"][0] == pytest.approx(octaves.low[0].tolist(), rel=1e-3, abs=1e-4)
    assert numbers["settings"]["pairs of one name"] == 8
    assert numbers["settings"]["real read as"] == "22 frames of 0.256 s from 8 clips at 16,000 Hz"

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

    assert "The fake clips are muffled: in the octave 4–8 kHz" in result.output
    row = next(line for line in result.output.splitlines() if "4–8 kHz" in line and "│" in line)
    assert float(row.split("│")[2].strip().replace("−", "-")) == pytest.approx(
        float(octaves.difference[0, 0]), abs=0.006
    )
    assert "differs" in row
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.count("<audio ") == 4  # the first pair and the worst, both sides
    assert "clip-0" in page
    assert f"clip-{int(np.argmax(lsd))}" in page


def test_a_low_pass_is_called_in_its_octaves_only(folders: tuple[Path, Path], tmp_path: Path) -> None:
    run(*folders, "--out", tmp_path, "--players", 0, "--metrics", "none")
    octaves = numbers_of(tmp_path)["contrasts"]["octaves"]
    called = [label for label, is_so in zip(octaves["labels"][1], octaves["different"][0], strict=True) if is_so]
    assert called == ["4–8 kHz", "2–4 kHz"]  # of 3.55 kHz
    assert octaves["difference"][0][0] < -20


def test_identical_folders_agree(folders: tuple[Path, Path], tmp_path: Path) -> None:
    real, _ = folders
    options = ("--players", 0, "--metrics", "lsd", "--taper", "none", "--seed", 3)
    result = run(real, real, "--out", tmp_path, *options)
    assert result.exit_code == 0, result.output
    numbers = numbers_of(tmp_path)
    assert numbers["same"]
    assert numbers["lsd_db"]["value"] == 0
    assert numbers["measures"]["lsd"]["mean"] == pytest.approx(0, abs=1e-6)
    assert numbers["settings"]["taper"] == "none"
    assert "differs" not in result.output


def test_shares_and_what_was_measured_before_give_the_page_without_players(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    options = ("--batch-size", 8)
    for share in ("1/2", "2/2"):
        result = run(*folders, "--out", tmp_path / "parts", "--share", share, *options)
        assert result.exit_code == 0, result.output
    parts = tmp_path / "parts" / "real", tmp_path / "parts" / "fake"
    assert run(*parts, "--out", tmp_path / "out", *options).exit_code == 0
    run(*folders, "--out", tmp_path / "whole", "--players", 0, "--metrics", "none", *options)
    shared, whole = numbers_of(tmp_path / "out"), numbers_of(tmp_path / "whole")
    for key in ("low", "difference", "floor"):
        ours, theirs = (each["contrasts"]["octaves"][key][0] for each in (shared, whole))
        assert ours == pytest.approx(theirs, rel=1e-9)
    assert shared["sample_rate"] == RATE
    assert shared["settings"]["real read as"] == "22 frames, measured before"
    assert run(*parts, "--out", tmp_path / "out", "--sample-rate", RATE).exit_code == 0
    assert "was measured at 16000 Hz" in refused(*parts, "--out", tmp_path / "out", "--sample-rate", 8000)
    assert "there are no clips to listen to" in refused(*parts, "--out", tmp_path / "out", "--players", 0)
    assert "--kappa is for images" in refused(*parts, "--out", tmp_path / "out", "--kappa", 20)
    assert "shares are of the spectra alone" in refused(
        *folders, "--out", tmp_path / "parts", "--share", "1/2", "--players", 0
    )
    kept = tmp_path / "whole" / "measured" / "real.spectrum.safetensors"
    result = run(kept, folders[1], "--out", tmp_path / "again", *options)
    assert result.exit_code == 0, result.output
    assert numbers_of(tmp_path / "again")["contrasts"] == whole["contrasts"]
    assert "there are no clips to listen to" in refused(
        kept, folders[1], "--out", tmp_path / "again", *options, "--metrics", "lsd"
    )


def test_folders_without_common_names_have_spectra_and_no_pairs(folders: tuple[Path, Path], tmp_path: Path) -> None:
    real, _ = folders
    fake = folder(tmp_path / "fake", "seed-{}.wav")
    result = run(real, fake, "--out", tmp_path / "out", "--players", 1, "--limit", 5)
    assert result.exit_code == 0, result.output
    numbers = numbers_of(tmp_path / "out")
    assert numbers["measures"] == {}
    assert numbers["settings"]["fake read as"] == "13 frames of 0.256 s from 5 clips at 16,000 Hz"
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
    assert numbers["count"] == {"real": 22, "fake": 20}
    assert "Left out of the fake clips: 2." in result.output
    assert all(name in " ".join(numbers["notes"]) for name in ("clip-0.wav", "tiny.wav"))
    assert "clip-0.wav" in refused(real, fake, "--out", tmp_path / "out", "--strict")
    for share in ("1/2", "2/2"):
        run(real, fake, "--out", tmp_path / "parts", "--share", share, "--batch-size", 8)
    again = run(tmp_path / "parts" / "real", tmp_path / "parts" / "fake", "--out", tmp_path / "shared")
    assert "Left out of the fake clips: 2." in again.output


def test_the_lower_sample_rate_counts(folders: tuple[Path, Path], tmp_path: Path) -> None:
    real, _ = folders
    fake = folder(tmp_path / "fake", rate=8000)
    arguments = (real, fake, "--out", tmp_path / "out", "--players", 0, "--metrics", "none")
    assert run(*arguments).exit_code == 0
    assert numbers_of(tmp_path / "out")["sample_rate"] == 8000
    start = "8 of 8 real clips were resampled to 8000 Hz, "
    assert any(note.startswith(start) for note in numbers_of(tmp_path / "out")["notes"])
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
    assert "1 pair of one name." in result.output
    assert "cannot be told from so few" in result.output
    assert "it takes more files." in " ".join(result.output.split())
    assert "nan" not in result.output
