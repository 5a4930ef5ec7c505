"""Does what `passband diagnose` suggests help? Train with it, and measure.

python -m benchmarks.suggestion --out benchmarks/results/suggestion/vp
python -m benchmarks.suggestion --process flow --out benchmarks/results/suggestion/flow

On the data and with the recipe of the checkerboard experiment, for each seed: trains a baseline without a term,
diagnoses it, and trains from scratch, on the same initial weights, data and noise, with the suggested lines as they
are, with a third and three times the suggested weight, and with the demo's own term, which was chosen by a sweep. All
are diagnosed on the same noisy samples that none has seen, and their samples are compared with true boards.

The demo's term, and the share of the gradient that the suggested weight follows from, were chosen with the demo's
process on seeds 0 and 1. So the seeds are others, and a flow that predicts velocities is a case for which nothing was
chosen. Finished runs are kept in `--runs`: interrupted, it goes on where it stopped. Writes results.json and table.md,
and prints the table.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from passband._files import write_file
from passband.data import checkerboards
from passband.metrics import DenoiserSpectrum, SampleSpectrum, compare_samples
from passband.reports.paired import estimate, is_clear, markdown_table, paired_difference, with_error
from passband.training import Trainer
from passband.training.config import Recipe
from passband.training.demo import TERM, Experiment, Truth
from passband.training.diagnose import Diagnosis, DiagnosisSettings, diagnose
from passband.training.diagnosis_data import own_data
from passband.training.subject import open_subject

BASELINE, SUGGESTED, BY_HAND = "none", "suggested", "the demo's"
WEIGHTS = {SUGGESTED: 1.0, "suggested, λ × 3": 3.0, "suggested, λ / 3": 1 / 3}
ARMS = (BASELINE, SUGGESTED, BY_HAND, *(arm for arm in WEIGHTS if arm != SUGGESTED))
HELD_OUT, SAMPLES, TRUE_SEED = 256, 128, 1 << 20
SEEN = 0.9  # cells of which the Wiener filter leaves less than this share have something to see
OCTAVE = 0.25, 0.5  # the top one, cycles per pixel
LOW, MIDDLE = (0.0, 0.3), (0.3, 3.0)  # noise ratios

#: What the table shows, by the name of the number: less is better in each.
MEASURES = {
    "excess": "error over Wiener, mean of all cells, dB",
    "excess_seen": "error over Wiener where there is something to see, dB",
    "excess_hidden": "error over Wiener where noise hides the data, dB",
    "top_low": "error over Wiener in the top octave at noise ratios up to 0.3, dB",
    "top_middle": "error over Wiener in the top octave at noise ratios 0.3 to 3, dB",
    "called": "cells called wrong, of 121",
    "lsd": "LSD of samples, dB",
    "octaves": "octaves of samples called different, of 5",
    "pattern_distance": "pattern distance of samples",
    "leakage": "leakage of samples",
}

#: Processes with the solver that draws their samples; the first is the demo's.
PROCESSES: dict[str, tuple[dict[str, Any], str]] = {
    "vp": ({"name": "vp"}, "ancestral"),
    "flow": ({"name": "flow", "prediction": "velocity"}, "euler"),
}

Lines = Mapping[str, Any]


def recipe(seed: int, process: str, steps: int, samples: int, added: Lines) -> Recipe:
    """The demo's recipe of one seed with the lines of an arm, saved at the end only."""
    noising, solver = PROCESSES[process]
    budget = -(-steps // 4)
    experiment = Experiment(seeds=(seed,), budget=budget, samples=samples, solver=solver, arms={BASELINE: None})
    plain = experiment.recipe(BASELINE, seed).model_dump(mode="json")
    plain["training"] |= {"steps": steps, "save_every": steps}
    return Recipe.model_validate(plain | {"process": noising} | dict(added))


def lines(arm: str, suggested: str) -> Lines | None:
    """What an arm adds to the recipe; None where nothing was suggested that it could train with."""
    if arm not in WEIGHTS:
        return {BASELINE: {}, BY_HAND: {"regularizer": TERM}}[arm]
    found: dict[str, Any] = yaml.safe_load(suggested) or {}
    if arm == SUGGESTED:
        return found or None
    if "regularizer" not in found:
        return None
    term = found["regularizer"]
    return found | {"regularizer": term | {"weight": term["weight"] * WEIGHTS[arm]}}


def train(folder: Path, settings: Recipe) -> Tensor:
    """Train a run, or go on with it, and draw its samples."""
    trainer = Trainer(settings, folder, resume=True)
    trainer.train()
    return trainer.sample(range(settings.sampling.count)).cpu()


def diagnosed(folder: Path, baseline: Path) -> Diagnosis:
    """A run on the baseline's held-out data; the suggestion is for it, and it is compared with the baseline."""
    subject = open_subject(folder)
    if folder == baseline:
        return diagnose(subject, own_data(subject, HELD_OUT))
    first = open_subject(baseline)
    return diagnose(first, own_data(first, HELD_OUT), DiagnosisSettings(count=HELD_OUT, gradients=0), against=subject)


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


def samples_beside_truth(images: Tensor) -> dict[str, float]:
    """What `passband compare` and the demo find in samples; boards are periodic, so that no taper is needed."""
    experiment = Experiment()
    boards = checkerboards(len(images), experiment.size, experiment.cells, seed=TRUE_SEED)
    sides = []
    for name, side in (("true", boards), ("sample", images)):
        spectrum = SampleSpectrum(name, taper="none")
        spectrum.update(side.float(), [f"{name} {i}" for i in range(len(side))])
        sides.append(spectrum)
    found, exact = compare_samples(*sides), Truth(experiment).measure(images)
    called = found.contrasts["octaves"].different.any(0).sum()
    return {"lsd": exact["lsd"], "octaves": float(called), "octave_lsd": [each.value for each in found.octave_lsd]} | {
        name: exact[name] for name in ("pattern_distance", "leakage")
    }


def run(
    arm: str, seed: int, folders: Callable[[str], Path], settings: Callable[[Lines], Recipe]
) -> dict[str, Any] | None:
    """Train and measure one arm; None where nothing was suggested."""
    begun, used = time.perf_counter(), time.process_time()
    baseline = folders(BASELINE)
    suggestion = {} if arm == BASELINE else json.loads((baseline / "result.json").read_text())["suggestion"]
    added = lines(arm, suggestion.get("recipe", ""))
    if added is None:
        return None
    images = train(folders(arm), settings(added))
    found = diagnosed(folders(arm), baseline)
    own = found.model if found.against is None else found.against
    kept: dict[str, Any] = {"arm": arm, "seed": seed, "lines": dict(added)}
    kept["numbers"] = cells(own.spectrum) | samples_beside_truth(images)
    kept["map"] = {
        "ratios": own.spectrum.ratios,
        "bands": own.spectrum.bands,
        "excess": own.spectrum.excess.difference.round(decimals=3).tolist(),
        "wiener": own.spectrum.wiener.round(decimals=4).tolist(),
    }
    if found.comparison is None:
        told = found.suggestion
        kept["suggestion"] = {"recipe": told.recipe, "sentences": told.sentences, "gradients": _norms(own.spectrum)}
    else:
        called, size = found.comparison.different, found.comparison.difference
        kept["against"] = {"less": int((called & (size < 0)).sum()), "more": int((called & (size > 0)).sum())}
    return kept | {"seconds": time.perf_counter() - begun, "processor_seconds": time.process_time() - used}


def _norms(result: DenoiserSpectrum) -> dict[str, list[float]]:
    return {name: gradient.norm.tolist() for name, gradient in result.gradients.items()}


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: mean and standard error over the seeds, and the paired difference to the baseline."""
    arms = [arm for arm in ARMS if any(entry["arm"] == arm for entry in runs)]
    rows = [["", *arms]]
    for measure, words in MEASURES.items():
        values = {arm: {e["seed"]: e["numbers"][measure] for e in runs if e["arm"] == arm} for arm in arms}
        rows.append([words, *(with_error(estimate(list(values[arm].values()))) for arm in arms)])
        rows.append(["… difference", "", *(_difference(values[arm], values[BASELINE]) for arm in arms[1:])])
    for name, words in (("less", "cells with less error than without"), ("more", "cells with more error")):
        counts = [[e["against"][name] for e in runs if e["arm"] == arm] for arm in arms[1:]]
        rows.append([words, "", *(with_error(estimate(count)) for count in counts)])
    return markdown_table(rows)


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


def main() -> None:
    """Run what is missing, and write the results of what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/suggestion"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--process", choices=list(PROCESSES), default="vp")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    runs = []
    for arm in dict.fromkeys([BASELINE, *options.arms]):
        for seed in options.seeds:
            folders = partial(_folder, options.runs / f"{options.process}-{options.steps}" / f"seed-{seed}")
            settings = partial(recipe, seed, options.process, options.steps, options.samples)
            file = folders(arm) / "result.json"
            if not file.is_file():
                found = run(arm, seed, folders, settings)
                if found is None:
                    continue
                write_file(file, json.dumps(found).encode())
                print(f"{arm}, seed {seed}: {found['seconds']:.0f} s", flush=True)
            runs.append(json.loads(file.read_text()))
    text = f"{suggestions(runs)}\n{table(runs)}"
    options.out.mkdir(parents=True, exist_ok=True)
    facts = {name: getattr(options, name) for name in ("process", "steps", "samples", "seeds")}
    facts |= {"held_out": HELD_OUT, "the demo's": TERM}
    (options.out / "results.json").write_text(json.dumps({"settings": facts, "runs": runs}) + "\n")
    (options.out / "table.md").write_text(text)
    print("\n" + text)


def _folder(root: Path, arm: str) -> Path:
    plain = arm.replace("λ", "lambda").replace("×", "times").replace("/", "over").replace("'", "")
    return root / "-".join(plain.replace(",", "").split())


if __name__ == "__main__":
    main()
