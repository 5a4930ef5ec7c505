"""A recipe that trains in a blink, and one finished run of it that many tests read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from passband.training import Recipe, Trainer, make_recipe

MakeRecipe = Callable[..., Recipe]

TINY: dict[str, Any] = {
    "name": "tiny",
    "data": {"name": "checkerboard", "resolution": 16, "cells": [2, 4]},
    "process": {"name": "vp"},
    "model": {
        "block_out_channels": [8, 8],
        "layers_per_block": 1,
        "mid_attention": False,
        "norm_num_groups": 4,
        "dropout": 0.1,
    },
    "regularizer": {"losses": [{"name": "amplitude"}], "weight": 0.01},
    "optimizer": {"lr": 1e-3, "warmup_steps": 3},
    "training": {
        "steps": 6,
        "batch_size": 2,
        "ema": 0.5,
        "log_every": 1,
        "save_every": 2,
        "sample_every": 3,
        "keep_checkpoints": 2,
        "trackers": [],
    },
    "sampling": {"count": 2, "steps": 2},
}


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """base with the changes: mappings are merged, all else is replaced."""
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        result[key] = merged(base[key], value) if both else value
    return result


@pytest.fixture(scope="session")
def tiny() -> MakeRecipe:
    """The tiny recipe, with changes such as training={"steps": 3}."""
    return lambda **changes: make_recipe(merged(TINY, changes))


@pytest.fixture(scope="session")
def finished(tiny: MakeRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was trained to its last step, 6, at once."""
    root = tmp_path_factory.mktemp("finished") / "run"
    Trainer(tiny(), root).train()
    return root
