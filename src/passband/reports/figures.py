"""Figures in one style, drawn by matplotlib's object interface: no display, and its global state is left as it was.

Every function returns a `matplotlib.figure.Figure`; `to_svg`, `to_png` and `to_pdf` turn it into a file, and
`write_figure` into files and what a page shows. The colours are Okabe and Ito's, which the colour-blind can tell apart,
and each series has a line style of its own.

On a page, an SVG follows the reader's theme: white grounds and greys are turned, and so are lines and text in `INK` or
another grey. Pure black, pure white and colours stay as they are: text on the cells of a coloured map is `"black"` or
`"white"`.
"""

import io
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from passband._checks import check_batch, import_extra
from passband.reports._narrow import make_narrow
from passband.reports.blocks import Figure as FigureBlock
from passband.reports.page import data_uri, write_file
from passband.reports.words import budget

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Values = Sequence[int | float] | NDArray[Any] | Tensor

INK = "#222222"
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1.5, 1.2)),
    (0, (6, 1.5, 1.5, 1.5)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (8, 3)),
)
REFERENCES = frozenset({"real", "truth", "true", "data", "reference", "ground truth"})
RADIUS_LABEL = "radius (cycles per image)"

WIDTH = 6.4  # inches: at half a page's width the 11-point text is still 6 points high
DPI = 200
_GRID_PIXELS = 1600  # width of an image grid, about
_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 11,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11.5,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so a figure looks the same everywhere
    "font.size": 11,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.7,
    "legend.fontsize": 10.5,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "lines.linewidth": 2.0,
    "pdf.fonttype": 42,  # text that journals accept, and that can be searched
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "passband",  # the same figure gives the same bytes
    "text.color": INK,
    "xtick.color": INK,
    "xtick.labelsize": 10,
    "ytick.color": INK,
    "ytick.labelsize": 10,
}


