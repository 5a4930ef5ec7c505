"""Decoded samples kept in memory: one budget for a process and all the DataLoader workers it starts."""

import os
from collections import OrderedDict
from typing import Any, Generic, TypeVar

from numpy.typing import NDArray
from torch.utils.data import get_worker_info

Held = TypeVar("Held", bound=NDArray[Any])


class SampleCache(Generic[Held]):
    """Keeps the arrays used last, up to a number of bytes.

    What a process holds when it forks is shared by its workers and stays; each worker may add its part of what is left
    of the budget.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._inherited: dict[int, Held] = {}
        self._own: OrderedDict[int, Held] = OrderedDict()
        self._room = budget
        self._size = 0
        self._pid = os.getpid()

    def __len__(self) -> int:
        return len(self._inherited) + len(self._own)

    @property
    def nbytes(self) -> int:
        """Bytes held by this process, the inherited ones included."""
        return self._size + sum(array.nbytes for array in self._inherited.values())

    @property
    def room(self) -> int:
        """Bytes that this process may hold beside the inherited ones."""
        self._notice_fork()
        return self._room

    def get(self, key: int) -> Held | None:
        """The array of a key, if it is still held."""
        self._notice_fork()
        found = self._own.get(key)
        if found is not None:
            self._own.move_to_end(key)
            return found
        return self._inherited.get(key)

    def put(self, key: int, array: Held) -> None:
        """Hold an array; the ones not used for longest go where there is no room."""
        self._notice_fork()
        self._own[key] = array
        self._size += array.nbytes
        while self._size > self._room:
            _, oldest = self._own.popitem(last=False)
            self._size -= oldest.nbytes

    def _notice_fork(self) -> None:
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._inherited |= self._own
        self._own, self._size = OrderedDict(), 0
        held = sum(array.nbytes for array in self._inherited.values())
        self._room = max(self.budget - held, 0) // _workers()

    def __getstate__(self) -> dict[str, object]:
        # A copy starts empty, and works out its room where it is used first.
        return {"budget": self.budget}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.__dict__.update(type(self)(state["budget"]).__dict__)
        self._pid = -1


def _workers() -> int:
    info = get_worker_info()
    return 1 if info is None else max(int(info.num_workers), 1)
