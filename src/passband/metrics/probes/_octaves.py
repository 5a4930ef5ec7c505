"""Octaves of frequency counted from the top, in cycles per pixel: the same at every resolution."""

from itertools import pairwise

OCTAVE_TOP = 0.5
#: Hz; lower frequencies of audio are not heard.
LOWEST_HEARD = 20.0


def frequency_octaves(shortest: int, sample_rate: float | None = None) -> tuple[tuple[float, float], ...]:
    """Octaves (low, high] from (1/4, 1/2] down to the one that holds radial bin 1, highest first.

    Args:
        shortest: the shortest side, in pixels.
        sample_rate: of audio, Hz: octaves that reach below 20 Hz are left out, except for the highest.

    Example:
        >>> from passband.metrics.probes import frequency_octaves
        >>> frequency_octaves(8)
        ((0.25, 0.5), (0.125, 0.25), (0.0625, 0.125))
        >>> len(frequency_octaves(4096)), frequency_octaves(4096, 16000)[-1][0] * 16000
        (12, 31.25)

    """
    edges = [OCTAVE_TOP]
    while edges[-1] * shortest >= 1:
        edges.append(edges[-1] / 2)
    least = 0.0 if sample_rate is None else LOWEST_HEARD / sample_rate
    octaves = tuple((low, high) for high, low in pairwise(edges))
    return octaves[:1] + tuple(octave for octave in octaves[1:] if octave[0] >= least)