def series_style(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour and dashes of each series by name: near-black for a reference ("real", "truth", ...), then the palette.

    Example:
        >>> from passband.reports.figures import series_style
        >>> [style["color"] for style in series_style(["real", "fake"]).values()]
        ['#222222', '#D55E00']

    """
    styles: dict[str, dict[str, Any]] = {}
    for name in names:
        if name.lower() in REFERENCES:
            styles[name] = {"color": INK, "linestyle": "-"}
        else:
            used = sum(style["color"] != INK for style in styles.values())
            styles[name] = {"color": COLOURS[used % len(COLOURS)], "linestyle": DASHES[used % len(DASHES)]}
    return styles


def psd_figure(
    psds: Mapping[str, Values],
    *,
    spread: Mapping[str, Values] | None = None,
    title: str = "",
    decades: float = 6.0,
) -> "Figure":
    """Radially averaged PSDs over the radius, both axes logarithmic.

    Args:
        psds: name of the series to its PSD, bin 0 first (not shown: it has no logarithm), as
            [`radial_psd`][passband.transforms.radial_psd] averages it. "real" and "truth" are drawn as the reference.
        spread: half width of a band around each PSD, in the same unit (2 standard errors, say).
        title: shown above.
        decades: how far below the largest value the axis reaches at most; empty bins would stretch it to no end.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no series, or one has fewer than 2 bins.

    Example:
        >>> from passband.reports import psd_figure, to_svg
        >>> figure = psd_figure({"real": [9.0, 4.0, 2.0, 1.0], "fake": [9.0, 4.0, 1.5, 0.5]})
        >>> "<svg" in to_svg(figure)
        True

    """
    curves = _series(psds, "psds", at_least=2)
    bottom, top = _power_limits(curves.values(), decades)
    with _style():
        figure, axes = _figure()
        for name, style in series_style(list(curves)).items():
            power = curves[name][1:]
            radius = np.arange(1, len(power) + 1)
            # Empty bins have no logarithm: their line leaves the axis at the bottom instead of breaking off.
            axes.plot(radius, np.maximum(power, bottom / 100), label=name, **style)
            if spread is not None and name in spread:
                half = _array(spread[name])[1:]
                low = np.maximum(power - half, bottom / 100)
                axes.fill_between(radius, low, power + half, color=style["color"], alpha=0.2, lw=0)
        _radius_axis(axes, max(len(curve) for curve in curves.values()) - 1)
        axes.set_yscale("log")
        axes.set_ylim(bottom, top)
        axes.set_ylabel("power per frequency\n(1 = white noise of variance 1)")
        _finish(figure, axes, title, legend=True)
    return figure


def ratio_figure(
    ratios: Mapping[str, Values],
    *,
    octaves: Sequence[tuple[int, int]] = (),
    reference: Values | None = None,
    title: str = "",
) -> "Figure":
    """Difference from the reference in decibels over the radius; octaves shaded in turn.

    Args:
        ratios: name of the series to its differences at radii 1, 2, ... in dB, as
            [`log_spectral_ratio`][passband.metrics.log_spectral_ratio] gives them.
        octaves: (first, last) radius of each band, as [`octave_bands`][passband.metrics.octave_bands] gives them. With
            a single series, its root mean square is written in each band.
        reference: a difference that chance alone makes (two halves of the real data); drawn thin and grey.
        title: shown above.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no series, or one is empty.

    Example:
        >>> from passband.reports import ratio_figure, to_svg
        >>> figure = ratio_figure({"fake": [0.1, -0.2, -1.5]}, octaves=[(1, 1), (2, 3)])
        >>> "<svg" in to_svg(figure)
        True

    """
    curves = _series(ratios, "ratios", at_least=1)
    with _style():
        figure, axes = _figure(height=3.6)
        last = max(len(curve) for curve in curves.values())
        _radius_axis(axes, last)
        axes.axhline(0, color=INK, lw=1)
        if reference is not None:
            values = _array(reference)
            axes.plot(np.arange(1, len(values) + 1), values, color="#8a8a8a", lw=1, label="real against real (halves)")
        for name, style in series_style(list(curves)).items():
            marker = "o" if len(curves[name]) <= 48 else None
            axes.plot(np.arange(1, len(curves[name]) + 1), curves[name], marker=marker, ms=3.5, label=name, **style)
        everything = np.concatenate(list(curves.values()))
        finite = everything[np.isfinite(everything)]
        low, high = min(-1.0, 1.15 * finite.min(initial=0.0)), max(1.0, 1.15 * finite.max(initial=0.0))
        axes.set_ylim(low, high + (0.12 * (high - low) if octaves else 0))  # room for the octaves' numbers
        _shade_octaves(axes, octaves, next(iter(curves.values())) if len(curves) == 1 else None, last)
        axes.set_ylabel("power difference (dB)\n← too little · too much →")
        _finish(figure, axes, title, legend=len(curves) > 1 or reference is not None)
    return figure


def image_grid(
    images: Float[Tensor, "batch channels height width"], columns: int = 8, *, title: str = "", gap: int = 2
) -> "Figure":
    """Images side by side, every pixel a sharp square.

    Args:
        images: in [-1, 1], 1 (gray) or 3 (RGB) channels; values outside are clipped, pixels that are not finite are
            magenta. Very large ones are shown smaller.
        columns: images per row.
        title: shown above.
        gap: white pixels between images.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no image, the channels are neither 1 nor 3, or columns is below 1.

    Example:
        >>> import torch
        >>> from passband.reports import image_grid, to_png
        >>> to_png(image_grid(torch.zeros(5, 1, 8, 8), columns=3))[1:4]
        b'PNG'

    """
    check_batch("images", images, dims=(2,))
    shrink = math.ceil(min(columns, len(images)) * images.shape[3] / _GRID_PIXELS)
    if shrink > 1:
        small = [max(1, side // shrink) for side in images.shape[2:]]
        images = torch.nn.functional.interpolate(images.float(), small, mode="bilinear", antialias=True)
    mosaic = image_mosaic(images, columns, gap)
    # Whole screen pixels per image pixel, at the resolution that to_png has.
    inches = [side * max(1, _GRID_PIXELS // mosaic.shape[1]) / DPI for side in mosaic.shape[:2]]
    with _style():
        head = 0.35 if title else 0.0
        figure, axes = _figure(height=inches[0] + head, width=inches[1])
        figure.set_layout_engine("none")
        axes.set_position((0, 0, 1, inches[0] / (inches[0] + head)))
        opaque = np.where(_between_images(mosaic.shape[:2], images.shape, columns, gap), 0, 255).astype(np.uint8)
        axes.imshow(np.dstack([mosaic, opaque]), interpolation="nearest", aspect="auto")
        axes.set_axis_off()
        if title:
            axes.set_title(title)
    return figure


def image_mosaic(
    images: Float[Tensor, "batch channels height width"], columns: int = 8, gap: int = 2
) -> NDArray[np.uint8]:
    """The picture of [`image_grid`][passband.reports.image_grid] as pixels, (rows, columns, 3)."""
    check_batch("images", images, dims=(2,))
    count, channels, height, width = images.shape
    if channels not in (1, 3) or count == 0 or columns < 1:
        raise ValueError(
            f"an image grid takes at least one image of 1 or 3 channels and at least one column, got shape "
            f"{tuple(images.shape)} and {columns} columns"
        )
    columns = min(columns, count)
    pixels = images.detach().float().cpu().expand(-1, 3, -1, -1)
    magenta = torch.tensor([1.0, -1.0, 1.0]).reshape(3, 1, 1)
    pixels = torch.where(pixels.isfinite().all(1, keepdim=True), pixels, magenta)
    pixels = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    rows = math.ceil(count / columns)
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for index, image in enumerate(pixels.numpy()):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        canvas[top : top + height, left : left + width] = image
    return canvas


def _between_images(shape: tuple[int, ...], images: Sequence[int], columns: int, gap: int) -> NDArray[np.bool_]:
    """Where a mosaic shows no image: the gaps, and the places that the last row leaves empty."""
    (rows, across), (count, _, height, width) = np.indices(shape), images
    columns = min(columns, count)
    number = rows // (height + gap) * columns + across // (width + gap)
    between: NDArray[np.bool_] = (
        (rows % (height + gap) >= height) | (across % (width + gap) >= width) | (number >= count)
    )
    return between


def curve_figure(
    x: Values,
    curves: Mapping[str, tuple[Values, Values | None]],
    *,
    seeds: Mapping[str, Sequence[Values]] | None = None,
    x_label: str = "training steps",
    y_label: str = "log-spectral distance (dB)",
    log_x: bool = True,
    log_y: bool = False,
    reference: tuple[str, float] | None = None,
    title: str = "",
) -> "Figure":
    """A measure over a training budget: mean and standard error of each arm, its seeds as thin lines.

    Args:
        x: the budgets.
        curves: name of the arm to (means, standard errors or None), each as long as x.
        seeds: name of the arm to one series per seed.
        x_label: what x is, with its unit.
        y_label: what the values are, with their unit.
        log_x: logarithmic x axis, with a tick at each budget.
        log_y: logarithmic y axis; else it starts at 0 where all values are positive.
        reference: (label, value) of a horizontal line, the value of real data, say.
        title: shown above.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no curve, or a series is not as long as x.

    Example:
        >>> from passband.reports import curve_figure, to_svg
        >>> figure = curve_figure([100, 200], {"MSE": ([9.0, 5.0], [0.4, 0.3]), "MSE + spectral": ([6.0, 4.0], None)})
        >>> "<svg" in to_svg(figure)
        True

    """
    steps = _array(x)
    means = _series({name: pair[0] for name, pair in curves.items()}, "curves", exactly=len(steps))
    errors = {name: pair[1] for name, pair in curves.items()}
    with _style():
        figure, axes = _figure()
        for name, style in series_style(list(means)).items():
            runs = (seeds or {}).get(name, ())
            for number, run in enumerate(runs):
                thin = _series({f"seed {number} of {name}": run}, "seeds", exactly=len(steps))
                axes.plot(steps, *thin.values(), color=style["color"], lw=0.8, alpha=0.45, zorder=1)
            error = errors[name]
            axes.errorbar(
                steps,
                means[name],
                yerr=None if error is None else _array(error),
                label=name,
                marker="o",
                ms=5,
                capsize=3,
                elinewidth=1.3,
                **style,
            )
        if reference is not None:
            axes.axhline(reference[1], color="#777777", lw=1.2, ls=(0, (2, 2)), label=reference[0])
        if log_x:
            axes.set_xscale("log")
            axes.set_xticks(steps, [budget(value) for value in steps])
            axes.minorticks_off()
        if log_y:
            axes.set_yscale("log")
        elif all(np.nanmin(mean) >= 0 for mean in means.values() if np.isfinite(mean).any()):
            axes.set_ylim(bottom=0)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        _finish(figure, axes, title, legend=len(means) > 1 or reference is not None)
    return figure


def difference_figure(
    differences: Mapping[str, Mapping[str, tuple[float, float | None]]], *, x_label: str = "difference", title: str = ""
) -> "Figure":
    """Differences from a baseline, one row for each arm, with their standard errors; the baseline is the line at 0.

    Args:
        differences: name of a series to its arms, each (difference, standard error or None).
        x_label: what the differences are of, with the unit.
        title: shown above.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no series, or one has no arm.

    Example:
        >>> from passband.reports import difference_figure, to_svg
        >>> figure = difference_figure({"200 steps": {"amplitude": (-0.5, 0.1), "haar": (0.2, None)}})
        >>> "<svg" in to_svg(figure)
        True

    """
    if not differences or not all(differences.values()):
        raise ValueError("differences must hold at least one series, each with at least one arm")
    arms = list(dict.fromkeys(arm for series in differences.values() for arm in series))
    with _style():
        figure, axes = _figure(height=1.5 + 0.3 * len(arms) * max(1.0, len(differences) / 2))
        axes.axvline(0, color=INK, lw=1)
        for number, (name, style) in enumerate(series_style(list(differences)).items()):
            series = differences[name]
            # The series of an arm lie beside each other.
            shift = 0.5 * ((number + 0.5) / len(differences) - 0.5)
            places = [arms.index(arm) + shift for arm in series]
            errors = [math.nan if error is None else error for _, error in series.values()]
            means = [mean for mean, _ in series.values()]
            axes.errorbar(
                means, places, xerr=errors, label=name, color=style["color"], marker="osD^vP"[number % 6],
                ms=6, ls="none", capsize=3, elinewidth=1.5,
            )  # fmt: skip
        axes.set_yticks(range(len(arms)), arms)
        axes.set_ylim(len(arms) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}".replace("-", "−"))
        axes.set_xlabel(x_label)
        _finish(figure, axes, title, legend=True)
    return figure


def to_svg(figure: "Figure") -> str:
    """SVG source of a figure; text as outlines, the same bytes for the same figure."""
    stream = io.StringIO()
    with _style():
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def to_png(figure: "Figure", dpi: int = DPI, *, transparent: bool = False) -> bytes:
    """PNG data of a figure, on white or on nothing."""
    stream = io.BytesIO()
    with _style():
        figure.savefig(stream, format="png", dpi=dpi, transparent=transparent, metadata={"Software": None})
    return stream.getvalue()


def to_pdf(figure: "Figure") -> bytes:
    """PDF data of a figure, for LaTeX; the same bytes for the same figure."""
    stream = io.BytesIO()
    with _style():
        figure.savefig(stream, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return stream.getvalue()


def write_figure(
    figure: "Figure",
    folder: str | os.PathLike[str],
    name: str,
    *,
    caption: str,
    alt: str,
    pixels: bool = False,
) -> FigureBlock:
    """Write a figure as SVG, PDF and PNG, and make the block that shows it on a page.

    The page shows it narrower on a telephone: panels below each other, text as large as that around it.

    Args:
        figure: from a function of this module or of one's own; it is laid out anew for the telephone and left so.
        folder: where the files go; made if missing. It lies beside the page that shows the block.
        name: of the files, without suffix.
        caption: what to see in it.
        alt: what it shows, for those who cannot see it.
        pixels: a picture without text, such as [`image_grid`][passband.reports.image_grid] draws: PNG alone.

    Returns:
        The block, with links to the files.

    Raises:
        ValueError: if the alt text is empty.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from passband.reports import psd_figure, write_figure
        >>> figure = psd_figure({"real": [9.0, 4.0, 2.0, 1.0]})
        >>> with tempfile.TemporaryDirectory() as out:
        ...     block = write_figure(figure, Path(out) / "figures", "psd", caption="Power.", alt="Falls by half.")
        ...     sorted(path.name for path in (Path(out) / "figures").iterdir()), block.files
        (['psd.pdf', 'psd.png', 'psd.svg'], ('figures/psd.svg', 'figures/psd.pdf', 'figures/psd.png'))

    """
    folder = Path(folder)
    if pixels:
        write_file(folder / f"{name}.png", to_png(figure))
        shown = to_png(figure, transparent=True)
        return FigureBlock(shown, caption, alt, transparent=True, files=(f"{folder.name}/{name}.png",))
    svg = to_svg(figure)
    figure.set_layout_engine("none")  # laid out by then; every further file would do it again
    for suffix, data in ((".svg", svg.encode()), (".pdf", to_pdf(figure)), (".png", to_png(figure))):
        write_file(folder / f"{name}{suffix}", data)
    files = tuple(f"{folder.name}/{name}.{kind}" for kind in ("svg", "pdf", "png"))
    return FigureBlock(svg, caption, alt, narrow=_narrow_svg(figure), files=files)


def page_figure(figure: "Figure", *, caption: str, alt: str) -> FigureBlock:
    """The block of [`write_figure`][passband.reports.write_figure] without files: for figures that explain a page."""
    svg = to_svg(figure)
    return FigureBlock(svg, caption, alt, narrow=_narrow_svg(figure))


def _narrow_svg(figure: "Figure") -> str | None:
    with _style():
        return to_svg(figure) if make_narrow(figure) else None


def to_png_data_uri(figure: "Figure", dpi: int = DPI) -> str:
    """PNG data of a figure as a data: URI, for an HTML page of one's own."""
    return data_uri(to_png(figure, dpi))


@contextmanager
def _style() -> Iterator[None]:
    """Our style on top of matplotlib's own defaults, whatever the user's matplotlibrc says."""
    with import_extra("matplotlib.style", "train").context(["default", _STYLE]):
        yield


def _figure(height: float = 4.0, width: float = WIDTH) -> "tuple[Figure, Axes]":
    figure: Figure = import_extra("matplotlib.figure", "train").Figure(figsize=(width, height))
    return figure, figure.add_subplot()


def _array(values: Values) -> NDArray[np.float64]:
    if isinstance(values, Tensor):
        values = values.detach().double().cpu().numpy()
    return np.asarray(values, dtype=np.float64)


def _series(
    values: Mapping[str, Values], what: str, *, at_least: int = 1, exactly: int | None = None
) -> dict[str, NDArray[np.float64]]:
    arrays = {name: _array(value) for name, value in values.items()}
    if not arrays:
        raise ValueError(f"{what} is empty; pass at least one series, {{name: values}}")
    for name, array in arrays.items():
        if array.ndim != 1 or len(array) < at_least or (exactly is not None and len(array) != exactly):
            wanted = f"{at_least} values or more" if exactly is None else f"{exactly} values, one per x"
            raise ValueError(f"{what}: {name!r} must be a series of {wanted}, got shape {array.shape}")
    return arrays


def _radius_axis(axes: "Axes", last: int) -> None:
    axes.set_xscale("log", base=2)
    ticks = [2**power for power in range(int(math.log2(max(last, 1))) + 1)]
    if last > 1.25 * ticks[-1]:
        ticks.append(last)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(0.9, max(last, 2) * 1.1)
    axes.set_xlabel(RADIUS_LABEL)


def _shade_octaves(
    axes: "Axes", octaves: Sequence[tuple[int, int]], ratio: NDArray[np.float64] | None, last: int
) -> None:
    top = axes.get_ylim()[1]
    for number, (low, high) in enumerate(octaves):
        # Bands meet half way (geometrically) between neighbouring radii.
        left = math.sqrt(low * (low - 1)) if low > 1 else 0.9
        right = math.sqrt(high * (high + 1)) if high < last else max(last, 2) * 1.1
        if number % 2 == 0:
            axes.axvspan(left, right, color="#0072B2", alpha=0.06, lw=0)
        if ratio is not None and math.log2(right / left) > 0.45:
            rms = math.sqrt(float(np.mean(ratio[low - 1 : high] ** 2)))
            text = f"{rms:.1f} dB" if math.isfinite(rms) else "–"
            axes.text(math.sqrt(left * right), 0.97 * top, text, ha="center", va="top", fontsize=9, color="#444444")


def _power_limits(curves: Iterable[NDArray[np.float64]], decades: float) -> tuple[float, float]:
    shown = np.concatenate([curve[1:] for curve in curves])
    shown = shown[np.isfinite(shown) & (shown > 0)]
    if not shown.size:
        return 0.1, 10.0
    highest = float(shown.max())
    return max(float(shown.min()), highest * 10**-decades) / 2, highest * 2


def _finish(figure: "Figure", axes: "Axes", title: str, legend: bool) -> None:
    if title:
        axes.set_title(title)
    if legend:  # above the axes: inside it would lie on the curves
        names = [str(name) for name in axes.get_legend_handles_labels()[1]]
        columns = max(1, min(len(names), int(66 / (max(map(len, names)) + 6))))
        figure.legend(loc="outside upper left", ncols=columns)


def stack_png(rows: Sequence[Sequence[bytes]], width: int = 1600, gap: int = 16) -> bytes:
    """Put PNG pictures together in rows of one width, those of a row at one height.

    Args:
        rows: PNG data, row by row.
        width: width of the result in pixels.
        gap: white pixels between pictures.

    Returns:
        PNG data.

    Raises:
        ValueError: if there is no picture.

    """
    image = import_extra("PIL.Image", "train")
    strips = [_strip([image.open(io.BytesIO(png)).convert("RGB") for png in row], width, gap) for row in rows if row]
    if not strips:
        raise ValueError("rows holds no picture; pass at least one")
    canvas = image.new("RGB", (width, sum(strip.height + gap for strip in strips) - gap), "white")
    top = 0
    for strip in strips:
        canvas.paste(strip, (0, top))
        top += strip.height + gap
    stream = io.BytesIO()
    canvas.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _strip(pictures: Sequence[Any], width: int, gap: int) -> Any:
    """Pictures side by side, scaled to one height so that together they are as wide as asked."""
    image = import_extra("PIL.Image", "train")
    aspects = [picture.width / picture.height for picture in pictures]
    height = max(1, round((width - gap * (len(pictures) - 1)) / sum(aspects)))
    strip, left = image.new("RGB", (width, height), "white"), 0
    for picture, aspect in zip(pictures, aspects, strict=True):
        scaled = picture.resize((max(1, round(height * aspect)), height), image.Resampling.LANCZOS)
        strip.paste(scaled, (left, 0))
        left += scaled.width + gap
    return strip
