"""Long-term comparisons: their chance and error, the verdict in words, and the page's numbers."""

import math
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
import torch

from passband.metrics import AUDIO_MEASURES, LongTermSpectrum, compare_long_term
from passband.reports import (
    ListeningClip,
    ListeningRow,
    LongTermSets,
    MeasuredClips,
    Page,
    audio_numbers,
    band_deviations,
    beside_audio,
    describe_audio,
    long_term_sections,
    muffling,
    render_page,
)
from passband.reports.audio_folders import pair_by_name
from passband.reports.audio_results import mean_and_error
from passband.reports.audio_verdict import level_difference

RATE = 16000
CLIPS = 16


def clips(seed: int, count: int = CLIPS, samples: int = RATE) -> list[torch.Tensor]:
    """Noise whose power falls with the frequency, of a loudness that differs from clip to clip."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.fft.rfft(torch.randn(count, samples, generator=generator))
    shape = 1 / (1 + torch.arange(noise.shape[1]) / samples * RATE / 500)
    loud = 0.1 * 10 ** (0.1 * torch.randn(count, 1, generator=generator))
    return list(loud * torch.fft.irfft(noise * shape, n=samples))


def filtered(audio: torch.Tensor, *bands: tuple[float, float, float]) -> torch.Tensor:
    """With each band (from Hz, to Hz, dB) at another level."""
    spectrum = torch.fft.rfft(audio)
    hertz = torch.arange(len(spectrum)) / len(audio) * RATE
    for low, high, decibels in bands:
        spectrum[(hertz >= low) & (hertz < high)] *= 10 ** (decibels / 20)
    return torch.fft.irfft(spectrum, n=len(audio))


def compared(real: list[torch.Tensor], fake: list[torch.Tensor]):
    sets = LongTermSets(RATE)
    for number, audio in enumerate(real):
        sets.update(number, real=audio)
    for number, audio in enumerate(fake):
        sets.update(number, fake=audio)
    return sets.compute()


def spectrum(audio: list[torch.Tensor]) -> LongTermSpectrum:
    total = LongTermSpectrum(RATE)
    for clip in audio:
        total.update(clip)
    return total


def test_chance_is_that_of_all_ways_to_halve_eight_groups() -> None:
    real = clips(0, count=8)
    found = compared(real, real)
    ways = [(0, *others) for others in combinations(range(1, 8), 3)]
    results = [
        compare_long_term(spectrum([real[i] for i in first]), spectrum([real[i] for i in range(8) if i not in first]))
        for first in ways
    ]
    assert len(results) == 35
    assert found.chance_lsd == pytest.approx(sum(result.lsd for result in results) / 35)
    squares = [sum(result.third_octaves[i].bias ** 2 for result in results) / 35 for i in range(5)]
    assert found.chance[:5].tolist() == pytest.approx([math.sqrt(square) for square in squares])


def test_the_standard_error_is_the_spread_over_repeated_sets() -> None:
    """The jackknife of one comparison against the spread of the difference over many of the same kind."""
    biases, errors = [], []
    for trial in range(6):
        found = compared(clips(2 * trial, samples=4096), clips(2 * trial + 1, samples=4096))
        biases.append(found.result.third_octaves[-1].bias)
        errors.append(float(found.error[-1]))
    spread = float(torch.tensor(biases).square().mean().sqrt())
    assert 0.6 < (sum(error**2 for error in errors) / len(errors)) ** 0.5 / spread < 1.7


def test_pairs_count_as_pairs() -> None:
    """The same gain in every pair has no error, however much clips differ from each other."""
    real = clips(0)
    paired = compared(real, [0.5 * clip for clip in real])
    assert paired.error.max() < 1e-6
    assert compared(real, [0.5 * clip for clip in clips(1)]).error.min() > 0.01


def test_few_clips_have_neither_error_nor_chance() -> None:
    found = compared(clips(0, count=7), clips(1, count=3))
    assert found.error is None
    assert found.chance is None
    assert "two halves" not in describe_audio(found)


@pytest.mark.parametrize("cutoff", [2239.0, 4467.0])
def test_low_passed_audio_is_muffled_above_the_right_frequency(cutoff: float) -> None:
    real = clips(0)
    found = compared(real, [filtered(clip, (cutoff, RATE, -20.0)) for clip in real])
    muffled = muffling(found)
    assert muffled.low == pytest.approx(cutoff, rel=1e-3)  # an edge of a third of an octave
    assert muffled.mean == pytest.approx(-20 - level_difference(found.result), abs=0.3)
    assert muffled.high == RATE / 2
    text = describe_audio(found)
    assert text.startswith(f"The fake audio is muffled: above {muffled.low / 1000:.3g} kHz it has")


def test_muffling_is_relative_to_the_level() -> None:
    real = clips(0)
    found = compared(real, [0.5 * filtered(clip, (4467, RATE, -10.0)) for clip in real])
    assert muffling(found).mean == pytest.approx(-10, abs=0.5)
    assert "beside the −6.2 dB of the level" in describe_audio(found)
    quieter = compared(real, [0.5 * clip for clip in real])
    assert muffling(quieter) is None
    assert "6.0 dB too little power at all frequencies" in describe_audio(quieter)


def test_hiss_and_rumble_are_named() -> None:
    real = clips(0)
    hiss = describe_audio(compared(real, [filtered(clip, (5623, RATE, 8.0)) for clip in real]))
    assert hiss.startswith("The fake audio has 8.0 dB too much power above 5.62 kHz.")
    rumble = compared(real, [filtered(clip, (0, 178, 6.0)) for clip in real])
    assert "dB too much power below 178 Hz" in describe_audio(rumble)
    middle = compared(real, [filtered(clip, (891, 1778, -5.0)) for clip in real])
    assert "5.0 dB too little power from 891 Hz to 1.78 kHz" in describe_audio(middle)


def test_another_draw_of_the_same_kind_agrees() -> None:
    found = compared(clips(0), clips(1))
    assert found.result.lsd > 0
    assert band_deviations(found) == []
    assert "agrees with that of the real audio" in describe_audio(found)


def test_what_is_not_heard_is_not_judged() -> None:
    real = [filtered(clip, (5620, RATE, -60.0)) for clip in clips(0)]
    found = compared(real, [filtered(clip, (7079, RATE, -10.0), (0, 30, 20.0)) for clip in real])
    assert found.result.third_octaves[-1].bias < -3
    assert found.result.third_octaves[0].bias > 10
    assert band_deviations(found) == []
    assert muffling(found) is None


def test_pairs_come_first_and_a_limit_keeps_them() -> None:
    real, fake = ["a/x.wav", "b.flac", "c.wav"], ["a/x.flac", "c.mp3", "new.wav", "b2.wav"]
    sounds = pair_by_name(real, fake)
    assert [(sound.name, sound.real, sound.fake, sound.number) for sound in sounds] == [
        ("a/x", 0, 0, 0),
        ("c", 2, 1, 1),
        ("b", 1, None, 2),
        ("new", None, 2, 2),
        ("b2", None, 3, 3),
    ]
    assert [sound.name for sound in pair_by_name(real, fake, limit=2)] == ["a/x", "c"]


def test_two_files_of_one_stem_have_names_of_their_own() -> None:
    sounds = pair_by_name(["x.wav"], ["x.flac", "x.wav", "y.flac", "y.wav"])
    assert [(sound.name, sound.real, sound.fake) for sound in sounds] == [
        ("x", 0, 1),
        ("x.flac", None, 0),
        ("y.flac", None, 2),
        ("y", None, 3),
    ]


def test_mean_and_error_leave_out_what_is_undefined() -> None:
    assert mean_and_error([1.0, math.nan, 3.0]) == (2.0, pytest.approx(1.0), 2)
    assert math.isnan(mean_and_error([math.nan])[0])
    measured = MeasuredClips(AUDIO_MEASURES["pesq"], ["a", "b", "c"], [3.0, math.nan, 2.0])
    assert measured.worst(3) == ["c", "a"]
    assert MeasuredClips(AUDIO_MEASURES["lsd"], ["a", "b"], [3.0, 2.0]).worst(1) == ["a"]


def test_what_stands_beside_the_spectra(tmp_path: Path) -> None:
    real = clips(0, count=2, samples=4000)
    measured = [MeasuredClips(AUDIO_MEASURES["pesq"], ["a<b>", "b"], [3.0, math.nan])]
    rows = [ListeningRow("a<b>", [ListeningClip(real[0], RATE), ListeningClip(real[1], RATE, {"PESQ": 3.0})])]
    beside = beside_audio(tmp_path, measured=measured, rows=rows, rows_text="Chosen by hand.")
    sections = [*beside.first, *beside.last]
    source = render_page(Page(title="Clips", summary=[], sections=sections, command="c"))
    for text in ("a&lt;b&gt;", "Chosen by hand.", "To listen to", "Clip by clip"):
        assert text in source
    assert source.count("<audio ") == 2
    assert [number.value for number in beside.headline] == ["3 MOS-LQO"]
    assert beside.numbers["frechet_audio_distance"] is None
    assert beside.numbers["measures"]["pesq"]["clips"]["a<b>"] == 3.0
    assert beside.numbers["measures"]["pesq"]["count"] == 1


@pytest.mark.usefixtures("no_pdf")
def test_the_section_on_long_term_spectra(legible: Callable[[str], int], tmp_path: Path) -> None:
    real = clips(0, count=8)
    found = compared(real, [filtered(clip, (4467, RATE, -10.0)) for clip in real])
    (section,) = long_term_sections(found, tmp_path)
    assert section.title == "Where the spectra differ"
    numbers = audio_numbers(found)
    assert numbers["lsd_db"] == found.result.lsd
    assert numbers["muffled"] == {"above_hz": muffling(found).low, "mean_db": muffling(found).mean}
    assert [band["standard_error_db"] for band in numbers["third_octaves"]] == found.error.tolist()
    assert sorted(file.name for file in (tmp_path / "figures").iterdir()) == [
        f"{name}.{kind}" for name in ("bands", "long-term", "mel") for kind in ("pdf", "png", "svg")
    ]
    assert legible(render_page(Page("t", "s", [section]))) == 3
