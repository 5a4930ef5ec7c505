"""One self-contained HTML page out of plain data: no script, no network, light and dark, wide and narrow screens."""

import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from passband import __version__
from passband._files import written_whole
from passband.reports._markup import data_uri, escape, render_block
from passband.reports._stylesheet import CSS
from passband.reports.blocks import (
    Audio,
    Block,
    Cell,
    Code,
    Columns,
    Figure,
    Number,
    Numbers,
    Section,
    Table,
    Text,
    Tone,
)

__all__ = [
    "Audio",
    "Block",
    "Cell",
    "Code",
    "Columns",
    "Figure",
    "Number",
    "Numbers",
    "Page",
    "Section",
    "Table",
    "Text",
    "Tone",
    "current_command",
    "data_uri",
    "installed_versions",
    "render_page",
    "write_file",
    "write_page",
]


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


# Pictures are inside; sounds too, but for those too large, which lie beside the page.
_POLICY = "default-src 'none'; img-src data:; media-src data: 'self' file:; style-src 'unsafe-inline'"


def render_page(page: Page) -> str:
    """The page as HTML source; all text is escaped, all pictures are inside."""
    sections = "\n".join(
        f"<section>\n<h2>{escape(section.title)}</h2>\n{''.join(map(render_block, section.blocks))}</section>"
        for section in page.sections
    )
    command = f"<p>Made by</p><pre><code>{escape(page.command)}</code></pre>" if page.command else ""
    versions = " · ".join(f"{escape(name)} {escape(version)}" for name, version in page.versions.items())
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(page.title)}</title>
<style>{CSS}</style>
</head>
<body>
<main>
<header>
<h1>{escape(page.title)}</h1>
<p class="summary">{escape(page.summary)}</p>
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
    with written_whole(path, synced=False) as partial:
        partial.write_bytes(data)
    return path
