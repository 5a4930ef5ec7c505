"""The checkerboard experiment: paired arms, an exact truth, and results that survive an interruption."""

import json
import shutil
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from passband.data import checkerboards
from passband.metrics import leakage, log_spectral_distance, pattern_distance
from passband.training import Trainer, TrainingInterrupted, demo
from passband.training.demo import MEASURES, Experiment, Truth, mean_psd, pictures, run_experiment, summarize
from passband.transforms import radial_psd

MICRO = Experiment(size=16, seeds=(0, 1), budget=2, samples=4)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[tuple[int, int]]]:
    """A micro run in two processes: its folder, its results, and the progress that it reported."""
    root, progress = tmp_path_factory.mktemp("demo"), []
    results = run_experiment(MICRO, root, workers=2, on_progress=lambda *seen: progress.append(seen))
    return root, results, progress


@pytest.fixture(autouse=True)
def threads():
    """_run sets the number of threads, which is its own process's elsewhere."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs go in threads of this process: starting others takes seconds, and `finished` has tested it."""
    monkeypatch.setattr(demo, "ProcessPoolExecutor", lambda count, **_: ThreadPoolExecutor(count))


def timeless(run: dict[str, Any]) -> dict[str, Any]:
    stages = [{key: value for key, value in stage.items() if "seconds" not in key} for stage in run["stages"]]
    return {**run, "stages": stages}


