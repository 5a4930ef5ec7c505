"""Modules that draw once per training step, the same on all ranks, and go on after a restart."""

import torch
from torch import Tensor, nn

from passband._checks import check_integer


class CountedDraws(nn.Module):
    """Counts its own calls where it is given no step; the count is part of the state dict.

    Args:
        seed: the run's seed.

    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        check_integer("seed", seed)
        self.seed = seed
        self._calls = 0

    def next_step(self, step: int | None) -> int:
        """The step to draw for; None takes the number of calls so far and counts this one."""
        if step is not None:
            check_integer("step", step)
            return int(step)
        self._calls += 1
        return self._calls - 1

    def get_extra_state(self) -> Tensor:
        """The number of calls so far."""
        return torch.tensor(self._calls)

    def set_extra_state(self, state: Tensor) -> None:
        """Go on from a number of calls."""
        self._calls = int(state)
