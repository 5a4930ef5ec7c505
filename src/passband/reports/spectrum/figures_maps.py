"""Figures of power over the plane of frequencies: its directions, and the map of every frequency."""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from passband._checks import import_extra
from passband.metrics.contrast import Contrast
from passband.metrics.frequency_words import fraction, octave_name
from passband.metrics.peaks import Peak
from passband.reports.difference_figures import difference_colours, largest, minus, numpy, text_colour
from passband.reports.figures import INK, WIDTH, _style
from passband.reports.spectrum.words import Terms
from passband.reports.words import signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_EDGE = "#d8d8e2"  # between cells; a grey would turn dark with the page and look like a frame
_HOLE = 0.55  # radius of the empty middle, in octaves' widths
_TOP = 0.5  # cycles per pixel
_FINE = 24  # points of an arc
_MAP_LIMIT = 0.995  # share of the map's cells that lie within its colours


def direction_figure(
    directions: Contrast, octaves: Sequence[tuple[float, float]], terms: Terms, *, title: str = ""
) -> "Figure":
    """Half a disc of sectors: the angle is the wave's direction, the ring its octave, the colour the difference.

    Args:
        directions: differences over (octave, sector); the sectors are equally wide, the first is centred on 0 degrees.
        octaves: (low, high) of each octave, highest first, in cycles per pixel; more than there are rings is fine.
        terms: of the kind of samples.
        title: shown above.

    Returns:
        The figure: the outermost ring is the highest octave; what is called is framed and has its number.

    """
    shown = numpy(directions.difference)
    scale = largest(shown, 0.5)
    with _style():
        figure: Figure = import_extra("matplotlib.figure", "train").Figure(figsize=(WIDTH, 4.1))
        axes = figure.add_subplot()
        for ring, sector in np.ndindex(shown.shape):
            for span in _spans(sector, shown.shape[1]):
                _sector(axes, directions, (ring, sector), span, scale)
        _directions_named(axes, len(shown) + _HOLE)
        _rings_named(axes, octaves[: len(shown)])
        colours = import_extra("matplotlib.cm", "train").ScalarMappable(
            norm=import_extra("matplotlib.colors", "train").Normalize(-scale, scale), cmap=difference_colours()
        )
        bar = figure.colorbar(colours, ax=axes, pad=0.02, shrink=0.8, format=minus)
        bar.set_label("power difference (dB)")
        bar.outline.set_visible(False)
        axes.set_xlabel(f"octave ({terms.unit})")
        if title:
            axes.set_title(title)
    return figure


def ratio_map_figure(
    ratio: Float[Tensor, "height width"], peaks: Mapping[int, Peak], terms: Terms, *, title: str = ""
) -> "Figure":
    """The difference at every frequency of the plane, zero frequency in the middle; peaks are circled and numbered.

    Args:
        ratio: dB, (height, width), as `fftshift` orders it: frequencies down the rows and along the columns.
        peaks: number to artefact; each is marked at its frequency and its mirror image.
        terms: of the kind of samples.
        title: shown above.

    Returns:
        The figure.

    """
    shown = numpy(ratio)
    sizes = np.abs(shown[np.isfinite(shown)])
    scale = max(float(np.quantile(sizes, _MAP_LIMIT)) if sizes.size else 0.0, 0.5)
    with _style():
        figure: Figure = import_extra("matplotlib.figure", "train").Figure(figsize=(WIDTH * 0.86, 4.6))
        axes = figure.add_subplot()
        image = axes.imshow(
            np.ma.masked_invalid(_closed(shown)), cmap=difference_colours(), vmin=-scale, vmax=scale, origin="upper",
            extent=_extent(shown.shape), interpolation="nearest", rasterized=True,
        )  # fmt: skip
        _circles(axes, peaks)
        ticks = [-0.5, -0.25, 0.0, 0.25, 0.5]
        names = [fraction(abs(tick)) if tick >= 0 else f"−{fraction(-tick)}" for tick in ticks]
        axes.set_xticks(ticks, names)
        axes.set_yticks(ticks, names)
        axes.grid(visible=False)
        axes.set_xlabel(f"horizontal frequency ({terms.unit})")
        axes.set_ylabel(f"vertical frequency\n({terms.unit})")
        bar = figure.colorbar(image, ax=axes, pad=0.02, extend="both", format=minus)
        bar.set_label("power difference (dB)")
        bar.outline.set_visible(False)
        if title:
            axes.set_title(title)
    return figure


