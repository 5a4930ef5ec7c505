"""One self-contained HTML page out of plain data: no script, no network, light and dark, wide and narrow screens."""

import base64
import contextlib
import html
import math
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from passband import __version__
from passband._checks import check_choice

Cell = str | int | float | None
Tone = Literal["plain", "note", "warning"]


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

    Raises:
        ValueError: if alt is empty, or the image is neither SVG nor PNG.

    """

    image: str | bytes
    caption: str
    alt: str
    pixelated: bool = False

    def __post_init__(self) -> None:
        if not self.alt.strip():
            raise ValueError("a figure needs an alt text: say in one sentence what it shows")
        if isinstance(self.image, bytes):
            known = self.image.startswith(b"\x89PNG")
        else:
            known = "<svg" in self.image
        if not known:
            raise ValueError("the image must be SVG source (str) or PNG data (bytes), see to_svg and to_png")


@dataclass(frozen=True)
class Table:
    """A table; numbers are set to the right, None and NaN become a dash.

    Args:
        columns: the heads, units included.
        rows: one sequence of cells per row. Floats are shown with 4 significant digits; pass text for other formats.
        caption: shown above.

    Raises:
        ValueError: if a row has not as many cells as there are columns.

    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(f"row {number} has {len(row)} cells for {len(self.columns)} columns: {list(row)}")


Block = Text | Code | Numbers | Figure | Table


@dataclass(frozen=True)
class Section:
    """A headed part of the page."""

    title: str
    blocks: Sequence[Block]


def installed_versions() -> dict[str, str]:
    """Versions of what decides a result: passband, torch, Python."""
    return {"passband": __version__, "torch": torch.__version__, "Python": platform.python_version()}


def current_command() -> str:
    """The command line of this process, quoted so that it can be pasted into a shell."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]) if sys.argv else ""


@dataclass(frozen=True)
class Page:
    """A report.

    Args:
        title: heading and browser title.
        summary: the result in a sentence or two of plain text; the first thing read.
        sections: the parts, in order.
        command: the exact command that made it, shown at the end.
        versions: shown at the end.

    Example:
        >>> from passband.reports import Page, Section, Table, Text, render_page
        >>> page = Page("Trial", "A < B.", [Section("Numbers", [Table(["k", "dB"], [[1, 0.5]]), Text("Fine.")])])
        >>> "<h1>Trial</h1>" in render_page(page), "A &lt; B." in render_page(page)
        (True, True)

    """

    title: str
    summary: str
    sections: Sequence[Section]
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=installed_versions)


def render_page(page: Page) -> str:
    """The page as HTML source; all text is escaped, all pictures are inside."""
    sections = "\n".join(
        f"<section>\n<h2>{_escape(section.title)}</h2>\n{''.join(map(_block, section.blocks))}</section>"
        for section in page.sections
    )
    command = f"<p>Made by</p><pre><code>{_escape(page.command)}</code></pre>" if page.command else ""
    versions = " · ".join(f"{_escape(name)} {_escape(version)}" for name, version in page.versions.items())
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{_escape(page.title)}</title>
<style>{_CSS}</style>
</head>
<body>
<main>
<header>
<h1>{_escape(page.title)}</h1>
<p class="summary">{_escape(page.summary)}</p>
</header>
{sections}
<footer>
{command}
<p>{versions}</p>
</footer>
</main>
</body>
</html>
"""


def write_page(page: Page, path: str | os.PathLike[str]) -> Path:
    """Write the page; the file appears whole or not at all.

    Args:
        page: the report.
        path: the file to write, its folder is made if missing.

    Returns:
        The path written.

    """
    return write_file(path, render_page(page).encode())


