"""Paired comparisons over seeds: means, standard errors, and how they are written in tables."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

_SMALL = 1e-3  # below, numbers are written with their power of ten


class Estimate(NamedTuple):
    """A mean over seeds.

    Attributes:
        mean: the mean.
        error: its standard error; None with one seed.
        seeds: their number.

    """

    mean: float
    error: float | None
    seeds: int


def estimate(values: Sequence[float]) -> Estimate:
    r"""Mean and standard error, $s / \sqrt{n}$ with the sample standard deviation s.

    Raises:
        ValueError: without values.

    Example:
        >>> from passband.reports.paired import estimate
        >>> estimate([1.0, 2.0, 3.0]).mean, round(estimate([1.0, 2.0, 3.0]).error, 4)
        (2.0, 0.5774)

    """
    if not values:
        raise ValueError("a mean needs at least one value, got none")
    column = torch.tensor(values, dtype=torch.float64)
    error = (column.std() / math.sqrt(len(column))).item() if len(column) > 1 else None
    return Estimate(column.mean().item(), error, len(column))


def paired_difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> Estimate | None:
    """The mean of value − baseline within seeds, and its standard error over them.

    Args:
        values: seed to value.
        baseline: seed to the value that it is compared with.

    Returns:
        The estimate over the seeds that both have; None where they share none.

    Example:
        >>> from passband.reports.paired import paired_difference
        >>> paired_difference({0: 1.0, 1: 5.0, 2: 9.0}, {0: 2.0, 1: 6.0})
        Estimate(mean=-1.0, error=0.0, seeds=2)

    """
    seeds = sorted(values.keys() & baseline.keys())
    return estimate([values[seed] - baseline[seed] for seed in seeds]) if seeds else None


def is_clear(found: Estimate) -> bool:
    """Whether a mean differs from 0 at the level of 95 %, by Student's t over the seeds; never with one seed.

    Example:
        >>> from passband.reports.paired import Estimate, is_clear
        >>> [is_clear(Estimate(3.0, 1.0, seeds)) for seeds in (1, 3, 10)]
        [False, False, True]

    """
    return found.error is not None and found.seeds > 1 and abs(found.mean) > student_t(found.seeds - 1) * found.error


def student_t(freedom: int) -> float:
    """The two-sided 95 % quantile of Student's t, to three digits.

    Args:
        freedom: degrees of freedom, at least 1.

    Example:
        >>> from passband.reports.paired import student_t
        >>> student_t(2), round(student_t(1000), 2)
        (4.303, 1.96)

    """
    if freedom <= len(_STUDENT_T):
        return _STUDENT_T[freedom - 1]
    z = 1.959964
    # The expansion about the normal distribution, Abramowitz & Stegun 26.7.5.
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


_STUDENT_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def with_error(found: Estimate | None, *, sign: bool = False) -> str:
    """An estimate as text: two digits of its error, and the mean to the same place.

    Example:
        >>> from passband.reports.paired import Estimate, with_error
        >>> with_error(Estimate(12.3456, 0.0312, 3)), with_error(Estimate(-0.5, None, 1), sign=True)
        ('12.346 ± 0.031', '−0.5')

    """
    if found is None:
        return "–"
    plus = "+" if sign else ""
    if found.error is None or not math.isfinite(found.error) or found.error == 0:
        text = f"{found.mean:{plus}.4g}" + ("" if found.error is None else f" ± {found.error:.2g}")
    elif max(abs(found.mean), found.error) < _SMALL:
        text = f"{found.mean:{plus}.1e} ± {found.error:.1e}"
    else:
        digits = min(12, max(0, 1 - math.floor(math.log10(found.error))))
        text = f"{found.mean:{plus}.{digits}f} ± {found.error:.{digits}f}"
    return text.replace("-", "−")


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the head first, as a Markdown table.

    Example:
        >>> from passband.reports.paired import markdown_table
        >>> print(markdown_table([["arm", "LSD"], ["none", "2.1"]]), end="")
        | arm | LSD |
        | --- | --- |
        | none | 2.1 |

    """
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |\n" for line in lines)
