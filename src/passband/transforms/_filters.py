"""Filters of the discrete wavelets, taken from PyWavelets, and the checks of a wavelet's name and number of levels."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import pywt

from passband._checks import nearest

Taps = tuple[float, ...]


class FilterBank(NamedTuple):
    """A wavelet's two filter pairs (low-pass, high-pass), in the order in which correlation meets the samples."""

    analysis: tuple[Taps, Taps]
    synthesis: tuple[Taps, Taps]

    @property
    def length(self) -> int:
        """Number of taps of each filter (even)."""
        return len(self.analysis[0])


def filter_bank(wavelet: str, analysis_gain: float = 1.0) -> FilterBank:
    """The filters of a discrete wavelet, analysis times a gain and synthesis over it."""
    return FilterBank(*_pairs(wavelet, analysis_gain))


def _pairs(wavelet: str, analysis_gain: float) -> tuple[tuple[Taps, Taps], tuple[Taps, Taps]]:
    return _load(wavelet, analysis_gain)


# PyWavelets cannot be traced. This is all that torch.compiler.assume_constant_result does, but that imports Dynamo too.
_pairs._dynamo_marked_constant = True  # type: ignore[attr-defined]  # noqa: SLF001


@lru_cache(maxsize=256)
def _load(wavelet: str, analysis_gain: float) -> tuple[tuple[Taps, Taps], tuple[Taps, Taps]]:
    check_wavelet(wavelet)
    pair = pywt.Wavelet(wavelet)
    analysis = _scaled(pair.dec_lo[::-1], analysis_gain), _scaled(pair.dec_hi[::-1], analysis_gain)
    synthesis = _scaled(pair.rec_lo, 1 / analysis_gain), _scaled(pair.rec_hi, 1 / analysis_gain)
    return analysis, synthesis


def _scaled(taps: Sequence[float], gain: float) -> Taps:
    return tuple(gain * tap for tap in taps)


def check_wavelet(wavelet: str) -> None:
    """Raise unless wavelet is the name of a discrete wavelet."""
    if not isinstance(wavelet, str):
        raise TypeError(f"wavelet must be a name such as 'haar' or 'bior1.3', got {type(wavelet).__name__}")
    discrete = pywt.wavelist(kind="discrete")
    if wavelet in discrete:
        return
    if wavelet.startswith(tuple(_CONTINUOUS)):
        raise ValueError(
            f"{wavelet!r} is a continuous wavelet: it has no filter bank, so no discrete transform and no inverse; "
            "choose a discrete one such as 'haar', 'db4', 'sym8' or 'bior1.3'"
        )
    raise ValueError(
        f"unknown wavelet: got {wavelet!r}{nearest(wavelet.lower(), discrete)}; expected one of the {len(discrete)} "
        "names that pywt.wavelist(kind='discrete') lists"
    )


_CONTINUOUS = ("cgau", "cmor", "fbsp", "gaus", "mexh", "morl", "shan")


def check_levels(levels: int) -> None:
    """Raise unless levels is a whole number of at least 1."""
    if isinstance(levels, bool) or not isinstance(levels, int):
        raise TypeError(f"levels must be an int, got {levels!r} of type {type(levels).__name__}")
    if levels < 1:
        raise ValueError(f"levels must be at least 1, got {levels}")
