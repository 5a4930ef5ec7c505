"""One set of images, measured once for all metrics: streamed, shared among processes, and kept in a file."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from passband._files import write_file
from passband.data import from_uint8
from passband.metrics import FeatureExtractor, FeatureStatistics, FeatureStore, InceptionScore, MeanPSD
from passband.training.draw import split
from passband.training.ranks import Ranks

#: Reads the pixels of an image by its number; None where it cannot be used.
Read = Callable[[int], Tensor | None]
#: Called with (images measured, images in all).
OnMeasured = Callable[[int, int], None]

THUMBNAILS = 24
_FORMAT = "passband measured images 1"


class Features:
    """The features of a set of images by one extractor: statistics of two halves, and what else metrics ask for.

    Args:
        name: the extractor's name.
        store: whether to keep the features themselves, for metrics that compare each image with every other.
        scored: whether the extractor's classifier is asked too.

    """

    def __init__(self, name: str, *, store: bool, scored: bool) -> None:
        self.name = name
        self.halves = FeatureStatistics(name), FeatureStatistics(name)
        self.store = FeatureStore(name) if store else None
        self.score = InceptionScore(name) if scored else None

    @property
    def statistics(self) -> FeatureStatistics:
        """Those of all images."""
        return FeatureStatistics(self.name).merge(self.halves[0]).merge(self.halves[1])

    def update(self, features: Tensor, logits: Tensor | None, indices: Tensor) -> None:
        """Add the images of these numbers; the even ones belong to the first half."""
        for odd, half in enumerate(self.halves):
            half.update(features[indices % 2 == odd])
        if self.store is not None:
            self.store.update(features, indices)
        if self.score is not None and logits is not None:
            self.score.update(logits, indices)

    def state_dict(self) -> dict[str, Tensor]:
        """The statistics, and the features where they are kept."""
        state = {
            f"half{i}.{key}": value for i, half in enumerate(self.halves) for key, value in half.state_dict().items()
        }
        kept = {} if self.store is None else self.store.state_dict()
        return state | {f"store.{key}": value for key, value in kept.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace the state by one of `state_dict`."""
        for i, half in enumerate(self.halves):
            half.load_state_dict(_part(state, f"half{i}."))
        if self.store is not None:
            self.store.load_state_dict(_part(state, "store."))


class Measured:
    """What is known of a set of images.

    Args:
        name: "real" or "fake", for errors.
        extractors: what turns images into features.
        store: whether to keep the features themselves.
        scored: whether to ask the classifiers of extractors that have one.

    Attributes:
        psd: the mean power spectra of two halves.
        features: one for each extractor, in their order.
        thumbnails: a few images, in [-1, 1].
        notes: warnings about the set.

    """

    def __init__(
        self, name: str, extractors: Sequence[FeatureExtractor], *, store: bool = False, scored: bool = False
    ) -> None:
        self.psd = MeanPSD(f"{name} images"), MeanPSD(f"{name} images")
        self.features = [Features(e.name, store=store, scored=scored and e.has_logits) for e in extractors]
        self.shown: dict[int, Tensor] = {}
        self.notes: list[str] = []

    @property
    def count(self) -> int:
        """The number of images."""
        return self.psd[0].count + self.psd[1].count

    @property
    def thumbnails(self) -> Tensor:
        """A few images, spread evenly."""
        return from_uint8(torch.stack([self.shown[i] for i in sorted(self.shown)]))

    def add(self, block: "Block") -> None:
        """Add some images."""
        for i, state in enumerate(block.psd):
            part = MeanPSD()
            part.load_state_dict(state)
            self.psd[i].merge(part)
        indices = torch.tensor(block.indices)
        for features, values, logits in zip(self.features, block.features, block.logits, strict=True):
            features.update(values, logits, indices)
        self.shown |= block.shown

    def save(self, path: Path, facts: Mapping[str, Any]) -> None:
        """Write it to a safetensors file, whole or not at all, with facts that `load` compares."""
        state = {f"psd{i}.{key}": value for i, psd in enumerate(self.psd) for key, value in psd.state_dict().items()}
        for i, features in enumerate(self.features):
            state |= {f"features{i}.{key}": value for key, value in features.state_dict().items()}
        state |= {f"shown.{index}": pixels for index, pixels in self.shown.items()}
        content = {"format": _FORMAT, "facts": dict(facts), "notes": self.notes}
        data = save({k: v.contiguous() for k, v in state.items()}, metadata={"passband": json.dumps(content)})
        write_file(path, data)

    def load(self, path: Path, facts: Mapping[str, Any]) -> None:
        """Read what `save` wrote.

        Raises:
            ValueError: if the file is damaged, or was written for other facts.

        """
        content, state = _read(path)
        differing = [f"{key} {content['facts'].get(key)!r}, not {value!r}" for key, value in facts.items()
                     if content["facts"].get(key) != value]  # fmt: skip
        if differing:
            raise ValueError(
                f"the real statistics {str(path)!r} are of other images or features: {'; '.join(differing)}; choose "
                "another file, or delete it to measure again"
            )
        for i, psd in enumerate(self.psd):
            psd.load_state_dict(_part(state, f"psd{i}."))
        for i, features in enumerate(self.features):
            features.load_state_dict(_part(state, f"features{i}."))
        self.shown = {int(key): pixels for key, pixels in _part(state, "shown.").items()}
        self.notes = list(content["notes"])


