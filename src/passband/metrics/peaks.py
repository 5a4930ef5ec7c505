"""Upsampling, checkerboards, block grids: regular patterns that one set has and the other has not, by name."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from passband.metrics.contrast import Contrast
from passband.metrics.line_peaks import find_lines
from passband.metrics.peak_names import HARMONIC, comb_period, peak_name
from passband.metrics.peak_teeth import FoundBy, Tooth, extended, line_tooth, profile_teeth
from passband.metrics.plane_map import whole_spectrum
from passband.metrics.planes import CHROMA, scanned_planes
from passband.metrics.probes.periodicity import axis_names, height_frequencies
from passband.metrics.profile_peaks import ProfileComparison, compare_profiles
from passband.metrics.sample_spectrum import SampleSpectrum

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
        plane: in which it lies: "luma", "Cb" or "Cr" of colour images; the gray plane of everything else.

    """

    frequency: tuple[float, float]
    period: Fraction | None
    height: float
    error: float
    found_by: FoundBy
    name: str
    in_real: float
    also: tuple[tuple[float, float], ...] = ()
    plane: str = ""


@dataclass(frozen=True)
class PeakReport:
    """What [`find_peaks`][passband.metrics.peaks.find_peaks] finds; tensors are float64 on the CPU.

    Attributes:
        peaks: patterns that the generated set has and the real one has not, or less: the strongest first.
        both: patterns that both sets have alike, such as the block grid of photographs that were JPEG files.
        maps: for each plane, the gray one first, the ratio of the two mean spectra, dB, the vertical axis first;
            frequency 0 is in the middle and NaN.
        frequency: cycles per position at which the profiles are given.
        profiles: for each plane and axis, the height of the periodicity over the neighbouring frequencies, dB, of the
            real and of the generated set; empty where samples are too small.
        periodicity: the same as a family of quantities with intervals; None where samples are too small.

    """

    peaks: tuple[Peak, ...]
    both: tuple[Peak, ...]
    maps: dict[str, Tensor]
    frequency: Tensor
    profiles: dict[str, dict[str, tuple[Tensor, Tensor]]] = field(default_factory=dict)
    periodicity: Contrast | None = None

    @property
    def map(self) -> Tensor:
        """The map of the gray plane."""
        return next(iter(self.maps.values()))


class _Teeth(NamedTuple):
    """Those of one plane: what has risen, with what else tells which comb it belongs to, and what both sets have."""

    risen: list[Tooth]
    evident: list[Tooth]
    shared: list[Tooth]


