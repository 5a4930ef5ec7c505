"""`passband sample` and `passband evaluate` of networks of audio."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from passband.data import read_audio, save_audio
from passband.models import DiffWave
from passband.training import restore

RATE, HOP = 16000, 128
MEL = {"sample_rate": RATE, "n_fft": 512, "hop_length": HOP, "n_mels": 20}
PROCESS = {"name": "vp", "prediction": "epsilon", "schedule": "linear", "steps": 50, "beta_end": 0.05}
MODEL = {"n_mels": 20, "residual_layers": 2, "residual_channels": 8, "dilation_cycle_length": 2}


def network(folder: Path, unconditional: bool) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = DiffWave(**MODEL, upsample_factors=(8, 16), unconditional=unconditional)
        nn.init.normal_(made.output_projection.weight, std=0.1)
    made.save_pretrained(folder)
    (folder / "process.json").write_text(json.dumps(PROCESS))
    (folder / "mel.json").write_text(json.dumps(MEL))
    return folder


@pytest.fixture
def vocoder(tmp_path: Path) -> Path:
    return network(tmp_path / "vocoder", unconditional=False)


@pytest.fixture
def unconditional(tmp_path: Path) -> Path:
    return network(tmp_path / "unconditional", unconditional=True)


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    """Two clips, one of them at another rate."""
    for name, rate in (("low", RATE), ("sub/high", 22050)):
        t = torch.arange(rate // 2) / rate
        noise = 0.01 * torch.randn(len(t), generator=torch.Generator().manual_seed(1))
        save_audio(tmp_path / "voices" / f"{name}.wav", 0.3 * torch.sin(2 * math.pi * 300 * t) + noise, rate)
    return tmp_path / "voices"


def test_files_are_spoken_under_their_names(passband, vocoder: Path, voices: Path, tmp_path: Path):
    result = passband("sample", vocoder, "--input", voices, "--schedule", "fast", "--device", "cpu")
    assert result.status == 0, result.err
    folder = vocoder / "samples" / "step-00000000-voices"
    assert f"2 clips are in {folder}; listen: {folder / 'index.html'}" in result.err
    assert "1 file of 22050 Hz is resampled to the network's 16000 Hz." in result.err
    for name in ("low", "sub/high"):
        made = read_audio(folder / f"{name}.wav")
        assert (made.sample_rate, len(made.audio)) == (RATE, RATE // 2)
        assert made.audio.std() > 0.01
    assert (folder / "index.html").read_text().count("<audio") == 4
    assert json.loads((folder / "settings.json").read_text())["noise_schedule"] == [1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5]


def test_a_spectrogram_sounds_as_the_audio_that_it_is_of(passband, vocoder: Path, voices: Path, tmp_path: Path):
    mel = restore(vocoder).mel
    np.save(tmp_path / "low.npy", mel.normalized(read_audio(voices / "low.wav").audio).numpy())
    for number, given in enumerate((tmp_path / "low.npy", voices / "low.wav")):
        options = ["--input", given, "--steps", 2, "--seed", 3, "--out", tmp_path / str(number)]
        assert passband("sample", vocoder, *options).status == 0
    alone, cut = (read_audio(tmp_path / str(number) / "low.wav").audio for number in range(2))
    assert (len(alone), len(cut)) == ((RATE // 2 // HOP + 1) * HOP, RATE // 2)
    assert torch.equal(alone[: len(cut)], cut)
    assert (tmp_path / "0" / "index.html").read_text().count("<audio") == 1


def test_what_is_there_is_kept(passband, vocoder: Path, voices: Path, tmp_path: Path):
    options = ["--input", voices, "--steps", 1, "--out", tmp_path / "out"]
    assert passband("sample", vocoder, *options, "--count", 1).status == 0
    first, second = tmp_path / "out" / "low.wav", tmp_path / "out" / "sub" / "high.wav"
    assert first.exists()
    assert not second.exists()
    save_audio(first, torch.ones(50) / 2, RATE)
    mark = first.read_bytes()
    assert passband("sample", vocoder, *options).status == 0
    assert first.read_bytes() == mark
    assert second.exists()
    result = passband("sample", vocoder, "--input", voices, "--steps", 2, "--out", tmp_path / "out")
    assert result.status == 2
    assert "holds samples drawn with other settings" in result.err


def test_chunks_change_nothing_that_can_be_heard(passband, vocoder: Path, voices: Path, tmp_path: Path):
    for chunk in (0, 0.25):
        options = [
            "--input",
            voices / "low.wav",
            "--schedule",
            "fast",
            "--out",
            tmp_path / str(chunk),
            "--chunk",
            chunk,
        ]
        assert passband("sample", vocoder, *options).status == 0
    whole, chunked = (read_audio(tmp_path / str(chunk) / "low.wav").audio for chunk in (0, 0.25))
    assert (whole - chunked).abs().max() < 1e-3


def test_samples_without_a_spectrogram(passband, unconditional: Path, tmp_path: Path):
    options = ["--count", 3, "--seed", 4, "--steps", 2, "--seconds", 0.3, "--out", tmp_path / "out"]
    assert passband("sample", unconditional, *options).status == 0
    names = sorted(file.name for file in (tmp_path / "out").glob("*.wav"))
    assert names == ["000004.wav", "000005.wav", "000006.wav"]
    assert {len(read_audio(tmp_path / "out" / name).audio) for name in names} == {4800}
    noted = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert (noted["samples"], noted["sample_rate"], noted["steps"]) == (4800, RATE, 2)
    assert (tmp_path / "out" / "index.html").read_text().count("<audio") == 3


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--input", "nowhere"], "no such file or folder of audio: 'nowhere'"),
        (["--input", "."], "found neither audio nor spectrograms in '.'"),
        (["--input", "notes.txt"], "--input takes audio or spectrograms"),
        (["--input", "mel.npy"], "must have the network's 20 bands as rows, got (21, 9)"),
        (["--input", "short.wav"], "has 100 samples, and a spectrogram needs more than 256"),
        (["--input", "broken.wav"], "cannot use the audio file"),
        ([], "this network has no recipe that names its audio: give a folder of audio with --input"),
        (["--input", "short.wav", "--schedule", "slow"], "a schedule is fast, full, or betas separated by commas"),
        (["--input", "short.wav", "--schedule", "fast", "--steps", 3], "give steps, or a schedule, not both"),
        (["--input", "short.wav", "--seconds", 3], "--seconds: a vocoder's audio is as long as its spectrogram"),
    ],
)
def test_wrong_inputs(passband, vocoder: Path, options: list[object], message: str):
    Path("empty").mkdir()
    if "." in options:
        options = ["--input", "empty"]
        message = message.replace("'.'", "'empty'")
    Path("notes.txt").write_text("no audio")
    np.save("mel.npy", np.zeros((21, 9), np.float32))
    save_audio("short.wav", torch.ones(100) / 2, RATE)
    Path("broken.wav").write_bytes(b"RIFF")
    result = passband("sample", vocoder, *options)
    assert result.status == 2
    assert message in result.err
    assert not list(vocoder.rglob("*.wav"))


@pytest.mark.bad_input
def test_options_of_other_networks(passband, unconditional: Path, run: Path):
    for folder, options, message in (
        (unconditional, ["--input", "x.wav"], "--input: for vocoders"),
        (unconditional, ["--seconds", 0], "--seconds must be above 0, got 0"),
        (unconditional, ["--forcing", "linear", "--insist"], "--forcing, --insist: for networks of images"),
        (run, ["--input", "x.wav"], "--input: for networks of audio"),
        (run, ["--schedule", "fast"], "a schedule of betas is for a VP process"),
    ):
        result = passband("sample", folder, *options)
        assert result.status == 2
        assert message in result.err


def test_evaluate_writes_numbers_and_a_page(passband, vocoder: Path, voices: Path, tmp_path: Path):
    options = ["--real", voices, "--steps", 1, "--metrics", "lsd,hf_balance,frechet_audio", "--out", tmp_path / "out"]
    result = passband("evaluate", vocoder, *options)
    assert result.status == 0, result.err
    assert re.search(r"Log-spectral distance \(dB\) ↓ +[\d.]+ ± [\d.]+ +– +–", result.out)
    assert "Below 0 the audio is muffled" in result.out
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [entry["key"] for entry in found["metrics"]] == ["lsd", "hf_balance", "frechet_audio"]
    assert (tmp_path / "out" / "index.html").read_text().count("<audio") == 4
    assert passband("evaluate", vocoder, *options).out == result.out


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--features", "x"], "only images take it: leave out --features"),
        (["--perceptual", "none"], "only reconstructions take it: leave out --perceptual"),
        (["--metrics", "fid"], "unknown metric of audio: got 'fid'"),
        (["--subset", "train"], "subset: Input should be 'all', 'eval' or 'test'"),
        (["--embedding", "vggish", "--metrics", "frechet_audio"], "unknown audio embedding: got 'vggish'"),
    ],
)
def test_evaluate_says_what_does_not_fit(
    passband, vocoder: Path, voices: Path, tmp_path: Path, options: list[str], message: str
):
    real = [] if "--subset" in options else ["--real", voices]
    result = passband("evaluate", vocoder, *real, *options, "--out", tmp_path / "out")
    assert result.status == 2
    assert message in result.err
    assert not (tmp_path / "out").exists()


@pytest.mark.bad_input
def test_networks_of_images_take_no_options_of_audio(passband, run: Path):
    result = passband("evaluate", run, "--embedding", "mel", "--schedule", "fast")
    assert result.status == 2
    assert "only audio takes it: leave out --schedule, --embedding" in result.err


@pytest.mark.bad_input
def test_evaluate_takes_no_options_of_the_other_kind_of_audio(passband, vocoder: Path, unconditional: Path):
    for folder, options, message in (
        (vocoder, ["--count", 3], "--count is of networks that draw samples, and a vocoder speaks clips"),
        (unconditional, ["--chunk", 1], "--chunk is of vocoders, and this network was trained without spectrograms"),
    ):
        result = passband("evaluate", folder, *options)
        assert result.status == 2
        assert message in result.err


@pytest.mark.bad_input
def test_files_of_a_folder_that_cannot_be_used_are_left_out(passband, vocoder: Path, voices: Path, tmp_path: Path):
    np.save(voices / "mel.npy", np.zeros((21, 9), np.float32))
    save_audio(voices / "a-short.wav", torch.ones(100) / 2, RATE)
    (voices / "sub" / "low.wav").write_bytes(b"RIFF")
    out = tmp_path / "out"
    result = passband("sample", vocoder, "--input", voices, "--count", 1, "--schedule", "fast", "--out", out)
    assert result.status == 0, result.err
    assert (
        "Left out of the clips: 1. 'a-short' in" in result.err
        or "Left out of the clips: 1. 'a-short.wav' in" in result.err
    )
    assert f"1 clip is in {out}; listen:" in result.err
    assert [file.name for file in out.rglob("*.wav")] == ["low.wav"]
    result = passband("sample", vocoder, "--input", voices, "--schedule", "fast", "--out", out)
    assert "Left out of the clips: 3." in result.err
    assert f"2 clips are in {out}" in result.err
    for good in ("low.wav", "sub/high.wav"):
        (voices / good).unlink()
    result = passband("sample", vocoder, "--input", voices, "--schedule", "fast")
    assert result.status == 2
    assert f"none of the files in {str(voices)!r} can be used: " in result.err
