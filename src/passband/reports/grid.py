"""The report of a grid of runs: its tables in Markdown and on a page, figures, and the numbers as JSON."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from passband.reports.compare import finite
from passband.reports.figures import curve_figure, difference_figure, to_png, to_svg
from passband.reports.grid_figures import Curve, HeatCell, curve_grid_figure, heat_map_figure
from passband.reports.page import (
    Block,
    Figure,
    Page,
    Section,
    Table,
    Text,
    current_command,
    write_file,
    write_page,
)
from passband.reports.paired import Estimate, estimate, is_clear, markdown_table, paired_difference, with_error

COLUMNS = ("metric", "arm", "mean", "paired difference", "seeds")

METHOD = (
    "Mean over training seeds with its standard error. The arms of a seed share the network they start from, the data "
    "order, the noise and the samples' starting noise, so differences from the baseline are taken within seeds: mean "
    "difference and its standard error over seeds."
)


def compare_arms(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The comparison of the arms for each model and number of steps, as plain data.

    Args:
        results: `grid` (models, arms, baseline, steps), `runs` (model, arm, seed, steps, metrics by key), `metrics`
            (facts by key) and `paper`, as [`collect`][passband.training.grid.collect] makes them.

    Returns:
        One entry for each model, steps, metric and arm that was measured: mean and standard error over seeds, paired
        difference from the baseline with its standard error (None for the baseline, and with one seed), and the
        paper's number where there is one.

    """
    grid = results["grid"]
    found = []
    for model in grid["models"]:
        for steps in sorted(grid["steps"]):
            for key, facts in results["metrics"].items():
                by_arm = {arm: _by_seed(results["runs"], model, steps, arm, key) for arm in grid["arms"]}
                for arm, values in by_arm.items():
                    if values:
                        entry = _compared(values, by_arm[grid["baseline"]], arm == grid["baseline"])
                        where = {"model": model, "steps": steps, "metric": key, "arm": arm}
                        paper = _paper(results.get("paper"), model, arm, steps, facts["metric"])
                        found.append(where | entry | {"paper": paper})
    return found


def grid_rows(results: Mapping[str, Any], model: str, steps: int) -> list[list[str]]:
    """The table of one model after some steps as text: a head, and one row for each metric and arm."""
    entries = [entry for entry in results["tables"] if entry["model"] == model and entry["steps"] == steps]
    paper = any(entry["paper"] is not None for entry in entries)
    rows = [[*COLUMNS, *(["paper"] if paper else [])]]
    for key, group in groupby(entries, key=lambda entry: str(entry["metric"])):
        for number, entry in enumerate(group):
            mean = Estimate(entry["mean"], entry["standard_error"], entry["seeds"])
            row = [
                _title(results["metrics"][key]) if number == 0 else "",
                entry["arm"],
                with_error(mean),
                _difference(entry),
                str(entry["seeds"]),
            ]
            rows.append([*row, *([f"{entry['paper']:.4g}" if entry["paper"] is not None else "–"] if paper else [])])
    return rows


def grid_tables(results: Mapping[str, Any], only_steps: int | None = None) -> Iterator[tuple[str, list[list[str]]]]:
    """(title, rows) of each table that holds something; after these steps only, if they are given."""
    grid = results["grid"]
    for model in grid["models"]:
        for steps in sorted(grid["steps"]) if only_steps is None else (only_steps,):
            rows = grid_rows(results, model, steps)
            if len(rows) > 1:
                name = "After" if len(grid["models"]) == 1 else f"{model} after"
                yield f"{name} {steps:,} training step{'s' * (steps != 1)}", rows


def metric_tables(results: Mapping[str, Any]) -> Iterator[tuple[str, list[list[str]]]]:
    """(title, rows) of `grid_tables`, one for each metric, so that they fit into a narrow terminal or page."""
    yield from _by_metric(grid_tables(results))


def _by_metric(tables: Iterable[tuple[str, list[list[str]]]]) -> Iterator[tuple[str, list[list[str]]]]:
    for title, (head, *rows) in tables:
        starts = [number for number, row in enumerate(rows) if row[0]]
        for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
            yield f"{title}: {rows[start][0]}", [head[1:], *(row[1:] for row in rows[start:end])]


def step_tables(results: Mapping[str, Any]) -> Iterator[tuple[str, list[list[str]]]]:
    """(title, rows) of each model's metrics over the training steps, where there are several: one row for each arm."""
    grid = results["grid"]
    steps = sorted(grid["steps"])
    for model in grid["models"] if len(steps) > 1 else ():
        for key, facts in results["metrics"].items():
            found = _entries(results, model, key)
            if found:
                rows = [["arm", *(f"{step:,} steps" for step in steps)]]
                rows += [[arm, *(_mean(found.get((arm, step))) for step in steps)] for arm in grid["arms"]]
                rows += [
                    [f"{arm} − {grid['baseline']}", *(_change(found.get((arm, step))) for step in steps)]
                    for arm in grid["arms"] if arm != grid["baseline"]
                ]  # fmt: skip
                yield _of_model(_title(facts), results, model), rows


