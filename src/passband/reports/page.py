"""One self-contained HTML page out of plain data: no network, light and dark, wide and narrow screens, paper."""

import os
import platform
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from passband import __version__
from passband._files import written_whole
from passband.reports._markup import code_source, data_uri, escape, render_block
from passband.reports._script import SCRIPT, SOURCE
from passband.reports._stylesheet import CSS
from passband.reports.blocks import (
    Audio,
    Block,
    Cell,
    Code,
    Columns,
    Details,
    Figure,
    Heading,
    Items,
    Number,
    Numbers,
    Section,
    Shown,
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
    "Details",
    "Figure",
    "Heading",
    "Items",
    "Number",
    "Numbers",
    "Page",
    "Section",
    "Shown",
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
        summary: the result in a sentence or two of plain text, or several paragraphs of one; the first thing read.
        sections: the parts, in order.
        command: the exact command that made it, shown at the end.
        versions: shown at the end.
        contents: whether links to the sections stand below the summary; None: where there are five sections or more.

    Example:
        >>> from passband.reports import Page, Section, Table, Text, render_page
        >>> page = Page("Trial", "A < B.", [Section("Numbers", [Table(["k", "dB"], [[1, 0.5]]), Text("Fine.")])])
        >>> "<h1>Trial</h1>" in render_page(page), "A &lt; B." in render_page(page)
        (True, True)

    """

    title: str
    summary: str | Sequence[str]
    sections: Sequence[Section]
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=installed_versions)
    contents: bool | None = None


# Pictures are inside; sounds too, but for those too large, which lie beside the page.
_POLICY = "default-src 'none'; img-src data:; media-src data: 'self' file:; style-src 'unsafe-inline'"
_SORTABLE = '<table class="sortable">'
_CONTENTS = 5  # sections from which on a page is too long to be seen at once


def render_page(page: Page) -> str:
    """The page as HTML source; all text is escaped, all pictures are inside."""
    names = _anchors(page.sections)
    sections = "\n".join(
        f'<section id="{name}">\n<h2>{escape(section.title)}</h2>\n'
        f"{''.join(map(render_block, section.blocks))}</section>"
        for name, section in zip(names, page.sections, strict=True)
    )
    # A page without a table to sort holds no script and allows none.
    scripted = _SORTABLE in sections
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}{f"; script-src {SOURCE}" if scripted else ""}">
<title>{escape(page.title)}</title>
<style>{CSS}</style>
</head>
<body>
<main>
<header>
<h1>{escape(page.title)}</h1>
{_summary(page.summary)}
{_contents(page, names)}</header>
{sections}
{_footer(page)}
</main>
{f"<script>{SCRIPT}</script>" if scripted else ""}
</body>
</html>
"""


def _summary(summary: str | Sequence[str]) -> str:
    texts = [summary] if isinstance(summary, str) else summary
    return f'<div class="summary">{"".join(f"<p>{escape(text)}</p>" for text in texts)}</div>'


def _anchors(sections: Sequence[Section]) -> list[str]:
    """Names to link to, out of the titles: "How it is measured" is `how-it-is-measured`."""
    names: list[str] = []
    for section in sections:
        name = re.sub(r"[^a-z0-9]+", "-", section.title.lower()).strip("-") or "section"
        names.append(name if name not in names else f"{name}-{len(names)}")
    return names


def _contents(page: Page, names: Sequence[str]) -> str:
    wanted = len(page.sections) >= _CONTENTS if page.contents is None else page.contents
    if not wanted:
        return ""
    links = "".join(
        f'<li><a href="#{name}">{escape(section.title)}</a></li>'
        for name, section in zip(names, page.sections, strict=True)
    )
    return f'<nav class="contents" aria-label="On this page"><ul>{links}</ul></nav>\n'


def _footer(page: Page) -> str:
    command = f"<p>Made by</p>{code_source(page.command)}" if page.command else ""
    versions = " · ".join(f"{escape(name)} {escape(version)}" for name, version in page.versions.items())
    return f"<footer>\n{command}<p>{versions}</p>\n</footer>"


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
