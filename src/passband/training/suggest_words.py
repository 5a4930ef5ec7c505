"""The words of a suggestion: where a denoiser is wrong, what the losses are called, shares and multiples."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from passband.metrics import DenoiserSpectrum
from passband.regularization import Description
from passband.reports.spectrum.words import terms_of

_WORDS = {
    "amplitude": "the Fourier amplitude loss",
    "amplitude_phase": "the amplitude and phase loss",
    "wavelet": "the wavelet loss",
    "focal_frequency": "the focal frequency loss",
    "pixel": "the pixel loss",
    "stft": "the short-time amplitude loss",
}
_PHASES = "amplitude_phase"
_WHOLE = 9.95


def described_terms(loss: Description) -> list[dict[str, Any]]:
    """The terms of a loss in plain values.

    Example:
        >>> from passband.training.suggest_words import described_terms
        >>> described_terms("amplitude"), described_terms([{"name": "pixel"}, {"name": "wavelet"}])
        ([{'name': 'amplitude'}], [{'name': 'pixel'}, {'name': 'wavelet'}])

    """
    if isinstance(loss, str):
        return [{"name": loss}]
    return [dict(loss)] if isinstance(loss, Mapping) else [dict(one) for one in loss]


def sees_phases(loss: Description) -> bool:
    """Whether a loss looks at more than amplitudes, and so can tell where a thing is.

    Example:
        >>> from passband.training.suggest_words import sees_phases
        >>> sees_phases("amplitude"), sees_phases([{"name": "amplitude"}, {"name": "wavelet"}])
        (False, True)
        >>> sees_phases({"name": "stft", "kind": "amplitude_phase"})
        True

    """
    amplitudes = ("amplitude", "stft")
    return any(
        term["name"] not in amplitudes or term.get("kind", "amplitude") == _PHASES for term in described_terms(loss)
    )


def loss_name(loss: Description) -> str:
    """A loss in words.

    Example:
        >>> from passband.training.suggest_words import loss_name
        >>> loss_name("wavelet"), loss_name([{"name": "amplitude"}, {"name": "pixel"}])
        ('the wavelet loss', 'amplitude + pixel')

    """
    first, *others = described_terms(loss)
    if others:
        return " + ".join(str(term["name"]) for term in (first, *others))
    if first["name"] == "stft" and first.get("kind") == _PHASES:
        return "the short-time amplitude and phase loss"
    return _WORDS.get(first["name"], str(first["name"]))


def describe_found(result: DenoiserSpectrum, kind: str = "images") -> str:
    """Where the model is wrong, in one to three sentences.

    Args:
        result: what was measured.
        kind: what the samples are: `images`, `latents` or `signals`.

    """
    power, error = result.calibration.difference, result.excess.difference
    parts = [
        _where(result, result.smooth, power.neg(), "less power than it shares with the data: it is too smooth", kind),
        _where(
            result, result.rough, power, "more power than it shares with the data: it shows what is not there", kind
        ),
        _where(result, result.under & ~result.smooth & ~result.rough, error, "more error than a linear filter's", kind),
    ]
    return " ".join(part for part in parts if part)


def _where(result: DenoiserSpectrum, cells: Tensor, size: Tensor, what: str, kind: str) -> str:
    """The extent of some cells, and the worst of them."""
    count = int(cells.sum())
    if not count:
        return ""
    worst = torch.where(cells & size.isfinite(), size, -math.inf)
    level, band = divmod(int(worst.argmax()), len(result.bands))
    most = f"{float(size[level, band]):.1f} dB"
    there = f"at noise ratio {result.excess.labels[0][level]} {_band(result.excess.labels[1][band], kind)}"
    if count == 1:
        return f"In one cell, {there}, the estimate has {most} {what}."
    rows, columns = (cells.any(axis).nonzero().flatten().tolist() for axis in (1, 0))
    low, high = (result.excess.labels[0][row] for row in (rows[0], rows[-1]))
    levels = f"noise ratios {low} to {high}" if len(rows) > 1 else f"noise ratio {low}"
    return (
        f"In {count} of {cells.numel()} cells ({levels}; {_span(result, columns, kind)}) the estimate has up to {most} "
        f"{what} (most {there})."
    )


def _span(result: DenoiserSpectrum, columns: Sequence[int], kind: str) -> str:
    """The frequencies between the lowest and the highest of some bands."""
    labels = result.excess.labels[1]
    if len(columns) == 1:
        return _band(labels[columns[0]], kind)
    ends = result.bands[columns[0]][0], result.bands[columns[-1]][1]
    low, high = (f"1/{round(1 / end, 1):g}" if end else "the mean" for end in ends)
    return f"from {low} to " + (
        "the corners of the plane" if labels[columns[-1]] == "corners" else f"{high} {terms_of(kind).unit}"
    )


def _band(label: str, kind: str) -> str:
    if label == "corners":
        return "in the corners of the plane"
    if label == "mean":
        return "in the mean (brightness)" if kind == "images" else "in the mean"
    return f"at {label} {terms_of(kind).unit}"


def multiple(share: float) -> str:
    """A share as a multiple.

    Example:
        >>> from passband.training.suggest_words import multiple
        >>> multiple(0.0021), multiple(0.3), multiple(1.24), multiple(35.2)
        ('0.002', '0.3', '1.2', '35')

    """
    return f"{share:.0f}" if share >= _WHOLE else f"{share:.1g}" if share < 1 else f"{share:.2g}"


def percent(share: float) -> str:
    """A share in percent.

    Example:
        >>> from passband.training.suggest_words import percent
        >>> percent(0.0), percent(0.0001), percent(0.005), percent(0.384)
        ('none', 'less than 0.1 %', '0.5 %', '38 %')

    """
    if share == 0:
        return "none"
    hundredths = 100 * share
    if hundredths >= 10:
        return f"{hundredths:.0f} %"
    return f"{hundredths:.1f} %" if hundredths >= 0.1 else "less than 0.1 %"
