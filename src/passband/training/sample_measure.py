"""Sets of samples measured by several processes: any number gives the same bits, and what was measured is kept."""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch

from passband._pool import run_tasks
from passband.training.interrupt import stop_requested
from passband.training.measured_set import MeasuredSet, Measuring, law_stride, shown_numbers
from passband.training.progress import OnProgress
from passband.training.sample_sets import Block, Reader
from passband.training.sample_work import MeasuredBlock, Wanted, Work

_SAVED_EVERY = 300.0  # seconds
#: A process takes some seconds to start, in which this many values are measured.
_WORTH_A_PROCESS = 2e8


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
    works = [Work(each, measuring) for each in wanted]
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
    works: Sequence[Work],
    results: Iterator["_Done"],
    stopping: Callable[[], bool],
    on_progress: OnProgress | None,
) -> None:
    last = time.monotonic()
    for done in results:
        work = works[done.work]
        work.add(done.block)
        if on_progress is not None:
            on_progress(f"{work.wanted.name}: measuring", work.done, work.total)
        if stopping():
            raise KeyboardInterrupt
        if time.monotonic() - last > _SAVED_EVERY:
            _save_parts(works)
            last = time.monotonic()


def _save_parts(works: Sequence[Work]) -> None:
    for work in works:
        work.save_part()


class _Task(NamedTuple):
    work: int
    number: int
    block: Block


class _Done(NamedTuple):
    work: int
    block: MeasuredBlock


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
        return _Done(task.work, MeasuredBlock(task.number, task.block.size, measured.arrays(), skipped))


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _processes(workers: int | None, works: Sequence[Work]) -> int:
    if workers is not None:
        return workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    values = sum((work.total - work.done) * math.prod(work.wanted.samples.shape) for work in works if not work.kept)
    return max(1, min(cores, int(values / _WORTH_A_PROCESS)))
