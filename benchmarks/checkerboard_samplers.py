"""Whether the checkerboard experiment's result depends on the sampler: its finished runs, sampled again in other ways.

passband demo && python -m benchmarks.checkerboard_samplers --out benchmarks/results/checkerboard-samplers

About five minutes on two cores. Writes results.json and results.md: means over seeds at the last measurement.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from passband.sampling import sample
from passband.training import restore
from passband.training.demo import MEASURES, Experiment, Truth, run_folder

SAMPLERS: dict[str, dict[str, Any]] = {
    "Euler, 50 steps (the demo's)": {"steps": 50},
    "Euler, 50 steps, clean estimate clipped to [-1, 1]": {"steps": 50, "clip": 1.0},
    "Heun, 25 steps": {"steps": 25, "solver": "heun"},
    "ancestral (DDPM), 100 steps": {"steps": 100, "solver": "ancestral"},
}


def measure(experiment: Experiment, root: Path) -> list[dict[str, Any]]:
    """The measures of every sampler, arm and seed."""
    truth, found = Truth(experiment), []
    for arm, seed in experiment.runs:
        trained = restore(run_folder(root, arm, seed).root)
        for sampler, options in SAMPLERS.items():
            seeds = range(experiment.samples)
            images = sample(trained.model, trained.process, trained.recipe.sample_shape, seeds=seeds, **options)
            values = {key: value for key, value in truth.measure(images).items() if key in MEASURES}
            found.append({"sampler": sampler, "arm": arm, "seed": seed, **values})
            print(json.dumps(found[-1]), flush=True)
    return found


def table(found: list[dict[str, Any]], arms: list[str]) -> str:
    """A Markdown table of means over seeds."""
    head = ["sampler", *(f"{measure}, {arm}" for measure in MEASURES for arm in arms)]
    rows = [head, ["---"] * len(head)]
    for sampler in SAMPLERS:
        row = [sampler]
        for name in MEASURES:
            for arm in arms:
                values = [entry[name] for entry in found if (entry["sampler"], entry["arm"]) == (sampler, arm)]
                row.append(f"{sum(values) / len(values):.3g}")
        rows.append(row)
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/demo"))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    experiment = Experiment()
    found = measure(experiment, options.runs)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.json").write_text(json.dumps(found, indent=1))
    (options.out / "results.md").write_text(table(found, list(experiment.arms)))
    print("\n" + table(found, list(experiment.arms)))


if __name__ == "__main__":
    main()