def heat_maps(results: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, list[list[dict[str, Any] | None]]]]]:
    """(metric, arm, panels) of each heat map after the last training step; a cell is an entry of the tables, or None.

    Panels are rows of cells by the panel's name, `""` for a grid without panels.
    """
    layout = results["grid"].get("heat_map")
    if layout is None:
        return
    last = max(results["grid"]["steps"])
    for key in results["metrics"]:
        for arm in results["grid"]["arms"]:
            if arm != results["grid"]["baseline"]:
                panels = {
                    panel: [
                        [
                            _entries(results, "-".join(filter(None, (panel, row, column))), key).get((arm, last))
                            for column in layout["columns"]
                        ]
                        for row in layout["rows"]
                    ]
                    for panel in layout["panels"] or ("",)
                }
                yield key, arm, panels


def heat_tables(results: Mapping[str, Any]) -> Iterator[tuple[str, list[list[str]]]]:
    """(title, rows) of the heat maps as text, one for each panel; what is clear is bold in Markdown."""
    layout, baseline = results["grid"].get("heat_map"), results["grid"]["baseline"]
    for key, arm, panels in heat_maps(results):
        for panel, cells in panels.items():
            rows = [["", *layout["columns"]]]
            for name, row in zip(layout["rows"], cells, strict=True):
                rows.append([name, *(f"**{_change(cell)}**" if _is_clear(cell) else _change(cell) for cell in row)])
            where = f", {panel}" if panel else ""
            yield f"{_title(results['metrics'][key])}: {arm} − {baseline}{where}", rows


def grid_notes(results: Mapping[str, Any]) -> list[str]:
    """What a reader of the tables must know: what is not there yet, what diverged, and what the paper's numbers are."""
    notes = []
    if results["missing"]:
        total = len(results["missing"]) + len(results["runs"]) + len(results["failed"])
        notes.append(f"{len(results['missing'])} of {total} evaluations are not there yet.")
    failed = {(run["model"], run["arm"], run["seed"]): run["reason"] for run in results["failed"]}
    notes += [f"{model} {arm}, seed {seed}, is left out: {reason}" for (model, arm, seed), reason in failed.items()]
    if results["paper"] is not None:
        notes.append(f"Column paper: {results['paper']['source']}.")
    return notes


def describe_grid(results: Mapping[str, Any]) -> str:
    """How many arms differ clearly from the baseline, in plain sentences."""
    sentences = []
    for key, facts in results["metrics"].items():
        entries = [e for e in results["tables"] if e["metric"] == key and e["difference"] is not None]
        judged = [e for e in entries if e["difference_error"] is not None]
        clear = [e for e in judged if _is_clear(e)]
        better = [e for e in clear if (e["difference"] < 0) == (facts["better"] == "lower")]
        if judged:
            sentences.append(
                f"{facts['title']}: of {len(judged)} comparisons with {results['grid']['baseline']!r}, {len(better)} "
                f"are clearly better and {len(clear) - len(better)} clearly worse (Student's t, 95 %, each by itself)."
            )
        elif entries:
            sentences.append(f"{facts['title']}: a single seed has no standard error, so nothing is judged.")
    return " ".join(sentences) or "There is nothing to compare yet."


def grid_report(results: Mapping[str, Any], out: Path, command: str | None = None) -> Path:
    """Write results.json, table.md, the figures and the page of a grid.

    Args:
        results: what [`collect`][passband.training.grid.collect] returned.
        out: the grid's folder.
        command: the command that made it; None: that of this process.

    Returns:
        The path of index.html.

    """
    command = current_command() if command is None else command
    write_file(out / "results.json", (json.dumps(finite({**results, "command": command}), indent=1) + "\n").encode())
    write_file(out / "table.md", grid_markdown(results).encode())
    notes = [Text(note, "warning") for note in grid_notes(results)]
    # Where there are several numbers of steps, the last is compared in full, and the others over the steps.
    compared = _by_metric(grid_tables(results, max(results["grid"]["steps"])))
    blocks: list[Block] = [Table(rows[0], rows[1:], caption=title) for title, rows in compared]
    over = [Table(rows[0], rows[1:], caption=title) for title, rows in step_tables(results)]
    folder = out / "figures"
    maps = list(_heat_figures(results, folder))
    differences = maps or list(_figures(results, folder))
    sections = [
        Section("Differences from the baseline", [*notes, *differences]),
        Section("Over training steps", [*_curves(results, folder), *over]),
        Section("Arms compared", [*blocks, Text(METHOD, "note")]),
        Section("What was measured", [_metric_table(results)]),
        Section("Each run", [_run_table(results)]),
    ]
    page = Page(
        title=f"Grid {results['grid']['name']}",
        summary=describe_grid(results),
        sections=[section for section in sections if section.blocks],
        command=command,
        versions=results["versions"],
    )
    return write_page(page, out / "index.html")


