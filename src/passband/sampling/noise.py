"""Noise that depends on each sample's own seed alone: not on the batch, its split, or the process that draws it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from passband.process import Process


class SampleNoise:
    """One generator per sample.

    Args:
        seeds: one seed per sample; PyTorch's generators on the CPU tell seeds apart by their lowest 32 bits.
        device: where the generators live; the same seed gives other numbers on another device, so the default is the
            CPU everywhere.

    Raises:
        ValueError: if there are no seeds.

    Example:
        >>> import torch
        >>> from passband.sampling import SampleNoise
        >>> whole, part = SampleNoise([1, 2, 3]).normal((4,)), SampleNoise([2]).normal((4,))
        >>> torch.equal(whole[1:2], part)
        True

    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        if len(seeds) == 0:
            raise ValueError("seeds must hold one integer per sample, got none")
        self.device = torch.device(device)
        self._generators = [torch.Generator(self.device).manual_seed(int(seed)) for seed in seeds]

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """The next standard normal values of each sample, (batch, *shape)."""
        draws = [torch.randn(tuple(shape), generator=g, dtype=dtype, device=self.device) for g in self._generators]
        return torch.stack(draws)

    def times(self, process: Process) -> Tensor:
        """One training time of each sample, (batch,)."""
        return torch.cat([process.sample_times(1, generator=g, device=self.device) for g in self._generators])
