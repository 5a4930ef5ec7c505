"""Number of statistically different bins: in how many regions real and generated samples differ in number."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from passband._checks import check_integer, check_number
from passband._seeds import seed_for
from passband.metrics.features import FeatureExtractor
from passband.metrics.store import DEFAULT_SAMPLES, StorePair

_ITERATIONS = 100


@dataclass(frozen=True)
class NDBResult:
    """What [`NDB`][passband.metrics.NDB] computes; tensors are on the CPU.

    Attributes:
        count: number of bins in which the shares of real and generated samples differ at the level alpha.
        bins: number of bins.
        alpha: level of the test.
        chance: the count of one half of the real samples against bins of the other half, the number to hold `count`
            against; about alpha · bins.
        divergence: Jensen-Shannon divergence of the shares in nats, 0 (equal) to ln 2.
        divergence_chance: the same of the halves.
        real_shares: share of the real samples in each bin, (bins,), largest first.
        fake_shares: share of the generated samples in the same bins.
        different: which bins differ, (bins,).
        features: name of the features.
        real_count: number of real samples.
        fake_count: number of generated samples.

    """

    count: int
    bins: int
    alpha: float
    chance: int
    divergence: float
    divergence_chance: float
    real_shares: Float64[Tensor, " bins"]
    fake_shares: Float64[Tensor, " bins"]
    different: Bool[Tensor, " bins"]
    features: str
    real_count: int
    fake_count: int


class NDB(StorePair):
    r"""Number of statistically different bins (NDB), with its level and with what chance gives.

    The real features, scaled to a standard deviation of 1 in each value, are split into bins by k-means; the generated
    ones fall into the bin of the nearest centre. In each bin the two shares are compared by the two-proportion z-test,
    see [`two_proportion_z`][passband.metrics.two_proportion_z]. The tests take samples as independent: use windows that
    do not overlap, or read `count` beside `chance`.

    With a handful of samples per bin nothing is ever significant: use at most a tenth as many bins as samples.

    Args:
        features: name of the features, or the extractor.
        bins: number of bins, at least 2.
        alpha: level of the test, two-sided, in (0, 1).
        seed: of k-means, of the halves, and of the choice of samples.
        max_samples: how many samples are kept on each side, at most.

    Raises:
        TypeError: if an option is of the wrong type.
        ValueError: if an option is out of range.

    Example:
        >>> import torch
        >>> from passband.metrics import NDB
        >>> g = torch.Generator().manual_seed(0)
        >>> ndb = NDB(bins=20)
        >>> ndb.update(real=torch.randn(2000, 4, generator=g), fake=torch.randn(2000, 4, generator=g) + 1)
        >>> result = ndb.compute()
        >>> result.count > 15, result.chance < 5, result.alpha
        (True, True, 0.05)

    Source:
        Richardson & Weiss, arXiv:1805.12462, section 3.

    """

    def __init__(
        self,
        features: FeatureExtractor | str = "",
        *,
        bins: int = 50,
        alpha: float = 0.05,
        seed: int = 0,
        max_samples: int = DEFAULT_SAMPLES,
    ) -> None:
        check_integer("bins", bins)
        check_number("alpha", alpha)
        if bins < 2:
            raise ValueError(f"bins must be at least 2, got {bins}")
        if not 0 < alpha < 1:
            raise ValueError(f"alpha is the level of a test, between 0 and 1; got {alpha}")
        super().__init__(features, max_samples=max_samples, seed=seed)
        self.bins, self.alpha = bins, alpha

    def compute(self) -> NDBResult:
        """The comparison of all samples seen so far.

        Raises:
            ValueError: if there are fewer real samples than twice the bins, or no generated ones.

        """
        real, fake = self.kept(1, "NDB")
        if len(real) < 2 * self.bins:
            raise ValueError(f"{self.bins} bins need at least {2 * self.bins} real features, got {len(real)}")
        scale = real.double().std(0)
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        real, fake = real.double() / scale, fake.double() / scale
        counts, fake_counts = self._counts(real, fake)
        shuffled = torch.Generator().manual_seed(seed_for(self.seed, 0, "ndb halves"))
        first, second = real[torch.randperm(len(real), generator=shuffled)].tensor_split(2)
        halves = self._counts(first, second)
        order = counts.argsort(descending=True, stable=True)
        different = _differ(counts, fake_counts, self.alpha)[order]
        return NDBResult(
            count=int(different.sum()),
            bins=self.bins,
            alpha=self.alpha,
            chance=int(_differ(*halves, self.alpha).sum()),
            divergence=_divergence(counts, fake_counts),
            divergence_chance=_divergence(*halves),
            real_shares=_shares(counts)[order],
            fake_shares=_shares(fake_counts)[order],
            different=different,
            features=self.real.features_name,
            real_count=len(real),
            fake_count=len(fake),
        )

    def _counts(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """How many of either set fall into each bin of the first."""
        centres = kmeans(a, self.bins, seed_for(self.seed, 0, "ndb bins"))
        first, second = (torch.bincount(nearest_centre(x, centres), minlength=self.bins) for x in (a, b))
        return first, second


def two_proportion_z(
    hits: Int64[Tensor, "*shape"], total: int, other_hits: Int64[Tensor, "*shape"], other_total: int
) -> Float64[Tensor, "*shape"]:
    r"""The statistic of the two-proportion z-test, pooled.

    $z = (p_1 - p_2) / \sqrt{p (1 - p) (1 / n_1 + 1 / n_2)}$, $p_i = k_i / n_i$, $p = (k_1 + k_2) / (n_1 + n_2)$;
    0 where both shares are 0, or both 1.

    Args:
        hits: numbers $k_1$ of hits in the first sample.
        total: its size $n_1$.
        other_hits: $k_2$ of the second.
        other_total: $n_2$.

    Raises:
        ValueError: if a size is below 1.

    Example:
        >>> import torch
        >>> from passband.metrics import two_proportion_z
        >>> z = two_proportion_z(torch.tensor([30]), 100, torch.tensor([50]), 100)
        >>> [round(v, 4) for v in z.tolist()]  # -0.2 / sqrt(0.4 · 0.6 · 0.02)
        [-2.8868]

    """
    if total < 1 or other_total < 1:
        raise ValueError(f"both samples must have at least one element, got {total} and {other_total}")
    pooled = (hits + other_hits).double() / (total + other_total)
    error = (pooled * (1 - pooled) * (1 / total + 1 / other_total)).sqrt()
    difference = hits.double() / total - other_hits.double() / other_total
    return torch.where(error > 0, difference / error, torch.zeros_like(difference))


def kmeans(x: Float[Tensor, "samples dim"], bins: int, seed: int) -> Float[Tensor, "bins dim"]:
    """Centres of k-means: seeded by k-means++, then Lloyd's steps until nothing changes (100 at most)."""
    generator = torch.Generator().manual_seed(seed)
    centres = _spread_out(x, bins, generator)
    assigned = torch.full((len(x),), -1)
    for _ in range(_ITERATIONS):
        nearest = nearest_centre(x, centres)
        if torch.equal(nearest, assigned):
            break
        assigned = nearest
        counts = torch.bincount(assigned, minlength=bins)
        sums = torch.zeros_like(centres).index_add_(0, assigned, x)
        filled = counts > 0
        centres = torch.where(filled[:, None], sums / counts.clamp_min(1)[:, None], centres)
    return centres


