"""Inception Score against its closed forms and its formula."""

import math

import numpy as np
import pytest
import torch

from passband.metrics import InceptionScore


def logits(count: int, classes: int = 6, seed: int = 0) -> torch.Tensor:
    return 2 * torch.randn(count, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_formula(z: torch.Tensor) -> float:
    p = np.exp(z.numpy())
    p /= p.sum(1, keepdims=True)
    return float(np.exp((p * (np.log(p) - np.log(p.mean(0)))).sum(1).mean()))


def score(z: torch.Tensor, splits: int = 1) -> float:
    metric = InceptionScore(splits=splits)
    metric.update(z)
    return metric.compute().mean


def test_the_same_answer_for_all_is_one() -> None:
    assert score(torch.zeros(20, 10)) == pytest.approx(1, rel=1e-12)
    assert score(logits(1).repeat(20, 1)) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("classes", [2, 7])
def test_sure_and_varied_is_the_number_of_classes_seen(classes: int) -> None:
    certain = torch.full((4 * classes, 10), -torch.inf)
    certain[torch.arange(4 * classes), torch.arange(4 * classes) % classes] = 0.0  # log-probabilities
    assert score(certain) == pytest.approx(classes, rel=1e-12)


def test_follows_its_formula_in_every_split() -> None:
    z = logits(53)
    metric = InceptionScore(splits=4)
    for batch in z.split([10, 0, 20, 23]):
        metric.update(batch)
    result = metric.compute()
    expected = [by_formula(z[i::4]) for i in range(4)]
    assert result.scores == pytest.approx(expected, rel=1e-10)
    assert result.mean == pytest.approx(np.mean(expected))
    assert result.std == pytest.approx(np.std(expected))
    assert result.count == 53


def test_a_constant_added_to_the_logits_does_nothing() -> None:
    assert score(logits(30) + 1000) == pytest.approx(by_formula(logits(30)), rel=1e-9)


def test_ranks_do_not_matter() -> None:
    z = logits(31)
    whole = InceptionScore("net, resize none", splits=3)
    whole.update(z)
    merged = InceptionScore("net, resize none", splits=3)
    for rank in range(3):
        indices = torch.tensor([i for i in range(31) if (i // 2) % 3 == rank])
        part = InceptionScore("net, resize none", splits=3)
        part.update(z[indices], indices)
        received = InceptionScore()
        received.load_state_dict(part.state_dict())
        merged.merge(received)
    assert merged.compute().scores == pytest.approx(whole.compute().scores, rel=1e-10)
    assert (merged.count, merged.compute().resize) == (31, "none")
    empty = InceptionScore("net, resize none", splits=3)
    assert empty.merge(merged).compute() == merged.merge(InceptionScore(splits=3)).compute()


def test_few_samples_lower_it() -> None:
    small = np.mean([score(logits(12, seed=i)) for i in range(40)])
    assert small < 0.97 * score(logits(4000))


def test_errors() -> None:
    metric = InceptionScore(splits=5)
    metric.update(logits(4))
    with pytest.raises(ValueError, match="a sample in each of 5 splits, got 4 samples"):
        metric.compute()
    with pytest.raises(ValueError, match=r"logits must be finite; batch 1 \(samples 4 to 5\)"):
        metric.update(torch.tensor([[0.0] * 6, [math.nan] * 6]))
    with pytest.raises(ValueError, match="must be finite"):
        metric.update(torch.full((1, 6), torch.inf))
    with pytest.raises(ValueError, match="must all have 6 features, got 7"):
        metric.update(logits(2, classes=7))
    with pytest.raises(TypeError, match="floating"):
        metric.update(torch.zeros(2, 6, dtype=torch.int64))
    other = InceptionScore(splits=5)
    other.update(logits(4, classes=7))
    with pytest.raises(ValueError, match="one number of classes, got 6 and 7"):
        metric.merge(other)
    with pytest.raises(ValueError, match="one number of splits"):
        metric.merge(InceptionScore(splits=6))
    with pytest.raises(ValueError, match="splits must be at least 1"):
        InceptionScore(splits=0)
    with pytest.raises(ValueError, match="it lacks"):
        metric.load_state_dict({"sums": torch.zeros(5, 6)})
    assert metric.count == 4
