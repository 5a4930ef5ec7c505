"""The tables of a grid of runs: arms compared within seeds, in full, over the training steps, and as a map."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from passband.reports.paired import Estimate, estimate, is_clear, paired_difference, with_error

#: Towards the better.
ARROWS = {"lower": "↓", "higher": "↑", "zero": "→\N{NO-BREAK SPACE}0"}
COLUMNS = ("metric", "arm", "mean", "paired difference", "seeds")


def compare_arms(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The comparison of the arms for each model and number of steps, as plain data.

    Args:
        results: `grid` (models, arms, baseline, steps), `runs` (model, arm, seed, steps, metrics by key), `metrics`
            (facts by key) and `paper`, as [`collect`][passband.training.grid.collect] makes them.

    Returns:
        One entry for each model, steps, metric and arm that was measured: mean and standard error over seeds, paired
        difference from the baseline with its standard error (None for the baseline, and with one seed), and the
        paper's number where there is one. Of a metric that is best at 0 the distances from 0 are subtracted.

    """
    grid = results["grid"]
    found = []
    for model in grid["models"]:
        for steps in sorted(grid["steps"]):
            for key, facts in results["metrics"].items():
                by_arm = {arm: _by_seed(results["runs"], model, steps, arm, key) for arm in grid["arms"]}
                size = abs if facts["better"] == "zero" else float
                for arm, values in by_arm.items():
                    if values:
                        entry = _compared(values, by_arm[grid["baseline"]], arm == grid["baseline"], size)
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
                metric_title(results["metrics"][key]) if number == 0 else "",
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
    yield from by_metric(grid_tables(results))


def by_metric(tables: Iterable[tuple[str, list[list[str]]]]) -> Iterator[tuple[str, list[list[str]]]]:
    """(title, rows) of tables cut into one for each metric."""
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
            found = entries_of(results, model, key)
            if found:
                rows = [["arm", *(f"{step:,} steps" for step in steps)]]
                rows += [[arm, *(_mean(found.get((arm, step))) for step in steps)] for arm in grid["arms"]]
                rows += [
                    [f"{arm} − {grid['baseline']}", *(_change(found.get((arm, step))) for step in steps)]
                    for arm in grid["arms"] if arm != grid["baseline"]
                ]  # fmt: skip
                yield of_model(metric_title(facts), results, model), rows


def heat_maps(results: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, list[list[dict[str, Any] | None]]]]]:
    """(metric, arm, panels) of each heat map after the last training step; a cell is an entry of the tables, or None.

    Panels are rows of cells by the panel's name, `""` for a grid without panels; those without any entry are left out.
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
                            entries_of(results, "-".join(filter(None, (panel, row, column))), key).get((arm, last))
                            for column in layout["columns"]
                        ]
                        for row in layout["rows"]
                    ]
                    for panel in layout["panels"] or ("",)
                }
                measured = {name: cells for name, cells in panels.items() if any(cell for row in cells for cell in row)}
                if measured:
                    yield key, arm, measured


def heat_tables(results: Mapping[str, Any]) -> Iterator[tuple[str, list[list[str]]]]:
    """(title, rows) of the heat maps as text, one for each panel; what is clear is bold in Markdown."""
    layout, baseline = results["grid"].get("heat_map"), results["grid"]["baseline"]
    for key, arm, panels in heat_maps(results):
        for panel, cells in panels.items():
            rows = [["", *layout["columns"]]]
            for name, row in zip(layout["rows"], cells, strict=True):
                rows.append([name, *(f"**{_change(cell)}**" if clearly(cell) else _change(cell) for cell in row)])
            where = f", {panel}" if panel else ""
            yield f"{metric_title(results['metrics'][key])}: {arm} − {baseline}{where}", rows


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
        clear = [e for e in judged if clearly(e)]
        better = [e for e in clear if (e["difference"] < 0) == (facts["better"] != "higher")]
        if judged:
            sentences.append(
                f"{facts['title']}: of {len(judged)} comparisons with {results['grid']['baseline']!r}, {len(better)} "
                f"are clearly better and {len(clear) - len(better)} clearly worse (Student's t, 95 %, each by itself)."
            )
        elif entries:
            sentences.append(f"{facts['title']}: a single seed has no standard error, so nothing is judged.")
    return " ".join(sentences) or "There is nothing to compare yet."


def _by_seed(runs: Sequence[Mapping[str, Any]], model: str, steps: int, arm: str, key: str) -> dict[int, float]:
    return {
        run["seed"]: run["metrics"][key]
        for run in runs
        if (run["model"], run["steps"], run["arm"]) == (model, steps, arm) and run["metrics"].get(key) is not None
    }


def _compared(
    values: Mapping[int, float], baseline: Mapping[int, float], is_baseline: bool, size: Callable[[float], float]
) -> dict[str, Any]:
    mean = estimate(list(values.values()))
    sizes, others = ({seed: size(value) for seed, value in side.items()} for side in (values, baseline))
    difference = None if is_baseline else paired_difference(sizes, others)
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


def entries_of(results: Mapping[str, Any], model: str, key: str) -> dict[tuple[str, int], dict[str, Any]]:
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


def clearly(entry: Mapping[str, Any] | None) -> bool:
    """Whether an entry of the tables clearly differs from the baseline."""
    return (
        entry is not None
        and entry["difference"] is not None
        and is_clear(Estimate(entry["difference"], entry["difference_error"], entry["pairs"]))
    )


def of_model(text: str, results: Mapping[str, Any], model: str) -> str:
    """A title that names its model, where there are several."""
    return text if len(results["grid"]["models"]) == 1 else f"{model}: {text}"


def _difference(entry: Mapping[str, Any]) -> str:
    if entry["difference"] is None:
        return "–"
    shown = with_error(Estimate(entry["difference"], entry["difference_error"], entry["pairs"]), sign=True)
    return shown if entry["pairs"] == entry["seeds"] else f"{shown} ({entry['pairs']} pairs)"


def metric_title(facts: Mapping[str, Any]) -> str:
    """A metric's title, with an arrow towards the better."""
    return f"{facts['title']}\N{NO-BREAK SPACE}{ARROWS[facts['better']]}"
