"""The page of the checkerboard experiment: its figures beside it, and legible for every reader."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from passband.reports.demo import MEASURES, demo_report

ARMS, SEEDS, STEPS = ["baseline", "regularized"], [0, 1], [20_000]


def results() -> dict:
    stage = {"steps": STEPS[0], "psd": [0.0, 2.0, 1.0], **dict.fromkeys(MEASURES, 2.0)}
    row = {"steps": STEPS[0], "baseline": 2.0, "value": 1.0, "ratio": 0.5, "difference": -1.0, "standard_error": 0.1}
    return {
        "settings": {"steps": STEPS, "seeds": SEEDS, "arms": ARMS},
        "runs": [{"arm": arm, "seed": seed, "stages": [stage]} for arm in ARMS for seed in SEEDS],
        "paired": [{"measure": measure, **row} for measure in MEASURES],
        "truth": {"psd": [0.0, 1.0, 1.0]},
        "true_samples": dict.fromkeys(MEASURES, 0.1),
        "recipe": {"name": "<demo>"},
    }


@pytest.mark.usefixtures("no_pdf")
def test_the_page_and_its_figures(legible: Callable[[str], int], tmp_path: Path) -> None:
    pictures = {name: torch.ones(16, 1, 8, 8) for name in ("truth", *ARMS)}
    source = demo_report(results(), pictures, tmp_path, command="passband demo").read_text(encoding="utf-8")
    charts, grids = [*MEASURES, "psd-20000", "ratio-20000"], [f"samples-{name}" for name in pictures]
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {
        *(f"{name}.{kind}" for name in charts for kind in ("svg", "pdf", "png")),
        *(f"{name}.png" for name in (*grids, "summary")),
    }
    assert legible(source) == len(charts) + len(grids)
    assert "0.50 after 20,000 steps" in source
    assert "&lt;demo&gt;" in source
    assert json.loads((tmp_path / "results.json").read_text())["command"] == "passband demo"
