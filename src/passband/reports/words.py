"""Words that reports of all kinds share."""

import math


def signed(value: float, digits: int = 2) -> str:
    """A difference with its sign and a true minus; a dash where there is none.

    Example:
        >>> from passband.reports.words import signed
        >>> signed(-3.14159), signed(0.001), signed(float("nan"))
        ('−3.14', '+0.00', '–')

    """
    if not math.isfinite(value):
        return "–"
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")  # + 0.0: no minus before a zero
