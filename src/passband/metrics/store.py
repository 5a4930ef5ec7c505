"""Features kept for the metrics that compare every sample with every other: bounded, and independent of the order."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from passband._checks import check_floating, check_integer, import_extra
from passband.metrics.features import FeatureExtractor
from passband.metrics.sides import RealAndFake

DEFAULT_SAMPLES = 50_000


def features_name(features: FeatureExtractor | str) -> str:
    """The name of an extractor, or the name itself."""
    return features.name if isinstance(features, FeatureExtractor) else features


def resize_of(features: str) -> str:
    """What a name of features says of the resize."""
    return features.rpartition("resize ")[2] if "resize " in features else "not stated"


def check_same_features(a: str, b: str) -> None:
    """Raise ValueError unless both names are one, or one of them is empty (not known)."""
    if a and b and a != b:
        raise ValueError(f"these are different features, which cannot be compared:\n  {a}\n  {b}\nuse one extractor")


def check_features(name: str, x: Tensor, *, dim: int | None, seen: int, batch: int) -> None:
    """Raise unless x has shape (batch, dim), is floating and finite; the message names the batch.

    Args:
        name: what the features are called.
        x: the features.
        dim: number of features that came before; None at first.
        seen: number of samples that came before.
        batch: number of batches that came before.

    """
    check_floating(name, x)
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"{name} must have shape (batch, dim), got {tuple(x.shape)}")
    if dim is not None and x.shape[1] != dim:
        raise ValueError(f"{name} must all have {dim} features, got {x.shape[1]}; use one extractor for all samples")
    if x.isfinite().all():
        return
    bad = (~x.isfinite().all(1)).nonzero().flatten().tolist()
    raise ValueError(
        f"{name} must be finite; batch {batch} (samples {seen} to {seen + len(x) - 1}) has {len(bad)} that are not, "
        f"the first at index {bad[0]} of the batch; look at that sample, or leave it out"
    )


def encode_text(text: str) -> Tensor:
    """A string as a tensor of bytes, so that a state is tensors only."""
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def decode_text(data: Tensor) -> str:
    """The string of `encode_text`."""
    return bytes(data.tolist()).decode()


def read_kept(path: Path, kind: str, what: str, writer: str, *, extra: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The facts and the tensors of a safetensors file that a measure wrote.

    Args:
        path: the file.
        kind: the format that its facts must name.
        what: what it holds, in errors.
        writer: what writes such a file, in errors.
        extra: the extra that brings safetensors.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or holds something else.

    """
    safetensors = import_extra("safetensors", extra)
    if not path.is_file():
        raise FileNotFoundError(f"no {what} at {path}")
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("passband", "null"))
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (the file is no mapping)
    except (safetensors.SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no whole file of {what} ({error}); compute it anew") from error
    if not isinstance(facts, dict) or facts.get("format") != kind:
        raise ValueError(f"{path} holds no {what}; write one with {writer}")
    return facts, state


def take_state(name: str, state: Mapping[str, Tensor], keys: set[str]) -> None:
    """Raise ValueError unless the state has all keys."""
    if missing := keys - set(state):
        raise ValueError(f"not a state of {name}: it lacks {sorted(missing)}, it holds {sorted(state)}")


def sample_indices(indices: Int64[Tensor, " batch"] | Sequence[int] | None, count: int, start: int) -> Tensor:
    """The samples' global indices, int64 on the CPU; None counts on from start."""
    if indices is None:
        return torch.arange(start, start + count)
    result = torch.as_tensor(indices).cpu()
    if result.dtype != torch.int64 or result.shape != (count,):
        raise ValueError(
            f"indices must be {count} integers, one per sample, got {result.dtype} of shape {tuple(result.shape)}"
        )
    return result


class FeatureStore:
    """At most `max_samples` feature vectors of a stream, in float32 on the CPU: a uniform random choice of all.

    The choice depends on the seed and the samples' global indices only (those with the smallest hashes stay), not on
    their order, the batches or the ranks; up to `max_samples` all are kept. The features come back sorted by index.

    Memory: 4 · dim bytes per kept sample, for a moment up to twice that: 50,000 Inception features are 410 MB.

    Args:
        features: the extractor, or its name.
        name: what the samples are called in errors.
        max_samples: how many are kept at most.
        seed: of the choice.

    Raises:
        TypeError: if an option is of the wrong type.
        ValueError: if max_samples is below 1.

    Example:
        >>> import torch
        >>> from passband.metrics import FeatureStore
        >>> store = FeatureStore(max_samples=10)
        >>> for _ in range(4):
        ...     store.update(torch.randn(8, 3))
        >>> store.count, tuple(store.features.shape)
        (32, (10, 3))

    """

    def __init__(
        self,
        features: FeatureExtractor | str = "",
        *,
        name: str = "features",
        max_samples: int = DEFAULT_SAMPLES,
        seed: int = 0,
    ) -> None:
        check_integer("max_samples", max_samples)
        check_integer("seed", seed)
        if max_samples < 1:
            raise ValueError(f"max_samples must be at least 1, got {max_samples}")
        self.features_name = features_name(features)
        self.name, self.max_samples, self.seed = name, max_samples, seed
        self.reset()

    def reset(self) -> None:
        """Forget all samples."""
        self.count = 0
        self.dim: int | None = None
        self._batches = 0
        self._kept = 0
        self._rows: list[Tensor] = []
        self._indices: list[Tensor] = []

    def update(
        self,
        features: Float[Tensor, "batch dim"],
        indices: Int64[Tensor, " batch"] | Sequence[int] | None = None,
    ) -> None:
        """Add a batch.

        Args:
            features: (batch, dim).
            indices: the samples' global indices, each at most once over all batches and ranks. None counts on from the
                number of samples seen, which is right for one process only.

        Raises:
            TypeError: if the features are not floating.
            ValueError: if their shape is wrong or a value is not finite; nothing is added then.

        """
        check_features(self.name, features, dim=self.dim, seen=self.count, batch=self._batches)
        numbers = sample_indices(indices, len(features), self.count)
        self._add(features.detach().to("cpu", torch.float32, copy=True), numbers, len(features))
        self._batches += 1

    def merge(self, other: "FeatureStore") -> "FeatureStore":
        """Add what another one has seen (another rank's, for instance), and return self.

        Raises:
            ValueError: if the features, max_samples or seed differ.

        """
        check_same_features(self.features_name, other.features_name)
        if (self.max_samples, self.seed) != (other.max_samples, other.seed):
            raise ValueError(
                f"both must have one max_samples and seed, got {self.max_samples}, {self.seed} and "
                f"{other.max_samples}, {other.seed}"
            )
        if other.dim is not None:
            state = other.state_dict()
            if self.dim not in (None, other.dim):
                raise ValueError(f"{self.name} must all have {self.dim} features, got {other.dim}")
            self._add(state["features"], state["indices"], other.count)
            self.features_name = self.features_name or other.features_name
        return self

    @property
    def features(self) -> Float32[Tensor, "kept dim"]:
        """The features kept, sorted by index.

        Raises:
            ValueError: before the first sample, or if an index came twice.

        """
        if self.dim is None:
            raise ValueError(f"there are no {self.name} yet; call update with at least one batch first")
        return self._compact()[0]

    def state_dict(self) -> dict[str, Tensor]:
        """The state as tensors, to save or to send to another rank."""
        rows, indices = self._compact() if self.dim is not None else (torch.zeros(0, 0), torch.zeros(0).long())
        return {
            "features": rows.clone(),
            "indices": indices.clone(),
            "count": torch.tensor(self.count),
            "max_samples": torch.tensor(self.max_samples),
            "seed": torch.tensor(self.seed),
            "name": encode_text(self.features_name),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace the state by one of [`state_dict`][passband.metrics.FeatureStore.state_dict]."""
        take_state(type(self).__name__, state, {"features", "indices", "count", "max_samples", "seed", "name"})
        name = decode_text(state["name"])
        check_same_features(self.features_name, name)
        self.reset()
        self.features_name = self.features_name or name
        self.max_samples, self.seed = int(state["max_samples"]), int(state["seed"])
        if state["features"].shape[1]:
            self._add(state["features"].cpu(), state["indices"].cpu(), int(state["count"]))

    def _add(self, rows: Tensor, indices: Tensor, count: int) -> None:
        self.dim = rows.shape[1]
        self.count += count
        self._kept += len(rows)
        self._rows.append(rows)
        self._indices.append(indices)
        if self._kept > 2 * self.max_samples:
            self._compact()

    def _compact(self) -> tuple[Tensor, Tensor]:
        """One tensor of the rows that stay, and their indices, both sorted by index."""
        indices = torch.cat(self._indices)
        order = indices.argsort(stable=True)
        indices = indices[order]
        if (indices[1:] == indices[:-1]).any():
            twice = int(indices[1:][indices[1:] == indices[:-1]][0])
            raise ValueError(
                f"{self.name}: sample {twice} came twice; with several processes, give update the global indices, "
                "and leave out the samples that fill up the last batch"
            )
        if len(indices) > self.max_samples:
            # The sample with the smallest hashes, whatever was dropped before: all dropped ones had larger hashes.
            keep = torch.from_numpy(_hash(indices.numpy(), self.seed)).argsort()[: self.max_samples].sort().values
            order, indices = order[keep], indices[keep]
        if len(self._rows) > 1 or len(order) < len(self._rows[0]) or not bool((order[1:] > order[:-1]).all()):
            self._rows = [torch.cat(self._rows)[order]]
        self._indices = [indices]
        self._kept = len(indices)
        return self._rows[0], indices


def _hash(indices: np.ndarray, seed: int) -> np.ndarray:
    """A pseudo-random rank for every index, int64: splitmix64, distinct for distinct indices."""
    with np.errstate(over="ignore"):
        x = indices.astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) % 2**64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return x.view(np.int64)


class StorePair(RealAndFake):
    """Real and generated features of one extractor, kept side by side; the base of the metrics that need both.

    Args:
        features: the extractor, or its name.
        max_samples: how many samples are kept on each side, at most.
        seed: of the choice of samples, and of what a metric draws.

    """

    real: FeatureStore
    fake: FeatureStore

    def __init__(self, features: FeatureExtractor | str = "", *, max_samples: int, seed: int = 0) -> None:
        self.features_name = features_name(features)
        self.seed = seed
        self.real = FeatureStore(features, name="real features", max_samples=max_samples, seed=seed)
        self.fake = FeatureStore(features, name="fake features", max_samples=max_samples, seed=seed)

    def update(
        self,
        *,
        real: Float[Tensor, "batch dim"] | None = None,
        fake: Float[Tensor, "other dim"] | None = None,
        real_indices: Int64[Tensor, " batch"] | Sequence[int] | None = None,
        fake_indices: Int64[Tensor, " other"] | Sequence[int] | None = None,
    ) -> None:
        """Add the features of a batch of real samples, of generated ones, or of both.

        Args:
            real: features of real samples, (batch, dim).
            fake: features of generated samples, likewise; their number may differ.
            real_indices: global indices of the real samples, needed with several processes, see
                [`FeatureStore`][passband.metrics.FeatureStore].
            fake_indices: the same of the generated samples.

        Raises:
            TypeError: if the features are not floating.
            ValueError: if their shape is wrong or a value is not finite.

        """
        if real is not None:
            self.real.update(real, real_indices)
        if fake is not None:
            self.fake.update(fake, fake_indices)

    def kept(self, needed: int, metric: str, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Real and generated features, in float32 on a device, at least `needed` of each."""
        for store in (self.real, self.fake):
            check_enough(metric, store.name, store.count, needed)
        real, fake = self.real.features, self.fake.features
        if real.shape[1] != fake.shape[1]:
            raise ValueError(
                f"real and fake features must have one dimension, got {real.shape[1]} and {fake.shape[1]}; "
                "use one extractor for both"
            )
        return real.to(device), fake.to(device)


def check_enough(metric: str, name: str, count: int, needed: int) -> None:
    """Raise ValueError if there are fewer samples than a metric needs."""
    if count < needed:
        raise ValueError(f"{metric} needs at least {needed} {name}, got {count}; add samples with update")
