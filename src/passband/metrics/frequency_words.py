"""Frequencies in words: cycles per pixel as people write them, those of audio in hertz."""

from collections.abc import Sequence


def fraction(frequency: float) -> str:
    """A frequency as people write it: 1/4 rather than 0.25.

    Example:
        >>> from passband.metrics.frequency_words import fraction
        >>> fraction(0.25), fraction(0.375), fraction(0.1234), fraction(0.0)
        ('1/4', '3/8', '0.123', '0')

    """
    for denominator in (1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192):
        numerator = frequency * denominator
        if abs(numerator - round(numerator)) < 1e-6 * denominator:
            return str(round(numerator)) if denominator == 1 else f"{round(numerator)}/{denominator}"
    return f"{frequency:.3f}"


def hertz(frequency: float) -> str:
    """A frequency in Hz, with its unit.

    Example:
        >>> from passband.metrics.frequency_words import hertz
        >>> hertz(4466.8), hertz(112.2), hertz(8000.0)
        ('4.47 kHz', '112 Hz', '8 kHz')

    """
    return f"{frequency / 1000:.3g} kHz" if frequency >= 999.5 else f"{frequency:.3g} Hz"


def octave_name(octave: Sequence[float], sample_rate: float | None = None) -> str:
    """A range of frequencies by its two ends.

    Args:
        octave: lowest and highest frequency, in cycles per position.
        sample_rate: positions per second; None: the ends are fractions of a cycle per position.

    Example:
        >>> from passband.metrics.frequency_words import octave_name
        >>> octave_name((0.25, 0.5)), octave_name((0.25, 0.5), 16000), octave_name((1 / 64, 1 / 32), 22050)
        ('1/4–1/2', '4–8 kHz', '345–689 Hz')

    """
    if sample_rate is None:
        return f"{fraction(octave[0])}–{fraction(octave[1])}"
    low, high = (end * sample_rate for end in octave)
    if high < 999.5:
        return f"{low:.3g}–{high:.3g} Hz"
    return f"{low / 1000:.3g}–{high / 1000:.3g} kHz"
