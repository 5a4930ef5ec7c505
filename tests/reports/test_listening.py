"""The page to listen to: players hold the sound, names are escaped, what is too large lies beside the page."""

import base64
import io
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
import soundfile
import torch

from passband.reports import (
    Audio,
    Columns,
    Figure,
    ListeningClip,
    ListeningRow,
    Number,
    Page,
    Section,
    Text,
    encode_audio,
    listening_page,
    render_page,
)

RATE = 8000
EVIL = '<b>"it\'s" & /../so'


class Document(HTMLParser):
    """Checks nesting; keeps tags with their attributes, and the text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "img", "source"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(autouse=True)
def no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spectrograms are drawn in one test only; test_audio_figures.py looks at them."""
    if "pictures" not in request.node.name:
        monkeypatch.setattr("passband.reports.listening.clip_picture", lambda *_, **__: b"\x89PNG")
        scale = Figure(b"\x89PNG", "colours", "colours")
        monkeypatch.setattr("passband.reports.listening.page_figure", lambda *_, **__: scale)


def noise(seed: int, seconds: float = 0.25) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.2 * torch.randn(int(RATE * seconds), generator=generator)


def clip(seed: int, **numbers: float) -> ListeningClip:
    return ListeningClip(noise(seed), RATE, numbers)


def heard(source: str) -> tuple[torch.Tensor, int]:
    kind, data = source.split(",", 1)
    assert kind == "data:audio/flac;base64"
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(data)), dtype="float32")
    return torch.from_numpy(samples), rate


def decoded(uri: str) -> str:
    kind, data = uri.split(",", 1)
    return base64.b64decode(data).decode() if kind.endswith(";base64") else unquote(data)


def test_players_hold_the_clips_of_their_columns(tmp_path: Path) -> None:
    rows = [ListeningRow("one", [clip(0), clip(1, PESQ=3.14159)]), ListeningRow("two", [clip(2), None])]
    path = listening_page("Title", rows, tmp_path, summary="Sum.", columns=["original", "model"], command="made so")
    assert path == tmp_path / "index.html"
    document = Document(path.read_text(encoding="utf-8"))
    players = document.all("audio")
    assert [player["aria-label"].split(",")[0] for player in players] == [
        "original: one",
        "model: one",
        "original: two",
    ]
    assert all("controls" in player for player in players)
    for player, seed in zip(players, (0, 1, 2), strict=True):
        samples, rate = heard(player["src"])
        assert rate == RATE
        assert (samples - noise(seed)).abs().max() <= 0.51 / 2**15
    assert "PESQ 3.14" in document.text
    assert "model: no such clip" in document.text
    assert "made so" in document.text
    assert [entry.name for entry in tmp_path.iterdir()] == ["index.html"]


def test_the_policy_lets_players_play_and_nothing_else_load(tmp_path: Path) -> None:
    source = listening_page("t", [ListeningRow("a", [clip(0)])], tmp_path, summary="s", columns=["c"]).read_text()
    policy = next(attrs["content"] for attrs in Document(source).all("meta") if "http-equiv" in attrs)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert "data:" in rules["media-src"]
    assert not re.search(r"https?:", policy)


def test_all_text_is_escaped(tmp_path: Path) -> None:
    row = ListeningRow(EVIL, [ListeningClip(noise(0), RATE, {EVIL: 1.0, "none": math.nan})], note=EVIL)
    path = listening_page(
        EVIL, [row], tmp_path, summary=EVIL, columns=[EVIL], numbers=[Number(EVIL, EVIL)], notes=[EVIL], embed_limit=0
    )
    document = Document(path.read_text(encoding="utf-8"))
    assert document.all("b") == []
    assert document.text.count(EVIL) == 10
    assert "none –" in document.text
    assert document.all("audio")[0]["aria-label"].count(EVIL) == 2


