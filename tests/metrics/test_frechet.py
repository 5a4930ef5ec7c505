"""Fréchet distance against SciPy's matrix square root, closed forms, and a known limit."""

import json
import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from passband.metrics import (
    FeatureExtractor,
    FeatureStatistics,
    FeatureStore,
    FrechetDistance,
    extrapolated_frechet_distance,
    frechet_distance,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mixed(count: int, dim: int, seed: int) -> torch.Tensor:
    """Correlated features with a mean."""
    return normal(count, dim, seed=seed) @ normal(dim, dim, seed=seed + 100) / math.sqrt(dim) + normal(
        dim, seed=seed + 200
    )


def statistics(x: torch.Tensor, features: str = "") -> FeatureStatistics:
    result = FeatureStatistics(features)
    result.update(x)
    return result


def by_scipy(x: torch.Tensor, y: torch.Tensor) -> float:
    a, b = np.cov(x.numpy().T), np.cov(y.numpy().T)
    root = np.real(scipy.linalg.sqrtm(a @ b))
    return float((x.mean(0) - y.mean(0)).square().sum()) + np.trace(a + b - 2 * root)


# The distance.


@given(st.integers(1, 24), st.integers(0, 1000))
def test_agrees_with_scipy(dim: int, seed: int) -> None:
    x, y = mixed(4 * dim + 8, dim, seed), 1.5 * mixed(6 * dim + 8, dim, seed + 1)
    x, y = (torch.cat([part, part.roll(1, 0) + 1e-3], dim=1) for part in (x, y)) if dim == 1 else (x, y)
    assert frechet_distance(statistics(x), statistics(y)) == pytest.approx(by_scipy(x, y), rel=1e-9)


def test_diagonal_covariances_have_a_closed_form() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.1, 3, 30), rng.uniform(0.1, 3, 30)
    shift = rng.normal(size=30)
    x = FeatureStatistics.from_moments(torch.zeros(30), torch.from_numpy(np.diag(a)))
    y = FeatureStatistics.from_moments(torch.from_numpy(shift), torch.from_numpy(np.diag(b)))
    expected = (shift**2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("count", [5, 64, 500])
def test_identical_sets_are_at_zero_and_shifted_ones_at_the_shift(count: int) -> None:
    x = mixed(count, 32, 0)
    shift = normal(32, seed=9)
    assert frechet_distance(statistics(x), statistics(x)) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(statistics(x), statistics(x + shift)) == pytest.approx(
        float(shift.square().sum()), rel=1e-9
    )


def test_it_is_symmetric_and_turns_with_the_axes() -> None:
    x, y = mixed(80, 8, 0), mixed(60, 8, 5)
    turn = torch.linalg.qr(normal(8, 8, seed=3)).Q
    there = frechet_distance(statistics(x), statistics(y))
    assert frechet_distance(statistics(y), statistics(x)) == pytest.approx(there, rel=1e-11)
    assert frechet_distance(statistics(x @ turn), statistics(y @ turn)) == pytest.approx(there, rel=1e-10)


def test_fewer_samples_than_features() -> None:
    """Sets on a line each: A = a uuᵀ, B = b vvᵀ, so the root's trace is √(ab) |u·v|."""
    u, v = (torch.nn.functional.normalize(normal(50, seed=seed), dim=0) for seed in (1, 2))
    x, y = torch.stack([u, -u]), 3 * torch.stack([v, -v])
    expected = 2 + 18 - 2 * 6 * float((u @ v).abs())
    assert frechet_distance(statistics(x), statistics(y)) == pytest.approx(expected, rel=1e-12)


def test_fewer_samples_than_features_agree_with_the_eigenvalues_of_the_samples() -> None:
    """tr (A^½ B A^½)^½ is the nuclear norm of X Yᵀ, which is small where the covariances are large."""
    x, y = mixed(12, 60, 0), mixed(9, 60, 1)
    xc, yc = (part - part.mean(0) for part in (x, y))
    cross = torch.linalg.svdvals(xc @ yc.T).sum() / math.sqrt(11 * 8)
    expected = (x.mean(0) - y.mean(0)).square().sum() + xc.square().sum() / 11 + yc.square().sum() / 8 - 2 * cross
    assert frechet_distance(statistics(x), statistics(y)) == pytest.approx(float(expected), rel=1e-9)


def test_eigenvalues_that_lapack_does_not_find(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise torch.linalg.LinAlgError("failed to converge")

    pair = [FeatureStatistics() for _ in range(2)]
    for seed, statistics in enumerate(pair):
        statistics.update(torch.randn(6, 20, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    expected = frechet_distance(*pair)
    monkeypatch.setattr(torch.linalg, "eigh", fails)
    assert frechet_distance(*pair) == pytest.approx(expected, rel=1e-9)


def test_dead_features_do_not_matter() -> None:
    x, y = mixed(80, 8, 0), mixed(60, 8, 5)
    padded = [torch.cat([part, torch.full((len(part), 3), 7.0)], dim=1) for part in (x, y)]
    assert frechet_distance(*map(statistics, padded)) == pytest.approx(by_scipy(x, y), rel=1e-9)


# The statistics.


def test_statistics_are_numpys_whatever_the_batches() -> None:
    x = mixed(103, 7, 0)
    stream = FeatureStatistics()
    for batch in x.split([1, 40, 0, 2, 60]):
        stream.update(batch)
    torch.testing.assert_close(stream.mean, x.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(stream.covariance, torch.from_numpy(np.cov(x.numpy().T)), rtol=1e-12, atol=1e-12)
    assert stream.count == 103


def test_a_large_mean_costs_no_digits() -> None:
    """Sums of squares around zero would keep none of the sixteen digits of this variance."""
    x = mixed(400, 5, 0)
    stream = FeatureStatistics()
    for batch in (x + 1e8).split(50):
        stream.update(batch)
    # The addition itself rounds x to 1.5e-8.
    torch.testing.assert_close(stream.covariance, torch.from_numpy(np.cov(x.numpy().T)), rtol=1e-7, atol=1e-7)


def test_half_precision_features_are_accumulated_in_double() -> None:
    x = mixed(64, 4, 0).half()
    torch.testing.assert_close(statistics(x).covariance, torch.from_numpy(np.cov(x.double().numpy().T)))


@given(st.lists(st.integers(0, 3), min_size=4, max_size=30))
def test_merging_ranks_is_one_pass(owners: list[int]) -> None:
    x, y = mixed(len(owners), 6, 0) + 50, mixed(len(owners), 6, 1)
    whole = FrechetDistance("raw")
    whole.update(real=x, fake=y)
    ranks = [FrechetDistance("raw") for _ in range(4)]
    for i, owner in enumerate(owners):
        ranks[owner].update(real=x[i : i + 1], fake=y[i : i + 1])
    merged = FrechetDistance("raw")
    for rank in ranks:
        received = FrechetDistance()
        received.load_state_dict(rank.state_dict())
        merged.merge(received)
    torch.testing.assert_close(merged.real.covariance, whole.real.covariance, rtol=1e-10, atol=1e-10)
    one, other = merged.compute(), whole.compute()
    assert one.mean_term == pytest.approx(other.mean_term, rel=1e-10)
    # Of rank len - 1 < 6 at times: roots of rounding errors are what differs.
    assert one.distance == pytest.approx(other.distance, rel=1e-10 if len(owners) > 7 else 1e-6)
    assert (one.real_count, one.fake_count) == (len(owners), len(owners))


def test_merging_does_not_change_the_other() -> None:
    a, b = FeatureStatistics(), statistics(mixed(10, 3, 0))
    before = b.covariance.clone()
    a.merge(b)
    a.update(mixed(10, 3, 1))
    assert torch.equal(b.covariance, before)


def test_the_state_is_tensors() -> None:
    metric = FrechetDistance("raw")
    assert all(isinstance(value, torch.Tensor) for value in metric.state_dict().values())
    metric.update(real=mixed(10, 3, 0))
    assert all(isinstance(value, torch.Tensor) for value in metric.state_dict().values())


def test_result_says_what_was_compared() -> None:
    metric = FrechetDistance("net block 4, weights 01234567, resize bilinear to 64x64")
    x = mixed(20, 3, 0)
    metric.update(real=x, fake=x[:15] + 1)
    result = metric.compute()
    assert result.distance == result.mean_term + result.covariance_term
    assert (result.real_count, result.fake_count) == (20, 15)
    assert result.features.startswith("net block 4")
    assert result.resize == "bilinear to 64x64"
    metric.reset()
    assert metric.real.count == metric.fake.count == 0


def test_real_statistics_can_be_given() -> None:
    x, y = mixed(20, 3, 0), mixed(20, 3, 1)
    metric = FrechetDistance("raw", real=statistics(x, "raw"))
    metric.update(fake=y)
    assert metric.compute().distance == pytest.approx(by_scipy(x, y), rel=1e-10)


# Files.


def test_file_keeps_everything(tmp_path) -> None:
    path = tmp_path / "cache" / "real.safetensors"
    saved = statistics(mixed(20, 4, 0), "net, resize none")
    saved.save(path, {"dataset": "tiles"})
    loaded = FeatureStatistics.load(path)
    assert torch.equal(loaded.mean, saved.mean)
    assert torch.equal(loaded.covariance, saved.covariance)
    assert (loaded.count, loaded.features, loaded.info) == (20, "net, resize none", {"dataset": "tiles"})
    assert [p.name for p in path.parent.iterdir()] == ["real.safetensors"]
    with safe_open(str(path), framework="pt") as file:
        facts = json.loads(file.metadata()["passband"])
    assert (facts["features"], facts["count"], facts["resize"]) == ("net, resize none", 20, "none")
    loaded.update(mixed(5, 4, 1))  # it goes on
    assert loaded.count == 25
    with pytest.raises(ValueError, match="different features"):
        FeatureStatistics.load(path, "another net")


def test_given_moments_can_be_saved(tmp_path) -> None:
    given = FeatureStatistics.from_moments(torch.ones(3), torch.eye(3), "raw")
    given.save(tmp_path / "given.safetensors")
    loaded = FeatureStatistics.load(tmp_path / "given.safetensors")
    assert frechet_distance(given, loaded) == 0
    assert loaded.count == 0


def test_npz_as_edm_writes_it(tmp_path) -> None:
    x, y = mixed(40, 4, 0), mixed(40, 4, 1)
    np.savez(tmp_path / "reference.npz", mu=x.mean(0).numpy(), sigma=np.cov(x.numpy().T))
    loaded = FeatureStatistics.load(tmp_path / "reference.npz")
    assert frechet_distance(loaded, statistics(y, "any")) == pytest.approx(by_scipy(x, y), rel=1e-10)
    named = FeatureStatistics.load(tmp_path / "reference.npz", "inception")
    with pytest.raises(ValueError, match="different features"):
        frechet_distance(named, statistics(y, "any"))
    with pytest.raises(ValueError, match="nothing can be added"):
        loaded.update(x)
    with pytest.raises(ValueError, match="given mean and covariance"):
        statistics(x).merge(loaded)


class Hostile:
    ran = False

    def __reduce__(self):
        return (setattr, (Hostile, "ran", True))


def test_damaged_files_are_refused(tmp_path) -> None:
    np.savez(tmp_path / "pickled.npz", mu=np.array([Hostile()]), sigma=np.eye(1))
    np.savez(tmp_path / "other.npz", mean=np.zeros(3))
    np.savez(tmp_path / "lopsided.npz", mu=np.zeros(2), sigma=np.array([[1.0, 0.5], [0.0, 1.0]]))
    for name in ("pickled.npz", "other.npz"):
        with pytest.raises(ValueError, match="no archive of numbers 'mu' and 'sigma'"):
            FeatureStatistics.load(tmp_path / name)
    assert not Hostile.ran
    with pytest.raises(ValueError, match="not symmetric"):
        FeatureStatistics.load(tmp_path / "lopsided.npz")
    path = tmp_path / "real.safetensors"
    statistics(mixed(20, 4, 0)).save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match="no whole file of feature statistics"):
        FeatureStatistics.load(path)
    with pytest.raises(FileNotFoundError, match="no feature statistics at"):
        FeatureStatistics.load(tmp_path / "absent.safetensors")


# Errors.


def test_different_extractors_are_refused() -> None:
    class Extractor(FeatureExtractor):
        name, dim = "one", 3

        def __call__(self, pixels):
            return pixels

    a, b = FeatureStatistics(Extractor()), FeatureStatistics("two")
    for part in (a, b):
        part.update(mixed(5, 3, 0))
    with pytest.raises(ValueError, match="different features, which cannot be compared:\n  one\n  two"):
        frechet_distance(a, b)
    with pytest.raises(ValueError, match="different features"):
        a.merge(b)
    with pytest.raises(ValueError, match="different features"):
        FrechetDistance("two", real=a)


def test_too_few_samples_and_wrong_dimensions() -> None:
    metric = FrechetDistance()
    with pytest.raises(ValueError, match="needs at least 2 real features, got 0"):
        metric.compute()
    metric.update(real=mixed(2, 3, 0), fake=mixed(1, 3, 0))
    with pytest.raises(ValueError, match="needs at least 2 fake features, got 1"):
        metric.compute()
    with pytest.raises(ValueError, match="real features must all have 3 features, got 4"):
        metric.update(real=mixed(2, 4, 0))
    with pytest.raises(ValueError, match=r"must have shape \(batch, dim\), got \(3,\)"):
        metric.update(real=mixed(2, 3, 0)[0])
    with pytest.raises(TypeError, match=r"floating-point tensor, got torch\.uint8"):
        metric.update(real=torch.zeros(2, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match="one number of features, got 3 and 4"):
        frechet_distance(statistics(mixed(5, 3, 0)), statistics(mixed(5, 4, 0)))


def test_nan_features_name_the_batch_and_are_not_added() -> None:
    metric = FrechetDistance()
    metric.update(fake=mixed(8, 3, 0))
    bad = mixed(4, 3, 1)
    bad[3, 0] = torch.nan
    with pytest.raises(ValueError, match=r"fake features must be finite; batch 1 \(samples 8 to 11\)"):
        metric.update(fake=bad)
    assert metric.fake.count == 8


# The limit.


def gaussian_case(dim: int) -> tuple[FeatureStatistics, torch.Tensor, float]:
    """A target, the samples' scale, and the true distance between the two Gaussians."""
    scale = torch.linspace(0.5, 1.5, dim, dtype=torch.float64)
    target = FeatureStatistics.from_moments(torch.full((dim,), 0.2), torch.eye(dim))
    return target, scale, 0.04 * dim + float((scale - 1).square().sum())


def test_extrapolation_finds_the_truth_within_its_error() -> None:
    target, scale, truth = gaussian_case(12)
    results = [extrapolated_frechet_distance(target, normal(600, 12, seed=s) * scale, seed=s) for s in range(60)]
    values = np.array([result.distance for result in results])
    full = np.array([result.full for result in results])
    sem = values.std(ddof=1) / math.sqrt(len(values))
    assert abs(values.mean() - truth) < 3 * sem
    # What it removes is there: a bias of many standard errors.
    assert full.mean() - truth > 6 * sem
    # The error it states is the spread that is seen.
    stated = np.sqrt(np.mean([result.error**2 for result in results]))
    assert 0.75 < values.std(ddof=1) / stated < 1.33


def test_extrapolation_is_seeded_and_takes_a_store() -> None:
    target, scale, _ = gaussian_case(4)
    fake = (normal(200, 4) * scale).float()
    store = FeatureStore("raw")
    store.update(fake)
    first = extrapolated_frechet_distance(target, fake, seed=1)
    assert extrapolated_frechet_distance(target, store, seed=1).distance == first.distance
    assert extrapolated_frechet_distance(target, fake, seed=2).distance != first.distance
    assert first.sizes == (200, 100, 66, 50, 40)
    assert first.full == pytest.approx(frechet_distance(target, statistics(fake)), rel=1e-10)
    assert first.distance < first.full
    assert first.slope > 0


def test_a_line_through_the_points() -> None:
    target, scale, _ = gaussian_case(4)
    result = extrapolated_frechet_distance(target, normal(200, 4) * scale, parts=4)
    slope, value = np.polyfit(np.arange(1, 5) / 200, result.distances, 1)
    assert result.distance == pytest.approx(value, rel=1e-10)
    assert result.slope == pytest.approx(slope, rel=1e-10)


def test_extrapolation_refuses_what_it_cannot_use() -> None:
    target, _, _ = gaussian_case(4)
    with pytest.raises(ValueError, match="parts must be at least 2"):
        extrapolated_frechet_distance(target, normal(20, 4), parts=1)
    with pytest.raises(ValueError, match="over 5 parts needs at least 10 fake features, got 9"):
        extrapolated_frechet_distance(target, normal(9, 4))
    with pytest.raises(ValueError, match="must all have 4 features, got 5"):
        extrapolated_frechet_distance(target, normal(20, 5))
