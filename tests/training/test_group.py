"""The group of processes is left by whoever entered it, before the interpreter ends."""

import atexit
from collections.abc import Callable

import pytest
from torch import distributed

from passband.training.group import leaving_at_exit

SCRIPT = """
import atexit
from torch import distributed
# Called after all that is registered later.
atexit.register(lambda: print("in the group" if distributed.is_initialized() else "out of the group"))
from passband.training.ranks import Ranks
ranks = Ranks("cpu")
print(ranks.gather(ranks.index), distributed.is_initialized())
"""


def test_processes_leave_their_group_before_they_end(two_processes: Callable[..., list[str]]):
    outputs = two_processes("-c", SCRIPT)
    assert [output.strip().splitlines()[-2:] for output in outputs] == [["[0, 1] True", "out of the group"]] * 2


@pytest.fixture
def at_exit(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """What is to be called when the interpreter ends."""
    registered: list[Callable[[], None]] = []
    monkeypatch.setattr(atexit, "register", registered.append)
    return registered


def enter() -> None:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)


def fail_after_entering() -> None:
    with leaving_at_exit():
        enter()
        raise ValueError("afterwards")


def test_one_that_was_entered_inside_is_left(at_exit: list[Callable[[], None]]):
    with pytest.raises(ValueError, match="afterwards"):
        fail_after_entering()
    (leave,) = at_exit
    leave()
    assert not distributed.is_initialized()
    # Whoever left it before is no trouble.
    leave()


def test_an_earlier_one_stays(at_exit: list[Callable[[], None]]):
    enter()
    try:
        with leaving_at_exit():
            pass
        assert at_exit == []
        assert distributed.is_initialized()
    finally:
        distributed.destroy_process_group()


def test_no_group_is_nothing_to_leave(at_exit: list[Callable[[], None]]):
    with leaving_at_exit():
        pass
    assert at_exit == []
