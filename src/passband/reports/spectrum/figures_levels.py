"""Figure of the means of each plane: how far they are off, and how much they vary."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from passband._checks import import_extra
from passband.metrics.contrast import Contrast
from passband.reports.difference_figures import HOLLOW, QUIET, TOO_LITTLE, TOO_MUCH, numpy, whiskers
from passband.reports.figures import INK, WIDTH, _style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def level_figure(shown: Sequence[Contrast], planes: Sequence[int], unit: str) -> "Figure":
    """Differences of means, and beside them of their variation, one row for each plane.

    Args:
        shown: over (plane,): the means, and how they vary.
        planes: indices of the planes, from above.
        unit: of the means, as it follows a noun.

    Returns:
        The figure: bars are 95 % intervals, filled markers are called, grey bars are the noise floor.

    """
    titles = (f"mean{unit}", "variation of the mean (dB)")
    with _style():
        height = 1.2 + 0.32 * len(planes)
        figure: Figure = import_extra("matplotlib.figure", "train").Figure(figsize=(WIDTH, height))
        panels = figure.subplots(1, len(shown), squeeze=False)[0]
        for axes, contrast, title in zip(panels, shown, titles, strict=False):
            _rows(axes, contrast, planes)
            axes.set_xlabel(
                f"{title}\n← too {'low' if contrast is shown[0] else 'little'} · "
                f"too {'high' if contrast is shown[0] else 'much'} →"
            )
            axes.set_yticks(range(len(planes)), [contrast.labels[0][plane] for plane in planes])
            axes.set_ylim(len(planes) - 0.5, -0.5)
            axes.grid(visible=False, axis="y")
    return figure


def _rows(axes: "Axes", contrast: Contrast, planes: Sequence[int]) -> None:
    rows = list(planes)
    lengths = whiskers(contrast.difference[rows], contrast.low[rows], contrast.high[rows])
    floors = numpy(contrast.floor[rows])
    axes.axvline(0, color=INK, lw=1)
    for place, (plane, floor) in enumerate(zip(rows, floors, strict=True)):
        value, called = float(contrast.difference[plane]), bool(contrast.different[plane])
        colour = (TOO_MUCH if value > 0 else TOO_LITTLE) if called else QUIET
        if math.isfinite(floor) and floor > 0:
            axes.fill_betweenx([place - 0.3, place + 0.3], -floor, floor, color="#9a9a9a", alpha=0.28, lw=0)
        axes.errorbar(
            [value], [place], xerr=lengths[:, place : place + 1], color=colour, marker="o", ms=6.5, capsize=3.5,
            elinewidth=1.5, markerfacecolor=colour if called else HOLLOW, markeredgewidth=1.5, ls="none", zorder=3,
        )  # fmt: skip
    ends = np.concatenate([np.atleast_1d(contrast.least), np.abs(numpy(contrast.difference[rows])) + lengths.max(0)])
    reach = 1.1 * float(ends[np.isfinite(ends)].max()) or 1.0  # 0 where all values of both sets are 0
    axes.set_xlim(-reach, reach)
