"""A drawn figure laid out again for a telephone: the same text size on less paper, panels below each other."""

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from passband._checks import import_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

WIDTH = 4.2  # inches; across a telephone's screen, 11 points are those of the text around
_LOWER = 0.9  # of the height that a single panel keeps
_MANY, _KEPT = 4, 0.62
_MARGIN = 0.15  # inches
_CELLS, _CROWDED = 40, 0.05
_BELOW = 30  # points
_ROOM = 0.7  # of a panel's width, for the names along its axis
_INSIDE = 0.85  # of the size of text that is written among the data


def make_narrow(figure: "Figure") -> bool:
    """Lay a figure out for a narrow screen, in place.

    Args:
        figure: with the constrained layout, as the functions of `figures` make it.

    Returns:
        Whether it was laid out; False for a figure that is narrow already.

    """
    width, height = figure.get_size_inches()
    if width <= 1.1 * WIDTH:
        return False
    panels = [axes for axes in figure.axes if axes.get_subplotspec() is not None]
    rows, columns = _rows_and_columns(panels)
    # As many panels side by side as keep their width; of many, two that lose some, or the figure gets too high.
    keep = _KEPT if len(panels) >= _MANY else 1.0
    beside = max(1, min(columns, int(WIDTH * columns / (keep * width))))
    if beside < columns:
        _stack(figure, panels, beside)
    shape = WIDTH / beside / (width / columns)
    fixed = any(axes.get_aspect() != "auto" for axes in panels)
    height *= math.ceil(len(panels) / beside) / rows * (shape if fixed else max(_LOWER, min(shape, 1.0)))
    for axes in panels:
        for text in axes.texts:
            text.set_fontsize(_INSIDE * float(text.get_fontsize()))
    figure.set_layout_engine("constrained")
    figure.set_size_inches(WIDTH, height)
    for axes in panels:
        _turn_labels(axes, WIDTH / beside * figure.dpi)
    for legend in list(figure.legends):
        _fit(figure, legend)
    if fixed and len(panels) == 1:
        _cut(figure, panels[0])
    _leave_out_crowded(figure, panels)
    return True


def _turn_labels(axes: "Axes", width: float) -> None:
    """Slant names along the axis that have no room beside each other."""
    labels = axes.get_xticklabels()
    if any(label.get_rotation() for label in labels):
        return
    if sum(label.get_window_extent().width for label in labels) > _ROOM * width:
        for label in labels:
            label.set(rotation=40, ha="right", rotation_mode="anchor")
        axes.tick_params(axis="x", which="minor", pad=_BELOW)  # names of a second row, which these would run into


def _cut(figure: "Figure", axes: "Axes") -> None:
    """Take the height that axes of a fixed shape leave empty; their colour bar would be as high."""
    figure.draw_without_rendering()
    drawn = axes.get_tightbbox()
    if drawn is not None:
        needed = drawn.height + sum(legend.get_window_extent().height for legend in figure.legends)
        figure.set_figheight(min(figure.get_figheight(), needed / figure.dpi + _MARGIN))


def _leave_out_crowded(figure: "Figure", panels: "list[Axes]") -> None:
    """Take the numbers off the cells of a map that are too small for them; its colours and frames stay."""
    maps = [axes for axes in panels if len(axes.texts) > _CELLS]
    if maps:
        figure.draw_without_rendering()
    for axes in maps:
        boxes = [text.get_window_extent() for text in axes.texts]
        crowded = sum(abs(first.y0 - second.y0) < 2 and first.x1 > second.x0 for first, second in pairwise(boxes))
        if crowded > _CROWDED * len(boxes):
            for text in axes.texts:
                text.set_visible(False)


def _rows_and_columns(panels: "list[Axes]") -> tuple[int, int]:
    place = panels[0].get_subplotspec() if panels else None
    return (1, 1) if place is None else (place.get_gridspec().nrows, place.get_gridspec().ncols)


def _stack(figure: "Figure", panels: "list[Axes]", columns: int) -> None:
    rows = math.ceil(len(panels) / columns)
    grid = import_extra("matplotlib.gridspec", "train").GridSpec(rows, columns, figure=figure)
    for place, axes in enumerate(panels):
        axes.set_subplotspec(grid[place])
        axes.xaxis.set_tick_params(labelbottom=True)
        if place % columns == 0:
            axes.yaxis.set_tick_params(labelleft=True)


def _fit(figure: "Figure", legend: "Legend") -> None:
    """Make a legend that is too wide anew in fewer columns, and the figure higher by its rows."""
    before = legend.get_window_extent()
    names = [text.get_text() for text in legend.get_texts()]
    for columns in (2, 1):
        if legend.get_window_extent().width <= figure.bbox.width:
            break
        handles = [handle for handle in legend.legend_handles if handle is not None]
        legend.remove()
        legend = figure.legend(handles, names, loc="outside upper left", ncols=columns)
    figure.set_figheight(figure.get_figheight() + (legend.get_window_extent().height - before.height) / figure.dpi)
