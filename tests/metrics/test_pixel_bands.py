"""Bands in cycles per pixel: each coefficient in one, at the same frequencies at every resolution."""

import math

import pytest
import torch

from passband.metrics import PixelBands


def frequency(place, size):
    return math.sqrt(sum((k / (2 * n)) ** 2 for k, n in zip(place, size, strict=True)))


@pytest.mark.parametrize("size", [(16,), (32, 32), (12, 20), (8, 8, 8)])
def test_every_coefficient_lies_in_the_band_of_its_frequency(size):
    bands = PixelBands(size)
    for place in torch.ones(size).nonzero().tolist():
        low, high = bands.edges[int(bands.index[tuple(place)])]
        found = frequency(place, size)
        assert found == low == high == 0 or low < found + 1e-9 <= high + 2e-9
    assert int(bands.counts.sum()) == math.prod(size)
    assert bands.counts.tolist() == torch.bincount(bands.index.flatten()).tolist()


def test_bands_are_the_same_at_every_resolution():
    small, large = PixelBands((32, 32)), PixelBands((128, 128))
    common = [edge for edge in small.edges if 0 < edge[1] <= 0.5]
    assert set(common) <= set(large.edges)
    assert (0.25, 0.5**1.5) in common
    assert (1 / 32, 1 / 16) in common  # octaves below 1/16, half octaves above


def test_sums_are_those_of_a_loop():
    bands, power = PixelBands((4, 6)), torch.rand(2, 3, 4, 6)
    found = bands.sums(power)
    for band in range(len(bands)):
        expected = torch.stack([power[..., i, j] for i, j in (bands.index == band).nonzero().tolist()]).double().sum(0)
        torch.testing.assert_close(found[..., band], expected)


def test_one_axis_has_no_corners():
    assert PixelBands((64,)).labels()[-1] == "1/2.8–1/2"
    assert PixelBands((64, 64)).labels()[-1] == "corners"


def test_a_single_position_has_no_bands():
    with pytest.raises(ValueError, match="no frequency beside their mean"):
        PixelBands((1, 1))


def test_another_size_is_refused():
    with pytest.raises(ValueError, match="must end in the size"):
        PixelBands((8, 8)).sums(torch.rand(2, 8, 9))