def write_file(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write a file whole or not at all: beside its place first, then moved there."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)  # mkstemp makes private files; a report is for others to read
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
    return path


def _escape(text: object) -> str:
    return html.escape(str(text), quote=True)


def _block(block: Block) -> str:
    match block:
        case Text():
            paragraphs = "".join(f"<p>{_escape(part)}</p>\n" for part in block.text.split("\n\n"))
            return paragraphs if block.tone == "plain" else f'<div class="{block.tone}">{paragraphs}</div>\n'
        case Code():
            return f"<pre><code>{_escape(block.text)}</code></pre>\n"
        case Numbers():
            return f'<dl class="numbers">{"".join(map(_number, block.items))}</dl>\n'
        case Figure():
            return _figure(block)
        case Table():
            return _table(block)


def _number(item: Number) -> str:
    remark = f'<dd class="remark">{_escape(item.remark)}</dd>' if item.remark else ""
    return f"<div><dt>{_escape(item.label)}</dt><dd>{_escape(item.value)}</dd>{remark}</div>"


def _figure(figure: Figure) -> str:
    kind = ' class="pixelated"' if figure.pixelated else ""
    source, alt = data_uri(figure.image), _escape(figure.alt)
    return (
        f'<figure><div class="card"><img{kind} src="{source}" alt="{alt}"></div>'
        f"<figcaption>{_escape(figure.caption)}</figcaption></figure>\n"
    )


def data_uri(image: str | bytes) -> str:
    """SVG source or PNG data as a data: URI (an SVG in an image can neither run scripts nor clash by ids)."""
    if isinstance(image, bytes):
        return f"data:image/png;base64,{base64.b64encode(image).decode()}"
    return f"data:image/svg+xml;base64,{base64.b64encode(image.encode()).decode()}"


def _table(table: Table) -> str:
    numeric = [_is_numeric([row[i] for row in table.rows]) for i in range(len(table.columns))]
    heads = "".join(
        f'<th scope="col"{_align(right)}>{_escape(name)}</th>'
        for name, right in zip(table.columns, numeric, strict=True)
    )
    rows = "".join(
        "<tr>"
        + "".join(f"<td{_align(right)}>{_cell(cell)}</td>" for cell, right in zip(row, numeric, strict=True))
        + "</tr>\n"
        for row in table.rows
    )
    caption = f"<caption>{_escape(table.caption)}</caption>" if table.caption else ""
    body = f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>"
    return f'<div class="scroll" tabindex="0"><table>{caption}{body}</table></div>\n'


def _is_numeric(cells: Sequence[Cell]) -> bool:
    """A column of numbers, or of texts that start like one ("3.1 dB", "−0.2 ± 0.1", "–")."""
    shown = [_cell(cell).lstrip("+-−±<>≈ ") for cell in cells]
    return bool(shown) and all(text[:1].isdigit() or text in ("", "–") for text in shown)


def _align(right: bool) -> str:
    return ' class="number"' if right else ""


def _cell(cell: Cell) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "–"
    return _escape(f"{cell:.4g}" if isinstance(cell, float) else cell)


_CSS = """
:root { --paper: #ffffff; --ink: #1b1f24; --quiet: #57606a; --line: #d0d7de; --soft: #f4f6f8; --accent: #0072b2;
  --warn: #9a4a00; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171b; --ink: #e6e9ec; --quiet: #a3acb5; --line: #363d45; --soft: #1e2329; --accent: #6bb8e8;
    --warn: #f0a860; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 58rem; margin: 0 auto; padding: clamp(1rem, 4vw, 3rem) clamp(1rem, 4vw, 2rem); }
h1 { font-size: clamp(1.5rem, 5vw, 2.1rem); line-height: 1.2; margin: 0 0 .75rem; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 2.75rem 0 .75rem; }
p { margin: .6rem 0; max-width: 44rem; }
.summary { font-size: 1.15rem; }
h1, h2, p, td, th, dd, figcaption { overflow-wrap: break-word; }
.numbers { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; margin: 1.25rem 0; }
.numbers div { min-width: 8rem; }
.numbers dt { color: var(--quiet); font-size: .875rem; }
.numbers dd { margin: 0; font-size: 1.6rem; line-height: 1.3; font-weight: 600; font-variant-numeric: tabular-nums; }
.numbers dd.remark { font-size: .875rem; font-weight: 400; color: var(--quiet); }
figure { margin: 1.25rem 0; }
.card { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: .5rem; overflow: hidden; }
.card img { display: block; width: 100%; height: auto; }
.card img.pixelated { image-rendering: pixelated; }
figcaption { color: var(--quiet); font-size: .9rem; margin-top: .5rem; max-width: 44rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; font-size: .95rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--quiet); font-size: .9rem; padding-bottom: .4rem;
  max-width: min(44rem, calc(100vw - 3rem)); }
th, td { text-align: left; vertical-align: top; padding: .35rem 1.25rem .35rem 0;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; vertical-align: bottom; }
th.number, td.number { text-align: right; padding-left: .75rem; }
td.number { white-space: nowrap; }
.note, .warning { background: var(--soft); border-left: 4px solid var(--accent); border-radius: 4px; margin: 1rem 0;
  padding: .25rem 1rem; max-width: 46rem; }
.warning { border-left-color: var(--warn); }
pre { background: var(--soft); border-radius: 6px; padding: .75rem 1rem; overflow-x: auto; font-size: .85rem;
  margin: .5rem 0; }
code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
footer { border-top: 1px solid var(--line); margin-top: 3rem; padding-top: .5rem; color: var(--quiet);
  font-size: .9rem; }
footer pre { white-space: pre-wrap; overflow-wrap: anywhere; color: var(--ink); }
@media print { body { font-size: 10pt; } figure, table { break-inside: avoid; } }
"""
