"""The report of a grid of runs: its tables in Markdown and on a page, figures, and the numbers as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from passband.reports.compare import finite
from passband.reports.grid_plots import difference_figures, heat_figures, step_figures
from passband.reports.grid_tables import (
    by_metric,
    describe_grid,
    grid_notes,
    grid_tables,
    heat_tables,
    step_tables,
)
from passband.reports.page import Block, Page, Section, Table, Text, current_command, write_file, write_page
from passband.reports.paired import markdown_table

METHOD = (
    "Mean over training seeds with its standard error. The arms of a seed share the network they start from, the data "
    "order, the noise and the samples' starting noise, so differences from the baseline are taken within seeds: mean "
    "difference and its standard error over seeds."
)


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
    compared = by_metric(grid_tables(results, max(results["grid"]["steps"])))
    blocks: list[Block] = [Table(rows[0], rows[1:], caption=title) for title, rows in compared]
    over = [Table(rows[0], rows[1:], caption=title) for title, rows in step_tables(results)]
    folder = out / "figures"
    maps = list(heat_figures(results, folder))
    differences = maps or list(difference_figures(results, folder))
    sections = [
        Section("Differences from the baseline", [*notes, *differences]),
        Section("Over training steps", [*step_figures(results, folder), *over]),
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


def _facts(facts: Mapping[str, Any]) -> str:
    features = f"{facts['features']}; " if facts["features"] else ""
    better = "nearer to 0 is better" if facts["better"] == "zero" else f"{facts['better']} is better"
    return f"{features}{facts['real']:,} real and {facts['fake']:,} generated {facts.get('of', 'images')}; {better}"


def _metric_table(results: Mapping[str, Any]) -> Table:
    rows = [
        [
            facts["title"],
            facts["features"] or _source(facts),
            f"{facts['real']:,}",
            f"{facts['fake']:,}",
            facts["better"],
        ]
        for facts in results["metrics"].values()
    ]
    of = next((facts.get("of", "images") for facts in results["metrics"].values()), "images")
    return Table(["metric", "features", f"real {of}", "samples", "better"], rows)


def _source(facts: Mapping[str, Any]) -> str:
    return "audio" if facts.get("of") == "clips" else "spectrum"


def _run_table(results: Mapping[str, Any]) -> Table:
    keys = list(results["metrics"])
    rows = [
        [run["model"], run["arm"], str(run["seed"]), f"{run['steps']:,}", *(run["metrics"].get(key) for key in keys)]
        for run in results["runs"]
    ]
    return Table(["model", "arm", "seed", "steps", *(results["metrics"][key]["title"] for key in keys)], rows)
