"""Single peaks of spectra and profiles, each perhaps a tooth of a comb: where they are, and of which common period."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from passband.metrics.line_peaks import PERIODS, Line, common_frequency, signed_index
from passband.metrics.probes.periodicity import height_frequencies

FoundBy = Literal["spectrum", "periodicity"]

_NEAR = 6  # bins of the padded profile that belong to one peak
_EXTENT = 0.25  # share of the strongest height from which a peak is a tooth of a comb that was found


class Tooth(NamedTuple):
    """One peak, perhaps of a comb; the multiples (m, p) are None where its frequency is no common one."""

    frequency: tuple[float, float]
    multiples: tuple[tuple[int, int], ...] | None
    height: float
    error: float
    in_real: float
    found_by: FoundBy

    @property
    def period(self) -> int | None:
        """The period p of which all its multiples are."""
        return None if self.multiples is None else math.lcm(*(p for _, p in self.multiples))


def line_tooth(line: Line, size: tuple[int, ...]) -> Tooth:
    """A line of the mean spectrum of samples of this size."""
    index = signed_index(torch.tensor([line.place]), size)[0].tolist()
    multiples = [common_frequency(k, side) for k, side in zip(index, size, strict=True)]
    common = None if None in multiples else tuple(m for m in multiples if m is not None)
    frequency = [k / side for k, side in zip(index, size, strict=True)]
    if common is not None:
        frequency = [math.copysign(m / p, k) for k, (m, p) in zip(index, common, strict=True)]
    return Tooth(_pair(frequency), common, line.height, line.error, line.in_real, "spectrum")


def profile_teeth(where: Tensor, measured: Sequence[Tensor], shape: tuple[int, ...]) -> list[Tooth]:
    """The highest of each run of neighbouring frequencies that are marked, (axes, frequencies).

    Args:
        where: which are marked.
        measured: height, its error, and the height in the real set, each (axes, frequencies).
        shape: of a sample.

    """
    frequencies, teeth = height_frequencies(shape), []
    for axis, marked in enumerate(where):
        heights = torch.where(marked, measured[0][axis], -torch.inf)
        for place in heights.argsort(descending=True)[: int(marked.sum())].tolist():
            if not heights[place].isfinite() or _is_flank(measured[0][axis], place, frequencies):
                continue
            values = (float(each[axis, place]) for each in measured)
            teeth.append(_profile_tooth(float(frequencies[place]), axis, len(where), frequencies, *values))
            heights[max(place - _NEAR, 0) : place + _NEAR + 1] = -torch.inf
    return teeth


def _is_flank(heights: Tensor, place: int, frequencies: Tensor) -> bool:
    """Whether a frequency that is no common one lies beside a higher peak, which both sets may have."""
    near = heights[max(place - _NEAR, 0) : place + _NEAR + 1].nan_to_num(-torch.inf)
    common = _near_common(float(frequencies[place]), _spacing(frequencies))
    return common is None and bool(near.max() > heights[place])


def _profile_tooth(
    frequency: float, axis: int, axes: int, frequencies: Tensor, height: float, error: float, in_real: float
) -> Tooth:
    common = _near_common(frequency, _spacing(frequencies))
    place = [0.0] * axes
    place[axis] = frequency if common is None else common[0] / common[1]
    return Tooth(_pair(place), None if common is None else (common,), height, error, in_real, "periodicity")


def _spacing(frequencies: Tensor) -> float:
    return float(frequencies[-1] - frequencies[-2])


def _near_common(frequency: float, tolerance: float) -> tuple[int, int] | None:
    for period in PERIODS:
        multiple = round(frequency * period)
        if multiple and abs(frequency - multiple / period) <= 1.001 * tolerance:
            return multiple // math.gcd(multiple, period), period // math.gcd(multiple, period)
    return None


def extended(risen: Sequence[Tooth], evident: Sequence[Tooth]) -> list[Tooth]:
    """The teeth that were found, and the fainter ones that tell which comb they belong to."""
    least = _EXTENT * max((tooth.height for tooth in risen), default=math.inf)
    return [*risen, *(tooth for tooth in evident if tooth.height >= least)]


def _pair(frequency: Sequence[float]) -> tuple[float, float]:
    """(vertical, horizontal); a signal has no vertical axis."""
    return (0.0, float(frequency[0])) if len(frequency) == 1 else (float(frequency[0]), float(frequency[1]))
