"""Regular patterns of audio: tones at their frequency, the hum of the mains as one pattern, no names of pictures."""

import math

import pytest
import torch

from passband.metrics import SampleSpectrum, compare_samples
from passband.metrics.peaks import find_peaks
from passband.metrics.sound_peaks import between_bins, mains_of, sound_peaks
from passband.transforms import taper

RATE, LENGTH, COUNT = 4000, 1024, 80


def noise(seed: int) -> torch.Tensor:
    return 0.1 * torch.randn(COUNT, 1, LENGTH, generator=torch.Generator().manual_seed(seed))


def tones(*hertz: float, size: float = 0.02) -> torch.Tensor:
    """In each frame with another phase, as in frames that are cut anywhere."""
    phases = 2 * math.pi * torch.rand(COUNT, 1, 1, generator=torch.Generator().manual_seed(9))
    time = torch.arange(LENGTH) / RATE
    return size * sum(torch.cos(2 * math.pi * frequency * time + phases) for frequency in hertz)


def measured(samples: torch.Tensor, name: str, **options: object) -> SampleSpectrum:
    spectrum = SampleSpectrum(name, kind="signals", sample_rate=RATE, replicates=40, **options)
    spectrum.update(samples, [f"{name} {number}" for number in range(COUNT)])
    return spectrum


@pytest.fixture(scope="module")
def real() -> SampleSpectrum:
    return measured(noise(0), "real")


def peaks_of(real: SampleSpectrum, fake: torch.Tensor) -> tuple:
    return compare_samples(real, measured(fake, "fake")).peaks.peaks


@pytest.mark.parametrize("place", [100.0, 100.3, 99.6, 100.5])
def test_a_line_between_two_bins_is_found_at_its_frequency(place: float) -> None:
    wave = taper(torch.cos(2 * math.pi * place / LENGTH * torch.arange(LENGTH) + 0.7)[None, None])[0, 0]
    power = torch.fft.rfft(wave.double()).abs().square()
    assert between_bins(power, round(place - 1e-9)) == pytest.approx(place, abs=0.01)


def test_a_tone_is_found_at_its_frequency(real: SampleSpectrum) -> None:
    (peak,) = peaks_of(real, noise(1) + tones(443.0))
    assert peak.name == "tone of 443 Hz"
    assert peak.frequency[1] * RATE == pytest.approx(443.0, abs=0.5)  # of bins that are 3.9 Hz apart
    # A Hann window gathers 2/3 of N A²/4 in the bin of a line of amplitude A, over noise of variance 0.01.
    assert peak.height == pytest.approx(10 * math.log10(1 + LENGTH * 0.02**2 / 4 * 2 / 3 / 0.01), abs=1.5)


def test_the_hum_of_the_mains_is_one_pattern_and_other_tones_are_their_own(real: SampleSpectrum) -> None:
    found = peaks_of(real, noise(1) + tones(50.0, 100.0, 150.0, 777.0))
    names = {peak.name: peak for peak in found}
    assert set(names) == {"hum of the mains (50 Hz and its multiples)", "tone of 777 Hz"}
    hum = names["hum of the mains (50 Hz and its multiples)"]
    places = sorted(abs(place[1]) * RATE for place in (hum.frequency, *hum.also))
    assert places == pytest.approx([50.0, 100.0, 150.0], abs=1.0)


def test_a_multiple_alone_is_a_tone() -> None:
    assert mains_of(150.0, [150.0], 1.0) is None
    assert mains_of(180.3, [60.1, 180.3], 1.0) == 60
    assert mains_of(183.0, [60.0, 183.0], 1.0) is None


def test_what_a_decoder_leaves_has_no_name_of_pictures(real: SampleSpectrum) -> None:
    held = noise(1)[..., ::4].repeat_interleave(4, -1)
    (peak,) = (each for each in peaks_of(real, held) if each.found_by == "periodicity")
    assert (
        peak.name == "pattern that repeats every 4 samples (upsampling by 4, or a transposed convolution of stride 4)"
    )
    spurious = noise(1) + tones(RATE / 4)
    (line,) = peaks_of(real, spurious)
    assert line.name == (
        "tone of 1 kHz (every 4 samples: perhaps upsampling by 4, or a transposed convolution of stride 4)"
    )


@pytest.mark.parametrize(("hertz", "name"), [(1120.0, "tone of 1.12 kHz"), (1000.0, "tone of 1 kHz (every 4 samples")])
def test_a_tone_whose_double_lies_at_a_common_period_is_one_pattern(
    real: SampleSpectrum, hertz: float, name: str
) -> None:
    found = find_peaks(real, measured(noise(1) + tones(hertz, size=0.15), "fake"))
    assert {peak.found_by for peak in found.peaks} == {"spectrum", "periodicity"}  # at 2240 = 4000 - 1760, and 2000 Hz
    (peak,) = peaks_of(real, noise(1) + tones(hertz, size=0.15))
    assert peak.name.startswith(name)
    assert peak.found_by == "spectrum"


def test_frequencies_need_a_sample_rate(real: SampleSpectrum) -> None:
    bare = SampleSpectrum("bare", kind="signals", replicates=40)
    bare.update(noise(1))
    with pytest.raises(ValueError, match="bare have no sample rate"):
        sound_peaks(find_peaks(bare, bare), bare)
