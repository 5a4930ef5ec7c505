"""Mean and covariance of a stream of features, in float64, and their file."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from passband._checks import check_floating, import_extra
from passband.metrics.features import FeatureExtractor
from passband.metrics.store import (
    check_enough,
    check_features,
    check_same_features,
    decode_text,
    encode_text,
    features_name,
    read_kept,
    resize_of,
    take_state,
)

_FORMAT = "passband feature statistics 1"


class FeatureStatistics:
    r"""Mean and covariance of a stream of feature vectors: any number of samples, constant memory.

    Batches are centred on their own mean before they are squared and joined by Chan's update, so a mean that is large
    against the spread costs no digits:
    $M = M_a + M_b + \frac{n_a n_b}{n_a + n_b}\, \delta \delta^T$, $\delta = \mu_b - \mu_a$, M the scatter
    matrix. All in float64, computed where the features are, kept on the CPU: 8 · dim² bytes (34 MB for Inception).

    Args:
        features: the extractor, or its name; empty: not known, which fits any.
        name: what the samples are called in errors.

    Example:
        >>> import torch
        >>> from passband.metrics import FeatureStatistics
        >>> statistics = FeatureStatistics()
        >>> for _ in range(3):
        ...     statistics.update(torch.randn(8, 5))
        >>> statistics.count, tuple(statistics.mean.shape), tuple(statistics.covariance.shape)
        (24, (5,), (5, 5))

    """

    def __init__(self, features: FeatureExtractor | str = "", *, name: str = "features") -> None:
        self.features = features_name(features)
        self.name = name
        self.info: dict[str, str] = {}
        self.reset()

    def reset(self) -> None:
        """Forget all samples."""
        self.count = 0
        self.dim: int | None = None
        self._batches = 0
        self._mean = torch.zeros(0, dtype=torch.float64)
        self._scatter = torch.zeros(0, 0, dtype=torch.float64)
        self._given: Tensor | None = None

    @classmethod
    def from_moments(
        cls,
        mean: Float[Tensor, " dim"],
        covariance: Float[Tensor, "dim dim"],
        features: FeatureExtractor | str = "",
        *,
        name: str = "features",
    ) -> "FeatureStatistics":
        """Statistics of a known mean and covariance; their count is 0 (not known), and nothing can be added.

        Raises:
            TypeError: if a tensor is not floating.
            ValueError: if the shapes do not fit, a value is not finite, or the covariance is not symmetric.

        """
        check_floating("mean", mean)
        check_floating("covariance", covariance)
        if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)) or len(mean) == 0:
            raise ValueError(
                "expected a mean (dim,) and a covariance (dim, dim), "
                f"got {tuple(mean.shape)} and {tuple(covariance.shape)}"
            )
        mean, covariance = mean.detach().cpu().double(), covariance.detach().cpu().double()
        if not (mean.isfinite().all() and covariance.isfinite().all()):
            raise ValueError("mean and covariance must be finite; compute the statistics anew")
        if not torch.allclose(covariance, covariance.T, rtol=1e-4, atol=1e-6 * float(covariance.abs().max())):
            raise ValueError("the covariance is not symmetric; compute the statistics anew")
        result = cls(features, name=name)
        result.dim, result._mean, result._given = len(mean), mean.clone(), (covariance + covariance.T) / 2
        return result

    def update(self, features: Float[Tensor, "batch dim"]) -> None:
        """Add a batch.

        Raises:
            TypeError: if the features are not floating.
            ValueError: if their shape is wrong or a value is not finite (the message names the batch); nothing is added
                then.

        """
        self._check_open()
        check_features(self.name, features, dim=self.dim, seen=self.count, batch=self._batches)
        self._batches += 1
        if len(features) == 0:
            return
        x = features.detach()
        x = x.cpu().double() if x.device.type == "mps" else x.double()  # that device has no float64
        mean = x.mean(0)
        centred = x - mean
        self._join(mean.cpu(), (centred.T @ centred).cpu(), len(x))

    def merge(self, other: "FeatureStatistics") -> "FeatureStatistics":
        """Add what another one has seen (another rank's, or another part's), and return self.

        Raises:
            ValueError: if the features or their number differ, or one of the two has a given covariance.

        """
        self._check_open()
        state = other.state_dict()
        if "covariance" in state:
            raise ValueError(f"{self.name}: cannot add statistics that are a given mean and covariance without a count")
        check_same_features(self.features, other.features)
        if other.count:
            if self.dim not in (None, other.dim):
                raise ValueError(f"{self.name} must all have {self.dim} features, got {other.dim}")
            self.features = self.features or other.features
            self._join(state["mean"], state["scatter"], other.count)
        return self

    @property
    def resize(self) -> str:
        """The resize that the features' name states."""
        return resize_of(self.features)

    @property
    def mean(self) -> Float64[Tensor, " dim"]:
        """Mean of the features."""
        if self._given is None:
            check_enough("the mean", self.name, self.count, 1)
        return self._mean

    @property
    def covariance(self) -> Float64[Tensor, "dim dim"]:
        """Covariance of the features, over count - 1."""
        if self._given is not None:
            return self._given
        check_enough("the covariance", self.name, self.count, 2)
        return self._scatter / (self.count - 1)

    def state_dict(self) -> dict[str, Tensor]:
        """The state as tensors, to save or to send to another rank."""
        given = {} if self._given is None else {"covariance": self._given.clone()}
        return {
            "count": torch.tensor(self.count),
            "mean": self._mean.clone(),
            "scatter": self._scatter.clone(),
            "features": encode_text(self.features),
            **given,
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace the state by one of [`state_dict`][passband.metrics.FeatureStatistics.state_dict]."""
        take_state("FeatureStatistics", state, {"count", "mean", "scatter", "features"})
        name = decode_text(state["features"])
        check_same_features(self.features, name)
        self.reset()
        self.features = self.features or name
        self.count = int(state["count"])
        self._mean = state["mean"].cpu().double().clone()
        self._scatter = state["scatter"].cpu().double().clone()
        self.dim = len(self._mean) or None
        if "covariance" in state:
            self._given = state["covariance"].cpu().double().clone()

    def save(self, path: str | Path, info: Mapping[str, str] | None = None) -> None:
        """Write the statistics to a safetensors file, with features' name, count, resize and info in its metadata.

        Args:
            path: the file; written beside it first and then renamed, so it is whole or absent.
            info: further facts to keep, such as the dataset's name.

        Raises:
            ValueError: if there are fewer than two samples.

        """
        safetensors = import_extra("safetensors.torch", "eval")
        _ = self.covariance
        facts = {
            "format": _FORMAT,
            "features": self.features,
            "resize": self.resize,
            "count": self.count,
            "info": dict(info or self.info),
        }
        tensors = {key: value for key, value in self.state_dict().items() if key != "features"}
        data = safetensors.save(tensors, metadata={"passband": json.dumps(facts, sort_keys=True)})
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            partial.write_bytes(data)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(
        cls, path: str | Path, features: FeatureExtractor | str = "", *, name: str = "features"
    ) -> "FeatureStatistics":
        """Read statistics that `save` wrote, or an `.npz` with `mu` and `sigma` as EDM's code writes it.

        Nothing is unpickled.

        Args:
            path: the file.
            features: the extractor that they must come from, or its name. An `.npz` does not say which it was: give the
                name where you know it; without, it is compared with any features of its dimension.
            name: what the samples are called in errors.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it holds something else, or features of another extractor.

        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no feature statistics at {path}")
        if path.suffix == ".npz":
            return cls.from_moments(*_read_npz(path), features, name=name)
        facts, state = read_kept(path, _FORMAT, "feature statistics", "FeatureStatistics.save", extra="eval")
        check_same_features(features_name(features), facts["features"])
        result = cls(facts["features"] or features, name=name)
        result.load_state_dict({**state, "features": encode_text(result.features)})
        result.info = facts["info"]
        return result

    def _join(self, mean: Tensor, scatter: Tensor, count: int) -> None:
        if self.count == 0:
            self._mean, self._scatter = mean.clone(), scatter.clone()
        else:
            total = self.count + count
            delta = mean - self._mean
            self._mean = self._mean + delta * (count / total)
            # In place: these are the largest arrays here.
            self._scatter.add_(scatter).addr_(delta, delta, alpha=self.count * count / total)
        self.dim = len(mean)
        self.count += count

    def _check_open(self) -> None:
        if self._given is not None:
            raise ValueError(
                f"{self.name}: these statistics are a given mean and covariance without a count; nothing can be added"
            )


def _read_npz(path: Path) -> tuple[Tensor, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return torch.from_numpy(arrays["mu"]).double(), torch.from_numpy(arrays["sigma"]).double()
    except Exception as error:
        raise ValueError(f"{path} is no archive of numbers 'mu' and 'sigma' ({error}); compute it anew") from error
