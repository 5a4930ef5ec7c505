"""Log-spectral distance and power law of two measured sets, with their bootstrap uncertainty."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from passband.metrics.contrast import LEAST_GROUPS
from passband.metrics.long_term_compare import DEFAULT_FLOOR as AUDIO_FLOOR
from passband.metrics.probes._octaves import OCTAVE_TOP
from passband.metrics.sample_families import bins_of, radial_power
from passband.metrics.sample_spectrum import SampleSpectrum
from passband.metrics.spectrum import DEFAULT_FLOOR, log_spectral_ratio
from passband.transforms import power_law_fit

# The law is fitted from this bin on, beyond the taper's main lobe around the lowest ones, to so many cycles per pixel.
_FIT_LOW, _FIT_HIGH = 4, 0.4
#: Cycles per sample; above, the filters of resampling leave little, whatever made the clips.
AUDIO_TOP = 0.46


@dataclass(frozen=True)
class Scored:
    """A distance with its uncertainty, dB.

    Attributes:
        value: the distance.
        low: lower end of its 95 % bootstrap interval.
        high: its upper end.
        floor: what two halves of the real set stay under in 95 of 100 splits; NaN where there are too few samples.

    """

    value: float
    low: float
    high: float
    floor: float


@dataclass(frozen=True)
class Law:
    r"""The power law $P(f) \propto f^{-\beta}$ of one set.

    Attributes:
        exponent: $\beta$; NaN where there are too few bins, or empty ones.
        error: its bootstrap standard error; NaN where there are too few samples.
        residual: root mean square of the measured power's distance from the law, dB.

    """

    exponent: float
    error: float
    residual: float


@dataclass(frozen=True)
class LawPair:
    """The power laws of both sets.

    Attributes:
        real: of the real samples.
        fake: of the generated ones.
        low: lowest frequency of the fit, cycles per pixel.
        high: highest frequency of the fit.

    """

    real: Law
    fake: Law
    low: float
    high: float


def spectral_distances(
    real: SampleSpectrum, fake: SampleSpectrum, octaves: Sequence[tuple[float, float]], *, known: bool = True
) -> list[Scored]:
    """The log-spectral distance over all radii, and within each octave; without intervals where none are known.

    Of audio, only up to 0.46 cycles per sample: a clip that was resampled has up to 80 dB less above than one that was
    not, and a few per cent of the frequencies would make the whole distance.
    """
    size, channels = tuple(real.shape[1:]), real.shape[0]
    halves, drawn = real.means.halves, real.means.half_replicates
    ratio = _lsd_ratio(fake, fake.means.mean, real, real.means.mean, channels)
    replicates = _lsd_ratio(fake, fake.means.replicate_means, real, real.means.replicate_means, channels)
    between = _lsd_ratio(real, drawn[0], real, drawn[1], channels)
    once = _lsd_ratio(real, halves[0], real, halves[1], channels)
    # The shortest of signals, of 4 samples, has nothing between 1/4 and 1/2.
    top = OCTAVE_TOP if real.sample_rate is None or min(size) < 5 else AUDIO_TOP
    shown = [(low, min(high, top)) for low, high in ((0.0, OCTAVE_TOP), *octaves)]
    parts = [bins - 1 for bins in bins_of(shown, len(ratio) + 1, min(size))]
    found = [_scored(ratio[part], replicates[:, part], between[:, part] - once[part]) for part in parts]
    return found if known else [replace(score, low=math.nan, high=math.nan) for score in found]


def _lsd_ratio(fake: SampleSpectrum, above: Tensor, real: SampleSpectrum, below: Tensor, channels: int) -> Tensor:
    """Difference per radius, dB, of spectra averaged over the channels (not over luma and chroma)."""
    powers = [radial_power(each, means)[..., :channels, :].mean(-2) for each, means in ((fake, above), (real, below))]
    # Hearing spans more decibels than the 8 bits of a picture.
    floor = DEFAULT_FLOOR if real.sample_rate is None else AUDIO_FLOOR
    return log_spectral_ratio(powers[0], powers[1], floor)


def _scored(ratio: Tensor, replicates: Tensor, noise: Tensor) -> Scored:
    """Chance makes a root mean square larger, the replicates' once more than the measured one.

    What the replicates add on average is taken off once for the upper end, and twice for the lower one, which so is 0
    for sets without a difference.
    """
    squares = replicates.square().mean(1)
    squares = squares[squares.isfinite()]
    value = ratio.square().mean()
    noise = noise[noise.isfinite().all(1)]
    floor = float(noise.square().mean(1).quantile(0.95).sqrt()) if len(noise) > 1 else float("nan")
    if len(squares) < 2:
        return Scored(float(value.sqrt()), float("nan"), float("nan"), floor)
    bias = (squares.mean() - value).clamp_min(0)
    low = (squares.quantile(0.025) - 2 * bias).clamp_min(0).sqrt()
    high = (squares.quantile(0.975) - bias).clamp_min(0).sqrt()
    found = float(value.sqrt())
    return Scored(found, min(float(low), found), max(float(high), found), floor)


def power_laws(real: SampleSpectrum, fake: SampleSpectrum) -> LawPair:
    """The power laws of both sets, fitted to the spectra averaged over the channels."""
    shortest = min(real.shape[1:])
    bins = radial_power(real, real.means.mean).shape[-1]
    high = min(bins - 1, int(_FIT_HIGH * shortest))
    return LawPair(_law(real, high), _law(fake, high), _FIT_LOW / shortest, high / shortest)


def _law(spectrum: SampleSpectrum, high: int) -> Law:
    nan = float("nan")
    if high - _FIT_LOW < 2:
        return Law(nan, nan, nan)
    channels = spectrum.shape[0]
    power = radial_power(spectrum, spectrum.means.mean)[:channels].mean(0)
    drawn = radial_power(spectrum, spectrum.means.replicate_means)[:, :channels].mean(1)
    fit = power_law_fit(power, _FIT_LOW, high)
    exponents = power_law_fit(drawn, _FIT_LOW, high).exponent
    exponents = exponents[exponents.isfinite()]
    radius = torch.arange(_FIT_LOW, high + 1, dtype=torch.float64)
    off = 10 * (power[_FIT_LOW : high + 1] / (fit.scale * radius**-fit.exponent)).log10()
    known = len(exponents) > 1 and spectrum.means.effective_groups >= LEAST_GROUPS
    error = float(exponents.std()) if known else nan
    return Law(float(fit.exponent), error, float(off.square().mean().sqrt()))
