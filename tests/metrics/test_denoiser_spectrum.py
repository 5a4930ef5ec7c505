"""Denoisers that are known: an ideal one is faultless, a damaged one is wrong where it was damaged and nowhere else."""

import math

import pytest
import torch

from passband.data import power_law_fields
from passband.metrics import DenoiserMeasure, PixelBands, compare_denoisers, measure_wiener
from passband.metrics.denoiser_families import LEAST_DECIBELS
from passband.transforms import dct, idct

RATIOS = (0.03, 0.1, 0.3, 1.0)
COUNT = 256


@pytest.fixture(scope="module")
def fields():
    """Clean Gaussian fields, noise, and the filter that is ideal for them."""
    clean = power_law_fields(COUNT, 32, 2.0, seed=0)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    return clean, noise, measure_wiener(clean)


def estimates(fields, gains=None):
    """What the Wiener filter makes of the noisy samples; gains (levels, bands) multiply its bands."""
    clean, noise, wiener = fields
    index, found = PixelBands((32, 32)).index, []
    for level, ratio in enumerate(RATIOS):
        spectrum = wiener.estimate(dct(clean + ratio * noise), ratio)
        found.append(idct(spectrum if gains is None else spectrum * gains[level][index]))
    return found


def measured(fields, made, slices=(slice(0, COUNT),)):
    clean, noise, wiener = fields
    measure = DenoiserMeasure(RATIOS, wiener=wiener)
    for part in slices:
        keys = [str(i) for i in range(COUNT)[part]]
        measure.update(clean[part], noise[part], [one[part] for one in made], keys)
    return measure


def only(level, band, bands=11):
    cells = torch.zeros(len(RATIOS), bands, dtype=torch.bool)
    cells[level, band] = True
    return cells


def test_an_ideal_filter_is_faultless(fields):
    result = measured(fields, estimates(fields)).compute()
    assert result.same
    assert float(result.excess.difference.abs().max()) < 1e-3
    assert result.count == COUNT
    assert result.relative.shape == (len(RATIOS), len(result.bands)) == (4, 11)


def test_what_is_ideal_for_all_data_is_not_called_on_a_few():
    """The gain of the true power, on samples whose own power is another by chance."""
    called = 0
    for seed in range(20):
        clean, noise = torch.randn(2, 64, 1, 16, 16, generator=torch.Generator().manual_seed(seed))
        measure = DenoiserMeasure([0.5, 1.0], wiener=measure_wiener(clean))
        measure.update(clean, noise, [0.8 * (clean + 0.5 * noise), 0.5 * (clean + noise)], [str(i) for i in range(64)])
        called += not measure.compute().same
    assert called <= 3  # 1 is expected at the 95 % level


