"""The frequency axis of a spectrum report's figures."""

import math
from typing import TYPE_CHECKING

from passband.reports.audio_figures import audio_ticks
from passband.reports.spectrum.words import Terms

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def frequency_axis(axes: "Axes", low: float, terms: Terms, *, periods: bool = True) -> None:
    """A logarithmic axis of frequency from `low` to 1/2, and above it the length of a wave; of audio in kHz."""
    axes.set_xscale("log", base=2)
    axes.set_xlim(low, 0.5)
    if terms.sample_rate:
        shown = audio_ticks(low * terms.sample_rate, terms.sample_rate / 2)
        axes.set_xticks([tick / terms.sample_rate for tick in shown], list(shown.values()))
        axes.minorticks_off()
        axes.set_xlabel("frequency (kHz)")
        return
    ticks = [2.0**-power for power in range(1, 1 + max(1, math.floor(-math.log2(low) + 1e-9)))]
    axes.set_xticks(ticks, [terms.frequency(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel(terms.titled("frequency"))
    if periods:
        above = axes.secondary_xaxis("top")
        above.set_xticks(ticks, [f"{1 / tick:g}" for tick in ticks])
        above.minorticks_off()
        above.tick_params(length=2, labelsize=9, labelcolor="#555555")
        above.set_xlabel(f"length of a wave ({terms.steps})", fontsize=9.5, color="#555555")
        above.spines["top"].set_visible(False)
