"""What a diagnosis says, in three sentences: where the error is, what is wrong with the power, how sure that is."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from passband.metrics.contrast import Contrast
from passband.metrics.denoiser_result import DenoiserSpectrum
from passband.metrics.noise_levels import level_name
from passband.metrics.pixel_bands import PixelBands, band_label
from passband.reports.diagnosis.words import band_kind, missing_words, surplus_words
from passband.reports.spectrum.words import Terms, counted

_EMPTY = 1e-3  # of the data's mean power per coefficient
_FEWER = 0.5  # of the samples; where no more of them are independent, it is said
_SEEN = 0.9  # of the data's power: where the Wiener filter leaves less, there is something to estimate


class Extent(NamedTuple):
    """Some cells of a map: how many, from where to where, and the worst.

    Attributes:
        cells: how many.
        levels: noise ratios, in words.
        bands: frequencies, in words.
        most: the largest size, in dB.
        where: its place, in words.
        band: its band.

    """

    cells: int
    levels: str
    bands: str
    most: float
    where: str
    band: int


def describe_diagnosis(
    models: Sequence[tuple[str, DenoiserSpectrum]], comparison: Contrast | None, terms: Terms
) -> tuple[str, str, str]:
    """Three sentences that a person would write.

    Args:
        models: the name and the measurement of the diagnosed model, and of the one that it is held against.
        comparison: the second one's error over the first one's; None for one model.
        terms: what the samples are called.

    Returns:
        Where the error is; what is wrong with the power, or what the second model changed; how sure that is.

    """
    name, result = models[0]
    error = _error(name, result, terms)
    if comparison is None or len(models) < 2:
        return error, _power(result, terms), _certainty(result, terms)
    return error, _change(name, models[1][0], comparison, result, terms), _certainty(result, terms)


def extent(cells: Tensor, size: Tensor, result: DenoiserSpectrum, terms: Terms) -> Extent | None:
    """Where some cells lie; None where there are none.

    Args:
        cells: which ones, (levels, bands).
        size: by which the worst is chosen.
        result: what was measured.
        terms: what the samples are called.

    """
    count = int(cells.sum())
    if not count:
        return None
    worst = torch.where(cells & size.isfinite(), size, -torch.inf)
    level, band = divmod(int(worst.argmax()), len(result.bands))
    rows, columns = (cells.any(axis).nonzero().flatten().tolist() for axis in (1, 0))
    low, high = (level_name(result.ratios[row]) for row in (rows[0], rows[-1]))
    return Extent(
        count,
        f"noise ratios {low} to {high}" if low != high else f"noise ratio {low}",
        _frequencies([result.bands[column] for column in columns], terms),
        float(worst[level, band]),
        f"at noise ratio {level_name(result.ratios[level])}, {_frequencies([result.bands[band]], terms)}",
        band,
    )


def _error(name: str, result: DenoiserSpectrum, terms: Terms) -> str:
    excess, seen = result.excess.difference, seen_cells(result)
    missed = extent(result.under & seen, excess, result, terms)
    added = extent(result.under & ~seen, excess, result, terms)
    total = result.under.numel()
    if missed is None and added is None:
        held = seen & excess.isfinite()
        median = float(excess[held].median()) if bool(held.any()) else 0.0
        better = f"; in half of the cells where there is something to see it is better by {-median:.1f} dB or more"
        return (
            f"The model {name} is nowhere worse than a Wiener filter, which knows the data's power spectrum alone"
            f"{better if median < -0.05 else ''}."
        )
    parts = []
    if missed is not None:
        place = _place(missed, _emptiness(result, missed, terms))
        parts.append(f"by up to {missed.most:.1f} dB where there is something to see ({place})")
    if added is not None:
        place = _place(added, _emptiness(result, added, terms))
        parts.append(
            f"by up to {added.most:.1f} dB where noise hides the data, and the best guess is next to nothing ({place})"
        )
    cells = sum(found.cells for found in (missed, added) if found is not None)
    return (
        f"The model {name} is worse than a Wiener filter in {cells} of {total} cells of the map: "
        f"{', and '.join(parts)}."
    )


def seen_cells(result: DenoiserSpectrum) -> Tensor:
    """Cells in which the noise leaves something to see: in others the best estimate is next to nothing."""
    return result.wiener < _SEEN


def _place(found: Extent, aside: str = "") -> str:
    cells = f"{found.cells} cells" if found.cells > 1 else "one cell"
    return f"{cells}, {_worst(found)}{aside}"


def _worst(found: Extent) -> str:
    return found.where if found.cells == 1 else f"most {found.where}"


def _emptiness(result: DenoiserSpectrum, found: Extent, terms: Terms) -> str:
    """That the worst cell's band is all but empty, where the smallest error is many decibels."""
    coefficients = PixelBands(result.size).counts
    average = float((result.power * coefficients).sum() / coefficients.sum())
    empty = float(result.power[found.band]) < _EMPTY * average
    return f", where the {terms.samples} have next to no power" if empty else ""


