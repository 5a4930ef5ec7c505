"""A drawn figure laid out again for a telephone: the same text size on less paper, panels below each other."""

import math
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from passband._checks import import_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend
    from matplotlib.text import Text

WIDTH = 4.2  # inches; across a telephone's screen, 11 points are those of the text around
_LOWER = 0.9  # of the height that a single panel keeps
_LOW = 2.5  # inches; what is lower is not made lower still
_MANY, _KEPT = 4, 0.62
_MARGIN = 0.15  # inches
_CELLS, _CROWDED = 40, 0.05
_BELOW = 30  # points
_ROOM = 0.7  # of a panel's width, for the names along its axis
_INSIDE = 0.85  # of the size of text that is written among the data
_BAR = 0.6  # inches of height that a bar of colours takes, with its words
_LINE = 1.25  # of the size of a text from one of its lines to the next
_FEW = 8  # letters of a line; what has no room for them stays as it is
_SURE = 0.95  # of the room: outlines in an SVG are a little wider than the pixels that are measured here
_BESIDE = 1.1  # of an axis's height, for the words beside it


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
    lower = shape if fixed else 1.0 if height <= _LOW else max(_LOWER, min(shape, 1.0))
    height *= math.ceil(len(panels) / beside) / rows * lower
    for axes in panels:
        for text in axes.texts:
            text.set_fontsize(_INSIDE * float(text.get_fontsize()))
    figure.set_layout_engine("constrained")
    figure.set_size_inches(WIDTH, height)
    _put_bars_below(figure, panels)
    for axes in panels:
        _turn_labels(axes, WIDTH / beside * figure.dpi)
    for legend in list(figure.legends):
        _fit(figure, legend)
    _break_lines(figure)
    if fixed and len(panels) == 1:
        _cut(figure, panels[0])
    _leave_out_crowded(figure, panels)
    return True


def _has_fixed_ticks(axis: Any) -> bool:
    return isinstance(axis.get_major_locator(), import_extra("matplotlib.ticker", "train").FixedLocator)


def _turn_labels(axes: "Axes", width: float) -> None:
    """Slant names along the axis that have no room beside each other."""
    if not _has_fixed_ticks(axes.xaxis):
        return  # as many as there is room for
    labels = axes.get_xticklabels()
    if any(label.get_rotation() for label in labels):
        return
    if sum(label.get_window_extent().width for label in labels) > _ROOM * width:
        for label in labels:
            label.set(rotation=40, ha="right", rotation_mode="anchor")
        axes.tick_params(axis="x", which="minor", pad=_BELOW)  # names of a second row, which these would run into


def _bars(panels: "list[Axes]") -> Iterator[tuple[Any, Any]]:
    """What is coloured, and its bar of colours."""
    for axes in panels:
        for drawn in (*axes.images, *axes.collections):
            if drawn.colorbar is not None:
                yield drawn, drawn.colorbar


def _put_bars_below(figure: "Figure", panels: "list[Axes]") -> None:
    """Lay bars of colours below the panels: beside them they take a third of the width."""
    found = list(_bars(panels))
    for drawn, bar in found:
        if bar.orientation == "vertical":
            of = panels if len(found) == 1 else drawn.axes
            label, size = bar.ax.get_ylabel(), bar.ax.yaxis.label.get_size()
            ticks = bar.get_ticks() if _has_fixed_ticks(bar.long_axis) else None
            look, outlined = bar.formatter, bar.outline.get_visible()
            bar.remove()
            laid = figure.colorbar(drawn, ax=of, location="bottom", aspect=30, pad=0.02, ticks=ticks, format=look)
            laid.set_label(label, size=size)
            laid.outline.set_visible(outlined)
            figure.set_figheight(figure.get_figheight() + _BAR)


def _break_lines(figure: "Figure") -> None:
    """Break titles and labels that are longer than there is room for, and make the figure higher by their lines."""
    figure.draw_without_rendering()
    # Those beside the axes first: their lines move the axes, and what is above and below with them.
    if sum([_broken(text, True, room) for text, upright, room in list(_headings(figure)) if upright]):
        figure.draw_without_rendering()
    added = [
        _broken(text, False, room) * _LINE * float(text.get_fontsize()) / 72
        for text, upright, room in list(_headings(figure))
        if not upright
    ]
    figure.set_figheight(figure.get_figheight() + sum(added))


def _broken(text: "Text", upright: bool, room: float) -> int:
    """Break a text into as few lines as have room, of about one length; returns how many more they are."""
    lines = text.get_text().split("\n")
    found: list[str] | None = None
    for letters in range(max(map(len, lines)), _FEW, -2):
        parts = [part for line in lines for part in textwrap.wrap(line, letters, break_on_hyphens=False) or [""]]
        if found is not None and len(parts) > len(found):
            break
        text.set_text("\n".join(parts))
        box = text.get_window_extent()
        if found is not None or (box.height if upright else box.width) <= _SURE * room:
            found = parts
            if len(parts) == len(lines):
                break
    text.set_text("\n".join(lines if found is None else found))
    return 0 if found is None else len(found) - len(lines)


def _headings(figure: "Figure") -> "Iterator[tuple[Text, bool, float]]":
    """Titles and labels, whether they run upwards, and the pixels that they may be long."""
    width = float(figure.bbox.width)
    kind = import_extra("matplotlib.text", "train").Text
    for axes in figure.axes:
        besides = [axes, *axes.child_axes]
        yield from ((each.yaxis.label, True, _BESIDE * float(axes.bbox.height)) for each in besides)
        titles = [each for each in axes.get_children() if isinstance(each, kind) and each not in axes.texts]
        for text in (*titles, *(each.xaxis.label for each in besides)):
            yield text, False, _room(text, width)
    for text in figure.texts:
        upright = text.get_rotation() == 90
        yield text, upright, float(figure.bbox.height) if upright else _room(text, width)


def _room(text: "Text", width: float) -> float:
    """From where a text begins, or about where it is centred, to the edge of the figure."""
    box = text.get_window_extent()
    if text.get_horizontalalignment() == "center":
        middle = float(box.x0 + box.x1) / 2
        return 2 * min(middle, width - middle)
    return width - float(box.x0)


def _cut(figure: "Figure", axes: "Axes") -> None:
    """Take the height that axes of a fixed shape leave empty; their colour bar would be as high."""
    figure.draw_without_rendering()
    drawn = axes.get_tightbbox()
    if drawn is not None:
        others = [legend.get_window_extent() for legend in figure.legends]
        others += [bar.ax.get_tightbbox() for _, bar in _bars([axes])]
        needed = drawn.height + sum(box.height for box in others)
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
    drawn: dict[str, Any] = {}
    for axes in reversed(figure.axes):
        shown, labels = axes.get_legend_handles_labels()
        # Backwards: the first of a name is the legend's.
        drawn |= {str(label): handle for label, handle in zip(reversed(labels), reversed(shown), strict=True)}
    names, title = [text.get_text() for text in legend.get_texts()], legend.get_title().get_text()
    for columns in (2, 1):
        if legend.get_window_extent().width <= figure.bbox.width:
            break
        handles: list[Any] = [drawn.get(*pair) for pair in zip(names, legend.legend_handles, strict=True)]
        legend.remove()
        legend = figure.legend(
            handles, names, loc="outside upper left", ncols=columns, title=title or None, alignment="left"
        )
    figure.set_figheight(figure.get_figheight() + (legend.get_window_extent().height - before.height) / figure.dpi)
