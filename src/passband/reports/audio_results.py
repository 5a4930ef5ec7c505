"""The numbers of a comparison of audio: per-clip measures, and everything as plain data for JSON."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from passband.metrics import AudioMeasure, FrechetResult, FrequencyBand
from passband.reports.audio_spectra import LongTermComparison
from passband.reports.audio_verdict import band_deviations, level_difference, muffling


@dataclass(frozen=True)
class MeasuredClips:
    """One measure of many clips.

    Args:
        measure: what was measured.
        names: of the clips or pairs.
        fake: its value for each generated clip, against its real partner where the measure is paired.
        real: of a measure that needs no partner: its values for the real clips.

    """

    measure: AudioMeasure
    names: Sequence[str]
    fake: Sequence[float]
    real: Sequence[float] = ()

    @property
    def title(self) -> str:
        """Title with its unit."""
        return f"{self.measure.title} ({self.measure.unit})" if self.measure.unit else self.measure.title

    def worst(self, count: int) -> list[str]:
        """Names of the generated clips with the worst values, the worst first; clips without a value are left out."""
        found = [(value, name) for value, name in zip(self.fake, self.names, strict=True) if math.isfinite(value)]
        found.sort(reverse=self.measure.better == "lower")
        return [name for _, name in found[:count]]


@dataclass(frozen=True)
class FrechetComparison:
    """A Fréchet audio distance and what it can be held against.

    Args:
        result: the distance.
        reference: that of two halves of the real clips; None with too few windows.

    """

    result: FrechetResult
    reference: float | None = None


def mean_and_error(values: Sequence[float]) -> tuple[float, float, int]:
    """Mean of the finite values, its standard error (NaN for fewer than two), and how many there are."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return math.nan, math.nan, 0
    mean = sum(finite) / len(finite)
    if len(finite) < 2:
        return mean, math.nan, len(finite)
    variance = sum((value - mean) ** 2 for value in finite) / (len(finite) - 1)
    return mean, math.sqrt(variance / len(finite)), len(finite)


def audio_numbers(
    comparison: LongTermComparison,
    frechet: FrechetComparison | None = None,
    measured: Sequence[MeasuredClips] = (),
) -> dict[str, Any]:
    """The comparison as plain data for JSON: Hz, decibels, counts, and the spectra themselves.

    Args:
        comparison: from [`LongTermSets.compute`][passband.reports.LongTermSets].
        frechet: the Fréchet audio distance.
        measured: what was measured clip by clip.

    """
    result, muffled = comparison.result, muffling(comparison)
    return {
        "kind": "audio",
        "lsd_db": result.lsd,
        "reference_lsd_db": comparison.chance_lsd,
        "level_db": level_difference(result),
        "muffled": None if muffled is None else {"above_hz": muffled.low, "mean_db": muffled.mean},
        "deviations": [
            {"low_hz": found.low, "high_hz": found.high, "mean_db": found.mean} for found in band_deviations(comparison)
        ],
        "octaves": [_band(band) for band in result.octaves],
        "third_octaves": [
            {**_band(band), "standard_error_db": _at(comparison.error, i), "reference_db": _at(comparison.chance, i)}
            for i, band in enumerate(result.third_octaves)
        ],
        "mel": {
            "centre_hz": result.mel_frequencies.tolist(),
            "difference_db": result.mel_db.tolist(),
            "share_real": result.mel_share_real.tolist(),
            "share_fake": result.mel_share_fake.tolist(),
        },
        **clip_numbers(frechet, measured),
        "count": {"real": result.real_count, "fake": result.fake_count},
        "sample_rate": result.sample_rate,
        "n_fft": result.n_fft,
        "floor": result.floor,
        "frequency_hz": result.frequencies.tolist(),
        "psd": {"real": result.psd_real.tolist(), "fake": result.psd_fake.tolist()},
        "psd_standard_error": {"real": result.error_real.tolist(), "fake": result.error_fake.tolist()},
        "ratio_db": result.ratio_db.tolist(),
    }


def clip_numbers(frechet: FrechetComparison | None = None, measured: Sequence[MeasuredClips] = ()) -> dict[str, Any]:
    """The Fréchet audio distance and what was measured clip by clip, as plain data for JSON."""
    return {
        "frechet_audio_distance": None if frechet is None else _frechet(frechet),
        "measures": {clips.measure.name: _measure(clips) for clips in measured},
    }


def _band(band: FrequencyBand) -> dict[str, float]:
    return {
        "low_hz": band.low,
        "centre_hz": band.centre,
        "high_hz": band.high,
        "lsd_db": band.lsd,
        "bias_db": band.bias,
    }


def _at(values: Any, index: int) -> float | None:
    return None if values is None else float(values[index])


def _frechet(frechet: FrechetComparison) -> dict[str, Any]:
    result = frechet.result
    return {
        "distance": result.distance,
        "mean_term": result.mean_term,
        "reference": frechet.reference,
        "embedding": result.features,
        "windows": {"real": result.real_count, "fake": result.fake_count},
    }


def _measure(clips: MeasuredClips) -> dict[str, Any]:
    mean, error, count = mean_and_error(clips.fake)
    numbers: dict[str, Any] = {
        "title": clips.measure.title,
        "unit": clips.measure.unit,
        "better": clips.measure.better,
        "paired": clips.measure.paired,
        "mean": mean,
        "standard_error": error,
        "count": count,
        "clips": dict(zip(clips.names, clips.fake, strict=True)),
    }
    if clips.real:
        mean, error, count = mean_and_error(clips.real)
        numbers["real"] = {"mean": mean, "standard_error": error, "count": count}
    return numbers
