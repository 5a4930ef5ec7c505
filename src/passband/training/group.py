"""The group of processes of a launch: whoever enters it leaves it."""

import atexit
from collections.abc import Iterator
from contextlib import contextmanager

from torch import distributed


@contextmanager
def leaving_at_exit() -> Iterator[None]:
    """Whoever enters a group in here leaves it before the interpreter ends; an earlier group is its maker's.

    The threads of a group let go of a tensor under the interpreter's lock, at times after the collective has returned.
    One that is late for it ends with the interpreter, in the middle of a destructor, and aborts the process
    ("terminate called without an active exception"); leaving the group waits for its threads.
    """
    earlier = _in_group()
    try:
        yield
    finally:
        if _in_group() and not earlier:
            atexit.register(_leave)


def _leave() -> None:
    if _in_group():
        distributed.destroy_process_group()


def _in_group() -> bool:
    return distributed.is_available() and distributed.is_initialized()
