"""What a comparison says, in three sentences: where the power is wrong, what else is, and how sure that is."""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from torch import Tensor

from passband.metrics.contrast import LEAST_GROUPS, Contrast
from passband.metrics.peaks import Peak
from passband.metrics.planes import POOLED
from passband.metrics.sample_comparison import SampleComparison
from passband.reports.spectrum.words import (
    Terms,
    counted,
    finite,
    fraction,
    joined,
    octave_name,
    periods,
    power_words,
    signed,
    terms_of,
)

_SPEAKS = ("luma", POOLED)
_NAMED_RUNS = 3
_NAMED_PEAKS = 2
_FEW = 10  # independent groups; below, a bootstrap says little
_TOP = 0.5  # cycles per pixel
_CLOSE = 1e-6
_APART = 1.0  # dB by which a colour must differ more than the whole to be named besides
_ALIKE = 0.8  # of the largest difference: octaves beyond it differ about as much
# A blur that is the same in all directions takes about a tenth more in some than in others, as their power is
# spread otherwise over the octave.
_UNEVEN, _UNEVEN_SHARE = 0.5, 0.25  # dB, and of the octave's difference


class Run(NamedTuple):
    """Neighbouring octaves that are called, all with too much or all with too little power.

    Attributes:
        low: lowest frequency, cycles per pixel.
        high: highest one.
        differences: dB, of the highest octave first.
        octaves: the ends of each.

    """

    low: float
    high: float
    differences: tuple[float, ...]
    octaves: tuple[tuple[float, float], ...]

    @property
    def largest(self) -> float:
        """The difference of largest size, dB."""
        return max(self.differences, key=abs)


def describe(comparison: SampleComparison) -> tuple[str, str, str]:
    """Three sentences that a person would write.

    Args:
        comparison: from [`compare_samples`][passband.metrics.compare_samples].

    Returns:
        Where the power is wrong and by how much; which artefacts there are, and what else differs; how sure this is.

    Example:
        >>> import torch
        >>> from passband.metrics import SampleSpectrum, compare_samples
        >>> from passband.reports.spectrum import describe
        >>> generator = torch.Generator().manual_seed(1)
        >>> real, fake = SampleSpectrum("real", kind="signals"), SampleSpectrum("fake", kind="signals")
        >>> real.update(torch.randn(500, 1, 4, generator=generator), [f"r{i}" for i in range(500)])
        >>> fake.update(torch.randn(500, 1, 4, generator=generator), [f"f{i}" for i in range(500)])
        >>> print(describe(compare_samples(real, fake))[0])
        The fake signals have no more or less power than the real ones in any octave, beyond what chance alone explains.

    """
    return _power(comparison), _structure(comparison), _certainty(comparison)


def main_plane(comparison: SampleComparison) -> int:
    """Index of the plane that speaks for the samples: luma, all channels together, or the only one."""
    names = comparison.contrasts["octaves"].labels[0]
    return next((names.index(name) for name in _SPEAKS if name in names), 0)


def plane_name(comparison: SampleComparison) -> str:
    """The main plane in words; empty for samples of one channel."""
    if comparison.channels == 1:
        return ""
    return _plane_words(comparison.contrasts["octaves"].labels[0][main_plane(comparison)])


def _plane_words(label: str) -> str:
    if label == POOLED:
        return "all channels together"
    return f"channel {label}" if label.isdigit() else label


def runs(comparison: SampleComparison, plane: int) -> list[Run]:
    """The runs of neighbouring octaves of a plane that are called, the largest difference first."""
    octaves = comparison.contrasts["octaves"]
    signs = [
        int(math.copysign(1, float(octaves.difference[plane, i]))) if bool(octaves.different[plane, i]) else 0
        for i in range(len(comparison.octaves))
    ]
    found = []
    for sign, group in groupby(range(len(signs)), key=signs.__getitem__):
        places = list(group)
        if sign:
            ends = tuple(comparison.octaves[i] for i in places)
            differences = tuple(float(octaves.difference[plane, i]) for i in places)
            found.append(Run(ends[-1][0], ends[0][1], differences, ends))
    return sorted(found, key=lambda run: -abs(run.largest))


