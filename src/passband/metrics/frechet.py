"""Fréchet distance between Gaussians fitted to features (FID, where these are Inception's), and its limit."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from passband._checks import check_integer
from passband._seeds import seed_for
from passband.metrics.features import FeatureExtractor
from passband.metrics.sides import RealAndFake
from passband.metrics.statistics import FeatureStatistics
from passband.metrics.store import (
    FeatureStore,
    check_enough,
    check_features,
    check_same_features,
)


@dataclass(frozen=True)
class FrechetResult:
    """What [`FrechetDistance`][passband.metrics.FrechetDistance] computes.

    Attributes:
        distance: the squared Fréchet distance, in the features' unit squared.
        mean_term: the part that the means' distance has in it.
        covariance_term: the rest.
        features: name of the features: network, layer, weights, resize.
        resize: what the name says of the resize.
        real_count: number of real samples; 0 where statistics were given without.
        fake_count: number of generated samples, likewise.

    """

    distance: float
    mean_term: float
    covariance_term: float
    features: str
    resize: str
    real_count: int
    fake_count: int


@dataclass(frozen=True)
class ExtrapolatedFrechet:
    """What [`extrapolated_frechet_distance`][passband.metrics.extrapolated_frechet_distance] computes.

    Attributes:
        distance: the fit's value at 1/N = 0; it can be negative where there is no difference.
        error: its standard error: noise of the generated samples and scatter of the fit, not that of the real ones.
        slope: of the fit over 1/N: the bias at N samples is about slope / N.
        sizes: sizes N of the subsets.
        distances: mean Fréchet distance at each size.
        full: the distance with all generated samples, biased as every finite one.
        features: name of the features.
        resize: what the name says of the resize.
        real_count: number of real samples; 0 where statistics were given without.
        fake_count: number of generated samples.

    """

    distance: float
    error: float
    slope: float
    sizes: tuple[int, ...]
    distances: tuple[float, ...]
    full: float
    features: str
    resize: str
    real_count: int
    fake_count: int


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    r"""Squared Fréchet (2-Wasserstein) distance between the Gaussians of two statistics, in float64.

    $d^2 = |\mu_a - \mu_b|^2 + \operatorname{tr}\left(A + B - 2\, (A^{1/2} B A^{1/2})^{1/2}\right)$, A and B the
    covariances. The last trace is the sum of the singular values of $L_a^T L_b$ for any $A = L_a L_a^T$,
    $B = L_b L_b^T$, which keeps the digits that square roots of small eigenvalues lose. Covariances of less than full
    rank (fewer samples than features) are fine.

    **Bias.** From N samples it comes out too large by about c/N, c growing with the number of features: at equal N only
    are two models comparable, and 50,000 is the convention for Inception's 2048 features. See
    [`extrapolated_frechet_distance`][passband.metrics.extrapolated_frechet_distance].

    Args:
        a: statistics of one set, at least 2 samples.
        b: of the other, of the same features.

    Raises:
        ValueError: if the features differ by name or number, or there are fewer than 2 samples.

    Example:
        >>> import torch
        >>> from passband.metrics import FeatureStatistics, frechet_distance
        >>> a = FeatureStatistics.from_moments(torch.zeros(2), torch.eye(2))
        >>> b = FeatureStatistics.from_moments(torch.tensor([3.0, 0.0]), 4 * torch.eye(2))
        >>> round(frechet_distance(a, b), 6)  # 3² for the means, (2 - 1)² for each axis
        11.0

    Source:
        Dowson & Landau, J. Multivariate Analysis 12 (1982); Heusel et al., arXiv:1706.08500, Eq. 6.

    """
    return sum(_terms(a, b))


class FrechetDistance(RealAndFake):
    """Fréchet distance of generated from real samples, streamed: any number of samples, constant memory.

    Args:
        features: the extractor, or its name.
        real: statistics of the real samples, computed before (another update with real samples adds to them).

    Raises:
        ValueError: if `real` are statistics of other features.

    Example:
        >>> import torch
        >>> from passband.metrics import FrechetDistance
        >>> distance = FrechetDistance("raw values")
        >>> x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
        >>> distance.update(real=x, fake=x + 1)
        >>> round(distance.compute().distance, 4), distance.compute().fake_count
        (4.0, 64)

    """

    real: FeatureStatistics
    fake: FeatureStatistics

    def __init__(self, features: FeatureExtractor | str = "", *, real: FeatureStatistics | None = None) -> None:
        self.real = FeatureStatistics(features, name="real features")
        self.fake = FeatureStatistics(features, name="fake features")
        if real is not None:
            self.real.load_state_dict(real.state_dict())

    def update(
        self, *, real: Float[Tensor, "batch dim"] | None = None, fake: Float[Tensor, "other dim"] | None = None
    ) -> None:
        """Add the features of a batch of real samples, of generated ones, or of both (their numbers may differ).

        Raises:
            TypeError: if the features are not floating.
            ValueError: if their shape is wrong or a value is not finite; the message names the batch.

        """
        if real is not None:
            self.real.update(real)
        if fake is not None:
            self.fake.update(fake)

    def compute(self) -> FrechetResult:
        """The distance between all real and all generated samples seen so far.

        Raises:
            ValueError: if there are fewer than 2 samples on a side.

        """
        mean_term, covariance_term = _terms(self.real, self.fake)
        return FrechetResult(
            distance=mean_term + covariance_term,
            mean_term=mean_term,
            covariance_term=covariance_term,
            features=self.fake.features or self.real.features,
            resize=self.fake.resize,
            real_count=self.real.count,
            fake_count=self.fake.count,
        )


def extrapolated_frechet_distance(
    real: FeatureStatistics,
    fake: Float[Tensor, "samples dim"] | FeatureStore,
    *,
    parts: int = 5,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> ExtrapolatedFrechet:
    r"""Fréchet distance at infinitely many generated samples (FID∞): a line in 1/N, read at 1/N = 0.

    The expected distance is $d^2 + c/N + O(1/N^2)$. For k = 1 … parts the generated samples are shuffled (seeded) and
    dealt into k parts; the mean of the parts' distances is the point at N = samples / k. All points use all samples, so
    that their common noise does not tilt the line.

    The real statistics are taken as they are: their own bias, from a finite number of real samples, stays. The smallest
    parts should still have several times more samples than there are features.

    Args:
        real: statistics of the real samples.
        fake: features of the generated samples, or a store of them.
        parts: number of points of the fit, at least 2; the cost is parts² / 2 distances.
        seed: of the shuffles.
        device: where the parts' covariances and roots are computed.

    Raises:
        ValueError: if the features differ, a value is not finite, parts is below 2, or a part has fewer than 2 samples.

    Example:
        >>> import torch
        >>> from passband.metrics import FeatureStatistics, extrapolated_frechet_distance
        >>> real = FeatureStatistics.from_moments(torch.zeros(8), torch.eye(8))
        >>> fake = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
        >>> result = extrapolated_frechet_distance(real, fake)  # the truth is 0
        >>> result.full > 0.03, abs(result.distance) < 0.01
        (True, True)

    Source:
        Chong & Forsyth, arXiv:1911.07023; theirs are random subsets of 15 sizes, one of each. The error's first part is
        the spread of the distance's derivative with respect to one sample.

    """
    check_integer("parts", parts)
    if parts < 2:
        raise ValueError(f"parts must be at least 2, for a line; got {parts}")
    names = real.features
    if isinstance(fake, FeatureStore):
        check_same_features(names, fake.features_name)
        names, fake = names or fake.features_name, fake.features
    check_features("fake features", fake, dim=len(real.mean), seen=0, batch=0)
    count = len(fake)
    check_enough(f"an extrapolation over {parts} parts", "fake features", count, 2 * parts)
    x = fake.detach().to(device).double()
    target = _moments(real, device)
    points = [_mean_over_parts(target, x, k, seed) for k in range(1, parts + 1)]
    inverse = torch.arange(1, parts + 1, dtype=torch.float64) / count
    distance, slope, fit_error = _line(inverse, torch.tensor(points, dtype=torch.float64))
    noise = _influence(target, x).var().div(count).sqrt()
    return ExtrapolatedFrechet(
        distance=distance,
        error=float(torch.hypot(noise.cpu(), torch.tensor(fit_error, dtype=torch.float64))),
        slope=slope,
        sizes=tuple(count // k for k in range(1, parts + 1)),
        distances=tuple(points),
        full=points[0],
        features=names,
        resize=real.resize,
        real_count=real.count,
        fake_count=count,
    )


_Moments = tuple[Tensor, Tensor, Tensor]  # mean, covariance, and a factor L of it: covariance = L Lᵀ


def _terms(a: FeatureStatistics, b: FeatureStatistics) -> tuple[float, float]:
    check_same_features(a.features, b.features)
    for statistics in (a, b):
        if statistics.dim is None:
            check_enough("a Fréchet distance", statistics.name, statistics.count, 2)
    if a.dim != b.dim:
        raise ValueError(f"both sets must have one number of features, got {a.dim} and {b.dim}; use one extractor")
    return _distance(_moments(a), _moments(b))


def _moments(statistics: FeatureStatistics, device: torch.device | str = "cpu") -> _Moments:
    covariance = statistics.covariance.to(device)
    return statistics.mean.to(device), covariance, _factor(covariance)


def _distance(a: _Moments, b: _Moments) -> tuple[float, float]:
    """Mean and covariance term; both are at least 0, so rounding below it is cut."""
    means = (a[0] - b[0]).square().sum()
    traces = a[1].diagonal().sum() + b[1].diagonal().sum()
    covariances = traces - 2 * torch.linalg.svdvals(a[2].T @ b[2]).sum()
    return float(means), float(covariances.clamp_min(0))


def _factor(covariance: Tensor) -> Tensor:
    """A matrix L with L Lᵀ = covariance: Cholesky's where that exists, of fewer columns where the rank is less."""
    cholesky = torch.linalg.cholesky_ex(covariance)
    if not cholesky.info:
        lower: Tensor = cholesky.L
        return lower
    values, vectors = _eigen(covariance)
    keep = values > values.max() * torch.finfo(covariance.dtype).eps
    factor: Tensor = vectors[:, keep] * values[keep].sqrt()
    return factor


