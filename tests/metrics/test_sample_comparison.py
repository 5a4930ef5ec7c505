"""Comparing two measured sets: what is a ratio of what, which sets are paired, and what the distances are."""

import math

import pytest
import torch

from passband.metrics import SampleSpectrum, compare_samples, log_spectral_distance
from passband.metrics.sample_families import sample_families
from passband.transforms import radial_psd, taper


def noise(count, *shape, seed=0, scale=1.0):
    return scale * torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def measured(samples, prefix="", **options):
    spectrum = SampleSpectrum(prefix or "samples", **options)
    spectrum.update(samples, [f"{prefix}{i}" for i in range(len(samples))])
    return spectrum


def test_twice_the_amplitude_is_six_decibels_everywhere():
    one = noise(60, 3, 32, 32)
    found = compare_samples(measured(one, "r"), measured(2 * noise(60, 3, 32, 32, seed=1), "f"))
    six = 20 * math.log10(2)
    for name in ("octaves", "directions", "wavelet energy"):
        contrast = found.contrasts[name]
        assert bool(((contrast.difference - six).abs() < 4 * contrast.error + 0.02).all()), name
        assert bool(contrast.different.all()), name
    assert not found.contrasts["wavelet kurtosis"].different.any()  # scale does not matter to it
    assert not found.contrasts["coherence"].different.any()
    assert not found.same


def test_octaves_are_pooled_power_of_all_their_frequencies():
    samples = noise(5, 1, 16, 16)
    found = compare_samples(measured(samples, "r"), measured(samples, "f"))
    full = torch.fft.fft2(taper(samples), norm="ortho").abs().square().mean((0, 1)).double()
    index = torch.fft.fftfreq(16, 1 / 16).double()
    bins = torch.floor(torch.hypot(index[:, None], index) + 0.5)
    for place, (low, high) in enumerate(found.octaves):
        inside = (bins / 16 > low) & (bins / 16 <= high)
        assert float(found.contrasts["octaves"].reference[0, place]) == pytest.approx(
            float(full[inside].mean()), rel=1e-5
        )


def test_log_spectral_distance_is_that_of_the_tapered_spectra():
    real, fake = noise(40, 3, 32, 32), noise(40, 3, 32, 32, seed=1, scale=1.3)
    found = compare_samples(measured(real, "r"), measured(fake, "f"))
    psds = [radial_psd(taper(each)).double().mean((0, 1)) for each in (fake, real)]
    assert found.lsd.value == pytest.approx(float(log_spectral_distance(*psds)), rel=1e-6)
    assert found.lsd.low < 20 * math.log10(1.3) < found.lsd.high
    assert found.lsd.floor < found.lsd.low
    assert [octave.value for octave in found.octave_lsd] == pytest.approx([20 * math.log10(1.3)] * 5, abs=1.2)


def test_the_interval_of_the_distance_holds_the_true_one():
    """Without a difference, and with one: a root mean square is never below 0, so that chance alone makes it larger."""
    for decibel, least in ((0.0, 23), (1.0, 21)):  # of 25; 24 are expected with a difference
        held = 0
        for seed in range(25):
            real = measured(noise(60, 1, 32, seed=seed), "r", kind="signals", replicates=100)
            other = noise(60, 1, 32, seed=99 + seed, scale=10 ** (decibel / 20))
            found = compare_samples(real, measured(other, "f", kind="signals", replicates=100)).lsd
            held += found.low <= decibel <= found.high
        assert held >= least


def test_power_law_is_found():
    index = torch.fft.fftfreq(64, 1 / 64)
    radius = torch.hypot(index[:, None], index[:33].abs()).clamp_min(0.5)
    spectrum = torch.fft.rfft2(noise(200, 1, 64, 64)) * radius**-1.1
    found = compare_samples(measured(torch.fft.irfft2(spectrum), "r"), measured(noise(200, 1, 64, 64, seed=1), "f")).law
    assert found.real.exponent == pytest.approx(2.2, abs=0.05)
    assert found.fake.exponent == pytest.approx(0.0, abs=0.05)
    assert found.real.residual < 0.3
    assert 0 < found.real.error < 0.05
    assert (found.low, found.high) == (4 / 64, 25 / 64)


