"""Where losses pull: the share of their gradient in each band, and how hard they pull against the base loss."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from passband._checks import import_extra
from passband.metrics.denoiser_result import DenoiserSpectrum
from passband.metrics.noise_levels import level_name
from passband.metrics.pixel_bands import band_label
from passband.reports.diagnosis.maps import band_axis
from passband.reports.diagnosis.words import percent
from passband.reports.difference_figures import numpy
from passband.reports.figures import COLOURS, DASHES, INK, WIDTH, _style, write_figure
from passband.reports.page import Block, Cell, Details, Section, Shown, Table, Text
from passband.reports.spectrum.words import Terms, joined

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BASE = "base"
_WHOLE = 99.5  # from here on no digits after the point
_NAMES = {"base": "base loss", "amplitude_phase": "amplitude and phase", "stft": "short-time amplitude",
          "focal_frequency": "focal frequency"}  # fmt: skip


def gradient_sections(result: DenoiserSpectrum, folder: Path, terms: Terms) -> list[Section]:
    """Which loss pulls where the model is wrong; nothing where no gradient was measured."""
    if _BASE not in result.gradients:
        return []
    rows = _rows(result)
    where = "the noise levels at which the model is wrong" if bool(result.wrong.any()) else "all noise levels"
    called = result.wrong.any(0)
    shaded = " Shaded: bands in which something is called." if bool(called.any()) and not bool(called.all()) else ""
    shown = write_figure(
        gradient_figure(result, terms.step), folder, "gradients",
        caption=f"The share of each loss's squared gradient with respect to the network's output that falls into each "
        f"band, averaged over {where}.{shaded}",
        alt=f"Lines of gradient share over frequency. {_top_words(result, rows)}",
    )  # fmt: skip
    text = Text(
        "A spectral term helps where it pulls more than the base loss does: in bands that the base loss, which follows "
        "the largest errors, hardly sees. How hard a term pulls at each noise level decides its weight and its gate."
    )
    blocks: list[Block] = [text, shown]
    if len(result.gradients) > 1:
        blocks.append(_pull_table(result))
    blocks.append(Details("The shares at every noise level", [_share_table(result, name) for name in result.gradients]))
    return [Section("Where the losses pull", blocks)]


def gradient_figure(result: DenoiserSpectrum, step: str = "pixel") -> "Figure":
    """The share of each loss's gradient over the bands, averaged over the levels at which the model is wrong."""
    rows = _rows(result)
    called = result.wrong[rows].any(0)
    with _style():
        figure: Figure = import_extra("matplotlib.figure", "train").Figure(figsize=(WIDTH, 3.6))
        axes = figure.add_subplot()
        for band in called.nonzero().flatten().tolist() if bool(result.wrong.any()) and not bool(called.all()) else ():
            axes.axvspan(band - 0.5, band + 0.5, color="#E69F00", alpha=0.16, lw=0)
        for number, (name, gradient) in enumerate(result.gradients.items()):
            share = 100 * numpy(_mean_share(gradient.share, rows))
            base = name == _BASE
            axes.plot(
                range(len(share)), share, marker="osD^vP"[number % 6], ms=5, label=loss_name(name),
                color=INK if base else COLOURS[(number - 1) % len(COLOURS)], ls=DASHES[number % len(DASHES)],
            )  # fmt: skip
        band_axis(axes, result.bands, step)
        axes.set_ylabel("share of the gradient (%)")
        axes.set_ylim(bottom=0)
        figure.legend(loc="outside upper left", ncols=3)
    return figure


def loss_name(name: str) -> str:
    """A loss in words."""
    return _NAMES.get(name, name)


def _rows(result: DenoiserSpectrum) -> Tensor:
    """The levels at which the model is wrong; all, where it is at none."""
    wrong = result.wrong.any(1)
    return wrong if bool(wrong.any()) else torch.ones_like(wrong)


def _mean_share(share: Tensor, rows: Tensor) -> Tensor:
    return share[rows].nanmean(0)


def _top_words(result: DenoiserSpectrum, rows: Tensor) -> str:
    """For those who cannot see the lines: where each has its peak."""
    parts = []
    for name, gradient in result.gradients.items():
        share = _mean_share(gradient.share, rows).nan_to_num(0)
        band = int(share.argmax())
        parts.append(f"{loss_name(name)} mostly at {band_label(result.bands[band])} ({percent(float(share[band]))})")
    return joined(parts).capitalize() + "."


def _pull_table(result: DenoiserSpectrum) -> Table:
    names = [name for name in result.gradients if name != _BASE]
    base = result.gradients[_BASE].norm
    rows: list[Sequence[Cell]] = []
    for i, ratio in enumerate(result.ratios):
        pulls = [float(result.gradients[name].norm[i] / base[i]) for name in names]
        rows.append([Shown(level_name(ratio), ratio), *(Shown(_times(pull), pull) for pull in pulls)])
    heads = ["Noise ratio", *(loss_name(name).capitalize() for name in names)]
    caption = (
        "How hard each loss pulls with a weight of 1: the norm of its gradient over the base loss's. A weight of 0.1 "
        "over this number makes the term's gradient a tenth of the base loss's at that noise level."
    )
    return Table(heads, rows, caption, sortable=True)


def _times(pull: float) -> str:
    return f"{pull:,.0f}" if pull >= _WHOLE else f"{pull:.3g}"


def _share_table(result: DenoiserSpectrum, name: str) -> Table:
    share = result.gradients[name].share
    rows: list[Sequence[Cell]] = [
        [Shown(level_name(ratio), ratio), *(Shown(percent(float(one)), float(one)) for one in share[i])]
        for i, ratio in enumerate(result.ratios)
    ]
    heads = ["Noise ratio", *(band_label(band) for band in result.bands)]
    return Table(heads, rows, f"{loss_name(name).capitalize()}: share of the squared gradient in each band.", True)
