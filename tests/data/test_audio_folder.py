import errno
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from passband.data import AudioFolder, Skipped, SkippedImage
from passband.transforms import MelSpectrogram

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("soxr")

RATE = 8000
SMALL = {"sample_rate": RATE, "length": 128, "hop_length": 32}


def noise(samples, seed=0, level=0.5):
    return np.random.default_rng(seed).uniform(-level, level, samples).astype(np.float32)


def write(folder, name, samples, rate=RATE, **options):
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = noise(samples, seed=len(name)) if isinstance(samples, int) else samples
    soundfile.write(path, sound, rate, **options)
    return path


def write_cut_short(folder, name, samples=6000):
    """A FLAC file whose header is whole and whose content is not."""
    path = write(folder, name, samples)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def decoded(folder, name):
    return torch.from_numpy(soundfile.read(Path(folder) / name, dtype="float32")[0])


def starts(crop, clip):
    """Where a crop lies in a clip."""
    return (clip.unfold(0, len(crop), 1) == crop).all(1).nonzero().flatten().tolist()


# Which crops there are.


def test_crops_are_the_slices_of_the_whole_file(tmp_path):
    lengths = {"b/deep er/ü 1.WAV": 128, "a.flac": 700, "b/2.ogg": 300, "c.mp3": 900}
    for name, samples in lengths.items():
        write(tmp_path, name, samples)
    for ignored in (".hidden.wav", ".cache/x.wav", "notes.txt", "a.json"):
        (tmp_path / ignored).parent.mkdir(exist_ok=True)
        (tmp_path / ignored).write_bytes(b"not audio")
    (tmp_path / "folder.wav").mkdir()
    data = AudioFolder(tmp_path, **SMALL, strict=True)
    assert data.names == sorted(lengths)
    assert data.durations == [lengths[name] / RATE for name in data.names]
    assert data.nbytes == 4 * sum(lengths.values())
    assert len(data) == 5 + 1 + 2 + 7
    crops = [(name, place) for name in data.names for place in range(lengths[name] // 128)]
    for index, (name, place) in enumerate(crops):
        assert data.origin(index) == name
        expected = decoded(tmp_path, name)[None, place * 128 : place * 128 + 128]
        torch.testing.assert_close(data[index], expected, atol=2e-7 if name == "c.mp3" else 0, rtol=0)
    for number, name in enumerate(data.names):
        clip = data.clip(number)
        assert (clip.name, clip.sample_rate) == (name, RATE)
        torch.testing.assert_close(clip.audio, decoded(tmp_path, name), atol=2e-7 if name == "c.mp3" else 0, rtol=0)
    assert torch.equal(data.read(range(len(data))), torch.cat(list(data)))
    assert data.read([]).shape == (0, 128)


def test_clips_are_resampled_and_cropped_at_the_new_rate(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.sin(np.arange(1000) * 0.3), 16000, subtype="FLOAT")
    data = AudioFolder(tmp_path, **SMALL)
    assert len(data.clip(0).audio) == 500
    assert len(data) == 3
    assert data.durations == [500 / RATE]
    expected = torch.sin(torch.arange(500) * 0.6)
    assert (data.clip(0).audio - expected)[150:-150].abs().max() < 5e-5
    assert torch.equal(data[1][0], data.clip(0).audio[128:256])


@given(index=st.integers(0, 6), seed=st.integers(-5, 2**62), rate=st.sampled_from([RATE, 11025]))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_drawn_crop_is_a_frame_aligned_slice_of_its_own_file(tmp_path, index, seed, rate):
    for name, samples in (("a.wav", 700), ("b.wav", 430)):
        write(tmp_path, name, samples)
    data = AudioFolder(tmp_path, **{**SMALL, "sample_rate": rate})
    index %= len(data)
    (crop,) = data.read([index], [seed])
    (start,) = starts(crop, data.clip(data.names.index(data.origin(index))).audio)
    assert start % 32 == 0


def test_starts_are_drawn_uniformly_from_the_whole_file(tmp_path):
    write(tmp_path, "a.wav", 128 + 4 * 32 + 31)
    data = AudioFolder(tmp_path, **SMALL)
    clip = data.clip(0).audio
    found = [starts(crop, clip)[0] for crop in data.read([0] * 1000, range(1000))]
    places, counts = np.unique(found, return_counts=True)
    assert places.tolist() == [0, 32, 64, 96, 128]
    assert np.abs(counts - 200).max() < 4 * np.sqrt(1000 * 0.2 * 0.8)


# Margins: a crop's mel spectrogram is that of the whole file.


@given(samples=st.integers(256, 900), seed=st.integers(0, 1000), n_fft=st.sampled_from([64, 128]))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_columns_of_a_crop_are_those_of_the_whole_file(tmp_path, samples, seed, n_fft):
    write(tmp_path, "a.wav", noise(samples, seed=seed))
    mel = MelSpectrogram(RATE, n_fft=n_fft, hop_length=32, n_mels=8)
    data = AudioFolder(tmp_path, RATE, length=256, hop_length=32, margin=n_fft // 2)
    clip = data.clip(0).audio
    whole = mel.normalized(clip)
    own = [(index * 256, crop) for index, crop in enumerate(data.read(range(len(data))))]
    drawn = [(starts(crop[n_fft // 2 : -(n_fft // 2)], clip)[0], crop) for crop in data.read([0] * 4, range(4))]
    for start, crop in own + drawn:
        frames = slice(start // 32, start // 32 + 8)
        torch.testing.assert_close(mel.normalized(crop, padded=True)[:, :8], whole[:, frames], atol=1e-5, rtol=0)


@pytest.mark.parametrize("place", ["first", "last"])
def test_both_ends_of_a_file_see_its_reflection(tmp_path, place):
    write(tmp_path, "a.wav", 384)
    data = AudioFolder(tmp_path, **SMALL, margin=50)
    clip = data.clip(0).audio.numpy()
    expected = np.pad(clip, 50, mode="reflect")
    index, start = (0, 0) if place == "first" else (2, 256)
    np.testing.assert_array_equal(data.read([index])[0], expected[start : start + 228])
    mel = MelSpectrogram(RATE, n_fft=100, hop_length=32, n_mels=8)
    whole = mel(torch.from_numpy(clip))
    torch.testing.assert_close(mel(data.read([index]), padded=True)[0, :, :4], whole[:, start // 32 : start // 32 + 4])


def test_a_margin_longer_than_the_file(tmp_path):
    write(tmp_path, "a.wav", 130)
    data = AudioFolder(tmp_path, **SMALL, margin=300)
    expected = np.pad(data.clip(0).audio.numpy(), (300, 300), mode="reflect")[: 128 + 600]
    np.testing.assert_array_equal(data.read([0])[0], expected)


# Silence.


def test_silence_at_both_ends_is_trimmed(tmp_path):
    sound = np.concatenate(
        [noise(1000, 1, 1e-3), noise(500, 2), np.zeros(400, np.float32), noise(500, 3), noise(700, 4, 1e-3)]
    )
    write(tmp_path, "a.wav", sound, subtype="FLOAT")
    write(tmp_path, "no silence.wav", noise(640), subtype="FLOAT")
    data = AudioFolder(tmp_path, **SMALL, trim_db=40)
    trimmed = data.clip(0).audio
    (start,) = starts(trimmed, torch.from_numpy(sound))
    assert 1000 - 128 <= start <= 1000
    assert 2400 <= start + len(trimmed) <= 2400 + 128
    assert data.durations == [len(trimmed) / RATE, 640 / RATE]
    assert len(data) == len(trimmed) // 128 + 5
    assert torch.equal(data[1][0], trimmed[128:256])
    assert torch.equal(AudioFolder(tmp_path, **SMALL).clip(0).audio, torch.from_numpy(sound))


def test_trimmed_clips_are_the_same_with_and_without_cache(tmp_path, monkeypatch):
    for i in range(3):
        write(tmp_path, f"{i}.wav", np.concatenate([np.zeros(300, np.float32), noise(500 + i, i)]), subtype="FLOAT")
    data = AudioFolder(tmp_path, **SMALL, trim_db=40)
    none = AudioFolder(tmp_path, **SMALL, trim_db=40, cache_bytes=0)
    opened = count_opens(data, monkeypatch)
    for number in range(3):
        assert torch.equal(data.clip(number).audio, none.clip(number).audio)
    assert opened == []  # decoded once, when the bounds were found
    assert len(none._cache) == 0


def test_what_is_too_short_without_its_silence_is_left_out(tmp_path):
    write(tmp_path, "a.wav", 500)
    write(tmp_path, "b.wav", np.concatenate([np.zeros(1000, np.float32), noise(20), np.zeros(1000, np.float32)]))
    data = AudioFolder(tmp_path, **{**SMALL, "length": 256}, trim_db=40)
    assert data.names == ["a.wav"]
    (left_out,) = data.skipped
    assert left_out.name == "b.wav"
    assert "without the silence at its ends: shorter than a crop of 0.032 s (256 samples)" in left_out.reason


# Split and limit.


def many(folder, count=40, **options):
    for i in range(count):
        write(folder, f"{i % 3}/{i:02}.wav", 160, **options)


def test_the_split_partitions(tmp_path):
    many(tmp_path)
    options = {**SMALL, "eval_share": 0.2, "test_share": 0.3}
    parts = {subset: AudioFolder(tmp_path, subset=subset, **options).names for subset in ("train", "eval", "test")}
    whole = AudioFolder(tmp_path, **options)
    assert sorted(name for names in parts.values() for name in names) == whole.names
    assert whole.split_sizes == {side: len(names) for side, names in parts.items()}
    assert 3 <= len(parts["eval"]) <= 14
    assert 6 <= len(parts["test"]) <= 20
    assert AudioFolder(tmp_path, subset="test", **{**options, "eval_share": 0.4}).names == parts["test"]


def test_a_new_file_moves_no_old_one_and_another_format_is_on_the_same_side(tmp_path):
    many(tmp_path, 20)
    before = AudioFolder(tmp_path, subset="eval", eval_share=0.4, **SMALL).names
    for i in range(20):
        write(tmp_path, f"{i % 3}/{i:02}.flac", 160)
    write(tmp_path, "new.wav", 160)
    after = AudioFolder(tmp_path, subset="eval", eval_share=0.4, **SMALL).names
    assert [name for name in after if name.endswith(".wav") and name != "new.wav"] == before
    assert {name[:-5] for name in after if name.endswith(".flac")} == {name[:-4] for name in before}


def test_test_files_by_pattern(tmp_path):
    many(tmp_path, 12)
    options = {**SMALL, "test_files": ["0?.wav", "11.wav"], "eval_share": 0.5}
    test = AudioFolder(tmp_path, subset="test", **options)
    assert sorted(Path(name).name for name in test.names) == [f"{i:02}.wav" for i in (*range(10), 11)]
    rest = [AudioFolder(tmp_path, subset="all", **options).names, test.names]
    assert set(rest[0]) - set(rest[1]) == {"1/10.wav"}
    with pytest.raises(ValueError, match=r"no audio file of .* has a name like 'LJ\*' of test_files; patterns match"):
        AudioFolder(tmp_path, subset="train", **SMALL, test_files=["0*", "LJ*"])


def test_ljspeech_holds_out_its_first_two_chapters(tmp_path):
    (tmp_path / "metadata.csv").write_text("LJ001-0001|Printing|printing\n")
    names = [f"LJ{chapter:03}-{clip:04}.wav" for chapter in range(1, 13) for clip in (1, 2)]
    for name in names:
        write(tmp_path, f"wavs/{name}", 160)
    write(tmp_path, "somewhere else/x.wav", 160)
    assert AudioFolder(tmp_path, **SMALL).names == names
    assert AudioFolder(tmp_path, subset="test", **SMALL).names == names[:4]
    evaluated, trained = (AudioFolder(tmp_path, subset=s, eval_share=0.3, **SMALL).names for s in ("eval", "train"))
    assert sorted(evaluated + trained) == names[4:]
    assert len(evaluated) > 0
    assert AudioFolder(tmp_path, subset="test", test_files=["LJ003-*"], **SMALL).names == names[4:6]
    alone = AudioFolder(tmp_path / "wavs", **SMALL)  # without metadata.csv it is a folder like any other
    assert alone.split_sizes["test"] == 0
    assert set(evaluated) <= set(AudioFolder(tmp_path / "wavs", subset="eval", eval_share=0.3, **SMALL).names)


def test_limits_nest_and_leave_crops_as_they_are(tmp_path):
    many(tmp_path)
    whole = AudioFolder(tmp_path, **SMALL)
    few, more = (AudioFolder(tmp_path, limit=limit, **SMALL) for limit in (3, 8))
    assert (len(few.names), len(more.names)) == (3, 8)
    assert set(few.names) < set(more.names) < set(whole.names)
    assert few.names == sorted(few.names)
    for name in few.names:
        places = [data.names.index(name) for data in (few, more, whole)]  # one crop in each file
        crops = [data.read([place], [7]) for data, place in zip((few, more, whole), places, strict=True)]
        assert torch.equal(crops[0], crops[1])
        assert torch.equal(crops[0], crops[2])
    assert len({few.digest(), more.digest(), whole.digest()}) == 3


def test_limit_passes_over_what_cannot_be_used(tmp_path):
    many(tmp_path, 10)
    first = AudioFolder(tmp_path, limit=1, **SMALL).names[0]
    (tmp_path / first).write_bytes(b"no audio")
    data = AudioFolder(tmp_path, limit=1, **SMALL)
    assert data.names != [first]
    assert [found.name for found in data.skipped] == [first]


# Files that cannot be used.


def test_files_are_left_out_with_a_reason(tmp_path):
    write(tmp_path, "good.wav", 500)
    write(tmp_path, "short.wav", 127)
    write(tmp_path, "none.wav", 0)
    (tmp_path / "empty.flac").write_bytes(b"")
    (tmp_path / "text.wav").write_bytes(b"no audio, but text\n" * 50)
    (tmp_path / "text.mp3").write_bytes(b"no audio, but text\n" * 50)
    (tmp_path / "gone.ogg").symlink_to(tmp_path / "nowhere")
    data = AudioFolder(tmp_path, **SMALL)
    assert data.names == ["good.wav"]
    reasons = {
        "empty.flac": "the file is empty (0 bytes)",
        "gone.ogg": "No such file or directory",
        "none.wav": "holds no samples",
        "short.wav": "0.016 s: shorter than a crop of 0.016 s (128 samples)",
        "text.mp3": "not audio that libsndfile reads: Format not recognised",
        "text.wav": "not audio that libsndfile reads: Format not recognised",
    }
    assert dict(data.skipped) == reasons
    for name, reason in reasons.items():
        (tmp_path / "one").mkdir(exist_ok=True)
        (tmp_path / name).rename(tmp_path / "one" / name)
        said = f"cannot use the audio file {name!r} in {str(tmp_path / 'one')!r}: {reason}; repair or remove it"
        with pytest.raises(ValueError, match=re.escape(said)):
            AudioFolder(tmp_path / "one", **SMALL, strict=True)
        (tmp_path / "one" / name).unlink()


def bad_content(folder, kind):
    """b.wav or b.flac, whose header is sound."""
    sound = noise(500)
    if kind == "cut short":
        return write_cut_short(folder, "b.flac")
    if kind == "silent":
        sound[:] = 0
    elif kind == "changed":
        sound = noise(600)
    else:
        sound[100] = {"nan": np.nan, "infinite": np.inf, "unscaled": 3000.0}[kind]
    return write(folder, "b.wav", sound, subtype="FLOAT")


REASONS = {
    "cut short": "lost sync|cut short",
    "silent": "silent: all samples are 0",
    "nan": "NaN or infinity",
    "infinite": "NaN or infinity",
    "unscaled": "values reach 3000",
    "changed": "its length has changed",
}


@pytest.mark.parametrize("preload", [False, True])
@pytest.mark.parametrize("kind", list(REASONS))
def test_broken_content_is_replaced_by_the_next_whole_file(tmp_path, kind, preload):
    write(tmp_path, "a.wav", 500)
    write(tmp_path, "c.wav", 300)
    if kind == "changed":
        write(tmp_path, "b.wav", 500, subtype="FLOAT")
        data = AudioFolder(tmp_path, **SMALL)
    path = bad_content(tmp_path, kind)
    if kind != "changed":
        data = AudioFolder(tmp_path, **SMALL)
    length, bad = len(data), data.names.index(path.name)
    assert data.skipped == []
    if preload:
        data.preload()
    first = next(index for index in range(length) if data.origin(index) == path.name)
    last = decoded(tmp_path, "c.wav")
    for place in range(3):
        start = place % 2 * 128  # the next file has two crops
        assert torch.equal(data[first + place][0], last[start : start + 128])
    assert starts(data.read([first], [5])[0], last) != []
    assert torch.equal(data[0][0], decoded(tmp_path, "a.wav")[:128])
    assert len(data) == length
    (left_out,) = data.skipped
    assert left_out.name == path.name
    with pytest.raises(ValueError, match=rf"cannot use the audio file 'b\..*({REASONS[kind]}).*repair or remove it"):
        data.clip(bad)
    if kind != "changed":
        strict = AudioFolder(tmp_path, **SMALL, strict=True)
        with pytest.raises(ValueError, match=rf"({REASONS[kind]}).*not asking for strict"):
            strict.preload()
        trimmed = AudioFolder(tmp_path, **SMALL, trim_db=40)  # decodes at once
        assert trimmed.names == ["a.wav", "c.wav"]
        assert trimmed.skipped == data.skipped


def test_the_last_file_is_replaced_by_the_first(tmp_path):
    write(tmp_path, "a.wav", 300)
    write_cut_short(tmp_path, "b.flac")
    data = AudioFolder(tmp_path, **SMALL)
    assert torch.equal(data[len(data) - 1][0], decoded(tmp_path, "a.wav")[(len(data) - 3) % 2 * 128 :][:128])


def test_nothing_decodes(tmp_path):
    for name in ("a.flac", "b.flac"):
        write_cut_short(tmp_path, name)
    data = AudioFolder(tmp_path, **SMALL)
    with pytest.raises(
        ValueError, match=r"none of the 2 audio files in .* can be decoded; the last one tried is 'b.flac'"
    ):
        data.read([0])


def test_a_header_that_promises_too_much(tmp_path):
    path = write(tmp_path, "a.flac", 500)
    data = bytearray(path.read_bytes())
    data[21] |= 0x0F  # the upper bits of STREAMINFO's 36-bit number of samples
    path.write_bytes(data)
    write(tmp_path, "b.flac", 500)
    found = AudioFolder(tmp_path, **SMALL)
    assert found.names == ["b.flac"]
    assert "its header tells no length, or too long a one (64424509" in found.skipped[0].reason


def test_files_without_permission_and_folders_that_cannot_be_listed(tmp_path, monkeypatch):
    write(tmp_path, "a.wav", 300)
    write(tmp_path, "secret.wav", 300)
    opened = Path.open

    def refuse(self, *arguments, **options):
        if self.name == "secret.wav":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    data = AudioFolder(tmp_path, **SMALL)
    assert data.names == ["a.wav"]
    assert data.skipped == [("secret.wav", "Permission denied")]
    assert isinstance(data.skipped[0], Skipped)
    assert SkippedImage is Skipped


def test_running_out_of_file_handles_is_not_the_files_fault(tmp_path, monkeypatch):
    write(tmp_path, "a.wav", 300)
    data = AudioFolder(tmp_path, **SMALL)

    def none_left(name):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(data._source, "open", none_left)
    with pytest.raises(OSError, match="open files"):
        data.read([0])
    assert data.skipped == []


def test_nothing_to_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such folder of audio files: .*check the path"):
        AudioFolder(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("no audio")
    with pytest.raises(ValueError, match="is not a folder; pass the folder that holds the audio files"):
        AudioFolder(tmp_path / "notes.txt")
    with pytest.raises(
        ValueError, match=r"found no audio file in .*ending in .flac, .mp3, .ogg, .wav .*check the path"
    ):
        AudioFolder(tmp_path)
    write(tmp_path, "a.wav", 100)
    with pytest.raises(ValueError, match=r"none of the 1 audio files .* the first is 'a.wav': 0.013 s: shorter than"):
        AudioFolder(tmp_path, **SMALL)
    with pytest.raises(ValueError, match=r"subset 'test' with eval_share 0.1 and test_share 0.0 holds none of the 1"):
        AudioFolder(tmp_path, **SMALL, subset="test")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sample_rate": 0}, ValueError, "sample_rate must be at least 1, got 0"),
        ({"sample_rate": 22.05}, TypeError, "sample_rate must be an int, got 22.05"),
        ({"length": 100}, ValueError, "length must be a multiple of hop_length.* got 100 and 32"),
        ({"length": 0}, ValueError, "length must be at least 1, got 0"),
        ({"margin": -1}, ValueError, "margin must be at least 0, got -1"),
        ({"limit": 0}, ValueError, "limit must be at least 1, got 0"),
        ({"cache_bytes": -1}, ValueError, "cache_bytes must be at least 0, got -1"),
        ({"trim_db": 0}, ValueError, "trim_db must be over 0"),
        ({"trim_db": float("nan")}, ValueError, "trim_db must be over 0"),
        ({"trim_db": "40"}, TypeError, "trim_db must be a number, got '40'"),
        ({"subset": "eva"}, ValueError, r"unknown subset: got 'eva' \(did you mean 'eval'\?\)"),
        ({"eval_share": 1.5}, ValueError, r"eval_share must lie in \[0, 1\], got 1.5"),
        ({"test_share": -0.1}, ValueError, r"test_share must lie in \[0, 1\], got -0.1"),
        ({"eval_share": 0.6, "test_share": 0.6}, ValueError, "parts of one whole, got 0.6 and 0.6"),
        ({"test_share": 0.1, "test_files": ["a*"]}, ValueError, "not both; leave one of them out"),
        ({"test_files": "a*"}, TypeError, r"test_files must be a list of patterns, got 'a\*'; for one pass \['a\*'\]"),
    ],
)
def test_bad_options(tmp_path, options, error, message):
    write(tmp_path, "a.wav", 300)
    with pytest.raises(error, match=message):
        AudioFolder(tmp_path, **{**SMALL, **options})


def test_indices_and_seeds_out_of_range(tmp_path):
    write(tmp_path, "a.wav", 300)
    data = AudioFolder(tmp_path, **SMALL)
    for index in (-1, 2):
        with pytest.raises(IndexError, match=f"crop {index} is out of range for 2 crops"):
            data.read([index])
        with pytest.raises(IndexError, match=f"crop {index} is out of range for 2 crops"):
            data.origin(index)
    with pytest.raises(IndexError, match="file 1 is out of range for 1 files"):
        data.clip(1)
    with pytest.raises(ValueError, match="expected one seed for each of the 2 crops, got 1"):
        data.read([0, 1], [0])


# Cache and workers.


def count_opens(data, monkeypatch):
    opened = []
    original = data._source.open
    monkeypatch.setattr(data._source, "open", lambda name: (opened.append(name), original(name))[1])
    return opened


def test_each_file_is_decoded_once_and_copies_are_given_out(tmp_path, monkeypatch):
    write(tmp_path, "a.wav", 300)
    write(tmp_path, "b.wav", 300)
    data = AudioFolder(tmp_path, **SMALL)
    opened = count_opens(data, monkeypatch)
    first = data.read(range(4))
    assert torch.equal(data.read(range(4)), first)
    for given_out in (data[0], data.read([0]), data.clip(0).audio):
        given_out.zero_()
    assert torch.equal(data.read(range(4)), first)
    assert opened == ["a.wav", "b.wav"]


def test_the_cache_keeps_to_its_size(tmp_path, monkeypatch):
    for i in range(4):
        write(tmp_path, f"{i}.wav", 150)
    free = AudioFolder(tmp_path, **SMALL)
    data = AudioFolder(tmp_path, **SMALL, cache_bytes=2 * 150 * 4)
    opened = count_opens(data, monkeypatch)
    for i in [0, 1, 0, 2, 0, 1]:
        assert torch.equal(data[i], free[i])
        assert data._cache.nbytes == len(data._cache) * 150 * 4 <= data.cache_bytes
    assert opened == ["0.wav", "1.wav", "2.wav", "1.wav"]


def test_preload_reports_and_fills(tmp_path, monkeypatch):
    calls = []
    many(tmp_path, 3)
    data = AudioFolder(tmp_path, **SMALL, progress=lambda done, total: calls.append((done, total)))
    data.preload(lambda done, total: calls.append((done, total)))
    assert calls == 2 * [(1, 3), (2, 3), (3, 3)]
    opened = count_opens(data, monkeypatch)
    data.read(range(3))
    assert opened == []


class Drawn(torch.utils.data.Dataset):
    """Drawn crops, each from its index as a seed."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return self.data.read([index], [index])[0]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
@pytest.mark.parametrize("trim_db", [None, 40])
def test_pickled_and_forked_copies_read_the_same(tmp_path, trim_db):
    many(tmp_path, 5, format="WAV", subtype="FLOAT")
    data = AudioFolder(tmp_path, **SMALL, margin=40, trim_db=trim_db)
    data.preload()
    copy = pickle.loads(pickle.dumps(data))
    assert len(copy._cache) == 0
    expected = torch.stack(list(Drawn(data)))
    assert torch.equal(torch.stack(list(Drawn(copy))), expected)
    assert copy.digest() == data.digest()
    loader = torch.utils.data.DataLoader(Drawn(data), 2, num_workers=2, multiprocessing_context="fork")
    assert torch.equal(torch.cat(list(loader)), expected)


def test_another_process_reads_the_same_and_imports_late(tmp_path):
    many(tmp_path, 5)
    data = AudioFolder(tmp_path, **SMALL, subset="train", limit=3)
    expected = data.read([0, 1, 2], [1, 2, 3])
    code = (
        "import sys; from passband.data import AudioFolder\n"
        "assert not {'soundfile', 'soxr'} & set(sys.modules)\n"
        f"data = AudioFolder({str(tmp_path)!r}, {RATE}, length=128, hop_length=32, subset='train', limit=3)\n"
        "print(data.digest(), data.read([0, 1, 2], [1, 2, 3]).double().sum(1).tolist())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert found.stdout.strip() == f"{data.digest()} {expected.double().sum(1).tolist()}"


def test_the_digest_notices_changes(tmp_path):
    write(tmp_path, "a.wav", 300)
    write(tmp_path, "b.wav", 300)
    before = AudioFolder(tmp_path, **SMALL).digest()
    assert AudioFolder(tmp_path, **SMALL).digest() == before
    others = [
        AudioFolder(tmp_path, **{**SMALL, "sample_rate": 7000}),
        AudioFolder(tmp_path, **{**SMALL, "length": 64}),
        AudioFolder(tmp_path, **SMALL, limit=1),
    ]
    write(tmp_path, "b.wav", 301)
    others.append(AudioFolder(tmp_path, **SMALL))
    assert len({before, *(data.digest() for data in others)}) == 5


def test_speech(shared):
    data = AudioFolder(
        shared / "data/speech", sample_rate=16000, length=4096, strict=True, eval_share=0.1, test_share=0.1
    )
    assert len(data.names) == 197
    assert sum(data.durations) == pytest.approx(873, abs=1)
    assert data.split_sizes["test"] > 10
    assert data.split_sizes["eval"] > 10
    clip = data.clip(0)
    assert torch.equal(clip.audio, decoded(shared / "data/speech", clip.name))
    assert data.read([0, len(data) - 1], [1, 2]).abs().amax(1).min() > 0
