"""Every relative link of the README and the documentation leads to a file that exists, and to a heading in it."""

import re
from pathlib import Path
from typing import Any

import pytest
from markdown.extensions.toc import slugify, unique

ROOT = Path(__file__).resolve().parents[2]

FENCED = re.compile(r"^( *)```.*?^\1``` *$|<!--.*?-->|`[^`\n]+`", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)(?: \"[^\"]*\")?\)")
SOURCE = re.compile(r"(?:src|href)=\"([^\"]+)\"")
HEADING = re.compile(r"^#+ +(.*?)(?: *\{#([\w-]+)\})? *$", re.MULTILINE)


def anchors(text: str) -> set[str]:
    """The ids of a page's headings, as the site has them."""
    found: set[str] = set()
    for title, given in HEADING.findall(re.sub(r"^( *)```.*?^\1``` *$", "", text, flags=re.DOTALL | re.MULTILINE)):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title.replace("`", "").replace("*", ""))
        found.add(given or unique(slugify(plain, "-"), found))
    return found


def broken(path: Path, text: str) -> list[str]:
    """The links of a page that lead nowhere. HTML's own are relative to the page's address, which is a folder."""
    bare = FENCED.sub("", text)
    here = path.parent if path.name in ("README.md", "index.md") else path.with_suffix("")
    links = [(link, path.parent) for link in LINK.findall(bare)] + [(link, here) for link in SOURCE.findall(bare)]
    return [link for link, folder in links if "://" not in link and not _leads(link, folder, text)]


def _leads(link: str, folder: Path, text: str) -> bool:
    if link.startswith(("/", "mailto:")):
        return link.startswith("mailto:")
    name, _, anchor = link.partition("#")
    if not name:
        return anchor in anchors(text)
    target = (folder / name).resolve()
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    # The reference's anchors come from docstrings; building the site checks those.
    return not anchor or "api" in target.parts or anchor in anchors(target.read_text(encoding="utf-8"))


def test_the_links_of_a_page_lead_somewhere(page: Any) -> None:
    assert broken(page.path, page.text) == []


def test_pages_outside_the_documentation_are_linked_from_the_readme_alone(page: Any) -> None:
    """The site holds docs/ alone: a link out of it would be dead there."""
    if page.path.name == "README.md":
        return
    links = [link.partition("#")[0] for link in LINK.findall(FENCED.sub("", page.text)) if "://" not in link]
    outside = [link for link in links if link and not (page.path.parent / link).resolve().is_relative_to(ROOT / "docs")]
    assert outside == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](conventions.md), [b](conventions.md#measures), ![c](images/inspect.png)", []),
        ("[a](nowhere.md)", ["nowhere.md"]),
        ("[a](conventions.md#nothing)", ["conventions.md#nothing"]),
        ("# One\n[a](#one) [b](#two)", ["#two"]),
        ("[a](/absolute.md)", ["/absolute.md"]),
        ('<img src="../images/inspect.png"> <img src="images/inspect.png">', ["images/inspect.png"]),
        ("`[a](nowhere.md)`\n```text\n[a](nowhere.md)\n```\n", []),
        ("[a](../../README.md)", ["../../README.md"]),
        ("[a](https://example.org/x.md)", []),
    ],
)
def test_a_link_that_leads_nowhere_is_found(text: str, expected: list[str]) -> None:
    assert broken(ROOT / "docs" / "training.md", text) == expected


def test_headings_become_the_anchors_of_the_site() -> None:
    text = "# A *page*\n## `code`: what it is\n## Twice\n## Twice\n## Named {#mine}\n```text\n# no heading\n```\n"
    assert anchors(text) == {"a-page", "code-what-it-is", "twice", "twice_1", "mine"}
