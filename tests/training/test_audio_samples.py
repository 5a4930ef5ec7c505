"""Folders of audio as sets of samples: frames of files, in any processes, with what is broken left out."""

import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch

from passband.data import read_audio, save_audio
from passband.metrics import SampleSpectrum, compare_samples
from passband.reports.spectrum import describe
from passband.training import sample_measure as measuring_module
from passband.training.audio_pair import open_audio
from passband.training.audio_samples import AudioSet, frame_length, open_clips
from passband.training.measured_set import MeasuredSet, Measuring
from passband.training.sample_measure import measure_sets
from passband.training.sample_paths import Opening, open_pair
from passband.training.sample_work import Wanted

RATE = 8000
FRAME = 2048
FRAMES = (3, 1, 4, 2, 3, 5, 1, 2)
QUICK = Measuring("signals", replicates=20, sample_rate=RATE)


def sounds() -> list[torch.Tensor]:
    """Clips that end in a part of a frame."""
    generator = torch.Generator().manual_seed(0)
    return [0.2 * torch.randn(count * FRAME + 900, generator=generator).clamp(-4, 4) for count in FRAMES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("audio")
    for number, audio in enumerate(sounds()):
        save_audio(root / f"{number // 4}" / f"clip-{number}.wav", audio, RATE)
    return root


def opened(path: Path, **options: Any) -> AudioSet:
    return open_clips({"real": path}, **options)[0]


def measured(samples: AudioSet, **options: Any) -> MeasuredSet:
    return measure_sets([Wanted("real", samples, block=4, **options)], QUICK, workers=1)[0]


def same_bits(a: MeasuredSet, b: MeasuredSet) -> bool:
    first, second = a.arrays(), b.arrays()
    return first.keys() == second.keys() and all(np.array_equal(first[key], second[key]) for key in first)


def test_frames_of_a_file_are_measured_under_its_name(folder: Path) -> None:
    samples = opened(folder)
    assert (len(samples), samples.shape, samples.sample_rate) == (sum(FRAMES), (1, FRAME), RATE)
    assert samples.reading == "21 frames of 0.256 s from 8 clips at 8,000 Hz"
    found = measured(samples)
    direct = SampleSpectrum(kind="signals", replicates=20, sample_rate=RATE)
    for number, audio in enumerate(sounds()):
        frames = (audio[: FRAMES[number] * FRAME] * 32767).round() / 32768  # as in a file of 16 bits
        name = f"{number // 4}/clip-{number}"
        direct.update(frames.reshape(-1, 1, FRAME), [name] * FRAMES[number])
    assert found.count == direct.count
    torch.testing.assert_close(found.spectrum.means.mean, direct.means.mean, rtol=2e-3, atol=1e-4)
    torch.testing.assert_close(found.spectrum.means.replicate_means, direct.means.replicate_means, rtol=2e-3, atol=1e-4)
    assert found.spectrum.means.effective_groups < 9  # files, not frames


def test_frames_are_a_quarter_of_a_second() -> None:
    for rate in (4000, 8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 96000):
        length = frame_length(rate)
        assert length & (length - 1) == 0
        assert 0.25 / 2**0.5 <= length / rate <= 0.25 * 2**0.5
        assert rate / length < 6  # Hz, so that the octave from 31 to 62 Hz has several bins


def in_disorder(make_job: Any, arguments: Any, tasks: Sequence[Any], workers: int) -> Iterator[Any]:
    """As `run_tasks`, with the jobs of several processes that get copies, and the last task done first."""
    jobs = [make_job(*pickle.loads(pickle.dumps(arguments))) for _ in range(workers)]
    for number, task in reversed(list(enumerate(tasks))):
        yield pickle.loads(pickle.dumps(jobs[number % workers](pickle.loads(pickle.dumps(task)))))


def test_any_number_of_processes_and_shares_gives_the_same(folder: Path, tmp_path: Path, monkeypatch) -> None:
    alone = measured(opened(folder))
    for index in (1, 2):
        measured(opened(folder), keep=tmp_path / f"part-{index}-of-2.spectrum.safetensors", share=(index, 2))
    ((real, (shared,)),) = [open_audio(folder, {"fake": tmp_path})]
    assert isinstance(real, AudioSet)
    assert isinstance(shared, MeasuredSet)
    torch.testing.assert_close(shared.spectrum.means.mean, alone.spectrum.means.mean, rtol=1e-9, atol=1e-12)
    monkeypatch.setattr(measuring_module, "run_tasks", in_disorder)
    (found,) = measure_sets([Wanted("real", opened(folder), block=4)], QUICK, workers=3)
    assert same_bits(found, alone)


def test_what_was_interrupted_goes_on(folder: Path, tmp_path: Path, monkeypatch) -> None:
    alone, keep = measured(opened(folder)), tmp_path / "real.spectrum.safetensors"
    run_tasks = measuring_module.run_tasks

    def stopped(job: Any, arguments: Any, tasks: Sequence[Any], workers: int) -> Iterator[Any]:
        for number, done in enumerate(run_tasks(job, arguments, tasks, workers)):
            yield done
            if number == 1:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(measuring_module, "run_tasks", stopped)
        with pytest.raises(KeyboardInterrupt):
            measured(opened(folder), keep=keep)
    assert not keep.exists()
    asked: list[int] = []

    def counted(job: Any, arguments: Any, tasks: Sequence[Any], workers: int) -> Iterator[Any]:
        asked.append(len(tasks))
        return run_tasks(job, arguments, tasks, workers)

    monkeypatch.setattr(measuring_module, "run_tasks", counted)
    assert same_bits(measured(opened(folder), keep=keep), alone)
    assert same_bits(measured(opened(folder), keep=keep), alone)  # from its file
    blocks = len(opened(folder).blocks(4))
    assert asked == [blocks - 2, 0]


def test_silence_and_broken_files(folder: Path, tmp_path: Path) -> None:
    audio = sounds()[2].clone()
    audio[FRAME : 3 * FRAME] = 0  # digital silence within a clip
    save_audio(tmp_path / "paused.wav", audio, RATE)
    save_audio(tmp_path / "short.wav", audio[:500], RATE)
    save_audio(tmp_path / "silent.wav", torch.zeros(2 * FRAME), RATE)
    whole = (folder / "0" / "clip-0.wav").read_bytes()
    (tmp_path / "text.wav").write_bytes(b"no audio")
    (tmp_path / "clip.flac").write_bytes(whole[:30])
    samples = opened(tmp_path)
    found = measured(samples)
    assert found.count == 4
    assert bool(found.spectrum.means.mean.isfinite().all())
    (note,) = samples.notes("fake", found.skipped)
    assert note.startswith("Left out of the fake clips: 4. ")
    for part in (
        "short.wav (0.062 s: shorter than a crop of 0.256 s",
        "silent.wav (silent",
        "text.wav (",
        "clip.flac (",
    ):
        assert part in note
    save_audio(tmp_path / "tiny" / "a.wav", audio[:500], RATE)
    with pytest.raises(
        ValueError, match=r"none of the 1 audio files .* can be used; .* shorter than a crop of 0\.256 s"
    ):
        opened(tmp_path / "tiny")
    (tmp_path / "tiny" / "a.wav").unlink()
    (tmp_path / "text.wav").unlink()
    (tmp_path / "clip.flac").unlink()
    (tmp_path / "short.wav").unlink()
    strict = opened(tmp_path, strict=True)
    with pytest.raises(ValueError, match=r"silent\.wav.*not asking for strict"):
        measured(strict)


def test_clips_have_one_rate_and_say_when_they_had_another(folder: Path, tmp_path: Path) -> None:
    save_audio(tmp_path / "a.wav", torch.cat(sounds()), 2 * RATE)
    real, (fake,) = open_audio(folder, {"fake": tmp_path})
    assert isinstance(fake, AudioSet)
    assert (real.sample_rate, fake.sample_rate, fake.shape) == (RATE, RATE, (1, FRAME))
    assert fake.notes("fake", ()) == [
        f"1 of 1 fake clips were resampled to {RATE} Hz, by a filter that weakens what lies above 3.68 kHz."
    ]
    real, _ = open_audio(folder, {"fake": tmp_path}, 2 * RATE)
    assert "8 of 8 real clips have a sample rate below 16000 Hz" in real.notes("real", ())[0]


def test_a_copy_at_another_rate_is_at_no_distance(folder: Path, tmp_path: Path) -> None:
    soxr = pytest.importorskip("soxr")
    for number, audio in enumerate(sounds()):
        copy = soxr.resample(audio.numpy(), RATE, 11025, "VHQ")
        save_audio(tmp_path / f"{number // 4}" / f"clip-{number}.wav", torch.from_numpy(copy), 11025)
    real, (fake,) = open_audio(folder, {"fake": tmp_path})
    assert isinstance(real, AudioSet)
    assert isinstance(fake, AudioSet)
    found = compare_samples(measured(real).spectrum, measured(fake).spectrum)
    assert found.lsd.value < 0.1  # 13 dB with what the filters take at the top


def test_a_limit_keeps_pairs(folder: Path, tmp_path: Path) -> None:
    for number in (6, 3, 0):
        save_audio(tmp_path / f"{number // 4}" / f"clip-{number}.flac", sounds()[number], RATE)
    save_audio(tmp_path / "another.wav", sounds()[2], RATE)
    real, (fake,) = open_audio(folder, {"fake": tmp_path}, limit=3)
    names = [[entry.name.partition(".")[0] for entry in side.entries] for side in (real, fake)]
    assert names[0] == names[1] == ["0/clip-0", "0/clip-3", "1/clip-6"]
    real, _ = open_audio(folder, {"fake": tmp_path}, RATE // 2, limit=2)
    (note,) = real.notes("real", ())
    assert note.startswith(f"2 of 2 real clips were resampled to {RATE // 2} Hz, ")


def test_what_was_measured_before_tells_the_rate(folder: Path, tmp_path: Path) -> None:
    keep = tmp_path / "real.spectrum.safetensors"
    measured(opened(folder), keep=keep)
    save_audio(tmp_path / "fake" / "a.wav", torch.cat(sounds()), 2 * RATE)
    pair = open_pair(keep, tmp_path / "fake", Opening())
    assert isinstance(pair.fake[0], AudioSet)
    assert pair.fake[0].sample_rate == RATE
    with pytest.raises(ValueError, match="was measured at 8000 Hz: give --sample-rate 8000"):
        open_pair(keep, tmp_path / "fake", Opening(sample_rate=16000))
    other, images = tmp_path / "other.spectrum.safetensors", tmp_path / "images.spectrum.safetensors"
    measure_sets([Wanted("fake", opened(tmp_path / "fake"), other)], Measuring("signals", sample_rate=2 * RATE))
    with pytest.raises(ValueError, match=r"one sample rate, got .* at 8000 Hz and .* at 16000 Hz"):
        open_pair(keep, other, Opening())
    pictures = SampleSpectrum("pictures", replicates=20)
    pictures.update(torch.randn(3, 1, 8, 8))
    pictures.save(images)
    with pytest.raises(ValueError, match="was measured of something else than audio"):
        open_pair(images, tmp_path / "fake", Opening())


def test_the_steps_of_a_training_are_compared(folder: Path, tmp_path: Path) -> None:
    for step in (10, 200):
        save_audio(tmp_path / f"step-{step:08d}" / "a.wav", sounds()[2], RATE)
    pair = open_pair(folder, tmp_path, Opening())
    assert pair.steps == [10, 200]
    assert [len(side) for side in pair.fake if isinstance(side, AudioSet)] == [4, 4]
    keep = tmp_path / "kept" / "real.spectrum.safetensors"
    measured(opened(folder), keep=keep)
    again = open_pair(keep, tmp_path, Opening())
    assert again.steps == [10, 200]
    assert isinstance(again.real, MeasuredSet)
    (tmp_path / "array").mkdir()
    np.save(tmp_path / "array" / "a.npy", np.zeros((4, 3, 8, 8), np.float32))
    with pytest.raises(ValueError, match=r"real\.spectrum\.safetensors' holds audio, '.*a\.npy' does not"):
        open_pair(keep, tmp_path / "array" / "a.npy", Opening())


def test_low_passed_speech_is_muffled_and_halves_of_speech_are_alike(shared: Path, tmp_path: Path) -> None:
    files = sorted((shared / "data" / "speech").glob("*.flac"))[::12]
    halves = [tmp_path / "even", tmp_path / "odd"]
    for number, file in enumerate(files):
        audio = read_audio(file).audio
        save_audio(halves[number % 2] / file.name, audio, 16000)
        filtered = scipy.signal.sosfiltfilt(scipy.signal.butter(8, 3000, fs=16000, output="sos"), audio.numpy())
        save_audio(tmp_path / "low" / file.name, torch.from_numpy(filtered.copy()), 16000)
        (tmp_path / "real").mkdir(exist_ok=True)
        (tmp_path / "real" / file.name).symlink_to(file)
    opened = open_clips({name: tmp_path / name for name in ("real", "low", "even", "odd")})
    how = Measuring("signals", replicates=60, sample_rate=16000)
    real, low, even, odd = (
        found.spectrum for found in measure_sets([Wanted("speech", each) for each in opened], how, workers=1)
    )
    muffled = compare_samples(real, low)
    octaves = muffled.contrasts["octaves"]
    assert octaves.labels[1][:3] == ("4–8 kHz", "2–4 kHz", "1–2 kHz")
    assert octaves.different[0].tolist() == [True, True] + [False] * 6
    assert muffled.paired
    assert describe(muffled)[0].startswith("The fake clips are muffled: in the octave 4–8 kHz ")
    assert compare_samples(even, odd).same
