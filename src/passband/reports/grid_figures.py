"""Figures of a grid of runs: where an arm differs from the baseline, and how its measures change over training."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from passband._checks import import_extra
from passband.reports.difference_figures import difference_colours, minus, text_colour
from passband.reports.figures import WIDTH, _style, series_style
from passband.reports.words import budget

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW, _LETTER = 0.45, 0.085  # inches: height of a heat map's row, width of a label's letter

#: (means, standard errors) of an arm, each as long as the steps; NaN where there is none.
Curve = tuple[Sequence[float], Sequence[float]]


class HeatCell(NamedTuple):
    """One cell of a heat map.

    Attributes:
        value: its difference from the baseline.
        clear: whether that is clearly not 0.

    """

    value: float
    clear: bool


#: Rows of cells; None where nothing was measured.
Cells = Sequence[Sequence[HeatCell | None]]


def heat_map_figure(
    panels: Mapping[str, Cells],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    lower_is_better: bool = True,
    label: str = "difference",
    title: str = "",
) -> "Figure":
    """Differences from a baseline as colours, one panel beside the other: blue is better, orange is worse.

    White is no difference, and all panels have one scale. What is clear is outlined and bold.

    Args:
        panels: title of the panel to its cells, one row for each of `rows`.
        rows: their names, from above.
        columns: their names.
        lower_is_better: whether differences below 0 are the better ones.
        label: what the differences are of, with the unit.
        title: shown above.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no panel, or one has another shape.

    Example:
        >>> from passband.reports.grid_figures import HeatCell, heat_map_figure
        >>> from passband.reports import to_svg
        >>> cells = [[HeatCell(-1.2, True), HeatCell(0.1, False)], [None, HeatCell(0.8, False)]]
        >>> "<svg" in to_svg(heat_map_figure({"patch 8": cells}, ["1", "2"], ["noise", "signal"]))
        True

    """
    shape = {(len(rows), len(columns))}
    found = {(len(cells), len(row)) for cells in panels.values() for row in cells}
    if not panels or not rows or found != shape:
        raise ValueError(f"expected panels of {len(rows)} x {len(columns)} cells, got {sorted(found)}")
    values = [cell.value for cells in panels.values() for row in cells for cell in row if cell is not None]
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0) or 1.0
    with _style():
        figure = _blank(1.5 + _ROW * len(rows))
        axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        colours = difference_colours() if lower_is_better else difference_colours().reversed()
        for place, (name, cells) in zip(axes, panels.items(), strict=True):
            image = place.imshow(_values(cells), cmap=colours, vmin=-largest, vmax=largest, aspect="auto")
            _write_cells(place, cells, largest if lower_is_better else -largest)
            place.set_xticks(range(len(columns)), columns)
            place.set_yticks(range(len(rows)), rows)
            place.tick_params(length=0)
            place.grid(visible=False)
            place.spines[:].set_visible(False)
            place.set_title(name)
        bar = figure.colorbar(image, ax=list(axes), pad=0.02, format=minus)
        bar.set_label(textwrap.fill(label, int((_ROW * len(rows) + 0.7) / _LETTER)))
        bar.outline.set_visible(False)
        if title:
            figure.suptitle(title, x=0.01, ha="left")
    return figure


def curve_grid_figure(
    steps: Sequence[int],
    curves: Mapping[str, Mapping[str, Mapping[str, Curve]]],
    *,
    y_label: str = "",
    title: str = "",
) -> "Figure":
    """A measure over training steps in rows and columns of small plots: all arms in each, with standard errors.

    Args:
        steps: the numbers of training steps.
        curves: row to column to arm to its curve. All rows have the same columns.
        y_label: what the values are, with the unit.
        title: shown above.

    Returns:
        The figure; the plots of a row have one scale.

    Raises:
        ValueError: if there is no curve, or the rows differ in their columns.

    Example:
        >>> from passband.reports.grid_figures import curve_grid_figure
        >>> from passband.reports import to_svg
        >>> arms = {"none": ([3.0, 2.0], [0.1, 0.2]), "forcing": ([2.5, 1.5], [0.1, 0.1])}
        >>> "<svg" in to_svg(curve_grid_figure([100, 200], {"beta 1": {"noise": arms, "signal": arms}}))
        True

    """
    columns = next((list(row) for row in curves.values()), [])
    if not columns or any(list(row) != columns for row in curves.values()):
        raise ValueError(
            f"expected rows of the same columns, at least one, got {[list(row) for row in curves.values()]}"
        )
    names = list(dict.fromkeys(arm for row in curves.values() for arms in row.values() for arm in arms))
    styles = series_style(names)
    with _style():
        figure = _blank(0.9 + (1.5 if len(curves) > 1 else 2.4) * len(curves))
        axes = figure.subplots(len(curves), len(columns), squeeze=False, sharex=True, sharey="row")
        for line, (row, found) in zip(axes, curves.items(), strict=True):
            for place, (column, arms) in zip(line, found.items(), strict=True):
                for arm, (means, errors) in arms.items():
                    place.errorbar(
                        steps, means, yerr=errors, label=arm, marker="o", ms=4, capsize=2.5, elinewidth=1.1, lw=1.6,
                        color=styles[arm]["color"], linestyle=styles[arm]["linestyle"],
                    )  # fmt: skip
                place.set_title(", ".join(filter(None, (row, column))), fontsize=10)
                place.set_xscale("log")
                place.set_xticks(steps, [budget(step) for step in steps], fontsize=9)
                place.minorticks_off()
            if all(np.nanmin([np.nan, *means]) >= 0 for arms in found.values() for means, _ in arms.values()):
                line[0].set_ylim(bottom=0)
        figure.supxlabel("training steps", fontsize=11)
        figure.supylabel(y_label, fontsize=11)
        handles = {
            arm: handle for place in axes.flat for handle, arm in zip(*place.get_legend_handles_labels(), strict=True)
        }
        figure.legend(
            handles.values(),
            handles,
            loc="outside upper left",
            ncols=min(4, len(handles)),
            title=title or None,
            alignment="left",
        )
    return figure


def _blank(height: float) -> "Figure":
    figure: Figure = import_extra("matplotlib.figure", "train").Figure(figsize=(WIDTH * 1.15, height))
    return figure


def _values(cells: Cells) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    return np.array([[math.nan if cell is None else cell.value for cell in row] for row in cells])


def _write_cells(axes: "Axes", cells: Cells, worst: float) -> None:
    rectangle = import_extra("matplotlib.patches", "train").Rectangle
    for i, row in enumerate(cells):
        for j, cell in enumerate(row):
            if cell is None or not math.isfinite(cell.value):
                axes.text(j, i, "–", ha="center", va="center", color="black")
                continue
            colour = text_colour(math.copysign(1, worst) * cell.value, abs(worst))
            axes.text(
                j, i, _short(cell.value), ha="center", va="center", fontsize=10, color=colour,
                fontweight="bold" if cell.clear else "normal",
            )  # fmt: skip
            if cell.clear:
                axes.add_patch(rectangle((j - 0.46, i - 0.44), 0.92, 0.88, fill=False, ec="black", lw=1.4))


def _short(value: float) -> str:
    return f"{value:+.2g}".replace("-", "−")
