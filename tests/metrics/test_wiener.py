"""The Wiener filter: its error is the closed form's, colours are decorrelated, and no other gain does better."""

import pytest
import torch

from passband.data import power_law_fields
from passband.metrics import ChannelMoments, WienerFilter, measure_wiener, wiener_band_error
from passband.transforms import dct


def mean_error(estimate, clean):
    return float((estimate - clean).square().mean())


def test_the_error_is_the_closed_forms():
    clean = power_law_fields(512, 16, 2.0, seed=3)
    wiener, ratio = measure_wiener(clean), 0.3
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    x = dct(clean)
    left = (wiener.estimate(x + ratio * dct(noise), ratio) - x).square().mean(0)[0]
    expected = wiener_band_error(wiener.psd[0], ratio, [(2, 21)])
    # Without radii 0 and 1, over all others.
    radius = torch.tensor([[round((u * u + v * v) ** 0.5) for v in range(16)] for u in range(16)])
    found = left[radius > 1].sum() / wiener.psd[0][radius > 1].sum()
    assert float(found) == pytest.approx(float(expected[0]), rel=0.02)


def test_colours_that_go_together_are_estimated_together():
    generator = torch.Generator().manual_seed(1)
    gray = torch.randn(400, 1, 8, 8, generator=generator)
    clean = gray.expand(-1, 3, -1, -1)
    noise = torch.randn(clean.shape, generator=generator)
    wiener = measure_wiener(clean)
    error = mean_error(wiener.estimate(dct(clean + noise), 1.0), dct(clean))
    # Three looks at one white field of power 1: r² = 1/3 for their mean, so 1/3 / (1 + 1/3); each by itself leaves 1/2.
    assert error == pytest.approx(0.25, rel=0.05)


def test_the_basis_is_orthonormal_and_the_power_is_kept():
    clean = torch.randn(20, 4, 6, 7, generator=torch.Generator().manual_seed(2))
    wiener = measure_wiener(clean)
    torch.testing.assert_close(wiener.basis.T @ wiener.basis, torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(wiener.psd.sum(0), dct(clean.double()).square().mean(0).sum(0))


def test_no_other_gain_does_better():
    clean = power_law_fields(300, 16, 2.0, seed=4)
    wiener, ratio = measure_wiener(clean), 0.5
    noisy = dct(clean) + ratio * dct(torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)))
    estimate = wiener.estimate(noisy, ratio)
    best = mean_error(estimate, dct(clean))
    assert all(mean_error(factor * estimate, dct(clean)) > best for factor in (0.9, 1.1))


def test_parts_merge_to_the_whole():
    clean = torch.randn(10, 2, 8, 8)
    first, second, restored = ChannelMoments(), ChannelMoments(), ChannelMoments()
    first.update(clean[:3])
    second.update(clean[3:])
    restored.load_state_dict(first.merge(second).state_dict())
    assert restored.count == 10
    torch.testing.assert_close(restored.wiener().psd, measure_wiener(clean).psd)


def test_faults_are_named():
    moments = ChannelMoments()
    with pytest.raises(ValueError, match="no samples yet"):
        moments.wiener()
    moments.update(torch.randn(2, 3, 8, 8))
    with pytest.raises(ValueError, match="one shape"):
        moments.update(torch.randn(2, 3, 8, 9))
    with pytest.raises(ValueError, match="finite"):
        moments.update(torch.full((2, 3, 8, 8), torch.nan))
    assert moments.count == 2
    with pytest.raises(ValueError, match="basis"):
        WienerFilter(torch.ones(3, 8, 8), torch.eye(2))
    with pytest.raises(ValueError, match="at least 0"):
        moments.wiener().gain(-1.0)
    with pytest.raises(ValueError, match="lacks"):
        moments.load_state_dict({"count": torch.tensor(1)})