def _power(result: DenoiserSpectrum, terms: Terms) -> str:
    calibration = result.calibration.difference
    smooth = extent(result.smooth, -calibration, result, terms)
    rough = extent(result.rough, calibration, result, terms)
    if smooth is None and rough is None:
        return "Its estimates have the power that they should have: they are neither too smooth nor too rough."
    parts = [_power_part(one, what) for one, what in ((smooth, "smooth"), (rough, "rough")) if one is not None]
    return f"Its estimates are {', and '.join(parts)}."


def _power_part(found: Extent, what: str) -> str:
    much = missing_words(found.most) if what == "smooth" else surplus_words(found.most)
    where = found.where if found.cells == 1 else f"in {counted(found.cells, 'cell')}, {_worst(found)}"
    return f"too {what} {where} ({much})"


def _change(first: str, second: str, comparison: Contrast, result: DenoiserSpectrum, terms: Terms) -> str:
    difference = comparison.difference
    less = extent(comparison.different & (difference < 0), -difference, result, terms)
    more = extent(comparison.different & (difference > 0), difference, result, terms)
    if less is None and more is None:
        return (
            f"{second} errs neither less nor more than {first}, on the same noisy {terms.samples}, by more than chance."
        )
    parts = [
        f"{word} in {counted(found.cells, 'cell')}, {_worst(found)} ({sign}{found.most:.1f} dB)"
        for word, sign, found in (("less", "−", less), ("more", "+", more))
        if found is not None
    ]
    return f"Against {first}, {second} errs {' and '.join(parts)}."


def _certainty(result: DenoiserSpectrum, terms: Terms) -> str:
    groups = result.count if result.means is None else result.means.effective_groups
    alike = f", which tell as much as {groups:.0f} independent ones" if groups < _FEWER * result.count else ""
    reach = torch.minimum(result.excess.difference - result.excess.low, result.excess.high - result.excess.difference)
    known = reach[reach.isfinite()]
    typical = f", typically ± {float(known.median()):.1f} dB" if len(known) else ""
    return (
        f"Measured on {result.count:,} {terms.samples}{alike}; a cell is called only where its 95 % interval leaves "
        f"out zero, and the intervals hold for all cells at once{typical}."
    )


def _frequencies(bands: Sequence[tuple[float, float]], terms: Terms) -> str:
    """From the lowest to the highest of some bands, in words."""
    if len(bands) == 1:
        kind = band_kind(bands[0])
        words = {"mean": "in the mean", "corners": "in the corners of the plane"}
        return words.get(kind) or f"{band_label(bands[0])} {terms.unit}"
    inner = [band for band in bands if band_kind(band) == "band"]
    ends = [f"1/{round(1 / end, 1):g}" for end in (inner[0][0], inner[-1][1])] if inner else []
    lowest = "the mean" if band_kind(bands[0]) == "mean" else ends[0]
    if band_kind(bands[-1]) == "corners":
        return f"from {lowest}{'' if lowest == 'the mean' else f' {terms.unit}'} to the corners of the plane"
    return f"from {lowest} to {ends[-1]} {terms.unit}"