def find_peaks(real: SampleSpectrum, fake: SampleSpectrum, *, factor: float = 0.0) -> PeakReport:
    r"""Regular patterns of the generated set that exceed those of the real one, named.

    They show in two ways. Lines of the mean spectrum
    ([`find_lines`][passband.metrics.line_peaks.find_lines]) are patterns in the same place of every sample: the
    checkerboard of a transposed convolution. Peaks of the periodicity profile
    ([`PeriodicityProfile`][passband.metrics.probes.PeriodicityProfile]) are patterns of where a sample is
    smooth or rough, wherever it begins: interpolation, block codecs, tiles of upsampled pictures. A peak of the profile
    counts if its height exceeds that in the real set by more than the simultaneous bootstrap interval, by more than
    the noise floor of the real set's halves, by 2 dB, and by half of what the real set has itself. Peaks at multiples
    of one 1/p are one pattern. Both are looked for in luma and in both chroma planes of colour images, and in the gray
    plane of everything else; all are decided together.

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
    size, names = tuple(real.shape[1:]), scanned_planes(real.shape[0], real.kind)
    lines = [
        [line_tooth(line, size) for line in find_lines(real.plane, fake.plane, size, plane)]
        for plane in range(len(names))
    ]
    maps = {name: _ratio_map(real, fake, plane) for plane, name in enumerate(names)}
    compared = compare_profiles(real, fake, factor=factor)
    peaks: list[Peak] = []
    both: list[Peak] = []
    for plane, name in enumerate(names):
        found = _plane_teeth(lines[plane], compared, plane, real.shape)
        gray = {peak.name for peak in (*peaks, *both) if peak.plane == names[0]}
        peaks += _named(found.risen, found.evident, real, name, gray)
        both += _named(found.shared, found.shared, real, name, gray)
    if compared is None:
        return PeakReport(_by_height(peaks), (), maps, torch.zeros(0, dtype=torch.float64))
    heights = [
        dict(zip(axis_names(real.shape), zip(*pair, strict=True), strict=True))
        for pair in zip(compared.real, compared.fake, strict=True)
    ]
    return PeakReport(
        peaks=_by_height(peaks),
        both=_by_height(both),
        maps=maps,
        frequency=height_frequencies(real.shape),
        profiles=dict(zip(names, heights, strict=True)),
        periodicity=compared.contrast,
    )


def _plane_teeth(lines: list[Tooth], compared: ProfileComparison | None, plane: int, shape: tuple[int, ...]) -> _Teeth:
    """What is found in one plane."""
    if compared is None:
        return _Teeth(lines, lines, [])
    fake, real, error = (each[plane] for each in (compared.fake, compared.real, compared.contrast.error))
    risen, evident, shared = (
        profile_teeth(where[plane], (fake, error, real), shape)
        for where in (compared.risen, compared.evident, compared.shared)
    )
    return _Teeth([*lines, *risen], [*lines, *extended(risen, evident)], shared)


def _by_height(peaks: Sequence[Peak]) -> tuple[Peak, ...]:
    return tuple(sorted(peaks, key=lambda peak: -peak.height))


def _ratio_map(real: SampleSpectrum, fake: SampleSpectrum, plane: int) -> Tensor:
    extra, axes = _EMPTY * real.plane.mean(0).mean(), tuple(range(len(real.shape) - 1))
    ratio = 10 * torch.log10((fake.plane.mean(plane) + extra) / (real.plane.mean(plane) + extra))
    ratio[(0,) * len(axes)] = torch.nan  # what is left there of the mean that was taken off
    shifted: Tensor = torch.fft.fftshift(whole_spectrum(ratio[None], real.shape[-1])[0], dim=axes)
    return shifted


def _named(
    teeth: Sequence[Tooth], signs: Sequence[Tooth], spectrum: SampleSpectrum, plane: str, gray: Collection[str]
) -> list[Peak]:
    """One peak for each pattern of a plane; those of chroma that the gray plane has as well are called as they are."""
    combs: dict[int | tuple[float, float], list[Tooth]] = {}
    for tooth in teeth:
        combs.setdefault(_comb(tooth, signs, plane) or tooth.frequency, []).append(tooth)
    patterns: dict[str, list[Tooth]] = {}
    for comb, found in combs.items():
        named = partial(
            peak_name,
            comb if isinstance(comb, int) else None,
            math.hypot(*found[0].frequency),
            kind=spectrum.kind,
            both_axes=_both_axes(found),
            line=any(tooth.found_by == "spectrum" for tooth in found),
            resolved=min(spectrum.shape[1:]) >= _RESOLVED,
        )
        name = named(colour=plane in CHROMA and named() not in gray)
        patterns.setdefault(name, []).extend(found)
    return [_peak(name, found, plane) for name, found in patterns.items()]


def _comb(tooth: Tooth, signs: Sequence[Tooth], plane: str) -> int | None:
    if tooth.period is None:
        return None
    others = [(sign.period, sign.height) for sign in signs if sign.found_by == tooth.found_by and sign.period]
    # A codec that halves colour leaves one comb of 16, whose even teeth upsampling makes the higher ones.
    return comb_period(tooth.period, tooth.height, others, 2 * HARMONIC if plane in CHROMA else HARMONIC)


def _both_axes(teeth: Sequence[Tooth]) -> bool:
    return all(any(tooth.frequency[axis] for tooth in teeth) for axis in (0, 1))


def _peak(name: str, teeth: Sequence[Tooth], plane: str) -> Peak:
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
        plane=plane,
    )


def _height(tooth: Tooth) -> float:
    return tooth.height
