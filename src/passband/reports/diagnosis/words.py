"""The words of a diagnosis: bands of frequency, decibels, extents."""

import math
from collections.abc import Sequence

from passband.reports.words import signed as signed_digits

_TOP = 0.5 * (1 - 1e-6)
_ALL, _TWICE, _WHOLE, _MOST = 99.5, 1.995, 9.95, 99.5


def fraction_of(frequency: float) -> str:
    """A frequency that is 1 over a power of 2; nothing for others, which lie half an octave between.

    Example:
        >>> from passband.reports.diagnosis.words import fraction_of
        >>> fraction_of(0.25), fraction_of(0.3536)
        ('1/4', '')

    """
    if frequency <= 0:
        return ""
    power = -math.log2(frequency)
    return f"1/{2 ** round(power)}" if abs(power - round(power)) < 1e-3 else ""


def band_kind(band: Sequence[float]) -> str:
    """`mean` for the band of frequency 0, `corners` for the one beyond 1/2, `band` for all others.

    Example:
        >>> from passband.reports.diagnosis.words import band_kind
        >>> band_kind((0.0, 0.0)), band_kind((0.25, 0.354)), band_kind((0.5, 0.7))
        ('mean', 'band', 'corners')

    """
    if band[1] <= 0:
        return "mean"
    return "corners" if band[0] >= _TOP else "band"


def signed(value: float, digits: int = 1) -> str:
    """A difference with its sign; a dash where there is none, ∞ where a ratio has no end.

    Example:
        >>> from passband.reports.diagnosis.words import signed
        >>> signed(-3.14), signed(float("nan")), signed(float("-inf"))
        ('−3.1', '–', '−∞')

    """
    if math.isinf(value):
        return "+∞" if value > 0 else "−∞"
    return signed_digits(value, digits)


def interval(low: float, high: float) -> str:
    """The two ends of an interval in decibels; ∞ where one has no end, "unknown" where both have none.

    Example:
        >>> from passband.reports.diagnosis.words import interval
        >>> interval(4.2, float("inf")), interval(float("-inf"), float("inf"))
        ('+4.20 … +∞', 'unknown')

    """
    if not (math.isfinite(low) or math.isfinite(high)):
        return "unknown"
    return f"{signed(low, 2)} … {signed(high, 2)}"


def missing_words(decibels: float) -> str:
    """How much power estimates lack that are so many dB too smooth.

    An estimate that is c times what it should be shares c times as much with the data and has c² times the power: its
    calibration is 10·log10(c), and 1 - c² of the power is missing.

    Example:
        >>> from passband.reports.diagnosis.words import missing_words
        >>> missing_words(3.01), missing_words(25.0)
        ('75 % of their power is missing', 'nearly all of their power is missing')

    """
    missing = 100 * (1 - 10 ** (-decibels / 5))
    return "nearly all of their power is missing" if missing >= _ALL else f"{missing:.0f} % of their power is missing"


def surplus_words(decibels: float) -> str:
    """How much power estimates have that are so many dB too rough, which is measured up to 20 dB.

    Example:
        >>> from passband.reports.diagnosis.words import surplus_words
        >>> surplus_words(0.1)
        '2 % more power than they share with the data'
        >>> surplus_words(6.0)
        '4.0 times the power that they share with the data'

    """
    ratio = 10 ** (decibels / 10)
    if ratio < _TWICE:
        return f"{100 * (ratio - 1):.0f} % more power than they share with the data"
    times = f"{ratio:.1f}" if ratio < _WHOLE else f"{ratio:.0f}" if ratio < _MOST else "at least 100"
    return f"{times} times the power that they share with the data"


def percent(share: float) -> str:
    """A share, with as many digits as it is worth.

    Example:
        >>> from passband.reports.diagnosis.words import percent
        >>> percent(0.313), percent(0.0123), percent(0.0001), percent(float("nan"))
        ('31 %', '1.2 %', '< 0.1 %', '–')

    """
    if not math.isfinite(share):
        return "–"
    value = 100 * share
    if value < 0.05:
        return "0 %" if value == 0 else "< 0.1 %"
    return f"{value:.0f} %" if value >= 9.95 else f"{value:.1f} %"
