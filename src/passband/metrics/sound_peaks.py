"""Regular patterns of audio by what is heard: tones, the hum of the mains, roughness in a decoder's stride."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction

from jaxtyping import Float
from torch import Tensor

from passband.metrics.frequency_words import hertz
from passband.metrics.line_peaks import PERIODS
from passband.metrics.peaks import Peak, PeakReport
from passband.metrics.sample_spectrum import SampleSpectrum

_MAINS, _MULTIPLES = (50, 60), 10  # Hz
_TOLERANCE = 0.5  # bins within which a line's frequency is known
_LOBE = 3  # bins of the periodicity's profile that a peak reaches into


def sound_peaks(report: PeakReport, fake: SampleSpectrum) -> PeakReport:
    """The patterns of audio with the names of sounds, and lines at their frequencies between two bins.

    The size of a tone of frequency f comes and goes at 2 f and 4 f: a period of the roughness there is the tone's, and
    no pattern of its own.

    Args:
        report: from [`find_peaks`][passband.metrics.peaks.find_peaks].
        fake: the generated set, with its sample rate.

    Raises:
        ValueError: if it has no sample rate.

    """
    if fake.sample_rate is None:
        raise ValueError(f"{fake.name} have no sample rate, so their patterns have no frequency in Hz")
    power = fake.plane.mean(0) if fake.taper == "hann" else None
    peaks, both = _without_rectified(report)
    return replace(
        report,
        peaks=_sounds(peaks, power, fake.shape[-1], fake.sample_rate),
        both=_sounds(both, power, fake.shape[-1], fake.sample_rate),
    )


def between_bins(power: Float[Tensor, " bins"], index: int) -> float:
    r"""The place of a line in the power seen through a Hann window, in bins.

    $k \pm (2a - 1) / (a + 1)$, a the ratio of the amplitude of the higher neighbour to that of bin k, its maximum:
    exact for one sinusoid of many periods.

    Example:
        >>> import torch
        >>> from passband.metrics.sound_peaks import between_bins
        >>> wave = torch.cos(2 * torch.pi * 12.8 * torch.arange(4096) / 4096) * torch.hann_window(4096)
        >>> round(between_bins(torch.fft.rfft(wave).abs() ** 2, 13), 2)
        12.8

    Source: Grandke, Interpolation Algorithms for Discrete Fourier Transforms of Weighted Signals (1983).
    """
    if not 0 < index < len(power) - 1 or float(power[index]) <= 0:
        return float(index)
    side = 1 if power[index + 1] >= power[index - 1] else -1
    ratio = math.sqrt(float(power[index + side] / power[index]))
    return index + side * min(max((2 * ratio - 1) / (ratio + 1), 0.0), _TOLERANCE)


def sound_name(period: int | None, frequency: float, *, line: bool, mains: int | None = None) -> str:
    """A noun phrase for a regular pattern of audio.

    Args:
        period: p where its peaks are at multiples of 1/p of the sample rate, None elsewhere.
        frequency: of the strongest peak, Hz.
        line: whether the power itself has a line there, not only the roughness a period.
        mains: 50 or 60 where it belongs to the hum of that, see `mains_of`.

    Example:
        >>> from passband.metrics.sound_peaks import sound_name
        >>> sound_name(None, 440.0, line=True), sound_name(None, 100.0, line=True, mains=50)
        ('tone of 440 Hz', 'hum of the mains (50 Hz and its multiples)')
        >>> sound_name(4, 4000.0, line=False)
        'pattern that repeats every 4 samples (upsampling by 4, or a transposed convolution of stride 4)'

    """
    if mains is not None:
        return f"hum of the mains ({mains} Hz and its multiples)"
    if period is None:
        return f"tone of {hertz(frequency)}" if line else f"roughness that repeats at {hertz(frequency)}"
    cause = f"upsampling by {period}, or a transposed convolution of stride {period}"
    if line:
        return f"tone of {hertz(frequency)} (every {period} samples: perhaps {cause})"
    return f"pattern that repeats every {period} samples ({cause})"


def mains_of(frequency: float, lines: Iterable[float], tolerance: float) -> int | None:
    """50 or 60 where a line is at one of its first ten multiples, and the first or second of these is among the lines.

    Args:
        frequency: of the line, Hz.
        lines: frequencies of all lines, Hz.
        tolerance: how exactly they are known, Hz.

    Example:
        >>> from passband.metrics.sound_peaks import mains_of
        >>> mains_of(150.2, [50.3, 150.2], 1.0), mains_of(150.2, [150.2], 1.0), mains_of(120.0, [120.0], 1.0)
        (50, None, 60)

    """
    found = list(lines)
    for base in _MAINS:
        multiple = round(frequency / base)
        known = any(abs(line - first * base) <= tolerance for line in found for first in (1, 2))
        if known and 1 <= multiple <= _MULTIPLES and abs(frequency - multiple * base) <= tolerance:
            return base
    return None


def _without_rectified(report: PeakReport) -> tuple[list[Peak], list[Peak]]:
    """The patterns of the report without the periods of the roughness that tones bring with them."""
    lines = [_places(peak) for peak in (*report.peaks, *report.both) if peak.found_by == "spectrum"]
    doubled = [_folded(times * place) for places in lines for place in places for times in (2, 4)]
    near = _LOBE * float(report.frequency[1] - report.frequency[0]) if len(report.frequency) > 1 else 0.0

    def own(peak: Peak) -> bool:
        off = [min((abs(place - other) for other in doubled), default=1.0) for place in _places(peak)]
        return peak.found_by == "spectrum" or max(off) > near

    return [peak for peak in report.peaks if own(peak)], [peak for peak in report.both if own(peak)]


def _places(peak: Peak) -> list[float]:
    return [abs(place[1]) for place in (peak.frequency, *peak.also)]


def _folded(frequency: float) -> float:
    """Where a frequency shows that sampling folds back, in cycles per sample."""
    return abs(frequency - round(frequency))


def _sounds(peaks: Sequence[Peak], power: Tensor | None, length: int, sample_rate: int) -> tuple[Peak, ...]:
    """Renamed; those of one name are one pattern, the strongest with the frequencies of the others."""
    placed = [_placed(peak, power, length) for peak in peaks]
    lines = [_highest(peak) * sample_rate for peak in placed if peak.found_by == "spectrum"]
    patterns: dict[str, Peak] = {}
    for peak in placed:  # the strongest first
        name = _name(peak, lines, sample_rate, length)
        known = patterns.get(name)
        patterns[name] = replace(peak, name=name) if known is None else _joined(known, peak)
    return tuple(patterns.values())


def _placed(peak: Peak, power: Tensor | None, length: int) -> Peak:
    """The line at its place between two bins."""
    if power is None or peak.found_by != "spectrum" or peak.period is not None:
        return peak
    return replace(peak, frequency=(0.0, between_bins(power, round(_highest(peak) * length)) / length))


def _name(peak: Peak, lines: Sequence[float], sample_rate: int, length: int) -> str:
    frequency, line = _highest(peak) * sample_rate, peak.found_by == "spectrum"
    mains = mains_of(frequency, lines, _TOLERANCE * sample_rate / length) if line else None
    return sound_name(_comb(peak), frequency, line=line, mains=mains)


def _comb(peak: Peak) -> int | None:
    """The period of which all its frequencies are multiples; None of a single tone."""
    if peak.period is None:
        return None
    teeth = [Fraction(place).limit_denominator(max(PERIODS)) for place in _places(peak)]
    return math.lcm(*(tooth.denominator for tooth in teeth))


def _joined(peak: Peak, other: Peak) -> Peak:
    return replace(peak, also=tuple(sorted({*peak.also, other.frequency, *other.also} - {peak.frequency})))


def _highest(peak: Peak) -> float:
    return abs(peak.frequency[1])
