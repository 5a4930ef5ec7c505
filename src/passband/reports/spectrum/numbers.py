"""A comparison as plain data, for JSON."""

from collections.abc import Sequence
from typing import Any

from passband.metrics.contrast import Contrast
from passband.metrics.peaks import Peak, PeakReport
from passband.metrics.sample_comparison import Law, SampleComparison, Scored
from passband.reports.spectrum.verdict import describe


def comparison_numbers(comparison: SampleComparison) -> dict[str, Any]:
    """Everything that was measured, as plain data: numbers that are not finite are to be written as null.

    Args:
        comparison: from [`compare_samples`][passband.metrics.compare_samples].

    Returns:
        Verdict, counts, distances, laws, peaks, and every family of quantities with its intervals and floors.

    """
    return {
        "summary": list(describe(comparison)),
        "same": comparison.same,
        "kind": comparison.kind,
        "sample_rate": comparison.sample_rate,
        "size": list(comparison.size),
        "channels": comparison.channels,
        "planes": list(comparison.planes),
        "count": {"real": comparison.real_count, "fake": comparison.fake_count},
        "independent_groups": comparison.groups,
        "paired": comparison.paired,
        "interval_factor": comparison.factor,
        "lsd_db": _scored(comparison.lsd),
        "octaves": [
            {"low": low, "high": high, "lsd_db": _scored(score)}
            for (low, high), score in zip(comparison.octaves, comparison.octave_lsd, strict=True)
        ],
        "power_law": {
            "real": _law(comparison.law.real),
            "fake": _law(comparison.law.fake),
            "fitted": [comparison.law.low, comparison.law.high],
        },
        "peaks": [_peak(peak) for peak in comparison.peaks.peaks],
        "peaks_of_both": [_peak(peak) for peak in comparison.peaks.both],
        "periodicity": _periodicity(comparison.peaks),
        "frequency": comparison.frequency.tolist(),
        "contrasts": {name: contrast_numbers(contrast) for name, contrast in comparison.contrasts.items()},
    }


def series_numbers(series: Sequence[tuple[str, SampleComparison]]) -> list[dict[str, Any]]:
    """A training's sets of samples over time, as plain data."""
    return [{"step": step, **comparison_numbers(comparison)} for step, comparison in series]


def contrast_numbers(contrast: Contrast) -> dict[str, Any]:
    """One family of quantities as nested lists."""
    return {
        "unit": contrast.unit,
        "axes": list(contrast.axes),
        "least": contrast.least,
        "labels": [list(labels) for labels in contrast.labels],
        "real": contrast.reference.tolist(),
        "fake": contrast.value.tolist(),
        "difference": contrast.difference.tolist(),
        "standard_error": contrast.error.tolist(),
        "low": contrast.low.tolist(),
        "high": contrast.high.tolist(),
        "halves": contrast.halves.tolist(),
        "floor": contrast.floor.tolist(),
        "different": contrast.different.tolist(),
    }


def _scored(score: Scored) -> dict[str, float]:
    return {"value": score.value, "low": score.low, "high": score.high, "floor": score.floor}


def _law(law: Law) -> dict[str, float]:
    return {"exponent": law.exponent, "standard_error": law.error, "residual_db": law.residual}


def _peak(peak: Peak) -> dict[str, Any]:
    return {
        "name": peak.name,
        "plane": peak.plane,
        "frequency": list(peak.frequency),
        "also": [list(place) for place in peak.also],
        "period": None if peak.period is None else str(peak.period),
        "height_db": peak.height,
        "standard_error_db": peak.error,
        "height_in_real_db": peak.in_real,
        "found_by": peak.found_by,
    }


def _periodicity(report: PeakReport) -> dict[str, Any]:
    return {
        "frequency": report.frequency.tolist(),
        "height_db": {
            plane: {axis: {"real": real.tolist(), "fake": fake.tolist()} for axis, (real, fake) in profiles.items()}
            for plane, profiles in report.profiles.items()
        },
    }
