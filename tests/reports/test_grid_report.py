"""The report of a grid: what its heat map marks, and its measures over the training steps."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from passband.reports import to_svg
from passband.reports._narrow import make_narrow
from passband.reports.figures import COLOURS
from passband.reports.grid import grid_markdown, grid_report
from passband.reports.grid_figures import HeatCell, curve_grid_figure, heat_map_figure
from passband.reports.grid_tables import compare_arms, heat_maps, heat_tables, step_tables

PANELS, ROWS, COLUMNS = ["coarse", "fine"], ["one", "two"], ["noise", "signal"]
STEPS = [200, 100]
# Differences over three seeds: clear, not clear, clear.
CHANGES = {"noise": (-1.0, -1.1, -0.9), "signal": (-1.0, 1.0, 0.5), "none": (2.0, 2.1, 1.9)}


def synthetic(layout: dict[str, Any] | None, better: str = "lower") -> dict[str, Any]:
    """A grid without runs: forcing changes what CHANGES says, twice that for row two, none in fine-two-signal."""
    models = (
        [f"{panel}-{row}-{column}" for panel in PANELS for row in ROWS for column in COLUMNS] if layout else ["noise"]
    )
    runs = []
    for model in models:
        for seed in (0, 1, 2):
            for steps in STEPS:
                base = 3.0 + seed + steps / 100
                change = CHANGES[model.rpartition("-")[2]][seed] * (2 if "two" in model else 1)
                for arm, value in (("plain", base), ("forcing", base + change)):
                    if (model, arm) != ("fine-two-signal", "forcing"):
                        where = {"model": model, "arm": arm, "seed": seed, "steps": steps}
                        runs.append(where | {"metrics": {"lsd": value}})
    facts = {"metric": "lsd", "title": "LSD", "better": better, "features": "", "real": 9, "fake": 8}
    grid = {
        "name": "made", "models": {model: [] for model in models}, "arms": {"plain": [], "forcing": []},
        "baseline": "plain", "steps": STEPS, "seeds": [0, 1, 2], "heat_map": layout,
    }  # fmt: skip
    nothing = {"missing": [], "failed": [], "paper": None, "versions": {}}
    results = {"grid": grid, "runs": runs, "metrics": {"lsd": facts}, **nothing}
    return results | {"tables": compare_arms(results)}


@pytest.fixture
def results() -> dict[str, Any]:
    return synthetic({"rows": ROWS, "columns": COLUMNS, "panels": PANELS})


def test_the_heat_map_has_the_differences_after_the_last_step(results: dict[str, Any]):
    ((key, arm, panels),) = heat_maps(results)
    assert (key, arm, list(panels)) == ("lsd", "forcing", PANELS)
    for panel, cells in panels.items():
        for row, factor, found in zip(ROWS, (1, 2), cells, strict=True):
            for column, cell in zip(COLUMNS, found, strict=True):
                assert (cell is None) == ((panel, row, column) == ("fine", "two", "signal"))
                if cell is not None:
                    assert (cell["model"], cell["steps"]) == (f"{panel}-{row}-{column}", 200)
                    assert cell["difference"] == pytest.approx(factor * np.mean(CHANGES[column]))


def test_panels_without_runs_are_left_out(results: dict[str, Any]):
    results["runs"] = [run for run in results["runs"] if run["model"].startswith("fine")]
    results["tables"] = compare_arms(results)
    assert [list(panels) for _, _, panels in heat_maps(results)] == [["fine"]]
    assert len(list(heat_tables(results))) == 1
    results["tables"] = []
    assert list(heat_maps(results)) == []


def test_bold_is_what_a_t_test_finds(results: dict[str, Any]):
    tables = dict(heat_tables(results))
    assert len(tables) == 2
    head, one, two = tables["LSD\N{NO-BREAK SPACE}↓: forcing − plain, fine"]
    assert head == ["", "noise", "signal"]
    assert one[1] == "**−1.000 ± 0.058**"
    assert one[2] == "+0.17 ± 0.60"
    assert two[2] == "–"
    for column, cell in zip(COLUMNS, one[1:], strict=True):
        assert cell.startswith("**") == (stats.ttest_1samp(CHANGES[column], 0).pvalue < 0.05)


def test_a_grid_without_layout_has_no_heat_map():
    assert list(heat_maps(synthetic(None))) == []
    plain = synthetic(None)
    del plain["grid"]["heat_map"]  # one that an older version wrote
    assert list(heat_tables(plain)) == []


def test_a_grid_without_panels():
    results = synthetic({"rows": ROWS, "columns": COLUMNS, "panels": []})
    for run in results["runs"]:
        run["model"] = run["model"].partition("-")[2]
    results["grid"]["models"] = {f"{row}-{column}": [] for row in ROWS for column in COLUMNS}
    results["tables"] = compare_arms(results)
    ((_, _, panels),) = heat_maps(results)
    assert list(panels) == [""]
    assert next(heat_tables(results))[0] == "LSD\N{NO-BREAK SPACE}↓: forcing − plain"


def test_the_steps_are_columns_in_ascending_order(results: dict[str, Any]):
    tables = dict(step_tables(results))
    assert len(tables) == 8
    head, plain, forcing, difference = tables["coarse-two-noise: LSD\N{NO-BREAK SPACE}↓"]
    assert head == ["arm", "100 steps", "200 steps"]
    assert plain == ["plain", "5.00 ± 0.58", "6.00 ± 0.58"]
    assert [row[0] for row in (forcing, difference)] == ["forcing", "forcing − plain"]
    assert difference[1] == "−2.00 ± 0.12"


def test_one_number_of_steps_is_no_course():
    results = synthetic(None)
    results["grid"]["steps"] = [200]
    assert list(step_tables(results)) == []


@pytest.mark.usefixtures("no_pdf")
def test_the_page_of_a_heat_map(results: dict[str, Any], legible: Callable[[str], int], tmp_path: Path):
    results["missing"] = [{"model": "x", "arm": "y", "seed": 0, "steps": 1}]
    source = grid_report(results, tmp_path, command="passband grid made.yaml").read_text()
    files = {file.stem for file in (tmp_path / "figures").iterdir()}
    assert files == {"heat-lsd-0-1", "coarse-lsd-0-steps", "fine-lsd-0-steps"}
    assert legible(source) == 3
    headings = re.findall("<h2>(.*?)</h2>", source)
    assert headings == [
        "Differences from the baseline", "Over training steps", "Arms compared", "What was measured", "Each run"
    ]  # fmt: skip
    assert source.index("are not there yet") < source.index("<img")
    # In full after the last step only.
    assert "fine-one-noise after 200 training steps: LSD" in source
    assert "after 100 training steps" not in source
    text = grid_markdown(results)
    assert text.index("forcing − plain, coarse") < text.index("coarse-one-noise after 100 training steps")


@pytest.mark.usefixtures("no_pdf")
def test_the_page_of_a_grid_without_layout(legible: Callable[[str], int], tmp_path: Path):
    source = grid_report(synthetic(None), tmp_path).read_text()
    assert {file.stem for file in (tmp_path / "figures").iterdir()} == {"noise-lsd-0", "noise-lsd-0-steps"}
    assert legible(source) == 2


def test_every_panel_names_its_rows_on_a_telephone():
    figure = heat_map_figure({name: [[HeatCell(1.0, False)]] for name in "abc"}, ["row"], ["x"], label="T")
    assert make_narrow(figure)
    figure.draw_without_rendering()
    panels = figure.axes[:3]
    assert [[tick.get_text() for tick in axes.get_yticklabels() if tick.get_visible()] for axes in panels] == [
        ["row"]
    ] * 3
    assert len({round(axes.get_position().x0, 6) for axes in panels}) == 1


def colour_of(figure: Any, value: float) -> np.ndarray:
    image = figure.axes[0].images[0]
    return np.array(image.cmap(image.norm(value))[:3])


@pytest.mark.parametrize("lower", [True, False])
def test_blue_is_better_and_the_scale_is_even(lower: bool):
    cells = [[HeatCell(-0.5, True), HeatCell(2.0, False)], [None, HeatCell(float("nan"), False)]]
    figure = heat_map_figure({"a": cells, "b": cells}, ["1", "2"], ["x", "y"], lower_is_better=lower, title="T")
    rgb = [np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]) for colour in COLOURS[:2]]
    orange, blue = rgb
    assert np.abs(colour_of(figure, -2.0) - (blue if lower else orange)).max() < 0.02
    assert np.abs(colour_of(figure, 2.0) - (orange if lower else blue)).max() < 0.02
    assert colour_of(figure, 0.0).min() > 0.95
    panels = figure.axes[:2]
    assert [axes.get_title(loc="left") for axes in panels] == ["a", "b"]
    for axes in panels:
        texts = {text.get_text(): text for text in axes.texts}
        assert list(texts) == ["−0.5", "+2", "–"]
        assert texts["−0.5"].get_fontweight() == "bold"
        assert texts["+2"].get_fontweight() == "normal"
        assert [texts[name].get_color() for name in ("+2", "–")] == ["black" if lower else "white", "black"]
        assert len(axes.patches) == 1
    assert to_svg(figure) == to_svg(heat_map_figure(
        {"a": cells, "b": cells}, ["1", "2"], ["x", "y"], lower_is_better=lower, title="T"
    ))  # fmt: skip


def test_no_difference_anywhere_is_white():
    figure = heat_map_figure({"": [[HeatCell(0.0, False)]]}, ["1"], ["x"])
    assert colour_of(figure, 0.0).min() > 0.95


@pytest.mark.parametrize(
    ("panels", "rows"), [({}, ["1"]), ({"a": []}, []), ({"a": [[None]]}, ["1", "2"]), ({"a": [[None, None]]}, ["1"])]
)
def test_faults_of_a_heat_map(panels: dict, rows: list):
    with pytest.raises(ValueError, match="expected panels of"):
        heat_map_figure(panels, rows, ["x"])


def test_curves_draw_every_arm_in_its_place():
    arms = {"none": ([3.0, 2.0], [0.1, 0.2]), "forcing": ([2.5, float("nan")], [0.1, float("nan")])}
    curves = {"one": {"noise": arms, "signal": {"none": ([5.0, 4.0], [0.1, 0.1])}}}
    figure = curve_grid_figure([100, 200], curves, y_label="LSD", title="coarse")
    first, second = figure.axes
    assert [axes.get_title(loc="left") for axes in (first, second)] == ["one, noise", "one, signal"]
    assert [list(container[0].get_ydata()) for container in second.containers] == [[5.0, 4.0]]
    assert list(first.containers[0][0].get_ydata()) == [3.0, 2.0]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["none", "forcing"]
    assert first.get_ylim() == second.get_ylim()
    assert first.get_ylim()[0] == 0


def test_faults_of_curves():
    for curves in ({}, {"one": {}}, {"one": {"a": {}}, "two": {"b": {}}}):
        with pytest.raises(ValueError, match="expected rows of the same columns"):
            curve_grid_figure([1], curves)
