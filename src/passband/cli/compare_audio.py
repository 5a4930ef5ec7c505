"""What `passband compare` prints of two folders of audio beside their spectra."""

import math

from rich.console import Console
from rich.table import Table

from passband.reports.audio_compare import three_digits
from passband.reports.audio_folders import AudioFound
from passband.reports.audio_results import mean_and_error


def print_clips(console: Console, found: AudioFound) -> None:
    """The table of the Fréchet audio distance and of the measures of clips."""
    table = Table(title="\nMeasures", title_justify="left")
    for column in ("measure", "fake", "standard error", "real", "of"):
        table.add_column(column, justify="left" if column in ("measure", "of") else "right")
    if found.frechet is not None:
        distance, halves = found.frechet.result, found.frechet.reference
        against = "" if halves is None else f"; real against real {three_digits(halves)}"
        name = f"Fréchet audio distance ({distance.features.partition(',')[0]})"
        table.add_row(name, three_digits(distance.distance), "", "", f"{distance.fake_count:,} windows{against}")
    for clips in found.measured:
        mean, error, count = mean_and_error(clips.fake)
        real = f"{mean_and_error(clips.real)[0]:.3f}" if clips.real else ""
        spread = f"{error:.3f}" if math.isfinite(error) else "–"  # of one clip
        of = _counted(count, "pair" if clips.measure.paired else "clip")
        table.add_row(clips.title, f"{mean:.3f}", spread, real, of)
    if table.row_count:
        console.print(table)
    console.print(f"{_counted(found.pairs, 'pair')} of one name.", markup=False)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"
