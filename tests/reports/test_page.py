"""Pages are well-formed, escaped and self-contained; figures say what they are given; reports hold the numbers."""

import base64
import errno
import json
import math
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from passband.metrics import SpectrumDistance, octave_bands
from passband.reports import (
    Code,
    Figure,
    Number,
    Numbers,
    Page,
    Section,
    Table,
    Text,
    compare_report,
    curve_figure,
    describe,
    image_grid,
    image_mosaic,
    psd_figure,
    ratio_figure,
    render_page,
    to_png,
    to_png_data_uri,
    to_svg,
    write_page,
)
from passband.transforms import radial_bins

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"><rect width="4" height="4"/></svg>'
EVIL = "<script>alert(1)</script> & \"quotes\" 'too'"
VOID = {"meta", "img", "br", "link"}


class Document(HTMLParser):
    """Checks nesting; keeps tags with their attributes, and the text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def everything(text: str) -> Page:
    return Page(
        title=text,
        summary=text,
        sections=[
            Section(
                text,
                [
                    Text(text),
                    Text(text, "warning"),
                    Code(text),
                    Numbers([Number(text, text, text)]),
                    Figure(SVG, text, text),
                    Figure(PNG, text, text, pixelated=True),
                    Table([text, "n"], [[text, 3], [None, math.nan]], caption=text),
                ],
            )
        ],
        command=text,
        versions={text: text},
    )


def test_all_text_is_escaped_and_the_document_is_nested() -> None:
    source = render_page(everything(EVIL))
    document = Document(source)
    assert {tag for tag, _ in document.tags}.isdisjoint({"script", "link", "iframe", "object"})
    assert document.text.count(EVIL) == 18
    assert [attrs["alt"] for tag, attrs in document.tags if tag == "img"] == [EVIL, EVIL]


def test_nothing_is_loaded_from_anywhere() -> None:
    document = Document(render_page(everything("plain")))
    sources = [attrs[key] for _, attrs in document.tags for key in ("src", "href", "srcset") if key in attrs]
    assert len(sources) == 2
    assert all(source.startswith("data:image/") for source in sources)
    css = render_page(everything("plain")).split("<style>")[1].split("</style>")[0]
    assert not re.search(r"url\(|@import", css)
    assert "prefers-color-scheme: dark" in css


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1])
def test_text_has_the_contrast_that_accessibility_asks_for(scheme: int) -> None:
    css = render_page(everything("plain"))
    colours = dict(re.findall(r"--(\w+): (#\w{6})", re.findall(r":root \{(.*?)\}", css, re.DOTALL)[scheme]))
    for ink in ("ink", "quiet"):
        for paper in ("paper", "soft"):
            pair = sorted([luminance(colours[ink]), luminance(colours[paper])])
            assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, (ink, paper)


def test_table_cells() -> None:
    table = Table(["name", "value", "text number"], [["a", 1.23456, "3.1 dB"], ["b", math.nan, "−0.2 ± 0.1"]])
    source = render_page(Page("t", "s", [Section("h", [table])]))
    cells = re.findall(r"<td(.*?)>(.*?)</td>", source)
    right = ' class="number"'
    assert cells == [
        ("", "a"), (right, "1.235"), (right, "3.1 dB"),
        ("", "b"), (right, "–"), (right, "−0.2 ± 0.1"),
    ]  # fmt: skip


def test_footer_names_command_and_versions() -> None:
    text = Document(render_page(Page("t", "s", [], command="passband compare 'a b' c"))).text
    assert "passband compare 'a b' c" in text
    for name in ("passband 0", f"torch {torch.__version__}", "Python 3"):
        assert name in text


def test_writing_replaces_the_whole_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "index.html"
    write_page(everything("first"), path)
    assert write_page(everything("second"), path) == path
    assert path.read_text(encoding="utf-8") == render_page(everything("second"))
    assert [entry.name for entry in path.parent.iterdir()] == ["index.html"]


def test_a_failed_write_keeps_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_page(everything("first"), tmp_path / "index.html")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_page(everything("second"), path)
    assert path.read_text(encoding="utf-8") == render_page(everything("first"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["index.html"]


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"the disk is full .* free some space: '.*index.html'"):
        write_page(everything("first"), tmp_path / "index.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Figure(SVG, "caption", " "), "alt text"),
        (lambda: Figure("picture.png", "caption", "alt"), "SVG source"),
        (lambda: Figure(b"GIF89a", "caption", "alt"), "PNG data"),
        (lambda: Table(["a", "b"], [[1, 2], [3]]), "row 1 has 1 cells for 2 columns"),
        (lambda: Text("x", "loud"), "unknown tone"),
        (lambda: psd_figure({}), "at least one series"),
        (lambda: psd_figure({"real": [1.0]}), "2 values or more"),
        (lambda: ratio_figure({"fake": torch.ones(2, 3)}), "'fake' must be a series"),
        (lambda: curve_figure([1, 2], {"a": ([1.0], None)}), "2 values, one per x"),
        (lambda: curve_figure([1, 2], {"a": ([1.0, 2.0], None)}, seeds={"a": [[1.0]]}), "seed 0 of a"),
        (lambda: image_grid(torch.zeros(0, 1, 8, 8)), "at least one image"),
        (lambda: image_grid(torch.zeros(2, 2, 8, 8)), "1 or 3 channels"),
        (lambda: image_grid(torch.zeros(2, 1, 8, 8), columns=0), "at least one column"),
    ],
)
def test_bad_input_is_a_clear_error(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_psd_figure_plots_what_it_is_given() -> None:
    real, fake = torch.tensor([9.0, 4.0, 2.0, 1.0]), torch.tensor([9.0, 4.0, 0.0, 1e-20])
    axes = psd_figure({"real": real, "fake": fake}, spread={"real": 0.1 * real}).axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["real"].get_xdata().tolist() == [1, 2, 3]
    assert lines["real"].get_ydata().tolist() == [4, 2, 1]
    assert lines["fake"].get_ydata()[1] < axes.get_ylim()[0]  # an empty bin leaves the axis at the bottom
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_ylim()[0] == pytest.approx(2e-6)  # and does not stretch it
    assert lines["real"].get_color() != lines["fake"].get_color()


def test_ratio_figure_writes_the_octaves() -> None:
    ratio = torch.tensor([0.0, -1.0, 1.0, -3.0, -3.0, -3.0, -3.0, -3.0])
    figure = ratio_figure({"fake": ratio}, octaves=octave_bands(8), reference=0.1 * ratio)
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.0 dB", "1.0 dB", "3.0 dB"]
    low, high = figure.axes[0].get_ylim()
    assert low < -3
    assert high > 1


def test_figures_survive_values_that_are_not_finite() -> None:
    values = torch.tensor([math.nan, math.nan, math.inf, 1.0])
    for figure in (psd_figure({"fake": values}), ratio_figure({"fake": values}, octaves=octave_bands(4))):
        ET.fromstring(to_svg(figure))


def test_curve_figure_shows_arms_errors_and_seeds() -> None:
    figure = curve_figure(
        [100, 200, 400],
        {"MSE": ([9.0, 5.0, 3.0], [0.4, 0.3, 0.2]), "MSE + spectral": ([6.0, 4.0, 2.5], None)},
        seeds={"MSE": [[9.5, 5.5, 3.1], [8.5, 4.5, 2.9]]},
        reference=("real data", 0.5),
    )
    axes = figure.axes[0]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(labels) == ["MSE", "MSE + spectral", "real data"]
    assert sum(list(line.get_ydata()) == [9.5, 5.5, 3.1] for line in axes.lines) == 1
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["100", "200", "400"]
    assert axes.get_ylim()[0] == 0


def test_mosaic_places_and_maps_pixels() -> None:
    images = torch.stack([torch.full((1, 2, 2), value) for value in (-1.0, 1.0, 0.0, 7.0, math.nan)])
    mosaic = image_mosaic(images, columns=3, gap=1)
    assert mosaic.shape == (5, 8, 3)
    assert [mosaic[0, 3 * i, 0] for i in range(3)] == [0, 255, 128]
    assert mosaic[3, 0, 0] == 255
    assert mosaic[3, 3].tolist() == [255, 0, 255]
    assert (mosaic[2] == 255).all()
    assert (mosaic[3:, 6:] == 255).all()


def test_grid_pixels_are_whole_and_large_images_shrink() -> None:
    def size(png: bytes) -> list[int]:
        return [int.from_bytes(png[i : i + 4], "big") for i in (16, 20)]

    assert size(to_png(image_grid(torch.zeros(6, 1, 32, 32), columns=3))) == [16 * (3 * 34 - 2), 16 * (2 * 34 - 2)]
    assert size(to_png(image_grid(torch.zeros(4, 3, 900, 900), columns=4)))[0] <= 1600


def test_outputs_are_repeatable_and_well_formed() -> None:
    def draw():
        return psd_figure({"real": [3.0, 2.0, 1.0]}, title="T & co")

    assert to_svg(draw()) == to_svg(draw())
    assert ET.fromstring(to_svg(draw())).tag.endswith("svg")
    assert to_png_data_uri(draw()).startswith("data:image/png;base64,iVBOR")


def measured(low: int, gain: float, floor: float = 0.0):
    real = torch.randn(40, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    changed = torch.fft.rfft2(real) * torch.where(radial_bins((32, 32)) >= low, gain, 1.0)
    distance = SpectrumDistance(floor)
    distance.update(real=real, fake=torch.fft.irfft2(changed, s=(32, 32)))
    return distance.compute(), real


@pytest.mark.parametrize(
    ("low", "gain", "expected"),
    [
        (8, 0.5, "The fake images have 6.0 dB too little power from 8 cycles per image upwards. "),
        (0, 2.0, "The fake images have 6.0 dB too much power at all radii. "),
        (99, 1.0, "The spectrum of the fake images agrees with that of the real ones in every octave. "),
    ],
)
def test_description_names_the_deviation(low: int, gain: float, expected: str) -> None:
    assert describe(measured(low, gain)[0]).startswith(expected)


def test_description_takes_chance_for_chance() -> None:
    result, _ = measured(8, 0.9)
    assert "0.9 dB too little" in describe(result)
    noisy = torch.full((16,), 0.6, dtype=torch.float64)
    assert describe(result, noisy) == (
        "The spectrum of the fake images agrees with that of the real ones in every octave. "
        "The log-spectral distance is 0.69 dB; two halves of the real images are 0.60 dB apart."
    )


def test_compare_report_writes_page_figures_and_numbers(tmp_path: Path) -> None:
    result, real = measured(8, 0.5)
    page = compare_report(
        result,
        real[:4],
        real[4:6],
        tmp_path / "out",
        reference=0.1 * result.ratio,
        settings={"crop": "<tile>"},
        notes=["Left out: 1."],
        command="passband compare a b",
    )
    assert page == tmp_path / "out" / "index.html"
    names = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    assert names == {"psd.svg", "psd.png", "ratio.svg", "ratio.png", "real.png", "fake.png"}
    text = Document(page.read_text(encoding="utf-8")).text
    for part in ("6.0 dB too little", "<tile>", "Left out: 1.", "passband compare a b", "red", "8–16"):
        assert part in text
    numbers = json.loads((tmp_path / "out" / "results.json").read_text())
    assert numbers["lsd_db"] == result.lsd
    assert numbers["reference_lsd_db"] == pytest.approx(0.1 * result.lsd)
    assert numbers["octaves"][-1] == {
        "low": 8,
        "high": 16,
        "lsd_db": result.octaves[-1].lsd,
        "bias_db": result.octaves[-1].bias,
    }
    assert len(numbers["psd"]["real"]) == len(numbers["radius"]) == 17
    assert numbers["count"] == {"real": 40, "fake": 40}


def test_numbers_that_are_not_finite_are_null_in_json(tmp_path: Path) -> None:
    real = torch.randn(1, 1, 8, 8)
    distance = SpectrumDistance()
    distance.update(real=real, fake=real)
    compare_report(distance.compute(), real, real, tmp_path)

    def refuse(constant: str):
        raise AssertionError(constant)

    numbers = json.loads((tmp_path / "results.json").read_text(), parse_constant=refuse)
    assert numbers["psd_standard_error"]["real"] == [None] * 5
