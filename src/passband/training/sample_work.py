"""A set of samples while it is measured: its blocks, what has been put together, and the files that keep that."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from passband._files import written_whole
from passband.metrics.sample_spectrum import MEASURED_SUFFIX
from passband.training.measured_set import Arrays, MeasuredSet, Measuring, merge_measured, skipped_from
from passband.training.merge_tree import MergeTree
from passband.training.sample_sets import Block, SampleSet

_PARTIAL_SUFFIX = ".partial.safetensors"


@dataclass(frozen=True)
class Wanted:
    """A set that is to be measured.

    Args:
        name: what it is called: "real", "fake".
        samples: the set.
        keep: the file that keeps what was measured, and gives it back where nothing has changed; None: none.
        share: (I, N): only the Ith of N shares of the blocks.
        must_fit: raise where the file was measured on other samples, instead of measuring again.
        block: samples that are measured at once; results differ in their rounding only.

    """

    name: str
    samples: SampleSet
    keep: Path | None = None
    share: tuple[int, int] = (1, 1)
    must_fit: bool = False
    block: int = 64
    blocks: list[Block] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        index, count = self.share
        object.__setattr__(self, "blocks", self.samples.blocks(self.block)[index - 1 :: count])

    @property
    def label(self) -> str:
        """What the samples are called in errors: "fake images"."""
        return f"{self.name} {'clips' if self.samples.sample_rate else self.samples.kind}"

    def facts(self, measuring: Measuring) -> dict[str, Any]:
        """What the measurement depends on."""
        asked = {"path": self.samples.path, "share": list(self.share), "block": self.block, **asdict(measuring)}
        facts: dict[str, Any] = json.loads(json.dumps(self.samples.facts() | asked))  # as it is read again
        return facts


class MeasuredBlock(NamedTuple):
    """What was measured of a block, as it comes from the process that measured it.

    Attributes:
        number: of the block in its set.
        size: samples in it, those of broken files included.
        arrays: what `MeasuredSet.arrays` gives.
        skipped: (name, reason) of each file that could not be used.

    """

    number: int
    size: int
    arrays: Arrays
    skipped: list[tuple[str, str]]


class Work:
    """A set while it is measured: what has been put together so far.

    Args:
        wanted: the set.
        measuring: how it is measured.

    Attributes:
        kept: all of it, where a file has it already; None: it must be measured.
        tree: the parts that have been put together.
        done: how many samples they hold.

    """

    def __init__(self, wanted: Wanted, measuring: Measuring) -> None:
        self.wanted, self.measuring = wanted, measuring
        self.tree = MergeTree(len(wanted.blocks), merge_measured)
        self.facts = wanted.facts(measuring)
        self.kept = self._reused()
        self.done = 0
        if self.kept is None and self._partial is not None:
            self.tree.restore(self._restored(self._partial))

    def missing(self) -> list[int]:
        """The blocks that must be measured."""
        if self.kept is not None:
            return []
        found = self.tree.missing()
        self.done = self.total - sum(self.wanted.blocks[number].size for number in found)
        return found

    def add(self, block: MeasuredBlock) -> None:
        """Add what was measured of a block."""
        part = MeasuredSet(self.wanted.label, self.measuring).load_arrays(block.arrays)
        part.skipped = skipped_from(block.skipped)
        self.tree.add(block.number, part)
        self.done += block.size

    def finish(self) -> MeasuredSet:
        """The whole set, written to its file."""
        if self.kept is not None:
            return self.kept
        measured = self.tree.whole if self.wanted.blocks else MeasuredSet(self.wanted.label, self.measuring)
        if not measured.count:
            raise ValueError(_nothing(self.wanted, measured))
        found = self.wanted.samples.left_out  # of which a page of what was measured tells too
        measured.skipped = [*found, *(each for each in measured.skipped if each not in found)]
        if self.wanted.keep is not None:
            measured.save(self.wanted.keep, self.facts)
        if self._partial is not None:
            self._partial.unlink(missing_ok=True)
        return measured

    def save_part(self) -> None:
        """Write what is there to a file, for the next call."""
        if self._partial is None or self.kept is not None or not self.tree.nodes:
            return
        arrays: dict[str, NDArray[Any]] = {}
        skipped: dict[str, list[Any]] = {}
        for (level, number), part in self.tree.nodes.items():
            arrays |= {f"{level}.{number}/{key}": value for key, value in part.arrays().items()}
            skipped[f"{level}.{number}"] = part.skipped
        note = json.dumps({"facts": self.facts, "skipped": skipped})
        with written_whole(self._partial) as partial:
            save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, partial, {"passband": note})

    @property
    def _partial(self) -> Path | None:
        keep = self.wanted.keep
        return None if keep is None else keep.with_name(keep.name.removesuffix(MEASURED_SUFFIX) + _PARTIAL_SUFFIX)

    @property
    def total(self) -> int:
        """Samples of all blocks."""
        return sum(block.size for block in self.wanted.blocks)

    def _reused(self) -> MeasuredSet | None:
        if self.wanted.keep is None or not self.wanted.keep.is_file():
            return None
        try:
            measured, facts = MeasuredSet.load(self.wanted.keep, self.wanted.label)
        except ValueError:
            if self.wanted.must_fit:
                raise
            return None
        if facts != self.facts and self.wanted.must_fit:
            raise ValueError(_differing(self.wanted.keep, facts, self.facts))
        return measured if facts == self.facts else None

    def _restored(self, path: Path) -> Mapping[tuple[int, int], MeasuredSet]:
        """The nodes in a file of `save_part`; none where it is of other samples, or cannot be read."""
        try:
            with safe_open(path, "np") as file:
                note = json.loads(file.metadata()["passband"])
                if note["facts"] != self.facts:
                    return {}
                arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (no mapping)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return {}
        nodes = {}
        for name, skipped in note["skipped"].items():
            own = {key.removeprefix(f"{name}/"): value for key, value in arrays.items() if key.startswith(f"{name}/")}
            part = MeasuredSet(self.wanted.label, self.measuring).load_arrays(own)
            part.skipped = skipped_from(skipped)
            level, _, number = name.partition(".")
            nodes[int(level), int(number)] = part
        return nodes


def _nothing(wanted: Wanted, measured: MeasuredSet) -> str:
    if not wanted.blocks:
        index, count = wanted.share
        return (
            f"share {index} of {count} holds none of the {len(wanted.samples)} samples of {wanted.samples.path!r}: "
            "take fewer shares, or smaller blocks (--batch-size)"
        )
    first = measured.skipped[0] if measured.skipped else ("", "there are none")
    return (
        f"none of the {wanted.label} in {wanted.samples.path!r} can be used; {len(measured.skipped)} were left out, "
        f"the first is {first[0]!r}: {first[1]}"
    )


def _differing(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    keys = [key for key in new if old.get(key) != new[key]]
    found = "; ".join(f"{key} {old.get(key)!r}, not {new[key]!r}" for key in keys)
    return (
        f"{str(path)!r} was measured on other samples, or otherwise: {found}; choose another file, or delete it to "
        "measure again"
    )
