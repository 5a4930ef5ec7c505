"""Tasks over processes: all results come back, and a worker's end is an error."""

import functools
import os

import pytest

from passband._pool import run_tasks


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_every_task_is_done_once(workers):
    assert sorted(run_tasks(functools.partial, (pow, 2), list(range(6)), workers)) == [1, 2, 4, 8, 16, 32]


def test_no_tasks():
    assert list(run_tasks(functools.partial, (abs,), [], 2)) == []


def test_a_fault_of_a_task_is_raised_here():
    with pytest.raises(FileNotFoundError, match="nowhere"):
        list(run_tasks(functools.partial, (os.listdir,), ["nowhere", "nowhere"], 2))


def test_a_worker_that_dies_is_told():
    with pytest.raises(RuntimeError, match=r"ended abruptly \(exit status 7\), perhaps for lack of memory"):
        list(run_tasks(functools.partial, (os._exit,), [7, 7], 2))
