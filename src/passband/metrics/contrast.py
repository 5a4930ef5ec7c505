"""Families of quantities measured on two sets of samples, and which of their differences are more than chance."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

_LEAST_FREEDOM = 2.0  # Student's distribution of fewer degrees of freedom has no useful tail
#: Fewer independent groups say nothing of their spread: every replicate of one group has the same mean.
LEAST_GROUPS = 2.5


@dataclass(frozen=True)
class Quantities:
    """One family of quantities of a reference set and another one; all tensors have one shape, float64 on the CPU.

    Attributes:
        name: what the family is called.
        unit: of the differences: "dB" for powers, "%" of the reference, "" for plain numbers.
        axes: what each axis of the tensors is.
        labels: a label for each entry of each axis.
        least: the smallest difference worth calling, in `unit`.
        reference: the quantities of the reference set, in their own unit (power: linear).
        value: those of the other set.
        difference: value against reference, in `unit`.

    """

    name: str
    unit: str
    axes: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    least: float
    reference: Tensor
    value: Tensor
    difference: Tensor

    def rows(self) -> Iterator[tuple[tuple[str, ...], tuple[int, ...]]]:
        """The labels of each cell with its index, the last axis fastest."""
        places = product(*(range(len(labels)) for labels in self.labels))
        return ((tuple(labels[i] for labels, i in zip(self.labels, at, strict=True)), at) for at in places)


@dataclass(frozen=True)
class Family(Quantities):
    """A family before it is decided which of its differences are called.

    Attributes:
        replicates: the difference in each bootstrap replicate, (replicates, *shape).
        halves: difference between two halves of the reference set, None without.
        half_replicates: its bootstrap replicates, (replicates, *shape), None without.

    """

    replicates: Tensor
    halves: Tensor | None = None
    half_replicates: Tensor | None = None


@dataclass(frozen=True)
class Contrast(Quantities):
    """A family whose differences are decided.

    Attributes:
        error: bootstrap standard error of the difference.
        low: lower end of the 95 % interval, simultaneous over all families that were decided together.
        high: its upper end.
        halves: difference between two random halves of the reference set; NaN where there are none.
        floor: what the difference of two halves stays under in 95 of 100 splits; 0 where it does not apply.
        different: whether the difference is called one.

    """

    error: Tensor
    low: Tensor
    high: Tensor
    halves: Tensor
    floor: Tensor
    different: Tensor


class Decision(NamedTuple):
    """Families that were decided together.

    Attributes:
        contrasts: by name.
        factor: how many standard errors the simultaneous interval is wide on each side.

    """

    contrasts: dict[str, Contrast]
    factor: float


def decide(families: Sequence[Family], *, groups: float = float("inf"), level: float = 0.95) -> Decision:
    r"""Which differences are called, over several families at once.

    The interval of each difference is $d \pm c\,s$: s its bootstrap standard error, c the `level` quantile over the
    replicates of the largest $|d^* - \bar d^*| / s$ among all quantities, so that in `level` of all experiments no
    interval misses its true value. The bootstrap of few observations is too narrow, so c is taken as a quantile of a
    normal variable and replaced by that of Student's distribution with g - 1 degrees of freedom. Of one or two groups
    the spread is not known: errors and intervals are infinite then, and nothing is called.

    A difference is called if its interval excludes 0, it exceeds the noise floor (c standard errors of the difference
    between two halves of the reference), and it is at least `least`.

    Args:
        families: what was measured.
        groups: g, how many independent observations there are: groups of samples, fewer where few of them decide.
        level: confidence.

    Returns:
        The decided families, by name, and c.

    Example:
        >>> import torch
        >>> from passband.metrics.contrast import Family, decide
        >>> spread = 0.1 * torch.randn(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> shift = torch.tensor([0.0, 3.0], dtype=torch.float64)
        >>> family = Family("power", "dB", ("band",), (("low", "high"),), 0.1, shift, shift, shift, shift + spread)
        >>> decide([family]).contrasts["power"].different.tolist()
        [False, True]

    Source: the max-t intervals of Romano and Wolf, Exact and Approximate Stepdown Methods for Multiple Hypothesis
    Testing (2005).
    """
    errors = [_error(family.replicates) for family in families]
    unknown = groups < LEAST_GROUPS
    if unknown:
        errors = [torch.full_like(error, torch.inf) for error in errors]
    largest = torch.stack([_largest(family.replicates, error) for family, error in zip(families, errors, strict=True)])
    factor = math.inf if unknown else as_student(float(largest.amax(0).quantile(level)), groups - 1)
    found = (_decided(family, error, factor) for family, error in zip(families, errors, strict=True))
    return Decision({contrast.name: contrast for contrast in found}, factor)


def as_student(normal: float, freedom: float) -> float:
    r"""The quantile of Student's distribution that has the same probability as a quantile of the normal one.

    $t = \sqrt{\nu\,(e^{u^2 / \nu} - 1)}$ with $u = z\,(8\nu + 3) / (8\nu + 1)$; within 1 % from 10 degrees of freedom
    on, within 4 % from 4 on.

    Example:
        >>> from passband.metrics.contrast import as_student
        >>> round(as_student(1.96, 10), 2), as_student(1.96, float("inf"))
        (2.23, 1.96)

    Source: Wallace, Bounds on normal approximations to Student's and the chi-square distributions (1959).
    """
    if math.isinf(freedom):
        return normal
    nu = max(freedom, _LEAST_FREEDOM)
    u = normal * (8 * nu + 3) / (8 * nu + 1)
    return math.sqrt(nu * math.expm1(u * u / nu))


def _decided(family: Family, error: Tensor, factor: float) -> Contrast:
    none = torch.full_like(family.difference, torch.nan)
    halves = none if family.halves is None else family.halves
    floor = torch.zeros_like(error) if family.half_replicates is None else factor * _error(family.half_replicates)
    low, high = family.difference - factor * error, family.difference + factor * error
    size = family.difference.abs()
    different = ((low > 0) | (high < 0)) & (size > floor) & (size >= family.least)
    shown = {each.name: getattr(family, each.name) for each in fields(Quantities)}
    return Contrast(**shown, error=error, low=low, high=high, halves=halves, floor=floor, different=different)


def _error(replicates: Tensor) -> Tensor:
    """Standard deviation over the replicates; infinite where fewer than half of them are finite."""
    finite = replicates.isfinite()
    count = finite.sum(0)
    kept = torch.where(finite, replicates, 0)
    mean = kept.sum(0) / count.clamp_min(1)
    squares = torch.where(finite, (replicates - mean).square(), 0).sum(0)
    error = (squares / (count - 1).clamp_min(1)).sqrt()
    return torch.where(count * 2 > len(replicates), error, torch.inf)


def _largest(replicates: Tensor, error: Tensor) -> Tensor:
    """The largest deviation of each replicate, in standard errors."""
    deviation = (replicates - replicates.nanmean(0)).abs() / error
    return deviation.nan_to_num(0.0, posinf=0.0).flatten(1).amax(1)
