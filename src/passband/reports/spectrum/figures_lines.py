"""Figure of the ratio of two spectra of signals at every frequency, where narrow lines are tones and artefacts."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from torch import Tensor

from passband.metrics.peaks import Peak
from passband.reports.difference_figures import TOO_MUCH, numpy
from passband.reports.figures import INK, _figure, _style
from passband.reports.spectrum.figures_axes import frequency_axis
from passband.reports.spectrum.words import Terms

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def ratio_line_figure(
    ratio: Float[Tensor, " frequencies"], lines: Mapping[int, Peak], terms: Terms, *, low: float
) -> "Figure":
    """The power difference at each frequency, with the called lines by number.

    Args:
        ratio: dB, of the whole spectrum, frequency 0 in the middle.
        lines: called lines by their numbers.
        terms: of the kind of samples.
        low: lowest frequency shown, cycles per position.

    Returns:
        The figure.

    """
    length, whole = len(ratio), numpy(ratio)
    half = np.concatenate([whole[length // 2 :], whole[: 1 - length % 2]])  # 1/2 is at the start, of even lengths
    frequency = np.arange(len(half)) / length
    with _style():
        figure, axes = _figure(height=3.3)
        axes.axhline(0, color=INK, lw=1)
        axes.plot(frequency, half, color=TOO_MUCH, lw=0.9)
        shown = half[(frequency >= low) & np.isfinite(half)]
        bottom, top = min(shown.min(initial=-1.0), -1.0), max(shown.max(initial=1.0), 1.0)
        axes.set_ylim(bottom - 0.05 * (top - bottom), top + 0.16 * (top - bottom))
        for number, peak in lines.items():
            for _, place in (peak.frequency, *peak.also):
                at = min(round(abs(place) * length), len(half) - 1)
                axes.annotate(
                    str(number), (abs(place), half[at]), xytext=(0, 5), textcoords="offset points", ha="center",
                    fontsize=10, fontweight="bold", color=INK,
                )  # fmt: skip
        frequency_axis(axes, low, terms)
        axes.set_ylabel("power difference (dB)\n← too little · too much →")
    return figure
