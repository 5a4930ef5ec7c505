"""`passband demo`: a page that stands alone, and the numbers beside it."""

import json
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from passband.training import TrainingInterrupted, demo

MICRO = ("--size", 16, "--budget", 1, "--samples", 2, "--seeds", "0,1", "--workers", 1)
VOID = {"meta", "img", "br", "hr", "link", "input", "source"}


class Page(HTMLParser):
    """Collects references and texts, and checks that elements nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(autouse=True)
def in_threads(monkeypatch: pytest.MonkeyPatch):
    """Runs go in threads: starting processes takes seconds, and the experiment's own tests do it."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(demo, "ProcessPoolExecutor", lambda count, **_: ThreadPoolExecutor(count))
    yield
    torch.set_num_threads(threads)


def test_a_micro_run_writes_page_and_numbers(passband, tmp_path: Path):
    out = tmp_path / "demo"
    result = passband("demo", *MICRO, "--out", out)
    assert result.status == 0, result.err
    assert str(out / "index.html") in result.err
    numbers = json.loads((out / "results.json").read_text())
    assert numbers["settings"]["seeds"] == [0, 1]
    assert numbers["settings"]["steps"] == [1, 2, 4]
    for row in numbers["lsd_per_seed"]:
        assert len(row["baseline"]) == len(row["regularized"]) == 3
    assert numbers["seconds"] > 0

    page = Page()
    page.feed((out / "index.html").read_text(encoding="utf-8"))
    page.close()
    assert page.open == []
    assert all(reference.startswith(("#", "data:", "figures/")) for reference in page.references)
    assert all((out / reference).exists() for reference in page.references if reference.startswith("figures/"))
    row = next(row for row in numbers["paired"] if row["measure"] == "lsd" and row["steps"] == 4)
    assert f"{row['value']:.1f} dB" in page.text
    for measure in ("Log-spectral distance", "Leakage", "Pattern distance"):
        assert measure in result.err
        assert measure in page.text
    assert f"{row['baseline']:.3g}" in result.err
    assert f"{row['ratio']:.2f}" in result.err


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds", "1,x"], "--seeds takes integers separated by commas, such as 2,3,4; got '1,x'"),
        (["--seeds", "1,1"], "seeds must be distinct"),
        (["--size", 24], "size must be a power of two"),
        (["--budget", 0], "budget must be at least 1"),
        (["--samples", 1], "samples at least 2"),
        (["--workers", 0], "--workers"),
    ],
)
def test_wrong_options(passband, options: list[object], message: str):
    result = passband("demo", *options)
    assert result.status == 2
    assert message in result.err
    assert list(Path().iterdir()) == []


def test_a_stopped_run_says_how_to_continue(passband, monkeypatch: pytest.MonkeyPatch):
    def stopped(*_: object) -> None:
        raise TrainingInterrupted("stopped at step 3; continue with --resume")

    monkeypatch.setattr(demo, "_run", stopped)
    result = passband("demo", *MICRO)
    assert result.status == 130
    assert "stopped at step 3; the same command continues" in result.err
