"""The report of a comparison between real and generated audio: a page, its figures, and the numbers as JSON."""

import json
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from passband.reports.audio_figures import band_difference_figure, long_term_figure
from passband.reports.audio_results import FrechetComparison, MeasuredClips, audio_numbers, mean_and_error
from passband.reports.audio_spectra import LongTermComparison
from passband.reports.audio_verdict import LOWEST, VERDICT_METHOD, describe_audio, kilohertz, muffling
from passband.reports.compare import finite, signed
from passband.reports.figures import to_png, to_svg
from passband.reports.listening import ListeningRow, listening_section
from passband.reports.page import (
    Block,
    Cell,
    Figure,
    Number,
    Numbers,
    Page,
    Section,
    Table,
    Text,
    current_command,
    installed_versions,
    write_file,
    write_page,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

_CLIPS_SHOWN = 200  # rows of the table of clips; results.json holds all

_METHOD = (
    "The power of windowed frames (half overlapping, Hann) is averaged over all frames of all clips: the long-term "
    "average spectrum. The log-spectral distance is the root mean square over all frequencies of the difference in "
    "decibels, 10·log10 of the ratio of power. Positive differences mean too much power in the fake audio (noise, "
    "hiss), negative ones too little (muffled)."
)


def audio_compare_report(
    comparison: LongTermComparison,
    out: str | os.PathLike[str],
    *,
    frechet: FrechetComparison | None = None,
    measured: Sequence[MeasuredClips] = (),
    rows: Sequence[ListeningRow] = (),
    columns: Sequence[str] = ("real", "fake"),
    rows_text: str = "",
    settings: Mapping[str, str | int | float | None] | None = None,
    notes: Sequence[str] = (),
    command: str | None = None,
) -> Path:
    """Write the page, the figures (SVG and PNG) and the numbers (JSON) of a comparison of audio.

    Args:
        comparison: from [`LongTermSets.compute`][passband.reports.LongTermSets].
        out: folder for index.html, results.json and figures/; made if missing, files of these names are replaced.
        frechet: the Fréchet audio distance.
        measured: what was measured clip by clip.
        rows: clips to listen to.
        columns: what each column of them is.
        rows_text: how they were chosen.
        settings: what was compared and how, shown as a table.
        notes: warnings, one paragraph each.
        command: the command that made it; None: that of this process.

    Returns:
        The path of index.html.

    """
    out, settings = Path(out), dict(settings or {})
    command = current_command() if command is None else command
    document = {
        **audio_numbers(comparison, frechet, measured),
        "settings": settings,
        "notes": list(notes),
        "command": command,
        "versions": installed_versions(),
    }
    write_file(out / "results.json", (json.dumps(finite(document), indent=2) + "\n").encode())
    listening = [listening_section("To listen to", rows, out, columns=columns, text=rows_text)] if rows else []
    warnings = [Text(note, "warning") for note in notes]
    page = Page(
        title="Real and fake audio",
        summary=describe_audio(comparison),
        sections=[
            Section("The result", [Numbers(headline(comparison, frechet, measured)), *warnings]),
            *listening,
            *long_term_sections(comparison, out),
            *measure_sections(measured),
            Section("What was compared", [_settings_table(comparison, frechet, settings)]),
            Section("How it is measured", [Text(_METHOD), Text(VERDICT_METHOD)]),
        ],
        command=command,
    )
    return write_page(page, out / "index.html")


def headline(
    comparison: LongTermComparison,
    frechet: FrechetComparison | None = None,
    measured: Sequence[MeasuredClips] = (),
) -> list[Number]:
    """The few numbers a reader came for, for a [`Numbers`][passband.reports.Numbers] block."""
    result, chance = comparison.result, comparison.chance_lsd
    muffled = muffling(comparison)
    numbers = [
        Number("Distance of the long-term spectra", f"{result.lsd:.2f} dB", _reference(chance, "dB")),
    ]
    if muffled is not None:
        numbers.insert(0, Number("Muffled above", kilohertz(muffled.low), f"by {-muffled.mean:.1f} dB"))
    if frechet is not None:
        remark = _reference(frechet.reference, "") or f"{frechet.result.fake_count:,} windows"
        numbers.append(Number("Fréchet audio distance", three_digits(frechet.result.distance), remark))
    for clips in measured[:3]:
        mean, error, count = mean_and_error(clips.fake)
        remark = f"± {error:.2g}, {count:,} {'pairs' if clips.measure.paired else 'clips'}"
        if clips.real:
            remark += f"; real {mean_and_error(clips.real)[0]:.3g}"
        numbers.append(Number(clips.measure.title, f"{mean:.3g} {clips.measure.unit}".strip(), remark))
    return numbers


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
    figures = {
        "bands": band_difference_figure(bands, {"fake": biases}, reference=chance),
        "long-term": long_term_figure(
            result.frequencies,
            {"real": result.psd_real, "fake": result.psd_fake},
            errors={"real": result.error_real, "fake": result.error_fake},
        ),
        "mel": mel_figure(comparison),
    }
    svg = {name: to_svg(figure) for name, figure in figures.items()}
    for name, figure in figures.items():
        write_file(folder / f"{name}.svg", svg[name].encode())
        write_file(folder / f"{name}.png", to_png(figure))
    octaves = "; ".join(f"around {kilohertz(band.centre)}: {signed(band.bias)} dB" for band in result.octaves)
    grey = "" if chance is None else " Grey: what chance makes, one half of the real clips against the other."
    blocks: list[Block] = [
        Figure(
            svg["bands"],
            f"Power of the fake audio relative to the real in each third of an octave.{grey}",
            alt=f"Bar chart of the power difference in decibels over the frequency. Mean per octave: {octaves}.",
        ),
        _octave_table(comparison),
        Figure(
            svg["long-term"],
            "Long-term average spectra. Shaded: two standard errors over clips.",
            alt="Two curves of power in decibels over a logarithmic frequency axis, real and fake.",
        ),
        Figure(
            svg["mel"],
            "The same by mel bands, which are as wide as hearing resolves: the balance of energy.",
            alt=f"Bar chart of the power difference per mel band; from {signed(float(result.mel_db.min()))} to "
            f"{signed(float(result.mel_db.max()))} dB.",
        ),
    ]
    return [Section("Where the spectra differ", blocks)]


def mel_figure(comparison: LongTermComparison) -> "MatplotlibFigure":
    """Difference of the energy in each mel band; bands meet half way between their centres."""
    centres = comparison.result.mel_frequencies.tolist()
    middles = [(low + high) / 2 for low, high in pairwise(centres)]
    edges = [max(2 * centres[0] - middles[0], 20.0), *middles, comparison.result.sample_rate / 2]
    bands = list(pairwise(edges))
    return band_difference_figure(bands, {"fake": comparison.result.mel_db})


def measure_sections(measured: Sequence[MeasuredClips]) -> list[Section]:
    """The sections of a page that show what was measured clip by clip; none if nothing was."""
    if not measured:
        return []
    rows: list[list[Cell]] = []
    for clips in measured:
        mean, error, count = mean_and_error(clips.fake)
        real = mean_and_error(clips.real)[:2] if clips.real else None
        kind = "pairs" if clips.measure.paired else "clips"
        rows.append(
            [clips.title, clips.measure.better, _pm(mean, error), _pm(*real) if real else None, f"{count:,} {kind}"]
        )
    blocks: list[Block] = [
        Table(["Measure", "Better", "Fake", "Real", "Of"], rows, caption="Mean and standard error over clips."),
        *_clip_tables(measured),
    ]
    return [Section("Clip by clip", blocks)]


def _clip_tables(measured: Sequence[MeasuredClips]) -> list[Block]:
    """One table for the measures of each list of clips."""
    tables: list[Block] = []
    for names in dict.fromkeys(tuple(clips.names) for clips in measured):
        group = [clips for clips in measured if tuple(clips.names) == names]
        rows = [[name, *(f"{clips.fake[i]:.3f}" for clips in group)] for i, name in enumerate(names[:_CLIPS_SHOWN])]
        left = len(names) - _CLIPS_SHOWN
        caption = f"The first {_CLIPS_SHOWN}; {left:,} more are in results.json." if left > 0 else ""
        tables.append(Table(["Clip", *(clips.title for clips in group)], rows, caption=caption))
    return tables


def _octave_table(comparison: LongTermComparison) -> Table:
    rows: list[list[Cell]] = [
        [f"{kilohertz(band.low)} – {kilohertz(band.high)}", f"{band.lsd:.2f}", signed(band.bias)]
        for band in comparison.result.octaves
    ]
    return Table(["Octave", "Log-spectral distance (dB)", "Mean difference (dB)"], rows)


def _settings_table(
    comparison: LongTermComparison, frechet: FrechetComparison | None, settings: Mapping[str, object]
) -> Table:
    result = comparison.result
    rows: list[list[Cell]] = [
        ["real clips", f"{result.real_count:,}"],
        ["fake clips", f"{result.fake_count:,}"],
        ["sample rate", f"{result.sample_rate} Hz"],
        ["frames", f"{result.n_fft} samples"],
        ["floor", f"{result.floor:g} of the real power"],
    ]
    if frechet is not None:
        rows.append(["embedding of the Fréchet distance", frechet.result.features])
    return Table(["Setting", "Value"], [*rows, *([name, str(value)] for name, value in settings.items())])


def three_digits(value: float) -> str:
    """A distance of any size without an exponent: < 0.001, 0.0123, 2.09, 10,497."""
    if abs(value) < 1e-3:
        return "< 0.001"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _reference(value: float | None, unit: str) -> str:
    return "" if value is None else f"real against real: {three_digits(value)} {unit}".rstrip()


def _pm(mean: float, error: float) -> str:
    return f"{mean:.3f} ± {error:.3f}" if error == error else f"{mean:.3f}"
