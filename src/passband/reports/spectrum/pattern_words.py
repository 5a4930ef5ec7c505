"""Regular patterns in words: what they are, in which planes they lie, and where."""

from collections.abc import Sequence

from passband.metrics.peaks import Peak
from passband.metrics.planes import CHROMA, LUMA
from passband.reports.spectrum.words import Terms, joined

_CLOSE = 1e-6


def pattern_planes(peaks: Sequence[Peak]) -> list[tuple[Peak, tuple[str, ...]]]:
    """Each pattern once, where it is strongest, with the planes in which it lies."""
    found: dict[str, list[Peak]] = {}
    for peak in peaks:
        found.setdefault(peak.name, []).append(peak)
    return [(group[0], tuple(peak.plane for peak in group)) for group in found.values()]


def peak_phrase(peak: Peak, planes: Sequence[str], terms: Terms) -> str:
    """A pattern with its planes, height and place."""
    place = peak_place(peak, terms)
    at = "" if place in peak.name else f" at {place}"
    return f"{with_article(peak.name)}{in_planes(planes)}, {peak.height:.0f} dB above its surroundings{at}"


def in_planes(planes: Sequence[str]) -> str:
    """The planes of colour images, luma first; nothing of samples that have no such planes."""
    shown = [name for name in (LUMA, *CHROMA) if name in planes]
    return f" in {joined(shown)}" if shown else ""


def short_name(name: str) -> str:
    """A pattern without what leaves it.

    Example:
        >>> from passband.reports.spectrum.pattern_words import short_name
        >>> short_name("8 x 8 block grid (JPEG, or a decoder that upsamples by 8)")
        '8 x 8 block grid'

    """
    return name.partition(" (")[0]


def pattern_causes(peaks: Sequence[Peak]) -> list[str]:
    """What leaves each kind of pattern, once: "an 8 × 8 block grid: JPEG, or a decoder that upsamples by 8"."""
    names = dict.fromkeys(peak.name for peak in peaks if peak.name.endswith(")"))
    return [f"{with_article(short_name(name))}: {name.partition(' (')[2][:-1]}" for name in names]


def with_article(name: str) -> str:
    """A noun phrase with its article: "an 8 × 8 block grid"."""
    name = name.replace(" x ", " × ")
    if name.startswith(("a ", "an ")):
        return name
    return f"{'an' if name[:1].lower() in 'aeio8' else 'a'} {name}"


def peak_place(peak: Peak, terms: Terms) -> str:
    """Where a peak lies, in words."""
    vertical, horizontal = (abs(part) for part in peak.frequency)
    if not vertical or not horizontal:
        along = "horizontally" if horizontal else "vertically"
        found = vertical or horizontal
        return f"{terms.at(found)}{'' if terms.step == 'sample' else f' {along}'}"
    if abs(vertical - horizontal) < _CLOSE:
        return f"{terms.at(vertical)} both ways"
    ends = terms.frequency(vertical), terms.frequency(horizontal)
    return f"{ends[0]} vertically and {ends[1]} horizontally, in {terms.unit}"
