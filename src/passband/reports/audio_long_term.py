"""The section on long-term average spectra, as `passband evaluate` shows it of audio."""

import os
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from passband.metrics.frequency_words import hertz
from passband.reports.audio_figures import band_difference_figure, long_term_figure
from passband.reports.audio_spectra import LongTermComparison
from passband.reports.audio_verdict import LOWEST
from passband.reports.figures import write_figure
from passband.reports.page import Block, Cell, Section, Table
from passband.reports.words import signed

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure


def long_term_sections(comparison: LongTermComparison, out: str | os.PathLike[str]) -> list[Section]:
    """The section of a page that shows where the spectra differ; its figures are written into figures/ of its folder.

    Args:
        comparison: from [`LongTermSets.compute`][passband.reports.LongTermSets].
        out: the page's folder.

    """
    result, folder = comparison.result, Path(out) / "figures"
    shown = [number for number, band in enumerate(result.third_octaves) if band.low >= LOWEST]
    bands = [(result.third_octaves[number].low, result.third_octaves[number].high) for number in shown]
    biases = [result.third_octaves[number].bias for number in shown]
    chance = None if comparison.chance is None else comparison.chance[shown].tolist()
    spectra = long_term_figure(
        result.frequencies,
        {"real": result.psd_real, "fake": result.psd_fake},
        errors={"real": result.error_real, "fake": result.error_fake},
    )
    octaves = "; ".join(f"around {hertz(band.centre)}: {signed(band.bias)} dB" for band in result.octaves)
    grey = "" if chance is None else " Grey: what chance makes, one half of the real clips against the other."
    blocks: list[Block] = [
        write_figure(
            band_difference_figure(bands, {"fake": biases}, reference=chance), folder, "bands",
            caption=f"Power of the fake audio relative to the real in each third of an octave.{grey}",
            alt=f"Bar chart of the power difference in decibels over the frequency. Mean per octave: {octaves}.",
        ),
        _octave_table(comparison),
        write_figure(
            spectra, folder, "long-term",
            caption="Long-term average spectra. Shaded: two standard errors over clips.",
            alt="Two curves of power in decibels over a logarithmic frequency axis, real and fake.",
        ),
        write_figure(
            mel_figure(comparison), folder, "mel",
            caption="The same by mel bands, which are as wide as hearing resolves: the balance of energy.",
            alt=f"Bar chart of the power difference per mel band; from {signed(float(result.mel_db.min()))} to "
            f"{signed(float(result.mel_db.max()))} dB.",
        ),
    ]  # fmt: skip
    return [Section("Where the spectra differ", blocks)]


def mel_figure(comparison: LongTermComparison) -> "MatplotlibFigure":
    """Difference of the energy in each mel band; bands meet half way between their centres."""
    centres = comparison.result.mel_frequencies.tolist()
    middles = [(low + high) / 2 for low, high in pairwise(centres)]
    edges = [max(2 * centres[0] - middles[0], 20.0), *middles, comparison.result.sample_rate / 2]
    bands = list(pairwise(edges))
    return band_difference_figure(bands, {"fake": comparison.result.mel_db})


def _octave_table(comparison: LongTermComparison) -> Table:
    rows: list[list[Cell]] = [
        [f"{hertz(band.low)} – {hertz(band.high)}", f"{band.lsd:.2f}", signed(band.bias)]
        for band in comparison.result.octaves
    ]
    return Table(["Octave", "Log-spectral distance (dB)", "Mean difference (dB)"], rows)
