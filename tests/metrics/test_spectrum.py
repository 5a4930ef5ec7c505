"""Log-spectral distance against its formula, and streaming against one pass."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passband.metrics import (
    MeanPSD,
    SpectrumDistance,
    log_spectral_distance,
    log_spectral_ratio,
    octave_bands,
)
from passband.transforms import power_law_exponent, radial_bins, radial_psd


def noise(count: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def low_pass(x: torch.Tensor, cutoff: float, gain: float) -> torch.Tensor:
    """Scale the amplitude of all radii from the cutoff on."""
    size = tuple(x.shape[2:])
    filtered = torch.fft.rfft2(x) * torch.where(radial_bins(size) >= cutoff, gain, 1.0)
    return torch.fft.irfft2(filtered, s=size)


def test_lsd_follows_its_definition() -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.uniform(0.1, 5, 17), rng.uniform(0.1, 5, 17)
    phi = 1e-4 * real[1:].mean()
    terms = [(10 * math.log10((fake[k] + phi) / (real[k] + phi))) ** 2 for k in range(1, 17)]
    got = log_spectral_distance(torch.from_numpy(fake), torch.from_numpy(real))
    assert float(got) == pytest.approx(math.sqrt(sum(terms) / 16), rel=1e-12)


@pytest.mark.parametrize("factor", [0.1, 4.0])
def test_scaled_power_is_a_constant_in_decibels(factor: float) -> None:
    real = torch.rand(2, 3, 9, dtype=torch.float64) + 0.5
    ratio = log_spectral_ratio(factor * real, real, floor=0.0)
    torch.testing.assert_close(ratio, torch.full((2, 3, 8), 10 * math.log10(factor), dtype=torch.float64))
    assert log_spectral_distance(factor * real, real, floor=0.0).shape == (2, 3)


def test_the_mean_does_not_count() -> None:
    real = torch.rand(9, dtype=torch.float64) + 0.5
    fake = real.clone()
    fake[0] *= 1e6
    assert log_spectral_distance(fake, real) == 0


def test_floor_bounds_what_an_empty_bin_can_do() -> None:
    real = torch.tensor([0.0, 2.0, 0.0], dtype=torch.float64)
    # phi = 1e-4 * mean(2, 0) = 1e-4, the fake's second bin holds 99 phi: 20 dB; the first agrees.
    fake = torch.tensor([0.0, 2.0, 99e-4], dtype=torch.float64)
    assert float(log_spectral_distance(fake, real)) == pytest.approx(20 / math.sqrt(2))


@pytest.mark.parametrize(
    ("last", "bands"),
    [
        (1, [(1, 1)]),
        (2, [(1, 2)]),
        (3, [(1, 1), (2, 3)]),
        (24, [(1, 1), (2, 3), (4, 7), (8, 15), (16, 24)]),
        (32, [(1, 1), (2, 3), (4, 7), (8, 15), (16, 32)]),
        (33, [(1, 1), (2, 3), (4, 7), (8, 15), (16, 31), (32, 33)]),
    ],
)
def test_octaves(last: int, bands: list[tuple[int, int]]) -> None:
    assert octave_bands(last) == bands


@settings(max_examples=20)
@given(st.integers(1, 600))
def test_octaves_cover_every_radius_once(last: int) -> None:
    covered = [k for low, high in octave_bands(last) for k in range(low, high + 1)]
    assert covered == list(range(1, last + 1))


def test_octaves_find_the_missing_power() -> None:
    real = noise(32, 2, 32, 32)
    distance = SpectrumDistance(floor=0.0)
    distance.update(real=real, fake=low_pass(real, 8, 0.5))
    result = distance.compute()
    by_octave = {(octave.low, octave.high): octave for octave in result.octaves}
    for low, high in [(1, 1), (2, 3), (4, 7)]:
        assert by_octave[low, high].lsd == pytest.approx(0, abs=1e-6)
    octave = by_octave[8, 16]
    assert octave.lsd == pytest.approx(20 * math.log10(2))
    assert octave.bias == pytest.approx(-20 * math.log10(2))
    # Nine of sixteen radii carry the whole difference.
    assert result.lsd == pytest.approx(20 * math.log10(2) * math.sqrt(9 / 16))


def test_result_holds_the_means_the_errors_and_the_exponents() -> None:
    real, fake = noise(7, 3, 16, 16), noise(5, 3, 16, 16, seed=1)
    distance = SpectrumDistance()
    distance.update(real=real, fake=fake)
    result = distance.compute()
    psd = radial_psd(real)
    torch.testing.assert_close(result.real_channels, psd.mean(0))
    torch.testing.assert_close(result.real_psd, psd.mean((0, 1)))
    torch.testing.assert_close(result.real_error, psd.mean(1).std(0) / math.sqrt(7))
    torch.testing.assert_close(result.channel_lsd, log_spectral_distance(radial_psd(fake).mean(0), psd.mean(0)))
    assert (result.real_count, result.fake_count, result.size) == (7, 5, (16, 16))
    assert result.fake_exponent == pytest.approx(float(power_law_exponent(radial_psd(fake).mean((0, 1)))))


def test_batches_and_ranks_do_not_matter() -> None:
    real, fake = noise(10, 1, 12, 9), noise(6, 1, 12, 9, seed=1)
    whole = SpectrumDistance()
    whole.update(real=real, fake=fake)
    ranks = [SpectrumDistance() for _ in range(3)]
    for i in range(10):
        ranks[i % 3].update(real=real[i : i + 1])
    ranks[0].update(fake=fake[:5])
    ranks[2].update(fake=fake[5:])
    merged = SpectrumDistance()
    for rank in ranks:
        received = SpectrumDistance()
        received.load_state_dict(rank.state_dict())
        merged.merge(received)
    one, other = whole.compute(), merged.compute()
    assert other.lsd == pytest.approx(one.lsd, rel=1e-12)
    torch.testing.assert_close(other.real_psd, one.real_psd, rtol=1e-12, atol=0)
    torch.testing.assert_close(other.fake_error, one.fake_error, rtol=1e-9, atol=0)
    assert (other.real_count, other.fake_count) == (10, 6)


def test_state_survives_and_merging_leaves_the_other_alone() -> None:
    first, second = MeanPSD(), MeanPSD()
    first.update(noise(3, 1, 8, 8))
    second.update(noise(2, 1, 8, 8, seed=1))
    before = second.psd
    first.merge(second)
    second.update(noise(2, 1, 8, 8, seed=2))
    assert first.count == 5
    assert second.count == 4
    assert not torch.equal(before, second.psd)
    restored = MeanPSD()
    restored.load_state_dict(first.state_dict())
    assert torch.equal(restored.psd, first.psd)
    restored.load_state_dict({})
    assert restored.count == 0


def test_reset_forgets_samples_and_shape() -> None:
    distance = SpectrumDistance()
    distance.update(real=noise(2, 1, 8, 8), fake=noise(2, 1, 8, 8))
    distance.reset()
    distance.update(real=noise(3, 1, 16), fake=noise(2, 1, 16))
    assert distance.compute().real_count == 3


def test_empty_batch_changes_nothing() -> None:
    mean = MeanPSD()
    mean.update(torch.zeros(0, 1, 8, 8))
    assert mean.count == 0
    assert mean.state_dict() == {}


def test_one_sample_has_no_error_bar() -> None:
    mean = MeanPSD()
    mean.update(noise(1, 1, 8, 8))
    assert mean.error.isnan().all()


def test_too_few_radii_for_a_power_law_is_nan_not_an_error() -> None:
    distance = SpectrumDistance()
    distance.update(real=noise(2, 1, 2, 2), fake=noise(2, 1, 2, 2))
    assert math.isnan(distance.compute().real_exponent)


@pytest.mark.parametrize(
    ("real", "fake"),
    [
        (noise(1, 1, 8, 8), noise(1, 1, 16, 16)),
        (noise(1, 1, 8, 8), noise(1, 3, 8, 8)),
        (noise(1, 1, 8, 10), noise(1, 1, 10, 8)),
    ],
)
def test_other_shapes_are_refused_and_nothing_is_added(real: torch.Tensor, fake: torch.Tensor) -> None:
    distance = SpectrumDistance()
    with pytest.raises(ValueError, match="one shape"):
        distance.update(real=real, fake=fake)
    assert distance.real.count == 0
    distance.update(real=real)
    with pytest.raises(ValueError, match="crop or resize"):
        distance.update(fake=fake)
    assert distance.fake.count == 0
    other = SpectrumDistance()
    other.update(fake=fake)
    with pytest.raises(ValueError, match="one shape"):
        distance.merge(other)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    fake = noise(4, 1, 8, 8)
    fake[2, 0, 1, 1] = value
    distance = SpectrumDistance()
    with pytest.raises(ValueError, match="fake samples must be finite; 1 of this batch are not, the first at index 2"):
        distance.update(fake=fake)
    assert distance.fake.count == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: SpectrumDistance().compute(), ValueError, "no real samples yet"),
        (lambda: SpectrumDistance(floor=-1), ValueError, "at least 0; got -1"),
        (lambda: SpectrumDistance().merge(SpectrumDistance(floor=0.5)), ValueError, "one floor"),
        (lambda: SpectrumDistance().load_state_dict({}), ValueError, "lacks 'floor'"),
        (
            lambda: MeanPSD().load_state_dict({"sum": torch.ones(3)}),
            ValueError,
            r"lacks \['count', 'shape', 'squares'\]",
        ),
        (lambda: MeanPSD().update(torch.zeros(1, 1, 8, 8, dtype=torch.uint8)), TypeError, "floating-point"),
        (lambda: log_spectral_distance(torch.ones(4), torch.ones(5)), ValueError, "same shape"),
        (lambda: log_spectral_distance(torch.ones(1), torch.ones(1)), ValueError, "at least one more"),
        (lambda: log_spectral_distance(torch.ones(4), torch.ones(4), floor=math.nan), ValueError, "floor"),
        (lambda: octave_bands(0), ValueError, "start at bin 1"),
    ],
)
def test_bad_input_is_a_clear_error(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
