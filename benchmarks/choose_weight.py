"""Choose each loss's weight from a finished grid: the arm of the smallest mean rank over the grid's metrics.

    python -m benchmarks.choose_weight runs/speech16k/lambda

Arms are named LOSS-WEIGHT; those of one loss, and the baseline, are ranked by each metric (means over seeds).
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Scores = Mapping[str, Mapping[str, float]]


def scores(results: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Each arm's mean over seeds of each metric, at the last step."""
    last = max(run["steps"] for run in results["runs"])
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in results["runs"]:
        if run["steps"] == last:
            for metric, value in run["metrics"].items():
                values[run["arm"]][metric].append(value)
    return {arm: {name: sum(found) / len(found) for name, found in of.items()} for arm, of in values.items()}


def mean_ranks(found: Scores, better: Mapping[str, str], arms: Iterable[str]) -> dict[str, float]:
    """The mean over metrics of each arm's rank, 1 the best; ties share theirs."""
    arms = list(arms)
    ranks: dict[str, list[float]] = {arm: [] for arm in arms}
    for metric, direction in better.items():
        sign = 1 if direction == "lower" else -1
        values = {arm: sign * found[arm][metric] for arm in arms}
        for arm in arms:
            below = sum(value < values[arm] for value in values.values())
            same = sum(value == values[arm] for value in values.values())
            ranks[arm].append(below + (same + 1) / 2)
    return {arm: sum(of) / len(of) for arm, of in ranks.items()}


def by_loss(arms: Sequence[str], baseline: str) -> dict[str, list[str]]:
    """The arms of each loss, by the part of the name before the first hyphen."""
    found: dict[str, list[str]] = defaultdict(list)
    for arm in arms:
        if arm != baseline:
            found[arm.partition("-")[0]].append(arm)
    return dict(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path, help="folder of a finished grid")
    results = json.loads((parser.parse_args().grid / "results.json").read_text())
    found, baseline = scores(results), results["grid"]["baseline"]
    better = {name: facts["better"] for name, facts in results["metrics"].items()}
    print("| arm | " + " | ".join(f"{facts['title']}" for facts in results["metrics"].values()) + " | mean rank | |")
    print("| --- |" + " --- |" * (len(better) + 2))
    print(f"| {baseline} | " + " | ".join(f"{found[baseline][name]:.4g}" for name in better) + " | | |")
    for arms in by_loss(list(found), baseline).values():
        ranks = mean_ranks(found, better, arms)
        chosen = min(arms, key=lambda arm: ranks[arm])
        for arm in arms:
            cells = [f"{found[arm][name]:.4g}" for name in better]
            print(f"| {arm} | {' | '.join(cells)} | {ranks[arm]:.2f} | {'chosen' if arm == chosen else ''} |")


if __name__ == "__main__":
    main()