def _power(comparison: SampleComparison) -> str:
    terms, plane = terms_of(comparison.kind), main_plane(comparison)
    found, who = runs(comparison, plane), f"The fake {terms.samples}"
    constant = _constant(comparison)
    if constant:
        return constant
    if not _is_known(comparison):
        return (
            f"Whether {who[:1].lower()}{who[1:]} have more or less power than the real ones cannot be told from so few."
        )
    if not found:
        return _agreeing(comparison, who)
    if _is_even(comparison, found):
        largest = found[0].largest
        kind = "little" if largest < 0 else "much"
        amount = f"{power_words(largest)} ({signed(largest, 1)} dB at most)"
        return f"{who} have too {kind} power in all octaves alike: {amount}."
    who += _character(found)
    phrases = [_run_phrase(run, terms) for run in found[:_NAMED_RUNS]]
    more = len(found) - _NAMED_RUNS
    rest = (
        f"; {counted(more, 'other range')} of octaves {'differs' if more == 1 else 'differ'} less" if more > 0 else ""
    )
    return f"{who}{'; '.join(phrases)}{rest}."


def _constant(comparison: SampleComparison) -> str:
    """A sentence on sets whose samples hold nothing but their mean; empty for others."""
    terms, radial = terms_of(comparison.kind), comparison.contrasts["radial"]
    named = (("real", radial.reference), ("fake", radial.value))
    flat = [name for name, power in named if not bool((power[:, 1:] > 0).any())]
    if not flat:
        return ""
    who = f"The {' and the '.join(flat)} {terms.samples}"
    return f"{who} are constant, without power at any frequency: check that they were read as they should be."


def _is_known(comparison: SampleComparison) -> bool:
    """Whether there is any interval: a difference without one says nothing."""
    octaves, plane = comparison.contrasts["octaves"], main_plane(comparison)
    return len(finite((octaves.high - octaves.low)[plane])) > 0


def _is_even(comparison: SampleComparison, found: Sequence[Run]) -> bool:
    """Whether all octaves differ about as much: the contrast is wrong, not the shape of the spectrum."""
    if len(comparison.octaves) < 2 or len(found[0].octaves) < len(comparison.octaves):
        return False
    return min(map(abs, found[0].differences)) >= _ALIKE * abs(found[0].largest)


def _character(found: Sequence[Run]) -> str:
    """One word for the whole, where there is one."""
    if len(found) == 1 and found[0].high == _TOP:
        return f" are too {'smooth' if found[0].largest < 0 else 'rough'}: "
    return " have the wrong amount of power: "


def _run_phrase(run: Run, terms: Terms) -> str:
    """The octave that differs most in words, the next one in decibels, and how far the others reach."""
    order = sorted(range(len(run.octaves)), key=lambda i: -abs(run.differences[i]))
    first = run.octaves[order[0]]
    phrase = (
        f"in the octave {octave_name(first)} {_cycles(first[1], terms)} (waves of {periods(first)} {terms.steps}) "
        f"{power_words(run.largest)} ({signed(run.largest, 1)} dB)"
    )
    if len(order) > 1:
        phrase += f", at {octave_name(run.octaves[order[1]])} it is {signed(run.differences[order[1]], 1)} dB"
    if len(order) > 2:
        # The others lie on either side of the two that are named.
        alike = abs(run.differences[order[2]]) >= _ALIKE * abs(run.largest)
        phrase += f", and {'about as much' if alike else 'less'} elsewhere in {fraction(run.low)}–{fraction(run.high)}"
    return phrase


def _cycles(frequency: float, terms: Terms) -> str:
    """Fractions of one are spoken of as one: 1/4 cycle per pixel."""
    return f"cycle per {terms.step}" if frequency < 1 else terms.unit


