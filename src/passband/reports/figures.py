"""Figures in one style, drawn by matplotlib's object interface: no global state, no display.

Every function returns a `matplotlib.figure.Figure`; `to_svg`, `to_png` turn it into what
[`Figure`][passband.reports.Figure] of a page takes. Colours are Okabe and Ito's, which the colour-blind can tell apart; each
series has its own line style too.
"""

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from passband._checks import check_batch, import_extra
from passband.reports.page import data_uri

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")
Values = Sequence[float] | NDArray[Any] | Tensor

INK = "#222222"
"""The reference: real data, ground truth."""
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""The series compared with it, in order."""
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 1, 1, 1, 1, 1)), (0, (8, 3)))
REFERENCES = frozenset({"real", "truth", "true", "data", "reference", "ground truth"})
"""Names of series that are drawn as the reference."""

WIDTH = 6.4  # inches; at half a page's width the 11-point text is still 6 points high
_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "axes.labelsize": 11,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11.5,
    "axes.titlelocation": "left",
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
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "passband",  # the same figure gives the same bytes
    "text.color": INK,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
}


@contextmanager
def _style() -> Iterator[None]:
    matplotlib = import_extra("matplotlib", "train")
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_STYLE, "backend": matplotlib.rcParams["backend"]}):
        yield


def _figure(width: float = WIDTH, height: float = 4.0) -> "tuple[Figure, Axes]":
    figure = import_extra("matplotlib.figure", "train").Figure(figsize=(width, height))
    return figure, figure.add_subplot()
