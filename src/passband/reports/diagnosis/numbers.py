"""A diagnosis as plain data, for JSON."""

from collections.abc import Sequence
from typing import Any

from passband.metrics.contrast import Contrast
from passband.metrics.denoiser_result import DenoiserSpectrum
from passband.metrics.power_law import PowerLawResult
from passband.reports.diagnosis.sections import Suggested


def diagnosis_numbers(
    models: Sequence[tuple[str, DenoiserSpectrum]],
    comparison: Contrast | None,
    suggestion: Suggested | None,
    law: PowerLawResult | str | None,
) -> dict[str, Any]:
    """Everything that was measured; numbers that are not finite are to be written as null."""
    found: dict[str, Any] = {"models": {name: spectrum_numbers(result) for name, result in models}}
    if comparison is not None:
        found["change_db"] = _contrast(comparison)
    if suggestion is not None:
        found["suggestion"] = {"sentences": dict(suggestion.sentences), "recipe": suggestion.recipe}
    if isinstance(law, PowerLawResult):
        found["power_law"] = {"exponent": law.beta, "standard_error": law.beta_error, "k1": law.k1}
    elif law is not None:
        found["power_law"] = law
    return found


def spectrum_numbers(result: DenoiserSpectrum) -> dict[str, Any]:
    """One model's measurement: tables of noise levels (rows) by bands (columns)."""
    return {
        "noise_ratios": list(result.ratios),
        "times": list(result.times),
        "bands_cycles_per_sample": [list(band) for band in result.bands],
        "size": list(result.size),
        "channels": result.channels,
        "count": result.count,
        "power": result.power.tolist(),
        "error_over_power": result.relative.tolist(),
        "wiener_over_power": result.wiener.tolist(),
        "estimate_over_power": result.held.tolist(),
        "excess_db": _contrast(result.excess),
        "calibration_db": _contrast(result.calibration),
        "under_reaches": result.under.tolist(),
        "too_smooth": result.smooth.tolist(),
        "too_rough": result.rough.tolist(),
        "gradients": {
            name: {"share": gradient.share.tolist(), "norm": gradient.norm.tolist()}
            for name, gradient in result.gradients.items()
        },
    }


def _contrast(contrast: Contrast) -> dict[str, Any]:
    return {
        "difference": contrast.difference.tolist(),
        "standard_error": contrast.error.tolist(),
        "low": contrast.low.tolist(),
        "high": contrast.high.tolist(),
        "different": contrast.different.tolist(),
    }
