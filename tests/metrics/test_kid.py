"""Kernel distance against its double sum, and its freedom from bias."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband.metrics import KID, kid, polynomial_mmd


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def double_sum(x, y, degree=3, gamma=None, offset=1.0):
    gamma = 1 / x.shape[1] if gamma is None else gamma

    def k(a, b):
        return (gamma * float(a @ b) + offset) ** degree

    m, n = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(m) for j in range(m) if i != j)
    yy = sum(k(y[i], y[j]) for i in range(n) for j in range(n) if i != j)
    xy = sum(k(a, b) for a in x for b in y)
    return xx / (m * (m - 1)) + yy / (n * (n - 1)) - 2 * xy / (m * n)


@given(st.integers(2, 9), st.integers(2, 9), st.integers(1, 5), st.integers(0, 1000))
def test_is_the_double_sum(m: int, n: int, dim: int, seed: int) -> None:
    x, y = normal(m, dim, seed=seed), normal(n, dim, seed=seed + 1) + 0.5
    assert polynomial_mmd(x, y) == pytest.approx(double_sum(x, y), rel=1e-10, abs=1e-11)


@pytest.mark.parametrize("options", [{"degree": 1}, {"degree": 2, "gamma": 0.3}, {"offset": 0.0}])
def test_other_kernels(options) -> None:
    x, y = normal(6, 3), normal(7, 3, seed=1)
    assert polynomial_mmd(x, y, **options) == pytest.approx(double_sum(x, y, **options), rel=1e-10)


def test_blocks_do_not_matter(monkeypatch) -> None:
    x, y = normal(50, 3), normal(41, 3, seed=1)
    whole = polynomial_mmd(x, y)
    monkeypatch.setattr(kid, "_BLOCK", 7)
    assert polynomial_mmd(x, y) == pytest.approx(whole, rel=1e-11)


def test_it_is_unbiased_at_any_size() -> None:
    """Mean over draws: 0 for one distribution, and the closed form of a shift for the linear kernel."""
    draws = 400
    same = np.array([polynomial_mmd(normal(4, 3, seed=i), normal(5, 3, seed=i + draws)) for i in range(draws)])
    assert abs(same.mean()) < 3 * same.std() / math.sqrt(draws)
    assert (same < 0).mean() > 0.25
    moved = np.array(
        [polynomial_mmd(normal(4, 3, seed=i), normal(5, 3, seed=i + draws) + 2, degree=1) for i in range(draws)]
    )
    # The linear kernel's discrepancy is the squared distance of the means over dim: 2².
    assert abs(moved.mean() - 4) < 3 * moved.std() / math.sqrt(draws)


def test_subsets_of_everything_are_the_full_estimate() -> None:
    x, y = normal(40, 3).float(), normal(40, 3, seed=1).float()
    metric = KID(subsets=3, subset_size=40)
    metric.update(real=x, fake=y)
    result = metric.compute()
    assert result.mean == pytest.approx(double_sum(x.double(), y.double()), rel=1e-9)
    assert result.std == pytest.approx(0, abs=1e-12)
    assert metric.full() == pytest.approx(result.mean, rel=1e-11)


def test_subsets_are_seeded_and_spread_around_the_full_estimate() -> None:
    x, y = normal(300, 3).float(), normal(300, 3, seed=1).float() + 0.3

    def run(seed):
        metric = KID(subsets=50, subset_size=60, seed=seed)
        metric.update(real=x, fake=y)
        return metric

    first = run(0).compute()
    assert first == run(0).compute()
    assert first.mean != run(1).compute().mean
    assert abs(first.mean - run(0).full()) < 3 * first.std / math.sqrt(50)


def test_ranks_do_not_matter() -> None:
    x, y = normal(60, 3).float(), normal(50, 3, seed=1).float()
    options = {"subsets": 5, "subset_size": 20, "max_samples": 40}
    whole = KID("raw", **options)
    whole.update(real=x, fake=y)
    ranks = [KID("raw", **options) for _ in range(2)]
    for i, rank in enumerate(ranks):
        real, fake = torch.arange(i, 60, 2), torch.arange(i, 50, 2)
        rank.update(real=x[real], fake=y[fake], real_indices=real, fake_indices=fake)
    received = KID("raw", **options)
    received.load_state_dict(ranks[1].state_dict())
    merged = ranks[0].merge(received).compute()
    assert merged == whole.compute()
    assert (merged.real_count, merged.fake_count, merged.real_kept) == (60, 50, 40)
    assert (merged.features, merged.resize) == ("raw", "not stated")


def test_errors() -> None:
    metric = KID(subset_size=10)
    metric.update(real=normal(10, 3), fake=normal(9, 3))
    with pytest.raises(ValueError, match="KID with subsets of 10 needs at least 10 fake features, got 9"):
        metric.compute()
    metric.fake.reset()
    metric.update(fake=normal(10, 4))
    with pytest.raises(ValueError, match="one dimension, got 3 and 4"):
        metric.compute()
    with pytest.raises(ValueError, match="subset_size must be at least 2"):
        KID(subset_size=1)
    with pytest.raises(ValueError, match="max_samples must be at least subset_size"):
        KID(subset_size=10, max_samples=9)
    with pytest.raises(ValueError, match="needs at least 2 samples in y, got 1"):
        polynomial_mmd(normal(3, 2), normal(1, 2))
    with pytest.raises(ValueError, match="degree must be at least 1"):
        polynomial_mmd(normal(3, 2), normal(3, 2), degree=0)
    with pytest.raises(ValueError, match="y must be finite; batch 0"):
        polynomial_mmd(normal(3, 2), normal(3, 2) * torch.nan)
