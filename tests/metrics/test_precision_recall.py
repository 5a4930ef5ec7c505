"""Precision, recall, density and coverage against brute force and toy cases."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband.metrics import PrecisionRecall, precision_recall, precision_recall_scores


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def brute_force(real, fake, k):
    real, fake = real.numpy(), fake.numpy()

    def distances(a, b):
        return np.linalg.norm(a[:, None] - b[None], axis=2)

    def radii(x):
        return np.array([np.sort(np.delete(row, i))[k - 1] for i, row in enumerate(distances(x, x))])

    inside = distances(fake, real) <= radii(real)
    recalled = (distances(real, fake) <= radii(fake)).any(1)
    return inside.any(1).mean(), recalled.mean(), inside.sum(1).mean() / k, inside.any(0).mean()


@given(st.integers(1, 4), st.integers(0, 20), st.integers(0, 20), st.integers(0, 1000))
def test_is_brute_force(k: int, m: int, n: int, seed: int) -> None:
    real, fake = normal(k + 1 + m, 2, seed=seed), normal(k + 1 + n, 2, seed=seed + 1) + 0.5
    assert tuple(precision_recall_scores(real, fake, neighbours=k)) == pytest.approx(
        brute_force(real, fake, k), rel=1e-12
    )


def test_blocks_and_a_far_origin_do_not_matter(monkeypatch) -> None:
    real, fake = normal(60, 3), normal(50, 3, seed=1) + 0.5
    whole = precision_recall_scores(real, fake)
    monkeypatch.setattr(precision_recall, "_BLOCK", 7)
    assert precision_recall_scores(real, fake) == whole
    assert precision_recall_scores(real + 1e4, fake + 1e4) == whole


def test_the_same_set_is_perfect() -> None:
    x = normal(50, 8).float()
    scores = precision_recall_scores(x, x)
    assert (scores.precision, scores.recall, scores.coverage) == (1, 1, 1)


def test_copies_of_one_real_image_are_precise_and_recall_nothing() -> None:
    real = normal(50, 8)
    scores = precision_recall_scores(real, real[:1].repeat(20, 1))
    assert scores.precision == 1
    assert scores.recall == 1 / 50  # balls of radius 0 hold the copied sample alone
    assert scores.coverage < 0.5


def test_far_samples_have_neither() -> None:
    scores = precision_recall_scores(normal(50, 4), normal(50, 4, seed=1) + 100)
    assert tuple(scores) == (0, 0, 0, 0)


def test_half_of_the_modes() -> None:
    real = torch.cat([normal(100, 2), normal(100, 2, seed=1) + 100])
    scores = precision_recall_scores(real, normal(200, 2, seed=2))
    assert scores.precision > 0.9
    assert 0.4 < scores.recall <= 0.5
    assert 0.4 < scores.coverage <= 0.5


def test_density_and_coverage_of_equal_distributions() -> None:
    """Their expectations: 1, and 1 - (N-1)…(N-k) / ((M+N-1)…(M+N-k))."""
    k, n = 5, 400
    scores = [precision_recall_scores(normal(n, 3, seed=i), normal(n, 3, seed=i + 50), neighbours=k) for i in range(8)]
    assert np.mean([s.density for s in scores]) == pytest.approx(1, abs=0.05)
    terms = [(n - 1 - i) / (2 * n - 1 - i) for i in range(k)]
    assert np.mean([s.coverage for s in scores]) == pytest.approx(1 - np.prod(terms), abs=0.02)


def test_ranks_do_not_matter_and_the_result_says_what_was_compared() -> None:
    real, fake = normal(60, 3).float(), normal(50, 3, seed=1).float()
    whole = PrecisionRecall("net, resize none", max_samples=40)
    whole.update(real=real, fake=fake)
    ranks = [PrecisionRecall("net, resize none", max_samples=40) for _ in range(2)]
    for i, rank in enumerate(ranks):
        a, b = torch.arange(i, 60, 2), torch.arange(i, 50, 2)
        rank.update(real=real[a], fake=fake[b], real_indices=a, fake_indices=b)
    received = PrecisionRecall(max_samples=40)
    received.load_state_dict(ranks[1].state_dict())
    result = ranks[0].merge(received).compute()
    assert result == whole.compute()
    assert (result.real_count, result.fake_kept, result.neighbours, result.resize) == (60, 40, 3, "none")


def test_errors() -> None:
    metric = PrecisionRecall()
    metric.update(real=normal(4, 3), fake=normal(3, 3))
    with pytest.raises(ValueError, match="with k = 3 needs at least 4 fake features, got 3"):
        metric.compute()
    with pytest.raises(ValueError, match="neighbours must be at least 1"):
        PrecisionRecall(neighbours=0)
    with pytest.raises(ValueError, match="max_samples must be above neighbours"):
        PrecisionRecall(max_samples=3)
    with pytest.raises(ValueError, match="fake features must all have 3 features, got 2"):
        precision_recall_scores(normal(9, 3), normal(9, 2))
    with pytest.raises(ValueError, match="real features must be finite"):
        precision_recall_scores(normal(9, 3) * torch.nan, normal(9, 3))
