"""From the results of a grid to its figures, each also a file."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from passband.reports.figures import curve_figure, difference_figure, write_figure
from passband.reports.grid_figures import Curve, HeatCell, curve_grid_figure, heat_map_figure
from passband.reports.grid_tables import clearly, entries_of, heat_maps, of_model
from passband.reports.page import Figure


def difference_figures(results: Mapping[str, Any], folder: Path) -> Iterator[Figure]:
    """Dots with standard errors: the difference of each arm from the baseline."""
    baseline = results["grid"]["baseline"]
    for model in results["grid"]["models"]:
        for number, (key, facts) in enumerate(results["metrics"].items()):
            series: dict[str, dict[str, tuple[float, float | None]]] = {}
            for entry in results["tables"]:
                if entry["model"] == model and entry["metric"] == key and entry["difference"] is not None:
                    after = series.setdefault(f"{entry['steps']:,} step{'s' * (entry['steps'] != 1)}", {})
                    after[entry["arm"]] = (entry["difference"], entry["difference_error"])
            if series:
                better = "higher" if facts["better"] == "higher" else "lower"
                label = f"difference from {baseline}\n({better} is better)"
                figure = difference_figure(series, x_label=label, title=facts["title"])
                where = "" if len(results["grid"]["models"]) == 1 else f" of {model}"
                caption = f"Paired differences{where} from {baseline!r}, with one standard error over seeds."
                yield write_figure(
                    figure, folder, f"{model}-{facts['metric']}-{number}",
                    caption=caption, alt=f"Dot plot. {caption} {facts['title']}.",
                )  # fmt: skip


def heat_figures(results: Mapping[str, Any], folder: Path) -> Iterator[Figure]:
    """Heat maps of the differences after the last training step, where the grid has a layout for them."""
    grid, layout = results["grid"], results["grid"].get("heat_map")
    arms, keys = list(grid["arms"]), list(results["metrics"])
    for key, arm, panels in heat_maps(results):
        facts = results["metrics"][key]
        shown = {name: [[_heat_cell(entry) for entry in row] for row in cells] for name, cells in panels.items()}
        if any(cell for cells in shown.values() for row in cells for cell in row):
            lower = facts["better"] != "higher"
            figure = heat_map_figure(
                shown, layout["rows"], layout["columns"], lower_is_better=lower, label=f"{arm} − {grid['baseline']}",
                title=f"{facts['title']}: {arm} against {grid['baseline']}",
            )  # fmt: skip
            caption = (
                f"{facts['title']} after {max(grid['steps']):,} steps, mean difference of {arm!r} from "
                f"{grid['baseline']!r} within seeds. Blue is better, orange is worse, outlined and bold is clear "
                "(Student's t, 95 %, each cell by itself)."
            )
            yield write_figure(
                figure, folder, f"heat-{facts['metric']}-{keys.index(key)}-{arms.index(arm)}",
                caption=caption, alt=f"Heat map. {caption} The numbers are in table.md.",
            )  # fmt: skip


def _heat_cell(entry: Mapping[str, Any] | None) -> HeatCell | None:
    return None if entry is None or entry["difference"] is None else HeatCell(entry["difference"], clearly(entry))


def step_figures(results: Mapping[str, Any], folder: Path) -> Iterator[Figure]:
    """Each metric over the training steps, where there are several."""
    grid, layout = results["grid"], results["grid"].get("heat_map")
    steps = sorted(grid["steps"])
    for number, (key, facts) in enumerate(results["metrics"].items() if len(steps) > 1 else ()):
        caption = f"{facts['title']} ({_better(facts['better'])}) over training: mean and standard error over seeds."
        if layout is None:
            for model in grid["models"]:
                curves = _model_curves(results, model, key, steps)
                if curves:
                    figure = curve_figure(
                        steps, dict(curves), y_label=facts["title"], title=of_model("", results, model)
                    )
                    yield write_figure(
                        figure, folder, f"{model}-{facts['metric']}-{number}-steps",
                        caption=of_model(caption, results, model), alt=f"Curves. {caption}",
                    )  # fmt: skip
            continue
        for panel in layout["panels"] or ("",):
            rows = {
                row: {
                    column: _model_curves(results, "-".join(filter(None, (panel, row, column))), key, steps)
                    for column in layout["columns"]
                }
                for row in layout["rows"]
            }
            if any(arms for found in rows.values() for arms in found.values()):
                figure = curve_grid_figure(steps, rows, y_label=facts["title"], title=panel)
                where = f"{panel}: " if panel else ""
                yield write_figure(
                    figure, folder, f"{panel or 'all'}-{facts['metric']}-{number}-steps",
                    caption=f"{where}{caption}", alt=f"Small plots, one for each model. {where}{caption}",
                )  # fmt: skip


def _model_curves(results: Mapping[str, Any], model: str, key: str, steps: Sequence[int]) -> dict[str, Curve]:
    found = entries_of(results, model, key)
    curves: dict[str, Curve] = {}
    for arm in results["grid"]["arms"]:
        entries = [found.get((arm, step)) for step in steps]
        if any(entries):
            means = [math.nan if e is None else e["mean"] for e in entries]
            errors = [math.nan if e is None or e["standard_error"] is None else e["standard_error"] for e in entries]
            curves[arm] = (means, errors)
    return curves


def _better(better: str) -> str:
    return "nearer to 0 is better" if better == "zero" else f"{better} is better"
