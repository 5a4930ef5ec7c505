"""Periods of where samples are rough, compared between two sets: which peaks one has and the other has not."""

from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from passband.metrics.contrast import Contrast, Family, decide
from passband.metrics.line_peaks import PERIODS
from passband.metrics.probes.periodicity import (
    PeriodicityProfile,
    height_frequencies,
    mean_periodogram,
    profile_heights,
)
from passband.metrics.sample_spectrum import SampleSpectrum

_PROBE = PeriodicityProfile()
_MORE = 0.5  # share of the reference's height by which another set has to exceed it where both have the pattern
_RANGE = 12.0  # dB below an axis's highest peak from which flanks of its lobes may look like peaks themselves
_EVIDENT = 2.0  # standard errors from which a peak is taken for one tooth more of a comb that was found


class ProfileComparison(NamedTuple):
    """The heights of two sets' periodicity profiles over their surroundings; all are (planes, axes, frequencies).

    Attributes:
        contrast: the heights as a family of quantities, linear, with differences in dB.
        real: heights in the reference set, dB.
        fake: heights in the other set, dB.
        risen: where the other set stands out, and by more than chance more than the reference.
        evident: where it does so by 2 standard errors: enough for a tooth of a comb that was found otherwise.
        shared: where both stand out, and alike.

    """

    contrast: Contrast
    real: Tensor
    fake: Tensor
    risen: Tensor
    evident: Tensor
    shared: Tensor


def compare_profiles(real: SampleSpectrum, fake: SampleSpectrum, *, factor: float = 0.0) -> ProfileComparison | None:
    """Compare the periodicity of two sets.

    Args:
        real: the reference.
        fake: the other set, measured with the same settings.
        factor: half width of the intervals in standard errors, at least; the profile's own where that is wider.

    Returns:
        The comparison; None for samples that are too small to have a profile.

    Example:
        >>> import torch
        >>> from passband.metrics import SampleSpectrum
        >>> from passband.metrics.profile_peaks import compare_profiles
        >>> noise, real, fake = torch.randn(2, 64, 1, 32, 32), SampleSpectrum("real"), SampleSpectrum("fake")
        >>> real.update(noise[0])
        >>> fake.update(noise[1, ..., ::2, ::2].repeat_interleave(2, -1).repeat_interleave(2, -2))
        >>> compare_profiles(real, fake).risen[0, :, -1].tolist()  # at 1/2, along both axes
        [True, True]

    """
    if _PROBE.name not in real.layout:
        return None
    contrast, wide = _decided(_family(real, fake), torch.minimum(_textured(real), _textured(fake)))
    wide = wide.clamp_min(factor)
    heights = [_decibels(height) for height in (contrast.reference, contrast.value)]
    least = [(wide * _spread(each)).clamp_min(_PROBE.least) for each in (real, fake)]
    high = heights[1] > least[1]
    near_highest = heights[1] > heights[1].amax(-1, keepdim=True) - _RANGE
    high &= (_is_common(real.shape) & near_highest) | (_strict_heights(fake) > _PROBE.least)
    more = contrast.difference > _MORE * heights[0].clamp_min(0)
    risen = contrast.different & (contrast.difference > wide * contrast.error) & high & more
    evident = (contrast.difference > _EVIDENT * contrast.error) & high
    shared = (heights[0] > least[0]) & high & ~risen
    return ProfileComparison(contrast, heights[0], heights[1], risen, evident, shared)


def _family(real: SampleSpectrum, fake: SampleSpectrum) -> Family:
    reference, value = (_heights(each, each.means.mean) for each in (real, fake))
    drawn = [_decibels(_heights(each, each.means.replicate_means)) for each in (real, fake)]
    halves = _decibels(_heights(real, real.means.halves))
    between = _decibels(_heights(real, real.means.half_replicates))
    return Family(
        _PROBE.name,
        _PROBE.unit,
        _PROBE.axes,
        PeriodicityProfile(real.kind).labels(real.shape),
        _PROBE.least,
        reference,
        value,
        _decibels(value) - _decibels(reference),
        drawn[1] - drawn[0],
        halves[0] - halves[1],
        between[0] - between[1],
    )


def _textured(spectrum: SampleSpectrum) -> Float64[Tensor, " planes"]:
    """How many independent groups of samples have texture in each plane: of gray pictures with few in colour, few."""
    share = spectrum.block(_PROBE.name, spectrum.means.replicate_means)[..., -1]
    share = share[share.isfinite().flatten(1).all(1)]
    spread = (share.var(0, correction=0) / share.mean(0).square()).nan_to_num(torch.inf).amax(-1)
    return 1 / (spread + 1 / spectrum.means.effective_groups)


def _decided(family: Family, groups: Float64[Tensor, " planes"]) -> tuple[Contrast, Float64[Tensor, "planes 1 1"]]:
    """The family with the intervals that so many groups in each plane allow, and their half width in errors."""
    decisions = [decide([family], groups=count) for count in groups.tolist()]
    planes = [decision.contrasts[family.name] for decision in decisions]

    def own(name: str) -> Tensor:
        return torch.stack([getattr(each, name)[plane] for plane, each in enumerate(planes)])

    names = ("error", "low", "high", "floor", "different")
    error, low, high, floor, different = map(own, names)
    factors = torch.tensor([decision.factor for decision in decisions], dtype=torch.float64)
    found = replace(planes[0], error=error, low=low, high=high, floor=floor, different=different)
    return found, factors.reshape(-1, 1, 1)


def _heights(spectrum: SampleSpectrum, means: Tensor) -> Tensor:
    return _PROBE.derive(spectrum.block(_PROBE.name, means)).double()


def _is_common(shape: tuple[int, ...]) -> Tensor:
    """At which frequencies a pattern of a common period has its peaks, within a bin."""
    frequencies = height_frequencies(shape)
    off = torch.stack([(frequencies * period - (frequencies * period).round()).abs() / period for period in PERIODS])
    return off.amin(0) <= 1.001 * (frequencies[-1] - frequencies[-2])


def _strict_heights(spectrum: SampleSpectrum) -> Tensor:
    """Over the higher side, dB: elsewhere, the flank of something broad is not to be taken for a peak."""
    power = mean_periodogram(spectrum.block(_PROBE.name, spectrum.means.mean))
    return _decibels(profile_heights(power, strict=True))


def _spread(spectrum: SampleSpectrum) -> Tensor:
    """Bootstrap standard error of one set's heights, dB; infinite for a plane that is flat."""
    heights = _decibels(_heights(spectrum, spectrum.means.replicate_means))
    return torch.stack([_deviation(plane) for plane in heights.unbind(1)])


def _deviation(heights: Tensor) -> Tensor:
    kept = heights.isfinite().flatten(1).all(1)
    return heights[kept].std(0) if int(kept.sum()) > 1 else torch.full_like(heights[0], torch.inf)


def _decibels(ratio: Tensor) -> Tensor:
    return 10 * torch.log10(ratio)
