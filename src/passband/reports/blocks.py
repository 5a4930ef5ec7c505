"""What a page is made of: plain data, checked when made."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from passband._checks import check_choice

Tone = Literal["plain", "note", "warning"]


@dataclass(frozen=True)
class Shown:
    """A cell of a table that is shown as a text and sorted by a number.

    Args:
        text: what is read ("1/4 to 1/2", "−3.1 dB [−3.3, −2.9]").
        value: what the column is sorted by; None or NaN comes last.
        marked: set in bold: what a reader should not miss. Say in the table's caption what bold means.

    """

    text: str
    value: float | None
    marked: bool = False


Cell = str | int | float | Shown | None


@dataclass(frozen=True)
class Text:
    """A paragraph of plain text.

    Args:
        text: the paragraph; a blank line starts another one.
        tone: `"plain"`, `"note"` (set off, quieter) or `"warning"` (set off, marked).

    """

    text: str
    tone: Tone = "plain"

    def __post_init__(self) -> None:
        check_choice("tone", self.tone, ("plain", "note", "warning"))


@dataclass(frozen=True)
class Heading:
    """A small heading within a section."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list of short texts, one after the other, with bullets."""

    texts: Sequence[str]


@dataclass(frozen=True)
class Code:
    """Lines to be shown as they are, in a fixed-width font."""

    text: str


@dataclass(frozen=True)
class Number:
    """One large number of a [`Numbers`][passband.reports.Numbers] row: what it is, its value with unit, a remark."""

    label: str
    value: str
    remark: str = ""


@dataclass(frozen=True)
class Numbers:
    """The few numbers a reader came for, large, side by side."""

    items: Sequence[Number]


@dataclass(frozen=True)
class Figure:
    """A picture with a caption.

    Args:
        image: SVG source (str), or PNG data (bytes).
        caption: what to see in it; shown below.
        alt: what the picture shows, for those who cannot see it; required.
        pixelated: enlarge a PNG without smoothing.
        transparent: the PNG lets the page through, so that it needs no white card in the dark. A figure of `to_svg`
            follows the page's theme by itself.
        narrow: the same figure laid out for a narrow screen, shown there instead.
        files: names of the same figure's files, relative to the page's folder; linked below the caption.

    Raises:
        ValueError: if alt is empty, the image is neither SVG nor PNG, or a file is not beside the page.

    """

    image: str | bytes
    caption: str
    alt: str
    pixelated: bool = False
    transparent: bool = False
    narrow: str | bytes | None = None
    files: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.alt.strip():
            raise ValueError("a figure needs an alt text: say in one sentence what it shows")
        check_picture(self.image)
        if self.narrow is not None:
            check_picture(self.narrow)
        for name in self.files:
            if not _beside(name):
                raise ValueError(f"a figure's files are named relative to the page's folder, got {name!r}")


@dataclass(frozen=True)
class Audio:
    """A player of a sound, with a picture above it if there is one (its spectrogram, say).

    Args:
        data: FLAC or WAV data, which the page then holds; or the name of a file, relative to the page's folder.
        caption: what is heard; shown below.
        alt: the player's name for those who cannot see the page; required.
        picture: SVG source (str) or PNG data (bytes), shown above the player. The alt text names it too, so say in one
            sentence what is heard and seen.
        title: one short line above all.

    Raises:
        ValueError: if alt is empty, the data is neither FLAC nor WAV, the file has another suffix or is not beside the
            page, or the picture is neither SVG nor PNG.

    """

    data: bytes | str
    caption: str
    alt: str
    picture: str | bytes | None = None
    title: str = ""

    def __post_init__(self) -> None:
        if not self.alt.strip():
            raise ValueError("a player needs an alt text: say in one sentence what is heard")
        if isinstance(self.data, bytes):
            audio_type(self.data)
        elif not self.data.endswith((".flac", ".wav")) or not _beside(self.data):
            raise ValueError(
                f"a player takes FLAC or WAV data (bytes), or the name of a .flac or .wav file relative to the page's "
                f"folder; got {self.data!r}"
            )
        if self.picture is not None:
            check_picture(self.picture)


@dataclass(frozen=True)
class Table:
    """A table; numbers are set to the right, None and NaN become a dash.

    Args:
        columns: the heads, units included.
        rows: one sequence of cells per row. Floats are shown with 4 significant digits; pass text for other formats,
            or [`Shown`][passband.reports.Shown] where the text's own first number is not what to sort by.
        caption: shown above.
        sortable: the heads are buttons that sort the rows. For tables whose rows stand for themselves: one that leaves
            repeated names out, or ends in a mean, does not survive it.

    Raises:
        ValueError: if a row has not as many cells as there are columns.

    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    sortable: bool = False

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(f"row {number} has {len(row)} cells for {len(self.columns)} columns: {list(row)}")


@dataclass(frozen=True)
class Columns:
    """Blocks side by side where the screen is wide enough, below each other where it is not.

    Args:
        columns: the blocks of each column.
        title: a small heading above.
        wide: for columns that need room: they take more of the screen than the text does, and stand below each other
            where there is not more of it.

    """

    columns: Sequence[Sequence["Block"]]
    title: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Details:
    """Blocks that are folded away until the reader opens them; on paper they are open.

    Args:
        title: the line that is always seen.
        blocks: what opens.

    """

    title: str
    blocks: Sequence["Block"]


Block = Text | Heading | Items | Code | Numbers | Figure | Audio | Table | Columns | Details


@dataclass(frozen=True)
class Section:
    """A headed part of the page."""

    title: str
    blocks: Sequence[Block]


def check_picture(image: str | bytes) -> None:
    """Raise ValueError unless image is SVG source or PNG data."""
    known = image.startswith(b"\x89PNG") if isinstance(image, bytes) else "<svg" in image
    if not known:
        raise ValueError("the image must be SVG source (str) or PNG data (bytes), see to_svg and to_png")


def _beside(name: str) -> bool:
    """Whether a file's name is relative and names no other scheme."""
    return bool(name) and ":" not in name and not name.startswith(("/", "\\"))


def audio_type(data: bytes) -> str:
    """The media type of FLAC or WAV data; ValueError if it is neither."""
    if data[:4] == b"fLaC":
        return "audio/flac"
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "audio/wav"
    raise ValueError(f"the audio must be FLAC or WAV data, got bytes that begin with {data[:4]!r}; see encode_audio")