def _agreeing(comparison: SampleComparison, who: str) -> str:
    """No octave of the main plane is called; perhaps a colour or a direction is."""
    octaves, plane = comparison.contrasts["octaves"], main_plane(comparison)
    others = [i for i in range(len(octaves.labels[0])) if i != plane and bool(octaves.different[i].any())]
    if others:
        worst = max(
            others, key=lambda i: float((octaves.difference[i].abs() * octaves.different[i]).nan_to_num().max())
        )
        found = runs(comparison, worst)[0]
        name, phrase = _plane_words(octaves.labels[0][worst]), _run_phrase(found, terms_of(comparison.kind))
        return (
            f"{who} agree with the real ones in {plane_name(comparison)}, within chance, but not in {name}: {phrase}."
        )
    return f"{who} have no more or less power than the real ones in any octave, beyond what chance alone explains."


def _structure(comparison: SampleComparison) -> str:
    peaks, others = comparison.peaks.peaks, other_findings(comparison)
    if peaks:
        named = "; and ".join([_peak_phrase(peak, terms_of(comparison.kind)) for peak in peaks[:_NAMED_PEAKS]])
        more = len(peaks) - _NAMED_PEAKS
        tail = f" (and {counted(more, 'more peak')})" if more > 0 else ""
        sentence = f"They carry {named}{tail}"
        return f"{sentence}; besides, {joined(others)}." if others else f"{sentence}."
    own = f" (both sets carry {with_article(comparison.peaks.both[0].name)})" if comparison.peaks.both else ""
    nothing = f"No checkerboard, block grid or other regular pattern of theirs stands out{own}"
    if others:
        return f"{nothing}, but {joined(others)}."
    measured = [word for name, word in _MEASURED if name in comparison.contrasts]
    if not measured or not _is_known(comparison):
        return f"{nothing}."
    return f"{nothing}, and {joined(measured)} show no difference beyond chance."


_MEASURED = (
    ("directions", "the directions"),
    ("wavelet kurtosis", "the sub-bands"),
    ("coherence", "the phases across scales"),
)


def _peak_phrase(peak: Peak, terms: Terms) -> str:
    return f"{with_article(peak.name)}, {peak.height:.0f} dB above its surroundings at {peak_place(peak, terms)}"


def with_article(name: str) -> str:
    """A noun phrase with its article: "an 8 × 8 block grid"."""
    name = name.replace(" x ", " × ")
    if name.startswith(("a ", "an ")):
        return name
    return f"{'an' if name[:1].lower() in 'aeio8' else 'a'} {name}"


def peak_place(peak: Peak, terms: Terms) -> str:
    """Where a peak lies, in words."""
    vertical, horizontal = (abs(part) for part in peak.frequency)
    if not vertical or not horizontal:
        along = "horizontally" if horizontal else "vertically"
        found = vertical or horizontal
        return f"{fraction(found)} {_cycles(found, terms)}{'' if terms.step == 'sample' else f' {along}'}"
    if abs(vertical - horizontal) < _CLOSE:
        return f"{fraction(vertical)} {_cycles(vertical, terms)} both ways"
    return f"{fraction(vertical)} vertically and {fraction(horizontal)} horizontally, in {terms.unit}"


def other_findings(comparison: SampleComparison) -> list[str]:
    """What differs besides the octaves' power, one clause each, without a full stop."""
    clauses = _colour_clause(comparison)
    kurtosis = comparison.contrasts.get("wavelet kurtosis")
    if kurtosis is not None and bool(kurtosis.different.any()):
        clauses.append(_kurtosis_clause(kurtosis))
    coherence = comparison.contrasts.get("coherence")
    if coherence is not None and bool(coherence.different.any()):
        worst = _worst(coherence)
        less = float(coherence.difference[worst]) < 0
        clauses.append(f"phases are aligned {'less' if less else 'more'} across scales than at real edges")
    directions = comparison.contrasts.get("directions")
    uneven = None if directions is None else _most_uneven(directions)
    if uneven is not None:
        clauses.append(f"directions are uneven (most at {uneven})")
    return clauses


