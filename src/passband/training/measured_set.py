"""What was measured of a set of samples: its spectrum, its power law, a few pictures, and the file that keeps them."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from passband.data import Skipped, from_uint8, to_uint8
from passband.metrics import PowerLawMeasure, PowerLawResult, SampleSpectrum
from passband.metrics.planes import SampleKind
from passband.training.sample_sets import Chunk
from passband.transforms.taper import Taper

#: How many samples are shown as pictures.
THUMBNAILS = 24
#: How many samples the power law is measured on at most, about: its error is far below 1 % with these.
OF_LAW = 4096
_KEY = "compare"  # of what compare adds to a file of SampleSpectrum
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Measuring:
    """How samples are measured.

    Args:
        kind: "images", "latents" or "signals".
        taper: see [`SampleSpectrum`][passband.metrics.SampleSpectrum], as are replicates and seed.
        replicates: of the bootstrap.
        seed: of the bootstrap.
        window: side of the windows in which the power law is measured; None: whole samples.
        sample_rate: of audio, Hz.

    """

    kind: SampleKind = "images"
    taper: Taper = "hann"
    replicates: int = 200
    seed: int = 0
    window: int | None = None
    sample_rate: int | None = None


class MeasuredSet:
    """What was measured of a set of samples.

    Args:
        name: what the samples are called in errors.
        measuring: how they are measured.

    Attributes:
        spectrum: what the report compares.
        law: the power law, for the fronts of Spectral Forcing.
        shown: a few samples by number: 8-bit pixels.
        skipped: files that could not be used, with the reasons.

    """

    def __init__(self, name: str, measuring: Measuring) -> None:
        self.name, self.measuring = name, measuring
        options = {key: value for key, value in asdict(measuring).items() if key != "window"}
        self.spectrum = SampleSpectrum(name, **options)
        self.law = PowerLawMeasure(window=measuring.window, name=name)
        self.shown: dict[int, Tensor] = {}
        self.skipped: list[Skipped] = []

    @property
    def count(self) -> int:
        """The number of samples."""
        return self.spectrum.count

    @property
    def thumbnails(self) -> Tensor | None:
        """A few images in [-1, 1], spread evenly; None of what is no image."""
        shown = [self.shown[number] for number in sorted(self.shown)]
        return from_uint8(torch.stack(shown[:THUMBNAILS])) if shown else None

    @property
    def has_law(self) -> bool:
        """Whether the power law was measured too; a file of SampleSpectrum has none."""
        return self.law.count > 0

    def law_or_reason(self) -> PowerLawResult | str:
        """The power law, or why there is none."""
        try:
            return self.law.compute()
        except ValueError as error:
            return str(error)

    def update(self, chunk: Chunk, shown: Collection[int] = (), law_every: int = 1) -> None:
        """Add some samples.

        Args:
            chunk: the samples.
            shown: the numbers of those that are kept to be seen.
            law_every: measure the power law on those whose number is a multiple of this.

        Raises:
            ValueError: if a sample is not finite, or the window does not divide them.

        """
        self.spectrum.update(chunk.samples, chunk.keys)
        if self.measuring.kind == "signals":  # Spectral Forcing, whose fronts the law is for, acts on images
            return
        of_law = [place for place, number in enumerate(chunk.numbers) if number % law_every == 0]
        if of_law:
            self.law.update(chunk.samples if law_every == 1 else chunk.samples[of_law])
        if self.measuring.kind != "images":
            return
        for place, number in enumerate(chunk.numbers):
            if number in shown:
                self.shown[number] = to_uint8(chunk.samples[place])

    def merge(self, other: "MeasuredSet") -> "MeasuredSet":
        """Add what another one holds, and return self.

        Raises:
            ValueError: if it was measured otherwise, or on samples of another shape.

        """
        self.spectrum.merge(other.spectrum)
        self.law.merge(other.law)
        self.shown |= other.shown
        self.skipped += [each for each in other.skipped if each not in self.skipped]
        return self

    def arrays(self) -> Arrays:
        """All of it as arrays, for another process."""
        return {key: value.numpy() for key, value in self._state().items()}

    def load_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> "MeasuredSet":
        """Replace it by what `arrays` gave."""
        return self._load({key: torch.from_numpy(np.asarray(value)) for key, value in arrays.items()})

    def save(self, path: Path, facts: Mapping[str, Any]) -> Path:
        """Write it to a file that [`SampleSpectrum.load`][passband.metrics.SampleSpectrum.load] reads too.

        Args:
            path: the file, whose name ends in .spectrum.safetensors.
            facts: what it depends on, for `load`.

        """
        info = {_KEY: json.dumps({"facts": dict(facts), "window": self.measuring.window, "skipped": self.skipped})}
        return self.spectrum.save(path, info, extra=self._beside())

    @classmethod
    def load(cls, path: Path, name: str) -> tuple["MeasuredSet", dict[str, Any]]:
        """Read a file that `save` or [`SampleSpectrum.save`][passband.metrics.SampleSpectrum.save] wrote.

        Returns:
            What was measured, and the facts given to `save`; none of those that `SampleSpectrum.save` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is damaged, or holds something else.

        """
        spectrum = SampleSpectrum.load(path, name=name)
        note = json.loads(spectrum.info.pop(_KEY, "{}"))
        settings = {key: value for key, value in spectrum.settings.items() if key != "probes"}
        measured = cls(name, Measuring(**settings, window=note.get("window")))
        try:
            with safe_open(path, "pt") as file:
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (no mapping)
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{str(path)!r} cannot be read ({error}): measure the samples again") from error
        measured._load(state)
        measured.skipped = [Skipped(*each) for each in note.get("skipped", ())]
        return measured, dict(note.get("facts", {}))

    def _state(self) -> dict[str, Tensor]:
        return self.spectrum.state_dict() | self._beside()

    def _beside(self) -> dict[str, Tensor]:
        return {
            **{f"law.{key}": value for key, value in self.law.state_dict().items()},
            **{f"shown.{number}": pixels for number, pixels in self.shown.items()},
        }

    def _load(self, state: Mapping[str, Tensor]) -> "MeasuredSet":
        self.spectrum.load_state_dict(state)
        self.law.load_state_dict(_part(state, "law."))
        self.shown = {int(number): pixels for number, pixels in _part(state, "shown.").items()}
        return self


def merge_measured(low: MeasuredSet, high: MeasuredSet) -> MeasuredSet:
    """Two neighbours together."""
    return low.merge(high)


def shown_numbers(count: int) -> frozenset[int]:
    """The numbers of the samples that are shown, spread evenly over all of them."""
    return frozenset(round(i * (count - 1) / (THUMBNAILS - 1)) for i in range(THUMBNAILS))


def law_stride(count: int) -> int:
    """Of how many samples one is measured for the power law."""
    return max(1, -(-count // OF_LAW))


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def skipped_from(pairs: Sequence[Sequence[str]]) -> list[Skipped]:
    """Files that were left out, as they were sent or read."""
    return [Skipped(*pair) for pair in pairs]
