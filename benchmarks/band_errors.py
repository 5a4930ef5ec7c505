"""Which bands does a small pixel-space denoiser learn first, and does a spectral term change the order?

passband data prepare PHOTOS --out runs/photos/train-32.zip --resolution 32 --crop tile --scale 0.5 --subset train
passband data prepare PHOTOS --out runs/photos/eval-32.zip --resolution 32 --crop tile --scale 0.5 --subset eval
OMP_NUM_THREADS=1 python -m benchmarks.band_errors --out benchmarks/results/band-errors

Trains each arm on power-law fields and on photographs, and measures the error of its clean estimates per octave after
0 to `--steps` steps, on the same held-out samples with the same noise. Finished runs are kept in `--runs`: interrupted,
it goes on with the next. Writes results.json, table.md and band-errors.png (docs/images/spectral-bias.png).
"""

import argparse
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from passband._files import write_file
from passband.data import ImageFolder, from_uint8, power_law_fields, power_law_psd
from passband.metrics import BandError, radial_bands, wiener_band_error
from passband.process import Process
from passband.reports.paired import Estimate, estimate, is_clear, markdown_table, paired_difference, with_error
from passband.sampling import SampleNoise, predict
from passband.training import Trainer
from passband.training.build import build_process
from passband.training.config import Recipe, denoiser_recipe, make_recipe
from passband.transforms import dct, idct

SIZE = 32
RATIOS = (0.1, 0.3, 1.0)
MARKS = (0, 3, 10, 20, 40, 80, 150, 300, 500, 800, 1200, 2000, 4000)
HELD_OUT = 64
ATTAINABLE = 0.1  # bands where the best linear estimate gains less than this over zero are not judged
FIELDS: dict[str, Any] = {"resolution": SIZE, "beta": 2.5, "std": 0.3}
TRAIN, EVAL = Path("runs/photos/train-32.zip"), Path("runs/photos/eval-32.zip")
HELD_OUT_SEED = 1 << 20

DATA: dict[str, dict[str, Any]] = {
    "fields": {"name": "power_law", **FIELDS},
    "photographs": {"name": "images", "path": str(TRAIN), "resolution": SIZE},
}


def share(term: dict[str, Any]) -> dict[str, Any]:
    """A term whose gradient at the network's output is half as large as that of the squared error."""
    return {"regularizer": {"losses": [term], "weight": {"share": 0.5}}}


ARMS: dict[str, dict[str, Any]] = {
    "none": {},
    "amplitude": share({"name": "amplitude"}),
    "wavelet": share({"name": "wavelet", "wavelet": "haar", "levels": 3}),
    "velocity": {"process": {"name": "flow", "prediction": "velocity"}},
}


def recipe(data: str, arm: str, seed: int, steps: int) -> Recipe:
    """One run: a small U-Net that predicts the clean sample (but for the arm `velocity`)."""
    settings = {
        "name": f"{data}-{arm}-{seed}",
        "data": DATA[data],
        "process": {"name": "flow", "prediction": "sample"},
        "model": {
            "block_out_channels": (16, 32, 32),
            "layers_per_block": 1,
            "mid_attention": False,
            "norm_num_groups": 8,
        },
        "optimizer": {"lr": 1e-3},
        "training": {
            "steps": steps,
            "batch_size": 8,
            "seed": seed,
            "ema": 0.99,
            "log_every": 100,
            "save_every": steps,
            "sample_every": None,
            "keep_checkpoints": 1,
            "trackers": (),
        },
    }
    return denoiser_recipe(make_recipe(settings | ARMS[arm]), "the benchmark")


def held_out(data: str) -> Tensor:
    """Samples that are not trained on: fields of another seed, tiles of the other side of the split."""
    if data == "fields":
        return power_law_fields(HELD_OUT, **FIELDS, seed=HELD_OUT_SEED)
    return _pixels(EVAL, HELD_OUT)


def mean_power(data: str) -> Tensor:
    """Mean power of each DCT coefficient: the exact one of the fields, the measured one of the training tiles."""
    if data == "fields":
        return power_law_psd(**FIELDS)
    return dct(_pixels(TRAIN, 4000).double()).square().mean((0, 1))


def _pixels(path: Path, count: int) -> Tensor:
    images = ImageFolder(path, SIZE, limit=count)
    return from_uint8(torch.stack([images.pixels(index) for index in range(len(images))]))


Denoise = Callable[[Tensor, float], Tensor]


@torch.no_grad()
def measure(clean: Tensor, denoise: Denoise) -> list[list[float]]:
    """Relative error of clean estimates from x + r·ε and r, (noise ratios, bands): the same noise each time."""
    noise = SampleNoise([HELD_OUT_SEED + index for index in range(len(clean))]).normal(clean.shape[1:])
    found = []
    for ratio in RATIOS:
        errors = BandError()
        errors.update(clean, denoise(clean + ratio * noise, ratio))
        found.append(errors.compute().relative.tolist())
    return found