class Block(NamedTuple):
    """Some images, measured by one process."""

    indices: list[int]
    psd: tuple[dict[str, Tensor], dict[str, Tensor]]
    features: list[Tensor]
    logits: list[Tensor | None]
    shown: dict[int, Tensor]


def measure(
    measured: Measured,
    extractors: Sequence[FeatureExtractor],
    read: Read,
    count: int,
    *,
    batch_size: int,
    ranks: Ranks,
    on_measured: OnMeasured | None = None,
) -> None:
    """Add images 0 to count - 1 to what the first process has measured.

    Each batch is measured by one process, and the batches are put together in their order: the result is the same bits
    for any number of processes.

    Args:
        measured: what to add to; filled in the first process alone.
        extractors: those that `measured` was made with.
        read: gives the pixels of an image, or None where it cannot be used.
        count: the number of images.
        batch_size: images at once.
        ranks: the processes that share the work, of which this is one; all must call this.
        on_measured: called after each turn.

    """
    shown = {round(i * (count - 1) / (THUMBNAILS - 1)) for i in range(THUMBNAILS)}
    scored = [features.score is not None for features in measured.features]
    batches = split(range(count), batch_size)
    done = 0
    for turn in range(0, len(batches), ranks.count):
        if on_measured is not None:
            on_measured(done, count)
        now = batches[turn : turn + ranks.count]
        mine = now[ranks.index] if ranks.index < len(now) else ()
        for block in ranks.gather(_measure(mine, extractors, scored, read, shown, ranks.device)):
            if block is not None and ranks.is_first:
                measured.add(block)
        done += sum(map(len, now))
    if on_measured is not None:
        on_measured(done, count)


def _measure(
    numbers: Sequence[int],
    extractors: Sequence[FeatureExtractor],
    scored: Sequence[bool],
    read: Read,
    shown: set[int],
    device: torch.device,
) -> Block | None:
    found = [(number, pixels) for number in numbers if (pixels := read(number)) is not None]
    if not found:
        return None
    indices = [number for number, _ in found]
    pixels = torch.stack([image for _, image in found])
    if 0 in numbers:  # whatever is broken, the set shows an image
        shown = shown | {indices[0]}
    return Block(
        indices,
        _psd_states(pixels.to(device), torch.tensor(indices, device=device)),
        [extractor(pixels).cpu() for extractor in extractors],
        [e.logits(pixels).cpu() if asked else None for e, asked in zip(extractors, scored, strict=True)],
        {number: image for number, image in found if number in shown},
    )


def _psd_states(
    pixels: UInt8[Tensor, "batch channels height width"], indices: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    halves = MeanPSD(), MeanPSD()
    for odd, half in enumerate(halves):
        chosen = pixels[indices % 2 == odd]
        if len(chosen):
            half.update(from_uint8(chosen))
    return halves[0].state_dict(), halves[1].state_dict()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            content = json.loads((file.metadata() or {}).get("passband", "{}"))
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (no mapping)
    except (OSError, SafetensorError, ValueError) as error:
        raise ValueError(f"the real statistics {str(path)!r} cannot be read ({error}): delete that file") from error
    if content.get("format") != _FORMAT:
        raise ValueError(f"{str(path)!r} holds no real statistics that `passband evaluate` wrote: choose another file")
    return content, state


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
