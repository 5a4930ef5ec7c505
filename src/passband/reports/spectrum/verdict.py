"""What a comparison says, in three sentences: where the power is wrong, what else is, and how sure that is."""

from torch import Tensor

from passband.metrics.contrast import LEAST_GROUPS, Contrast
from passband.metrics.sample_comparison import SampleComparison
from passband.reports.spectrum.level_words import level_clauses
from passband.reports.spectrum.octave_words import (
    constant_sentence,
    is_known,
    main_plane,
    plane_words,
    power_sentence,
    runs,
)
from passband.reports.spectrum.pattern_words import in_planes, pattern_planes, peak_phrase, with_article
from passband.reports.spectrum.words import counted, finite, joined, terms_of
from passband.reports.words import signed

_NAMED_PEAKS = 2
_FEW = 10  # independent groups; below, a bootstrap says little
_APART = 1.0  # dB by which a colour must differ more than the whole to be named besides
# A blur that is the same in all directions takes about a tenth more in some than in others, as their power is
# spread otherwise over the octave.
_UNEVEN, _UNEVEN_SHARE = 0.5, 0.25  # dB, and of the octave's difference


def describe(comparison: SampleComparison) -> tuple[str, str, str]:
    """Three sentences that a person would write.

    Args:
        comparison: from [`compare_samples`][passband.metrics.compare_samples].

    Returns:
        Where the power is wrong and by how much; which artefacts there are, and what else differs; how sure this is.

    Example:
        >>> import torch
        >>> from passband.metrics import SampleSpectrum, compare_samples
        >>> from passband.reports.spectrum import describe
        >>> generator = torch.Generator().manual_seed(1)
        >>> real, fake = SampleSpectrum("real", kind="signals"), SampleSpectrum("fake", kind="signals")
        >>> real.update(torch.randn(500, 1, 4, generator=generator), [f"r{i}" for i in range(500)])
        >>> fake.update(torch.randn(500, 1, 4, generator=generator), [f"f{i}" for i in range(500)])
        >>> print(describe(compare_samples(real, fake))[0])
        The fake signals have no more or less power than the real ones in any octave, beyond what chance alone explains.

    """
    return _with_levels(comparison, power_sentence(comparison)), _structure(comparison), _certainty(comparison)


def _with_levels(comparison: SampleComparison, sentence: str) -> str:
    """The sentence on the power with what is called of the power at frequency zero: brightness, colour, offset."""
    clauses = level_clauses(comparison)
    if not clauses:
        return sentence
    if constant_sentence(comparison):  # of which "they" may be the real ones
        samples = terms_of(comparison.kind, comparison.sample_rate).samples
        return f"{sentence} As for the fake {samples}, {', and '.join(clauses)}."
    link = "; besides," if bool(comparison.contrasts["octaves"].different.any()) else ", but"
    return f"{sentence.removesuffix('.')}{link} {', and '.join(clauses)}."


def _structure(comparison: SampleComparison) -> str:
    peaks, others = pattern_planes(comparison.peaks.peaks), other_findings(comparison)
    terms = terms_of(comparison.kind, comparison.sample_rate)
    if peaks:
        named = "; and ".join([peak_phrase(peak, planes, terms) for peak, planes in peaks[:_NAMED_PEAKS]])
        more = len(peaks) - _NAMED_PEAKS
        tail = f" (and {counted(more, 'more pattern')})" if more > 0 else ""
        sentence = f"They carry {named}{tail}"
        return f"{sentence}; besides, {joined(others)}." if others else f"{sentence}."
    own = "".join(
        f" (both sets carry {with_article(peak.name)}{in_planes(planes)})"
        for peak, planes in pattern_planes(comparison.peaks.both)[:1]
    )
    nothing = f"No {terms.patterns} or other regular pattern of theirs stands out{own}"
    if others:
        return f"{nothing}, but {joined(others)}."
    measured = [word for name, word in _MEASURED if name in comparison.contrasts]
    if not measured or not is_known(comparison):
        return f"{nothing}."
    return f"{nothing}, and {joined(measured)} show no difference beyond chance."


_MEASURED = (
    ("directions", "the directions"),
    ("wavelet kurtosis", "the sub-bands"),
    ("coherence", "the phases across scales"),
)