def _eigen(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of a symmetric matrix without negative eigenvalues."""
    try:
        values, vectors = torch.linalg.eigh(matrix)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        # LAPACK's method fails on some matrices of low rank, as of fewer samples than features.
        vectors, values, _ = torch.linalg.svd(matrix)
    return values, vectors


def _sample_moments(x: Tensor) -> _Moments:
    mean = x.mean(0)
    centred = x - mean
    covariance = centred.T @ centred / (len(x) - 1)
    return mean, covariance, _factor(covariance)


def _mean_over_parts(target: _Moments, x: Tensor, parts: int, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed_for(seed, parts, "frechet parts"))
    order = torch.randperm(len(x), generator=generator).to(x.device)
    # Equal parts, so that they have one bias; fewer than `parts` samples are left over.
    size = len(x) // parts
    chunks = [order[i * size : (i + 1) * size] for i in range(parts)]
    return sum(sum(_distance(target, _sample_moments(x[chunk]))) for chunk in chunks) / parts


def _line(x: Tensor, y: Tensor) -> tuple[float, float, float]:
    """Least squares: value at 0, slope, and the standard error of the value at 0 (0 for two points)."""
    spread = (x - x.mean()).square().sum()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / spread
    intercept = y.mean() - slope * x.mean()
    if len(x) < 3:
        return float(intercept), float(slope), 0.0
    variance = (y - intercept - slope * x).square().sum() / (len(x) - 2)
    error = (variance * (1 / len(x) + x.mean().square() / spread)).sqrt()
    return float(intercept), float(slope), float(error)


def _influence(target: _Moments, x: Tensor) -> Tensor:
    """First-order change of the distance by each sample: its variance over the count is that of the distance.

    With T the optimal map from the samples' Gaussian to the target's, d(distance) = 2 (m - m_target) · dm +
    tr((1 - T) dB), at a sample: dm = x - m, dB = (x - m)(x - m)ᵀ - B.
    """
    mean, _, factor = _sample_moments(x)
    # T = L⁻ᵀ (Lᵀ A L)^{1/2} L⁻¹, by the pseudo-inverse of the factor L of the samples' covariance.
    values, vectors = _eigen(factor.T @ target[1] @ factor)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    centred = x - mean
    white = centred @ torch.linalg.pinv(factor).T
    change: Tensor = 2 * centred @ (mean - target[0]) + centred.square().sum(1) - ((white @ root) * white).sum(1)
    return change
