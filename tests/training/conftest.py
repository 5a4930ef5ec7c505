"""A recipe that trains in a blink, one finished run of it that many tests read, and two processes of one run."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from passband.data import save_image
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


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images in three folders, one per class."""
    root = tmp_path_factory.mktemp("labelled")
    generator = torch.Generator().manual_seed(0)
    for index in range(9):
        save_image(torch.rand(3, 16, 16, generator=generator), root / "abc"[index % 3] / f"{index}.png")
    return root


@pytest.fixture(scope="session")
def two_processes() -> Callable[..., list[str]]:
    """Run Python in two processes of one group on the CPU: from its arguments (-c SCRIPT ...) to what each printed."""
    return _two_processes


def _two_processes(*arguments: object) -> list[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    group |= {"OMP_NUM_THREADS": str(torch.get_num_threads()), "CUDA_VISIBLE_DEVICES": ""}
    ranks = [
        subprocess.Popen(
            [sys.executable, *(str(argument) for argument in arguments)],
            env=os.environ | group | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [rank.communicate(timeout=240)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(outputs)
    return outputs
