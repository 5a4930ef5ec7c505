"""What weight, gate, coupling and loss do in the checkerboard experiment, on seeds that the demo does not judge.

python -m benchmarks.checkerboard_sweep --out benchmarks/results/checkerboard-sweep

About an hour on two cores; interrupted, it continues where it stopped. Writes results.json and results.md.
"""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import torch

from passband.reports.paired import markdown_table
from passband.training.demo import MEASURES, Experiment, run_experiment


def term(
    name: str = "amplitude_phase", weight: Any = 0.03, gate: float | None = None, **options: Any
) -> dict[str, Any]:
    """A regularizer as in a recipe."""
    settings: dict[str, Any] = {"losses": [{"name": name, **options}], "weight": weight}
    return settings if gate is None else settings | {"gate": {"max_ratio": gate}}


ARMS: dict[str, dict[str, Any] | None] = {
    "baseline": None,
    "frequency, λ 0.03": term(),
    "frequency, λ 0.1": term(weight=0.1),
    "frequency, λ 0.01": term(weight=0.01),
    "pixel L1 (control), λ 0.03": term("pixel"),
    "amplitude, λ 0.03": term("amplitude"),
    "energy, λ 0.03": term(coupling="energy"),
    "norm, λ 0.03": term(coupling="norm"),
    "frequency, λ 0.03, r ≤ 10": term(gate=10.0),
    "frequency, λ 0.3, r ≤ 1": term(weight=0.3, gate=1.0),
    "frequency, λ 0.3": term(weight=0.3),
    "frequency, gradient share 0.3": term(weight={"share": 0.3}),
}


def measured(results: dict[str, Any], arm: str) -> torch.Tensor:
    """(seeds, measures × budgets) of an arm."""
    runs = sorted((run for run in results["runs"] if run["arm"] == arm), key=lambda run: int(run["seed"]))
    values = [[stage[measure] for measure in MEASURES for stage in run["stages"]] for run in runs]
    return torch.tensor(values, dtype=torch.float64)


def table(results: dict[str, Any]) -> str:
    """A Markdown table: means over seeds, and the score by which a setting is chosen.

    The score is the geometric mean over measures, budgets and seeds of the ratio to the baseline.
    """
    steps, baseline = results["settings"]["steps"], measured(results, "baseline")
    head = ["arm", "score", *(f"{measure} @ {step}" for measure in MEASURES for step in steps)]
    rows = [head]
    for arm in results["settings"]["arms"]:
        values = measured(results, arm)
        score = (values / baseline).log().mean().exp().item()
        rows.append([arm, f"{score:.2f}", *(f"{mean:.3g}" for mean in values.mean(0).tolist())])
    return markdown_table(rows)


def write(out: Path, results: Any, text: str) -> None:
    """Write results.json and results.md into a folder, and print the table."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(results, indent=1))
    (out / "results.md").write_text(text)
    print("\n" + text)


def main() -> None:
    """Run the sweep and write its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/checkerboard-sweep"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--budget", type=int, default=400)
    parser.add_argument("--solver", default="euler")
    arguments = parser.parse_args()
    experiment = Experiment(seeds=tuple(arguments.seeds), budget=arguments.budget, arms=ARMS, solver=arguments.solver)
    results = run_experiment(
        experiment, arguments.runs, on_progress=lambda done, total: print(f"\r{done}/{total}", end="")
    )
    results["machine"] = {"python": platform.python_version(), "torch": torch.__version__, "cpu": platform.machine()}
    write(arguments.out, results, table(results))


if __name__ == "__main__":
    main()
