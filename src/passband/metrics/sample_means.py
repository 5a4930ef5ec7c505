"""Means and standard errors of named numbers that each sample has one of: streamed and merged."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Estimate(NamedTuple):
    """A mean over samples.

    Attributes:
        mean: the mean.
        error: its standard error over samples, taken as independent; NaN for one sample.
        count: number of samples.

    """

    mean: float
    error: float
    count: int


class SampleMeans:
    """Running means of named per-sample numbers, in float64.

    Example:
        >>> import torch
        >>> from passband.metrics import SampleMeans
        >>> means = SampleMeans()
        >>> means.update({"psnr": torch.tensor([20.0, 30.0])})
        >>> means.update({"psnr": torch.tensor([40.0]), "ssim": torch.tensor([0.5])})
        >>> means.compute()["psnr"].mean, means.compute()["ssim"].count
        (30.0, 1)

    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all samples."""
        self._sums: dict[str, Tensor] = {}

    def update(self, values: Mapping[str, Float[Tensor, " batch"]]) -> None:
        """Add a batch: one number per sample under each name.

        Raises:
            ValueError: if a value is not finite; nothing is added then.

        """
        found = {name: value.detach().cpu().double().flatten() for name, value in values.items()}
        for name, value in found.items():
            if not bool(value.isfinite().all()):
                raise ValueError(
                    f"{name} is not finite in this batch: look for an overflow (half precision?) in the network, or "
                    "for broken images"
                )
        for name, value in found.items():
            self._add(name, torch.stack([value.sum(), value.square().sum(), value.new_tensor(float(len(value)))]))

    def merge(self, other: "SampleMeans") -> "SampleMeans":
        """Add what another one has seen, and return self."""
        for name, sums in other.state_dict().items():
            self._add(name, sums)
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """For each name the sum, the sum of squares and the number of samples."""
        return {name: sums.clone() for name, sums in self._sums.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace the state by one of [`state_dict`][passband.metrics.SampleMeans.state_dict]."""
        self._sums = {name: sums.cpu().double().clone() for name, sums in state.items()}

    def compute(self) -> dict[str, Estimate]:
        """The means so far."""
        return {name: _estimate(*sums.tolist()) for name, sums in self._sums.items()}

    def _add(self, name: str, sums: Tensor) -> None:
        self._sums[name] = self._sums[name] + sums if name in self._sums else sums.clone()


def _estimate(total: float, squares: float, count: float) -> Estimate:
    mean = total / count if count else math.nan
    if count < 2:
        return Estimate(mean, math.nan, int(count))
    variance = max(squares - count * mean**2, 0.0) / (count - 1)
    return Estimate(mean, math.sqrt(variance / count), int(count))
