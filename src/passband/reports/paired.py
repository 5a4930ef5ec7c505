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