def grid_markdown(results: Mapping[str, Any]) -> str:
    """The tables in Markdown, with what a reader must know of them."""
    parts = [f"# Grid {results['grid']['name']}", describe_grid(results), *grid_notes(results)]
    for title, rows in (*heat_tables(results), *step_tables(results), *grid_tables(results)):
        parts += [f"## {title}", markdown_table(rows).rstrip("\n")]
    facts = [f"{facts['title']}: {_facts(facts)}" for facts in results["metrics"].values()]
    return "\n\n".join([*parts, METHOD, *facts]) + "\n"


def _by_seed(runs: Sequence[Mapping[str, Any]], model: str, steps: int, arm: str, key: str) -> dict[int, float]:
    return {
        run["seed"]: run["metrics"][key]
        for run in runs
        if (run["model"], run["steps"], run["arm"]) == (model, steps, arm) and run["metrics"].get(key) is not None
    }


def _compared(values: Mapping[int, float], baseline: Mapping[int, float], is_baseline: bool) -> dict[str, Any]:
    mean = estimate(list(values.values()))
    difference = None if is_baseline else paired_difference(values, baseline)
    return {
        "mean": mean.mean,
        "standard_error": mean.error,
        "seeds": mean.seeds,
        "difference": None if difference is None else difference.mean,
        "difference_error": None if difference is None else difference.error,
        "pairs": None if difference is None else difference.seeds,
    }


def _paper(paper: Mapping[str, Any] | None, model: str, arm: str, steps: int, metric: str) -> float | None:
    by_steps = {} if paper is None else paper["values"].get(model, {}).get(arm, {})
    found = by_steps.get(steps, by_steps.get(str(steps), {})).get(metric)  # JSON's keys are texts
    return None if found is None else float(found)


def _entries(results: Mapping[str, Any], model: str, key: str) -> dict[tuple[str, int], dict[str, Any]]:
    """The entries of a model and metric, by arm and steps."""
    return {
        (entry["arm"], entry["steps"]): entry
        for entry in results["tables"]
        if entry["model"] == model and entry["metric"] == key
    }


def _mean(entry: Mapping[str, Any] | None) -> str:
    return "–" if entry is None else with_error(Estimate(entry["mean"], entry["standard_error"], entry["seeds"]))


def _change(entry: Mapping[str, Any] | None) -> str:
    return "–" if entry is None else _difference(entry)


def _is_clear(entry: Mapping[str, Any] | None) -> bool:
    return (
        entry is not None
        and entry["difference"] is not None
        and is_clear(Estimate(entry["difference"], entry["difference_error"], entry["pairs"]))
    )


def _of_model(text: str, results: Mapping[str, Any], model: str) -> str:
    return text if len(results["grid"]["models"]) == 1 else f"{model}: {text}"


def _difference(entry: Mapping[str, Any]) -> str:
    if entry["difference"] is None:
        return "–"
    shown = with_error(Estimate(entry["difference"], entry["difference_error"], entry["pairs"]), sign=True)
    return shown if entry["pairs"] == entry["seeds"] else f"{shown} ({entry['pairs']} pairs)"


def _title(facts: Mapping[str, Any]) -> str:
    return f"{facts['title']}\N{NO-BREAK SPACE}{'↓' if facts['better'] == 'lower' else '↑'}"


def _facts(facts: Mapping[str, Any]) -> str:
    features = f"{facts['features']}; " if facts["features"] else ""
    return f"{features}{facts['real']:,} real and {facts['fake']:,} generated images; {facts['better']} is better"


