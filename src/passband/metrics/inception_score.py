"""Inception Score: how sure the classifier is of each image, and how varied its answers are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from passband._checks import check_integer
from passband.metrics.features import FeatureExtractor
from passband.metrics.store import (
    check_features,
    check_same_features,
    decode_text,
    encode_text,
    features_name,
    resize_of,
    sample_indices,
    take_state,
)


@dataclass(frozen=True)
class InceptionScoreResult:
    """What [`InceptionScore`][passband.metrics.InceptionScore] computes.

    Attributes:
        mean: mean of the splits' scores, 1 to the number of classes.
        std: standard deviation over the splits (divided by their number), 0 for one split.
        scores: the score of every split.
        features: name of the classifier's extractor.
        resize: what the name says of the resize.
        count: number of samples.

    """

    mean: float
    std: float
    scores: tuple[float, ...]
    features: str
    resize: str
    count: int


class InceptionScore:
    r"""Inception Score, streamed: $\exp E_x\, \mathrm{KL}(p(y|x)\, \|\, p(y))$, p(y) the mean of p(y|x).

    It looks at generated samples only. It means something for images of the classifier's classes: do not quote it for
    others. Few samples lower it, since p(y) then fits them too well: 5,000 in each of 10 splits is the convention.

    Sample i belongs to split i mod `splits`: the state is a few sums, and splits of a shuffled set are alike.

    Args:
        features: the extractor whose `logits` are given, or its name.
        splits: number of parts, whose scores give the spread.

    Raises:
        TypeError: if splits is no integer.
        ValueError: if it is below 1.

    Example:
        >>> import torch
        >>> from passband.metrics import InceptionScore
        >>> score = InceptionScore(splits=1)
        >>> score.update(100 * torch.eye(5))  # sure of another class each time
        >>> round(score.compute().mean, 6)
        5.0

    Source:
        Salimans et al., arXiv:1606.03498.

    """

    def __init__(self, features: FeatureExtractor | str = "", *, splits: int = 10) -> None:
        check_integer("splits", splits)
        if splits < 1:
            raise ValueError(f"splits must be at least 1, got {splits}")
        self.features = features_name(features)
        self.splits = splits
        self.reset()

    def reset(self) -> None:
        """Forget all samples."""
        self.count = 0
        self._batches = 0
        self._counts = torch.zeros(self.splits, dtype=torch.int64)
        self._sums = torch.zeros(self.splits, 0, dtype=torch.float64)
        self._negentropies = torch.zeros(self.splits, dtype=torch.float64)

    def update(
        self,
        logits: Float[Tensor, "batch classes"],
        indices: Int64[Tensor, " batch"] | Sequence[int] | None = None,
    ) -> None:
        """Add a batch.

        Args:
            logits: of generated samples, (batch, classes); for probabilities, their logarithm.
            indices: the samples' global indices, which decide the split. None counts on from the samples seen.

        Raises:
            TypeError: if the logits are not floating.
            ValueError: if their shape is wrong, or a value is NaN or +inf (the message names the batch); nothing is
                added then.

        """
        known = self._sums.shape[1] or None
        # The logarithm of a probability of 0 is allowed.
        finite = torch.where(logits == -torch.inf, 0.0, logits) if logits.is_floating_point() else logits
        check_features("logits", finite, dim=known, seen=self.count, batch=self._batches)
        numbers = sample_indices(indices, len(logits), self.count)
        self._batches += 1
        if len(logits) == 0:
            return
        log_p = logits.detach().cpu().double().log_softmax(1)
        p = log_p.exp()
        split = numbers % self.splits
        if known is None:
            self._sums = torch.zeros(self.splits, p.shape[1], dtype=torch.float64)
        self._sums.index_add_(0, split, p)
        self._negentropies.index_add_(0, split, torch.special.xlogy(p, p).sum(1))
        self._counts += torch.bincount(split, minlength=self.splits)
        self.count += len(p)

    def merge(self, other: "InceptionScore") -> "InceptionScore":
        """Add what another one has seen (another rank's, for instance), and return self.

        Raises:
            ValueError: if the features, the splits or the classes differ.

        """
        check_same_features(self.features, other.features)
        if self.splits != other.splits:
            raise ValueError(f"both must have one number of splits, got {self.splits} and {other.splits}")
        state = other.state_dict()
        classes = state["sums"].shape[1]
        if other.count == 0:
            return self
        if self.count and self._sums.shape[1] != classes:
            raise ValueError(f"both must have one number of classes, got {self._sums.shape[1]} and {classes}")
        self._sums = self._sums + state["sums"] if self.count else state["sums"]
        self._negentropies = self._negentropies + state["negentropies"]
        self._counts = self._counts + state["counts"]
        self.count += other.count
        self.features = self.features or other.features
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """The state as tensors, to save or to send to another rank."""
        return {
            "sums": self._sums.clone(),
            "negentropies": self._negentropies.clone(),
            "counts": self._counts.clone(),
            "features": encode_text(self.features),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace the state by one of [`state_dict`][passband.metrics.InceptionScore.state_dict]."""
        take_state("InceptionScore", state, {"sums", "negentropies", "counts", "features"})
        name = decode_text(state["features"])
        check_same_features(self.features, name)
        self.features = self.features or name
        self.splits = len(state["counts"])
        self.reset()
        self._sums = state["sums"].cpu().double().clone()
        self._negentropies = state["negentropies"].cpu().double().clone()
        self._counts = state["counts"].cpu().clone()
        self.count = int(self._counts.sum())

    def compute(self) -> InceptionScoreResult:
        """The score of all samples seen so far.

        Raises:
            ValueError: if a split has no sample.

        """
        if not (self._counts > 0).all():
            raise ValueError(
                f"the Inception Score needs a sample in each of {self.splits} splits, got {self.count} samples; "
                "add samples with update, or take fewer splits"
            )
        # E KL(p(y|x) || p(y)) = E Σ p(y|x) log p(y|x) - Σ p(y) log p(y).
        marginal = self._sums / self._counts[:, None]
        scores = (self._negentropies / self._counts - torch.special.xlogy(marginal, marginal).sum(1)).exp()
        return InceptionScoreResult(
            mean=float(scores.mean()),
            std=float(scores.std(correction=0)),
            scores=tuple(scores.tolist()),
            features=self.features,
            resize=resize_of(self.features),
            count=self.count,
        )
