"""Figures of a training: the distance and the octaves' differences over its steps."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from passband._checks import import_extra
from passband.metrics.sample_comparison import SampleComparison
from passband.reports.difference_figures import HOLLOW
from passband.reports.figures import COLOURS, DASHES, INK, WIDTH, _style
from passband.reports.spectrum.words import terms_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = "osD^vP"
_SHOWN = len(COLOURS)  # octaves that have a colour of their own


def series_figure(steps: Sequence[str], comparisons: Sequence[SampleComparison], plane: int) -> "Figure":
    """The log-spectral distance and each octave's difference over the steps of a training.

    Args:
        steps: what each set of samples is called, in order.
        comparisons: of each with the same real set.
        plane: index of the plane whose octaves are shown.

    Returns:
        The figure: above the distance with its interval, below the octaves, the highest ones first; filled markers
        are called.

    """
    places, scaled = _places(steps)
    with _style():
        figure: Figure = import_extra("matplotlib.figure", "train").Figure(figsize=(WIDTH, 6.2))
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 3])
        _distances(above, places, comparisons)
        _octaves(below, places, comparisons, plane)
        if scaled:
            below.set_xscale("log")
        ticks = _thinned(len(places))
        below.set_xticks([places[i] for i in ticks], [steps[i] for i in ticks])
        below.minorticks_off()
        if max(len(steps[i]) for i in ticks) * len(ticks) > 60:
            below.tick_params(axis="x", rotation=40)
        below.set_xlabel("training steps" if _numbers(steps) else "set of samples")
        handles, labels = below.get_legend_handles_labels()
        title = terms_of(comparisons[0].kind, comparisons[0].sample_rate).titled("octave")
        figure.legend(handles, labels, loc="outside lower center", ncols=3, title=title)
    return figure


def _distances(axes: "Axes", places: Sequence[float], comparisons: Sequence[SampleComparison]) -> None:
    scores = [comparison.lsd for comparison in comparisons]
    values = np.array([score.value for score in scores])
    ends = np.array([[score.low for score in scores], [score.high for score in scores]])
    lengths = np.nan_to_num(np.abs(ends - values))
    axes.errorbar(places, values, yerr=lengths, color=COLOURS[0], marker="o", ms=5, capsize=3, elinewidth=1.3)
    floors = [score.floor for score in scores if math.isfinite(score.floor) and score.floor > 0]
    if floors:
        axes.axhspan(0, float(np.median(floors)), color="#9a9a9a", alpha=0.28, lw=0, label="noise floor")
        axes.legend(loc="upper right")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("log-spectral\ndistance (dB)")


def _octaves(axes: "Axes", places: Sequence[float], comparisons: Sequence[SampleComparison], plane: int) -> None:
    axes.axhline(0, color=INK, lw=1)
    for number, octave in enumerate(comparisons[0].contrasts["octaves"].labels[1][:_SHOWN]):
        families = [comparison.contrasts["octaves"] for comparison in comparisons]
        values = [float(family.difference[plane, number]) for family in families]
        colour, marker = COLOURS[number], _MARKERS[number]
        axes.plot(places, values, color=colour, ls=DASHES[number], label=octave, marker=marker, ms=5.5)
        for place, value, family in zip(places, values, families, strict=True):
            if not bool(family.different[plane, number]):
                axes.plot([place], [value], color=colour, marker=marker, ms=5.5, mfc=HOLLOW, ls="none", zorder=3)
    axes.set_ylabel("power difference (dB)\n← too little · too much →")


def _places(steps: Sequence[str]) -> tuple[list[float], bool]:
    """Where each set stands: by its number of steps on a logarithmic axis where all have one, else in turn."""
    numbers = _numbers(steps)
    if numbers and min(numbers) > 0 and len(set(numbers)) == len(numbers):
        return numbers, max(numbers) > 3 * min(numbers)
    return [float(i) for i in range(len(steps))], False


def _numbers(steps: Sequence[str]) -> list[float]:
    found = [step.replace(",", "").removeprefix("step-").strip() for step in steps]
    return [float(text) for text in found] if all(text.isdigit() for text in found) else []


def _thinned(count: int, most: int = 8) -> list[int]:
    """Places of the ticks: all of a few, else a few that include the last."""
    every = math.ceil(count / most)
    return sorted({*range(count - 1, -1, -every)})
