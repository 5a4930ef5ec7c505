"""The words of a spectrum report: what samples and their parts are called, frequencies, shares of power."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from passband.metrics.frequency_words import fraction, hertz, octave_name
from passband.reports.words import signed

_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


class Terms(NamedTuple):
    """What the samples of a kind are called.

    Attributes:
        samples: several of them.
        sample: one of them.
        step: what a frequency counts cycles per.
        steps: several of those.
        counted: what is counted, where it is not the samples.
        smooth: what they are that lack power at the top.
        rough: what they are that have too much there.
        patterns: examples of regular patterns.
        sharp: what phases line up at.
        least: dB at the top from which these words are used.
        sample_rate: of audio, Hz: frequencies are in Hz then.

    """

    samples: str
    sample: str
    step: str
    steps: str
    counted: str
    smooth: str = "too smooth"
    rough: str = "too rough"
    patterns: str = "checkerboard, block grid"
    sharp: str = "edges"
    least: float = 0.0
    sample_rate: float | None = None

    @property
    def unit(self) -> str:
        """The unit of a frequency."""
        return "Hz" if self.sample_rate else f"cycles per {self.step}"

    def frequency(self, frequency: float) -> str:
        """A frequency of cycles per position: 1/4, or 4 kHz of audio."""
        return hertz(frequency * self.sample_rate) if self.sample_rate else fraction(frequency)

    def at(self, frequency: float) -> str:
        """A frequency with its unit; fractions of one are spoken of as one: 1/4 cycle per pixel."""
        if self.sample_rate:
            return self.frequency(frequency)
        return f"{fraction(frequency)} {f'cycle per {self.step}' if frequency < 1 else self.unit}"

    def octave(self, octave: Sequence[float]) -> str:
        """An octave by its two ends: 1/4–1/2, or 4–8 kHz of audio."""
        return octave_name(octave, self.sample_rate)

    def within(self, octave: Sequence[float]) -> str:
        """An octave with the unit of its ends."""
        if self.sample_rate:
            return self.octave(octave)
        return f"{self.octave(octave)} {f'cycle per {self.step}' if octave[1] < 1 else self.unit}"

    def titled(self, title: str) -> str:
        """A title with the unit of what stands under it; what is in Hz says so itself."""
        return title if self.sample_rate else f"{title} ({self.unit})"


_TERMS = {
    "images": Terms("images", "image", "pixel", "pixels", "images"),
    "latents": Terms("latents", "latent", "position", "positions", "latents"),
    "signals": Terms("signals", "signal", "sample", "samples", "signals", patterns="upsampling"),
}
_AUDIO = Terms(
    "clips", "frame", "sample", "samples", "frames", "muffled", "too bright", "tone, hum", "attacks", least=3.0
)


def terms_of(kind: str, sample_rate: float | None = None) -> Terms:
    """The words for a kind of samples.

    Args:
        kind: "images", "latents" or "signals".
        sample_rate: of signals that are audio, Hz.

    Example:
        >>> from passband.reports.spectrum.words import terms_of
        >>> terms_of("latents").within((0.25, 0.5)), terms_of("signals", 16000).within((0.25, 0.5))
        ('1/4–1/2 cycle per position', '4–8 kHz')

    """
    return _TERMS[kind] if sample_rate is None else _AUDIO._replace(sample_rate=sample_rate)


def periods(octave: Sequence[float]) -> str:
    """The lengths of the waves of an octave, shortest first.

    Example:
        >>> from passband.reports.spectrum.words import periods
        >>> periods((0.25, 0.5)), periods((1 / 1024, 1 / 512))
        ('2–4', '512–1,024')

    """
    lengths = (1 / end for end in reversed(octave))
    return "–".join(f"{length:.3g}" if length < 1000 else f"{length:,.0f}" for length in lengths)


def interval(low: float, high: float, digits: int = 2) -> str:
    """The two ends of an interval; "unknown" where an end is not finite.

    Example:
        >>> from passband.reports.spectrum.words import interval
        >>> interval(-1.0, 0.25)
        '−1.00 … +0.25'

    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return "unknown"
    return f"{signed(low, digits)} … {signed(high, digits)}"


def counted(number: int, noun: str) -> str:
    """A small number in words, with its noun.

    Example:
        >>> from passband.reports.spectrum.words import counted
        >>> counted(1, "octave"), counted(3, "octave"), counted(1200, "image")
        ('one octave', 'three octaves', '1,200 images')

    """
    word = _WORDS[number] if 0 <= number < len(_WORDS) else f"{number:,}"
    return f"{word} {noun}{'s' * (number != 1)}"


def power_words(decibels: float) -> str:
    """A difference in decibels as a clause about the power.

    Example:
        >>> from passband.reports.spectrum.words import power_words
        >>> power_words(-3.0), power_words(-1.0)
        ('half of the power is missing', '21 % of the power is missing')
        >>> power_words(1.0), power_words(6.0)
        ('there is 26 % too much power', 'there is 4.0 times the power')

    """
    ratio = 10 ** (decibels / 10)
    if ratio >= 1.95:
        return f"there is {f'{ratio:.1f}' if ratio < 99.5 else f'{ratio:,.0f}'} times the power"
    if ratio > 1:
        return f"there is {100 * (ratio - 1):.2g} % too much power"
    missing = 100 * (1 - ratio)
    if abs(missing - 50) < 2:
        return "half of the power is missing"
    return f"{missing:.2g} % of the power is missing" if missing < 99 else "nearly all power is missing"


def unbroken(text: str) -> str:
    """The text with its numbers and units, and its ranges, each on one line of a page."""
    for space in (" dB", " %"):
        text = text.replace(space, f"\N{NO-BREAK SPACE}{space[1:]}")
    return text.replace("–", "\N{WORD JOINER}–\N{WORD JOINER}")


def joined(parts: Sequence[str]) -> str:
    """An enumeration.

    Example:
        >>> from passband.reports.spectrum.words import joined
        >>> joined(["a"]), joined(["a", "b"]), joined(["a", "b", "c"])
        ('a', 'a and b', 'a, b and c')

    """
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else list(parts))


def finite(values: Tensor) -> Tensor:
    """The values that are finite."""
    return values[torch.isfinite(values)]
