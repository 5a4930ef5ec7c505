"""A grid of runs: models × arms × seeds, trained on the same data order and noise, evaluated on the same seeds."""

import gc
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from pydantic import ValidationError

from passband._files import write_file
from passband.reports.grid_tables import compare_arms
from passband.reports.page import installed_versions
from passband.training.checkpoint import checkpoint_folder, torn
from passband.training.config import (
    Recipe,
    RecipeError,
    denoiser_recipe,
    invalid,
    load_recipe,
    parse_override,
    read_settings,
)
from passband.training.draw import NonFiniteSamplesError
from passband.training.evaluate import Evaluator
from passband.training.evaluate_audio import AudioEvaluator
from passband.training.grid_settings import GridAudioEvaluationSettings, GridEvaluationSettings, GridSettings
from passband.training.guard import NonFiniteLossError
from passband.training.ranks import Ranks
from passband.training.results import evaluation_folder, finished
from passband.training.run_folder import RunFolder, differences
from passband.training.sections import AudioData
from passband.training.trainer import Trainer

AnyEvaluator = Evaluator | AudioEvaluator


class Combination(NamedTuple):
    """One training run of a grid."""

    model: str
    arm: str
    seed: int


class GridProgress(NamedTuple):
    """How far a grid is.

    Attributes:
        done: trainings and evaluations that are finished.
        total: trainings and evaluations in all.
        what: what goes on now, in words.
        part: how far that is.
        parts: of how many (steps, samples, images).

    """

    done: int
    total: int
    what: str
    part: int
    parts: int


OnProgress = Callable[[GridProgress], None]


def load_grid(path: str | Path, overrides: Sequence[str] = ()) -> "Grid":
    """Read a grid from YAML.

    Args:
        path: the file; its `recipe` is relative to it.
        overrides: `key=value` settings of the grid (`seeds=[0]`, `evaluate.count=64`), or of all its recipes
            (`data.path=PHOTOS`).

    Raises:
        RecipeError: if it cannot be used; all faults are listed.

    """
    file = Path(path)
    if not file.is_file():
        raise RecipeError(
            f"there is no grid at {str(path)!r}: give the path of a YAML file, such as recipes/edm/grid.yaml"
        )
    parsed = [(text, *parse_override(text)) for text in overrides]
    own = [(key, value) for _, key, value in parsed if key.partition(".")[0] in GridSettings.model_fields]
    values = read_settings(file, own)
    common = [text for text, key, _ in parsed if key.partition(".")[0] not in GridSettings.model_fields]
    _fill_in_kind(values, file.parent, common)
    try:
        settings = GridSettings.model_validate(values)
    except ValidationError as error:
        raise invalid(repr(str(path)), error, values) from error
    settings = settings.model_copy(update={"overrides": (*settings.overrides, *common)})
    return Grid(settings, file.parent)


def _fill_in_kind(values: dict[str, Any], folder: Path, overrides: Sequence[str]) -> None:
    """Let the section `evaluate` be of the kind that the recipe's data are; faults of the recipe show later."""
    evaluate = values.setdefault("evaluate", {})
    if not isinstance(evaluate, dict) or "kind" in evaluate or not isinstance(values.get("recipe"), str):
        return
    try:
        recipe = load_recipe(folder / values["recipe"], [*values.get("overrides", ()), *overrides])
    except (RecipeError, TypeError):
        return
    if isinstance(recipe.data, AudioData):
        evaluate["kind"] = "audio"


