"""The pages of the documentation, cut into their blocks; a test that takes `page` runs once for each page."""

import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

BY_LINE = re.DOTALL | re.MULTILINE
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)[^\n`]*\n(?P<code>.*?)^(?P=indent)``` *$", BY_LINE)
SETUP = re.compile(r"^<!-- setup[^\n]*\n(?P<code>.*?)^--> *$", BY_LINE)


@dataclass(frozen=True)
class Block:
    """A fenced block, or a hidden set-up. `line` is that of its first line of code, counted from 1."""

    language: str
    code: str
    line: int


@dataclass(frozen=True)
class Page:
    path: Path
    text: str

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT)) if self.path.is_relative_to(ROOT) else self.path.name

    @property
    def blocks(self) -> list[Block]:
        """Fenced blocks and set-ups in their order; a fence within a set-up is part of it."""
        setups = list(SETUP.finditer(self.text))
        hidden = [range(*match.span()) for match in setups]
        fences = [match for match in FENCE.finditer(self.text) if not any(match.start() in span for span in hidden)]
        return [self._block(match) for match in sorted([*setups, *fences], key=lambda match: match.start())]

    def _block(self, match: re.Match[str]) -> Block:
        language = match["language"] if match.re is FENCE else "setup"
        line = self.text.count("\n", 0, match.start("code")) + 1
        return Block(language, textwrap.dedent(match["code"]), line)

    def of(self, *languages: str) -> list[Block]:
        return [block for block in self.blocks if block.language in languages]


def pages() -> list[Page]:
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [Page(path, path.read_text(encoding="utf-8")) for path in found]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "page" in metafunc.fixturenames:
        chosen = getattr(metafunc.function, "of_pages", lambda page: True)
        metafunc.parametrize("page", [pytest.param(page, id=page.name) for page in pages() if chosen(page)])


@pytest.fixture
def write_page(tmp_path: Path) -> Callable[[str], Page]:
    """A page with this text."""

    def write(text: str) -> Page:
        path = tmp_path / "page.md"
        path.write_text(text)
        return Page(path, text)

    return write
