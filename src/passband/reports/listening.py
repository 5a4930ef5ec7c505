"""A page to listen to: a row per clip, a player and a spectrogram per column, all in one file."""

import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from passband._checks import check_floating, import_extra
from passband.reports.figures import page_figure
from passband.reports.page import (
    Audio,
    Block,
    Cell,
    Columns,
    Number,
    Numbers,
    Page,
    Section,
    Text,
    current_command,
    write_file,
    write_page,
)
from passband.reports.spectrograms import (
    DYNAMIC_RANGE,
    Spectrogram,
    clip_picture,
    colour_scale,
    shared_range,
    spectrogram,
)

EMBED_LIMIT = 16 << 20


@dataclass(frozen=True)
class ListeningClip:
    """One clip of a row.

    Args:
        audio: (samples,), full scale 1; samples beyond are clipped in the player.
        sample_rate: Hz.
        numbers: what was measured of it, shown below its player: name, with the unit, to value.

    Raises:
        TypeError: if audio is not floating.
        ValueError: if audio is not one clip with samples.

    """

    audio: Float[Tensor, " samples"]
    sample_rate: int
    numbers: Mapping[str, Cell] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_floating("audio", self.audio)
        if self.audio.ndim != 1 or not len(self.audio):
            raise ValueError(f"a clip must have shape (samples,) with samples, got {tuple(self.audio.shape)}")


@dataclass(frozen=True)
class ListeningRow:
    """The versions of one sound: the original, that of one model, that of another.

    Args:
        name: of the sound, the file's name say.
        clips: one per column of the page; None where a column has no such clip.
        note: a remark below the name.

    """

    name: str
    clips: Sequence[ListeningClip | None]
    note: str = ""


def encode_audio(audio: Float[Tensor, " samples"], sample_rate: int) -> bytes:
    """A clip as FLAC data of 16 bits, without loss but for the rounding.

    Args:
        audio: (samples,), full scale 1; samples beyond are clipped.
        sample_rate: Hz.

    Raises:
        MissingExtraError: if soundfile is not installed.
        ValueError: if audio holds values that are not finite.

    Example:
        >>> import torch
        >>> from passband.reports import encode_audio
        >>> encode_audio(torch.zeros(100), 16000)[:4]
        b'fLaC'

    """
    if not audio.isfinite().all():
        raise ValueError("audio holds values that are not finite and cannot be played")
    soundfile = import_extra("soundfile", "audio")
    stream = io.BytesIO()
    samples = audio.detach().float().cpu().clamp(-1, 1).numpy()
    soundfile.write(stream, samples, sample_rate, format="FLAC", subtype="PCM_16")
    return stream.getvalue()


def listening_page(
    title: str,
    rows: Sequence[ListeningRow],
    out: str | os.PathLike[str],
    *,
    summary: str,
    columns: Sequence[str],
    numbers: Sequence[Number] | None = None,
    notes: Sequence[str] = (),
    axis: str = "linear",
    embed_limit: int = EMBED_LIMIT,
    command: str | None = None,
) -> Path:
    """Write a page to listen to: per row a player and a spectrogram in each column, with one scale for the row.

    Args:
        title: heading and browser title.
        rows: the sounds, in order.
        out: folder for index.html, made if missing; with the players that index.html does not hold, in audio/.
        summary: what is heard, in a sentence or two.
        columns: what each column is: `["original", "baseline", "with amplitude loss"]`.
        numbers: the few numbers a reader came for, above the players.
        notes: warnings, one paragraph each.
        axis: of the spectrograms' frequencies, `"linear"` or `"mel"`.
        embed_limit: bytes of FLAC that the page holds; what is beyond lies beside it in files.
        command: the command that made it; None: that of this process.

    Returns:
        The path of index.html.

    Raises:
        MissingExtraError: if soundfile or matplotlib is not installed.
        ValueError: if there is no row, or one has not as many clips as there are columns.

    Example:
        >>> import tempfile, torch
        >>> from passband.reports import ListeningClip, ListeningRow, listening_page
        >>> noise = ListeningClip(torch.randn(4000).clamp(-1, 1) / 4, 8000)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     page = listening_page("Noise", [ListeningRow("a", [noise])], folder, summary="Hiss.", columns=["real"])
        ...     page.name, "<audio controls" in page.read_text()
        ('index.html', True)

    """
    first: list[Block] = [] if numbers is None else [Numbers(numbers)]
    section = listening_section("To listen to", rows, out, columns=columns, axis=axis, embed_limit=embed_limit)
    warnings = [Text(note, "warning") for note in notes]
    page = Page(
        title=title,
        summary=summary,
        sections=[*([Section("The result", [*first, *warnings])] if first or warnings else []), section],
        command=current_command() if command is None else command,
    )
    return write_page(page, Path(out) / "index.html")


