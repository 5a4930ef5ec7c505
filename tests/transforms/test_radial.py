"""Radial grids, pooling, PSD and power law against brute force and closed forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passband.transforms import (
    band_pool,
    bin_frequencies,
    half_weights,
    power_law_exponent,
    power_law_fit,
    radial_bins,
    radial_grid,
    radial_psd,
    rfftn,
)

SIZES = [(7,), (8,), (16, 16), (15, 15), (8, 12), (9, 4), (4, 6, 5), (6, 6, 6)]


def numpy_radius(size: tuple[int, ...]) -> np.ndarray:
    axes = np.meshgrid(*[np.fft.fftfreq(n) for n in size], indexing="ij")
    return min(size) * np.sqrt(sum(axis**2 for axis in axes))


def brute_force_psd(x: np.ndarray) -> np.ndarray:
    """One loop per bin over the full spectrum: no half spectrum, no weights."""
    size = x.shape[2:]
    power = np.abs(np.fft.fftn(x, axes=tuple(range(2, x.ndim)), norm="ortho")) ** 2
    ring = np.floor(np.round(numpy_radius(size), 9) + 0.5)
    bins = [power[..., ring == k].mean(-1) for k in range(min(size) // 2 + 1)]
    return np.stack(bins, -1)


@pytest.mark.parametrize("size", SIZES)
def test_grid_is_the_norm_of_the_frequencies(size: tuple[int, ...]) -> None:
    full = radial_grid(size, half=False)
    np.testing.assert_allclose(full.numpy(), numpy_radius(size), atol=1e-12)
    assert torch.equal(radial_grid(size), full[..., : size[-1] // 2 + 1])


def test_square_grid_counts_whole_cycles_along_an_axis() -> None:
    grid = radial_grid((16, 16))
    assert grid[0].tolist() == list(range(9))
    assert grid[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 7, 6, 5, 4, 3, 2, 1]


def test_non_square_grid_gives_one_wave_one_radius_on_both_axes() -> None:
    grid = radial_grid((32, 64))
    # One period per 8 samples: 4 cycles along 32, 8 along 64.
    assert grid[4, 0] == grid[0, 8] == 4


@pytest.mark.parametrize("size", [(8,), (8, 12), (5, 5)])
def test_dct_grid(size: tuple[int, ...]) -> None:
    axes = np.meshgrid(*[np.arange(n) / n for n in size], indexing="ij")
    expected = min(size) * np.sqrt(sum(axis**2 for axis in axes))
    np.testing.assert_allclose(radial_grid(size, kind="dct").numpy(), expected, atol=1e-12)


def test_ring_bins_follow_their_definition() -> None:
    bins = radial_bins((16, 24), kind="dct", count=10)
    rho = radial_grid((16, 24), kind="dct")
    rho = rho / rho.max()
    assert torch.equal(bins, (10 * rho).floor().long().clamp_max(9))
    assert bins.min() == 0
    assert bins.max() == 9


@pytest.mark.parametrize("size", SIZES)
def test_psd_equals_brute_force(size: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(radial_psd(x).numpy(), brute_force_psd(x.numpy()), rtol=1e-10)


def test_pure_wave_lands_in_its_bin_with_its_power() -> None:
    row = torch.arange(32, dtype=torch.float64).reshape(1, 1, 32, 1)
    wave = torch.cos(2 * torch.pi * 5 * row / 32).expand(1, 1, 32, 32)
    psd = radial_psd(wave)[0, 0]
    ring = int((radial_bins((32, 32), half=False) == 5).sum())
    expected = torch.zeros(17, dtype=torch.float64)
    expected[5] = 0.5 * 32 * 32 / ring
    torch.testing.assert_close(psd, expected, rtol=1e-10, atol=1e-10)


def test_constant_is_all_in_bin_zero() -> None:
    psd = radial_psd(torch.full((1, 1, 8, 8), 3.0, dtype=torch.float64))[0, 0]
    torch.testing.assert_close(psd, torch.tensor([9.0 * 64, 0, 0, 0, 0], dtype=torch.float64), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_parseval_over_all_bins(size: tuple[int, ...]) -> None:
    x = torch.randn(2, 1, *size, dtype=torch.float64)
    bins = radial_bins(size)
    count = int(bins.max()) + 1
    weights = half_weights(size)
    members = torch.bincount(bins.flatten(), weights.expand(bins.shape).flatten(), minlength=count)
    total = (band_pool(rfftn(x).abs() ** 2, bins, count, weights) * members).sum(-1)
    torch.testing.assert_close(total, x.square().flatten(2).sum(-1))


@pytest.mark.parametrize("size", [(4096,), (64, 64), (16, 16, 16)])
def test_white_noise_has_unit_psd(size: tuple[int, ...]) -> None:
    x = torch.randn(64, 1, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    psd = radial_psd(x).mean((0, 1))
    members = torch.bincount(radial_bins(size, half=False).flatten())[: len(psd)]
    # The mean of n exponential variables of mean 1 has standard error 1/sqrt(n); conjugates halve n.
    error = (psd - 1) * (64 * members / 2).clamp_min(1).sqrt()
    assert error.abs().max() < 5


@pytest.mark.parametrize(("size", "beta"), [((64, 64), 2.7), ((63, 63), 1.0), ((512,), 2.0), ((24, 24, 24), 3.0)])
def test_power_law_field_gives_its_exponent_back(size: tuple[int, ...], beta: float) -> None:
    noise = torch.randn(200, 1, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    shape = radial_grid(size).clamp_min(1) ** (-beta / 2)
    field = torch.fft.irfftn(
        torch.fft.rfftn(noise, dim=tuple(range(2, noise.ndim))) * shape, s=size, dim=tuple(range(2, noise.ndim))
    )
    psd = radial_psd(field).mean((0, 1))
    # A ring of finite width averages a convex function, so the first rings are left out.
    assert power_law_exponent(psd, low=3).item() == pytest.approx(beta, abs=0.06)


def test_fit_keeps_leading_axes_and_equals_polyfit() -> None:
    psd = torch.rand(2, 3, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) + 0.1
    fit = power_law_fit(psd, low=2, high=15)
    assert fit.exponent.shape == (2, 3)
    slope, offset = np.polyfit(np.log(np.arange(2, 16)), np.log(psd[1, 2, 2:16].numpy()), 1)
    assert fit.exponent[1, 2].item() == pytest.approx(-slope)
    assert fit.scale[1, 2].item() == pytest.approx(math.exp(offset))


@settings(max_examples=25, deadline=None)
@given(
    size=st.lists(st.integers(1, 7), min_size=1, max_size=3).map(tuple),
    count=st.integers(1, 6),
    batch=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
def test_band_pool_equals_a_loop(size: tuple[int, ...], count: int, batch: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    power = torch.rand(batch, 2, *size, dtype=torch.float64, generator=generator)
    weights = torch.rand(size[-1], dtype=torch.float64, generator=generator) + 0.1
    bins = torch.randint(-1, count + 2, size, generator=generator)
    pooled = band_pool(power, bins, count, weights)
    full = weights.expand(size)
    for b in range(count):
        inside = bins == b
        expected = torch.zeros(batch, 2, dtype=torch.float64)
        if inside.any():
            expected = (power * full)[..., inside].sum(-1) / full[inside].sum()
        torch.testing.assert_close(pooled[..., b], expected)


def test_band_pool_is_differentiable() -> None:
    power = torch.rand(2, 4, 3, dtype=torch.float64, requires_grad=True)
    bins = radial_bins((4, 4))
    assert torch.autograd.gradcheck(lambda p: band_pool(p, bins, 3, half_weights((4, 4))), (power,))


def test_nan_stays_nan_and_in_its_sample() -> None:
    x = torch.randn(2, 1, 8, 8)
    x[0, 0, 3, 3] = torch.nan
    psd = radial_psd(x)
    assert psd[0].isnan().all()
    assert psd[1].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    x = torch.randn(2, 1, 16, 16).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        psd = radial_psd(x)
    assert psd.dtype == torch.float32
    torch.testing.assert_close(psd, radial_psd(x.double()).float(), rtol=1e-4, atol=1e-5)


def test_bin_frequencies_in_both_units() -> None:
    assert bin_frequencies((9, 12)).tolist() == [0, 1, 2, 3, 4]
    assert bin_frequencies((10,), unit="pixel").tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert len(bin_frequencies((9, 12))) == radial_psd(torch.zeros(1, 1, 9, 12)).shape[-1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: radial_grid((8, 8), kind="dft"), "unknown kind: got 'dft'"),
        (lambda: radial_grid((8, 0)), "positive side lengths"),
        (lambda: radial_grid(()), "1 to 3 positive"),
        (lambda: radial_bins((8,), count=0), "at least 1"),
        (lambda: bin_frequencies((8,), unit="hz"), "unknown unit"),
        (lambda: band_pool(torch.ones(2, 4, 4), radial_bins((4, 4)), 3), "must end in the shape of bins"),
        (lambda: band_pool(torch.ones(4), radial_bins((4, 4)), 3), "must end in the shape of bins"),
        (lambda: radial_psd(torch.ones(4, 4)), "must have shape"),
        (lambda: power_law_exponent(torch.ones(9), low=0), "bin 0 is the mean"),
        (lambda: power_law_exponent(torch.ones(9), low=4, high=4), "at least 2 bins"),
        (lambda: power_law_exponent(torch.ones(9), high=9), "inside 1 ... 8"),
    ],
)
def test_bad_input_is_a_clear_error(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_integer_images_are_refused() -> None:
    with pytest.raises(TypeError, match="floating-point"):
        radial_psd(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))
