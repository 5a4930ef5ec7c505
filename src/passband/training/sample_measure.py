"""Sets of samples measured by several processes: any number gives the same bits, and what was measured is kept."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from passband._files import written_whole
from passband._pool import run_tasks
from passband.metrics.sample_spectrum import MEASURED_SUFFIX
from passband.training.interrupt import stop_requested
from passband.training.measured_set import (
    Arrays,
    MeasuredSet,
    Measuring,
    law_stride,
    merge_measured,
    shown_numbers,
    skipped_from,
)
from passband.training.merge_tree import MergeTree
from passband.training.progress import OnProgress
from passband.training.sample_sets import Block, Reader, SampleSet

_PARTIAL_SUFFIX = ".partial.safetensors"
_SAVED_EVERY = 300.0  # seconds
#: A process takes some seconds to start, in which this many values are measured.
_WORTH_A_PROCESS = 2e8


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


def measure_sets(
    wanted: Sequence[Wanted],
    measuring: Measuring,
    *,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> list[MeasuredSet]:
    """Measure sets of samples, all in one pool of processes.

    Blocks of samples are measured apart and merged pairwise in the order of their numbers, so the results are the same
    bits for any number of workers. Memory does not grow with the number of samples. Where a set has a file to keep what
    was measured, a run that is stopped (Ctrl-C, SIGTERM) leaves its part there, and the same call goes on from it.

    Args:
        wanted: the sets.
        measuring: how they are measured.
        workers: processes; None: one for each core, if there is enough to do for them.
        on_progress: called after each block.

    Returns:
        What was measured, in the order of the sets.

    Raises:
        KeyboardInterrupt: when it was stopped.
        ValueError: if a sample cannot be measured, a set has none, or a file to be reused is of other samples.
        RuntimeError: if a process dies; what was measured is left as by a stop.

    """
    works = [_Work(each, measuring) for each in wanted]
    tasks = [_Task(i, number, work.wanted.blocks[number]) for i, work in enumerate(works) for number in work.missing()]
    job = (
        tuple(work.wanted.samples.reader for work in works),
        tuple(work.wanted.label for work in works),
        tuple(len(work.wanted.samples) for work in works),
        measuring,
    )
    with stop_requested() as stopping:
        results = run_tasks(_Measurer, job, tasks, _processes(workers, works))
        try:
            _put_together(works, results, stopping, on_progress)
        except (KeyboardInterrupt, RuntimeError):
            _save_parts(works)
            if stopping():  # by Ctrl-C, which ends a process that is still starting
                raise KeyboardInterrupt from None
            raise
    return [work.finish() for work in works]


def _put_together(
    works: Sequence["_Work"],
    results: Iterator["_Done"],
    stopping: Callable[[], bool],
    on_progress: OnProgress | None,
) -> None:
    last = time.monotonic()
    for done in results:
        works[done.work].add(done, on_progress)
        if stopping():
            raise KeyboardInterrupt
        if time.monotonic() - last > _SAVED_EVERY:
            _save_parts(works)
            last = time.monotonic()


def _save_parts(works: Sequence["_Work"]) -> None:
    for work in works:
        work.save_part()


class _Task(NamedTuple):
    work: int
    number: int
    block: Block


class _Done(NamedTuple):
    work: int
    number: int
    size: int
    arrays: Arrays
    skipped: list[tuple[str, str]]


class _Measurer:
    """Measures blocks; made once in each process."""

    def __init__(
        self,
        readers: Sequence[Reader],
        labels: Sequence[str],
        counts: Sequence[int],
        measuring: Measuring,
    ) -> None:
        self.readers, self.labels, self.measuring = readers, labels, measuring
        self.shown = [shown_numbers(count) for count in counts]
        self.law_every = [law_stride(count) for count in counts]

    def __call__(self, task: _Task) -> _Done:
        """What was measured of a block."""
        reader, shown, law_every = self.readers[task.work], self.shown[task.work], self.law_every[task.work]
        known = len(reader.skipped)
        measured = MeasuredSet(self.labels[task.work], self.measuring)
        with _one_thread():  # processes share the cores, and more threads would add up in another order
            for chunk in reader.read(task.block):
                measured.update(chunk, shown, law_every)
        skipped = [(each.name, each.reason) for each in reader.skipped[known:]]
        return _Done(task.work, task.number, task.block.size, measured.arrays(), skipped)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Work:
    """A set while it is measured: what has been put together so far."""

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

    def add(self, done: _Done, on_progress: OnProgress | None) -> None:
        """Add a block."""
        part = MeasuredSet(self.wanted.label, self.measuring).load_arrays(done.arrays)
        part.skipped = skipped_from(done.skipped)
        self.tree.add(done.number, part)
        self.done += done.size
        if on_progress is not None:
            on_progress(f"{self.wanted.name}: measuring", self.done, self.total)

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


def _processes(workers: int | None, works: Sequence[_Work]) -> int:
    if workers is not None:
        return workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    values = sum((work.total - work.done) * math.prod(work.wanted.samples.shape) for work in works if not work.kept)
    return max(1, min(cores, int(values / _WORTH_A_PROCESS)))


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
