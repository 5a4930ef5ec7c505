"""The families of quantities of two measured sets, ready to be decided: octaves, radii, and what probes measure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float64
from torch import Tensor

from passband.metrics.contrast import Contrast, Decision, Family, decide
from passband.metrics.frequency_words import octave_name
from passband.metrics.probes import Level, level_planes, level_variance, value_scale, vanishing_variance
from passband.metrics.sample_spectrum import SampleSpectrum
from passband.transforms import radial_bins

#: The smallest difference of powers worth calling one, dB.
LEAST_DB = 0.2
#: A share of the mean power that is added to both sides of a ratio, so that an empty band is no infinity.
EMPTY = 1e-11
#: The families of the planes' means, and of their variance over the samples: the power at frequency zero.
LEVEL, LEVEL_SPREAD = Level.name, "level spread"
_TOGETHER = 0.5
_SURELY = 3.0  # standard errors of Fisher's z, so that few sets of different content seem to vary together

#: From a measured set and mean vectors to what is compared.
Quantity = Callable[[SampleSpectrum, Tensor], Tensor]


def sample_families(real: SampleSpectrum, fake: SampleSpectrum, *, paired: bool) -> list[Family]:
    """The octaves of every plane, its level and how that varies, and what each probe compares."""
    probes = [probe for probe in real.probes if probe.compared]
    planes = [_octaves(real, fake, paired), _level(real, fake, paired)]
    if real.sample_rate is None:  # of audio, it is not heard
        planes.append(_level_spread(real, fake, paired))
    return [*planes, *(_of_probe(probe.name, real, fake, paired) for probe in probes)]


def radial_power(spectrum: SampleSpectrum, means: Float64[Tensor, "*lead d"]) -> Float64[Tensor, "*lead planes bins"]:
    """Radially averaged power of each plane."""
    return spectrum.block("radial", means)


def bins_of(octaves: Sequence[tuple[float, float]], bins: int, shortest: int) -> list[Tensor]:
    """The radial bins that lie in each octave (low, high] of cycles per pixel."""
    frequency = torch.arange(bins, dtype=torch.float64) / shortest
    return [((frequency > low) & (frequency <= high)).nonzero().flatten() for low, high in octaves]


def decibels(value: Tensor, reference: Tensor, mean: Tensor | float) -> Tensor:
    """10 log10 of a ratio of powers, where both get a vanishing share of the mean power."""
    extra = EMPTY * mean
    ratio: Tensor = 10 * torch.log10((value + extra) / (reference + extra))
    return ratio


def radial_contrast(real: SampleSpectrum, fake: SampleSpectrum, decision: Decision) -> Contrast:
    """The difference at each radius with intervals as wide as those of a decision: to be shown, not to be decided."""
    found = decide([_of_probe("radial", real, fake, paired=False)]).contrasts["radial"]
    low, high = found.difference - decision.factor * found.error, found.difference + decision.factor * found.error
    return replace(found, low=low, high=high, different=(low > 0) | (high < 0))


def vary_together(real: SampleSpectrum, fake: SampleSpectrum) -> bool:
    """Whether the power of both sets is correlated over the replicates: the same samples, processed.

    Few samples are correlated by chance, so the correlation must be more than what so many have by chance.
    """
    logs = [_log_power(each) for each in (real, fake)]
    kept = torch.stack([each.isfinite().all(1) for each in logs]).all(0)
    if int(kept.sum()) < 8:
        return False
    centred = [each[kept] - each[kept].mean(0) for each in logs]
    scale = (centred[0].square().sum(0) * centred[1].square().sum(0)).sqrt()
    correlation = (centred[0] * centred[1]).sum(0) / scale.clamp_min(1e-300)
    found = min(float(correlation.median()), 1 - 1e-12)
    groups = min(real.means.effective_groups, fake.means.effective_groups)
    return found > _TOGETHER and math.atanh(found) * math.sqrt(max(groups - 3, 0.5)) > _SURELY


def independent_observations(spectrum: SampleSpectrum) -> float:
    r"""How many samples the power of a set rests on: its groups, or fewer where few of them hold most of the power.

    $(E\,W / s_W)^2$ with W the total power and $s_W$ its standard error: n for samples whose power varies by a factor
    of e, a tenth of that where a few bright ones decide.
    """
    power = radial_power(spectrum, spectrum.means.replicate_means)[..., 1:].sum((1, 2))
    power = power[power.isfinite()]
    if len(power) < 2:
        return 1.0
    spread = float(power.var() / power.mean().square().clamp_min(1e-300))
    return min(spectrum.means.effective_groups, 1 / max(spread, 1e-12))


def _log_power(spectrum: SampleSpectrum) -> Tensor:
    """Logarithm of each replicate's power per radius, over all planes."""
    power = radial_power(spectrum, spectrum.means.replicate_means).mean(1)[:, 1:]
    return (power + EMPTY * power.nanmean()).log()


