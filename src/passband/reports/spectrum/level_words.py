"""What is called of the means of the samples, in words: darker, redder, an offset, of another variation."""

import math

import torch

from passband.metrics.contrast import Contrast
from passband.metrics.planes import CHROMA, LUMA
from passband.metrics.sample_comparison import SampleComparison
from passband.metrics.sample_families import LEVEL, LEVEL_SPREAD
from passband.reports.spectrum.words import Terms, joined, terms_of
from passband.reports.words import signed

_LEVELS = {"images": "brightness", "latents": "level", "signals": "offset"}
_RANGE = " of [−1, 1]"
_HARDLY = 30.0  # dB
_MOST_DIGITS = 8
_TINTS = {"Cb": ("yellower", "bluer"), "Cr": ("greener", "redder")}


def level_clauses(comparison: SampleComparison) -> list[str]:
    """What is called of the means of the samples, as clauses about "they" or "their".

    Args:
        comparison: from [`compare_samples`][passband.metrics.compare_samples].

    """
    found, terms = _offset(comparison), terms_of(comparison.kind, comparison.sample_rate)
    return [*found, *_variation(comparison, terms)]


def in_display_range(comparison: SampleComparison) -> bool:
    """Whether the samples are images in [-1, 1], as they are unless an array was read as it was."""
    level = comparison.contrasts[LEVEL]
    return comparison.kind == "images" and float(torch.stack([level.reference, level.value]).abs().amax()) <= 1


def _offset(comparison: SampleComparison) -> list[str]:
    level = comparison.contrasts[LEVEL]
    if not bool(level.different.any()):
        return []
    (worst, value), names = _worst(level), level.labels[0]
    if comparison.kind != "images" or (len(names) > 1 and LUMA not in names):
        return [f"their {_LEVELS[comparison.kind]} is {_of_channels(level, worst, value)}"]
    called = {name: float(level.difference[i]) for (name,), (i,) in level.rows() if bool(level.different[i])}
    gray, words = LUMA if LUMA in names else names[0], []
    unit = _RANGE if in_display_range(comparison) else ""
    if gray in called:
        word = "darker" if called[gray] < 0 else "brighter"
        words.append(f"{word} ({'luma' if gray == LUMA else 'mean'} {_amount(called[gray], level)}{unit})")
    tints = sorted((name for name in CHROMA if name in called), key=lambda name: -abs(called[name]))
    words += [f"{_TINTS[name][called[name] > 0]} ({name} {_amount(called[name], level)})" for name in tints]
    return [f"they are {joined(words)}"] if words else [f"their {worst} is off by {_amount(value, level)}{unit}"]


def _of_channels(level: Contrast, worst: str, value: float) -> str:
    """In which channels a level is off, and by how much at most."""
    count, channels = int(level.different.sum()), len(level.labels[0])
    if channels == 1:
        return f"too {'high' if value > 0 else 'low'} by {_amount(abs(value), level)[1:]}"
    if count == 1:
        return f"off in channel {worst} of {channels} ({_amount(value, level)})"
    return f"off in {count} of {channels} channels, most in channel {worst} ({_amount(value, level)})"


def _variation(comparison: SampleComparison, terms: Terms) -> list[str]:
    """How the means vary, of the plane that speaks for all where that is called."""
    spread = comparison.contrasts.get(LEVEL_SPREAD)
    if spread is None or not bool(spread.different.any()):
        return []
    names, what = spread.labels[0], _LEVELS[comparison.kind]
    if LUMA in names and bool(spread.different[names.index(LUMA)]):
        value = float(spread.difference[names.index(LUMA)])
    else:
        worst, value = _worst(spread)
        if len(names) > 1:
            what = f"mean {worst}" if LUMA in names else f"{what} in channel {worst}"
    apart = f"from {terms.sample} to {terms.sample}"
    if abs(value) > _HARDLY:
        return [f"their {what} {'hardly varies' if value < 0 else 'varies'} {apart}, unlike that of the real ones"]
    return [f"their {what} varies {abs(value):.1f} dB {'less' if value < 0 else 'more'} {apart}"]


def _worst(contrast: Contrast) -> tuple[str, float]:
    """The plane of the largest called difference, and that difference."""
    size = (contrast.difference.abs() * contrast.different).nan_to_num(0.0)
    place = int(size.argmax())
    return contrast.labels[0][place], float(contrast.difference[place])


def amount_digits(least: float) -> int:
    """Digits after the point that show what is worth calling.

    Example:
        >>> from passband.reports.spectrum.level_words import amount_digits
        >>> amount_digits(0.02), amount_digits(3e-4)
        (2, 4)

    """
    return min(max(2, math.ceil(-math.log10(least))), _MOST_DIGITS) if least > 0 else 2


def _amount(value: float, level: Contrast) -> str:
    return signed(value, amount_digits(level.least))
