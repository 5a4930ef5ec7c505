"""Leakage and pattern distance in cases whose answer is known on paper."""

import math

import numpy as np
import pytest
import torch

from passband.metrics import leakage, nearest_pattern, pattern_distance


def board(size: int, cell: int, row: int = 0, column: int = 0) -> torch.Tensor:
    y = (torch.arange(size) + row) // cell
    x = (torch.arange(size) + column) // cell
    return (1.0 - 2.0 * ((y[:, None] + x[None, :]) % 2)).reshape(1, size, size)


def patterns(size: int, *cells: int) -> torch.Tensor:
    return torch.stack([board(size, c, row, column) for c in cells for row in range(c) for column in range(2 * c)])


def test_true_patterns_have_no_leakage_and_no_distance() -> None:
    truth = patterns(16, 2, 4)
    assert leakage(truth, truth) < 1e-12
    assert pattern_distance(truth, truth) == 0


def test_leakage_is_the_share_of_the_foreign_wave() -> None:
    truth = patterns(16, 4)
    # Odd multiples of 2 along both axes hold the boards; a wave along one axis alone does not.
    wave = torch.cos(2 * torch.pi * 3 * torch.arange(16) / 16).expand(1, 1, 16, 16)
    image = truth[:1] + 0.5 * wave
    # The board has mean power 1, the wave 0.25 / 2.
    assert float(leakage(image, truth)) == pytest.approx(0.125 / 1.125)


def test_an_offset_is_leakage() -> None:
    truth = patterns(16, 4)
    assert float(leakage(truth + 2.0, truth)) == pytest.approx(4 / 5)


def test_power_is_summed_over_images_and_channels_before_the_division() -> None:
    truth = patterns(8, 2)
    images = torch.stack([torch.cat([truth[0], truth[1]]), torch.full((2, 8, 8), 3.0)])
    assert float(leakage(images, truth)) == pytest.approx(18 / 20)


@pytest.mark.parametrize("size", [12, 16])
def test_leakage_of_white_noise_is_the_share_of_frequencies_outside(size: int) -> None:
    truth = patterns(size, 2)
    support = np.abs(np.fft.fft2(truth.numpy())).mean((0, 1)) > 1e-6
    images = torch.randn(2000, 1, size, size, generator=torch.Generator().manual_seed(0))
    assert float(leakage(images, truth)) == pytest.approx(1 - support.mean(), abs=0.004)


def test_grey_is_at_distance_one_and_noise_adds_in_quadrature() -> None:
    truth = patterns(16, 2, 4, 8)
    assert float(pattern_distance(torch.zeros(2, 1, 16, 16), truth)) == 1
    noisy = truth[5:6] + 0.3 * torch.randn(300, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    distance, index = nearest_pattern(noisy, truth)
    assert index.unique().tolist() == [5]
    assert float(distance.square().mean()) == pytest.approx(0.09, rel=0.02)


@pytest.mark.parametrize("channels", [1, 3])
def test_nearest_equals_an_exhaustive_search(channels: int) -> None:
    truth = patterns(8, 1, 2, 4)
    images = torch.randn(300, channels, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    images = images + 2 * truth[torch.arange(300) % len(truth)]
    all_distances = (images[:, None] - truth[None]).square().flatten(2).mean(2).sqrt()
    distance, index = nearest_pattern(images, truth)
    torch.testing.assert_close(distance, all_distances.min(1).values)
    assert torch.equal(index, all_distances.argmin(1))
    assert float(pattern_distance(images, truth)) == pytest.approx(float(distance.mean()))


def test_patterns_of_unequal_energy_are_weighed_right() -> None:
    truth = torch.stack([torch.full((1, 4, 4), 5.0), torch.full((1, 4, 4), 1.0)])
    distance, index = nearest_pattern(torch.full((1, 2, 4, 4), 2.0), truth)
    assert (distance.item(), index.item()) == (1.0, 1)


def test_nan_is_not_hidden() -> None:
    truth = patterns(8, 2)
    images = truth[:3].clone()
    images[1, 0, 0, 0] = math.nan
    assert math.isnan(leakage(images, truth))
    distance, _ = nearest_pattern(images, truth)
    assert distance.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("images", "truth", "message"),
    [
        (torch.zeros(1, 1, 8, 8), torch.zeros(0, 1, 8, 8), "patterns is empty"),
        (torch.zeros(1, 1, 8, 8), torch.zeros(2, 1, 16, 16), "same size"),
        (torch.zeros(1, 3, 8, 8), torch.zeros(2, 3, 8, 8), "same size"),
        (torch.zeros(1, 8, 8), torch.zeros(2, 1, 8, 8), "must have shape"),
    ],
)
def test_bad_input_is_a_clear_error(images: torch.Tensor, truth: torch.Tensor, message: str) -> None:
    for measure in (leakage, pattern_distance):
        with pytest.raises(ValueError, match=message):
            measure(images, truth)