def nearest_centre(x: Float[Tensor, "samples dim"], centres: Float[Tensor, "bins dim"]) -> Int64[Tensor, " samples"]:
    """Index of the nearest centre of each sample, the lowest of equal ones."""
    offsets = centres.square().sum(1) - 2 * x @ centres.T
    return offsets.argmin(1)


def _spread_out(x: Tensor, bins: int, generator: torch.Generator) -> Tensor:
    """First centres: each drawn with a probability in proportion to the squared distance from those before."""
    chosen = [int(torch.randint(len(x), (1,), generator=generator))]
    distance = (x - x[chosen[0]]).square().sum(1)
    for _ in range(bins - 1):
        weights = distance if float(distance.sum()) > 0 else torch.ones_like(distance)
        chosen.append(int(torch.multinomial(weights, 1, generator=generator)))
        distance = torch.minimum(distance, (x - x[chosen[-1]]).square().sum(1))
    return x[chosen].clone()


def _differ(a: Tensor, b: Tensor, alpha: float) -> Tensor:
    limit = torch.special.ndtri(torch.tensor(1 - alpha / 2, dtype=torch.float64))
    different: Tensor = two_proportion_z(a, int(a.sum()), b, int(b.sum())).abs() > limit
    return different


def _shares(counts: Tensor) -> Tensor:
    return counts.double() / counts.sum()


def _divergence(a: Tensor, b: Tensor) -> float:
    p, q = _shares(a), _shares(b)
    m = (p + q) / 2
    parts = (torch.special.xlogy(x, x) - torch.special.xlogy(x, m) for x in (p, q))
    return min(max(float(sum(part.sum() for part in parts)) / 2, 0.0), math.log(2))
