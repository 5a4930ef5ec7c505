"""Brightness, tint and offsets: means of known size are found, with intervals that hold; none where there are none."""

import math

import numpy as np
import pytest
import torch

from passband.metrics import Planes, SampleComparison, SampleSpectrum, compare_samples
from passband.metrics.contrast import Contrast, decide
from passband.metrics.probes import Level, level_variance
from passband.metrics.sample_families import sample_families


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def measured(x: torch.Tensor, name: str, **options: object) -> SampleSpectrum:
    spectrum = SampleSpectrum(name, **options)
    spectrum.update(x, [f"{name}{number}" for number in range(len(x))])
    return spectrum


def compared(real: torch.Tensor, fake: torch.Tensor, *, paired: bool = False, **options: object) -> SampleComparison:
    return compare_samples(measured(real, "a", **options), measured(fake, "a" if paired else "b", **options))


def of_means(means: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Signals of four values with these very means."""
    x = noise(len(means), 1, 4, seed=seed)
    return x - x.mean(2, keepdim=True) + means.reshape(-1, 1, 1)


def alone(name: str, real: torch.Tensor, fake: torch.Tensor) -> Contrast:
    """One family decided by itself, so that its interval is of one quantity."""
    options = {"kind": "signals", "replicates": 100}
    sets = measured(real, "a", **options), measured(fake, "b", **options)
    (family,) = (family for family in sample_families(*sets, paired=False) if family.name == name)
    return decide([family], groups=float(len(real))).contrasts[name]


def test_the_mean_is_that_of_each_plane_before_any_window() -> None:
    x = noise(5, 3, 8, 6) + torch.tensor([0.1, -0.2, 0.3]).reshape(3, 1, 1)
    found = Level()(Planes(x))
    red, green, blue = x.double().mean((2, 3)).numpy().T
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    means = np.stack([red, green, blue, luma, (blue - luma) / 1.772, (red - luma) / 1.402], 1)  # ITU-R BT.601
    np.testing.assert_allclose(found[..., 0].numpy(), means, atol=1e-6)
    np.testing.assert_allclose(level_variance(found.mean(0)).numpy(), means.var(0), atol=1e-6)
    assert Level("latents").labels((3, 8, 6)) == (("1", "2", "3"),)


def test_a_shift_is_found_with_its_size_and_intervals_hold_in_95_of_100_draws() -> None:
    shift, held = 0.1, 0
    for seed in range(120):
        means = 0.2 * noise(2, 60, seed=seed)
        found = alone("level", of_means(means[0], seed), of_means(means[1] + shift, seed + 1000))
        held += bool(found.low <= shift) and bool(shift <= found.high)
    assert 106 <= held <= 119  # 114 expected
    assert float(found.difference[0]) == pytest.approx(float(means[1].mean() - means[0].mean()) + shift, abs=1e-6)


def test_the_variance_of_means_is_found_and_its_intervals_hold() -> None:
    held = 0
    for seed in range(60):
        means = noise(2, 200, seed=seed)
        found = alone("level spread", of_means(means[0], seed), of_means(0.7 * means[1], seed + 1000))
        held += bool(found.low <= 20 * math.log10(0.7)) and bool(20 * math.log10(0.7) <= found.high)
    assert held >= 52  # 57 expected
    ratio = (0.7 * means[1]).var() / means[0].var()
    assert float(found.difference[0]) == pytest.approx(10 * math.log10(float(ratio)), abs=1e-4)


def test_darker_images_are_called_in_the_planes_that_differ() -> None:
    real, fake = noise(2, 300, 3, 16, 16, seed=1) * 0.2
    found = compared(real, fake + torch.tensor([-0.1, -0.1, -0.1]).reshape(3, 1, 1)).contrasts["level"]
    assert found.different.tolist() == [True] * 4 + [False] * 2
    torch.testing.assert_close(found.difference[:4], torch.full((4,), -0.1).double(), atol=0.005, rtol=0)
    tinted = compared(real, fake + torch.tensor([0.0, 0.0, 0.1]).reshape(3, 1, 1)).contrasts["level"]
    assert tinted.different.tolist() == [False, False, True, False, True, False]
    assert float(tinted.difference[4]) == pytest.approx(0.1 * (1 - 0.114) / 1.772, abs=0.005)


def test_images_of_one_brightness_are_told_from_such_of_many() -> None:
    """The means over the set are alike, and every spectrum of the mean-removed images too."""
    x = noise(200, 1, 16, 16) * 0.2
    flat = x - x.mean((2, 3), keepdim=True)
    varied = 0.2 * noise(200, seed=1)
    varied = (varied - varied.mean()).reshape(-1, 1, 1, 1)
    found = compared(flat + varied, flat, paired=True)
    assert not found.contrasts["level"].different.any()
    assert not found.contrasts["octaves"].different.any()
    assert found.contrasts["level spread"].different.all()
    assert float(found.contrasts["level spread"].difference[0]) < -60
    assert float(found.contrasts["level spread"].reference[0]) == pytest.approx(
        float(varied.var(correction=0)), rel=1e-4
    )
    assert not found.same


def test_what_rounding_leaves_of_equal_means_is_no_difference() -> None:
    x, y = noise(2, 100, 1, 16, 16)
    x, y = (each - each.double().mean((2, 3), keepdim=True).float() for each in (x, y))
    spread = compared(x, 3 * y).contrasts["level spread"]
    assert abs(float(spread.difference[0])) < 10 * math.log10(9) + 0.1  # the vanishing share is of the power
    assert float(spread.reference[0]) < 1e-10
    same = compared(x, y).contrasts["level spread"]
    assert abs(float(same.difference[0])) < 0.5
    assert not same.different.any()


def test_brightened_copies_differ_by_exactly_that() -> None:
    x = noise(60, 1, 16, 16)
    found = compared(x, x + 0.03, paired=True)
    level = found.contrasts["level"]
    assert found.paired
    assert level.different.all()
    assert float(level.floor.max()) == 0
    assert float(level.low[0]) == pytest.approx(0.03, abs=1e-6)
    assert float(level.high[0]) == pytest.approx(0.03, abs=1e-6)
    assert not found.contrasts["level spread"].different.any()
    assert not compared(x, x + 0.015, paired=True).contrasts["level"].different.any()  # nobody sees it


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_of_latents_the_spread_of_the_values_says_what_is_much(scale: float) -> None:
    x = noise(80, 4, 8, 8)
    moved = x + torch.tensor([0.0, 0.015, 0.025, -0.1]).reshape(4, 1, 1)
    level = compared(scale * x, scale * moved, paired=True, kind="latents").contrasts["level"]
    assert level.labels == (("1", "2", "3", "4"),)
    assert level.least == pytest.approx(0.02 * scale, rel=0.05)
    assert level.different.tolist() == [False, False, True, True]


def test_of_audio_the_offset_is_compared_and_its_variation_not() -> None:
    x = noise(40, 1, 512)
    found = compared(x, x + 0.1, paired=True, kind="signals", sample_rate=16000).contrasts
    assert found["level"].different.all()
    assert "level spread" not in found


def test_autocast_does_not_round_the_squares() -> None:
    x = noise(4, 1, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = Level()(Planes(x))
    assert torch.equal(rounded, Level()(Planes(x)))


def test_gray_images_of_less_contrast_vary_no_less_in_colour() -> None:
    x = (0.2 * noise(100, 1, 16, 16)).expand(-1, 3, -1, -1)
    spread = compared(x, 0.5 * x, paired=True).contrasts["level spread"]
    assert spread.different.tolist() == [True] * 4 + [False] * 2
    assert spread.difference[:4].tolist() == pytest.approx([20 * math.log10(0.5)] * 4, abs=0.01)
    assert spread.difference[4:].tolist() == pytest.approx([0.0, 0.0], abs=0.1)
