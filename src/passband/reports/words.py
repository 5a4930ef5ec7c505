"""Words that reports of all kinds share."""

import math

_THOUSANDS = 10_000  # steps from which on they are counted in thousands


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


def budget(steps: float) -> str:
    """A number of training steps for an axis.

    Example:
        >>> from passband.reports.words import budget
        >>> budget(400), budget(1600), budget(20_000), budget(0.5)
        ('400', '1,600', '20k', '0.5')

    """
    if steps >= _THOUSANDS and steps % 100 == 0:
        return f"{steps / 1000:,g}k"
    return f"{steps:,.0f}" if float(steps).is_integer() else f"{steps:,.4g}"