def other_findings(comparison: SampleComparison) -> list[str]:
    """What differs besides the octaves' power, one clause each, without a full stop."""
    clauses = _colour_clause(comparison)
    kurtosis = comparison.contrasts.get("wavelet kurtosis")
    if kurtosis is not None and bool(kurtosis.different.any()):
        clauses.append(_kurtosis_clause(kurtosis))
    coherence = comparison.contrasts.get("coherence")
    if coherence is not None and bool(coherence.different.any()):
        worst = _worst(coherence)
        less = float(coherence.difference[worst]) < 0
        clauses.append(f"phases are aligned {'less' if less else 'more'} across scales than in the real ones")
    directions = comparison.contrasts.get("directions")
    uneven = None if directions is None else _most_uneven(directions)
    if uneven is not None:
        clauses.append(f"directions are uneven (most at {uneven})")
    return clauses


def _colour_clause(comparison: SampleComparison) -> list[str]:
    """A plane whose power is much further off than that of the main one."""
    octaves, main = comparison.contrasts["octaves"], main_plane(comparison)
    if len(octaves.labels[0]) < 2 or not runs(comparison, main):
        return []
    further = octaves.difference.abs() - octaves.difference[main].abs()
    apart = (octaves.low > octaves.high[main]) | (octaves.high < octaves.low[main])
    beyond = (further * (octaves.different & apart)).nan_to_num(0.0)
    worst = int(beyond.argmax())
    plane, octave = divmod(worst, beyond.shape[1])
    if float(beyond[plane, octave]) < _APART:
        return []
    value = signed(float(octaves.difference[plane, octave]), 1)
    name, where = plane_words(octaves.labels[0][plane]), octaves.labels[1][octave]
    return [f"{name} is further off ({value} dB at {where})"]


def _kurtosis_clause(kurtosis: Contrast) -> str:
    worst = _worst(kurtosis)
    less = float(kurtosis.difference[worst]) < 0
    what = "too few strong details" if less else "too many strong details"
    fake, real = float(kurtosis.value[worst]), float(kurtosis.reference[worst])
    return f"their sub-bands hold {what} (kurtosis {fake:.1f}, real {real:.1f})"


def _most_uneven(directions: Contrast) -> str | None:
    """The direction that is furthest from the others of its octave; None unless it is so by more than chance allows."""
    middle = directions.difference.nanmedian(1, keepdim=True).values
    lows, highs = directions.low.amax(1), directions.high.amin(1)
    away = ((directions.difference - middle).abs() * directions.different).nan_to_num(0.0)
    least = (_UNEVEN_SHARE * middle[:, 0].abs()).clamp_min(_UNEVEN)
    uneven = (lows > highs) & (away.amax(1) >= least)
    if not bool(uneven.any()):
        return None
    return directions.labels[1][int((away * uneven[:, None]).argmax()) % away.shape[1]]


def _worst(contrast: Contrast) -> tuple[int, ...]:
    """Where the called difference of largest size is."""
    size = (contrast.difference.abs() * contrast.different).nan_to_num(0.0)
    flat = int(size.argmax())
    place: list[int] = []
    for length in reversed(size.shape):
        place.insert(0, flat % length)
        flat //= length
    return tuple(place)


def _certainty(comparison: SampleComparison) -> str:
    terms, plane = terms_of(comparison.kind, comparison.sample_rate), main_plane(comparison)
    octaves = comparison.contrasts["octaves"]
    counts = f"{comparison.real_count:,} real and {comparison.fake_count:,} fake {terms.counted}"
    half = finite((octaves.high - octaves.low)[plane] / 2)
    if not len(half):
        if constant_sentence(comparison):
            return f"Compared were {counts}."
        counts += _groups(comparison)
        what = "files" if comparison.sample_rate else "of them"  # more frames of the same files say nothing
        return f"A comparison of {counts} cannot say how much of this is chance: it takes more {what}."
    sentence = (
        f"From {counts}{_groups(comparison)}, an octave's difference is known to ±{_within(half)} (95 %, all "
        "quantities at once)"
    )
    floor = finite(octaves.floor[plane])
    if comparison.paired:
        sentence += "; both sets show the same content, so that its chance cancels"
    elif len(floor) and float(floor.max()) > 0:
        sentence += f"; two halves of the real set differ by up to {float(floor.max()):.2g} dB themselves"
    return f"{sentence}."


def _within(values: Tensor) -> str:
    """Some sizes by the largest; "or less" where they differ."""
    low, high = float(values.min()), float(values.max())
    return f"{max(high, 0.01):.2g} dB{'' if high < 1.5 * low else ' or less'}"


def _groups(comparison: SampleComparison) -> str:
    """How few of the samples are independent of each other, where it matters."""
    fewer = min(comparison.real_count, comparison.fake_count)
    if not comparison.groups < 0.5 * fewer:
        return ""
    care = ", few enough to take this with care" if LEAST_GROUPS <= comparison.groups < _FEW else ""
    number = round(comparison.groups)
    return f" (out of about {number} independent file{'s' * (number != 1)}{care})"
