"""Figures of regular patterns: how strongly each period stands out along the rows and columns."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from torch import Tensor

from passband._checks import import_extra
from passband.reports.difference_figures import TOO_MUCH, numpy
from passband.reports.figures import INK, WIDTH, _style
from passband.reports.spectrum.words import Terms

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PERIODS = (2, 3, 4, 8, 16)


def profile_figure(
    frequency: Float[Tensor, " bins"],
    profiles: Mapping[str, tuple[Float[Tensor, " bins"], Float[Tensor, " bins"]]],
    terms: Terms,
    *,
    named: Sequence[tuple[str, float, str]] = (),
) -> "Figure":
    """How strongly samples are rough and smooth in turn with each period, real and fake, one panel for each axis.

    Args:
        frequency: of the repetition, cycles per pixel.
        profiles: title of the panel to the strengths (real, fake), dB over the neighbouring frequencies.
        terms: of the kind of samples.
        named: (title of the panel, frequency, number of the pattern) of what is called.

    Returns:
        The figure.

    """
    places = numpy(frequency)
    with _style():
        figure: Figure = import_extra("matplotlib.figure", "train").Figure(figsize=(WIDTH, 1.1 + 1.9 * len(profiles)))
        panels = figure.subplots(len(profiles), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
        for axes, (title, (real, fake)) in zip(panels, profiles.items(), strict=True):
            axes.plot(places, numpy(fake), color=TOO_MUCH, lw=1.6, label="fake")
            axes.plot(places, numpy(real), color=INK, lw=1.4, ls=(0, (4, 1.5)), label="real")
            for panel, at, number in named:
                if panel == title or len(profiles) == 1:
                    height = float(numpy(fake)[np.abs(places - at).argmin()])
                    axes.annotate(
                        number, (at, height), xytext=(0, 5), textcoords="offset points", ha="center", fontsize=10,
                        fontweight="bold", color=INK,
                    )  # fmt: skip
            ticks = [1 / period for period in _PERIODS if 1 / period >= places[0]]
            axes.set_xticks(ticks, [terms.frequency(tick) for tick in ticks])
            axes.set_xlim(min(places[0], 1 / _PERIODS[-1]) * 0.9, 0.51)
            axes.margins(y=0.12)
            axes.set_title(title)
        panels[-1].set_xlabel(terms.titled("frequency"))
        figure.supylabel("strength (dB)", fontsize=11)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return figure
