"""Figures of what a power spectrum does not tell: sub-bands by scale and orientation, and phases across scales."""

from typing import TYPE_CHECKING

import numpy as np

from passband._checks import import_extra
from passband.metrics.contrast import Contrast
from passband.reports.difference_figures import HOLLOW, TOO_MUCH, largest, marked_cells, minus, numpy, whiskers
from passband.reports.figures import INK, WIDTH, _style
from passband.reports.spectrum.words import Terms

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def cell_figure(contrast: Contrast, terms: Terms) -> "Figure":
    """A family of two axes as coloured cells with their numbers.

    Args:
        contrast: differences over (rows, columns).
        terms: of the kind of samples.

    Returns:
        The figure: what is called is framed and bold.

    """
    rows, columns = contrast.labels
    scale = largest(numpy(contrast.difference), 5 * least_shown(contrast))
    digits = {"dB": 1, "%": 0}.get(contrast.unit, 2)
    width = 0.8 * WIDTH if len(columns) <= 4 else WIDTH
    with _style():
        figure: Figure = import_extra("matplotlib.figure", "train").Figure(figsize=(width, 1.1 + 0.5 * len(rows)))
        axes = figure.add_subplot()
        image = marked_cells(axes, contrast.difference, contrast.different, rows, columns, scale, digits=digits)
        axes.set_ylabel(f"{contrast.axes[0]} ({terms.unit})" if "/" in rows[0] else contrast.axes[0])
        bar = figure.colorbar(image, ax=axes, pad=0.02, format=minus)
        bar.set_label(f"difference ({contrast.unit})" if contrast.unit else "difference")
        bar.outline.set_visible(False)
    return figure


def least_shown(contrast: Contrast) -> float:
    """The size of a difference that is hardly worth a colour."""
    return {"dB": 0.1, "%": 1.0}.get(contrast.unit, 0.02)


def coherence_figure(coherence: Contrast, *, title: str = "") -> "Figure":
    """Alignment of phases across scales, real and fake, one panel for each orientation.

    Args:
        coherence: over (scales, orientation); 0 for random phases.
        title: shown above.

    Returns:
        The figure: bars are the 95 % interval of the difference, drawn around the fake set's value; filled markers
        are called.

    """
    scales, orientations = coherence.labels
    places = np.arange(len(scales))
    lengths = whiskers(coherence.difference, coherence.low, coherence.high)
    columns = min(2, len(orientations))
    rows = -(-len(orientations) // columns)
    with _style():
        figure: Figure = import_extra("matplotlib.figure", "train").Figure(figsize=(WIDTH, 1.3 + 1.75 * rows))
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for number, axes in enumerate(panels.flat[: len(orientations)]):
            real, fake = numpy(coherence.reference[:, number]), numpy(coherence.value[:, number])
            axes.axhline(0, color="#555555", lw=0.8)
            axes.plot(places, real, color=INK, marker="s", ms=5, label="real")
            axes.plot(places, fake, color=TOO_MUCH, ls=(0, (5, 1.5)), label="fake")
            for place in places:
                filled = bool(coherence.different[place, number])
                axes.errorbar(
                    [place], [fake[place]], yerr=lengths[:, place : place + 1, number], color=TOO_MUCH, marker="o",
                    ms=6.5, capsize=3, elinewidth=1.3, markerfacecolor=TOO_MUCH if filled else HOLLOW, ls="none",
                    markeredgewidth=1.5, zorder=3,
                )  # fmt: skip
            axes.set_title(orientations[number], fontsize=10.5)
            axes.set_xticks(places, scales, rotation=30, ha="right", fontsize=9)
            axes.set_xlim(-0.4, len(scales) - 0.6)
            axes.margins(y=0.12)
        for axes in panels.flat[len(orientations) :]:
            axes.set_axis_off()
        figure.supylabel("coherence of phases", fontsize=11)
        figure.supxlabel(coherence.axes[0], fontsize=11)
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=11.5)
    return figure
