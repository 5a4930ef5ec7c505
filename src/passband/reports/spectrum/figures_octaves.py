"""Figures of power over frequency: the octaves' differences, the spectra themselves, and each plane by itself."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from passband._checks import import_extra
from passband.metrics.contrast import Contrast
from passband.metrics.sample_comparison import LawPair, SampleComparison
from passband.reports.difference_figures import (
    HOLLOW,
    QUIET,
    TOO_LITTLE,
    TOO_MUCH,
    largest,
    marked_cells,
    minus,
    numpy,
    whiskers,
)
from passband.reports.figures import INK, WIDTH, _figure, _style
from passband.reports.spectrum.figures_axes import frequency_axis
from passband.reports.spectrum.words import terms_of
from passband.reports.words import signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DECADES = 7.0  # how far below the largest power the axis reaches at most


def octave_figure(comparison: SampleComparison, plane: int, *, title: str = "") -> "Figure":
    """The difference of each octave with its interval and the noise floor, over that of each frequency.

    Args:
        comparison: from `compare_samples`.
        plane: index of the plane that is shown.
        title: shown above.

    Returns:
        The figure: a bar for each octave (filled marker: called), grey boxes for the noise floor, a thin line for the
        single frequencies.

    """
    octaves, radial = comparison.contrasts["octaves"], comparison.contrasts["radial"]
    terms = terms_of(comparison.kind, comparison.sample_rate)
    frequency, line = numpy(comparison.frequency), numpy(radial.difference[plane])
    with _style():
        figure, axes = _figure(height=4.0)
        frequency_axis(axes, _lowest(comparison), terms)
        _floors(axes, octaves, plane, comparison.octaves)
        axes.axhline(0, color=INK, lw=1)
        axes.plot(frequency, line, color=QUIET, lw=1.1, label="each frequency")
        _bars(axes, octaves, plane, comparison.octaves)
        _octave_limits(axes, octaves, plane, line, comparison.octaves)
        axes.set_ylabel("power difference (dB)\n← too little · too much →")
        if title:
            axes.set_title(title)
        _octave_legend(figure, octaves, plane)
    return figure


def spectrum_figure(comparison: SampleComparison, plane: int, *, title: str = "") -> "Figure":
    """The radially averaged spectra of both sets with the power laws fitted to them, both axes logarithmic.

    Args:
        comparison: from `compare_samples`.
        plane: index of the plane that is shown.
        title: shown above.

    Returns:
        The figure.

    """
    radial, terms = comparison.contrasts["radial"], terms_of(comparison.kind, comparison.sample_rate)
    frequency = numpy(comparison.frequency)
    sets = {"real": (radial.reference[plane], INK, "-"), "fake": (radial.value[plane], TOO_MUCH, (0, (5, 1.5)))}
    powers = {name: numpy(values) for name, (values, _, _) in sets.items()}
    with _style():
        figure, axes = _figure(height=4.2)
        bottom, top = _power_limits([power[frequency > 0] for power in powers.values()])
        for name, (_, colour, dashes) in sets.items():
            # Frequencies without power have no logarithm: their line leaves the axis at the bottom.
            shown = np.maximum(powers[name], bottom / 100)
            axes.plot(frequency, shown, color=colour, linestyle=dashes, lw=2.2, label=name)
        _laws(axes, comparison.law, frequency, powers)
        frequency_axis(axes, max(float(frequency[frequency > 0].min()) * 0.95, _lowest(comparison)), terms)
        axes.set_yscale("log")
        axes.set_ylim(bottom, top)
        axes.set_ylabel("power per frequency\n(1 = white noise of variance 1)")
        if title:
            axes.set_title(title)
        figure.legend(loc="outside upper left", ncols=2)
    return figure


def plane_figure(comparison: SampleComparison, planes: Sequence[int], *, title: str = "") -> "Figure":
    """The octaves' differences of several planes as coloured cells with their numbers.

    Args:
        comparison: from `compare_samples`.
        planes: indices of the planes, from above.
        title: shown above.

    Returns:
        The figure: low frequencies on the left; what is called is framed and bold.

    """
    octaves, terms = comparison.contrasts["octaves"], terms_of(comparison.kind, comparison.sample_rate)
    rows = list(planes)
    values, different = octaves.difference[rows].flip(1), octaves.different[rows].flip(1)
    names = [terms.octave(octave) for octave in reversed(comparison.octaves)]
    scale = largest(numpy(values), 0.5)
    with _style():
        figure = import_extra("matplotlib.figure", "train").Figure(figsize=(WIDTH, 1.5 + 0.36 * len(rows)))
        axes = figure.add_subplot()
        image = marked_cells(axes, values, different, [octaves.labels[0][row] for row in rows], names, scale)
        if len(names) > 5:
            axes.tick_params(axis="x", rotation=35)
        axes.set_xlabel(terms.titled("octave"))
        bar = figure.colorbar(image, ax=axes, pad=0.02, format=minus)
        bar.set_label("power difference (dB)")
        bar.outline.set_visible(False)
        if title:
            axes.set_title(title)
    found: Figure = figure
    return found


def _lowest(comparison: SampleComparison) -> float:
    return min(low for low, _ in comparison.octaves)


def _floors(axes: "Axes", octaves: Contrast, plane: int, bands: Sequence[tuple[float, float]]) -> None:
    for place, (low, high) in enumerate(bands):
        floor = float(octaves.floor[plane, place])
        if math.isfinite(floor) and floor > 0:
            axes.fill_between([low, high], -floor, floor, color="#9a9a9a", alpha=0.28, lw=0, zorder=0.5)


def _bars(axes: "Axes", octaves: Contrast, plane: int, bands: Sequence[tuple[float, float]]) -> None:
    difference = octaves.difference[plane]
    lengths = whiskers(difference, octaves.low[plane], octaves.high[plane])
    for place, (low, high) in enumerate(bands):
        value, called = float(difference[place]), bool(octaves.different[plane, place])
        colour = (TOO_MUCH if value > 0 else TOO_LITTLE) if called else QUIET
        centre = math.sqrt(low * high)
        axes.plot(
            [low * 1.03, high / 1.03], [value, value], color=colour, lw=4 if called else 2.5, solid_capstyle="butt"
        )
        axes.errorbar(
            [centre], [value], yerr=lengths[:, place : place + 1], color=colour, marker="o", ms=7, capsize=4,
            elinewidth=1.6, markerfacecolor=colour if called else HOLLOW, markeredgewidth=1.6, ls="none", zorder=3,
        )  # fmt: skip


def _octave_limits(
    axes: "Axes", octaves: Contrast, plane: int, line: NDArray[np.float64], bands: Sequence[tuple[float, float]]
) -> None:
    """Limits from the octaves and the upper four fifths of the line, whose lowest frequencies are few and rough."""
    ends = np.concatenate([numpy(octaves.low[plane]), numpy(octaves.high[plane]), line[len(line) // 5 :]])
    ends = ends[np.isfinite(ends)]
    low, high = ends.min(initial=-0.5), ends.max(initial=0.5)
    floors = numpy(octaves.floor[plane])
    floor = min(floors[np.isfinite(floors)].max(initial=0.0), 3 * max(-low, high))
    low, high = min(low, -floor), max(high, floor)
    room = 0.08 * (high - low)
    axes.set_ylim(low - room, high + room + 0.09 * (high - low))
    top = axes.get_ylim()[1]
    for place, (left, right) in enumerate(bands):
        text = signed(float(octaves.difference[plane, place]))
        weight = "bold" if bool(octaves.different[plane, place]) else "normal"
        axes.text(math.sqrt(left * right), top, text, ha="center", va="top", fontsize=10, fontweight=weight, color=INK)


def _octave_legend(figure: "Figure", octaves: Contrast, plane: int) -> None:
    marks = import_extra("matplotlib.lines", "train").Line2D
    patch = import_extra("matplotlib.patches", "train").Patch
    called = octaves.difference[plane][octaves.different[plane]]
    signs = ((TOO_LITTLE, "too little", bool((called < 0).any())), (TOO_MUCH, "too much", bool((called > 0).any())))
    handles = [
        marks([], [], color=colour, lw=4, marker="o", ms=7, label=f"octave, called: {text}")
        for colour, text, there in signs
        if there
    ]
    handles += [
        marks([], [], color=QUIET, lw=2.5, marker="o", ms=7, markerfacecolor=HOLLOW, label="octave, not called"),
        marks([], [], color=QUIET, lw=1.1, label="each frequency"),
    ]
    if bool((octaves.floor[plane] > 0).any()):
        handles.append(patch(color="#9a9a9a", alpha=0.28, lw=0, label="noise floor (halves of the real set)"))
    figure.legend(handles=handles, loc="outside upper left", ncols=2)


def _power_limits(curves: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    shown = np.concatenate(curves)
    shown = shown[np.isfinite(shown) & (shown > 0)]
    if not shown.size:
        return 0.1, 10.0
    highest = float(shown.max())
    return max(float(shown.min()), highest * 10**-_DECADES) / 1.6, highest * 1.6


def _laws(
    axes: "Axes", law: LawPair, frequency: NDArray[np.float64],
    powers: Mapping[str, NDArray[np.float64]],
) -> None:  # fmt: skip
    low, high = law.low, law.high
    for name, fitted, colour in (("real", law.real, INK), ("fake", law.fake, TOO_MUCH)):
        inside = (frequency >= low) & (frequency <= high) & (powers[name] > 0)
        if not math.isfinite(fitted.exponent) or inside.sum() < 2:
            continue
        # The fit is of logarithms, so its line goes through their mean.
        offset = np.mean(np.log(powers[name][inside]) + fitted.exponent * np.log(frequency[inside]))
        ends = np.array([low, high])
        label = f"{name}: frequency$^{{{-fitted.exponent:.2f}}}$".replace("-", "−")
        axes.plot(ends, np.exp(offset) * ends**-fitted.exponent, color=colour, lw=1.1, ls=(0, (1.5, 1.5)), label=label)
