"""Pages are well-formed, escaped and self-contained; figures say what they are given; reports hold the numbers."""

import base64
import errno
import hashlib
import io
import math
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.text import Text as Drawn
from PIL import Image

from passband.metrics import octave_bands
from passband.reports import (
    Code,
    Columns,
    Details,
    Figure,
    Heading,
    Items,
    Number,
    Numbers,
    Page,
    Section,
    Shown,
    Table,
    Text,
    curve_figure,
    data_uri,
    image_grid,
    image_mosaic,
    psd_figure,
    ratio_figure,
    render_page,
    to_pdf,
    to_png,
    to_png_data_uri,
    to_svg,
    write_figure,
    write_page,
)
from passband.reports._narrow import make_narrow
from passband.reports._themes import adaptive, in_the_dark
from passband.reports.figures import COLOURS, INK, _figure, _style, series_style

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
                    Heading(text),
                    Items([text, text]),
                    Code(text),
                    Details(text, [Text(text)]),
                    Columns([[Text(text)]], title=text),
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
    assert document.text.count(EVIL) == 25
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
    for ink in ("ink", "quiet", "accent", "warn"):
        for paper in ("paper", "soft", "card"):
            assert contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper)


def contrast(first: str, second: str) -> float:
    low, high = sorted([luminance(first), luminance(second)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_figures_have_the_contrast_that_accessibility_asks_for(dark: bool) -> None:
    css = render_page(everything("plain"))
    card = re.findall(r"--card: (#\w{6})", css)[dark]
    shown = {colour: (in_the_dark(colour[1:].lower()) or colour) if dark else colour for colour in (INK, *COLOURS)}
    assert contrast(shown[INK], card) >= 4.5
    for colour in COLOURS[:4]:  # of lines; those after them are fainter, and told apart by their dashes too
        assert contrast(shown[colour], card) >= 3 - 0.05, colour


def test_figures_follow_the_theme_but_for_their_data() -> None:
    with _style():
        figure, axes = _figure()
        axes.imshow([[0.0, 1.0]])
        for place, colour in enumerate(["white", "black", INK]):
            axes.text(place, 0, "x", color=colour)
    svg = to_svg(figure)
    themed = adaptive(svg)
    ET.fromstring(themed)
    dark = dict(re.findall(r"(--\w+):(#\w{6});", themed))
    assert dark["--ground"] == re.findall(r"--card: (#\w{6})", render_page(everything("plain")))[1]
    assert "--c222222" in dark
    # One white is left, that of the text on the cells, and the cells themselves are the same.
    assert (svg.count("#ffffff"), themed.count(": #ffffff")) == (3, 1)
    assert re.findall('data:image/png[^"]*', svg) == re.findall('data:image/png[^"]*', themed)
    # Where the variables are not known, the figure is the light one.
    plain = re.sub(r"<style>@media.*?</style>", "", themed)
    assert re.sub(r"var\(--\w+, (#\w{6})\)", r"\1", plain) == svg
    assert f"{base64.b64encode(themed.encode()).decode()}" in render_page(
        Page("t", "s", [Section("h", [Figure(svg, "caption", "alt")])])
    )


def test_pictures_drawn_elsewhere_are_left_alone() -> None:
    assert adaptive(SVG) == SVG


@pytest.mark.parametrize(
    ("light", "dark"),
    [
        ("ffffff", None),
        ("f7f7f7", None),
        ("000000", None),
        ("d55e00", None),
        ("222222", "#e6e9ec"),
        ("0072b2", "#3f9fdc"),
    ],
)
def test_what_a_colour_becomes_in_the_dark(light: str, dark: str | None) -> None:
    assert in_the_dark(light) == dark


def test_greys_keep_their_order_in_the_dark() -> None:
    greys = [in_the_dark(f"{value:02x}" * 3) for value in range(0x22, 0xEC, 8)]
    found = [luminance(grey) for grey in greys if grey]
    assert len(found) == len(greys)
    assert found == sorted(found, reverse=True)


def sorted_by(table: Table) -> list[list[str]]:
    source = render_page(Page("t", "s", [Section("h", [table])]))
    return [re.findall(r'data-sort="(.*?)"', row) for row in re.findall(r"<tr>(.*?)</tr>", source)[1:]]


def test_sortable_tables_say_what_they_are_sorted_by() -> None:
    rows = [
        ["b", 1.5, "−3.1 dB", Shown("1/4 to 1/2", 0.5), "≈ 12,000"],
        ["a", None, "+0.2 dB", Shown("below 1/4", 0.25, marked=True), "–"],
        ["<c>", math.nan, "1e-3 dB", Shown("none", None), "-.5"],
    ]
    table = Table(["name", "value", "difference", "octave", "count"], rows, sortable=True)
    assert sorted_by(table) == [
        ["b", "1.5", "-3.1", "0.5", "≈ 12,000"],
        ["a", "", "0.2", "0.25", "–"],
        ["&lt;c&gt;", "", "0.001", "", "-.5"],
    ]
    numeric = Table(["count"], [["≈ 12,000"], ["–"], ["<3"]], sortable=True)
    assert sorted_by(numeric) == [["12000.0"], [""], ["3.0"]]
    source = render_page(Page("t", "s", [Section("h", [table])]))
    assert "<strong>below 1/4</strong>" in source
    assert "data-sort" not in render_page(Page("t", "s", [Section("h", [Table(["a"], [[1]])])]))


def test_only_the_sorting_script_may_run_and_only_where_there_is_something_to_sort() -> None:
    plain = render_page(everything("plain"))
    assert "<script" not in plain
    assert "script-src" not in plain
    source = render_page(Page("t", "s", [Section("h", [Table(["a"], [[1], [2]], sortable=True)])]))
    (script,) = re.findall(r"<script>(.*?)</script>", source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', source)[0]
    assert policy.startswith("default-src 'none'; ")
    assert re.findall(r"script-src ([^;]*)", policy) == [f"'sha256-{digest}'"]
    assert "innerHTML" not in script


def test_contents_link_to_every_section() -> None:
    titles = ["How it is measured", "§ 2", "How it is measured", "Octaves", "Peaks & grids"]
    source = render_page(Page("t", ["One.", "Two.", "Three."], [Section(title, []) for title in titles]))
    links = re.findall(r'<a href="#(.*?)">(.*?)</a>', source)
    assert [text for _, text in links] == [
        "How it is measured",
        "§ 2",
        "How it is measured",
        "Octaves",
        "Peaks &amp; grids",
    ]
    assert [name for name, _ in links] == re.findall(r'<section id="(.*?)"', source)
    assert len({name for name, _ in links}) == 5
    assert '<div class="summary"><p>One.</p><p>Two.</p><p>Three.</p></div>' in source
    short = Page("t", "s", [Section("a", []), Section("b", [])])
    assert "<nav" not in render_page(short)
    assert "<nav" in render_page(Page("t", "s", short.sections, contents=True))


def test_a_written_figure_is_on_the_page_and_beside_it(tmp_path: Path) -> None:
    figure = psd_figure({"real": [3.0, 2.0, 1.0]})
    svg = to_svg(figure)
    block = write_figure(figure, tmp_path / "figures", "the psd", caption="Falls.", alt="A line falls.")
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"the psd.svg", "the psd.pdf", "the psd.png"}
    assert (tmp_path / "figures" / "the psd.svg").read_text() == block.image == svg
    assert (tmp_path / "figures" / "the psd.pdf").read_bytes().startswith(b"%PDF")
    write_page(Page("t", "s", [Section("h", [block])]), tmp_path / "index.html")
    page = (tmp_path / "index.html").read_text()
    sources = dict(re.findall(r'<source media="(.*?)" srcset="(.*?)">', page))
    assert sources == {"(max-width: 34rem)": data_uri(adaptive(block.narrow))}
    assert [
        float(width) for width in re.findall(r'svg" width="(.*?)pt"|width="([\d.]+)pt"', block.narrow)[0] if width
    ] == [pytest.approx(72 * 4.2)]
    links = re.findall(r'<a href="(.*?)"', page)
    assert links == ["figures/the%20psd.svg", "figures/the%20psd.pdf", "figures/the%20psd.png"]


def test_a_figure_for_the_telephone_keeps_its_panels_and_its_legend() -> None:
    names = [f"a rather long name of a series {number}" for number in range(3)]
    with _style():
        figure, first = _figure(width=9.6)
        first.remove()
        panels = figure.subplots(1, 2, sharey=True)
        for axes in panels:
            for name in names:
                axes.plot([0, 1], [0, 1], label=name)
            axes.set_xticks(range(8), [f"1/{2**power}–1/{2 ** (power - 1)}" for power in range(1, 9)])
        figure.legend(handles=panels[0].lines, loc="outside upper left", ncols=3)
        assert make_narrow(figure)
        figure.draw_without_rendering()
        left, right = (axes.get_position() for axes in panels)
        assert left.y0 > right.y1  # the second below the first
        assert left.x0 == pytest.approx(right.x0)
        assert [axes.yaxis.get_ticklabels()[0].get_visible() for axes in panels] == [True, True]
        (legend,) = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == names
        assert legend.get_window_extent().width <= figure.bbox.width
        boxes = [label.get_window_extent() for label in panels[1].get_xticklabels()]
        assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width for box in boxes)
        assert panels[1].get_xticklabels()[0].get_rotation() > 0
        assert not make_narrow(figure)  # it is narrow


def test_a_rebuilt_legend_keeps_its_title_its_dashes_and_its_markers() -> None:
    names = [f"a rather long name of an arm {number}" for number in range(3)]
    with _style():
        figure, axes = _figure()
        for name, style in series_style(names).items():
            axes.errorbar([1, 2], [1, 2], yerr=[0.1, 0.1], marker="o", label=name, **style)
        figure.legend(loc="outside upper left", ncols=3, title="arms")
        assert make_narrow(figure)
        (legend,) = figure.legends
    assert legend.get_title().get_text() == "arms"
    assert [text.get_text() for text in legend.get_texts()] == names
    lines = legend.findobj(Line2D)
    assert sorted(line.get_linestyle() for line in lines if line.get_linestyle() != "None") == ["-", "--", "--"]
    assert sum(line.get_marker() == "o" for line in lines) == len(names)


def test_titles_and_labels_are_broken_where_a_telephone_ends() -> None:
    words = "a title of many words that is far too long for a telephone held upright"
    with _style():
        figure, axes = _figure()
        axes.set_title(words)
        axes.set_xlabel(f"{words}\n(unit)")
        axes.set_ylabel("short")
        figure.supylabel(words)
        height = 4.0
        assert make_narrow(figure)
        figure.draw_without_rendering()
        for text in figure.findobj(Drawn):
            box = text.get_window_extent()
            assert box.x1 <= figure.bbox.width
            assert box.y1 <= figure.bbox.height
    shown = {" ".join(text.get_text().split()): text.get_text() for text in figure.findobj(Drawn)}
    assert words in shown  # every word is there
    assert shown[f"{words} (unit)"].endswith("\n(unit)")  # and lines stay apart
    assert shown["short"] == "short"
    assert figure.get_figheight() > height * 0.9


def test_colours_are_explained_below_the_panels_of_a_telephone() -> None:
    with _style():
        figure = Canvas(figsize=(7.0, 3.0))
        panels = list(figure.subplots(1, 2))
        image = [axes.imshow([[-1.0, 1.0]], vmin=-1, vmax=1, aspect="auto") for axes in panels][-1]
        bar = figure.colorbar(image, ax=panels)
        bar.set_ticks([-1, 0, 1], labels=["little", "none", "much"])
        bar.set_label("power (dB)")
        assert make_narrow(figure)
        figure.draw_without_rendering()
    laid = image.colorbar
    assert len(figure.axes) == 3
    assert laid.ax.get_xlabel() == "power (dB)"
    assert [tick.get_text() for tick in laid.ax.get_xticklabels()] == ["little", "none", "much"]
    assert laid.ax.get_position().y1 < min(axes.get_position().y0 for axes in panels)
    assert all(axes.get_position().width > 0.6 for axes in panels)


def test_each_of_several_bars_stays_with_its_panel() -> None:
    with _style():
        figure = Canvas(figsize=(12.0, 4.0))
        panels = list(figure.subplots(1, 2))
        images = [axes.imshow([[0.0, 1.0]], aspect="auto") for axes in panels]
        for axes, image in zip(panels, images, strict=True):
            figure.colorbar(image, ax=axes)
        assert make_narrow(figure)
        figure.draw_without_rendering()
    first, below = (axes.get_position() for axes in panels)
    bar, last = (image.colorbar.ax.get_position() for image in images)
    assert first.y0 > bar.y1 > bar.y0 > below.y1
    assert below.y0 > last.y1


def test_ticks_that_adapt_are_not_slanted() -> None:
    with _style():
        figure, axes = _figure()
        axes.plot([-1e4, 1e4], [0, 1])
        assert make_narrow(figure)
    assert {label.get_rotation() for label in axes.get_xticklabels()} == {0}


def test_a_picture_within_a_picture_is_not_encoded_twice() -> None:
    text = "#" * 900 + " %,\"&'"
    for inside, kind in ((text, ";base64"), (base64.b64encode(bytes(900)).decode(), "")):
        svg = SVG.replace("<rect", f"<desc>{inside}</desc><rect")
        head, data = data_uri(svg).split(",", 1)
        assert head == f"data:image/svg+xml{kind}"
        assert (base64.b64decode(data).decode() if kind else unquote(data)) == svg
        assert not set(" \"<>#'&") & set(data)


@pytest.mark.parametrize(("side", "legible"), [(4, True), (12, False)])
def test_cells_too_small_for_their_numbers_are_bare_on_the_telephone(side: int, legible: bool) -> None:
    with _style():
        figure, axes = _figure()
        axes.imshow(np.zeros((side, side)), aspect="auto")
        texts = [axes.text(column, row, "−10.5", ha="center") for row in range(side) for column in range(side)]
        assert make_narrow(figure)
    assert {text.get_visible() for text in texts} == {legible}


def test_images_lie_on_the_page_without_white_between_them(tmp_path: Path) -> None:
    figure = image_grid(torch.ones(3, 1, 8, 8), columns=2)
    block = write_figure(figure, tmp_path / "figures", "real", caption="Images.", alt="3 white images.", pixels=True)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["real.png"]
    assert isinstance(block.image, bytes)
    shown = np.asarray(Image.open(io.BytesIO(block.image)))[..., 3] > 0
    scale = shown.shape[0] // 18
    assert shown[scale // 2 :: scale, scale // 2 :: scale].tolist() == [
        [row % 10 < 8 and column % 10 < 8 and not (row > 8 and column > 8) for column in range(18)] for row in range(18)
    ]
    written = np.asarray(Image.open(tmp_path / "figures" / "real.png"))
    assert (written == 255).all()  # white paper in the file


def test_table_cells() -> None:
    table = Table(["name", "value", "text number"], [["a", 1.23456, "3.1 dB"], ["b", math.nan, "−0.2 ± 0.1"]])
    source = render_page(Page("t", "s", [Section("h", [table])]))
    cells = re.findall(r"<td(.*?)>(.*?)</td>", source)
    right, short = ' class="number"', ' class="short"'
    assert cells == [
        (short, "a"), (right, "1.235"), (right, "3.1 dB"),
        (short, "b"), (right, "–"), (right, "−0.2 ± 0.1"),
    ]  # fmt: skip


def test_a_column_of_names_has_no_empty_head() -> None:
    source = render_page(Page("t", "s", [Section("h", [Table(["", "n"], [["a", 1]])])]))
    assert re.findall("<thead><tr>(.*?)</tr>", source) == ['<td></td><th scope="col" class="number">n</th>']


def test_what_begins_with_a_number_may_be_a_name() -> None:
    rows = [["2 × 2 checkerboard", "2 × 2"], ["8 × 8 block grid (JPEG)", "[8, 9] dB"]]
    source = render_page(Page("t", "s", [Section("h", [Table(["pattern", "period"], rows)])]))
    assert re.findall("<th( .*?)>", source) == [' scope="col"', ' scope="col" class="number"']


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
        (lambda: Figure(SVG, "caption", "alt", files=["/tmp/a.svg"]), "relative to the page's folder"),
        (lambda: Figure(SVG, "caption", "alt", files=["https://a/b.svg"]), "relative to the page's folder"),
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
    assert to_pdf(draw()) == to_pdf(draw())
    assert ET.fromstring(to_svg(draw())).tag.endswith("svg")
    assert to_png_data_uri(draw()).startswith("data:image/png;base64,iVBOR")
