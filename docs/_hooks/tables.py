"""Tables that read well: a number and its error stay on one line, and on a phone each cell knows its column's name."""

import re
from typing import Any

WITH_ERROR = re.compile(r"(?<=\d) (±|×) (?=\d)")
STACKED = re.compile(r'<div class="stack">.*?</div>', re.DOTALL)
ROW = re.compile(r"<tr>.*?</tr>", re.DOTALL)
HEAD = re.compile(r"<th[^>]*>(.*?)</th>", re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    content = WITH_ERROR.sub("\N{NO-BREAK SPACE}\\1\N{NO-BREAK SPACE}", content)
    return STACKED.sub(lambda m: _labelled(m[0]), content)


def _labelled(table: str) -> str:
    """The cells with their column's name, which the style sheet shows where a row becomes a block."""
    names = [re.sub(r"<[^>]+>", "", name) for name in HEAD.findall(table)]

    def label(row: re.Match[str]) -> str:
        cells = row[0].split("<td")
        return cells[0] + "".join(f'<td data-label="{name}"{cell}' for name, cell in zip(names, cells[1:], strict=True))

    return ROW.sub(lambda row: label(row) if "<td" in row[0] else row[0], table)
