"""What the tests of pages share: whether a page's figures are legible for every reader."""

import base64
from collections.abc import Callable
from html.parser import HTMLParser
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import pytest

PHONE = 340  # points across a telephone at which a figure's text is still as large as that around it


class _Figures(HTMLParser):
    """The pictures of a page: (alt, class of the card around it, is it a player's, the forms it is shown in)."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str, bool, list[str]]] = []
        self._card, self._narrow, self._player = "", "", False
        self.feed(source)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        match tag:
            case "figure":
                self._player = given.get("class") == "player"
            case "div":
                self._card = given.get("class", "")
            case "source":
                self._narrow = given["srcset"]
            case "img":
                forms = [form for form in (given["src"], self._narrow) if form]
                self.found.append((given["alt"], self._card, self._player, forms))
                self._narrow = ""


def _decoded(uri: str) -> bytes:
    kind, data = uri.split(",", 1)
    return base64.b64decode(data) if kind.endswith(";base64") else unquote(data).encode()


@pytest.fixture(scope="session")
def legible() -> Callable[[str], int]:
    """Checks that each figure of a page follows the dark and fits a telephone; returns how many there are."""

    def check(source: str) -> int:
        found = _Figures(source).found
        for alt, card, player, forms in found:
            assert alt or player  # a player's name tells of its picture too
            shown = [_decoded(form) for form in forms]
            if shown[0].startswith(b"\x89PNG"):
                assert card == "card", f"{alt}: a white card in the dark"
                continue
            widths = []
            for svg in shown:
                assert b"prefers-color-scheme: dark" in svg, f"{alt}: does not follow the dark"
                widths.append(float(ET.fromstring(svg).attrib["width"].removesuffix("pt")))
            assert min(widths) <= PHONE, f"{alt}: {widths} points have small text on a telephone"
        return len(found)

    return check


@pytest.fixture
def no_pdf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are not drawn as PDF, which takes the longest and has a test of its own."""
    monkeypatch.setattr("passband.reports.figures.to_pdf", lambda figure: b"%PDF")
