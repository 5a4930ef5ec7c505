"""The report of a grid of runs: its tables in Markdown and on a page, figures, and the numbers as JSON."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from passband.reports.compare import finite
from passband.reports.figures import difference_figure, to_png, to_svg
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


def grid_tables(results: Mapping[str, Any]) -> Iterator[tuple[str, list[list[str]]]]:
    """(title, rows) of each table that holds something."""
    grid = results["grid"]
    for model in grid["models"]:
        for steps in sorted(grid["steps"]):
            rows = grid_rows(results, model, steps)
            if len(rows) > 1:
                name = "After" if len(grid["models"]) == 1 else f"{model} after"
                yield f"{name} {steps:,} training step{'s' * (steps != 1)}", rows


def metric_tables(results: Mapping[str, Any]) -> Iterator[tuple[str, list[list[str]]]]:
    """(title, rows) of `grid_tables`, one for each metric, so that they fit into a narrow terminal or page."""
    for title, (head, *rows) in grid_tables(results):
        starts = [number for number, row in enumerate(rows) if row[0]]
        for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
            yield f"{title}: {rows[start][0]}", [head[1:], *(row[1:] for row in rows[start:end])]


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
        clear = [e for e in judged if is_clear(Estimate(e["difference"], e["difference_error"], e["pairs"]))]
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
    blocks: list[Block] = [Table(rows[0], rows[1:], caption=title) for title, rows in metric_tables(results)]
    page = Page(
        title=f"Grid {results['grid']['name']}",
        summary=describe_grid(results),
        sections=[
            Section("Arms compared", [*notes, *blocks, Text(METHOD, "note")]),
            Section("Differences from the baseline", list(_figures(results, out / "figures"))),
            Section("What was measured", [_metric_table(results)]),
            Section("Each run", [_run_table(results)]),
        ],
        command=command,
        versions=results["versions"],
    )
    return write_page(page, out / "index.html")


def grid_markdown(results: Mapping[str, Any]) -> str:
    """The tables in Markdown, with what a reader must know of them."""
    parts = [f"# Grid {results['grid']['name']}", describe_grid(results), *grid_notes(results)]
    for title, rows in grid_tables(results):
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
                svg, path = to_svg(figure), folder / f"{model}-{facts['metric']}-{number}"
                write_file(path.with_suffix(".svg"), svg.encode())
                write_file(path.with_suffix(".png"), to_png(figure))
                where = "" if len(results["grid"]["models"]) == 1 else f" of {model}"
                caption = f"Paired differences{where} from {baseline!r}, with one standard error over seeds."
                yield Figure(svg, caption, alt=f"Dot plot. {caption} {facts['title']}.")


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
