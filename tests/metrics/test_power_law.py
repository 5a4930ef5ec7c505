"""The measured power law against fields made with a known one, and streaming against one pass."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passband.data import ImageFolder
from passband.metrics import PowerLawMeasure, fit_power_law, measure_power_law
from passband.transforms import idct, radial_grid


def fields(
    size: tuple[int, ...], beta: float, k1: float, count: int = 400, channels: int = 1, seed: int = 0
) -> torch.Tensor:
    """Gaussian fields whose DCT power is exactly (k / k1)^-beta in expectation, at every frequency but the mean."""
    k = radial_grid(size, "dct").clamp_min(1e-9)
    noise = torch.randn(count, channels, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    gain = (k / k1) ** (-beta / 2)
    gain.view(-1)[0] = 30.0
    return idct(noise * gain)


@pytest.mark.parametrize(
    ("size", "beta", "k1"),
    [((32, 32), 2.7, 4.0), ((32, 32), 1.0, 10.0), ((32, 32), 3.5, 0.5), ((24, 40), 2.0, 4.0), ((128,), 2.0, 5.0)],
)
def test_a_known_law_is_found(size: tuple[int, ...], beta: float, k1: float) -> None:
    result = measure_power_law(fields(size, beta, k1, count=600))
    assert result.beta == pytest.approx(beta, abs=0.05)
    assert result.k1 == pytest.approx(k1, rel=0.06)
    assert result.size == size
    assert result.residual < 0.6
    assert (result.low, result.high) == (2, 3 * min(size) // 4)
    if k1 >= 1:
        assert result.crossing == pytest.approx(k1, rel=0.15)


def test_errors_are_those_of_repeated_measurements() -> None:
    results = [measure_power_law(fields((16, 16), 2.5, 4.0, count=64, seed=seed)) for seed in range(25)]
    betas, k1s = (torch.tensor([getattr(r, name) for r in results]).double() for name in ("beta", "k1"))
    # 25 repetitions know a standard deviation to 14 %, each jackknife of 32 groups to 13 %.
    assert sum(r.beta_error for r in results) / 25 == pytest.approx(float(betas.std()), rel=0.35)
    assert sum(r.k1_error for r in results) / 25 == pytest.approx(float(k1s.std()), rel=0.35)
    power = torch.stack([r.power for r in results])
    error = torch.stack([r.power_error for r in results]).square().mean(0).sqrt()
    torch.testing.assert_close(error, power.std(0), rtol=0.5, atol=0)


@settings(max_examples=10)
@given(st.floats(0.05, 20), st.floats(1.0, 3.5))
def test_scaling_the_data_moves_k1_alone(factor: float, beta: float) -> None:
    x = fields((16, 16), beta, 4.0, count=16)
    plain, scaled = measure_power_law(x), measure_power_law(factor * x)
    assert scaled.beta == pytest.approx(plain.beta, rel=1e-6)
    assert scaled.k1 == pytest.approx(plain.k1 * factor ** (2 / plain.beta), rel=1e-5)
    assert scaled.residual == pytest.approx(plain.residual, rel=1e-5)


def test_the_curve_of_a_non_square_field_is_pooled_over_u_by_height_and_v_by_width() -> None:
    # One wave along the long axis: index 6 of 16 lies at radius 8 · 6/16 = 3.
    coefficients = torch.zeros(3, 2, 8, 16, dtype=torch.float64)
    coefficients[:, :, 0, 6] = 2.0
    measure = PowerLawMeasure()
    measure.update(idct(coefficients))
    inside = (radial_grid((8, 16), "dct") + 0.5).floor() == 3
    expected = torch.zeros(11, dtype=torch.float64)
    expected[3] = 4.0 / int(inside.sum())
    torch.testing.assert_close(measure._sums.sum(0) / measure.count, expected)


@pytest.mark.parametrize("splits", [(1, 39), (13, 27), (40, 0)])
def test_merged_parts_are_the_whole(splits: tuple[int, int]) -> None:
    x = fields((16, 12), 2.0, 4.0, count=40, channels=3)
    whole, first, second = PowerLawMeasure(), PowerLawMeasure(), PowerLawMeasure()
    whole.update(x)
    for part in x[: splits[0]].split(7):
        first.update(part)
    second.update(x[splits[0] :])
    copy = PowerLawMeasure()
    copy.load_state_dict(second.state_dict())
    merged, expected = first.merge(copy).compute(), whole.compute()
    for name in ("beta", "k1", "residual", "crossing", "count", "size", "low", "high"):
        assert getattr(merged, name) == pytest.approx(getattr(expected, name), rel=1e-9), name
    torch.testing.assert_close(merged.power, expected.power)
    assert merged.beta_error == pytest.approx(expected.beta_error, rel=0.6)
    first.reset()
    assert first.count == 0
    assert first.state_dict() == {}


def test_windows_are_measured_as_samples_of_their_own() -> None:
    x = torch.randn(6, 2, 16, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    windows = x.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).reshape(-1, 2, 8, 8)
    result, expected = measure_power_law(x, window=8), measure_power_law(windows)
    assert result.size == (8, 8)
    torch.testing.assert_close(result.power, expected.power)
    assert result.beta == pytest.approx(expected.beta)


@given(st.floats(-1, 4), st.floats(0.1, 100), st.integers(1, 5))
def test_fit_is_exact_for_a_law_and_leaves_empty_bins_out(beta: float, scale: float, low: int) -> None:
    k = torch.arange(20, dtype=torch.float64)
    power = scale * k.clamp_min(1) ** -beta
    power[[0, 7, 11]] = torch.tensor([1e3, 0.0, 0.0], dtype=torch.float64)
    fit = fit_power_law(power, low=low)
    assert fit.beta == pytest.approx(beta, abs=1e-9)
    assert fit.residual == pytest.approx(0, abs=1e-6)
    assert fit.used == 20 - low - 2
    if beta > 0.1:
        assert math.log(fit.k1) == pytest.approx(math.log(scale) / beta, abs=1e-6)


def test_residual_is_the_rms_distance_in_decibels() -> None:
    k = torch.arange(1, 5, dtype=torch.float64)
    # Errors of +1, -1, -1, +1 dB over equally spaced logarithms change neither slope nor height.
    error = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
    power = torch.cat([torch.zeros(1), 2.0 ** (-2 * k) * 10 ** (error / 10)]).double()
    radius = torch.cat([torch.zeros(1), 2.0**k]).double()
    fit = fit_power_law(power, low=1, radius=radius)
    assert fit.beta == pytest.approx(2)
    assert fit.residual == pytest.approx(1)


def test_white_and_rising_spectra_have_no_contour() -> None:
    rising = fields((16, 16), -1.0, 4.0, count=50)
    result = measure_power_law(rising)
    assert result.beta == pytest.approx(-1, abs=0.1)
    assert math.isnan(result.k1)
    assert result.front is None
    assert result.crossing == math.inf


def test_power_above_or_below_noise_everywhere() -> None:
    x = fields((16, 16), 2.0, 4.0, count=50)
    assert measure_power_law(1e-3 * x).crossing == 0
    assert measure_power_law(1e3 * x).crossing == math.inf
    result = measure_power_law(1e3 * x)
    assert result.front == {"name": "contour", "beta": result.beta, "k1": result.k1, "size": [16, 16]}
    assert result.k1 > result.k_max == pytest.approx(15 * math.sqrt(2))


def test_bad_input_is_a_clear_error() -> None:
    x = torch.randn(4, 1, 16, 16)
    measure = PowerLawMeasure(name="real images")
    with pytest.raises(ValueError, match="at least 2 real images, got 0"):
        measure.compute()
    measure.update(x[:1])
    with pytest.raises(ValueError, match="at least 2 real images, got 1"):
        measure.compute()
    with pytest.raises(ValueError, match=r"one size, got \(8, 8\) after \(16, 16\)"):
        measure.update(torch.randn(2, 1, 8, 8))
    with pytest.raises(ValueError, match="1 of this batch are not, the first at index 2"):
        measure.update(torch.where(torch.arange(4).reshape(4, 1, 1, 1) == 2, math.nan, x))
    assert measure.count == 1
    with pytest.raises(ValueError, match="samples are constant"):
        measure_power_law(torch.ones(4, 3, 16, 16))
    with pytest.raises(ValueError, match="at least 8 frequencies"):
        measure_power_law(torch.randn(4, 1, 7, 16))
    with pytest.raises(ValueError, match="fit needs bins within"):
        measure_power_law(x, high=99)
    with pytest.raises(ValueError, match="low"):
        PowerLawMeasure(low=0)
    with pytest.raises(ValueError, match="tile"):
        measure_power_law(x, window=5)
    with pytest.raises(ValueError, match="lacks"):
        measure.load_state_dict({"sums": torch.zeros(2)})
    with pytest.raises(TypeError, match="floating"):
        measure_power_law(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))


def test_photographs(shared) -> None:
    folder = shared / "data" / "photos"
    if not folder.is_dir():
        pytest.skip("no photographs")
    data = ImageFolder(folder, 64, crop="tile", limit=600)
    result = measure_power_law(torch.stack([data[i] for i in range(len(data))]).split(100))
    assert result.beta == pytest.approx(2.7, abs=0.25)
    assert result.k1 == pytest.approx(4, abs=1)
    assert result.crossing == pytest.approx(result.k1, rel=0.5)
    assert 0 < result.beta_error < 0.2


def test_a_spectrum_that_hardly_falls_has_no_front() -> None:
    """White noise of less power than unit noise: by chance the law falls a little, and meets 1 far below index 1."""
    law = measure_power_law(0.5 * torch.randn(400, 1, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert abs(law.beta) < 0.05
    assert law.front is None
    assert replace(law, k1=5e-82).front is None
    assert replace(law, k1=4.0, beta=2.7).front is not None
