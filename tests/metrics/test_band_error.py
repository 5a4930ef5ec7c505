"""Errors per band against their definition, and the attainable error against the Wiener filter applied to fields."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passband.data import power_law_fields, power_law_psd
from passband.metrics import BandError, radial_bands, wiener_band_error
from passband.transforms import dct, idct, radial_bins, radial_grid


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", [(32, 32), (12, 20), (17,), (6, 8, 8)])
@pytest.mark.parametrize("bands", ["octaves", 1, 3])
def test_it_is_error_power_over_power_of_the_coefficients_in_the_band(size: tuple[int, ...], bands: str | int) -> None:
    clean, estimate = normal(5, 2, *size), normal(5, 2, *size, seed=1)
    errors = BandError(bands)
    errors.update(clean, estimate)
    result = errors.compute()
    radius = (radial_grid(size, "dct") + 0.5).floor()
    for band, (low, high) in enumerate(result.bands):
        inside = (radius >= low) & (radius <= high)
        error = dct(estimate - clean)[..., inside].square()
        power = dct(clean)[..., inside].square()
        assert result.error[band].item() == pytest.approx(error.mean().item())
        assert result.power[band].item() == pytest.approx(power.mean().item())
        assert result.relative[band].item() == pytest.approx((error.sum() / power.sum()).item())
    assert result.count == 5
    assert result.size == size


@settings(max_examples=20)
@given(st.floats(-2, 2))
def test_a_scaled_estimate_has_one_error_in_all_bands_and_zero_has_zero_decibels(factor: float) -> None:
    clean = normal(2, 1, 16, 16)
    errors, zero = BandError(), BandError()
    errors.update(clean, factor * clean)
    zero.update(clean, torch.zeros_like(clean))
    torch.testing.assert_close(errors.compute().relative, torch.full((5,), (1 - factor) ** 2, dtype=torch.float64))
    torch.testing.assert_close(zero.compute().decibels, torch.zeros(5, dtype=torch.float64))


def test_an_error_in_one_band_is_seen_there_alone_and_the_mean_nowhere() -> None:
    clean = normal(3, 1, 16, 16)
    inside = radial_bins((16, 16), "dct") == 5
    estimate = clean + idct(normal(3, 1, 16, 16, seed=1) * inside) + 7.0
    errors = BandError()
    errors.update(clean, estimate)
    relative = errors.compute().relative
    assert relative[2] > 0.1
    assert relative[[0, 1, 3, 4]].max() < 1e-20


@settings(max_examples=20)
@given(st.integers(4, 40), st.integers(4, 40))
def test_bands_hold_every_radius_but_the_mean_once(height: int, width: int) -> None:
    last = int(radial_bins((height, width), "dct").max())
    for bands in ("octaves", 1, 2, last):
        found = radial_bands((height, width), bands)
        assert [radius for low, high in found for radius in range(low, high + 1)] == list(range(1, last + 1))


@pytest.mark.parametrize("split", [1, 4, 8])
def test_merged_parts_are_the_whole(split: int) -> None:
    clean, estimate = normal(8, 3, 12, 10), normal(8, 3, 12, 10, seed=1)
    whole, first, second, copy = BandError(), BandError(), BandError(), BandError()
    whole.update(clean, estimate)
    first.update(clean[:split], estimate[:split])
    second.update(clean[split:], estimate[split:])
    copy.load_state_dict(second.state_dict())
    merged, expected = first.merge(copy).compute(), whole.compute()
    torch.testing.assert_close(merged.error, expected.error)
    torch.testing.assert_close(merged.power, expected.power)
    assert merged.count == expected.count == 8
    first.reset()
    assert first.count == 0
    assert first.state_dict() == {}
    assert second.merge(first).count == 8 - split


def test_merging_leaves_the_other_one_as_it_was() -> None:
    first, second = BandError(), BandError()
    second.update(normal(2, 1, 8, 8), normal(2, 1, 8, 8, seed=1))
    before = second.compute().error
    first.merge(second)
    first.update(normal(2, 1, 8, 8, seed=2), normal(2, 1, 8, 8, seed=3))
    torch.testing.assert_close(second.compute().error, before, rtol=0, atol=0)


@pytest.mark.parametrize("ratio", [0.1, 1.0])
def test_the_wiener_filter_on_power_law_fields_reaches_the_closed_form_and_nothing_linear_beats_it(
    ratio: float,
) -> None:
    options = {"resolution": 32, "beta": 2.5, "std": 0.3}
    psd = power_law_psd(**options)
    clean = power_law_fields(600, **options).double()
    noisy = dct(clean + ratio * normal(*clean.shape))
    gain = psd / (psd + ratio**2)

    def measured(gain: torch.Tensor) -> torch.Tensor:
        errors = BandError()
        errors.update(clean, idct(gain * noisy))
        return errors.compute().relative

    best = wiener_band_error(psd, ratio)
    # The lowest band has 3 coefficients in each of 600 fields: 1,800 squares know their mean to 3 %.
    torch.testing.assert_close(measured(gain), best, rtol=0.1, atol=0)
    for factor in (0.8, 1.2):
        worse = measured(gain * factor)
        assert bool((worse > measured(gain)).all())
        # In expectation (1 - f g)² P + f² g² r², per coefficient; pooled like the power.
        expected = (1 - factor * gain).square() * psd + (factor * gain * ratio).square()
        inside = radial_bins((32, 32), "dct")
        for band, (low, high) in enumerate(radial_bands((32, 32))):
            held = (inside >= low) & (inside <= high)
            assert worse[band].item() == pytest.approx((expected[held].sum() / psd[held].sum()).item(), rel=0.1)


@settings(max_examples=20)
@given(st.floats(0, 10))
def test_white_power_has_the_textbook_error(ratio: float) -> None:
    power = torch.full((8, 8), 4.0)
    expected = torch.full((3,), ratio**2 / (4 + ratio**2), dtype=torch.float64)
    torch.testing.assert_close(wiener_band_error(power, ratio, 3), expected)


def test_a_band_without_power_has_no_relative_error() -> None:
    psd = power_law_psd(16)
    psd[radial_bins((16, 16), "dct") > 8] = 0
    assert wiener_band_error(psd, 0.5, ((1, 8), (9, 21))).isnan().tolist() == [False, True]
    assert wiener_band_error(psd, 0.0, ((1, 8),)).tolist() == [0.0]


def test_bad_input_is_a_clear_error() -> None:
    x = torch.randn(2, 1, 8, 8)
    errors = BandError()
    with pytest.raises(ValueError, match="no samples yet"):
        errors.compute()
    with pytest.raises(ValueError, match="same shape"):
        errors.update(x, x[:1])
    with pytest.raises(TypeError, match="estimate must be a real floating-point tensor"):
        errors.update(x, x.to(torch.uint8))
    with pytest.raises(ValueError, match="must be finite"):
        errors.update(x, torch.full_like(x, torch.nan))
    assert errors.count == 0
    errors.update(x, x)
    with pytest.raises(ValueError, match=r"one size, got \(4, 4\) after \(8, 8\)"):
        errors.update(x[..., :4, :4], x[..., :4, :4])
    with pytest.raises(ValueError, match="one size"):
        errors.merge(_filled(x[..., :4, :4]))
    with pytest.raises(ValueError, match="lacks"):
        errors.load_state_dict({"error": torch.zeros(3)})
    with pytest.raises(ValueError, match=r"radii 1 ... 10, got 11 bands"):
        BandError(11).update(x, x)
    with pytest.raises(ValueError, match="unknown bands: got 'thirds'"):
        BandError("thirds").update(x, x)
    with pytest.raises(ValueError, match="1 <= first <= last <= 10"):
        BandError([(0, 3)]).update(x, x)
    with pytest.raises(ValueError, match="noise_ratio must be at least 0"):
        wiener_band_error(x[0, 0].abs(), -0.1)
    with pytest.raises(TypeError, match="noise_ratio must be a number"):
        wiener_band_error(x[0, 0].abs(), "one")  # type: ignore[arg-type]


def _filled(x: torch.Tensor) -> BandError:
    errors = BandError()
    errors.update(x, x)
    return errors
