"""Heat maps of noise level by frequency band: coloured cells with their numbers; what is called is framed and bold."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from passband._checks import import_extra
from passband.metrics.contrast import Contrast
from passband.metrics.denoiser_result import DenoiserSpectrum
from passband.metrics.noise_levels import level_name
from passband.reports.diagnosis.words import band_kind, fraction_of, signed
from passband.reports.difference_figures import difference_colours, minus, numpy, text_colour
from passband.reports.figures import WIDTH, _style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEAST, _MOST = 1.0, 10.0  # dB at which the colours end, at least and at most
_KEY = "framed: more than chance      dashed: noise as strong as the data"
_WIDE = 9.95  # dB from which on digits after the point are left out
_LABELLED = 4  # ends of octaves from the top that are always labelled: those of several columns
_LEAST_HEIGHT = 2.7  # inches, that the words beside the colours take
_HALF = 0.5  # error of the Wiener filter over the data's power where noise and data are equally strong


class Map(NamedTuple):
    """What a heat map shows.

    Attributes:
        values: dB, (levels, bands).
        called: cells that are framed.
        ratios: noise ratio of each row, rising.
        bands: (low, high) of each column in cycles per pixel, rising.
        label: what the numbers are, with the unit.
        wiener: the Wiener filter's error over the data's power, by which the front is drawn; None: no front.

    """

    values: Tensor
    called: Tensor
    ratios: Sequence[float]
    bands: Sequence[tuple[float, float]]
    label: str
    wiener: Tensor | None = None


def excess_map(result: DenoiserSpectrum) -> Map:
    """The error over the Wiener filter's."""
    label = "error over Wiener's (dB)\n← better · worse →"
    return Map(result.excess.difference, result.under, result.ratios, result.bands, label, result.wiener)


def calibration_map(result: DenoiserSpectrum) -> Map:
    """The power of the estimate over what it should be."""
    called = result.smooth | result.rough
    label = "power of the estimate (dB)\n← too smooth · too rough →"
    return Map(result.calibration.difference, called, result.ratios, result.bands, label, result.wiener)


def change_map(comparison: Contrast, result: DenoiserSpectrum) -> Map:
    """The error of a second model over that of the first, which was measured with the same noise."""
    label = "error over the first's (dB)\n← less · more →"
    return Map(comparison.difference, comparison.different, result.ratios, result.bands, label, result.wiener)


def map_figure(shown: Map, *, step: str = "pixel", title: str = "", scale_of: Sequence[Map] | None = None) -> "Figure":
    """One map: noise rises upwards, frequency to the right; dashed, where noise and data are equally strong.

    Args:
        shown: what it shows.
        step: what a frequency counts cycles per.
        title: shown above.
        scale_of: maps that have one scale of colours with this one.

    Returns:
        The figure.

    """
    with _style():
        figure: Figure = import_extra("matplotlib.figure", "train").Figure(figsize=(WIDTH, _height(shown)))
        axes = figure.add_subplot()
        draw_map(figure, axes, shown, step, scale_of)
        if title:
            axes.set_title(title)
    return figure


def maps_figure(maps: Sequence[Map], titles: Sequence[str], *, step: str = "pixel") -> "Figure":
    """Maps above each other, for a tracker or a paper: of one model its error and its power, of two the same."""
    with _style():
        figure: Figure = import_extra("matplotlib.figure", "train").Figure(
            figsize=(WIDTH, sum(_height(shown) for shown in maps))
        )
        rows = figure.subplots(len(maps), 1, squeeze=False)[:, 0]
        for axes, shown, title in zip(rows, maps, titles, strict=True):
            draw_map(figure, axes, shown, step)
            axes.set_title(title)
        figure.supxlabel(_KEY, fontsize=9, color="#555555")
    return figure