def by_network(network: nn.Module, process: Process) -> Denoise:
    """The clean estimates of a network."""
    network.eval()

    def denoise(x: Tensor, ratio: float) -> Tensor:
        t = torch.full((len(x),), 1000 * ratio / (1 + ratio), dtype=torch.float64)
        noisy = x / (1 + ratio)  # the flow's alpha
        return process.clean_estimate(noisy, predict(network, process, noisy, t).float(), t)

    return denoise


def by_wiener(psd: Tensor) -> Denoise:
    """The best linear estimates for data of this mean power per DCT coefficient."""
    return lambda x, ratio: idct(psd / (psd + ratio**2) * dct(x.double())).to(x)


def run(data: str, arm: str, seed: int, steps: int, folder: Path) -> dict[str, Any]:
    """Train one arm, measuring at the marks."""
    begun, used = time.perf_counter(), time.process_time()
    shutil.rmtree(folder, ignore_errors=True)
    settings, clean = recipe(data, arm, seed, steps), held_out(data)
    trainer, process = Trainer(settings, folder), build_process(settings.process)
    marks = [mark for mark in MARKS if mark < steps] + [steps]
    curves = []
    for mark in marks:
        if mark:
            trainer.train(until=mark)
        curves.append(measure(clean, by_network(trainer.network, process)))
    shutil.rmtree(folder)
    seconds = {"seconds": time.perf_counter() - begun, "processor_seconds": time.process_time() - used}
    return {"data": data, "arm": arm, "seed": seed, "steps": marks, "relative": curves} | seconds


