"""Octaves of frequency counted from the top, in cycles per pixel: the same at every resolution."""

from itertools import pairwise

OCTAVE_TOP = 0.5


def frequency_octaves(shortest: int) -> tuple[tuple[float, float], ...]:
    """Octaves (low, high] from (1/4, 1/2] down to the one that holds radial bin 1, highest first.

    Args:
        shortest: the shortest side, in pixels.

    Example:
        >>> from passband.metrics.probes import frequency_octaves
        >>> frequency_octaves(8)
        ((0.25, 0.5), (0.125, 0.25), (0.0625, 0.125))

    """
    edges = [OCTAVE_TOP]
    while edges[-1] * shortest >= 1:
        edges.append(edges[-1] / 2)
    return tuple((low, high) for high, low in pairwise(edges))


def octave_label(low: float, high: float) -> str:
    """An octave in cycles per pixel.

    Example:
        >>> from passband.metrics.probes import octave_label
        >>> octave_label(0.125, 0.25)
        '1/8 – 1/4'

    """
    return f"1/{round(1 / low)} – 1/{round(1 / high)}"
