"""The words of a spectrum report: what samples and their parts are called, frequencies, shares of power."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


class Terms(NamedTuple):
    """What the samples of a kind are called.

    Attributes:
        samples: several of them.
        sample: one of them.
        step: what a frequency counts cycles per.
        steps: several of those.

    """

    samples: str
    sample: str
    step: str
    steps: str

    @property
    def unit(self) -> str:
        """The unit of a frequency."""
        return f"cycles per {self.step}"


_TERMS = {
    "images": Terms("images", "image", "pixel", "pixels"),
    "latents": Terms("latents", "latent", "position", "positions"),
    "signals": Terms("signals", "signal", "sample", "samples"),
}


def terms_of(kind: str) -> Terms:
    """The words for a kind of samples ("images", "latents" or "signals").

    Example:
        >>> from passband.reports.spectrum.words import terms_of
        >>> terms_of("latents").unit
        'cycles per position'

    """
    return _TERMS[kind]


def fraction(frequency: float) -> str:
    """A frequency as people write it: 1/4 rather than 0.25.

    Example:
        >>> from passband.reports.spectrum.words import fraction
        >>> fraction(0.25), fraction(0.375), fraction(0.1234), fraction(0.0)
        ('1/4', '3/8', '0.123', '0')

    """
    for denominator in (1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096):
        numerator = frequency * denominator
        if abs(numerator - round(numerator)) < 1e-6 * denominator:
            return str(round(numerator)) if denominator == 1 else f"{round(numerator)}/{denominator}"
    return f"{frequency:.3f}"


def octave_name(octave: Sequence[float]) -> str:
    """An octave by its two ends, in cycles per pixel.

    Example:
        >>> from passband.reports.spectrum.words import octave_name
        >>> octave_name((0.25, 0.5))
        '1/4–1/2'

    """
    return f"{fraction(octave[0])}–{fraction(octave[1])}"


def periods(octave: Sequence[float]) -> str:
    """The lengths of the waves of an octave, shortest first.

    Example:
        >>> from passband.reports.spectrum.words import periods
        >>> periods((0.25, 0.5))
        '2–4'

    """
    return f"{1 / octave[1]:.3g}–{1 / octave[0]:.3g}"


def signed(value: float, digits: int = 2) -> str:
    """A difference with its sign and a true minus; a dash where there is none.

    Example:
        >>> from passband.reports.spectrum.words import signed
        >>> signed(-3.14159), signed(0.001), signed(float("nan"))
        ('−3.14', '+0.00', '–')

    """
    if not math.isfinite(value):
        return "–"
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")  # + 0.0: no minus before a zero


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
