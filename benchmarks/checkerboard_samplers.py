"""Whether the result of the checkerboard experiment depends on the sampler: the sweep's runs, sampled in other ways.

python -m benchmarks.checkerboard_sweep --out benchmarks/results/checkerboard-sweep
python -m benchmarks.checkerboard_samplers --out benchmarks/results/checkerboard-samplers

About ten minutes on one core, after the sweep. Writes results.json and results.md: means over seeds, last measurement.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from benchmarks.checkerboard_sweep import ARMS, write

from passband.reports.paired import markdown_table
from passband.sampling import sample
from passband.training import restore
from passband.training.demo import MEASURES, Experiment, Truth, run_folder

SAMPLERS: dict[str, dict[str, Any]] = {
    "Euler": {"steps": 50},
    "Euler, clean estimate clipped to [-1, 1]": {"steps": 50, "clip": 1.0},
    "ancestral": {"steps": 50, "solver": "ancestral"},
}
CHOSEN = (
    "baseline",
    "frequency, λ 0.01",
    "frequency, λ 0.03",
    "frequency, λ 0.1",
    "frequency, λ 0.03, r ≤ 10",
    "pixel L1 (control), λ 0.03",
)


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


def table(found: list[dict[str, Any]]) -> str:
    """A Markdown table of means over seeds."""
    head = ["sampler, 50 steps", "arm", *MEASURES]
    rows = [head]
    for sampler in SAMPLERS:
        for arm in CHOSEN:
            entries = [entry for entry in found if (entry["sampler"], entry["arm"]) == (sampler, arm)]
            means = [sum(entry[name] for entry in entries) / len(entries) for name in MEASURES]
            rows.append([sampler, arm, *(f"{mean:.3g}" for mean in means)])
    return markdown_table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/checkerboard-sweep"))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    experiment = Experiment(seeds=(0, 1), arms={arm: ARMS[arm] for arm in CHOSEN}, samples=64)
    found = measure(experiment, options.runs)
    write(options.out, found, table(found))


if __name__ == "__main__":
    main()
