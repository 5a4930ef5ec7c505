"""The checkerboard experiment: one DDPM with and without a spectral term, on the same seeds and budget."""

import json
import multiprocessing
import multiprocessing.connection
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from passband._checks import check_choice
from passband._files import write_file
from passband.data import ImageFolder, checkerboard_patterns, checkerboards, save_image
from passband.metrics import MeanPSD, leakage, log_spectral_distance, pattern_distance
from passband.reports.paired import estimate
from passband.sampling import SOLVERS
from passband.training.config import Recipe
from passband.training.run_folder import RunFolder
from passband.training.trainer import Trainer

#: The term that the experiment adds, as in a recipe; chosen on seeds 0 and 1 (docs/checkerboard.md).
TERM: dict[str, Any] = {"losses": [{"name": "amplitude_phase", "coupling": "frequency"}], "weight": 0.03}
ARMS: dict[str, dict[str, Any] | None] = {"baseline": None, "regularized": TERM}
STAGES = (1, 2, 4)
PICTURES = 16
MEASURES = ("lsd", "leakage", "pattern_distance")

#: Called with (steps done, steps in all).
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Experiment:
    """What is trained and measured.

    Args:
        size: side of the images in pixels, a power of two of at least 16.
        seeds: seeds of initial weights, data order and noise, shared by the arms.
        budget: training steps at the first of the measurements, which lie at 1, 2 and 4 times it.
        samples: number of samples drawn for each measurement.
        solver: solver of the sampler, 50 steps: `ancestral` is DDPM's own, `euler` is DDIM.
        arms: the spectral term of each arm as in a recipe, None for none.

    """

    size: int = 32
    seeds: tuple[int, ...] = (2, 3, 4)
    budget: int = 400
    samples: int = 128
    solver: str = "ancestral"
    arms: Mapping[str, dict[str, Any] | None] = field(default_factory=lambda: ARMS)

    def __post_init__(self) -> None:
        if self.size < 16 or self.size & (self.size - 1):
            raise ValueError(f"size must be a power of two of at least 16, got {self.size}")
        check_choice("solver", self.solver, SOLVERS)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds must be distinct, at least one, got {self.seeds}")
        if self.budget < 1 or self.samples < 2:
            raise ValueError(f"budget must be at least 1 and samples at least 2, got {self.budget} and {self.samples}")

    @property
    def cells(self) -> tuple[int, ...]:
        """Cell sizes of the boards: a sixteenth, an eighth and a quarter of the side."""
        return self.size // 16, self.size // 8, self.size // 4

    @property
    def steps(self) -> tuple[int, ...]:
        """Training steps at each measurement."""
        return tuple(stage * self.budget for stage in STAGES)

    @property
    def runs(self) -> list[tuple[str, int]]:
        """(arm, seed) of every run; the arms of a seed lie together."""
        return [(arm, seed) for seed in self.seeds for arm in self.arms]

    def recipe(self, arm: str, seed: int) -> Recipe:
        """The recipe of one run: a small DDPM that differs between arms in the spectral term alone."""
        return Recipe.model_validate(
            {
                "name": f"seed-{seed}",
                "data": {"name": "checkerboard", "resolution": self.size, "cells": self.cells, "seed": seed},
                "process": {"name": "vp"},
                "model": {
                    "block_out_channels": (16, 32, *(32,) * (self.size.bit_length() - 5)),
                    "layers_per_block": 1,
                    "mid_attention": False,
                    "norm_num_groups": 8,
                },
                "regularizer": self.arms[arm],
                "optimizer": {"lr": 2e-3},
                "training": {
                    "steps": self.steps[-1],
                    "batch_size": 16,
                    "seed": seed,
                    "ema": 0.99,
                    "save_every": self.budget,
                    "sample_every": None,
                    "keep_checkpoints": 1,
                    "trackers": (),
                },
                "sampling": {"count": self.samples, "steps": 50, "solver": self.solver, "seed": 0},
            }
        )


class Truth:
    """The true distribution, exactly: all patterns, each cell size counted equally."""

    def __init__(self, experiment: Experiment) -> None:
        by_cell = [checkerboard_patterns(experiment.size, (cell,)) for cell in experiment.cells]
        self.patterns = torch.cat(by_cell)
        self.psd = torch.stack([mean_psd(patterns) for patterns in by_cell]).mean(0)

    def measure(self, images: Tensor) -> dict[str, Any]:
        """The measures of some images, and their PSD."""
        psd = mean_psd(images)
        return {
            "lsd": float(log_spectral_distance(psd, self.psd)),
            "leakage": float(leakage(images, self.patterns)),
            "pattern_distance": float(pattern_distance(images, self.patterns)),
            "psd": psd.tolist(),
        }


def pictures(experiment: Experiment, root: Path) -> dict[str, Tensor]:
    """A few images of the truth and of each arm: the first seed, at the last measurement."""
    found = {"truth": checkerboards(PICTURES, experiment.size, experiment.cells, seed=1 << 20)}
    for arm in experiment.arms:
        folder = run_folder(root, arm, experiment.seeds[0]).samples / f"step-{experiment.steps[-1]:08d}"
        images = ImageFolder(folder, experiment.size, channels=1)
        found[arm] = torch.stack([images[i] for i in range(len(images))])
    return found


def mean_psd(images: Tensor) -> Tensor:
    """Radially averaged PSD, averaged over images."""
    psd = MeanPSD()
    psd.update(images)
    return psd.psd


