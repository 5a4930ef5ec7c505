"""Figures of sound over frequency: long-term average spectra and differences per band."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from passband._checks import import_extra
from passband.reports.figures import COLOURS, INK, WIDTH, Values, _array, _finish, _series, _style, series_style
from passband.reports.spectrograms import kilohertz_tick, spectrogram, spectrogram_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["band_difference_figure", "long_term_figure", "spectrogram", "spectrogram_figure"]

_TICKS = (20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000)


def long_term_figure(
    frequencies: Values,
    spectra: Mapping[str, Values],
    *,
    errors: Mapping[str, Values] | None = None,
    title: str = "",
) -> "Figure":
    """Long-term average spectra in decibels over a logarithmic frequency axis, with bands of two standard errors.

    Args:
        frequencies: Hz, rising.
        spectra: name of the set of clips to its mean power per frequency. "real" is drawn as the reference.
        errors: name of the set to the standard error of that power, over clips.
        title: shown above.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no spectrum, or one has not as many values as there are frequencies.

    Example:
        >>> from passband.reports import long_term_figure, to_svg
        >>> figure = long_term_figure([0, 1000, 2000, 3000], {"real": [4, 3, 2, 1], "fake": [4, 3, 1, 0.1]})
        >>> "<svg" in to_svg(figure)
        True

    """
    hertz = _array(frequencies)
    curves = _series(spectra, "spectra", exactly=len(hertz))
    heard = hertz > 0
    with _style():
        figure, axes = _wide(3.6)
        highest = max((float(np.nanmax(curve[heard])) for curve in curves.values()), default=1.0)
        floor = max(highest, 1e-30) * 1e-10
        for name, style in series_style(list(curves)).items():
            power = curves[name][heard]
            axes.plot(hertz[heard], _decibels(power, floor), label=name, **{**style, "lw": 1.6})
            if errors is not None and name in errors:
                half = 2 * _array(errors[name])[heard]
                low, high = _decibels(power - half, floor), _decibels(power + half, floor)
                axes.fill_between(hertz[heard], low, high, color=style["color"], alpha=0.2, lw=0)
        lows = [float(np.nanmin(_decibels(curve[heard], floor))) for curve in curves.values()]
        top = float(_decibels(np.array([highest]), floor)[0])
        axes.set_ylim(max(min(lows), top - 100) - 3, top + 4)
        _log_frequency(axes, max(float(hertz[heard][0]), 40.0), float(hertz[-1]))
        axes.set_ylabel("power per Hz (dB)")
        _finish(figure, axes, title, legend=True)
    return figure


def band_difference_figure(
    bands: Sequence[tuple[float, float]],
    differences: Mapping[str, Values],
    *,
    reference: Values | None = None,
    title: str = "",
) -> "Figure":
    """Difference in decibels of each frequency band, as bars over a logarithmic frequency axis.

    Args:
        bands: (from, to) of each band in Hz, rising.
        differences: name of the series to its difference per band, dB: positive where there is too much.
        reference: what chance alone makes of each band, dB; shown as a grey band of both signs.
        title: shown above.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no series, or one has not as many values as there are bands.

    Example:
        >>> from passband.reports import band_difference_figure, to_svg
        >>> figure = band_difference_figure([(500, 1000), (1000, 2000)], {"fake": [0.1, -6.0]}, reference=[0.3, 0.4])
        >>> "<svg" in to_svg(figure)
        True

    """
    series = _series(differences, "differences", exactly=len(bands))
    lowest = next((low for low, _ in bands if low > 0), 20.0)
    edges = np.array([max(bands[0][0], lowest / 2), *(high for _, high in bands)])
    with _style():
        figure, axes = _wide(3.3)
        if reference is not None:
            chance = np.abs(_array(reference))
            axes.stairs(
                chance,
                edges,
                baseline=-chance,
                fill=True,
                color="#bdbdbd",
                alpha=0.6,
                label="real against real (halves)",
            )
        axes.axhline(0, color=INK, lw=1)
        for number, (name, values) in enumerate(series.items()):
            colour = COLOURS[number % len(COLOURS)]
            axes.stairs(values, edges, baseline=None if number else 0.0, color=colour, lw=1.8, label=name)
            if len(series) == 1:
                axes.stairs(values, edges, fill=True, color=colour, alpha=0.25, lw=0)
        everything = np.concatenate([*series.values(), *([] if reference is None else [chance, -chance])])
        finite = everything[np.isfinite(everything)]
        axes.set_ylim(min(-1.0, 1.1 * finite.min(initial=0.0)), max(1.0, 1.1 * finite.max(initial=0.0)))
        _log_frequency(axes, float(edges[0]), float(edges[-1]))
        axes.set_ylabel("power difference (dB)\n← too little · too much →")
        _finish(figure, axes, title, legend=len(series) > 1 or reference is not None)
    return figure


def audio_ticks(low: float, high: float) -> dict[float, str]:
    """Frequencies in Hz for a logarithmic axis between two ends, with their labels in kHz.

    Example:
        >>> from passband.reports.audio_figures import audio_ticks
        >>> audio_ticks(300, 8000)
        {500: '0.5', 1000: '1', 2000: '2', 5000: '5', 8000: '8'}

    """
    return {tick: kilohertz_tick(tick) for tick in [*(tick for tick in _TICKS if low <= tick < 0.85 * high), high]}


def _wide(height: float) -> "tuple[Figure, Axes]":
    figure: Figure = import_extra("matplotlib.figure", "train").Figure(figsize=(WIDTH, height))
    return figure, figure.add_subplot()


def _decibels(power: NDArray[np.float64], floor: float) -> NDArray[np.float64]:
    decibels: NDArray[np.float64] = 10 * np.log10(np.maximum(power, floor))
    return decibels


def _log_frequency(axes: "Axes", low: float, high: float) -> None:
    axes.set_xscale("log")
    ticks = audio_ticks(low, high)
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    axes.set_xlim(low, high)
    axes.set_xlabel("frequency (kHz)")