def test_a_filter_of_few_samples_suits_them_by_chance():
    """By 2 P r² / (n (P + r²)²) of its error, which is more than 0.1 dB for 8 samples, and called for none."""
    clean, noise = torch.randn(2, 8, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    measure = DenoiserMeasure([1.0], wiener=measure_wiener(clean))
    measure.update(clean, noise, [0.5 * (clean + noise)], [str(i) for i in range(8)])
    excess = measure.compute().excess
    expected = 10 * math.log10(1 + 1 / 16)
    assert float(excess.difference[0, 5:].mean()) == pytest.approx(expected, rel=0.25)
    assert expected > LEAST_DECIBELS
    assert not excess.different.any()


@pytest.mark.parametrize(("level", "band"), [(0, 3), (1, 6), (1, 9), (2, 4), (2, 7)])
def test_a_damped_band_is_found_there_and_nowhere_else(fields, level, band):
    gains = torch.ones(4, 11)
    gains[level, band] = 0.8
    result = measured(fields, estimates(fields, gains)).compute()
    assert torch.equal(result.smooth, only(level, band))
    assert torch.equal(result.under, only(level, band))
    assert not result.rough.any()
    # The calibration is the factor itself, 10 log10 0.8 = -0.97 dB.
    assert float(result.calibration.difference[level, band]) == pytest.approx(-0.969, abs=0.15)
    # The error grows by 0.04 of the estimate's power, which is what the filter keeps of the data's.
    left = float(result.wiener[level, band])
    assert float(result.relative[level, band]) == pytest.approx(left + 0.04 * (1 - left), rel=0.05)


def test_power_that_is_not_the_datas_is_rough(fields):
    made = estimates(fields)
    wave = torch.zeros(1, 1, 32, 32)
    wave[..., 20, 12] = 1.0
    phase = torch.randn(COUNT, 1, 1, 1, generator=torch.Generator().manual_seed(5))
    made[2] = made[2] + idct(phase * wave)
    result = measured(fields, made).compute()
    band = int(PixelBands((32, 32)).index[20, 12])
    assert torch.equal(result.rough, only(2, band))
    assert torch.equal(result.under, only(2, band))


def test_a_large_error_is_told_where_a_few_samples_hold_most_of_the_power():
    """How many decibels it is beyond the filter's is not known, as one sample decides the filter's error; the sign is.

    Of a filter that is right for the strong sample nothing is called, however few the samples are.
    """
    generator = torch.Generator().manual_seed(0)
    loud = torch.cat([torch.full((15,), 0.02), torch.ones(1)]).reshape(-1, 1, 1, 1)
    clean, noise, invented = torch.randn(3, 16, 1, 32, 32, generator=generator)
    clean, keys = loud * clean, [str(i) for i in range(16)]
    wiener = measure_wiener(clean)
    right = idct(wiener.estimate(dct(clean + 0.5 * noise), 0.5))
    called = []
    for estimate in (right, right + 2 * invented):
        measure = DenoiserMeasure([0.5], wiener=wiener)
        measure.update(clean, noise, [estimate], keys)
        called.append(measure.compute())
    assert called[0].same
    excess = called[1].excess
    assert bool(called[1].under[0, 1:].all())
    assert float(excess.low[0, -1]) > 0
    assert float(excess.high[0, -1] - excess.difference[0, -1]) > float(excess.difference[0, -1] - excess.low[0, -1])


def test_an_estimate_of_nothing_is_too_smooth(fields):
    clean, noise, wiener = fields
    measure = DenoiserMeasure(RATIOS, wiener=wiener)
    measure.update(clean, noise, [torch.zeros_like(clean)] * len(RATIOS), [str(i) for i in range(COUNT)])
    result = measure.compute()
    held = 1 - result.wiener > 0.01
    assert torch.equal(result.smooth, held)
    assert result.calibration.difference[held].tolist() == pytest.approx([-20] * int(held.sum()))


def test_what_is_added_to_an_empty_mean_shows():
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(64, 1, 16, 16, generator=generator)
    clean = clean - clean.mean((2, 3), keepdim=True)
    noise = torch.randn(clean.shape, generator=generator)
    measure = DenoiserMeasure([1.0], wiener=measure_wiener(clean))
    brighter = torch.where(torch.arange(64) % 2 == 0, 0.5, -0.5).reshape(-1, 1, 1, 1)
    measure.update(clean, noise, [(clean + noise) / 2 + brighter], [str(i) for i in range(64)])
    result = measure.compute()
    assert bool(result.under[0, 0])
    # N δ² = 256/4, and the filter's own share of the noise in the mean, against a tenth of the mean power, about 1.
    assert float(result.excess.difference[0, 0]) == pytest.approx(10 * torch.tensor(640.0).log10().item(), abs=0.3)
    assert result.excess.difference.isfinite().all()


def test_the_power_is_the_datas(fields):
    clean = fields[0]
    result = measured(fields, estimates(fields)).compute()
    bands = PixelBands((32, 32))
    expected = bands.sums(dct(clean.double()).square().mean((0, 1))) / bands.counts
    torch.testing.assert_close(result.power, expected, rtol=1e-5, atol=1e-12)


def test_parts_merge_to_the_whole_in_any_order(fields):
    made = estimates(fields)
    _, noise, wiener = fields
    whole = measured(fields, made).compute()
    first = measured(fields, made, (slice(100, COUNT),))
    first.update_gradient("base", 1, noise[:4])
    second = measured(fields, made, (slice(0, 100),))
    second.update_gradient("base", 1, noise[4:8])
    merged = DenoiserMeasure(RATIOS, wiener=wiener)
    merged.load_state_dict(second.merge(first).state_dict())
    result = merged.compute()
    torch.testing.assert_close(result.relative, whole.relative)
    torch.testing.assert_close(result.excess.error, whole.excess.error)
    together = measured(fields, made)
    together.update_gradient("base", 1, noise[:8])
    torch.testing.assert_close(result.gradients["base"].share[1], together.compute().gradients["base"].share[1])


def test_gradients_are_shared_out_among_bands(fields):
    measure, bands = measured(fields, estimates(fields)), PixelBands((32, 32))
    white = torch.randn(400, 1, 32, 32, generator=torch.Generator().manual_seed(3))
    measure.update_gradient("white", 2, white)
    wave = torch.zeros(1, 1, 32, 32)
    wave[..., 0, 16] = 3.0  # 1/4 cycle per pixel
    measure.update_gradient("wave", 0, idct(wave))
    found = measure.compute().gradients
    torch.testing.assert_close(found["white"].share[2], bands.counts.double() / 1024, atol=0.005, rtol=0)
    assert float(found["white"].norm[2]) == pytest.approx(32, rel=0.01)
    assert found["wave"].share[0].argmax() == next(i for i, edge in enumerate(bands.edges) if edge[1] == 0.25)
    assert float(found["wave"].norm[0]) == pytest.approx(3.0, rel=1e-5)
    assert found["wave"].share[1].isnan().all()


def test_two_models_are_compared_in_pairs(fields):
    gains = torch.ones(4, 11)
    gains[1, 6] = 0.8
    ideal, damped = (measured(fields, estimates(fields, g)).compute() for g in (None, gains))
    contrast = compare_denoisers(ideal, damped)
    assert torch.equal(contrast.different, only(1, 6))
    torch.testing.assert_close(
        contrast.difference[1, 6], damped.excess.difference[1, 6] - ideal.excess.difference[1, 6]
    )
    # Paired: the error of the difference is far below that of either model's own error.
    assert float(contrast.error[1, 6]) < 0.2 * float(contrast.difference[1, 6])
    back = compare_denoisers(damped, ideal)
    torch.testing.assert_close(back.difference, -contrast.difference)


def test_other_samples_or_levels_are_not_compared(fields):
    made = estimates(fields)
    whole, part = (measured(fields, made, (slice(0, n),)).compute() for n in (COUNT, 100))
    with pytest.raises(ValueError, match="same samples"):
        compare_denoisers(whole, part)
    clean, noise, wiener = fields
    other = DenoiserMeasure([0.03, 0.1, 0.3, 2.0], wiener=wiener)
    other.update(clean, noise, made, [str(i) for i in range(COUNT)])
    with pytest.raises(ValueError, match="same noise ratios"):
        compare_denoisers(whole, other.compute())
    renoised = DenoiserMeasure(RATIOS, wiener=wiener)
    renoised.update(clean, noise.flip(0), made, [str(i) for i in range(COUNT)])
    with pytest.raises(ValueError, match="on the same noise"):
        compare_denoisers(whole, renoised.compute())


@pytest.mark.parametrize("ratios", [[], [0.1, 0.1], [1.0, 0.1], [0.0, 1.0]])
def test_levels_must_rise(fields, ratios):
    with pytest.raises(ValueError, match="must rise"):
        DenoiserMeasure(ratios, wiener=fields[2])


def test_faults_are_named(fields):
    clean, noise, wiener = fields
    measure, keys = DenoiserMeasure([0.5], wiener=wiener), ["a", "b"]
    with pytest.raises(ValueError, match="no samples yet"):
        measure.compute()
    with pytest.raises(ValueError, match="of 1 levels"):
        measure.update(clean[:2], noise[:2], [], keys)
    with pytest.raises(ValueError, match="Wiener filter is of samples"):
        measure.update(clean[:2, :, :16], noise[:2, :, :16], [clean[:2, :, :16]], keys)
    broken = clean[:2].clone()
    broken[1] = torch.nan
    with pytest.raises(ValueError, match=r"1 of this batch are not at noise ratio 0.5, the first that of b"):
        measure.update(clean[:2], noise[:2], [broken], keys)
    with pytest.raises(ValueError, match="level must be"):
        measure.update_gradient("base", 1, clean[:2])
    assert measure.means.count == 0
    with pytest.raises(ValueError, match="one time for each"):
        DenoiserMeasure([0.5], [1.0, 2.0], wiener=wiener)
