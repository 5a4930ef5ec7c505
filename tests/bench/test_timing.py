"""Turns, loops and spreads; how long anything takes is not looked at."""

import gc
import statistics
from collections import Counter

import numpy as np
import pytest

from passband.bench import Call, half_quartile_distance, take_turns
from passband.bench.timing import FEWEST, LEAST_TURN, MOST, Timing, _loops, _order, _turns


def test_every_call_has_every_turn():
    seen = []
    calls = {name: Call(lambda name=name: seen.append(name)) for name in "abc"}
    timings = take_turns(calls, 0, repeats=4)
    assert set(timings) == {"a", "b", "c"}
    for name, timing in timings.items():
        assert len(timing.total) == len(timing.forward) == 4
        assert seen.count(name) == 2 + 4 * timing.calls  # twice to warm up, then the turns


def test_short_calls_are_repeated_within_a_turn():
    count = Counter()
    timing = take_turns({"a": Call(lambda: count.update("a"))}, 0, repeats=2)["a"]
    assert timing.calls > 1
    assert count["a"] == 2 + 2 * timing.calls


def test_loops_make_a_turn_long_enough():
    assert _loops(LEAST_TURN / 7.5) == 8
    assert _loops(2 * LEAST_TURN) == 1
    assert 1000 <= _loops(0.0) <= 1001  # not without end


def test_backward_gets_what_forward_returned():
    got = []
    take_turns({"a": Call(lambda: 7, got.append)}, 0, repeats=1)
    assert got
    assert set(got) == {7}


def test_forward_is_a_part_of_the_total():
    timing = take_turns({"a": Call(lambda: sum(range(1000)), lambda _: sum(range(1000)))}, 0, repeats=5)["a"]
    assert all(0 < forward < total for forward, total in zip(timing.forward, timing.total, strict=True))


def test_each_is_first_in_some_turn_and_orders_are_reversed():
    names = list("abcd")
    orders = [_order(names, turn) for turn in range(8)]
    assert all(sorted(order) == names for order in orders)
    assert {order[0] for order in orders} == set(names)
    assert all(a == b[::-1] for a, b in zip(orders[::2], orders[1::2], strict=True))


@pytest.mark.parametrize(("seconds", "one", "turns"), [(4, 0.1, 40), (4, 10, FEWEST), (4, 1e-9, MOST), (0, 0, FEWEST)])
def test_turns_fit_into_the_budget(seconds: float, one: float, turns: int):
    assert _turns(seconds, one) == turns


def test_the_collector_is_off_meanwhile_and_on_afterwards():
    states = []
    take_turns({"a": Call(lambda: states.append(gc.isenabled()))}, 0, repeats=1)
    assert not any(states)
    assert gc.isenabled()


def test_the_collector_is_on_again_after_a_fault():
    def fail():
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        take_turns({"a": Call(fail)}, 0, repeats=1)
    assert gc.isenabled()


def test_each_turn_is_told():
    told = []
    take_turns({"a": Call(lambda: None)}, 0, repeats=3, on_turn=lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_faults_of_input():
    with pytest.raises(ValueError, match="no calls"):
        take_turns({}, 1)
    with pytest.raises(ValueError, match="repeats must be at least 1"):
        take_turns({"a": Call(lambda: None)}, 1, repeats=0)


def test_spread_is_half_the_distance_of_the_quartiles():
    values = np.random.default_rng(0).exponential(size=31).tolist()
    low, high = np.quantile(values, [0.25, 0.75])
    assert half_quartile_distance(values) == pytest.approx((high - low) / 2)
    assert half_quartile_distance([3.0]) == 0
    timing = Timing(values)
    assert (timing.median, timing.spread) == (statistics.median(values), half_quartile_distance(values))
