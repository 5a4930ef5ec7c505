"""The page of an evaluation says what was measured; paired numbers are written with the digits that they have."""

import json
import math
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband.metrics import SpectrumDistance
from passband.reports import difference_figure, to_svg
from passband.reports.evaluation import describe_metrics, evaluation_report, evaluation_rows, metric_texts
from passband.reports.paired import Estimate, estimate, markdown_table, paired_difference, with_error

VOID = {"meta", "img", "br", "link", "source"}


class Document(HTMLParser):
    """Checks nesting and keeps the text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.sources: list[str | None] = []
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def entry(metric: str, title: str, value: float, better: str = "lower", **more) -> dict:
    facts = {"key": metric, "metric": metric, "title": title, "better": better, "value": value}
    spec = "" if metric == "lsd" else "tiny"
    return facts | {"spec": spec, "features": spec and "tiny network, resize none", "real": 1200, "fake": 3400} | more


LIMITS = {"floor": 0.5, "floor_counts": [600, 600], "extrapolated": 11.5, "extrapolated_error": 0.25}
RESULTS = {
    "metrics": [
        entry("frechet", "Fréchet distance", 12.3456, **LIMITS),
        entry("kid", "Kernel distance (KID)", -0.001234, spread=0.0021, subsets=[100, 1000]),
        entry("precision", "Precision", 0.75, "higher", compared=[1200, 3400], neighbours=3),
        entry("lsd", "Log-spectral distance (dB)", math.nan),
    ],
    "samples": {
        "run": "/runs/<b>trial", "step": 2000, "weights": "ema", "seeds": [5, 3404], "solver": "heun", "steps": 18,
        "nfe": 35, "spacing": None, "clip": None, "classes": 10,
    },
    "real": "photos.zip",
    "notes": ["Left out of the real images: 1. a.png (empty)."],
    "processes": 2,
    "machine": "a processor",
    "seconds": 1234.5,
    "versions": {"passband": "0"},
}  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page")
    distance = SpectrumDistance()
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    distance.update(real=images, fake=images / 2)
    path = evaluation_report(RESULTS, distance.compute(), images, images / 2, out, command="passband evaluate trial")
    assert path == out / "index.html"
    return path


def test_the_page_stands_alone_and_says_everything(page: Path, legible: Callable[[str], int]):
    document = Document(page.read_text(encoding="utf-8"))
    assert legible(page.read_text(encoding="utf-8")) == 4
    assert all(source.startswith(("data:", "#", "figures/")) for source in document.sources)
    for text in (
        "Evaluation of <b>trial at step 2,000",
        "The Fréchet distance of 3,400 samples from 1,200 real images is 12.35 (tiny; two halves of the real images:",
        "Extrapolated to infinitely many samples (a line in 1/N): 11.5 ± 0.25",
        "Two disjoint halves of the real images (600 and 600) are 0.5 apart.",
        "100 random subsets of 1,000",
        "Compared: 1,200 real images and 3,400 samples.",
        "Features: tiny network, resize none.",
        "Left out of the real images: 1. a.png (empty).",
        "6.0 dB too little power at all radii",
        "heun, 18 steps, 35 network evaluations",
        "5 to 3404",
        "10, one for each seed",
        "photos.zip",
        "1,234",
        "passband evaluate trial",
    ):
        assert text in document.text, text


def test_the_numbers_are_beside_the_page(page: Path):
    document = json.loads((page.parent / "results.json").read_text())
    assert document["metrics"][0]["value"] == 12.3456
    assert document["metrics"][3]["value"] is None  # JSON has no NaN
    assert document["command"] == "passband evaluate trial"
    assert {file.name for file in (page.parent / "figures").iterdir()} == {
        "fake.png", "real.png", "psd.png", "psd.svg", "psd.pdf", "ratio.png", "ratio.svg", "ratio.pdf"
    }  # fmt: skip


def test_the_table():
    assert evaluation_rows(RESULTS) == [
        ["Fréchet distance ↓", "12.35", "0.5", "11.5 ± 0.25"],
        ["Kernel distance (KID) ↓", "−0.001234 ± 0.0021", "–", "–"],
        ["Precision ↑", "0.75", "–", "–"],
        ["Log-spectral distance (dB) ↓", "–", "–", "–"],
    ]


def test_without_an_extrapolation_its_lack_is_stated():
    few = RESULTS | {"metrics": [entry("frechet", "Fréchet distance", 3.0)]}
    assert metric_texts(few)[0].endswith(
        "There are too few samples for these features to extrapolate to infinitely many."
    )
    assert describe_metrics(few) == "The Fréchet distance of 3,400 samples from 1,200 real images is 3 (tiny)."


# Paired numbers.

VALUES = st.dictionaries(st.integers(0, 9), st.floats(-1e3, 1e3), min_size=1)


@given(VALUES, VALUES)
def test_differences_are_taken_within_seeds(values: dict[int, float], baseline: dict[int, float]):
    both = sorted(set(values) & set(baseline))
    found = paired_difference(values, baseline)
    if not both:
        assert found is None
        return
    expected = np.array([values[seed] - baseline[seed] for seed in both])
    assert found.seeds == len(both)
    assert found.mean == pytest.approx(expected.mean(), abs=1e-9)
    if len(both) == 1:
        assert found.error is None
    else:
        assert found.error == pytest.approx(expected.std(ddof=1) / np.sqrt(len(both)), abs=1e-9)


def test_no_values_have_no_mean():
    with pytest.raises(ValueError, match="needs at least one value"):
        estimate([])


@pytest.mark.parametrize(
    ("found", "sign", "text"),
    [
        (Estimate(1234.5678, 12.3, 3), False, "1235 ± 12"),
        (Estimate(0.5, 0.0999, 3), False, "0.500 ± 0.100"),
        (Estimate(-0.5, 0.0123, 3), True, "−0.500 ± 0.012"),
        (Estimate(2.0, None, 1), True, "+2"),
        (Estimate(2.0, 0.0, 2), False, "2 ± 0"),
        (Estimate(0.00001234, 0.00000321, 3), True, "+1.2e−05 ± 3.2e−06"),
        (None, False, "–"),
    ],
)
def test_numbers_have_the_digits_of_their_error(found: Estimate | None, sign: bool, text: str):
    assert with_error(found, sign=sign) == text


def test_cells_do_not_break_a_markdown_table():
    assert markdown_table([["a|b"], ["|x|"]]) == "| a\\|b |\n| --- |\n| \\|x\\| |\n"


# The figure of differences.


def test_a_figure_of_differences_shows_each_arm():
    figure = difference_figure({"5 steps": {"a": (1.0, 0.1), "b": (-2.0, None)}, "9 steps": {"b": (3.0, 0.5)}})
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    first, second = (container.lines[0].get_xydata().tolist() for container in axes.containers)
    assert [x for x, _ in first] == [1.0, -2.0]
    assert second[0][0] == 3.0
    assert first[1][1] < second[0][1]  # side by side on the row of b
    assert "<svg" in to_svg(figure)


@pytest.mark.parametrize("differences", [{}, {"5 steps": {}}])
def test_no_differences_have_no_figure(differences: dict):
    with pytest.raises(ValueError, match="at least one series"):
        difference_figure(differences)