# What is run.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 24}, "size must be a power of two of at least 16, got 24"),
        ({"size": 8}, "size must be a power of two of at least 16, got 8"),
        ({"seeds": ()}, "seeds must be distinct, at least one"),
        ({"seeds": (1, 1)}, "seeds must be distinct"),
        ({"budget": 0}, "budget must be at least 1 and samples at least 2, got 0 and 128"),
        ({"samples": 1}, "got 400 and 1"),
    ],
)
def test_impossible_experiments(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Experiment(**options)


@pytest.mark.parametrize("size", [16, 32, 64])
def test_measurements_and_cells(size: int):
    experiment = Experiment(size=size, budget=7)
    assert experiment.steps == (7, 14, 28)
    assert [size // cell for cell in experiment.cells] == [16, 8, 4]
    assert Truth(experiment).patterns.shape[1:] == (1, size, size)


def test_the_arms_of_a_seed_differ_in_the_regularizer_alone():
    baseline, regularized = (MICRO.recipe(arm, 1).model_dump() for arm in ("baseline", "regularized"))
    assert baseline.pop("regularizer") is None
    assert regularized.pop("regularizer")["losses"][0]["name"] == "amplitude_phase"
    assert baseline == regularized
    assert baseline["training"]["seed"] == 1
    assert baseline["training"]["steps"] == 8


def test_seeds_differ_in_weights_order_and_noise():
    first, second = (MICRO.recipe("baseline", seed) for seed in (0, 1))
    assert (first.training.seed, first.data.seed) == (0, 0)  # type: ignore[union-attr]
    assert (second.training.seed, second.data.seed) == (1, 1)  # type: ignore[union-attr]
    assert first.sampling == second.sampling


# The truth.


def test_the_true_psd_is_the_mean_over_random_boards():
    boards = checkerboards(3000, 16, MICRO.cells, seed=5)
    estimate, exact = mean_psd(boards), Truth(MICRO).psd
    torch.testing.assert_close(estimate, radial_psd(boards.double()).mean((0, 1)))
    torch.testing.assert_close(estimate, exact, rtol=0.05, atol=1e-6 * float(exact.max()))


def test_true_boards_measure_as_true():
    truth = Truth(MICRO)
    for cell in MICRO.cells:
        found = truth.measure(checkerboards(8, 16, (cell,), seed=cell))
        assert found["leakage"] < 1e-10
        assert found["pattern_distance"] < 1e-6
    balanced = torch.cat([checkerboards(64, 16, (cell,), seed=cell) for cell in MICRO.cells])
    assert truth.measure(balanced)["lsd"] < 0.05
    assert truth.measure(torch.zeros(2, 1, 16, 16))["pattern_distance"] == pytest.approx(1)


def test_measures_are_those_of_the_metrics():
    truth, images = Truth(MICRO), torch.randn(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    found = truth.measure(images)
    assert found["lsd"] == float(log_spectral_distance(mean_psd(images), truth.psd))
    assert found["leakage"] == float(leakage(images, truth.patterns)) > 0.1
    assert found["pattern_distance"] == float(pattern_distance(images, truth.patterns)) > 0.5
    assert found["psd"] == mean_psd(images).tolist()


# The comparison.


def run(arm: str, seed: int, values: list[float]) -> dict[str, Any]:
    stages = [
        {"steps": steps, "lsd": value, "leakage": value / 10, "pattern_distance": value / 100}
        for steps, value in zip(MICRO.steps, values, strict=True)
    ]
    return {"arm": arm, "seed": seed, "stages": stages}


def test_paired_numbers_equal_a_computation_by_hand():
    experiment = Experiment(size=16, seeds=(5, 3, 4), budget=2, samples=4)
    values = {  # by seed: baseline and regularized, after 2, 4 and 8 steps
        5: ([10.0, 8.0, 6.0], [7.0, 7.0, 7.0]),
        3: ([20.0, 9.0, 6.0], [13.0, 5.0, 5.0]),
        4: ([12.0, 4.0, 6.0], [13.0, 3.0, 3.0]),
    }
    runs = [run(arm, seed, values[seed][place]) for place, arm in enumerate(experiment.arms) for seed in (4, 5, 3)]
    results = summarize(experiment, runs)
    paired = {(row["measure"], row["steps"]): row for row in results["paired"]}
    assert len(paired) == 9
    first = paired["lsd", 2]
    assert (first["baseline"], first["value"]) == pytest.approx((14, 11))
    assert first["ratio"] == pytest.approx(11 / 14)
    assert first["difference"] == pytest.approx(-3)
    assert first["standard_error"] == pytest.approx(statistics.stdev([-3, -7, 1]) / 3**0.5)
    last = paired["leakage", 8]
    assert last["difference"] == pytest.approx(-0.1)
    assert last["standard_error"] == pytest.approx(statistics.stdev([0.1, -0.1, -0.3]) / 3**0.5)
    assert results["lsd_per_seed"][0] == {"seed": 5, "baseline": values[5][0], "regularized": values[5][1]}
    assert results["truth"]["psd"] == Truth(experiment).psd.tolist()
    assert results["true_samples"]["leakage"] < 1e-10


def test_one_seed_has_no_standard_error():
    experiment = Experiment(size=16, seeds=(0,), budget=2, samples=4)
    results = summarize(experiment, [run(arm, 0, [3.0, 2.0, 1.0]) for arm in experiment.arms])
    assert {row["standard_error"] for row in results["paired"]} == {None}
    json.loads(json.dumps(results, allow_nan=False))


# The whole.


def test_a_micro_run_has_all_results(finished):
    _, results, progress = finished
    assert results["settings"]["seeds"] == (0, 1)
    assert results["settings"]["steps"] == (2, 4, 8)
    assert results["settings"]["samples"] == 4
    assert results["workers"] == 2
    assert results["seconds"] > 0
    assert [(run["arm"], run["seed"]) for run in results["runs"]] == MICRO.runs
    for run in results["runs"]:
        assert [stage["steps"] for stage in run["stages"]] == [2, 4, 8]
        assert all(stage["train_seconds"] > 0 and stage["sample_seconds"] > 0 for stage in run["stages"])
        assert all(0 < stage[measure] < 1000 for stage in run["stages"] for measure in MEASURES)
    for seed, row in enumerate(results["lsd_per_seed"]):
        assert row["seed"] == seed
        for arm in ("baseline", "regularized"):
            (found,) = [run for run in results["runs"] if (run["arm"], run["seed"]) == (arm, seed)]
            assert row[arm] == [stage["lsd"] for stage in found["stages"]]
    assert progress[-1] == (32, 32)
    assert sorted(progress) == progress


def test_the_measurements_are_those_of_the_trained_network(finished, tmp_path: Path):
    _, results, _ = finished
    trainer = Trainer(MICRO.recipe("regularized", 1), tmp_path)
    torch.set_num_threads(1)
    for stage in results["runs"][3]["stages"]:
        trainer.train(until=stage["steps"])
        expected = Truth(MICRO).measure(trainer.sample(range(4)))
        assert {key: stage[key] for key in expected} == expected


def test_pictures_are_samples_of_each_arm(finished):
    root, _, _ = finished
    found = pictures(MICRO, root)
    assert list(found) == ["truth", "baseline", "regularized"]
    assert found["truth"].unique().tolist() == [-1, 1]
    assert found["baseline"].shape == found["regularized"].shape == (4, 1, 16, 16)
    assert not torch.equal(found["baseline"], found["regularized"])


def test_a_second_call_keeps_what_is_finished(finished, tmp_path: Path, in_threads):
    root, results, _ = finished
    again = shutil.copytree(root, tmp_path / "demo")
    shutil.rmtree(again / "seed-1" / "baseline")
    repeated = run_experiment(MICRO, again, workers=1)
    for old, new in zip(results["runs"], repeated["runs"], strict=True):
        assert timeless(old) == timeless(new)
        assert (old == new) is ((old["arm"], old["seed"]) != ("baseline", 1))  # the seconds tell which were kept
    assert repeated["paired"] == results["paired"]


class Interrupted(Trainer):
    """A trainer that is stopped at step 3."""

    def train(self, until: int | None = None, on_log: Any = None) -> None:
        if until == 4:
            super().train(3)
            raise TrainingInterrupted("stopped at step 3; continue with --resume")
        super().train(until)


def test_an_interrupted_arm_continues(finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _, results, _ = finished
    monkeypatch.setattr(demo, "Trainer", Interrupted)
    with pytest.raises(TrainingInterrupted):
        demo._run(MICRO, "baseline", 0, tmp_path)
    monkeypatch.undo()
    kept = json.loads((tmp_path / "seed-0" / "baseline" / "result.json").read_text())
    assert [stage["steps"] for stage in kept["stages"]] == [2]
    assert timeless(demo._run(MICRO, "baseline", 0, tmp_path)) == timeless(results["runs"][0])


@pytest.mark.parametrize("options", [{"budget": 1}, {"budget": 3}, {"samples": 5}])
def test_runs_with_other_settings_are_not_mixed_in(finished, options: dict[str, Any]):
    root, _, _ = finished
    other = Experiment(**{"size": 16, "seeds": (0, 1), "budget": 2, "samples": 4, **options})
    with pytest.raises(ValueError, match=r"seed-0/baseline' holds a run with other settings.*choose another --out"):
        run_experiment(other, root)


def test_a_lost_measurement_is_not_made_up(finished, tmp_path: Path):
    root, _, _ = finished
    again = shutil.copytree(root, tmp_path / "demo")
    (again / "seed-0" / "baseline" / "result.json").unlink()
    with pytest.raises(ValueError, match="trained beyond step 2, but the measurement there is lost"):
        demo._run(MICRO, "baseline", 0, again)


def test_a_failing_run_ends_the_experiment(tmp_path: Path, in_threads):
    arms = {"baseline": None, "broken": {"losses": [{"name": "wavelet", "levels": 9}]}}
    with pytest.raises(ValueError, match="levels"):
        run_experiment(Experiment(size=16, seeds=(0,), budget=1, samples=2, arms=arms), tmp_path, workers=1)
