"""The table of hosts says what the hosts' pages say: each is in it, with the number of lines that its diff adds."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "integrations"
TABLE = (FOLDER / "index.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| \[[^]]*\]\((?P<page>[\w-]+\.md)[^)]*\)[^|]* \| (?P<lines>[^|]*) \|", re.MULTILINE)
ROWS = [(row["page"], row["lines"]) for row in ROW.finditer(TABLE)]
MOST = 3


def added(page: str) -> list[int]:
    """How many lines each of a page's diffs adds."""
    diffs = re.findall(r"^```diff\n(.*?)^```", (FOLDER / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [sum(line.startswith("+") for line in diff.splitlines()) for diff in diffs]


@pytest.mark.parametrize(("host", "lines"), ROWS, ids=str)
def test_the_lines_of_a_row_are_those_of_the_page(host: str, lines: str) -> None:
    diffs = added(host)
    if not lines.isdigit():  # a host that is extended by a file
        assert (lines, diffs[:1]) == ("a new file", [])
        return
    # The second row of the same page counts its second diff (EDM2).
    place = [row for row in ROWS if row[0] == host].index((host, lines))
    assert int(lines) == diffs[place]


def test_no_host_needs_more_than_three_lines() -> None:
    assert [(page, lines) for page, lines in ROWS if lines.isdigit() and int(lines) > MOST] == []


def test_every_page_of_a_host_is_in_the_table() -> None:
    pages = {path.name for path in FOLDER.glob("*.md")} - {"index.md", "trackers.md"}
    assert pages == {page for page, _ in ROWS}


def test_a_page_says_what_a_reader_asks() -> None:
    """Each has its lines, its precision, its several GPUs, its weights, its pitfalls, and what was tested."""
    asked = [
        "Lines to add",
        "What (the term sees|they see)",
        "Precision",
        "Several GPUs",
        "Weights to start from",
        "Pitfalls",
        "What was tested",
    ]
    for page, _ in ROWS:
        text = (FOLDER / page).read_text(encoding="utf-8")
        missing = [title for title in asked if not re.search(rf"^## {title}", text, re.MULTILINE)]
        assert missing == [], f"{page} lacks {missing}"
