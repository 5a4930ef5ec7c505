"""Precision and recall, density and coverage: whether samples look real, and whether all of the real ones occur."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from passband._checks import check_integer
from passband.metrics.features import FeatureExtractor
from passband.metrics.store import StorePair, check_enough, check_features, resize_of

_BLOCK = 512
_TOLERANCE = 1e-12  # of squared distances, against the largest squared norm: equal points stay at distance 0


class PrecisionRecallScores(NamedTuple):
    """What `precision_recall_scores` returns: shares, density excepted.

    Attributes:
        precision: share of the generated samples within the real ones' neighbourhoods.
        recall: share of the real samples within the generated ones' neighbourhoods.
        density: how many real neighbourhoods hold a generated sample, on average, over k; it can be above 1.
        coverage: share of the real samples whose neighbourhood holds a generated one.

    """

    precision: float
    recall: float
    density: float
    coverage: float


@dataclass(frozen=True)
class PrecisionRecallResult:
    """What [`PrecisionRecall`][passband.metrics.PrecisionRecall] computes.

    Attributes:
        precision: share of the generated samples within the real ones' neighbourhoods.
        recall: share of the real samples within the generated ones' neighbourhoods.
        density: how many real neighbourhoods hold a generated sample, on average, over k; it can be above 1.
        coverage: share of the real samples whose neighbourhood holds a generated one.
        neighbours: k.
        features: name of the features: network, layer, weights, resize.
        resize: what the name says of the resize.
        real_count: number of real samples seen.
        fake_count: number of generated samples seen.
        real_kept: how many of them were compared.
        fake_kept: the same of the generated samples.

    """

    precision: float
    recall: float
    density: float
    coverage: float
    neighbours: int
    features: str
    resize: str
    real_count: int
    fake_count: int
    real_kept: int
    fake_kept: int


def precision_recall_scores(
    real: Float[Tensor, "samples dim"], fake: Float[Tensor, "other dim"], *, neighbours: int = 3
) -> PrecisionRecallScores:
    """Improved precision and recall, density and coverage, of two sets of features.

    A sample's neighbourhood is the ball up to its k-th nearest other sample of its own set, the edge included.

    Args:
        real: features of real samples, (samples, dim), more than k.
        fake: features of generated samples, likewise; compare numbers of equal counts only.
        neighbours: k.

    Raises:
        TypeError: if the features are not floating, or neighbours no integer.
        ValueError: if the dimensions differ, a value is not finite, or a side has no more than k samples.

    Example:
        >>> import torch
        >>> from passband.metrics import precision_recall_scores
        >>> real = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> precision_recall_scores(real, torch.tensor([[0.5], [0.6]]), neighbours=1)
        PrecisionRecallScores(precision=1.0, recall=0.0, density=2.0, coverage=0.5)

    Source:
        Kynkäänniemi et al., arXiv:1904.06991, Eq. 1-3; Naeem et al., arXiv:2002.09797, Eq. 3-4.

    """
    check_integer("neighbours", neighbours)
    check_features("real features", real, dim=None, seen=0, batch=0)
    check_features("fake features", fake, dim=real.shape[1], seen=0, batch=0)
    for name, x in (("real features", real), ("fake features", fake)):
        check_enough(f"precision and recall with k = {neighbours}", name, len(x), neighbours + 1)
    # Differences are what counts; centred, their squares keep more digits.
    centre = real.double().mean(0)
    real, fake = real.double() - centre, fake.double() - centre
    slack = _TOLERANCE * float(max(real.square().sum(1).max(), fake.square().sum(1).max()))
    holders, covered = _hits(real, _squared_radii(real, neighbours) + slack, fake)
    recalled, _ = _hits(fake, _squared_radii(fake, neighbours) + slack, real)
    return PrecisionRecallScores(
        precision=float((holders > 0).double().mean()),
        recall=float((recalled > 0).double().mean()),
        density=float(holders.double().mean()) / neighbours,
        coverage=float(covered.double().mean()),
    )


class PrecisionRecall(StorePair):
    """Improved precision and recall by k nearest neighbours, and density and coverage by the same neighbourhoods.

    The neighbourhood of a sample reaches to its k-th nearest one of its own set, so it shrinks as samples are added:
    compare numbers at equal counts only (10,000 to 50,000 of each are usual). Time is quadratic in the samples kept;
    distances are computed in blocks, in float64. Features are kept, see
    [`FeatureStore`][passband.metrics.FeatureStore] for the memory.

    Args:
        features: the extractor, or its name.
        neighbours: k: 3 for precision and recall in their paper; 5 is the usual k of density and coverage.
        max_samples: how many samples are kept on each side, at most.
        seed: of the choice of samples.

    Raises:
        TypeError: if an option is of the wrong type.
        ValueError: if an option is out of range.

    Example:
        >>> import torch
        >>> from passband.metrics import PrecisionRecall
        >>> metric = PrecisionRecall("raw values")
        >>> real = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
        >>> metric.update(real=real, fake=real[:20])  # all look real, many are missing
        >>> result = metric.compute()
        >>> result.precision, result.recall < 1
        (1.0, True)

    Source:
        Kynkäänniemi et al., arXiv:1904.06991, Eq. 1-3; Naeem et al., arXiv:2002.09797, Eq. 3-4.

    """

    def __init__(
        self,
        features: FeatureExtractor | str = "",
        *,
        neighbours: int = 3,
        max_samples: int = 10_000,
        seed: int = 0,
    ) -> None:
        check_integer("neighbours", neighbours)
        if neighbours < 1:
            raise ValueError(f"neighbours must be at least 1, got {neighbours}")
        super().__init__(features, max_samples=max_samples, seed=seed)
        if max_samples <= neighbours:
            raise ValueError(f"max_samples must be above neighbours = {neighbours}, got {max_samples}")
        self.neighbours = neighbours

    def compute(self, device: torch.device | str = "cpu") -> PrecisionRecallResult:
        """The four numbers for the samples kept.

        Args:
            device: where the distances are computed.

        Raises:
            ValueError: if a side has no more than k samples.

        """
        real, fake = self.kept(self.neighbours + 1, f"precision and recall with k = {self.neighbours}", device)
        scores = precision_recall_scores(real, fake, neighbours=self.neighbours)
        return PrecisionRecallResult(
            **scores._asdict(),
            neighbours=self.neighbours,
            features=self.features_name,
            resize=resize_of(self.features_name),
            real_count=self.real.count,
            fake_count=self.fake.count,
            real_kept=len(real),
            fake_kept=len(fake),
        )


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    return (a.square().sum(1)[:, None] - 2 * a @ b.T + b.square().sum(1)).clamp_min(0)


def _squared_radii(x: Tensor, neighbours: int) -> Tensor:
    """Squared distance of every sample to its k-th nearest other one."""
    # The sample itself is one of the k + 1 nearest, at distance 0.
    return torch.cat([_squared_distances(a, x).kthvalue(neighbours + 1).values for a in torch.split(x, _BLOCK)])


def _hits(centres: Tensor, squared_radii: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """How many balls hold each point, and which balls hold a point."""
    holders, filled = [], torch.zeros(len(centres), dtype=torch.bool, device=centres.device)
    for block in torch.split(points, _BLOCK):
        inside = _squared_distances(block, centres) <= squared_radii
        holders.append(inside.sum(1))
        filled |= inside.any(0)
    return torch.cat(holders), filled
