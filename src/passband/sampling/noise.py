"""Noise that depends on each sample's own seed alone: not on the batch, its split, or the process that draws it."""

import operator
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from passband.process import Process


def checked_seeds(seeds: Iterable[int]) -> list[int]:
    """The seeds as integers that a generator takes."""
    try:
        values = [operator.index(seed) for seed in seeds]
    except TypeError as error:
        raise TypeError(f"seeds must hold one integer per sample, such as range(4), got {seeds!r}") from error
    if not all(-(2**63) <= seed < 2**63 for seed in values):
        raise ValueError(f"seeds must fit into 64 bits, got {seeds!r}")
    return values


def checked_device(device: torch.device | str | int) -> torch.device:
    """The device, or one error that says which names there are."""
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"unknown device: got {device!r}; expected a name of PyTorch's such as 'cpu', 'cuda', 'cuda:1' or 'mps'"
        ) from error
    except TypeError as error:
        raise TypeError(f"device must be a torch.device or its name such as 'cuda', got {device!r}") from error


class SampleNoise:
    """One generator per sample.

    Args:
        seeds: one seed per sample; PyTorch's generators on the CPU tell seeds apart by their lowest 32 bits.
        device: where the generators live; the same seed gives other numbers on another device, so the default is the
            CPU everywhere.

    Raises:
        TypeError: if a seed is no integer.
        ValueError: if there are no seeds, one does not fit into 64 bits, or the device is unknown.

    Example:
        >>> import torch
        >>> from passband.sampling import SampleNoise
        >>> whole, part = SampleNoise([1, 2, 3]).normal((4,)), SampleNoise([2]).normal((4,))
        >>> torch.equal(whole[1:2], part)
        True

    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        seeds = checked_seeds(seeds)
        if not seeds:
            raise ValueError("seeds must hold one integer per sample, got none")
        self.device = checked_device(device)
        self._generators = [torch.Generator(self.device).manual_seed(seed) for seed in seeds]

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """The next standard normal values of each sample, (batch, *shape)."""
        draws = [torch.randn(tuple(shape), generator=g, dtype=dtype, device=self.device) for g in self._generators]
        return torch.stack(draws)

    def times(self, process: Process) -> Tensor:
        """One training time of each sample, (batch,)."""
        return torch.cat([process.sample_times(1, generator=g, device=self.device) for g in self._generators])