def _figures(results: Mapping[str, Any], folder: Path) -> Iterator[Figure]:
    baseline = results["grid"]["baseline"]
    for model in results["grid"]["models"]:
        for number, (key, facts) in enumerate(results["metrics"].items()):
            series: dict[str, dict[str, tuple[float, float | None]]] = {}
            for entry in results["tables"]:
                if entry["model"] == model and entry["metric"] == key and entry["difference"] is not None:
                    after = series.setdefault(f"{entry['steps']:,} step{'s' * (entry['steps'] != 1)}", {})
                    after[entry["arm"]] = (entry["difference"], entry["difference_error"])
            if series:
                label = f"difference from {baseline} ({facts['better']} is better)"
                figure = difference_figure(series, x_label=label, title=facts["title"])
                svg = _written(figure, folder / f"{model}-{facts['metric']}-{number}")
                where = "" if len(results["grid"]["models"]) == 1 else f" of {model}"
                caption = f"Paired differences{where} from {baseline!r}, with one standard error over seeds."
                yield Figure(svg, caption, alt=f"Dot plot. {caption} {facts['title']}.")


def _written(figure: Any, path: Path) -> str:
    svg = to_svg(figure)
    write_file(path.with_suffix(".svg"), svg.encode())
    write_file(path.with_suffix(".png"), to_png(figure))
    return svg


def _heat_figures(results: Mapping[str, Any], folder: Path) -> Iterator[Figure]:
    grid, layout = results["grid"], results["grid"].get("heat_map")
    arms, keys = list(grid["arms"]), list(results["metrics"])
    for key, arm, panels in heat_maps(results):
        facts = results["metrics"][key]
        shown = {name: [[_heat_cell(entry) for entry in row] for row in cells] for name, cells in panels.items()}
        if any(cell for cells in shown.values() for row in cells for cell in row):
            lower = facts["better"] == "lower"
            figure = heat_map_figure(
                shown, layout["rows"], layout["columns"], lower_is_better=lower, label=f"{arm} − {grid['baseline']}",
                title=f"{facts['title']}: {arm} against {grid['baseline']}",
            )  # fmt: skip
            svg = _written(figure, folder / f"heat-{facts['metric']}-{keys.index(key)}-{arms.index(arm)}")
            caption = (
                f"{facts['title']} after {max(grid['steps']):,} steps, mean difference of {arm!r} from "
                f"{grid['baseline']!r} within seeds. Blue is better, orange is worse, outlined and bold is clear "
                "(Student's t, 95 %, each cell by itself)."
            )
            yield Figure(svg, caption, alt=f"Heat map. {caption} The numbers are in table.md.")


def _heat_cell(entry: Mapping[str, Any] | None) -> HeatCell | None:
    return None if entry is None or entry["difference"] is None else HeatCell(entry["difference"], _is_clear(entry))


def _curves(results: Mapping[str, Any], folder: Path) -> Iterator[Figure]:
    grid, layout = results["grid"], results["grid"].get("heat_map")
    steps = sorted(grid["steps"])
    for number, (key, facts) in enumerate(results["metrics"].items() if len(steps) > 1 else ()):
        caption = f"{facts['title']} ({facts['better']} is better) over training: mean and standard error over seeds."
        if layout is None:
            for model in grid["models"]:
                curves = _model_curves(results, model, key, steps)
                if curves:
                    figure = curve_figure(
                        steps, dict(curves), y_label=facts["title"], title=_of_model("", results, model)
                    )
                    svg = _written(figure, folder / f"{model}-{facts['metric']}-{number}-steps")
                    yield Figure(svg, _of_model(caption, results, model), alt=f"Curves. {caption}")
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
                svg = _written(figure, folder / f"{panel or 'all'}-{facts['metric']}-{number}-steps")
                where = f"{panel}: " if panel else ""
                yield Figure(svg, f"{where}{caption}", alt=f"Small plots, one for each model. {where}{caption}")


def _model_curves(results: Mapping[str, Any], model: str, key: str, steps: Sequence[int]) -> dict[str, Curve]:
    found = _entries(results, model, key)
    curves: dict[str, Curve] = {}
    for arm in results["grid"]["arms"]:
        entries = [found.get((arm, step)) for step in steps]
        if any(entries):
            means = [math.nan if e is None else e["mean"] for e in entries]
            errors = [math.nan if e is None or e["standard_error"] is None else e["standard_error"] for e in entries]
            curves[arm] = (means, errors)
    return curves


def _metric_table(results: Mapping[str, Any]) -> Table:
    rows = [
        [facts["title"], facts["features"] or "spectrum", f"{facts['real']:,}", f"{facts['fake']:,}", facts["better"]]
        for facts in results["metrics"].values()
    ]
    return Table(["metric", "features", "real images", "samples", "better"], rows)


def _run_table(results: Mapping[str, Any]) -> Table:
    keys = list(results["metrics"])
    rows = [
        [run["model"], run["arm"], str(run["seed"]), f"{run['steps']:,}", *(run["metrics"].get(key) for key in keys)]
        for run in results["runs"]
    ]
    return Table(["model", "arm", "seed", "steps", *(results["metrics"][key]["title"] for key in keys)], rows)
