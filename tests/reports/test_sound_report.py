"""Spectra of audio: octaves in Hz down to what is heard, with the differences that closed forms give."""

import math

import pytest
import torch

from passband.metrics import SampleSpectrum, compare_samples
from passband.metrics.peaks import Peak
from passband.metrics.probes import frequency_octaves
from passband.reports.spectrum import describe
from passband.reports.spectrum.figures_lines import ratio_line_figure
from passband.reports.spectrum.figures_octaves import octave_figure, spectrum_figure
from passband.reports.spectrum.numbers import comparison_numbers
from passband.reports.spectrum.tables import octave_table, peak_table
from passband.reports.spectrum.words import terms_of

RATE, LENGTH, COUNT = 4000, 1024, 240
TERMS = terms_of("signals", RATE)


def power_law(exponent: float, seed: int) -> torch.Tensor:
    """Frames of a power f^-exponent, in cycles per frame."""
    spectrum = torch.fft.rfft(torch.randn(COUNT, 1, LENGTH, generator=torch.Generator().manual_seed(seed)))
    bins = torch.arange(LENGTH // 2 + 1).clamp_min(1)
    return torch.fft.irfft(spectrum * bins ** (-exponent / 2), n=LENGTH)


def measured(samples: torch.Tensor, name: str, sample_rate: int | None = RATE) -> SampleSpectrum:
    spectrum = SampleSpectrum(name, kind="signals", sample_rate=sample_rate, replicates=60)
    spectrum.update(samples, [f"{name} {number}" for number in range(len(samples))])
    return spectrum


@pytest.fixture(scope="module")
def real() -> SampleSpectrum:
    return measured(power_law(1.0, 0), "real")


@pytest.fixture(scope="module")
def noisy(real: SampleSpectrum):
    noise = 0.05 * torch.randn(COUNT, 1, LENGTH, generator=torch.Generator().manual_seed(7))
    return compare_samples(real, measured(power_law(1.0, 0) + noise, "fake"))


def test_an_exponent_is_recovered(real: SampleSpectrum) -> None:
    law = compare_samples(real, measured(power_law(1.5, 1), "fake")).law
    assert law.real.exponent == pytest.approx(1.0, abs=0.05)
    assert law.fake.exponent == pytest.approx(1.5, abs=0.05)


def test_white_noise_is_found_in_its_octaves(noisy) -> None:
    octaves = noisy.contrasts["octaves"]
    assert octaves.labels[1] == ("1–2 kHz", "0.5–1 kHz", "250–500 Hz", "125–250 Hz", "62.5–125 Hz", "31.2–62.5 Hz")
    for place, (low, high) in enumerate(noisy.octaves):
        bins = torch.arange(int(low * LENGTH) + 1, int(high * LENGTH) + 1, dtype=torch.float64)
        expected = 10 * math.log10(1 + 0.05**2 / float((1 / bins).mean()))
        assert float(octaves.difference[0, place]) == pytest.approx(expected, abs=0.15)
    # 2.8, 1.7, 0.9 and 0.5 dB; below, less than the 0.2 dB that are worth a word, and than two halves differ by.
    assert octaves.different[0, [0, 1, 2, 4, 5]].tolist() == [True, True, True, False, False]


def test_the_verdict_and_the_numbers_are_in_hertz(noisy) -> None:
    first, second, third = describe(noisy)
    assert first.startswith("The fake clips have the wrong amount of power: in the octave 1–2 kHz there is ")
    assert ", at 0.5–1 kHz it is +1." in first
    assert second.startswith("No tone, hum or other regular pattern")
    assert "fake frames" in third
    assert not any(word in f"{first} {second}" for word in ("cycle", "pixel", "waves of", "signals"))
    numbers = comparison_numbers(noisy)
    assert numbers["sample_rate"] == RATE
    assert numbers["contrasts"]["wavelet energy"]["labels"][0][0] == "1–2 kHz"
    assert numbers["contrasts"]["coherence"]["labels"][0][0] == "0.25–2 kHz"
    assert list(octave_table(noisy, 0).columns)[:2] == ["Octave", "Difference (dB)"]


def test_figures_have_an_axis_in_kilohertz(noisy) -> None:
    tone = Peak((0.0, 441 / RATE), None, 9.0, 0.5, "spectrum", "tone of 441 Hz", 0.1)
    figures = {
        "octaves": octave_figure(noisy, 0),
        "spectra": spectrum_figure(noisy, 0),
        "lines": ratio_line_figure(noisy.peaks.map, {1: tone}, TERMS, low=noisy.octaves[-1][0]),
    }
    for figure in figures.values():
        (axes,) = figure.axes  # none for the lengths of waves above
        assert axes.get_xlabel() == "frequency (kHz)"
        assert [label.get_text() for label in axes.get_xticklabels()] == ["0.05", "0.1", "0.2", "0.5", "1", "2"]
        assert axes.get_xlim() == pytest.approx((31.25 / RATE, 0.5))
        assert list(axes.get_xticks() * RATE) == pytest.approx([50, 100, 200, 500, 1000, 2000])
    line = figures["lines"].axes[0].lines[1]
    frequency, shown = line.get_data()
    assert frequency[-1] == 0.5
    half = noisy.contrasts["radial"].difference[0]
    assert shown[16:] == pytest.approx(half[16:].numpy(), abs=1e-3)
    (note,) = figures["lines"].axes[0].texts
    assert (note.get_text(), note.xy[0]) == ("1", pytest.approx(441 / RATE))
    (row,) = peak_table([tone], [], TERMS).rows
    assert [row[1], row[3].text] == ["a tone of 441 Hz", "441 Hz"]


def test_what_lacks_much_of_the_top_is_muffled(real: SampleSpectrum) -> None:
    spectrum = torch.fft.rfft(power_law(1.0, 0))
    spectrum[..., LENGTH // 4 :] *= 10 ** (-4 / 20)
    found = compare_samples(real, measured(torch.fft.irfft(spectrum, n=LENGTH), "fake"))
    assert describe(found)[0].startswith(
        "The fake clips are muffled: in the octave 1–2 kHz 60 % of the power is missing"
    )


def test_the_distance_ends_where_filters_of_resampling_begin(real: SampleSpectrum) -> None:
    distances = {}
    for top in (0.47, 0.45):
        spectrum = torch.fft.rfft(power_law(1.0, 0))
        spectrum[..., int(top * LENGTH) :] *= 1e-3
        found = compare_samples(real, measured(torch.fft.irfft(spectrum, n=LENGTH), "fake"))
        distances[top] = found.lsd.value, found.octave_lsd[0].value
    assert max(distances[0.47]) < 0.05
    assert distances[0.45][0] == pytest.approx(60 * (0.01 / 0.46) ** 0.5, rel=0.1)  # 60 dB in 1 % of 46 %
    assert distances[0.45][1] == pytest.approx(60 * (0.01 / 0.21) ** 0.5, rel=0.1)


def test_octaves_that_are_not_heard_are_left_out() -> None:
    assert frequency_octaves(LENGTH)[: len(frequency_octaves(LENGTH, RATE))] == frequency_octaves(LENGTH, RATE)
    for rate in (4000, 16000, 22050, 48000):
        lowest = frequency_octaves(8192, rate)[-1][0] * rate
        assert 20 <= lowest < 40
    assert frequency_octaves(4096, 30) == ((0.25, 0.5),)  # nothing of it is heard, and still there is an octave


def test_silence_among_the_frames_only_lowers_the_power(real: SampleSpectrum) -> None:
    half = power_law(1.0, 0)
    half[::2] = 0
    found = compare_samples(real, measured(half, "fake"))
    assert all(bool(contrast.value.isfinite().all()) for contrast in found.contrasts.values())
    assert found.contrasts["octaves"].difference[0].tolist() == pytest.approx([-3.01] * 6, abs=0.3)
    kurtosis = found.contrasts["wavelet kurtosis"]
    torch.testing.assert_close(kurtosis.value[:3], kurtosis.reference[:3], rtol=0.05, atol=0.0)  # silence has none
    silent = compare_samples(real, measured(torch.zeros(COUNT, 1, LENGTH), "silence"))
    assert "The fake clips are constant" in describe(silent)[0]


def test_another_rate_is_another_measurement(real: SampleSpectrum) -> None:
    with pytest.raises(ValueError, match="same settings, got sample_rate 4000 and sample_rate 8000"):
        compare_samples(real, measured(power_law(1.0, 1), "fake", 8000))
    with pytest.raises(ValueError, match="sample_rate must be that of signals"):
        SampleSpectrum("pictures", sample_rate=RATE)
