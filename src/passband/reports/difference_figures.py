"""What figures of differences share: their colours, marked cells, whiskers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from passband._checks import import_extra
from passband.reports.words import signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TOO_LITTLE, TOO_MUCH = "#0072B2", "#D55E00"
QUIET = "#777777"  # what is not called
HOLLOW = "#ebebeb"  # follows the page into the dark, unlike white
# The palette's blue is made brighter in the dark; the white text on a map's cells would be lost then.
_MAP = ("#006FB0", "#f7f7f7", "#D55E00")
_DARK = -0.62  # share of the scale below which white text is read better


def difference_colours() -> Any:
    """Blue for too little, near-white for no difference, orange for too much; the colour-blind tell them apart."""
    colours = import_extra("matplotlib.colors", "train")
    return colours.LinearSegmentedColormap.from_list("difference", _MAP).with_extremes(bad="#d9d9d9")


def largest(values: NDArray[np.float64], least: float) -> float:
    """End of a symmetric scale: the largest finite size, at least `least`."""
    sizes = np.abs(values[np.isfinite(values)])
    return max(float(sizes.max(initial=0.0)), least)


def numpy(values: Tensor) -> NDArray[np.float64]:
    """The values for drawing."""
    found: NDArray[np.float64] = values.detach().double().cpu().numpy()
    return found


def whiskers(difference: Tensor, low: Tensor, high: Tensor) -> NDArray[np.float64]:
    """The two lengths of error bars; none where an interval has no end."""
    ends = np.stack([numpy(difference - low), numpy(high - difference)])
    return np.where(np.isfinite(ends), np.maximum(ends, 0), 0.0)


def marked_cells(
    axes: "Axes", values: Tensor, different: Tensor, rows: Sequence[str], columns: Sequence[str], scale: float,
    *, digits: int = 1,
) -> Any:  # fmt: skip
    """Draw differences as coloured cells with their numbers; what is called is framed and bold.

    Args:
        axes: to draw into.
        values: the differences, (rows, columns).
        different: which of them are called.
        rows: their names, from above.
        columns: their names.
        scale: where the colours end.
        digits: after the point.

    Returns:
        The image, for a colour bar.

    """
    shown = numpy(values)
    masked = np.ma.masked_invalid(shown)
    image = axes.imshow(masked, cmap=difference_colours(), vmin=-scale, vmax=scale, aspect="auto")
    rectangle = import_extra("matplotlib.patches", "train").Rectangle
    small = 9.5 if len(columns) <= 9 else 8
    for i, j in np.ndindex(shown.shape):
        called = bool(different[i, j])
        axes.text(
            j, i, signed(float(shown[i, j]), digits), ha="center", va="center", fontsize=small,
            color=text_colour(float(shown[i, j]), scale), fontweight="bold" if called else "normal",
        )  # fmt: skip
        if called:
            axes.add_patch(rectangle((j - 0.46, i - 0.45), 0.92, 0.9, fill=False, ec="black", lw=1.5))
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return image


def text_colour(value: float, scale: float) -> str:
    """Black or white, whichever is read better on the colour of a value."""
    return "white" if value < _DARK * scale else "black"


def minus(value: float, _: int | None = None) -> str:
    """A tick with a true minus."""
    return f"{value:.3g}".replace("-", "−")
