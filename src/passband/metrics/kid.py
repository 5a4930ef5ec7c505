"""Kernel Inception distance: an unbiased distance between two sets of features, small sets included."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from passband._checks import check_integer, check_number
from passband._seeds import seed_for
from passband.metrics.features import FeatureExtractor
from passband.metrics.store import DEFAULT_SAMPLES, StorePair, check_enough, check_features, resize_of

_BLOCK = 2048


@dataclass(frozen=True)
class KIDResult:
    """What [`KID`][passband.metrics.KID] computes.

    Attributes:
        mean: mean over the subsets of the squared maximum mean discrepancy; unbiased, so it can be negative.
        std: standard deviation over the subsets, as published scores give it. Not the error of the mean.
        subsets: number of subsets.
        subset_size: samples of each side in a subset.
        features: name of the features: network, layer, weights, resize.
        resize: what the name says of the resize.
        real_count: number of real samples seen.
        fake_count: number of generated samples seen.
        real_kept: how many of them the subsets were drawn from.
        fake_kept: the same of the generated samples.

    """

    mean: float
    std: float
    subsets: int
    subset_size: int
    features: str
    resize: str
    real_count: int
    fake_count: int
    real_kept: int
    fake_kept: int


def polynomial_mmd(
    x: Float[Tensor, "samples dim"],
    y: Float[Tensor, "other dim"],
    *,
    degree: int = 3,
    gamma: float | None = None,
    offset: float = 1.0,
) -> float:
    r"""Unbiased squared maximum mean discrepancy under the kernel $k(x, y) = (\gamma\, x \cdot y + c)^{degree}$.

    $\frac{1}{m (m-1)} \sum_{i \ne j} k(x_i, x_j) + \frac{1}{n (n-1)} \sum_{i \ne j} k(y_i, y_j)
    - \frac{2}{m n} \sum_{ij} k(x_i, y_j)$, in float64, in blocks: memory does not grow with the square of the samples.

    Args:
        x: features of one set, (samples, dim), at least 2.
        y: of the other, (other, dim), at least 2.
        degree: of the kernel, at least 1.
        gamma: of the kernel; None is 1 / dim.
        offset: c of the kernel.

    Returns:
        The estimate: 0 on average for one distribution, so it can be negative.

    Raises:
        TypeError: if the features are not floating, or degree no integer.
        ValueError: if the dimensions differ, a value is not finite, or there are fewer than 2 samples.

    Example:
        >>> import torch
        >>> from passband.metrics import polynomial_mmd
        >>> x, y = torch.tensor([[0.0], [0.0]]), torch.tensor([[1.0], [1.0]])
        >>> polynomial_mmd(x, y)  # 1 + 2³ - 2 · 1
        7.0

    Source:
        Bińkowski et al., arXiv:1801.01401, Eq. 4.

    """
    check_features("x", x, dim=None, seen=0, batch=0)
    check_features("y", y, dim=x.shape[1], seen=0, batch=0)
    for name, part in (("samples in x", x), ("samples in y", y)):
        check_enough("a kernel distance", name, len(part), 2)
    check_integer("degree", degree)
    if degree < 1:
        raise ValueError(f"degree must be at least 1, got {degree}")
    check_number("offset", offset)
    scale = 1 / x.shape[1] if gamma is None else gamma

    def kernel(product: Tensor) -> Tensor:
        return (scale * product + offset) ** degree

    m, n = len(x), len(y)
    within = _off_diagonal_sum(x, kernel) / (m * (m - 1)) + _off_diagonal_sum(y, kernel) / (n * (n - 1))
    return within - 2 * _sum(x, y, kernel) / (m * n)


class KID(StorePair):
    """Kernel Inception distance: the unbiased discrepancy of features under a cubic kernel, over random subsets.

    Unlike the Fréchet distance it has no small-sample bias: its mean over draws does not depend on the number of
    samples. It is 0 for equal distributions, and noisy around it.

    Features are kept, see [`FeatureStore`][passband.metrics.FeatureStore] for the memory.

    Args:
        features: the extractor, or its name.
        subsets: number of random subsets.
        subset_size: samples of each side in a subset, drawn without replacement.
        max_samples: how many samples are kept on each side, at most.
        seed: of the subsets and of the choice of samples.

    Raises:
        TypeError: if an option is of the wrong type.
        ValueError: if an option is out of range.

    Example:
        >>> import torch
        >>> from passband.metrics import KID
        >>> kid = KID("raw values", subsets=10, subset_size=50)
        >>> generator = torch.Generator().manual_seed(0)
        >>> real, fake = torch.randn(2, 200, 4, generator=generator)
        >>> kid.update(real=real, fake=fake + 1)
        >>> result = kid.compute()
        >>> result.mean > 1, result.fake_count
        (True, 200)

    Source:
        Bińkowski et al., arXiv:1801.01401.

    """

    def __init__(
        self,
        features: FeatureExtractor | str = "",
        *,
        subsets: int = 100,
        subset_size: int = 1000,
        max_samples: int = DEFAULT_SAMPLES,
        seed: int = 0,
    ) -> None:
        for name, value, least in (("subsets", subsets, 1), ("subset_size", subset_size, 2)):
            check_integer(name, value)
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if max_samples < subset_size:
            raise ValueError(f"max_samples must be at least subset_size = {subset_size}, got {max_samples}")
        super().__init__(features, max_samples=max_samples, seed=seed)
        self.subsets, self.subset_size = subsets, subset_size

    def compute(self, device: torch.device | str = "cpu") -> KIDResult:
        """Mean and spread over the subsets.

        Args:
            device: where the kernels are computed.

        Raises:
            ValueError: if there are fewer samples than a subset has.

        """
        real, fake = self.kept(self.subset_size, f"KID with subsets of {self.subset_size}", device)
        values = torch.tensor([self._subset(real, fake, i) for i in range(self.subsets)], dtype=torch.float64)
        return KIDResult(
            mean=float(values.mean()),
            std=float(values.std(correction=0)),
            subsets=self.subsets,
            subset_size=self.subset_size,
            features=self.features_name,
            resize=resize_of(self.features_name),
            real_count=self.real.count,
            fake_count=self.fake.count,
            real_kept=len(real),
            fake_kept=len(fake),
        )

    def full(self, device: torch.device | str = "cpu") -> float:
        """The unbiased estimate from all samples kept at once; quadratic in their number.

        Raises:
            ValueError: if there are fewer than 2 samples on a side.

        """
        real, fake = self.kept(2, "KID", device)
        return polynomial_mmd(real, fake)

    def _subset(self, real: Tensor, fake: Tensor, number: int) -> float:
        parts = []
        for name, x in (("real", real), ("fake", fake)):
            generator = torch.Generator().manual_seed(seed_for(self.seed, number, f"kid {name}"))
            parts.append(x[torch.randperm(len(x), generator=generator)[: self.subset_size].to(x.device)])
        return polynomial_mmd(*parts)


def _sum(x: Tensor, y: Tensor, kernel: Callable[[Tensor], Tensor]) -> float:
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    for a in torch.split(x, _BLOCK):
        rows = a.double()
        for b in torch.split(y, _BLOCK):
            total += kernel(rows @ b.double().T).sum()
    return float(total)


def _off_diagonal_sum(x: Tensor, kernel: Callable[[Tensor], Tensor]) -> float:
    """Sum of the kernel over all pairs of different samples."""
    norms = torch.cat([a.double().square().sum(1) for a in torch.split(x, _BLOCK)])
    return _sum(x, x, kernel) - float(kernel(norms).sum())
