"""Does what `passband diagnose` suggests help? Train with it, and measure.

python -m benchmarks.suggestion --out benchmarks/results/suggestion/vp
python -m benchmarks.suggestion --process flow --out benchmarks/results/suggestion/flow
python -m benchmarks.suggestion --data PHOTOS --steps 1600 --out benchmarks/results/suggestion/photos-vp

With the recipe of the checkerboard experiment, for each seed: trains a baseline without a term, diagnoses it, and
trains from scratch, on the same initial weights, data and noise, with the suggested lines as they are; with a plain
pixel loss (L1 on the clean estimate) in the place of the suggested one, weighed by the same rule, which tells what is
owed to the spectrum from what any loss of that strength would do; with a third and three times the suggested weight;
with the demo's own term, which was chosen by a sweep on the checkerboards; and, if `--arms` names it, with Spectral
Forcing besides, where none was suggested. All are diagnosed on the same noisy samples that none has seen, and their
samples are compared with true ones: with all checkerboards, or, with `--data`, with tiles of the photographs in a
folder, of which some are for training and the others held out.

The demo's term, and the share of the gradient that the suggested weight follows from, were chosen with the demo's
process on seeds 0 and 1. So the seeds are others, and a flow that predicts velocities and photographs are cases for
which nothing was chosen. Finished runs are kept in `--runs`: interrupted, it goes on where it stopped. Writes
results.json and table.md, and prints the table.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmarks.suggestion_arms import ARMS, BASELINE, FRONT, PIXEL, SUGGESTED, Lines, as_strong, lines
from benchmarks.suggestion_data import HELD_OUT, Boards, Data, Photographs
from benchmarks.suggestion_table import MEASURES, between, cells, strengths, suggestions, table
from torch import Tensor

from passband._files import write_file
from passband.metrics import DenoiserSpectrum
from passband.training import Trainer
from passband.training.config import Recipe
from passband.training.demo import TERM, Experiment
from passband.training.diagnose import Diagnosis, DiagnosisSettings, diagnose
from passband.training.subject import open_subject
from passband.training.suggest_front import contour

SAMPLES = 128

#: Processes with the solver that draws their samples; the first is the demo's.
PROCESSES: dict[str, tuple[dict[str, Any], str]] = {
    "vp": ({"name": "vp"}, "ancestral"),
    "flow": ({"name": "flow", "prediction": "velocity"}, "euler"),
}


def recipe(seed: int, process: str, steps: int, samples: int, data: Data, added: Lines) -> Recipe:
    """The demo's recipe of one seed, on some data, with the lines of an arm, saved at the end only."""
    noising, solver = PROCESSES[process]
    budget = -(-steps // 4)
    experiment = Experiment(seeds=(seed,), budget=budget, samples=samples, solver=solver, arms={BASELINE: None})
    plain = experiment.recipe(BASELINE, seed).model_dump(mode="json")
    plain["training"] |= {"steps": steps, "save_every": steps}
    return Recipe.model_validate(plain | {"process": noising} | data.lines() | dict(added))


def train(folder: Path, settings: Recipe) -> Tensor:
    """Train a run, or go on with it, and draw its samples."""
    trainer = Trainer(settings, folder, resume=True)
    trainer.train()
    return trainer.sample(range(settings.sampling.count)).cpu()


def diagnosed(folder: Path, baseline: Path, data: Data) -> Diagnosis:
    """A run on the baseline's held-out data; the suggestion is for it, and it is compared with the baseline."""
    subject = open_subject(folder)
    if folder == baseline:
        return diagnose(subject, data.held_out(subject))
    first = open_subject(baseline)
    return diagnose(first, data.held_out(first), DiagnosisSettings(count=HELD_OUT, gradients=0), against=subject)


def run(
    arm: str, seed: int, folders: Callable[[str], Path], settings: Callable[[Lines], Recipe], data: Data
) -> dict[str, Any] | None:
    """Train and measure one arm; None where nothing was suggested."""
    begun, used = time.perf_counter(), time.process_time()
    baseline = folders(BASELINE)
    suggestion = {} if arm == BASELINE else json.loads((baseline / "result.json").read_text())["suggestion"]
    kept: dict[str, Any] = {"arm": arm, "seed": seed}
    if arm == PIXEL:
        subject = open_subject(baseline)
        control = as_strong(suggestion["recipe"], subject, data.held_out(subject))
        added, kept["strengths"] = (None, None) if control is None else control
    else:
        added = lines(arm, suggestion.get("recipe", ""), suggestion.get("contour"))
    if added is None:
        return None
    images = train(folders(arm), settings(added))
    found = diagnosed(folders(arm), baseline, data)
    own = found.model if found.against is None else found.against
    kept |= {"lines": dict(added), "numbers": cells(own.spectrum) | data.measure(images)}
    kept["map"] = {
        "ratios": own.spectrum.ratios,
        "bands": own.spectrum.bands,
        "excess": own.spectrum.excess.difference.round(decimals=3).tolist(),
        "wiener": own.spectrum.wiener.round(decimals=4).tolist(),
        "wrong": own.spectrum.wrong.int().tolist(),
    }
    if found.comparison is None:
        told = found.suggestion
        kept["suggestion"] = {"recipe": told.recipe, "sentences": told.sentences, "gradients": _norms(own.spectrum)}
        law = found.law
        kept["suggestion"]["contour"] = None if isinstance(law, str) or law.front is None else contour(law)
    else:
        called, size = found.comparison.different, found.comparison.difference
        kept["against"] = {"less": int((called & (size < 0)).sum()), "more": int((called & (size > 0)).sum())}
    return kept | {"seconds": time.perf_counter() - begun, "processor_seconds": time.process_time() - used}


def _norms(result: DenoiserSpectrum) -> dict[str, list[float]]:
    return {name: gradient.norm.tolist() for name, gradient in result.gradients.items()}


def main() -> None:
    """Run what is missing, and write the results of what there is."""
    options = _options()
    torch.set_num_threads(options.threads)
    data: Data = Boards() if options.data is None else Photographs(options.data, options.runs / "photographs")
    named = "" if options.data is None else "photographs-"
    runs = []
    for arm in dict.fromkeys([BASELINE, *options.arms]):
        for seed in options.seeds:
            folders = partial(_folder, options.runs / f"{named}{options.process}-{options.steps}" / f"seed-{seed}")
            settings = partial(recipe, seed, options.process, options.steps, options.samples, data)
            file = folders(arm) / "result.json"
            if not file.is_file():
                found = run(arm, seed, folders, settings, data)
                if found is None:
                    continue
                write_file(file, json.dumps(found).encode())
                print(f"{arm}, seed {seed}: {found['seconds']:.0f} s", flush=True)
            runs.append(json.loads(file.read_text()))
    text = _tables(runs, data)
    options.out.mkdir(parents=True, exist_ok=True)
    facts = {name: getattr(options, name) for name in ("process", "steps", "samples", "seeds")}
    facts |= {"data": data.name, "held_out": HELD_OUT, "the demo's": TERM} | data.facts()
    (options.out / "results.json").write_text(json.dumps({"settings": facts, "runs": runs}) + "\n")
    (options.out / "table.md").write_text(text)
    print("\n" + text)


def _tables(runs: list[dict[str, Any]], data: Data) -> str:
    measures = MEASURES | dict(data.measures)
    parts = [suggestions(runs), strengths(runs), table(runs, measures)]
    if {SUGGESTED, PIXEL} <= {entry["arm"] for entry in runs}:
        parts.append(between(runs, measures, SUGGESTED, PIXEL))
    return "\n".join(part for part in parts if part)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/suggestion"))
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="photographs; default: checkerboards")
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--process", choices=list(PROCESSES), default="vp")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=[arm for arm in ARMS if arm != FRONT])
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def _folder(root: Path, arm: str) -> Path:
    plain = arm.replace("λ", "lambda").replace("×", "times").replace("/", "over").replace("'", "")
    return root / "-".join(plain.replace(",", "").split())


if __name__ == "__main__":
    main()
