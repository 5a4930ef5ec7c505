"""What is said of the octaves' power: which are wrong, by how much, and in which planes."""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from passband.metrics.planes import LUMA, POOLED
from passband.metrics.sample_comparison import SampleComparison
from passband.reports.spectrum.words import Terms, counted, finite, periods, power_words, terms_of
from passband.reports.words import signed

_SPEAKS = (LUMA, POOLED)
_NAMED_RUNS = 3
_TOP = 0.5  # cycles per pixel
_ALIKE = 0.8  # of the largest difference: octaves beyond it differ about as much


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


def power_sentence(comparison: SampleComparison) -> str:
    """Where the power is wrong and by how much, in one sentence."""
    terms, plane = terms_of(comparison.kind, comparison.sample_rate), main_plane(comparison)
    found, who = runs(comparison, plane), f"The fake {terms.samples}"
    constant = constant_sentence(comparison)
    if constant:
        return constant
    if not is_known(comparison):
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
    who += _character(found, terms)
    phrases = [_run_phrase(run, terms) for run in found[:_NAMED_RUNS]]
    more = len(found) - _NAMED_RUNS
    rest = (
        f"; {counted(more, 'other range')} of octaves {'differs' if more == 1 else 'differ'} less" if more > 0 else ""
    )
    return f"{who}{'; '.join(phrases)}{rest}."


def main_plane(comparison: SampleComparison) -> int:
    """Index of the plane that speaks for the samples: luma, all channels together, or the only one."""
    names = comparison.contrasts["octaves"].labels[0]
    return next((names.index(name) for name in _SPEAKS if name in names), 0)


def plane_name(comparison: SampleComparison) -> str:
    """The main plane in words; empty for samples of one channel."""
    if comparison.channels == 1:
        return ""
    return plane_words(comparison.contrasts["octaves"].labels[0][main_plane(comparison)])


def plane_words(label: str) -> str:
    """A plane's label as it stands in a sentence: "channel 2", "luma"."""
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


def constant_sentence(comparison: SampleComparison) -> str:
    """A sentence on sets whose samples hold nothing but their mean; empty for others."""
    terms, radial = terms_of(comparison.kind, comparison.sample_rate), comparison.contrasts["radial"]
    named = (("real", radial.reference), ("fake", radial.value))
    flat = [name for name, power in named if not bool((power[:, 1:] > 0).any())]
    if not flat:
        return ""
    who = f"The {' and the '.join(flat)} {terms.samples}"
    return f"{who} are constant, without power at any frequency: check that they were read as they should be."


def is_known(comparison: SampleComparison) -> bool:
    """Whether there is any interval: a difference without one says nothing."""
    octaves, plane = comparison.contrasts["octaves"], main_plane(comparison)
    return len(finite((octaves.high - octaves.low)[plane])) > 0


def _is_even(comparison: SampleComparison, found: Sequence[Run]) -> bool:
    """Whether all octaves differ about as much: the contrast is wrong, not the shape of the spectrum."""
    if len(comparison.octaves) < 2 or len(found[0].octaves) < len(comparison.octaves):
        return False
    return min(map(abs, found[0].differences)) >= _ALIKE * abs(found[0].largest)


def _character(found: Sequence[Run], terms: Terms) -> str:
    """One word for the whole, where there is one."""
    if len(found) == 1 and found[0].high == _TOP and abs(found[0].largest) >= terms.least:
        return f" are {terms.smooth if found[0].largest < 0 else terms.rough}: "
    return " have the wrong amount of power: "


def _run_phrase(run: Run, terms: Terms) -> str:
    """The octave that differs most in words, the next one in decibels, and how far the others reach."""
    order = sorted(range(len(run.octaves)), key=lambda i: -abs(run.differences[i]))
    first = run.octaves[order[0]]
    waves = "" if terms.sample_rate else f" (waves of {periods(first)} {terms.steps})"
    phrase = f"in the octave {terms.within(first)}{waves} {power_words(run.largest)} ({signed(run.largest, 1)} dB)"
    if len(order) > 1:
        phrase += f", at {terms.octave(run.octaves[order[1]])} it is {signed(run.differences[order[1]], 1)} dB"
    if len(order) > 2:
        # The others lie on either side of the two that are named.
        alike = abs(run.differences[order[2]]) >= _ALIKE * abs(run.largest)
        phrase += f", and {'about as much' if alike else 'less'} elsewhere in {terms.octave((run.low, run.high))}"
    return phrase


def _agreeing(comparison: SampleComparison, who: str) -> str:
    """No octave of the main plane is called; perhaps a colour or a direction is."""
    octaves, plane = comparison.contrasts["octaves"], main_plane(comparison)
    terms = terms_of(comparison.kind, comparison.sample_rate)
    others = [i for i in range(len(octaves.labels[0])) if i != plane and bool(octaves.different[i].any())]
    if others:
        worst = max(
            others, key=lambda i: float((octaves.difference[i].abs() * octaves.different[i]).nan_to_num().max())
        )
        found = runs(comparison, worst)[0]
        name, phrase = plane_words(octaves.labels[0][worst]), _run_phrase(found, terms)
        return (
            f"{who} agree with the real ones in {plane_name(comparison)}, within chance, but not in {name}: {phrase}."
        )
    return f"{who} have no more or less power than the real ones in any octave, beyond what chance alone explains."