def test_what_is_too_large_lies_beside_the_page(tmp_path: Path) -> None:
    size = len(encode_audio(noise(0), RATE))
    rows = [ListeningRow(f"clip {seed} / {EVIL}", [clip(seed)]) for seed in range(3)]
    path = listening_page("t", rows, tmp_path, summary="s", columns=["c"], embed_limit=size + 100)
    sources = [player["src"] for player in Document(path.read_text(encoding="utf-8")).all("audio")]
    assert sources[0].startswith("data:audio/flac")
    for source, seed in zip(sources[1:], (1, 2), strict=True):
        file = tmp_path / unquote(source)
        assert file.parent == tmp_path / "audio"
        samples, _ = soundfile.read(file, dtype="float32")
        assert (torch.from_numpy(samples) - noise(seed)).abs().max() <= 0.51 / 2**15
    assert len({*sources}) == 3


def test_a_clip_that_is_not_finite_is_named_and_the_page_is_whole(tmp_path: Path) -> None:
    broken = ListeningClip(torch.tensor([0.0, math.nan]), RATE)
    path = listening_page("t", [ListeningRow("a", [clip(0), broken])], tmp_path, summary="s", columns=["c", "model"])
    document = Document(path.read_text(encoding="utf-8"))
    assert len(document.all("audio")) == 1
    assert "model: holds values that are not finite" in document.text


def test_the_columns_of_a_row_have_pictures_of_one_size(legible: Callable[[str], int], tmp_path: Path) -> None:
    other = ListeningClip(torch.zeros(100), RATE // 2)
    path = listening_page("t", [ListeningRow("a", [clip(0), other])], tmp_path, summary="s", columns=["c", "d"])
    source = path.read_text(encoding="utf-8")
    assert legible(source) == 3  # and the colours
    document = Document(source)
    first, second, colours = document.all("img")
    sizes = [re.search('<svg .*?viewBox="(.*?)"', decoded(image["src"]))[1] for image in (first, second)]
    assert sizes[0] == sizes[1]
    assert (first["alt"], second["alt"]) == ("", "")  # the players are named
    assert colours["alt"]


def test_samples_beyond_full_scale_are_clipped() -> None:
    samples, _ = soundfile.read(io.BytesIO(encode_audio(torch.tensor([-3.0, 0.5, 2.0] * 10), RATE)))
    assert samples[:3].tolist() == pytest.approx([-1, 0.5, 1], abs=1e-4)


def test_columns_and_audio_in_a_page_of_ones_own() -> None:
    wave = io.BytesIO()
    soundfile.write(wave, [0.0, 0.1], RATE, format="WAV")
    blocks = [Columns([[Audio(wave.getvalue(), EVIL, EVIL)], [Text("beside")]], title=EVIL), Audio("a b.flac", "", "x")]
    document = Document(render_page(Page("t", "s", [Section("h", blocks)])))
    assert document.all("audio")[0]["src"].startswith("data:audio/wav;base64,")
    assert document.all("audio")[1]["src"] == "a%20b.flac"
    assert document.text.count(EVIL) == 2


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda _: Audio(b"fLaC", "c", " "), ValueError, "alt text"),
        (lambda _: Audio(b"OggS....", "c", "a"), ValueError, "FLAC or WAV"),
        (lambda _: Audio("https://host/a.flac", "c", "a"), ValueError, "relative to the page"),
        (lambda _: Audio("a.mp3", "c", "a"), ValueError, r"\.flac or \.wav"),
        (lambda _: Audio(b"fLaC", "c", "a", picture=b"GIF"), ValueError, "PNG data"),
        (lambda _: ListeningClip(torch.zeros(2, 5), RATE), ValueError, r"got \(2, 5\)"),
        (lambda _: ListeningClip(torch.zeros(5, dtype=torch.int16), RATE), TypeError, "floating"),
        (lambda _: encode_audio(torch.tensor([math.inf]), RATE), ValueError, "not finite"),
        (lambda out: listening_page("t", [], out, summary="s", columns=["c"]), ValueError, "at least one row"),
        (
            lambda out: listening_page("t", [ListeningRow("a", [None])], out, summary="s", columns=["c", "d"]),
            ValueError,
            "row 'a' has 1 clips for 2 columns",
        ),
    ],
)
def test_bad_input_is_a_clear_error(call, error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        call(tmp_path)
