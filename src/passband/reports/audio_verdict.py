"""A comparison of long-term spectra in plain words: muffled, too bright, or in agreement, and where."""

import math
from dataclasses import dataclass
from itertools import groupby

from passband.metrics import FrequencyBand, LongTermResult
from passband.metrics.frequency_words import hertz
from passband.reports.audio_spectra import LongTermComparison, band_levels

NOTICEABLE = 1.0  # dB; a smaller difference of a band is not worth a sentence
MUFFLED = 3.0  # dB too little power in each band up to the highest, beside the difference of the level
SURE = 3.0  # standard errors
LOWEST = 45.0  # Hz; what is below is not heard
HEARD = 70.0  # dB below the loudest band: less is not heard beside it


@dataclass(frozen=True)
class BandDeviation:
    """Neighbouring thirds of an octave that all have too much, or all too little power.

    Attributes:
        low: lower edge, Hz.
        high: upper edge, Hz.
        mean: mean difference of the bands, dB: positive where the fake audio has too much power.
        at_bottom: the lowest band that counts is one of them.
        at_top: the highest band that counts is one of them.

    """

    low: float
    high: float
    mean: float
    at_bottom: bool
    at_top: bool


def band_deviations(comparison: LongTermComparison) -> list[BandDeviation]:
    """Where the spectra differ, the heaviest first (mean difference times number of bands).

    Args:
        comparison: from [`LongTermSets.compute`][passband.reports.LongTermSets].

    Returns:
        Runs of neighbouring bands; none where all agree.

    """
    heard = _heard(comparison.result)
    if not heard:
        return []
    signs = {number: _sign(comparison, number) for number in heard}
    runs = []
    for sign, run in groupby(heard, key=lambda number: signs[number]):
        numbers = list(run)
        if sign:
            bands = [comparison.result.third_octaves[number] for number in numbers]
            mean = sum(band.bias for band in bands) / len(bands)
            place = numbers[0] == heard[0], numbers[-1] == heard[-1]
            runs.append((abs(mean) * len(bands), BandDeviation(bands[0].low, bands[-1].high, mean, *place)))
    return [deviation for _, deviation in sorted(runs, key=lambda pair: -pair[0])]


def muffling(comparison: LongTermComparison) -> BandDeviation | None:
    """The highest bands, if they have too little power for the level of the whole; None where nothing is muffled.

    Args:
        comparison: from [`LongTermSets.compute`][passband.reports.LongTermSets].

    Returns:
        From the lowest band above which all lack 3 dB or more; its mean is relative to the difference of the level.

    """
    result, level = comparison.result, level_difference(comparison.result)
    heard = _heard(result)
    lacking: list[FrequencyBand] = []
    for number in reversed(heard):
        band = result.third_octaves[number]
        if band.bias - level > -max(MUFFLED, SURE * _error(comparison, number)):
            break
        lacking.append(band)
    if not lacking or len(lacking) == len(heard):
        return None
    mean = sum(band.bias - level for band in lacking) / len(lacking)
    return BandDeviation(lacking[-1].low, lacking[0].high, mean, at_bottom=False, at_top=True)


def level_difference(result: LongTermResult) -> float:
    """Difference of the whole power, dB."""
    fake, real = float(result.psd_fake[1:].sum()), float(result.psd_real[1:].sum())
    return 10 * math.log10(fake / real) if fake > 0 else -math.inf


def describe_audio(comparison: LongTermComparison, fake: str = "fake") -> str:
    """The comparison in a few sentences of plain English.

    Args:
        comparison: from [`LongTermSets.compute`][passband.reports.LongTermSets].
        fake: what the second set is called.

    """
    found, muffled = band_deviations(comparison), muffling(comparison)
    said = []
    if muffled is not None:
        level = level_difference(comparison.result)
        shown = f"{level:+.1f}".replace("-", "−")
        beside = f", beside the {shown} dB of the level" if abs(level) > NOTICEABLE else ""
        said.append(
            f"The {fake} audio is muffled: above {hertz(muffled.low)} it has {-muffled.mean:.1f} dB too little "
            f"power on average{beside}."
        )
        others = [deviation for deviation in found if not deviation.at_top][:1]
        said += [f"It also has {_phrase(deviation)}." for deviation in others]
    elif found:
        said.append(f"The {fake} audio has {' and '.join(_phrase(deviation) for deviation in found[:2])}.")
    else:
        said.append(
            f"The long-term spectrum of the {fake} audio agrees with that of the real audio in every third of an "
            "octave."
        )
    distance = f"The log-spectral distance of the long-term spectra is {comparison.result.lsd:.2f} dB"
    if comparison.chance_lsd is not None:
        distance += f"; two halves of the real audio are {comparison.chance_lsd:.2f} dB apart"
    return " ".join([*said, f"{distance}."])


def _heard(result: LongTermResult) -> list[int]:
    levels = band_levels(result)
    loudest = max((real for real, _ in levels), default=-math.inf)
    return [
        number
        for number, (band, level) in enumerate(zip(result.third_octaves, levels, strict=True))
        if band.low >= LOWEST and max(level) > loudest - HEARD
    ]


def _sign(comparison: LongTermComparison, number: int) -> int:
    band: FrequencyBand = comparison.result.third_octaves[number]
    threshold = max(NOTICEABLE, SURE * _error(comparison, number))
    return int(math.copysign(1, band.bias)) if abs(band.bias) > threshold else 0


def _error(comparison: LongTermComparison, number: int) -> float:
    return 0.0 if comparison.error is None else float(comparison.error[number])


def _phrase(deviation: BandDeviation) -> str:
    amount = f"{abs(deviation.mean):.1f} dB too {'much' if deviation.mean > 0 else 'little'} power"
    match deviation.at_bottom, deviation.at_top:
        case True, True:
            return f"{amount} at all frequencies"
        case False, True:
            return f"{amount} above {hertz(deviation.low)}"
        case True, False:
            return f"{amount} below {hertz(deviation.high)}"
        case _:
            return f"{amount} from {hertz(deviation.low)} to {hertz(deviation.high)}"
