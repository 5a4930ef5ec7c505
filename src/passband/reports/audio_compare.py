"""What a comparison of audio shows beside the spectra: players, the Fréchet audio distance, measures of clips."""

import math
import os
from collections.abc import Sequence

from passband.reports.audio_results import FrechetComparison, MeasuredClips, clip_numbers, mean_and_error
from passband.reports.listening import ListeningRow, listening_section
from passband.reports.page import Block, Cell, Details, Number, Section, Shown, Table
from passband.reports.spectrum.report import Beside

_CLIPS_SHOWN = 200  # rows of the table of clips; results.json holds all


def beside_audio(
    out: str | os.PathLike[str],
    *,
    frechet: FrechetComparison | None = None,
    measured: Sequence[MeasuredClips] = (),
    rows: Sequence[ListeningRow] = (),
    rows_text: str = "",
) -> Beside:
    """What stands beside the spectra of audio on the page; long sounds are written beside it.

    Args:
        out: the page's folder.
        frechet: the Fréchet audio distance.
        measured: what was measured clip by clip.
        rows: clips to listen to, real and fake.
        rows_text: how they were chosen.

    """
    players = [listening_section("To listen to", rows, out, columns=("real", "fake"), text=rows_text)] if rows else []
    return Beside(_headline(frechet, measured), players, measure_sections(measured), clip_numbers(frechet, measured))


def _headline(frechet: FrechetComparison | None, measured: Sequence[MeasuredClips]) -> list[Number]:
    """The few numbers a reader came for."""
    numbers = []
    if frechet is not None:
        remark = _reference(frechet.reference) or f"{frechet.result.fake_count:,} windows"
        numbers.append(Number("Fréchet audio distance", three_digits(frechet.result.distance), remark))
    for clips in measured[:3]:
        mean, error, count = mean_and_error(clips.fake)
        remark = f"± {error:.2g}, {count:,} {'pairs' if clips.measure.paired else 'clips'}"
        if clips.real:
            remark += f"; real {mean_and_error(clips.real)[0]:.3g}"
        title = f"{clips.measure.title} of pairs" if clips.measure.paired else clips.measure.title
        numbers.append(Number(title, f"{mean:.3g} {clips.measure.unit}".strip(), remark))
    return numbers


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
        Details("Each clip", _clip_tables(measured)),
    ]
    return [Section("Clip by clip", blocks)]


def _clip_tables(measured: Sequence[MeasuredClips]) -> list[Block]:
    """One table for the measures of each list of clips."""
    tables: list[Block] = []
    for names in dict.fromkeys(tuple(clips.names) for clips in measured):
        group = [clips for clips in measured if tuple(clips.names) == names]
        rows: list[list[Cell]] = [
            [name, *(_shown(clips.fake[i]) for clips in group)] for i, name in enumerate(names[:_CLIPS_SHOWN])
        ]
        left = len(names) - _CLIPS_SHOWN
        caption = f"The first {_CLIPS_SHOWN}; {left:,} more are in results.json." if left > 0 else ""
        tables.append(Table(["Clip", *(clips.title for clips in group)], rows, caption=caption, sortable=True))
    return tables


def _shown(value: float) -> Cell:
    return Shown(f"{value:.3f}" if math.isfinite(value) else "–", value)


def three_digits(value: float) -> str:
    """A distance of any size without an exponent: < 0.001, 0.0123, 2.09, 10,497."""
    if abs(value) < 1e-3:
        return "< 0.001"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _reference(value: float | None) -> str:
    return "" if value is None else f"real against real: {three_digits(value)}"


def _pm(mean: float, error: float) -> str:
    return f"{mean:.3f} ± {error:.3f}" if error == error else f"{mean:.3f}"
