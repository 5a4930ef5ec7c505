"""Means, and ratios of means, of named numbers that each sample has: streamed and merged, with standard errors."""

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
        samples: number of samples.

    """

    mean: float
    error: float
    samples: int


class SampleMeans:
    r"""Running means of named per-sample numbers, and ratios of means, in float64.

    A ratio $r = \bar a / \bar b$ weighs each sample by its $b$, so that samples where nothing happens do not count;
    its standard error is $\sqrt{\sum_i (a_i - r b_i)^2 \, n / (n - 1)} / \sum_i b_i$.

    Example:
        >>> import torch
        >>> from passband.metrics import SampleMeans
        >>> means = SampleMeans()
        >>> means.update({"psnr": torch.tensor([20.0, 30.0])})
        >>> means.update({"psnr": torch.tensor([40.0]), "ssim": torch.tensor([0.5])})
        >>> means.compute()["psnr"].mean, means.compute()["ssim"].samples
        (30.0, 1)
        >>> means.update_ratios({"share": (torch.tensor([1.0, 0.0]), torch.tensor([2.0, 0.0]))})
        >>> means.compute()["share"].mean
        0.5

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
        self.update_ratios({name: (value, torch.ones_like(value)) for name, value in values.items()})

    def update_ratios(self, pairs: Mapping[str, tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]]) -> None:
        """Add a batch of numerators and denominators, a pair for each name.

        Raises:
            ValueError: if a value is not finite; nothing is added then.

        """
        found = {
            name: tuple(part.detach().cpu().double().flatten() for part in (above, below))
            for name, (above, below) in pairs.items()
        }
        for name, parts in found.items():
            if not all(bool(part.isfinite().all()) for part in parts):
                raise ValueError(
                    f"{name} is not finite in this batch: look for an overflow (half precision?) in the network, or "
                    "for broken images"
                )
        for name, (a, b) in found.items():
            count = a.new_tensor(float(len(a)))
            self._add(name, torch.stack([a.sum(), b.sum(), (a * a).sum(), (a * b).sum(), (b * b).sum(), count]))

    def merge(self, other: "SampleMeans") -> "SampleMeans":
        """Add what another one has seen, and return self."""
        for name, sums in other.state_dict().items():
            self._add(name, sums)
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """For each name the sums of a, b, a², ab and b² and the number of samples; b is 1 for a mean."""
        return {name: sums.clone() for name, sums in self._sums.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace the state by one of [`state_dict`][passband.metrics.SampleMeans.state_dict]."""
        self._sums = {name: sums.cpu().double().clone() for name, sums in state.items()}

    def compute(self) -> dict[str, Estimate]:
        """The means so far."""
        return {name: _estimate(*sums.tolist()) for name, sums in self._sums.items()}

    def _add(self, name: str, sums: Tensor) -> None:
        self._sums[name] = self._sums[name] + sums if name in self._sums else sums.clone()


def _estimate(a: float, b: float, aa: float, ab: float, bb: float, count: float) -> Estimate:
    ratio = a / b if b else math.nan
    if count < 2 or not b:
        return Estimate(ratio, math.nan, int(count))
    residual = max(aa - 2 * ratio * ab + ratio**2 * bb, 0.0)
    return Estimate(ratio, math.sqrt(residual * count / (count - 1)) / b, int(count))
