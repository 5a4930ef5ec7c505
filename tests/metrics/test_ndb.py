"""Number of different bins: its rate by chance, its power, the test and the divergence against SciPy."""

import math

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband.metrics import NDB, two_proportion_z
from passband.metrics.ndb import kmeans, nearest_centre


def gaussian(seed, count, dim=8, mean=0.0):
    return mean + torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def measured(real, fake, **options):
    ndb = NDB(**options)
    ndb.update(real=real, fake=fake)
    return ndb.compute()


def test_equal_sets_differ_in_about_alpha_of_the_bins():
    """20 pairs of 1,500 samples in 40 bins at 5 %: 40 of 800 expected, a standard deviation of 6.2 if independent.

    The bins follow the real samples, which makes their shares a little more even: 15 to 60 is allowed.
    """
    results = [measured(gaussian(2 * s, 1500), gaussian(2 * s + 1, 1500), bins=40, seed=s) for s in range(20)]
    assert 15 <= sum(r.count for r in results) <= 60
    assert 15 <= sum(r.chance for r in results) <= 60
    assert all(r.divergence < 0.02 and r.divergence_chance < 0.03 for r in results)


def test_the_level_moves_the_count():
    real, fake = gaussian(0, 3000), gaussian(1, 3000, mean=0.1)
    counts = [measured(real, fake, alpha=alpha).count for alpha in (0.5, 0.05, 1e-6)]
    assert counts[0] > counts[1] > counts[2]


def test_different_sets_differ_in_most_bins():
    result = measured(gaussian(0, 2000), gaussian(1, 2000, mean=1.0), bins=40)
    assert result.count > 30
    assert result.chance < 8
    assert result.divergence > 10 * result.divergence_chance


def test_sets_apart_have_the_largest_divergence():
    """All generated samples fall into one bin, that of a lone real one."""
    real = torch.cat([gaussian(0, 999), torch.full((1, 8), 50.0)])
    result = measured(real, torch.full((500, 8), 60.0), bins=10)
    assert result.fake_shares.max() == 1
    assert result.divergence > 0.95 * math.log(2)
    assert result.count == 10


def test_a_lost_mode_is_found():
    modes = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    real = torch.cat([m + gaussian(i, 250, 2) for i, m in enumerate(modes)])
    fake = torch.cat([m + gaussian(i + 9, 333, 2) for i, m in enumerate(modes[:3])])
    result = measured(real, fake, bins=4)
    assert result.count == 4
    assert result.real_shares.tolist() == pytest.approx([0.25] * 4)
    assert sorted(result.fake_shares.tolist()) == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3])


def test_the_divergence_is_scipys():
    result = measured(gaussian(0, 800), gaussian(1, 600, mean=0.3), bins=12)
    expected = scipy.spatial.distance.jensenshannon(result.real_shares.numpy(), result.fake_shares.numpy()) ** 2
    assert result.divergence == pytest.approx(expected, rel=1e-9)


@given(st.integers(0, 50), st.integers(50, 90), st.integers(0, 200), st.integers(200, 300))
def test_the_statistic_squared_is_the_chi_squared_of_the_table(k, n, other_k, other_n):
    z = float(two_proportion_z(torch.tensor(k), n, torch.tensor(other_k), other_n))
    if k + other_k in (0, n + other_n):
        assert z == 0
        return
    table = np.array([[k, n - k], [other_k, other_n - other_k]])
    assert z**2 == pytest.approx(scipy.stats.chi2_contingency(table, correction=False).statistic, abs=1e-9)
    assert z * (k / n - other_k / other_n) >= 0


def test_bins_are_significant_by_scipys_table():
    result = measured(gaussian(0, 1000), gaussian(1, 1000, mean=0.2), bins=15, alpha=0.01)
    for real, fake, different in zip(result.real_shares, result.fake_shares, result.different, strict=True):
        k, other = round(float(real) * 1000), round(float(fake) * 1000)
        test = scipy.stats.chi2_contingency([[k, 1000 - k], [other, 1000 - other]], correction=False)
        assert bool(different) == (test.pvalue < 0.01)
    assert 0 < result.count < 15


def test_kmeans_leaves_every_sample_at_its_nearest_centre_which_is_the_mean():
    x = gaussian(0, 400, 3).double()
    centres = kmeans(x, 7, seed=0)
    nearest = nearest_centre(x, centres)
    assert torch.equal(nearest, torch.cdist(x, centres).argmin(1))
    for i, centre in enumerate(centres):
        torch.testing.assert_close(centre, x[nearest == i].mean(0))


def test_scales_do_not_count_and_the_seed_repeats():
    real, fake = gaussian(0, 600, 4), gaussian(1, 600, 4, mean=0.4)
    scales = torch.tensor([1.0, 1e3, 1e-2, 7.0])
    plain, scaled = measured(real, fake, bins=10, seed=3), measured(real * scales, fake * scales, bins=10, seed=3)
    assert plain.fake_shares.tolist() == scaled.fake_shares.tolist()
    assert plain.count == measured(real, fake, bins=10, seed=3).count


def test_values_that_never_change_are_no_obstacle():
    real, fake = gaussian(0, 200, 3), gaussian(1, 200, 3)
    real[:, 1] = fake[:, 1] = 5.0
    assert measured(real, fake, bins=5).divergence < 0.1
    assert measured(torch.ones(40, 2), torch.ones(40, 2), bins=5).count == 0


def test_a_merge_equals_one_pass():
    real, fake = gaussian(0, 300), gaussian(1, 200)
    parts = [NDB(bins=8), NDB(bins=8)]
    for rank, part in enumerate(parts):
        part.update(
            real=real[rank::2], fake=fake[rank::2], real_indices=range(rank, 300, 2), fake_indices=range(rank, 200, 2)
        )
    merged, whole = parts[0].merge(parts[1]).compute(), measured(real, fake, bins=8)
    assert merged.fake_shares.tolist() == whole.fake_shares.tolist()
    assert (merged.count, merged.real_count, merged.fake_count) == (whole.count, 300, 200)


def test_bad_input():
    for options, message in (({"bins": 1}, "bins must be at least 2"), ({"alpha": 1.0}, "level of a test")):
        with pytest.raises(ValueError, match=message):
            NDB(**options)
    with pytest.raises(TypeError, match="bins must be an int"):
        NDB(bins=2.5)
    ndb = NDB(bins=10)
    with pytest.raises(ValueError, match="at least 1 real features"):
        ndb.compute()
    ndb.update(real=gaussian(0, 19), fake=gaussian(1, 5))
    with pytest.raises(ValueError, match="at least 20 real features, got 19"):
        ndb.compute()
    with pytest.raises(ValueError, match="finite"):
        ndb.update(fake=torch.full((2, 8), math.nan))
    with pytest.raises(ValueError, match="at least one element"):
        two_proportion_z(torch.tensor([1]), 0, torch.tensor([1]), 4)
