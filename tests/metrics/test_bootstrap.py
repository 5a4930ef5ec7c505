"""Poisson bootstrap: against closed-form standard errors, and the same numbers however the samples are spread."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passband.metrics import BootstrapMeans, in_first_half, poisson_weights


def names(count, prefix=""):
    return [f"{prefix}{i}" for i in range(count)]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def filled(values, keys, replicates=50, seed=0):
    means = BootstrapMeans(replicates, seed)
    means.update(values, keys)
    return means


def test_weights_are_poisson_numbers_of_mean_one():
    weights = poisson_weights(names(400), 500)
    share = torch.stack([(weights == k).double().mean() for k in range(5)])
    expected = torch.tensor([math.exp(-1) / math.factorial(k) for k in range(5)], dtype=torch.float64)
    torch.testing.assert_close(share, expected, atol=4e-3, rtol=0)
    rows = torch.corrcoef(weights[:20])
    assert float((rows - torch.eye(20)).abs().max()) < 0.2  # 5 standard errors of 1/sqrt(500)


def test_weights_belong_to_the_key_alone():
    weights = poisson_weights(["a", "b", "c"], 40, seed=3)
    assert torch.equal(poisson_weights(["c", "a"], 40, seed=3), weights[[2, 0]])
    assert not torch.equal(poisson_weights(["a"], 40, seed=4), weights[:1])
    assert torch.equal(poisson_weights(["a"], 20, seed=3), weights[:1, :20])


def test_halves_split_evenly_and_by_key():
    first = in_first_half(names(4000))
    assert 0.47 < float(first.double().mean()) < 0.53
    assert torch.equal(in_first_half(["5", "5"]), first[5].expand(2))


def test_standard_error_of_a_mean_is_the_closed_form():
    values = torch.cat([normal(900, 1), 3 * normal(900, 1, seed=1)], 1)
    means = filled(values, names(900), replicates=2000)
    torch.testing.assert_close(means.mean, values.mean(0))
    torch.testing.assert_close(means.replicate_means.std(0), values.std(0) / 30, rtol=0.06, atol=0)
    torch.testing.assert_close(means.half_replicates.std(1).mean(0), values.std(0) / math.sqrt(450), rtol=0.08, atol=0)


def test_samples_of_one_key_are_one_observation():
    values = normal(40, 1).repeat_interleave(10, 0)
    keys = [name for name in names(40) for _ in range(10)]
    means = filled(values, keys, replicates=2000)
    error = float(means.replicate_means.std(0))
    assert error == pytest.approx(float(values[::10].std()) / math.sqrt(40), rel=0.15)
    assert 30 < means.effective_groups < 50


def test_sets_of_the_same_keys_are_paired():
    values = normal(200, 1)
    one, other = filled(values, names(200)), filled(values + 0.5, names(200))
    torch.testing.assert_close(other.replicate_means - one.replicate_means, torch.full((50, 1), 0.5).double())


def test_halves_are_the_means_of_the_halves():
    values, keys = normal(60, 2), names(60)
    first = in_first_half(keys)
    means = filled(values, keys)
    torch.testing.assert_close(means.halves, torch.stack([values[first].mean(0), values[~first].mean(0)]))
    weights = poisson_weights(keys, 50)[~first, 7]
    torch.testing.assert_close(means.half_replicates[1, 7], (weights @ values[~first]) / weights.sum())


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 30), st.integers(0, 30), st.integers(0, 5))
def test_merging_equals_one_pass_in_any_order(count, cut, seed):
    values, keys = normal(count, 3, seed=seed), names(count)
    cut = min(cut, count)
    whole = filled(values, keys, 9, seed)
    other = filled(values[cut:], keys[cut:], 9, seed).merge(filled(values[:cut], keys[:cut], 9, seed))
    assert other.count == whole.count
    for name in ("mean", "replicate_means", "halves", "half_replicates"):
        torch.testing.assert_close(getattr(other, name), getattr(whole, name), equal_nan=True)


def test_state_goes_there_and_back():
    means = filled(normal(12, 2), names(12), 7, seed=5)
    again = BootstrapMeans(3)
    again.load_state_dict(means.state_dict())
    assert (again.count, again.seed, again.replicates) == (12, 5, 7)
    assert torch.equal(again.replicate_means.nan_to_num(), means.replicate_means.nan_to_num())
    again.load_state_dict(BootstrapMeans().state_dict())
    assert again.count == 0


def test_nothing_is_added_of_a_batch_with_a_nan():
    means = filled(normal(4, 2), names(4))
    before = means.mean
    bad = normal(2, 2)
    bad[1, 0] = math.nan
    with pytest.raises(ValueError, match=r"the first at index 1 \(x1\)"):
        means.update(bad, names(2, "x"))
    assert torch.equal(means.mean, before)


def test_errors():
    with pytest.raises(ValueError, match="at least 2, got 1"):
        BootstrapMeans(1)
    with pytest.raises(TypeError, match="replicates"):
        BootstrapMeans(2.5)
    means = filled(normal(4, 2), names(4))
    with pytest.raises(ValueError, match="one length, got 3 after 2"):
        means.update(normal(1, 3), ["a"])
    with pytest.raises(ValueError, match="one key for each sample"):
        means.update(normal(3, 2), ["a"])
    with pytest.raises(ValueError, match="same replicates and seed"):
        means.merge(filled(normal(4, 2), names(4), seed=1))
    with pytest.raises(ValueError, match="no samples yet"):
        _ = BootstrapMeans().mean
    with pytest.raises(ValueError, match="lacks"):
        means.load_state_dict({"sums": torch.zeros(4, 1)})