def test_processed_copies_are_paired_and_others_are_not():
    samples = noise(80, 1, 16, 16) * torch.linspace(0.2, 3, 80).reshape(-1, 1, 1, 1)
    real = measured(samples, "a")
    copies, others = measured(1.05 * samples, "a"), measured(1.05 * samples.flip(0), "b")
    paired, apart = compare_samples(real, copies), compare_samples(real, others)
    assert paired.paired
    assert not apart.paired
    exact = 20 * math.log10(1.05)  # 0.42 dB, far below what two halves differ by
    torch.testing.assert_close(
        paired.contrasts["octaves"].difference, torch.full((1, 4), exact).double(), atol=1e-5, rtol=0
    )
    assert paired.contrasts["octaves"].different.all()
    assert float(paired.contrasts["octaves"].floor.max()) == 0
    assert not apart.contrasts["octaves"].different.any()
    assert float(apart.contrasts["octaves"].floor.min()) > exact


def test_names_in_common_alone_do_not_pair():
    found = compare_samples(measured(noise(80, 1, 16, 16), "x"), measured(noise(80, 1, 16, 16, seed=1), "x"))
    assert not found.paired


def test_copies_are_the_same():
    samples = noise(30, 3, 32, 32)
    found = compare_samples(measured(samples, "a"), measured(samples, "a"))
    assert found.same
    assert found.lsd.value == 0
    assert not found.peaks.peaks


def test_empty_planes_are_no_difference():
    """Gray pictures as RGB have no chroma at all."""
    gray = noise(30, 1, 32, 32).expand(-1, 3, -1, -1)
    other = noise(30, 1, 32, 32, seed=1).expand(-1, 3, -1, -1)
    octaves = compare_samples(measured(gray, "r"), measured(other, "f")).contrasts["octaves"]
    assert octaves.labels[0][4:] == ("Cb", "Cr")
    assert bool((octaves.difference[4:].abs() < 0.01).all())
    assert not octaves.different[4:].any()


@pytest.mark.parametrize("shape", [(1, 256), (2, 24, 40), (4, 8, 8)], ids=str)
def test_other_shapes(shape):
    found = compare_samples(
        measured(noise(40, *shape), "r", kind="latents"), measured(noise(40, *shape, seed=1), "f", kind="latents")
    )
    assert found.size == shape[1:]
    channels = tuple(str(i + 1) for i in range(shape[0]))
    assert found.planes == ((*channels, "all") if shape[0] > 1 else channels)
    assert found.same
    assert found.contrasts["radial"].difference.shape == (len(found.planes), min(shape[1:]) // 2 + 1)
    assert bool(found.contrasts["octaves"].difference.isfinite().all())


def test_one_sample_each_says_nothing_and_does_not_fail():
    found = compare_samples(measured(noise(1, 1, 16, 16), "r"), measured(noise(1, 1, 16, 16, seed=1, scale=9), "f"))
    assert found.same
    assert math.isnan(found.lsd.floor)


@pytest.mark.parametrize("files", [1, 2])
@pytest.mark.parametrize("few", ["real", "fake"])
def test_one_or_two_files_tell_nothing(few, files):
    """All replicates of one file have one mean: their spread is 0, which is no certainty."""
    sets = {}
    for seed, name in enumerate(("real", "fake")):
        sets[name] = SampleSpectrum(name)
        keys = [f"{name}{i % files if name == few else i}" for i in range(60)]
        sets[name].update(noise(60, 1, 16, 16, seed=seed, scale=1 + seed), keys)
    found = compare_samples(sets["real"], sets["fake"])
    assert found.same
    assert found.factor == math.inf
    assert not found.contrasts["octaves"].low.isfinite().any()
    assert math.isnan(found.lsd.low)
    assert math.isnan(getattr(found.law, few).error)
    assert found.lsd.value == pytest.approx(6, abs=1)  # what was measured is shown all the same


def test_few_names_in_common_do_not_pair_by_chance():
    paired = 0
    for seed in range(30):
        contrast = noise(2, 5, 1, 1, 1, seed=seed).exp()
        sets = [measured(contrast[i] * noise(5, 1, 8, 8, seed=99 + i), "x", replicates=100) for i in range(2)]
        paired += compare_samples(*sets).paired
    assert paired <= 1


def test_families_hold_each_quantity_once():
    real, fake = measured(noise(20, 3, 32, 32), "r"), measured(noise(20, 3, 32, 32, seed=1), "f")
    names = [family.name for family in sample_families(real, fake, paired=False)]
    measures = ["directions", "wavelet energy", "wavelet kurtosis", "coherence"]
    assert names == ["octaves", "level", "level spread", *measures]


def test_errors():
    real = measured(noise(4, 1, 16, 16))
    with pytest.raises(ValueError, match="one shape"):
        compare_samples(real, measured(noise(4, 3, 16, 16)))
    with pytest.raises(ValueError, match="same settings"):
        compare_samples(real, measured(noise(4, 1, 16, 16), taper="none"))
    with pytest.raises(ValueError, match="no samples"):
        compare_samples(real, SampleSpectrum())
