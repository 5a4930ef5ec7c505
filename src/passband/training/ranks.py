"""The processes of one launch that share a piece of work (`accelerate launch`, `torchrun`), or the one there is."""

import os
from datetime import timedelta
from typing import TypeVar

import torch

from passband._checks import import_extra
from passband.training.group import leaving_at_exit

T = TypeVar("T")

#: How long a process waits for the others: a share of 50,000 samples takes hours.
_PATIENCE = timedelta(hours=24)


class Ranks:
    """This process among those of the launch.

    Args:
        device: where to compute; default: the fastest there is, one device for each process.

    Attributes:
        index: the number of this process, from 0.
        count: the number of processes.
        device: where this process computes.

    Raises:
        ValueError: if the device cannot be used.

    """

    def __init__(self, device: str | None = None) -> None:
        launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
        cpu = device == "cpu" or not torch.cuda.is_available()
        with leaving_at_exit():
            state = import_extra("accelerate", "train").PartialState(cpu=cpu, timeout=_PATIENCE) if launched else None
        self.count: int = state.num_processes if state is not None else 1
        self.index: int = state.process_index if state is not None else 0
        self.device = usable_device(device) if self.count == 1 or state is None else state.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes what all of them found."""
        return self.index == 0

    def first(self, value: T) -> T:
        """The first process's value, in every process."""
        if self.count == 1:
            return value
        values = [value]
        torch.distributed.broadcast_object_list(values, src=0, device=self.device)
        return values[0]

    def gather(self, value: T) -> list[T]:
        """Every process's value, in their order, in every process."""
        if self.count == 1:
            return [value]
        values: list[T] = [value] * self.count
        torch.distributed.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Go on when every process is here."""
        self.gather(None)


def usable_device(name: str | None) -> torch.device:
    """The device of that name, the fastest there is without one.

    Raises:
        ValueError: if nothing can be computed there.

    """
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"cannot compute on --device {name}: {str(error).partition(chr(10))[0]}") from error
    return device
