"""`passband compare` of two folders of audio: their long-term spectra, their pairs, and players to listen to both."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from passband.data import AudioFolder
from passband.data.listing import sample_rates
from passband.metrics import AudioMeasure, load_audio_embedding, load_audio_measure
from passband.reports.audio_compare import audio_compare_report, three_digits
from passband.reports.audio_folders import (
    AudioFound,
    AudioPairs,
    frame_length,
    listening_rows,
    measure_audio,
    pair_by_name,
)
from passband.reports.audio_results import mean_and_error
from passband.reports.audio_verdict import describe_audio, kilohertz
from passband.reports.compare import left_out_note, signed

DEFAULT_METRICS = "mr_stft,lsd"
_CACHE = 256 << 20  # bytes of decoded clips kept for the players


class AudioOptions(NamedTuple):
    """How two folders of audio are compared; see `passband compare --help`."""

    sample_rate: int | None = None
    metrics: str | None = None
    embedding: str = "mel"
    players: int = 6
    limit: int | None = None
    strict: bool = False


def compare_audio(real: Path, fake: Path, out: Path, options: AudioOptions) -> None:
    """Compare two folders of audio; writes index.html, results.json and figures/ into out."""
    notes: list[str] = []
    measures = _measures(options.metrics, notes)
    embedding = load_audio_embedding(options.embedding)
    with _progress() as progress:
        rate = _common_rate({"real": real, "fake": fake}, options.sample_rate, notes, progress)
        sides = [_open(name, path, rate, options.strict, progress) for name, path in (("real", real), ("fake", fake))]
        clips = AudioPairs(sides[0], sides[1], pair_by_name(sides[0].names, sides[1].names, options.limit))
        _check_pairs(clips, measures, options.metrics)
        task = progress.add_task("measuring", total=len(clips.sounds))
        found = measure_audio(clips, measures, embedding, lambda: progress.advance(task))
    for name, side in zip(("real", "fake"), sides, strict=True):
        notes += [note.replace("images", "clips") for note in left_out_note(name, side.skipped)]
    notes += found.notes
    rows, text = listening_rows(clips, found, options.players)
    page = audio_compare_report(
        found.comparison,
        out,
        frechet=found.frechet,
        measured=found.measured,
        rows=rows,
        rows_text=text,
        settings={
            "real from": str(real),
            "fake from": str(fake),
            "pairs of one name": found.pairs,
            "limit": options.limit or "none",
        },
        notes=notes,
    )
    console = Console()
    _print(console, found)
    for note in notes:
        console.print(note, style="yellow", markup=False)
    console.print(f"Page: {page}", markup=False, soft_wrap=True)


def _check_pairs(clips: AudioPairs, measures: Sequence[AudioMeasure], asked: str | None) -> None:
    """Raise if a measure of pairs is asked for and there are none."""
    paired = [measure.name for measure in measures if measure.paired]
    if asked is not None and paired and not any(sound.paired for sound in clips.sounds):
        raise ValueError(
            f"{', '.join(paired)} compare pairs of one name, and no file has the same name in {clips.real.path!r} "
            f"({clips.real.names[0]!r}, ...) and {clips.fake.path!r} ({clips.fake.names[0]!r}, ...); name the "
            "generated files as the real ones, or leave these metrics out"
        )


def _measures(names: str | None, notes: list[str]) -> list[AudioMeasure]:
    specs = [name.strip() for name in (DEFAULT_METRICS if names is None else names).split(",") if name.strip()]
    measures = []
    for measure in (load_audio_measure(spec) for spec in dict.fromkeys(specs) if spec != "none"):
        reason = measure.unavailable()
        if reason is None:
            measures.append(measure)
        elif names is not None:
            raise ValueError(f"cannot measure {measure.name!r}: {reason}")
        else:
            notes.append(f"Not measured: {reason}.")
    return measures


def _common_rate(folders: dict[str, Path], asked: int | None, notes: list[str], progress: Progress) -> int:
    """The sample rate of the comparison: what was asked for, or the lower of the two folders' commonest."""
    rates = {name: _rates(name, path, progress) for name, path in folders.items()}
    common = {name: found.most_common(1)[0][0] for name, found in rates.items() if found}
    if asked is None and not common:
        return 16000  # no file can be read: AudioFolder says why
    rate = min(common.values()) if asked is None else asked
    for name, found in rates.items():
        below = sum(count for other, count in found.items() if other < rate)
        above = sum(count for other, count in found.items() if other > rate)
        if below:
            notes.append(
                f"{below:,} of {found.total():,} {name} clips have a sample rate below {rate} Hz (the lowest is "
                f"{min(found)}): they have nothing in the highest frequencies compared. Use --sample-rate {min(found)}."
            )
        if above:
            notes.append(f"{above:,} of {found.total():,} {name} clips were resampled to {rate} Hz.")
    return rate


def _rates(name: str, path: Path, progress: Progress) -> Counter[int]:
    task = progress.add_task(f"{name}: sample rates", total=None)
    found = sample_rates(path, lambda done, total: progress.update(task, completed=done, total=total))
    progress.remove_task(task)
    return found


def _open(name: str, path: Path, rate: int, strict: bool, progress: Progress) -> AudioFolder:
    task = progress.add_task(f"{name}: reading headers", total=None)
    data = AudioFolder(
        path,
        rate,
        length=frame_length(rate),  # what is shorter has no frame
        hop_length=frame_length(rate),
        strict=strict,
        cache_bytes=_CACHE,
        progress=lambda done, total: progress.update(task, completed=done, total=total),
    )
    progress.remove_task(task)
    return data


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _print(console: Console, found: AudioFound) -> None:
    result = found.comparison.result
    table = Table(title="Long-term average spectrum, fake against real", title_justify="left")
    table.add_column("octave")
    table.add_column("distance (dB)", justify="right")
    table.add_column("mean difference (dB)", justify="right")
    for band in result.octaves:
        table.add_row(f"{kilohertz(band.low)} – {kilohertz(band.high)}", f"{band.lsd:.2f}", signed(band.bias))
    table.add_section()
    table.add_row("all", f"{result.lsd:.2f}", signed(float(result.ratio_db[1:].mean())), style="bold")
    console.print(table)
    lines = Table(title="\nMeasures", title_justify="left")
    for column in ("measure", "fake", "standard error", "real", "of"):
        lines.add_column(column, justify="left" if column in ("measure", "of") else "right")
    if found.frechet is not None:
        distance = found.frechet.result
        halves = found.frechet.reference
        remark = f"{distance.fake_count:,} windows" + (
            "" if halves is None else f"; real against real {three_digits(halves)}"
        )
        lines.add_row(
            f"Fréchet audio distance ({distance.features.partition(',')[0]})",
            three_digits(distance.distance),
            "",
            "",
            remark,
        )
    for clips in found.measured:
        mean, error, count = mean_and_error(clips.fake)
        real = f"{mean_and_error(clips.real)[0]:.3f}" if clips.real else ""
        spread = f"{error:.3f}" if math.isfinite(error) else "–"  # of one clip
        lines.add_row(
            clips.title, f"{mean:.3f}", spread, real, _counted(count, "pair" if clips.measure.paired else "clip")
        )
    if lines.row_count:
        console.print(lines)
    console.print(
        f"{result.real_count:,} real and {_counted(result.fake_count, 'fake clip')}, "
        f"{_counted(found.pairs, 'pair')} of one name.",
        markup=False,
    )
    console.print(describe_audio(found.comparison), markup=False)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"
