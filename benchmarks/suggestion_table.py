"""The numbers of `benchmarks.suggestion`, and the tables that they make."""

from collections.abc import Mapping
from typing import Any

import torch
import yaml
from benchmarks.suggestion_arms import ARMS, BASELINE
from torch import Tensor

from passband.metrics import DenoiserSpectrum
from passband.reports.paired import estimate, is_clear, markdown_table, paired_difference, with_error

SEEN = 0.9  # cells of which the Wiener filter leaves less than this share have something to see
OCTAVE = 0.25, 0.5  # the top one, cycles per pixel
LOW, MIDDLE = (0.0, 0.3), (0.3, 3.0)  # noise ratios

#: What the table shows of a diagnosis, by the name of the number: less is better in each.
MEASURES = {
    "excess": "error over Wiener, mean of all cells, dB",
    "excess_seen": "error over Wiener where there is something to see, dB",
    "excess_hidden": "error over Wiener where noise hides the data, dB",
    "top_low": "error over Wiener in the top octave at noise ratios up to 0.3, dB",
    "top_middle": "error over Wiener in the top octave at noise ratios 0.3 to 3, dB",
    "called": "cells called wrong",
}


def cells(result: DenoiserSpectrum) -> dict[str, float]:
    """Means of the error over the Wiener filter's, dB, and how many cells are called."""
    size, seen = result.excess.difference, result.wiener <= SEEN
    top = torch.tensor([low >= OCTAVE[0] and high <= OCTAVE[1] for low, high in result.bands])
    ratios = torch.tensor(result.ratios)
    chosen = {
        "excess": torch.ones_like(seen),
        "excess_seen": seen,
        "excess_hidden": ~seen,
        "top_low": _within(ratios, LOW)[:, None] & top,
        "top_middle": _within(ratios, MIDDLE)[:, None] & top,
    }
    means = {name: float(size[mask & size.isfinite()].mean()) for name, mask in chosen.items()}
    return means | {"called": float(result.wrong.sum())}


def _within(ratios: Tensor, limits: tuple[float, float]) -> Tensor:
    return (limits[0] < ratios) & (ratios <= limits[1])


def table(runs: list[dict[str, Any]], measures: Mapping[str, str]) -> str:
    """Markdown: mean and standard error over the seeds, and the paired difference to the baseline."""
    arms = [arm for arm in ARMS if any(entry["arm"] == arm for entry in runs)]
    rows = [["", *arms]]
    for measure, words in measures.items():
        values = {arm: _by_seed(runs, arm, measure) for arm in arms}
        rows.append([words, *(with_error(estimate(list(v.values())) if v else None) for v in values.values())])
        rows.append(["… difference", "", *(_difference(values[arm], values[BASELINE]) for arm in arms[1:])])
    for name, words in (("less", "cells with less error than without"), ("more", "cells with more error")):
        counts = [[e["against"][name] for e in runs if e["arm"] == arm] for arm in arms[1:]]
        rows.append([words, "", *(with_error(estimate(count)) for count in counts)])
    return markdown_table(rows)


def between(runs: list[dict[str, Any]], measures: Mapping[str, str], first: str, second: str) -> str:
    """Markdown: the paired differences of one arm to another."""
    rows = [[f"{first}, less {second}", "difference"]]
    for measure, words in measures.items():
        rows.append([words, _difference(*(_by_seed(runs, arm, measure) for arm in (first, second)))])
    return markdown_table(rows)


def _by_seed(runs: list[dict[str, Any]], arm: str, measure: str) -> dict[int, float]:
    """One arm's values; runs of another version may lack a measure."""
    return {e["seed"]: e["numbers"][measure] for e in runs if e["arm"] == arm and measure in e["numbers"]}


def _difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> str:
    """Bold where it is clear over the seeds."""
    found = paired_difference(values, baseline)
    text = with_error(found, sign=True)
    return f"**{text}**" if found is not None and found.error != 0 and is_clear(found) else text


def suggestions(runs: list[dict[str, Any]]) -> str:
    """Markdown: what was suggested for each seed."""
    rows = [["seed", "loss", "λ", "gate", "front"]]
    for entry in runs:
        if entry["arm"] == BASELINE:
            said = yaml.safe_load(entry["suggestion"]["recipe"]) or {}
            term = said.get("regularizer", {})
            names = " + ".join(loss["name"] for loss in term.get("losses", [])) or "none"
            gate = term["gate"]["max_ratio"] if "gate" in term else "none"
            front = said["forcing"]["front"]["name"] if "forcing" in said else "none"
            rows.append([str(entry["seed"]), names, str(term.get("weight", "–")), str(gate), front])
    return markdown_table(rows)


def strengths(runs: list[dict[str, Any]]) -> str:
    """Markdown: how strong the suggested loss and the pixel loss were, beside the base loss; empty without any."""
    rows = [["seed", "loss", "λ", "gradient over a training, of the base loss's", "of it on the cells that are wrong"]]
    for entry in runs:
        for name, one in entry.get("strengths", {}).items():
            if isinstance(one, dict):
                share = f"{one['on the cells that are wrong']:.1%}"
                rows.append([str(entry["seed"]), name, f"{one['weight']:g}", f"{one['training']:.2f}", share])
    return markdown_table(rows) if len(rows) > 1 else ""