def _octaves(real: SampleSpectrum, fake: SampleSpectrum, paired: bool) -> Family:
    octaves = real.octaves
    labels = (real.planes, tuple(octave_name(octave, real.sample_rate) for octave in octaves))
    shown = ("octaves", "dB", ("plane", "octave"), labels, LEAST_DB)
    return _family(shown, partial(_octave_power, octaves=octaves), real, fake, paired)


def _level(real: SampleSpectrum, fake: SampleSpectrum, paired: bool) -> Family:
    """Means in units of the data: of images these are known, of other samples the real set's spread is the measure."""
    scale = 1.0 if real.kind == "images" else float(value_scale(real.block(LEVEL, real.means.mean)))
    shown = (LEVEL, Level.unit, Level.axes, (level_planes(real.planes),), Level.least * scale)
    return _family(shown, partial(_probe_quantity, name=LEVEL), real, fake, paired)


def _level_spread(real: SampleSpectrum, fake: SampleSpectrum, paired: bool) -> Family:
    shown = (LEVEL_SPREAD, "dB", Level.axes, (level_planes(real.planes),), LEAST_DB)
    extra = vanishing_variance(*(each.block(LEVEL, each.means.mean) for each in (real, fake)))
    return _family(shown, partial(_level_variance, extra=extra), real, fake, paired)


def _of_probe(name: str, real: SampleSpectrum, fake: SampleSpectrum, paired: bool) -> Family:
    (probe,) = (probe for probe in real.probes if probe.name == name)
    shown = (name, probe.unit, probe.axes, probe.labels(real.shape), probe.least)
    return _family(shown, partial(_probe_quantity, name=name), real, fake, paired)


_Shown = tuple[str, str, tuple[str, ...], tuple[tuple[str, ...], ...], float]


def _family(shown: _Shown, quantity: Quantity, real: SampleSpectrum, fake: SampleSpectrum, paired: bool) -> Family:
    """One family from the means of both sets."""
    name, unit, axes, labels, least = shown
    reference, value = quantity(real, real.means.mean), quantity(fake, fake.means.mean)
    against = partial(_against, unit=unit, mean=reference.nanmean())
    halves, drawn = quantity(real, real.means.halves), quantity(real, real.means.half_replicates)
    replicates = against(quantity(fake, fake.means.replicate_means), quantity(real, real.means.replicate_means))
    between = None if paired else against(drawn[0], drawn[1])
    difference, once = against(value, reference), against(halves[0], halves[1])
    return Family(name, unit, axes, labels, least, reference, value, difference, replicates, once, between)


def _against(value: Tensor, reference: Tensor, unit: str, mean: Tensor) -> Tensor:
    match unit:
        case "dB":
            return decibels(value, reference, mean)
        case "%":
            return 100 * (value / reference - 1)
        case _:
            return value - reference


def _probe_quantity(spectrum: SampleSpectrum, means: Tensor, name: str) -> Tensor:
    (probe,) = (probe for probe in spectrum.probes if probe.name == name)
    return probe.derive(spectrum.block(name, means)).double()


def _level_variance(spectrum: SampleSpectrum, means: Tensor, extra: Tensor) -> Tensor:
    return level_variance(spectrum.block(LEVEL, means)) + extra


def _octave_power(spectrum: SampleSpectrum, means: Tensor, octaves: Sequence[tuple[float, float]]) -> Tensor:
    """Mean power over all frequencies of each octave: rings count with their size."""
    power, size = radial_power(spectrum, means), tuple(spectrum.shape[1:])
    held = torch.bincount(radial_bins(size, half=False).flatten(), minlength=power.shape[-1])[: power.shape[-1]]
    inside = bins_of(octaves, power.shape[-1], min(size))
    return torch.stack([(power * held)[..., bins].sum(-1) / held[bins].sum() for bins in inside], -1)
