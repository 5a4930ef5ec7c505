"""The bounded store: a uniform choice that neither order nor ranks change."""

import pytest
import torch

from passband.metrics import FeatureStore


def noise(count: int, dim: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def test_all_are_kept_up_to_the_bound_in_the_order_of_their_indices() -> None:
    x = noise(20)
    store = FeatureStore(max_samples=20)
    store.update(x[12:], range(12, 20))
    store.update(x[:12], range(12))
    assert torch.equal(store.features, x)
    assert (store.count, store.features.dtype) == (20, torch.float32)


@pytest.mark.parametrize("max_samples", [1, 7, 40])
def test_order_batches_and_ranks_do_not_matter(max_samples: int) -> None:
    x = noise(100)
    whole = FeatureStore(max_samples=max_samples, seed=3)
    whole.update(x)
    ranks = [FeatureStore(max_samples=max_samples, seed=3) for _ in range(3)]
    for i in torch.randperm(100, generator=torch.Generator().manual_seed(1)).split(6):
        ranks[int(i[0]) % 3].update(x[i], i)
    merged = FeatureStore(max_samples=max_samples, seed=3)
    for rank in ranks:
        received = FeatureStore()
        received.load_state_dict(rank.state_dict())
        merged.merge(received)
    assert torch.equal(merged.features, whole.features)
    assert merged.count == whole.count == 100
    assert len(merged.features) == max_samples


def test_the_choice_is_uniform_and_depends_on_the_seed() -> None:
    x = torch.arange(1000.0)[:, None]
    kept = torch.zeros(1000)
    for seed in range(100):
        store = FeatureStore(max_samples=100, seed=seed)
        for batch in x.split(64):
            store.update(batch)
        kept[store.features[:, 0].long()] += 1
    # Each is kept in 10 of 100 draws on average, with a standard deviation of 3; halves and fifths alike.
    assert kept.mean() == 10
    assert kept.var() == pytest.approx(9, rel=0.25)
    for part in kept.view(5, 200):
        assert part.mean() == pytest.approx(10, abs=0.8)


def test_memory_is_bounded() -> None:
    store = FeatureStore(max_samples=10)
    for batch in noise(500).split(5):
        store.update(batch)
        assert sum(map(len, store._rows)) <= 20
    assert store.state_dict()["features"].shape == (10, 3)


def test_a_sample_that_comes_twice_is_an_error() -> None:
    first, second = FeatureStore(name="fake features"), FeatureStore()
    first.update(noise(4))
    second.update(noise(4, seed=1))
    first.merge(second)
    with pytest.raises(ValueError, match=r"fake features: sample 0 came twice; .* give update the global indices"):
        _ = first.features


def test_the_features_given_stay_the_callers() -> None:
    x = noise(4)
    store = FeatureStore()
    store.update(x)
    x.zero_()
    assert torch.equal(store.features, noise(4))


def test_reset_and_empty() -> None:
    store = FeatureStore()
    store.update(noise(0))
    store.update(noise(4))
    assert store.features.shape == (4, 3)
    store.reset()
    assert store.count == 0
    empty = FeatureStore()
    empty.load_state_dict(store.state_dict())
    store.update(noise(4, dim=5))
    assert store.merge(empty).features.shape == (4, 5)
    with pytest.raises(ValueError, match="no features yet"):
        _ = empty.features


def test_what_does_not_fit_is_refused() -> None:
    store = FeatureStore("one", max_samples=4)
    store.update(noise(2))
    with pytest.raises(ValueError, match="must all have 3 features, got 4"):
        store.update(noise(2, dim=4))
    with pytest.raises(ValueError, match="2 integers, one per sample"):
        store.update(noise(2), [1, 2, 3])
    with pytest.raises(ValueError, match="2 integers, one per sample"):
        store.update(noise(2), torch.tensor([0.0, 1.0]))
    with pytest.raises(ValueError, match="different features"):
        store.merge(FeatureStore("another", max_samples=4))
    with pytest.raises(ValueError, match="one max_samples and seed"):
        store.merge(FeatureStore("one", max_samples=5))
    with pytest.raises(ValueError, match=r"it lacks .*'indices'"):
        store.load_state_dict({"features": noise(2)})
    with pytest.raises(ValueError, match="max_samples must be at least 1"):
        FeatureStore(max_samples=0)
    assert store.count == 2


def test_values_that_are_not_finite_name_the_batch() -> None:
    store = FeatureStore(name="fake features")
    store.update(noise(4))
    bad = noise(6)
    bad[2, 1] = torch.nan
    bad[5] = torch.inf
    with pytest.raises(ValueError, match=r"fake features .* batch 1 \(samples 4 to 9\) has 2 .* first at index 2"):
        store.update(bad)
    assert store.count == 4
