"""Upsampling, checkerboards, block grids: regular patterns that one set has and the other has not, by name."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from passband.metrics.contrast import Contrast
from passband.metrics.line_peaks import PERIODS, Line, common_frequency, find_lines, signed_index
from passband.metrics.peak_names import comb_period, peak_name
from passband.metrics.plane_map import whole_spectrum
from passband.metrics.probes.periodicity import axis_names, height_frequencies
from passband.metrics.profile_peaks import ProfileComparison, compare_profiles
from passband.metrics.sample_spectrum import SampleSpectrum

FoundBy = Literal["spectrum", "periodicity"]

_NEAR = 6  # bins of the padded profile that belong to one peak
_EXTENT = 0.25  # share of the strongest height from which a peak is a tooth of a comb that was found
_RESOLVED = 48  # side from which periods of 4 and 8 can be told apart
_EMPTY = 1e-11  # share of the mean power that is added to both sides of a ratio


@dataclass(frozen=True)
class Peak:
    """A regular pattern.

    Attributes:
        frequency: where it is strongest, (vertical, horizontal), cycles per position; signals have 0 as the first.
        period: the larger of both as a fraction m/p where p is 2, 3, 4, 8 or 16; None elsewhere.
        height: how far the generated set stands out there over the neighbouring frequencies, dB.
        error: standard error of the difference between the sets' heights, dB.
        found_by: "spectrum", a line of the mean power; or "periodicity", a period of where the samples are rough.
        name: what it is a sign of, a noun phrase without article.
        in_real: its height in the real set, dB.
        also: other frequencies at which the same pattern shows.

    """

    frequency: tuple[float, float]
    period: Fraction | None
    height: float
    error: float
    found_by: FoundBy
    name: str
    in_real: float
    also: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class PeakReport:
    """What [`find_peaks`][passband.metrics.peaks.find_peaks] finds; tensors are float64 on the CPU.

    Attributes:
        peaks: patterns that the generated set has and the real one has not, or less: the strongest first.
        both: patterns that both sets have alike, such as the block grid of photographs that were JPEG files.
        map: ratio of the two mean spectra of the gray plane, dB, the vertical axis first; frequency 0 is in the middle
            and NaN.
        frequency: cycles per position at which the profiles are given.
        profiles: for each axis, the height of the periodicity over the neighbouring frequencies, dB, of the real and
            of the generated set; empty where samples are too small.
        periodicity: the same as a family of quantities with intervals; None where samples are too small.

    """

    peaks: tuple[Peak, ...]
    both: tuple[Peak, ...]
    map: Tensor
    frequency: Tensor
    profiles: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    periodicity: Contrast | None = None


class _Tooth(NamedTuple):
    """One peak, perhaps of a comb; the multiples (m, p) are None where its frequency is no common one."""

    frequency: tuple[float, float]
    multiples: tuple[tuple[int, int], ...] | None
    height: float
    error: float
    in_real: float
    found_by: FoundBy

    @property
    def period(self) -> int | None:
        return None if self.multiples is None else math.lcm(*(p for _, p in self.multiples))


def find_peaks(real: SampleSpectrum, fake: SampleSpectrum, *, factor: float = 0.0) -> PeakReport:
    r"""Regular patterns of the generated set that exceed those of the real one, named.

    They show in two ways. Lines of the mean spectrum
    ([`find_lines`][passband.metrics.line_peaks.find_lines]) are patterns in the same place of every sample: the
    checkerboard of a transposed convolution. Peaks of the periodicity profile
    ([`PeriodicityProfile`][passband.metrics.probes.PeriodicityProfile]) are patterns of where a sample is
    smooth or rough, wherever it begins: interpolation, block codecs, tiles of upsampled pictures. A peak of the profile
    counts if its height exceeds that in the real set by more than the simultaneous bootstrap interval, by more than
    the noise floor of the real set's halves, by 2 dB, and by half of what the real set has itself. Peaks at multiples
    of one 1/p are one pattern.

    Args:
        real: the reference.
        fake: the other set, measured with the same settings.
        factor: half width of the intervals in standard errors, at least; the profile's own where that is wider.

    Returns:
        The patterns, with the maps and profiles in which they were found.

    Raises:
        ValueError: if a set is empty.

    Example:
        >>> import torch
        >>> from passband.metrics import SampleSpectrum
        >>> from passband.metrics.peaks import find_peaks
        >>> noise = torch.randn(2, 100, 1, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> real, fake = SampleSpectrum("real"), SampleSpectrum("fake")
        >>> real.update(noise[0])
        >>> fake.update(noise[1, ..., ::2, ::2].repeat_interleave(2, -1).repeat_interleave(2, -2))
        >>> [peak.name for peak in find_peaks(real, fake).peaks]
        ['2 x 2 grid (upsampling by 2, or a stride-2 transposed convolution)']

    """
    size, ratio = tuple(real.shape[1:]), _ratio_map(real, fake)
    lines = [_line_tooth(line, size) for line in find_lines(real.plane, fake.plane, size)]
    compared = compare_profiles(real, fake, factor=factor)
    if compared is None:
        return PeakReport(_named(lines, lines, real), (), ratio, torch.zeros(0, dtype=torch.float64))
    risen, evident = (_profile_teeth(compared, where, real.shape) for where in (compared.risen, compared.evident))
    shared = _profile_teeth(compared, compared.shared, real.shape)
    return PeakReport(
        peaks=_named([*lines, *risen], [*lines, *_extended(risen, evident)], real),
        both=_named(shared, shared, real),
        map=ratio,
        frequency=height_frequencies(real.shape),
        profiles=dict(zip(axis_names(real.shape), zip(compared.real, compared.fake, strict=True), strict=True)),
        periodicity=compared.contrast,
    )


def _ratio_map(real: SampleSpectrum, fake: SampleSpectrum) -> Tensor:
    extra, axes = _EMPTY * real.plane.mean.mean(), tuple(range(len(real.shape) - 1))
    ratio = 10 * torch.log10((fake.plane.mean + extra) / (real.plane.mean + extra))
    ratio[(0,) * len(axes)] = torch.nan  # what is left there of the mean that was taken off
    shifted: Tensor = torch.fft.fftshift(whole_spectrum(ratio[None], real.shape[-1])[0], dim=axes)
    return shifted


def _line_tooth(line: Line, size: tuple[int, ...]) -> _Tooth:
    index = signed_index(torch.tensor([line.place]), size)[0].tolist()
    multiples = [common_frequency(k, side) for k, side in zip(index, size, strict=True)]
    common = None if None in multiples else tuple(m for m in multiples if m is not None)
    frequency = [k / side for k, side in zip(index, size, strict=True)]
    if common is not None:
        frequency = [math.copysign(m / p, k) for k, (m, p) in zip(index, common, strict=True)]
    return _Tooth(_pair(frequency), common, line.height, line.error, line.in_real, "spectrum")


def _profile_teeth(compared: ProfileComparison, where: Tensor, shape: tuple[int, ...]) -> list[_Tooth]:
    """The highest of each run of neighbouring frequencies that are marked."""
    frequencies, teeth = height_frequencies(shape), []
    error = compared.contrast.error
    for axis, marked in enumerate(where):
        heights = torch.where(marked, compared.fake[axis], -torch.inf)
        for place in heights.argsort(descending=True)[: int(marked.sum())].tolist():
            if not heights[place].isfinite():
                continue
            measured = (float(each[axis, place]) for each in (compared.fake, error, compared.real))
            teeth.append(_profile_tooth(float(frequencies[place]), axis, len(where), frequencies, *measured))
            heights[max(place - _NEAR, 0) : place + _NEAR + 1] = -torch.inf
    return teeth


def _profile_tooth(
    frequency: float, axis: int, axes: int, frequencies: Tensor, height: float, error: float, in_real: float
) -> _Tooth:
    common = _near_common(frequency, float(frequencies[-1] - frequencies[-2]))
    place = [0.0] * axes
    place[axis] = frequency if common is None else common[0] / common[1]
    return _Tooth(_pair(place), None if common is None else (common,), height, error, in_real, "periodicity")


def _near_common(frequency: float, tolerance: float) -> tuple[int, int] | None:
    for period in PERIODS:
        multiple = round(frequency * period)
        if multiple and abs(frequency - multiple / period) <= 1.001 * tolerance:
            return multiple // math.gcd(multiple, period), period // math.gcd(multiple, period)
    return None


def _extended(risen: Sequence[_Tooth], evident: Sequence[_Tooth]) -> list[_Tooth]:
    """The teeth that were found, and the fainter ones that tell which comb they belong to."""
    least = _EXTENT * max((tooth.height for tooth in risen), default=math.inf)
    return [*risen, *(tooth for tooth in evident if tooth.height >= least)]


def _named(teeth: Sequence[_Tooth], signs: Sequence[_Tooth], spectrum: SampleSpectrum) -> tuple[Peak, ...]:
    """One peak for each pattern, the highest first."""
    combs: dict[int | tuple[float, float], list[_Tooth]] = {}
    for tooth in teeth:
        combs.setdefault(_comb(tooth, signs) or tooth.frequency, []).append(tooth)
    resolved = min(spectrum.shape[1:]) >= _RESOLVED
    patterns: dict[str, list[_Tooth]] = {}
    for comb, found in combs.items():
        name = peak_name(
            comb if isinstance(comb, int) else None,
            math.hypot(*found[0].frequency),
            kind=spectrum.kind,
            both_axes=_both_axes(found),
            line=any(tooth.found_by == "spectrum" for tooth in found),
            resolved=resolved,
        )
        patterns.setdefault(name, []).extend(found)
    return tuple(sorted((_peak(name, found) for name, found in patterns.items()), key=lambda peak: -peak.height))


def _comb(tooth: _Tooth, signs: Sequence[_Tooth]) -> int | None:
    if tooth.period is None:
        return None
    others = [(sign.period, sign.height) for sign in signs if sign.found_by == tooth.found_by and sign.period]
    return comb_period(tooth.period, tooth.height, others)


def _both_axes(teeth: Sequence[_Tooth]) -> bool:
    return all(any(tooth.frequency[axis] for tooth in teeth) for axis in (0, 1))


def _peak(name: str, teeth: Sequence[_Tooth]) -> Peak:
    strongest = max(teeth, key=_height)
    larger = Fraction(0) if not strongest.multiples else max(Fraction(*pair) for pair in strongest.multiples)
    also = sorted({tooth.frequency for tooth in teeth} - {strongest.frequency})
    return Peak(
        frequency=strongest.frequency,
        period=larger or None,
        height=strongest.height,
        error=strongest.error,
        found_by=strongest.found_by,
        name=name,
        in_real=strongest.in_real,
        also=tuple(also),
    )


def _height(tooth: _Tooth) -> float:
    return tooth.height


def _pair(frequency: Sequence[float]) -> tuple[float, float]:
    """(vertical, horizontal); a signal has no vertical axis."""
    return (0.0, float(frequency[0])) if len(frequency) == 1 else (float(frequency[0]), float(frequency[1]))
