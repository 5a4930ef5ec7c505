import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passband.data import read_audio, save_audio
from passband.data._audio_clips import cut, sound_bounds
from passband.data._audio_read import resample, resampled_length

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("soxr")

RATE = 16000


def tone(samples, rate=RATE, hertz=440.0, level=0.5):
    return (level * np.sin(2 * np.pi * hertz * np.arange(samples) / rate)).astype(np.float32)


FORMATS = [
    ("a.wav", "PCM_U8", 1 / 128),
    ("a.wav", "PCM_16", 1 / 32768),
    ("a.wav", "PCM_24", 1e-6),
    ("a.wav", "FLOAT", 0.0),
    ("a.wav", "DOUBLE", 0.0),
    ("a.WAV", "PCM_16", 1 / 32768),
    ("a.flac", "PCM_16", 1 / 32768),
    ("a.flac", "PCM_24", 1e-6),
    ("a.ogg", "VORBIS", 0.05),
    ("a.mp3", "MPEG_LAYER_III", 0.05),
]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("name", "subtype", "tolerance"), FORMATS)
def test_every_format_is_what_soundfile_reads_and_was_written(tmp_path, name, subtype, tolerance, channels):
    sound = tone(8000)
    written = sound if channels == 1 else np.stack([sound, 0.5 * sound], 1)
    soundfile.write(tmp_path / name, written, RATE, subtype=subtype)
    clip = read_audio(tmp_path / name)
    assert (clip.name, clip.sample_rate, clip.audio.dtype) == (str(tmp_path / name), RATE, torch.float32)
    decoded = soundfile.read(tmp_path / name, always_2d=True)[0].mean(1)
    np.testing.assert_allclose(clip.audio.numpy(), decoded, atol=1e-7)
    expected = sound if channels == 1 else 0.75 * sound
    middle = slice(500, -500)  # codecs of the ear round off the beginning and the end
    np.testing.assert_allclose(clip.audio.numpy()[middle], expected[middle], atol=tolerance + 1e-7)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_a_resampled_tone_is_the_tone_at_the_other_rate(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", tone(16001), RATE, subtype="FLOAT")
    clip = read_audio(tmp_path / "a.wav", rate)
    assert clip.sample_rate == rate
    assert len(clip.audio) == int(np.floor(16001 * rate / RATE + 0.5))
    expected = tone(len(clip.audio), rate)
    middle = slice(rate // 20, -rate // 20)  # where the filter sees no end
    np.testing.assert_allclose(clip.audio.numpy()[middle], expected[middle], atol=1e-5)


def test_resampling_leaves_nothing_above_the_new_nyquist_frequency(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(16000, hertz=6000.0), RATE, subtype="FLOAT")
    assert read_audio(tmp_path / "a.wav", 8000).audio[400:-400].abs().max() < 1e-5


@given(
    samples=st.integers(1, 3000), pair=st.sampled_from([(16000, 22050), (44100, 22050), (22050, 16000), (48000, 8000)])
)
def test_resampled_length_is_that_of_the_samples(samples, pair):
    found = resample(np.ones(samples, dtype=np.float32), *pair)
    exact = samples * pair[1] / pair[0]
    assert len(found) == resampled_length(samples, *pair)
    assert abs(len(found) - exact) <= 0.5


def test_what_overshoots_is_clipped(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([0.5, 1.5, -3.0], dtype=np.float32), RATE, subtype="FLOAT")
    assert read_audio(tmp_path / "a.wav").audio.tolist() == [0.5, 1.0, -1.0]


def test_a_silent_file_can_be_read(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(100, dtype=np.float32), RATE)
    assert read_audio(tmp_path / "a.wav", 8000).audio.tolist() == [0.0] * 50


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"the file is empty \(0 bytes\)"),
        (b"no audio, but text\n" * 50, "not audio that libsndfile reads: Format not recognised"),
        (np.zeros(0), "holds no samples"),
        (np.array([0.1, np.nan, 0.1]), "holds NaN or infinity"),
        (np.array([0.1, -np.inf, 0.1]), "holds NaN or infinity"),
        (np.array([100.0, -12000.0]), r"values reach 12000, samples must lie in \[-1, 1\]"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path, content, reason):
    path = tmp_path / "bad.wav"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        soundfile.write(path, content.astype(np.float32), RATE, subtype="FLOAT")
    with pytest.raises(ValueError, match=rf"cannot use the audio file .*bad\.wav': {reason}.*; repair or replace it"):
        read_audio(path)


@pytest.mark.parametrize("suffix", [".flac", ".mp3"])
def test_a_file_cut_short(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 20000), RATE)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"cut short or damaged|lost sync"):
        read_audio(path)


def test_a_wav_file_cut_short_is_what_is_left(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(1000), RATE, subtype="PCM_16")
    data = path.read_bytes()
    path.write_bytes(data[:-500])
    np.testing.assert_allclose(read_audio(path).audio.numpy(), tone(1000)[:750], atol=1 / 32768)


@given(data=st.data(), suffix=st.sampled_from([".wav", ".flac", ".ogg", ".mp3"]))
@settings(max_examples=60)
def test_damaged_bytes_are_an_error_or_audio(tmp_path_factory, data, suffix):
    path = tmp_path_factory.mktemp("damaged") / f"a{suffix}"
    soundfile.write(path, tone(4000), RATE, **({"subtype": "FLOAT"} if suffix == ".wav" else {}))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        found = read_audio(path).audio
    except ValueError as error:
        found = str(error)
    if isinstance(found, str):
        assert "cannot use the audio file" in found
    else:
        assert found.ndim == 1
        assert len(found) > 0
        assert found.abs().max() <= 1