class Grid:
    """A grid's combinations, their recipes and folders.

    Args:
        settings: the grid.
        folder: what the path of its recipe is relative to.

    Raises:
        RecipeError: if a combination's recipe is not valid.

    """

    def __init__(self, settings: GridSettings, folder: Path) -> None:
        self.settings = settings
        self.recipe_file = folder / settings.recipe
        self.combinations = [found for found in self._all() if self._selected(found)]
        if not self.combinations:
            raise RecipeError("only selects no combination: take a line out of it, or correct its names")
        self.recipes = {found: self._recipe(found) for found in self.combinations}

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps at which checkpoints are evaluated, ascending."""
        return tuple(sorted(self.settings.steps))

    def folder(self, root: Path, found: Combination) -> Path:
        """The run folder of a combination."""
        return root / "runs" / found.model / found.arm / f"seed-{found.seed}"

    def evaluation(self, root: Path, found: Combination, steps: int) -> Path:
        """The folder of an evaluation."""
        return evaluation_folder(self.folder(root, found), steps)

    def share(self, index: int, count: int) -> list[Combination]:
        """The combinations of share `index` (from 1) of `count`: every count-th.

        Raises:
            ValueError: unless 1 <= index <= count.

        """
        if not 1 <= index <= count:
            raise ValueError(f"a share is I/N with I from 1 to N, got {index}/{count}")
        return self.combinations[index - 1 :: count]

    def _all(self) -> Iterator[Combination]:
        # Seeds outermost: an interrupted grid has whole comparisons of its first seeds.
        for seed in self.settings.seeds:
            for model in self.settings.models:
                for arm in self.settings.arms:
                    yield Combination(model, arm, seed)

    def _selected(self, found: Combination) -> bool:
        return not self.settings.only or any(
            (selection.models is None or found.model in selection.models)
            and (selection.arms is None or found.arm in selection.arms)
            and (selection.seeds is None or found.seed in selection.seeds)
            for selection in self.settings.only
        )

    def _recipe(self, found: Combination) -> Recipe:
        settings = self.settings
        fixed = [
            f"training.seed={found.seed}",
            f"training.steps={self.steps[-1]}",
            f"training.keep_steps={list(self.steps)}",
        ]
        overrides = [*settings.overrides, *settings.models[found.model], *settings.arms[found.arm], *fixed]
        try:
            return denoiser_recipe(load_recipe(self.recipe_file, overrides), "a grid")
        except RecipeError as error:
            raise RecipeError(f"model {found.model!r}, arm {found.arm!r}: {error}") from error


def run_grid(
    grid: Grid,
    root: Path,
    *,
    share: tuple[int, int] = (1, 1),
    ranks: Ranks | None = None,
    on_progress: OnProgress | None = None,
) -> None:
    """Train and evaluate the combinations of a share; what is finished is kept, what was started is continued.

    A run that diverges is noted in its folder (failed.json) and left out of the tables; the others go on.

    Args:
        grid: what to run.
        root: folder of the runs.
        share: (I, N): every N-th combination, from the I-th.
        ranks: the processes that share each run, of which this is one; all must call this.
        on_progress: called after each step, batch and run.

    Raises:
        RecipeError: if root holds runs with other settings; none is touched then.
        TrainingInterrupted: if asked to stop (Ctrl-C, SIGTERM); the same call continues.

    """
    ranks = Ranks() if ranks is None else ranks
    chosen = grid.share(*share)
    _check_folders(grid, root)
    if ranks.is_first:
        write_grid(grid, root)
    evaluator = _evaluator(grid.settings.evaluate, ranks, root)
    per_run = 1 + len(grid.steps)
    for number, found in enumerate(chosen):
        report = _Reporter(on_progress, number * per_run, len(chosen) * per_run, " ".join(map(str, found)))
        _run(grid, root, found, evaluator, report)


def _evaluator(
    settings: GridEvaluationSettings | GridAudioEvaluationSettings, ranks: Ranks, root: Path
) -> AnyEvaluator:
    if isinstance(settings, GridAudioEvaluationSettings):
        return AudioEvaluator(settings, ranks)
    return Evaluator(settings, ranks, real_stats=root / "real-stats")


def collect(grid: Grid, root: Path) -> dict[str, Any]:
    """The results of all evaluations that are there, and the comparison of the arms, as plain data."""
    settings = grid.settings
    request = settings.evaluate.request
    runs, lacking, failed = [], [], []
    metrics: dict[str, Any] = {}
    for found in grid.combinations:
        failure = _failure(grid, root, found)
        for steps in grid.steps:
            results = finished(grid.evaluation(root, found, steps), request)
            facts: dict[str, Any] = {**found._asdict(), "steps": steps}
            if results is not None:
                runs.append(facts | {"metrics": {m["key"]: m["value"] for m in results["metrics"]}})
                metrics |= {m["key"]: {k: v for k, v in m.items() if k in _KEPT} for m in results["metrics"]}
            elif failure is not None:
                failed.append(facts | {"reason": failure})
            else:
                lacking.append(facts)
    document: dict[str, Any] = {
        "grid": settings.model_dump(mode="json"),
        "runs": runs,
        "metrics": metrics,
        "missing": lacking,
        "failed": failed,
        "paper": None if settings.paper is None else settings.paper.model_dump(mode="json"),
        "versions": installed_versions(),
    }
    return document | {"tables": compare_arms(document)}


_KEPT = {"metric", "title", "better", "features", "real", "fake", "of"}


class _Reporter:
    """Progress of one run within the grid."""

    def __init__(self, on_progress: OnProgress | None, before: int, total: int, run: str) -> None:
        self.on_progress, self.before, self.total, self.run, self.done = on_progress, before, total, run, 0

    def __call__(self, what: str, part: int, parts: int) -> None:
        if self.on_progress is not None:
            self.on_progress(GridProgress(self.before + self.done, self.total, f"{self.run}: {what}", part, parts))

    def finish(self, what: str) -> None:
        self.done += 1
        self(what, 1, 1)


def _run(grid: Grid, root: Path, found: Combination, evaluator: AnyEvaluator, report: _Reporter) -> None:
    folder, request = grid.folder(root, found), grid.settings.evaluate.request
    wanted = [steps for steps in grid.steps if finished(grid.evaluation(root, found, steps), request) is None]
    # Of the first process, since others may read while it writes.
    wanted = evaluator.ranks.first(wanted)
    lost = [steps for steps in wanted if not _has_checkpoint(folder, steps)]
    try:
        if evaluator.ranks.first(lost):
            _train(grid.recipes[found], folder, wanted, report)
        report.finish("trained")
        for steps in grid.steps:
            if steps in wanted:
                evaluator.evaluate(
                    folder,
                    grid.evaluation(root, found, steps),
                    step=steps,
                    on_progress=report,
                )
                if not grid.settings.evaluate.keep_samples and evaluator.ranks.is_first:
                    shutil.rmtree(grid.evaluation(root, found, steps) / "samples", ignore_errors=True)
            report.finish(f"evaluated at step {steps}")
    except (NonFiniteLossError, NonFiniteSamplesError) as error:
        if evaluator.ranks.is_first:
            write_file(folder / "failed.json", json.dumps({"reason": str(error)}).encode())
        return
    if evaluator.ranks.is_first:
        (folder / "failed.json").unlink(missing_ok=True)
        if not grid.settings.keep_checkpoints:
            shutil.rmtree(RunFolder(folder).checkpoints, ignore_errors=True)


def _train(recipe: Recipe, folder: Path, wanted: Sequence[int], report: _Reporter) -> None:
    trainer = Trainer(recipe, folder, resume=True)
    lost = [steps for steps in wanted if steps < trainer.step and not _has_checkpoint(folder, steps)]
    if lost:
        raise RecipeError(
            f"{str(folder)!r} is trained to step {trainer.step}, but its checkpoint of step {lost[0]} is gone: delete "
            "that folder to train it again"
        )

    def show(step: int, _entry: Mapping[str, float]) -> None:
        report("training", step, recipe.training.steps)

    report("training", trainer.step, recipe.training.steps)
    try:
        trainer.train(on_log=show)
    finally:
        trainer.end(leave_group=False)
    del trainer
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _has_checkpoint(folder: Path, steps: int) -> bool:
    return torn(checkpoint_folder(RunFolder(folder).checkpoints, steps)) is None


def _failure(grid: Grid, root: Path, found: Combination) -> str | None:
    file = grid.folder(root, found) / "failed.json"
    return str(json.loads(file.read_text())["reason"]) if file.is_file() else None


def _check_folders(grid: Grid, root: Path) -> None:
    for found, recipe in grid.recipes.items():
        folder = RunFolder(grid.folder(root, found))
        if not folder.recipe_file.is_file():
            continue
        changed = differences(folder.recipe().model_dump(mode="json"), recipe.model_dump(mode="json"))
        if changed:
            raise RecipeError(
                f"{str(folder.root)!r} holds a run with other settings, which would not compare: {'; '.join(changed)}; "
                "choose another --out, or delete that folder"
            )


def write_grid(grid: Grid, root: Path) -> None:
    """Write the resolved grid beside its runs."""
    text = yaml.safe_dump(grid.settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    write_file(root / "grid.yaml", text.encode())