def run_experiment(
    experiment: Experiment, root: Path, *, workers: int | None = None, on_progress: OnProgress | None = None
) -> dict[str, Any]:
    """Train and measure every run, several at a time, and return all results.

    Each run computes on one thread, so the numbers do not depend on how many go at once. What is finished is kept in
    root: an interrupted experiment continues where it stopped.

    Args:
        experiment: what to run.
        root: folder of the runs.
        workers: runs at a time; default: one per processor.
        on_progress: called about twice a second.

    Returns:
        Plain data: settings, truth, measurements of each run, paired comparisons, seconds, workers.

    Raises:
        ValueError: if root holds runs with other settings.

    """
    started = time.monotonic()
    _check_folders(experiment, root)
    count = min(workers or os.cpu_count() or 1, len(experiment.runs))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=_end_with_parent) as pool:
        futures = [pool.submit(_run, experiment, arm, seed, root) for arm, seed in experiment.runs]
        try:
            _watch(futures, experiment, root, on_progress)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        runs = [future.result() for future in futures]
    return summarize(experiment, runs) | {"seconds": round(time.monotonic() - started, 1), "workers": count}


def summarize(experiment: Experiment, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Collect the runs' measurements with the truth and the paired comparison of each arm to the first."""
    truth = Truth(experiment)
    fresh = checkerboards(experiment.samples, experiment.size, experiment.cells, seed=1 << 20)
    settings = asdict(experiment) | {"cells": experiment.cells, "steps": experiment.steps}
    return {
        "settings": settings,
        "recipe": experiment.recipe(*experiment.runs[-1]).model_dump(mode="json"),
        "truth": {"psd": truth.psd.tolist()},
        "true_samples": truth.measure(fresh),
        "lsd_per_seed": [
            {"seed": seed}
            | {run["arm"]: [stage["lsd"] for stage in run["stages"]] for run in runs if run["seed"] == seed}
            for seed in experiment.seeds
        ],
        "runs": list(runs),
        "paired": list(_paired(experiment, runs)),
    }


def _paired(experiment: Experiment, runs: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    reference, *others = experiment.arms
    for arm in others:
        for place, steps in enumerate(experiment.steps):
            for measure in MEASURES:
                first, second = (_values(runs, name, place, measure) for name in (reference, arm))
                difference = estimate((second - first).tolist())
                yield {
                    "arm": arm,
                    "steps": steps,
                    "measure": measure,
                    "baseline": first.mean().item(),
                    "value": second.mean().item(),
                    "ratio": (second.mean() / first.mean()).item(),
                    "difference": difference.mean,
                    "standard_error": difference.error,
                }


def _values(runs: Sequence[dict[str, Any]], arm: str, place: int, measure: str) -> Tensor:
    found = [
        run["stages"][place][measure] for run in sorted(runs, key=lambda run: int(run["seed"])) if run["arm"] == arm
    ]
    return torch.tensor(found, dtype=torch.float64)


def _end_with_parent() -> None:
    """End this worker when the process that started it is gone: an orphan would go on training, on the same folders."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _run(experiment: Experiment, arm: str, seed: int, root: Path) -> dict[str, Any]:
    """Train one run through its stages, measuring at each; in a process of its own."""
    torch.set_num_threads(1)
    folder = run_folder(root, arm, seed)
    file = folder.root / "result.json"
    result: dict[str, Any] = {"arm": arm, "seed": seed, "stages": []}
    recipe = experiment.recipe(arm, seed)
    if file.is_file():
        result = json.loads(file.read_text())
    missing = experiment.steps[len(result["stages"]) :]
    if not missing:
        return result
    truth, trainer = Truth(experiment), Trainer(recipe, folder.root, resume=True)
    if trainer.step > missing[0]:
        raise ValueError(
            f"{str(folder.root)!r} is trained beyond step {missing[0]}, but the measurement there is lost: delete it"
        )
    for steps in missing:
        started = time.monotonic()
        trainer.train(until=steps)
        trained = time.monotonic()
        images = trainer.sample(range(experiment.samples)).cpu()
        result["stages"].append(
            {"steps": steps}
            | truth.measure(images)
            | {"train_seconds": trained - started, "sample_seconds": time.monotonic() - trained}
        )
        for number, image in enumerate(images[:PICTURES]):
            save_image(image.nan_to_num(), folder.samples / f"step-{steps:08d}" / f"{number:02d}.png")
        write_file(file, json.dumps(result).encode())
    return result


def _check_folders(experiment: Experiment, root: Path) -> None:
    for arm, seed in experiment.runs:
        folder = run_folder(root, arm, seed)
        if folder.recipe_file.is_file() and folder.recipe() != experiment.recipe(arm, seed):
            raise ValueError(
                f"{str(folder.root)!r} holds a run with other settings, which would not compare: choose another --out, "
                "or delete that folder"
            )


def _watch(
    futures: Sequence[Future[dict[str, Any]]], experiment: Experiment, root: Path, on_progress: OnProgress | None
) -> None:
    """Wait for all runs, reading from their logs how far they are; the first failure ends the wait."""
    folders = [run_folder(root, arm, seed) for arm, seed in experiment.runs]
    while True:
        done, pending = wait(futures, timeout=0.5)
        for future in done:
            future.result()
        if on_progress is not None:
            steps = sum(_logged_step(folder) for folder in folders)
            on_progress(steps, experiment.steps[-1] * len(folders))
        if not pending:
            return


def run_folder(root: Path, arm: str, seed: int) -> RunFolder:
    """Where a run of an experiment lies."""
    return RunFolder(root / f"seed-{seed}" / re.sub(r"[^\w.]+", "-", arm))


def _logged_step(folder: RunFolder) -> int:
    entries = folder.log()
    return int(entries[-1]["step"]) if entries else 0
