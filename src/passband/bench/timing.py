"""Times of calls that take turns in one process."""

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

LEAST_TURN = 1e-3
"""Seconds: a shorter call is repeated within its turn until the clock can be trusted."""

FEWEST, MOST = 5, 201
"""Turns that a budget of seconds may give."""


class Call(NamedTuple):
    """What is timed: a forward call, and a backward one of what it returned.

    Attributes:
        forward: called without arguments.
        backward: called with what `forward` returned; None where there is nothing to do.

    """

    forward: Callable[[], Any]
    backward: Callable[[Any], object] | None = None

    def __call__(self) -> None:
        """Run both."""
        result = self.forward()
        if self.backward is not None:
            self.backward(result)


@dataclass
class Timing:
    """What a call took, in seconds, one number per turn.

    Attributes:
        total: forward and backward together.
        forward: the forward call alone.
        calls: calls per turn; the numbers are of one.

    """

    total: list[float] = field(default_factory=list)
    forward: list[float] = field(default_factory=list)
    calls: int = 1

    @property
    def median(self) -> float:
        """Of the total."""
        return statistics.median(self.total)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles of the total."""
        return half_quartile_distance(self.total)


def half_quartile_distance(values: Sequence[float]) -> float:
    """Half the distance between the quartiles, 0 for a single value.

    Example:
        >>> from passband.bench import half_quartile_distance
        >>> half_quartile_distance([1.0, 2.0, 3.0, 4.0, 5.0])
        1.0

    """
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / 2


def take_turns(
    calls: Mapping[str, Call],
    seconds: float,
    repeats: int | None = None,
    device: torch.device | str = "cpu",
    on_turn: Callable[[int, int], None] | None = None,
) -> dict[str, Timing]:
    """Time several calls, one after another in every turn; the order rotates and reverses from turn to turn.

    Python's garbage collector is off meanwhile. On CUDA the times are those of events on the device.

    Args:
        calls: by name, at least one.
        seconds: about how long it may take; at least 5 and at most 201 turns fit in.
        repeats: the number of turns instead.
        device: where the calls compute.
        on_turn: called with (turns done, turns) after each.

    Returns:
        The times by name.

    Raises:
        ValueError: if there are no calls, or repeats is below 1.

    """
    if not calls:
        raise ValueError("there is nothing to time: no calls were given")
    if repeats is not None and repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    clock = _clock(torch.device(device))
    with _no_collection():
        once = {name: _warm(call, clock) for name, call in calls.items()}
        timings = {name: Timing(calls=_loops(taken)) for name, taken in once.items()}
        turns = repeats or _turns(seconds, sum(taken * timings[name].calls for name, taken in once.items()))
        for turn in range(turns):
            for name in _order(list(calls), turn):
                forward, total = clock(calls[name], timings[name].calls)
                timings[name].forward.append(forward)
                timings[name].total.append(total)
            if on_turn is not None:
                on_turn(turn + 1, turns)
    return timings


Clock = Callable[[Call, int], tuple[float, float]]
"""Seconds of (forward, both) per call, the mean over a number of calls."""


def _warm(call: Call, clock: Clock) -> float:
    """Seconds of one call, the second one."""
    clock(call, 1)
    return clock(call, 1)[1]


def _loops(taken: float) -> int:
    """Calls that make a turn."""
    return max(1, math.ceil(LEAST_TURN / max(taken, 1e-6)))


def _turns(seconds: float, one: float) -> int:
    return min(MOST, max(FEWEST, round(seconds / max(one, 1e-9))))


def _order(names: list[str], turn: int) -> list[str]:
    start = turn // 2 % len(names)
    order = names[start:] + names[:start]
    return order[::-1] if turn % 2 else order


def _clock(device: torch.device) -> Clock:
    if device.type == "cuda":
        return lambda call, loops: _by_events(call, loops, device)
    if device.type == "mps":
        return lambda call, loops: _by_host(call, loops, torch.mps.synchronize)
    return lambda call, loops: _by_host(call, loops, _nothing)


def _nothing() -> None:
    pass


def _by_host(call: Call, loops: int, synchronize: Callable[[], None]) -> tuple[float, float]:
    forward = total = 0.0
    now = time.perf_counter
    synchronize()
    for _ in range(loops):
        start = now()
        result = call.forward()
        synchronize()
        middle = now()
        if call.backward is not None:
            call.backward(result)
        del result  # freeing it is part of the price
        synchronize()
        forward += middle - start
        total += now() - start
    return forward / loops, total / loops


def _by_events(call: Call, loops: int, device: torch.device) -> tuple[float, float]:
    event: Callable[..., Any] = torch.cuda.Event
    marks = [[event(enable_timing=True) for _ in range(3)] for _ in range(loops)]
    torch.cuda.synchronize(device)
    for start, middle, end in marks:
        start.record()
        result = call.forward()
        middle.record()
        if call.backward is not None:
            call.backward(result)
        del result
        end.record()
    torch.cuda.synchronize(device)
    forward = sum(start.elapsed_time(middle) for start, middle, _ in marks)
    total = sum(start.elapsed_time(end) for start, _, end in marks)
    return forward / loops / 1e3, total / loops / 1e3


@contextmanager
def _no_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