def draw_map(
    figure: "Figure", axes: "Axes", shown: Map, step: str = "pixel", scale_of: Sequence[Map] | None = None
) -> None:
    """Draw one map into axes, with its colour bar."""
    values, called = numpy(shown.values), shown.called.cpu().numpy()
    scale = max(_scale(numpy(one.values)) for one in (scale_of or [shown]))
    image = axes.imshow(
        np.ma.masked_invalid(values), cmap=difference_colours(), vmin=-scale, vmax=scale, aspect="auto", origin="lower"
    )
    _numbers(axes, values, called, scale)
    if shown.wiener is not None:
        _front(axes, numpy(shown.wiener))
    band_axis(axes, shown.bands, step)
    axes.set_yticks(range(len(shown.ratios)), [level_name(ratio) for ratio in shown.ratios])
    axes.set_ylabel("noise ratio σ/α")
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    beyond = np.abs(values[np.isfinite(values)]).max(initial=0.0) > scale
    bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=14, format=minus, extend="both" if beyond else "neither")
    bar.set_label(shown.label, fontsize=9.5)
    bar.outline.set_visible(False)


def _numbers(axes: "Axes", values: NDArray[np.float64], called: NDArray[np.bool_], scale: float) -> None:
    rectangle = import_extra("matplotlib.patches", "train").Rectangle
    size = 9 if values.shape[1] <= 9 else 7.5
    for i, j in np.ndindex(values.shape):
        value, bold = float(values[i, j]), bool(called[i, j])
        axes.text(
            j, i, signed(value, 1 if abs(value) < _WIDE else 0), ha="center", va="center", fontsize=size,
            color=text_colour(value, scale), fontweight="bold" if bold else "normal",
        )  # fmt: skip
        if bold:
            axes.add_patch(rectangle((j - 0.45, i - 0.44), 0.9, 0.88, fill=False, ec="black", lw=1.6))


def _front(axes: "Axes", wiener: NDArray[np.float64]) -> None:
    """A staircase between the bands in which the data is stronger than the noise and those in which it drowns."""
    places = [_after_last(row <= _HALF) - 0.5 for row in wiener]
    x = np.repeat(places, 2)
    y = np.concatenate([[i - 0.5, i + 0.5] for i in range(len(wiener))])
    axes.plot(x, y, color="black", lw=2.2, ls=(0, (3, 1.5)), scalex=False, scaley=False)


def _after_last(true: NDArray[np.bool_]) -> int:
    return int(true.nonzero()[0][-1]) + 1 if bool(true.any()) else 0


def band_axis(axes: "Axes", bands: Sequence[tuple[float, float]], step: str) -> None:
    """Ticks between the columns, where octaves meet; the mean and the corners of the plane are named below theirs."""
    places = [i for i, band in enumerate(bands) if band_kind(band) == "band"]
    ends = [(i - 0.5, bands[i][0]) for i in places] + [(places[-1] + 0.5, bands[places[-1]][1])]
    octaves = [(place, text) for place, end in ends if (text := fraction_of(end))]
    # Octaves of low frequencies are single columns, too narrow for a label each.
    kept = [tick for i, tick in enumerate(reversed(octaves)) if i < _LABELLED or (i - _LABELLED) % 2]
    axes.set_xticks([place for place, _ in kept], [text for _, text in kept])
    named = [(i, kind) for i, band in enumerate(bands) if (kind := band_kind(band)) != "band"]
    axes.set_xticks([place for place, _ in named], [text for _, text in named], minor=True)
    axes.tick_params(axis="x", which="major", length=3)
    axes.tick_params(axis="x", which="minor", length=0, pad=16, labelsize=9)
    axes.set_xlim(-0.5, len(bands) - 0.5)
    axes.set_xlabel(f"frequency (cycles per {step})")


def _height(shown: Map) -> float:
    return max(1.15 + 0.36 * len(shown.ratios), _LEAST_HEIGHT)


def _scale(values: NDArray[np.float64]) -> float:
    sizes: Any = np.abs(values[np.isfinite(values)])
    return min(max(float(sizes.max(initial=0.0)), _LEAST), _MOST)