def _colour_clause(comparison: SampleComparison) -> list[str]:
    """A plane whose power is much further off than that of the main one."""
    octaves, main = comparison.contrasts["octaves"], main_plane(comparison)
    if len(octaves.labels[0]) < 2 or not runs(comparison, main):
        return []
    further = octaves.difference.abs() - octaves.difference[main].abs()
    apart = (octaves.low > octaves.high[main]) | (octaves.high < octaves.low[main])
    beyond = (further * (octaves.different & apart)).nan_to_num(0.0)
    worst = int(beyond.argmax())
    plane, octave = divmod(worst, beyond.shape[1])
    if float(beyond[plane, octave]) < _APART:
        return []
    value = signed(float(octaves.difference[plane, octave]), 1)
    name, where = _plane_words(octaves.labels[0][plane]), octave_name(comparison.octaves[octave])
    return [f"{name} is further off ({value} dB at {where})"]


def _kurtosis_clause(kurtosis: Contrast) -> str:
    worst = _worst(kurtosis)
    less = float(kurtosis.difference[worst]) < 0
    what = "too few strong details" if less else "too many strong details"
    fake, real = float(kurtosis.value[worst]), float(kurtosis.reference[worst])
    return f"their sub-bands hold {what} (kurtosis {fake:.1f}, real {real:.1f})"


def _most_uneven(directions: Contrast) -> str | None:
    """The direction that is furthest from the others of its octave; None unless it is so by more than chance allows."""
    middle = directions.difference.nanmedian(1, keepdim=True).values
    lows, highs = directions.low.amax(1), directions.high.amin(1)
    away = ((directions.difference - middle).abs() * directions.different).nan_to_num(0.0)
    least = (_UNEVEN_SHARE * middle[:, 0].abs()).clamp_min(_UNEVEN)
    uneven = (lows > highs) & (away.amax(1) >= least)
    if not bool(uneven.any()):
        return None
    return directions.labels[1][int((away * uneven[:, None]).argmax()) % away.shape[1]]


def _worst(contrast: Contrast) -> tuple[int, ...]:
    """Where the called difference of largest size is."""
    size = (contrast.difference.abs() * contrast.different).nan_to_num(0.0)
    flat = int(size.argmax())
    place: list[int] = []
    for length in reversed(size.shape):
        place.insert(0, flat % length)
        flat //= length
    return tuple(place)


def _certainty(comparison: SampleComparison) -> str:
    terms, plane = terms_of(comparison.kind), main_plane(comparison)
    octaves = comparison.contrasts["octaves"]
    counts = f"{comparison.real_count:,} real and {comparison.fake_count:,} fake {terms.samples}"
    half = finite((octaves.high - octaves.low)[plane] / 2)
    if not len(half):
        if _constant(comparison):
            return f"Compared were {counts}."
        counts += _groups(comparison)
        return f"A comparison of {counts} cannot say how much of this is chance: it takes more of them."
    sentence = (
        f"From {counts}{_groups(comparison)}, an octave's difference is known to ±{_within(half)} (95 %, all "
        "quantities at once)"
    )
    floor = finite(octaves.floor[plane])
    if comparison.paired:
        sentence += "; both sets show the same content, so that its chance cancels"
    elif len(floor) and float(floor.max()) > 0:
        sentence += f"; two halves of the real set differ by up to {float(floor.max()):.2g} dB themselves"
    return f"{sentence}."


def _within(values: Tensor) -> str:
    """Some sizes by the largest; "or less" where they differ."""
    low, high = float(values.min()), float(values.max())
    return f"{max(high, 0.01):.2g} dB{'' if high < 1.5 * low else ' or less'}"


def _groups(comparison: SampleComparison) -> str:
    """How few of the samples are independent of each other, where it matters."""
    fewer = min(comparison.real_count, comparison.fake_count)
    if not comparison.groups < 0.5 * fewer:
        return ""
    care = ", few enough to take this with care" if LEAST_GROUPS <= comparison.groups < _FEW else ""
    number = round(comparison.groups)
    return f" (out of about {number} independent file{'s' * (number != 1)}{care})"
