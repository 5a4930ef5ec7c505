"""Grids: every combination once, each from where it stopped, compared within seeds."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from passband._files import write_file
from passband.reports.grid import grid_markdown, grid_report
from passband.reports.grid_tables import compare_arms, describe_grid, grid_notes, grid_rows
from passband.training import NonFiniteLossError, RecipeError, RunFolder, Trainer, TrainingInterrupted, evaluate, grid
from passband.training.grid import Combination, collect, load_grid, run_grid

RECIPE = """
name: tiny
data: {name: checkerboard, resolution: 16, cells: [2, 4]}
process: {name: vp}
model: {block_out_channels: [8, 8], layers_per_block: 1, mid_attention: false, norm_num_groups: 4}
optimizer: {lr: 0.001}
training: {batch_size: 2, log_every: 1, sample_every: null, trackers: []}
sampling: {steps: 2}
"""

GRID = """
name: trial
recipe: recipe.yaml
arms:
  none: [regularizer=null]
  amplitude: ["regularizer={losses: [{name: amplitude}], weight: 1.0}"]
baseline: none
seeds: [0, 1]
steps: [2, 1]
evaluate: {count: 4, metrics: [lsd]}
"""


@pytest.fixture(scope="module", autouse=True)
def without_pages() -> Iterator[None]:
    """Evaluations write their numbers alone: pages and figures take most of the time and have tests of their own."""

    def write(results: dict, spectrum: object, real: object, fake: object, out: Path, **_: object) -> None:
        write_file(out / "results.json", json.dumps(results).encode())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "evaluation_report", write)
        yield


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grid")
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "grid.yaml").write_text(GRID)
    return folder / "grid.yaml"


@pytest.fixture(scope="module")
def finished_grid(file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """The folder of a grid that ran at once, and its results; not to be changed."""
    root = tmp_path_factory.mktemp("done")
    found = load_grid(file)
    run_grid(found, root)
    return root, collect(found, root)


# What is run.


def test_every_combination_has_its_recipe(file: Path):
    found = load_grid(file, ["optimizer.lr=0.5", "seeds=[3, 4]", "models={small: [], wide: ['training.batch_size=4']}"])
    assert found.combinations == [
        Combination(model, arm, seed)
        for seed in (3, 4) for model in ("small", "wide") for arm in ("none", "amplitude")
    ]  # fmt: skip
    assert found.steps == (1, 2)
    for combination, recipe in found.recipes.items():
        assert recipe.training.seed == combination.seed
        assert recipe.training.steps == 2
        assert recipe.training.keep_steps == (1, 2)
        assert recipe.training.batch_size == (4 if combination.model == "wide" else 2)
        assert (recipe.regularizer is None) == (combination.arm == "none")
        assert recipe.optimizer.lr == 0.5


@pytest.mark.parametrize(
    ("only", "count"),
    [
        ("only.arms=[amplitude]", 4),
        ("only.models=[wide] only.arms=[none] only.seeds=[1]", 1),
        ("only=[{models: [small]}, {models: [wide], arms: [none]}]", 6),
    ],
)
def test_only_selects(file: Path, only: str, count: int):
    parts = only.split(" only") if " only." in only else [only]
    overrides = [parts[0], *(f"only{part}" for part in parts[1:])]
    found = load_grid(file, ["models={small: [], wide: []}", *overrides])
    assert len(found.combinations) == count


def test_shares_are_disjoint_and_whole(file: Path):
    found = load_grid(file, ["seeds=[0, 1, 2]"])
    shares = [found.share(i, 4) for i in (1, 2, 3, 4)]
    assert sorted(combination for share in shares for combination in share) == sorted(found.combinations)
    assert {len(share) for share in shares} == {1, 2}
    for index, count in ((0, 4), (5, 4), (1, 0)):
        with pytest.raises(ValueError, match=f"a share is I/N with I from 1 to N, got {index}/{count}"):
            found.share(index, count)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["baseline=nothing"], r"unknown baseline: got 'nothing'; expected one of 'none', 'amplitude'"),
        (["seeds=[1, 1]"], r"seeds must be distinct"),
        (["steps=[0]"], r"steps must be at least 1"),
        (["steps=[]"], r"steps"),
        (["only.arms=[haar]"], r"unknown arm in only: got 'haar'"),
        (["only.seeds=[7]"], r"only selects no combination"),
        (["evaluate.cout=3"], r"evaluate: unknown key 'cout' \(did you mean 'count'\?\)"),
        (["evaluate.metrics=[fid]"], r"evaluate\.metrics"),
        (["optimizer.rl=1"], r"model 'model', arm 'none': .*unknown key 'rl'"),
        (["arms.a/b=[]"], r"the names of models and arms become folders, which 'a/b' cannot be"),
        (["heat_map={rows: [model], columns: [a]}"], r"unknown model in heat_map: got 'model-a'"),
        (["paper={source: x, values: {model: {none: {5: {fid: 2}}}}}"], r"unknown metric in paper: got 'fid'"),
        (["recipe=nowhere.yaml"], r"there is no recipe at .*nowhere\.yaml"),
    ],
)
def test_faults_of_a_grid(file: Path, overrides: list[str], message: str):
    with pytest.raises(RecipeError, match=f"(?s){message}"):
        load_grid(file, overrides)


def test_no_grid(tmp_path: Path):
    with pytest.raises(RecipeError, match="there is no grid at"):
        load_grid(tmp_path / "grid.yaml")
    (tmp_path / "grid.yaml").write_text("[1, 2]")
    with pytest.raises(RecipeError, match="a mapping of settings was expected, got a list"):
        load_grid(tmp_path / "grid.yaml")


# Running.


def test_a_grid_holds_each_evaluation(file: Path, finished_grid: tuple[Path, dict]):
    root, results = finished_grid
    assert len(results["runs"]) == 8
    assert (results["missing"], results["failed"]) == ([], [])
    for run in results["runs"]:
        folder = (
            root / "runs" / "model" / run["arm"] / f"seed-{run['seed']}" / "evaluation" / f"step-{run['steps']:08d}"
        )
        written = json.loads((folder / "results.json").read_text())
        assert run["metrics"] == {"lsd": written["metrics"][0]["value"]}
        assert written["samples"]["seeds"] == [0, 3]
    # One file, measured once, for all runs.
    assert len(list((root / "real-stats").iterdir())) == 1


def test_arms_of_a_seed_see_the_same_data_and_noise(file: Path, finished_grid: tuple[Path, dict]):
    root, _ = finished_grid
    first = {
        (arm, seed): RunFolder(root / "runs" / "model" / arm / f"seed-{seed}").log()[0]["base"]
        for arm in ("none", "amplitude") for seed in (0, 1)
    }  # fmt: skip
    assert first["none", 0] == first["amplitude", 0]
    assert first["none", 1] == first["amplitude", 1]
    assert first["none", 0] != first["none", 1]


def test_what_is_finished_is_not_run_again(file: Path, finished_grid: tuple[Path, dict], monkeypatch):
    root, results = finished_grid
    monkeypatch.setattr(grid, "Trainer", pytest.fail)
    monkeypatch.setattr(grid.Evaluator, "evaluate", pytest.fail)
    seen = []
    run_grid(load_grid(file), root, on_progress=seen.append)
    assert (seen[-1].done, seen[-1].total) == (12, 12)
    assert collect(load_grid(file), root) == results


@pytest.mark.parametrize(
    ("moment", "error"), [("training", TrainingInterrupted("asked")), ("drawing samples", KeyboardInterrupt())]
)
def test_an_interrupted_grid_goes_on(file: Path, finished_grid, tmp_path: Path, moment: str, error: BaseException):
    found = load_grid(file, ["only={seeds: [0]}"])

    def interrupt(now: grid.GridProgress) -> None:
        if now.what == f"model amplitude 0: {moment}" and now.part == 1:
            raise error

    with pytest.raises(type(error)):
        run_grid(found, tmp_path, on_progress=interrupt if moment == "training" else _when_drawn(interrupt))
    partial = collect(found, tmp_path)
    assert len(partial["runs"]) + len(partial["missing"]) == 4
    assert len(partial["missing"]) in (1, 2)
    run_grid(found, tmp_path)
    expected = [run for run in finished_grid[1]["runs"] if run["seed"] == 0]
    assert collect(found, tmp_path)["runs"] == expected


def _when_drawn(interrupt):
    return lambda now: interrupt(now._replace(part=1) if now.what.endswith("drawing samples") and now.part else now)


def test_more_steps_train_on_from_what_is_there(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    small = ["only={arms: [none], seeds: [0]}"]
    run_grid(load_grid(file, [*small, "steps=[1]"]), tmp_path)
    starts = []
    before = Trainer.train

    def train(self, *args, **options):
        starts.append(self.step)
        return before(self, *args, **options)

    monkeypatch.setattr(Trainer, "train", train)
    more = load_grid(file, [*small, "steps=[1, 3]"])
    run_grid(more, tmp_path)
    assert starts == [1]
    assert [run["steps"] for run in collect(more, tmp_path)["runs"]] == [1, 3]


def test_other_settings_are_refused_and_nothing_is_touched(file: Path, finished_grid, monkeypatch):
    root, _ = finished_grid
    monkeypatch.setattr(grid, "Trainer", pytest.fail)
    with pytest.raises(RecipeError, match=r"holds a run with other settings.*optimizer\.lr was 0\.001, now 0\.1"):
        run_grid(load_grid(file, ["optimizer.lr=0.1", "seeds=[5, 0]"]), root)
    assert not (root / "runs" / "model" / "none" / "seed-5").exists()


def test_a_run_that_diverges_is_left_out(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = Trainer.train

    def train(self, *args, **options):
        if self.recipe.regularizer is not None:
            raise NonFiniteLossError("the loss was NaN at step 1")
        return before(self, *args, **options)

    monkeypatch.setattr(Trainer, "train", train)
    found = load_grid(file, ["seeds=[0]", "steps=[1]"])
    run_grid(found, tmp_path)
    results = collect(found, tmp_path)
    assert [run["arm"] for run in results["runs"]] == ["none"]
    assert [run["arm"] for run in results["failed"]] == ["amplitude"]
    assert grid_notes(results) == ["model amplitude, seed 0, is left out: the loss was NaN at step 1"]
    # Mended, it is run and no longer noted.
    monkeypatch.setattr(Trainer, "train", before)
    run_grid(found, tmp_path)
    assert len(collect(found, tmp_path)["runs"]) == 2
    assert collect(found, tmp_path)["failed"] == []


def test_what_is_large_can_be_dropped(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    options = ["only={arms: [none], seeds: [0]}", "steps=[1]", "keep_checkpoints=false", "evaluate.keep_samples=false"]
    found = load_grid(file, options)
    run_grid(found, tmp_path)
    assert list(tmp_path.rglob("*.safetensors")) == list((tmp_path / "real-stats").iterdir())
    assert not list(tmp_path.rglob("000000.png"))
    monkeypatch.setattr(grid, "Trainer", pytest.fail)
    run_grid(found, tmp_path)
    assert len(collect(found, tmp_path)["runs"]) == 1


def test_a_lost_checkpoint_is_named(file: Path, tmp_path: Path):
    found = load_grid(file, ["only={arms: [none], seeds: [0]}"])
    (recipe,) = found.recipes.values()
    folder = found.folder(tmp_path, found.combinations[0])
    Trainer(recipe, folder).train()
    (folder / "checkpoints" / "step-00000001").rename(tmp_path / "elsewhere")
    with pytest.raises(RecipeError, match="is trained to step 2, but its checkpoint of step 1 is gone"):
        run_grid(found, tmp_path)


# Comparing.


def synthetic(**changes) -> dict:
    """Results of two arms with made-up numbers: seed 3 lacks the arm, seed 4 the baseline."""
    values = {"none": {0: 5.0, 1: 7.0, 2: 6.5, 3: 9.0}, "haar": {0: 4.2, 1: 6.25, 2: 5.75, 4: 1.0}}
    runs = [
        {"model": "vp", "arm": arm, "seed": seed, "steps": 5, "metrics": {"frechet": value, "lsd": None}}
        for arm, by_seed in values.items() for seed, value in by_seed.items()
    ]  # fmt: skip
    facts = {"metric": "frechet", "title": "Fréchet distance", "better": "lower", "features": "f", "real": 9, "fake": 8}
    results = {
        "grid": {
            "name": "trial",
            "models": {"vp": []},
            "arms": dict.fromkeys(values, ()),
            "baseline": "none",
            "steps": [5],
        },
        "runs": runs,
        "metrics": {"frechet": facts},
        "missing": [],
        "failed": [],
        "paper": {"source": "Table 1", "values": {"vp": {"haar": {"5": {"frechet": 1.9}}}}},
        "versions": {},
    } | changes
    return results | {"tables": compare_arms(results)}


def test_the_paired_table_equals_numpy():
    none, haar = synthetic()["tables"]
    values = {"none": np.array([5.0, 7.0, 6.5, 9.0]), "haar": np.array([4.2, 6.25, 5.75, 1.0])}
    for entry in (none, haar):
        expected = values[entry["arm"]]
        assert entry["mean"] == pytest.approx(expected.mean())
        assert entry["standard_error"] == pytest.approx(expected.std(ddof=1) / np.sqrt(4))
        assert entry["seeds"] == 4
    # Seeds 0, 1 and 2 have both.
    difference = values["haar"][:3] - values["none"][:3]
    assert haar["difference"] == pytest.approx(difference.mean())
    assert haar["difference_error"] == pytest.approx(difference.std(ddof=1) / np.sqrt(3))
    assert haar["pairs"] == 3
    assert (none["difference"], none["paper"], haar["paper"]) == (None, None, 1.9)


def test_the_table_as_text():
    results = synthetic()
    head, none, haar = grid_rows(results, "vp", 5)
    assert head == ["metric", "arm", "mean", "paired difference", "seeds", "paper"]
    assert none == ["Fréchet distance\N{NO-BREAK SPACE}↓", "none", "6.88 ± 0.83", "–", "4", "–"]
    assert haar == ["", "haar", "4.3 ± 1.2", "−0.767 ± 0.017 (3 pairs)", "4", "1.9"]
    assert "1 are clearly better and 0 clearly worse" in describe_grid(results)
    text = grid_markdown(results)
    assert "|  | haar | 4.3 ± 1.2 | −0.767 ± 0.017 (3 pairs) | 4 | 1.9 |" in text
    assert "Column paper: Table 1." in text


def test_better_follows_the_direction():
    facts = {"metric": "recall", "title": "Recall", "better": "higher", "features": "f", "real": 9, "fake": 8}
    results = synthetic(metrics={"frechet": facts})
    assert "0 are clearly better and 1 clearly worse" in describe_grid(results)


def test_one_seed_judges_nothing():
    results = synthetic()
    results["runs"] = [run for run in results["runs"] if run["seed"] == 0]
    results["tables"] = compare_arms(results)
    assert results["tables"][1]["difference_error"] is None
    assert "a single seed has no standard error" in describe_grid(results)


def test_the_report_of_a_grid(finished_grid: tuple[Path, dict], tmp_path: Path):
    _, results = finished_grid
    page = grid_report(results, tmp_path, command="passband grid trial.yaml")
    assert json.loads((tmp_path / "results.json").read_text())["runs"] == results["runs"]
    assert "After 2 training steps" in (tmp_path / "table.md").read_text()
    source = page.read_text(encoding="utf-8")
    assert "passband grid trial.yaml" in source
    assert source.count("<img") == 2
    names = ["model-lsd-0-steps", "model-lsd-0"]
    found = [file.name for file in sorted((tmp_path / "figures").iterdir())]
    assert found == [f"{name}.{kind}" for name in names for kind in ("pdf", "png", "svg")]


def test_a_grid_without_results_has_a_report(file: Path, tmp_path: Path):
    results = collect(load_grid(file), tmp_path)
    page = grid_report(results, tmp_path / "out")
    assert "8 of 8 evaluations are not there yet." in page.read_text(encoding="utf-8")


# The grids of the repository.

EDM = Path(__file__).resolve().parents[2] / "recipes" / "edm"


def test_the_published_networks_have_the_papers_settings():
    grid = load_grid(EDM / "grid.yaml")
    assert len(grid.combinations) == 8 * 9 * 3
    for (model, arm, seed), recipe in grid.recipes.items():
        data, small = recipe.data, model.startswith("cifar10")
        assert (recipe.training.batch_size, recipe.training.steps, recipe.training.seed) == (16, 5, seed)
        assert (data.resolution, recipe.sampling.steps) == ((32, 18) if small else (64, 40))
        assert recipe.optimizer.lr == (2e-4 if small else 5e-5)
        assert data.augment.probability == (0.12 if small else 0.15)
        assert recipe.model.dropout == {"c": 0.13, "a": 0.25, "f": 0.05}[model[0]]
        assert recipe.model.class_conditional == ("-cond" in model)
        if arm == "none":
            assert recipe.regularizer is None
        else:
            assert recipe.regularizer.weight == ("edm" if arm.endswith("-weighted") else 1)
    assert grid.settings.evaluate.count == 50_000


def test_the_grid_on_photographs_has_all_arms_for_one_network_and_one_loss_for_the_other():
    grid = load_grid(EDM / "photos32-grid.yaml")
    models = [found.model for found in grid.combinations]
    assert (models.count("vp"), models.count("ve")) == (9 * 3, 2 * 3)
    assert grid.steps == (5, 200)