@pytest.mark.parametrize("rate", [1, 2**30])
def test_a_rate_that_no_recording_has(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", tone(100), rate)
    with pytest.raises(ValueError, match=f"its header tells a rate of {rate} Hz, which no recording has"):
        read_audio(tmp_path / "a.wav", RATE)


def test_nothing_is_left_of_a_single_sample(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(1) + 0.5, 48000)
    with pytest.raises(ValueError, match="its 1 samples at 48000 Hz are none at 16000 Hz"):
        read_audio(tmp_path / "a.wav", 16000)


def test_missing_file_and_bad_rate(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such audio file: .*check the path"):
        read_audio(tmp_path / "a.wav")
    with pytest.raises(ValueError, match="sample_rate must be at least 1, got 0"):
        read_audio(tmp_path / "a.wav", 0)
    with pytest.raises(TypeError, match=r"sample_rate must be an int, got 22\.05"):
        read_audio(tmp_path / "a.wav", 22.05)


# Writing.


@pytest.mark.parametrize("name", ["a.wav", "folder/ü b.FLAC"])
@pytest.mark.parametrize("shape", [(500,), (1, 500)])
def test_saved_clips_read_back_to_half_a_step(tmp_path, name, shape):
    audio = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 1.9 - 0.95
    save_audio(tmp_path / name, audio, 22050)
    clip = read_audio(tmp_path / name)
    assert clip.sample_rate == 22050
    assert soundfile.info(tmp_path / name).subtype == "PCM_16"
    assert (clip.audio - audio.flatten()).abs().max() <= 0.5 / 32768 + 1e-7


def test_every_step_survives_the_round_trip(tmp_path):
    steps = torch.arange(-32768, 32768) / 32768
    save_audio(tmp_path / "a.wav", steps, RATE)
    assert torch.equal(read_audio(tmp_path / "a.wav").audio, steps)


def test_saving_clips_and_takes_half_precision(tmp_path):
    values = torch.tensor([-2.0, -1.0, 0.5, 1.0, float("inf")], dtype=torch.bfloat16, requires_grad=True)
    save_audio(tmp_path / "a.wav", values, RATE)
    assert read_audio(tmp_path / "a.wav").audio.tolist() == [-1.0, -1.0, 0.5, 32767 / 32768, 32767 / 32768]


@pytest.mark.parametrize(
    ("audio", "name", "rate", "message"),
    [
        (torch.zeros(2, 8), "a.wav", RATE, r"got shape \(2, 8\); save the clips of a batch one by one"),
        (torch.zeros(1, 1, 8), "a.wav", RATE, r"got shape \(1, 1, 8\)"),
        (torch.zeros(0), "a.wav", RATE, r"got shape \(0,\)"),
        (torch.tensor([0.0, float("nan")]), "a.wav", RATE, "1 of 2 samples are NaN; check the model"),
        (torch.zeros(8), "a.mp3", RATE, "got the name 'a.mp3'; let it end in one of them"),
        (torch.zeros(8), "a.wav", 0, "sample_rate must be at least 1, got 0"),
    ],
)
def test_save_refuses(tmp_path, audio, name, rate, message):
    with pytest.raises(ValueError, match=message):
        save_audio(tmp_path / name, audio, rate)
    with pytest.raises(TypeError, match="audio must be a real floating-point tensor"):
        save_audio(tmp_path / "a.wav", torch.zeros(8, dtype=torch.int16), RATE)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_clip(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    save_audio(path, torch.zeros(8), RATE)
    before = path.read_bytes()

    def full(self, data):
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"the disk is full .* free some space") as caught:
        save_audio(path, torch.ones(8), RATE)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# What is done with samples.


@given(samples=st.integers(2, 12), before=st.integers(0, 30), after=st.integers(0, 30))
@settings(max_examples=20)
def test_beyond_the_ends_is_the_reflection(samples, before, after):
    audio = np.arange(samples, dtype=np.float32)
    expected = np.pad(audio, (before, after), mode="reflect")
    np.testing.assert_array_equal(cut(audio, -before, samples + after), expected)


def test_one_sample_goes_on_for_ever():
    assert cut(np.ones(1, dtype=np.float32), -2, 3).tolist() == [1.0] * 5


@given(before=st.integers(0, 3000), during=st.integers(600, 3000), after=st.integers(0, 3000))
@settings(max_examples=20)
def test_silence_ends_within_a_frame_of_the_sound(before, during, after):
    rng = np.random.default_rng(0)
    audio = rng.uniform(-1e-3, 1e-3, before + during + after).astype(np.float32)  # 60 dB below
    audio[before : before + during] += rng.uniform(-0.9, 0.9, during).astype(np.float32)
    start, stop = sound_bounds(audio, 40.0, 64)
    assert max(before - 4 * 64, 0) <= start <= before
    assert before + during <= stop <= min(before + during + 4 * 64, len(audio))


def test_the_loudest_frame_is_never_trimmed():
    audio = np.zeros(5000, dtype=np.float32)
    audio[2000:2064] = 1.0
    assert sound_bounds(audio, 1e-6, 64) == (1984 - 3 * 64 + 64, 2048 + 3 * 64)