def reached(steps: list[int], errors: list[float], bar: float) -> float:
    """The step at which an error falls to a bar, between measurements along log(1 + step); infinite where it does not.

    Example:
        >>> [round(reached([0, 9, 99], [1.0, 0.6, 0.4], bar), 1) for bar in (0.6, 0.5, 0.3)]
        [9.0, 30.6, inf]

    """
    for k, error in enumerate(errors):
        if error <= bar:
            if k == 0:
                return 0.0
            part = (errors[k - 1] - bar) / (errors[k - 1] - error)
            low, high = math.log1p(steps[k - 1]), math.log1p(steps[k])
            return math.expm1(low + part * (high - low))
    return math.inf


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Per data, noise ratio and band: the attainable error, and of each arm the steps half way to it and the end.

    Attainable is what the Wiener filter leaves on the very samples that the networks are measured on; `expected` is its
    closed form.
    """
    bands = radial_bands((SIZE, SIZE))
    found: dict[str, Any] = {"bands": bands, "ratios": RATIOS, "data": {}}
    for data in dict.fromkeys(entry["data"] for entry in runs):
        power = mean_power(data)
        best = measure(held_out(data), by_wiener(power))
        found["data"][data] = {
            str(ratio): {
                "attainable": best[place],
                "expected": wiener_band_error(power, ratio).tolist(),
                "arms": {
                    arm: [_judged(entries, place, band, best[place][band]) for band in range(len(bands))]
                    for arm, entries in _by_arm(runs, data)
                },
            }
            for place, ratio in enumerate(RATIOS)
        }
    return found


def _by_arm(runs: list[dict[str, Any]], data: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for arm in ARMS:
        entries = [entry for entry in runs if entry["data"] == data and entry["arm"] == arm]
        if entries:
            yield arm, entries


def _judged(entries: list[dict[str, Any]], place: int, band: int, best: float) -> dict[str, Any]:
    found: dict[str, dict[int, float]] = {"half_way": {}, "from_start": {}, "last": {}, "excess": {}}
    for entry in entries:
        seed, curve = entry["seed"], [row[place][band] for row in entry["relative"]]
        found["half_way"][seed] = reached(entry["steps"], curve, (1 + best) / 2)
        found["from_start"][seed] = reached(entry["steps"], curve, (curve[0] + best) / 2)
        found["last"][seed] = curve[-1]
        found["excess"][seed] = curve[-1] - best
    return found


KINDS = {
    "half_way": "Steps half way from an estimate of zero (error 1) to the attainable error",
    "from_start": "Steps half way from the network's own first error to the attainable one",
    "excess": "Error over the attainable one at the end",
}


def tables(summary: dict[str, Any], steps: int) -> str:
    """Markdown: a table for each kind and data set."""
    parts = [f"# Error per band over {steps:,} training steps"]
    for data, by_ratio in summary["data"].items():
        for kind, title in KINDS.items():
            parts += [f"## {data.capitalize()}: {title[0].lower()}{title[1:]}", _table(summary, by_ratio, kind, steps)]
    return "\n\n".join(parts)


def _table(summary: dict[str, Any], by_ratio: dict[str, Any], kind: str, steps: int) -> str:
    arms = list(next(iter(by_ratio.values()))["arms"])
    rows = [["noise ratio", "radii", "attainable error", *arms]]
    for ratio, found in by_ratio.items():
        for band, (low, high) in enumerate(summary["bands"]):
            best = found["attainable"][band]
            judged = 1 - best >= ATTAINABLE
            base = found["arms"]["none"][band][kind]
            cells = [_cell(kind, found["arms"][arm][band][kind], base, steps) if judged else "–" for arm in arms]
            rows.append([ratio, f"{low} to {high}" if low < high else str(low), f"{best:.3f}", *cells])
    return markdown_table(rows)


def _cell(kind: str, values: dict[int, float], base: dict[int, float], steps: int) -> str:
    """Mean and standard error over the seeds; bold where the paired difference from the arm `none` is clear."""
    if kind == "excess":
        return _bold(with_error(estimate(list(values.values())), sign=True), paired_difference(values, base))
    if any(math.isinf(value) for value in values.values()):
        there = sum(not math.isinf(value) for value in values.values())
        return f"> {steps:,}" + (f" ({there} of {len(values)} there)" if there else "")
    # Steps are compared by their ratio: a geometric mean, and the factor of its standard error.
    found = estimate([math.log1p(value) for value in values.values()])
    text = f"{math.expm1(found.mean):.0f} (× {math.exp(found.error or 0):.2f})"
    if any(math.isinf(value) for value in base.values()):
        return text
    return _bold(text, paired_difference(*({s: math.log1p(v) for s, v in side.items()} for side in (values, base))))


def _bold(text: str, difference: Estimate | None) -> str:
    clear = difference is not None and difference.error != 0 and is_clear(difference)
    return f"**{text}**" if clear else text


def figure(runs: list[dict[str, Any]], summary: dict[str, Any], path: Path) -> None:
    """Relative error per band over steps at the lowest noise ratio: a panel for each data set and arm."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    place = 0
    datasets, arms = list(summary["data"]), [arm for arm in ARMS if any(entry["arm"] == arm for entry in runs)]
    size = (2.9 * len(arms), 2.9 * len(datasets))
    fig, axes = plt.subplots(len(datasets), len(arms), figsize=size, sharex=True, sharey=True, squeeze=False)
    for row, data in enumerate(datasets):
        best = summary["data"][data][str(RATIOS[place])]["attainable"]
        for axis, arm in zip(axes[row], arms, strict=True):
            entries = [entry for entry in runs if entry["data"] == data and entry["arm"] == arm]
            steps = 1 + torch.tensor(entries[0]["steps"])
            for band, (low, high) in enumerate(summary["bands"]):
                if 1 - best[band] < ATTAINABLE:
                    continue
                colour = plt.get_cmap("viridis")(0.95 * band / (len(summary["bands"]) - 1))
                curves = torch.tensor([[step[place][band] for step in entry["relative"]] for entry in entries])
                axis.plot(steps, curves.mean(0), color=colour, label=f"{low}–{high}" if low < high else str(low))
                axis.fill_between(steps, curves.min(0).values, curves.max(0).values, color=colour, alpha=0.2, lw=0)
                axis.axhline(best[band], color=colour, lw=0.8, ls=":")
            axis.axhline(1, color="#999999", lw=0.8)
            axis.set(xscale="log", yscale="log")
            axis.set_title(f"{data}, {arm}", fontsize=10)
        axes[row][0].set_ylabel("error / power of the band")
    for axis in axes[-1]:
        axis.set_xlabel("1 + training steps")
    axes[0][0].legend(title="radii", fontsize=7, title_fontsize=7, loc="lower left", framealpha=0.7)
    fig.tight_layout()
    fig.savefig(path, dpi=110)
    plt.close(fig)


def main() -> None:
    """Run what is missing, and write the results of what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/band-errors"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--data", nargs="+", choices=list(DATA), default=list(DATA))
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--report", action="store_true", help="only write the results of what is finished")
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs = []
    for seed in options.seeds:
        for data in options.data:
            for arm in options.arms:
                file = options.runs / f"{data}-{arm}-{seed}-{options.steps}.json"
                if options.report and not file.is_file():
                    continue
                if not file.is_file():
                    found = run(data, arm, seed, options.steps, options.runs / f"{data}-{arm}-{seed}")
                    write_file(file, json.dumps(found).encode())
                    print(f"{file.stem}: {found['seconds']:.0f} s", flush=True)
                runs.append(json.loads(file.read_text()))
    options.out.mkdir(parents=True, exist_ok=True)
    summary = summarise(runs)
    text = tables(summary, options.steps)
    (options.out / "results.json").write_text(json.dumps({"runs": runs, "summary": summary}, indent=1))
    (options.out / "table.md").write_text(text)
    figure(runs, summary, options.out / "band-errors.png")
    print("\n" + text)


if __name__ == "__main__":
    main()