def _closed(shown: NDArray[np.float64]) -> NDArray[np.float64]:
    """The map with its first row and column once more at the other end: -1/2 and 1/2 are one frequency."""
    height, width = shown.shape
    closed: NDArray[np.float64] = np.pad(shown, [(0, 1 - height % 2), (0, 1 - width % 2)], mode="wrap")
    return closed


def _extent(shape: tuple[int, ...]) -> tuple[float, float, float, float]:
    """Where the closed map lies: cells are centred on their frequencies."""
    reach = [(side // 2 + 0.5) / side for side in shape]
    return -reach[1], reach[1], -reach[0], reach[0]


def _spans(sector: int, sectors: int) -> list[tuple[float, float]]:
    """The angles of a sector; the first one, around 0, lies half at the right end and half, mirrored, at the left."""
    half = math.pi / (2 * sectors)
    if sector == 0:
        return [(0.0, half), (math.pi - half, math.pi)]
    return [((2 * sector - 1) * half, (2 * sector + 1) * half)]


def _sector(axes: "Axes", directions: Contrast, at: tuple[int, int], span: tuple[float, float], scale: float) -> None:
    value, called = float(directions.difference[at]), bool(directions.different[at])
    outer = len(directions.difference) - at[0] + _HOLE
    start, end = span
    arc = np.linspace(start, end, _FINE)
    x = np.concatenate([outer * np.cos(arc), (outer - 1) * np.cos(arc[::-1])])
    y = np.concatenate([outer * np.sin(arc), (outer - 1) * np.sin(arc[::-1])])
    colours, finite = difference_colours(), math.isfinite(value)
    share = 0.5 + 0.5 * value / scale if finite else math.nan
    axes.fill(x, y, facecolor=colours(share) if finite else "#d9d9d9", edgecolor=_EDGE, lw=0.8, zorder=1)
    if not called:
        return
    axes.fill(x, y, facecolor="none", edgecolor="black", lw=1.4, zorder=2)
    middle, across = (start + end) / 2, outer - 0.5
    if across * (end - start) > 0.62:  # else the number has no room
        axes.text(
            across * math.cos(middle), across * math.sin(middle), signed(value, 1), ha="center", va="center",
            fontsize=8, fontweight="bold", color=text_colour(value, scale), zorder=3,
        )  # fmt: skip


def _directions_named(axes: "Axes", outer: float) -> None:
    """Names at four angles; a wave along the horizontal makes vertical stripes."""
    for degrees, text, horizontal in (
        (0, "0°", "left"),
        (45, "45°", "left"),
        (90, "90°", "center"),
        (135, "135°", "right"),
    ):
        angle = math.radians(degrees)
        axes.text(
            1.03 * outer * math.cos(angle), 1.03 * outer * math.sin(angle), text, ha=horizontal,
            va="bottom", fontsize=10, color=INK,
        )  # fmt: skip
    axes.set_xlim(-1.12 * outer, 1.16 * outer)
    axes.set_ylim(-0.03 * outer, 1.12 * outer)
    axes.set_aspect("equal")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _rings_named(axes: "Axes", octaves: Sequence[tuple[float, float]]) -> None:
    """The octaves below the right half of the disc; the innermost ones are the lowest."""
    places = [len(octaves) - ring + _HOLE - 0.5 for ring in range(len(octaves))]
    axes.set_xticks(places, [octave_name(octave) for octave in octaves], rotation=40, ha="right", fontsize=9)
    axes.set_yticks([])
    axes.tick_params(length=0)


def _circles(axes: "Axes", peaks: Mapping[int, Peak]) -> None:
    """Rows run downwards in a picture, so the vertical frequency is turned, as in the figure of directions."""
    for number, peak in peaks.items():
        vertical, horizontal = peak.frequency
        for y, x in {*_aliases(-vertical, horizontal), *_aliases(vertical, -horizontal)}:
            for colour, width in (("white", 3.5), ("black", 1.5)):  # seen on any ground
                axes.plot([x], [y], marker="o", ms=11, mfc="none", mec=colour, mew=width, clip_on=False)
        inwards = (-11 if horizontal > 0 else 11, 11 if vertical > 0 else -11)
        axes.annotate(
            str(number), (horizontal, -vertical), xytext=inwards, textcoords="offset points", ha="center", va="center",
            fontsize=10, fontweight="bold", color="black",
        )  # fmt: skip


def _aliases(vertical: float, horizontal: float) -> set[tuple[float, float]]:
    """A frequency of the map, twice where it is 1/2: at the other end as well."""
    rows, columns = ({part, -part} if abs(part) == _TOP else {part} for part in (vertical, horizontal))
    return set(product(rows, columns))
