"""Means of a stream of vectors with their Poisson bootstrap: any number of samples, constant memory, mergeable."""

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from numpy.typing import NDArray
from torch import Tensor

from passband._checks import check_floating, check_integer

_MIX = tuple(np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
# P(weight <= k) of a Poisson variable of mean 1; beyond the last one there are no doubles left.
_CUMULATED = np.cumsum([math.exp(-1) / math.factorial(k) for k in range(18)])


def poisson_weights(keys: Sequence[str], replicates: int, seed: int = 0) -> Float64[Tensor, "keys replicates"]:
    r"""How often each sample is drawn in each bootstrap replicate: independent Poisson numbers of mean 1.

    They come from hashing (seed, key, replicate), so a sample has the same weights in every process and in any order,
    and samples of one key are drawn together.

    Args:
        keys: what each sample is called.
        replicates: number of replicates, at least 1.
        seed: of all weights.

    Returns:
        Weights 0, 1, 2, ... in float64, (keys, replicates).

    Example:
        >>> from passband.metrics import poisson_weights
        >>> weights = poisson_weights(["a", "b", "a"], 1000)
        >>> bool((weights[0] == weights[2]).all()), round(float(weights.mean()), 1)
        (True, 1.0)

    Source: Chamandy et al., Estimating Uncertainty for Massive Data Streams (2012); Hanley and MacGibbon, Creating
    non-parametric bootstrap samples using Poisson frequencies (2006).
    """
    _check_replicates(replicates)
    counter = np.arange(1, replicates + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        state = _hashes(keys, seed)[:, None] + counter * _MIX[0]
        uniform = (_mixed(state) >> np.uint64(11)) * 2.0**-53
    return torch.from_numpy(np.searchsorted(_CUMULATED, uniform, side="right").astype(np.float64))


def in_first_half(keys: Sequence[str], seed: int = 0) -> Bool[Tensor, " keys"]:
    """Which samples belong to the first of two random halves: a hash of (seed, key) decides.

    Example:
        >>> from passband.metrics import in_first_half
        >>> bool((in_first_half(["a", "b"]) == in_first_half(["a", "b"])).all())
        True

    """
    with np.errstate(over="ignore"):
        mixed = _mixed(_hashes(keys, seed))
    return torch.from_numpy((mixed >> np.uint64(63)).astype(bool))


class BootstrapMeans:
    r"""Running means of vectors, of all samples, of two random halves, and of bootstrap replicates of each.

    A replicate's mean is $\sum_i w_i x_i / \sum_i w_i$ with Poisson weights $w_i$ of mean 1
    ([`poisson_weights`][passband.metrics.poisson_weights]): the spread of the replicates is that of the mean if the
    samples were drawn again. It needs one pass and keeps 2 R + 2 sums, however many samples there are.

    Args:
        replicates: R, at least 2.
        seed: of weights and halves; means of one seed can be merged, and two sets of one seed whose samples have the
            same keys are resampled together, so that differences of them are paired.

    Raises:
        TypeError: if a number is no integer.
        ValueError: if there are fewer than 2 replicates.

    Example:
        >>> import torch
        >>> from passband.metrics import BootstrapMeans
        >>> means, generator = BootstrapMeans(replicates=400), torch.Generator().manual_seed(0)
        >>> means.update(torch.randn(1000, 3, generator=generator), [str(i) for i in range(1000)])
        >>> tuple(means.mean.shape), round(float(means.replicate_means.std(0).mean()), 2)  # 1/sqrt(1000) = 0.03
        ((3,), 0.03)

    """

    def __init__(self, replicates: int = 200, seed: int = 0) -> None:
        _check_replicates(replicates, least=2)
        check_integer("seed", seed)
        self.replicates, self.seed = replicates, seed
        self.reset()

    def reset(self) -> None:
        """Forget all samples."""
        self.count = 0
        self._weights = torch.zeros(2 * self.replicates + 2, dtype=torch.float64)
        # Rows: all samples, the first half, the replicates of all, those of the first half.
        self._sums: Tensor | None = None

    def update(self, values: Float[Tensor, "batch d"], keys: Sequence[str]) -> None:
        """Add a batch.

        Args:
            values: one vector for each sample.
            keys: what each sample is called; samples of one key are resampled together and lie in one half.

        Raises:
            TypeError: if the values are not floating.
            ValueError: if there are not as many keys as vectors, the length differs from what came before, or a value
                is not finite; nothing is added then.

        """
        check_floating("values", values)
        if values.ndim != 2 or len(values) != len(keys):
            raise ValueError(
                f"expected one vector and one key for each sample, got shape {tuple(values.shape)} and {len(keys)} keys"
            )
        self._check_length(values.shape[1])
        if len(values) == 0:
            return
        values = values.detach().double().cpu()
        bad = (~values.isfinite()).any(1).nonzero().flatten().tolist()
        if bad:
            raise ValueError(
                f"all samples must be finite; {len(bad)} of this batch are not, the first at index {bad[0]} "
                f"({keys[bad[0]]}); leave them out, or find out why they were generated"
            )
        weights = self._rows(keys)
        self._add(weights @ values, weights.sum(1), len(values))

    def merge(self, other: "BootstrapMeans") -> "BootstrapMeans":
        """Add what another one has seen, and return self.

        Raises:
            ValueError: if its replicates, seed or vectors are others.

        """
        if (other.replicates, other.seed) != (self.replicates, self.seed):
            raise ValueError(
                f"both must have the same replicates and seed, got {self.replicates} of seed {self.seed} and "
                f"{other.replicates} of seed {other.seed}; measure again with the same settings"
            )
        if other.count:
            state = other.state_dict()
            self._check_length(state["sums"].shape[1])
            self._add(state["sums"], state["weights"], other.count)
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """The state as tensors (empty before the first sample), to save or to send to another process."""
        if self._sums is None:
            return {}
        facts = {"count": torch.tensor(self.count), "seed": torch.tensor(self.seed)}
        return {"sums": self._sums.clone(), "weights": self._weights.clone(), **facts}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace the state by one of [`state_dict`][passband.metrics.BootstrapMeans.state_dict]."""
        missing = {"sums", "weights", "count", "seed"} - set(state) if state else set()
        if missing:
            raise ValueError(f"the state of bootstrap means lacks {sorted(missing)}, it holds {sorted(state)}")
        self.reset()
        if state:
            self.replicates, self.seed = len(state["weights"]) // 2 - 1, int(state["seed"])
            self.reset()
            self._add(state["sums"].double().cpu(), state["weights"].double().cpu(), int(state["count"]))

    @property
    def mean(self) -> Float64[Tensor, " d"]:
        """The mean over all samples."""
        return self._means(slice(1))[0]

    @property
    def halves(self) -> Float64[Tensor, "2 d"]:
        """The means over the two halves; NaN for one without samples."""
        return torch.stack([self._means(slice(1, 2))[0], self._second()[0]])

    @property
    def replicate_means(self) -> Float64[Tensor, "replicates d"]:
        """The mean of each replicate; NaN where it drew no sample."""
        return self._means(slice(2, 2 + self.replicates))

    @property
    def half_replicates(self) -> Float64[Tensor, "2 replicates d"]:
        """The mean of each replicate of each half."""
        return torch.stack([self._means(slice(2 + self.replicates, None)), self._second()[1:]])

    @property
    def effective_groups(self) -> float:
        """How many independent keys there are, about: the squared count over the variance of the replicates' counts.

        A set of 600 tiles of 14 photographs of like size has about 14.
        """
        drawn = self._weights[2 : 2 + self.replicates]
        return min(self.count**2 / max(float(drawn.var()), 1e-12), float(self.count))

    def _rows(self, keys: Sequence[str]) -> Float64[Tensor, "rows keys"]:
        drawn = poisson_weights(keys, self.replicates, self.seed).T
        first = in_first_half(keys, self.seed).double()[None]
        return torch.cat([torch.ones_like(first), first, drawn, drawn * first])

    def _means(self, rows: slice) -> Tensor:
        return self._filled()[rows] / self._weights[rows, None]

    def _second(self) -> Tensor:
        """The second half and its replicates: what is not in the first."""
        sums, last = self._filled(), 2 + self.replicates
        left = torch.cat([sums[:1] - sums[1:2], sums[2:last] - sums[last:]])
        weights = self._weights
        drawn = torch.cat([weights[:1] - weights[1:2], weights[2:last] - weights[last:]])
        return left / drawn[:, None]

    def _filled(self) -> Tensor:
        if self._sums is None:
            raise ValueError("there are no samples yet; call update with at least one batch first")
        return self._sums

    def _check_length(self, length: int) -> None:
        if self._sums is not None and self._sums.shape[1] != length:
            raise ValueError(f"all vectors must have one length, got {length} after {self._sums.shape[1]}")

    def _add(self, sums: Tensor, weights: Tensor, count: int) -> None:
        self._sums = sums.clone() if self._sums is None else self._sums + sums
        self._weights = self._weights + weights
        self.count += count


def _check_replicates(replicates: int, least: int = 1) -> None:
    check_integer("replicates", replicates)
    if replicates < least:
        raise ValueError(f"replicates must be at least {least}, got {replicates}; 200 give a standard error to 5 %")


def _hashes(keys: Sequence[str], seed: int) -> NDArray[np.uint64]:
    """64 bits for each key; surrogatepass, as a file name need not be valid UTF-8."""
    salt = f"{seed},".encode()
    digests = [hashlib.blake2b(salt + key.encode("utf-8", "surrogatepass"), digest_size=8).digest() for key in keys]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64 (Steele, Lea and Flood, 2014): neighbouring states give unrelated numbers."""
    state = (state ^ (state >> np.uint64(30))) * _MIX[1]
    state = (state ^ (state >> np.uint64(27))) * _MIX[2]
    return state ^ (state >> np.uint64(31))