def listening_section(
    title: str,
    rows: Sequence[ListeningRow],
    out: str | os.PathLike[str],
    *,
    columns: Sequence[str],
    axis: str = "linear",
    text: str = "",
    embed_limit: int = EMBED_LIMIT,
) -> Section:
    """The rows of [`listening_page`][passband.reports.listening_page] as a section of a page of one's own.

    Args:
        title: of the section.
        rows: the sounds, in order.
        out: the page's folder; players beyond the limit get their files in audio/ there.
        columns: what each column is.
        axis: of the spectrograms' frequencies, `"linear"` or `"mel"`.
        text: a paragraph above the rows.
        embed_limit: bytes of FLAC that the page holds.

    Raises:
        MissingExtraError: if soundfile or matplotlib is not installed.
        ValueError: if there is no row, or one has not as many clips as there are columns.

    """
    if not rows:
        raise ValueError("rows is empty; a page to listen to needs at least one row of clips")
    for row in rows:
        if len(row.clips) != len(columns):
            raise ValueError(
                f"row {row.name!r} has {len(row.clips)} clips for {len(columns)} columns ({', '.join(columns)}); "
                "use None where a column has no such clip"
            )
    store = _Store(Path(out), embed_limit)
    blocks = [_row(number, row, columns, axis, store) for number, row in enumerate(rows)]
    scale = page_figure(
        colour_scale(),
        caption="The colours of the spectrograms. The clips of a row share one scale, from their loudest point down, "
        "so they can be compared: what one of them lacks is dark there.",
        alt=f"Colour scale from black, {DYNAMIC_RANGE:.0f} dB below the loudest point, to light yellow at that point.",
    )
    return Section(title, [*([Text(text)] if text else []), *(block for row in blocks for block in row), scale])


class _Store:
    """Where the players' sound goes: into the page until the limit is reached, then beside it."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.left = folder, limit

    def keep(self, data: bytes, name: str) -> bytes | str:
        if len(data) <= self.left:
            self.left -= len(data)
            return data
        plain = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "clip"
        path = f"audio/{plain}.flac"
        write_file(self.folder / path, data)
        return path


def _row(number: int, row: ListeningRow, columns: Sequence[str], axis: str, store: _Store) -> list[Block]:
    shown = [_spectrogram(clip) for clip in row.clips]
    drawn = [clip for clip in shown if clip is not None]
    scale = shared_range(drawn) if drawn else (0.0, 0.0)
    seconds = max((clip.seconds for clip in drawn), default=0.0)
    f_max = max((clip.sample_rate / 2 for clip in drawn), default=0.0)
    cells: list[list[Block]] = []
    for column, clip, spectrum in zip(columns, row.clips, shown, strict=True):
        if clip is None:
            cells.append([Text(f"{column}: no such clip.", "note")])
        elif spectrum is None:
            cells.append([Text(f"{column}: holds values that are not finite and cannot be played.", "warning")])
        else:
            picture = clip_picture(spectrum, scale, axis=axis, seconds=seconds, f_max=f_max)
            data = store.keep(encode_audio(clip.audio, clip.sample_rate), f"{number:03d}-{row.name}-{column}")
            alt = f"{column}: {row.name}, {spectrum.seconds:.1f} seconds, with its spectrogram"
            cells.append([Audio(data, _caption(clip), alt, picture, title=column)])
    note: list[Block] = [Text(row.note)] if row.note else []
    return [Columns(cells, title=row.name), *note]


def _spectrogram(clip: ListeningClip | None) -> Spectrogram | None:
    if clip is None or not clip.audio.isfinite().all():
        return None
    return spectrogram(clip.audio, clip.sample_rate)


def _caption(clip: ListeningClip) -> str:
    return " · ".join(f"{name} {_shown(value)}" for name, value in clip.numbers.items())


def _shown(value: Cell) -> str:
    if value is None or value != value:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
