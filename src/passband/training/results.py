"""What all evaluations share: their folder, whether they are there already, and the frame of results.json."""

import json
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from passband.reports.page import installed_versions
from passband.training.ranks import Ranks


def evaluation_folder(run: Path, step: int) -> Path:
    """Where the evaluation of a checkpoint lies, unless another place is asked for."""
    return run / "evaluation" / f"step-{step:08d}"


def finished(out: Path, request: Mapping[str, Any], note: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """The results that a folder holds, if they are of this request (and of these samples); None otherwise."""
    try:
        results = json.loads((out / "results.json").read_text())
    except (OSError, ValueError):
        return None
    same = isinstance(results, dict) and results.get("request") == request
    return results if same and note in (None, results.get("note")) else None


def framed(
    measured: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    notes: Sequence[str],
    ranks: Ranks,
    started: float,
) -> dict[str, Any]:
    """The results of an evaluation, with what they were made by.

    Args:
        measured: `request`, `note` and what else is kept of what was measured.
        metrics: its entries, each with key, title, better, metric and value.
        notes: what a reader must know.
        ranks: the processes that shared the work.
        started: when it began, by the monotonic clock.

    """
    results = {**measured, "metrics": list(metrics), "notes": list(notes), "processes": ranks.count}
    results |= {"machine": machine(ranks.device), "versions": installed_versions()}
    return results | {"seconds": round(time.monotonic() - started, 1)}


def machine(device: torch.device) -> str:
    """The processor that computed, in words."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{platform.machine()}, {torch.get_num_threads()} threads"
