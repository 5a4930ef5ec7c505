"""Do matched spectra make latents easier to learn? Small autoencoders, then a small flow transformer on each.

passband data prepare PHOTOS --out runs/photos/train-64.zip --resolution 64 --crop tile --limit 8000 --subset train
passband data prepare PHOTOS --out runs/photos/eval-64.zip --resolution 64 --crop tile --limit 2000 --subset eval
python -m benchmarks.spectrum_matching --jobs 2 --out benchmarks/results/spectrum-matching

The same autoencoder (recipes/vae/vae-photos64*.yaml) with KL, ESM (of drawn latents, and of means), DSM and EQ, and
on the latents of each, brought to mean 0 and standard deviation 1 per channel, the same transformer
(recipes/dit/dit-photos64.yaml) for as many steps. The methods of a seed share the initial weights, the data's order and
the noise. Every finished piece is a line of pieces.jsonl in `--runs`: interrupted, it goes on where it stopped. Writes
results.json, table.md, psd.png, dots.png and samples.png. `--quick` runs all of it in a minute, with numbers that mean
nothing.
"""

import argparse
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from passband._files import write_file
from passband.data import ImageFolder, from_uint8, to_uint8
from passband.integrations.autoencoder import Autoencoder
from passband.matching import anti_aliased, dsm_mask, esm_divergence, latent_spectrum, rms_spatial_contrast
from passband.metrics import FeatureStatistics, ReconstructionQuality, frechet_distance, load_features, psnr
from passband.reports.paired import estimate, is_clear, markdown_table, paired_difference, with_error
from passband.sampling import SampleNoise, sample
from passband.training import Trainer, load_recipe
from passband.training.encode import encode
from passband.training.restore import find_autoencoder, restore

METHODS = {
    "kl": "recipes/vae/vae-photos64.yaml",
    "esm": "recipes/vae/vae-photos64-esm.yaml",
    "esm-mean": "recipes/vae/vae-photos64-esm-mean.yaml",
    "dsm": "recipes/vae/vae-photos64-dsm.yaml",
    "eq": "recipes/vae/vae-photos64-eq.yaml",
}
BASELINE = "kl"
TRANSFORMER = "recipes/dit/dit-photos64.yaml"
TRAIN, EVAL = Path("runs/photos/train-64.zip"), Path("runs/photos/eval-64.zip")
SIZE, BINS = 64, 16
CORNERS = (8, 10, 12)
MASKED = 200  # images, since it takes a decoding for each mask
FEATURES = "efficientnet-lite0"
SHOWN = 8

#: What the table shows: piece, key, title, and which way is better.
MEASURES = (
    ("measures", "psnr", "PSNR (dB) ↑"),
    ("measures", "ssim", "SSIM ↑"),
    ("measures", "rfd", "rFD ↓"),
    ("measures", "esm", "ESM divergence ↓"),
    ("measures", "esm_means", "the same, means ↓"),
    ("measures", "noise_share", "posterior noise"),
    ("measures", "masked_psnr", "masked PSNR (dB) ↑"),
    ("measures", "contrast", "RMS contrast"),
    ("samples", "fd", "FD of samples ↓"),
    ("samples", "fd_reconstructions", "from reconstructions ↓"),
)


@dataclass(frozen=True)
class Budget:
    """What each run may take; None: as the recipe says."""

    autoencoder_steps: int | None = None
    transformer_steps: int | None = None
    train_images: int = 8000
    measured_images: int = 1000
    real_images: int = 2000
    samples: int = 500
    sampling_steps: int = 25


QUICK = Budget(6, 6, 64, 64, 128, 48, 3)


@dataclass(frozen=True)
class Run:
    """One autoencoder, its transformer, and where they lie."""

    method: str
    seed: int
    root: Path
    budget: Budget

    @property
    def folder(self) -> Path:
        """The run's own."""
        return self.root / f"{self.method}-{self.seed}"

    @property
    def name(self) -> str:
        """What the lines of its pieces and its messages call it."""
        return f"{self.method}-{self.seed}"


def overrides(run: Run, data: Sequence[str], steps: int | None) -> list[str]:
    """What differs from a recipe in this experiment."""
    found = [*data, f"training.seed={run.seed}", "training.trackers=[]", "training.sample_every=null"]
    found += ["training.keep_checkpoints=1"]
    return found if steps is None else [*found, f"training.steps={steps}", f"optimizer.decay_steps={steps}"]


def train(recipe: str, settings: list[str], folder: Path) -> dict[str, Any]:
    """Train a recipe to its end, from where it was stopped."""
    trainer = Trainer(load_recipe(recipe, settings), folder, resume=folder.exists())
    losses: dict[str, float] = {}
    trainer.train(on_log=lambda _, entry: losses.update({k: v for k, v in entry.items() if isinstance(v, float)}))
    return {"steps": trainer.step, "losses": losses}


def train_autoencoder(run: Run) -> dict[str, Any]:
    """The autoencoder."""
    data = [f"data.path={TRAIN}", "data.crop=center", "data.subset=all", f"data.limit={run.budget.train_images}"]
    return train(METHODS[run.method], overrides(run, data, run.budget.autoencoder_steps), run.folder / "autoencoder")


def train_transformer(run: Run) -> dict[str, Any]:
    """The flow on the autoencoder's latents."""
    data = [f"data.path={run.folder / 'latents'}"]
    return train(TRANSFORMER, overrides(run, data, run.budget.transformer_steps), run.folder / "transformer")


def encode_latents(run: Run) -> dict[str, Any]:
    """The latents of the training images, with their scale."""
    shutil.rmtree(run.folder / "latents", ignore_errors=True)
    images = ImageFolder(TRAIN, SIZE, limit=run.budget.train_images)
    done = encode(images, find_autoencoder(run.folder / "autoencoder"), run.folder / "latents", scale="channel")
    return {"count": done.header["count"], "shift": done.header["shift"], "scale": done.header["scale"]}


@torch.no_grad()
def measure(run: Run) -> dict[str, Any]:
    """Reconstruction, spectrum and equivariance on held-out tiles: the latents as drawn, means where it says so."""
    autoencoder = find_autoencoder(run.folder / "autoencoder")
    quality = ReconstructionQuality(features=load_features(FEATURES))
    sums: dict[str, list[Tensor]] = {}
    for start, images in batches(EVAL, run.budget.measured_images):
        mean, std = autoencoder.encode(images)
        quality.update(images, autoencoder.decode(mean))
        drawn = mean + std * SampleNoise(range(start, start + len(images))).normal(mean.shape[1:])
        named = _of_latents(images, mean, std, drawn)
        if start < MASKED:
            named["masked_psnr"] = _masked(images, mean, autoencoder)
        for name, values in named.items():
            sums.setdefault(name, []).append(values)
    found = {name: torch.cat(values).double().mean(0) for name, values in sums.items()}
    result = quality.compute()
    write_file(run.folder / "reconstructions.safetensors", save(quality.fake.state_dict()))
    # Over each channel's own variance within an image, so that the mean over frequencies is 1.
    curves = {
        name: (found.pop(name) / found.pop(f"{name}_variance")[:, None]).mean(0).tolist()
        for name in ("psd", "psd_means", "psd_image")
    }
    numbers = {name: value.item() for name, value in found.items()}
    return {"psnr": result.psnr, "ssim": result.ssim, "rfd": result.frechet, **numbers, **curves}


def _masked(images: Tensor, mean: Tensor, autoencoder: Autoencoder) -> Tensor:
    """How well the masked latent decodes to the masked image, the mean over DSM's masks."""
    pairs = [dsm_mask(images, mean, corner) for corner in CORNERS]
    return torch.stack([psnr(target, autoencoder.decode(latent)) for target, latent in pairs]).mean(0)


def _of_latents(images: Tensor, mean: Tensor, std: Tensor, drawn: Tensor) -> dict[str, Tensor]:
    found = {
        "esm": esm_divergence(images, drawn),
        "esm_means": esm_divergence(images, mean),
        "esm_unflattened": esm_divergence(images, drawn, delta=0.0),
        "contrast": rms_spatial_contrast(drawn),
        "noise_share": std.square().mean((1, 2, 3)) / drawn.var((2, 3), correction=0).mean(1),
    }
    fields = {"psd": drawn, "psd_means": mean, "psd_image": anti_aliased(images, drawn.shape[2:])}
    for name, field in fields.items():
        found |= {name: latent_spectrum(field, BINS), f"{name}_variance": field.var((2, 3), correction=0)}
    return found


def measure_samples(run: Run) -> dict[str, Any]:
    """The Fréchet distance of decoded samples from held-out tiles."""
    found, budget = restore(run.folder / "transformer"), run.budget
    assert found.decode is not None
    features = load_features(FEATURES)
    fake, kept = FeatureStatistics(features, name="samples"), []
    for start in range(0, budget.samples, 50):
        seeds = range(start, min(start + 50, budget.samples))
        latents = sample(
            found.model,
            found.process,
            found.sample_shape,
            seeds=seeds,
            steps=budget.sampling_steps,
            solver=found.sampling.solver,
            spacing=found.sampling.spacing,
        )
        pixels = to_uint8(found.decode(latents))
        fake.update(features(pixels))
        kept.append(pixels[: max(0, SHOWN - start)])
    write_file(run.folder / "samples.bin", torch.cat(kept).numpy().tobytes())
    # From reconstructions: what the transformer lacks, without what its decoder cannot show.
    shown = FeatureStatistics(features, name="features of the reconstructions")
    shown.load_state_dict(load_file(run.folder / "reconstructions.safetensors"))
    real = real_features(run.root, budget)
    return {
        "fd": frechet_distance(real, fake),
        "fd_reconstructions": frechet_distance(shown, fake),
        "count": budget.samples,
    }


def batches(path: Path, count: int, size: int = 50) -> Iterator[tuple[int, Tensor]]:
    """Images in [-1, 1], with the number of the first."""
    images = ImageFolder(path, SIZE, limit=count)
    for start in range(0, len(images), size):
        yield start, from_uint8(images.pixel_batch(list(range(start, min(start + size, len(images))))))


def real_features(root: Path, budget: Budget) -> FeatureStatistics:
    """Those of the held-out tiles, computed once."""
    file = root / "real.json"
    features = load_features(FEATURES)
    found = FeatureStatistics(features, name="real features")
    if file.is_file():
        kept = json.loads(file.read_text())
        values = torch.tensor(kept, dtype=torch.float64)
    else:
        values = torch.cat([features(to_uint8(x)) for _, x in batches(EVAL, budget.real_images)]).double()
        write_file(file, json.dumps(values.tolist()).encode())
    found.update(values)
    return found


def floor(root: Path, budget: Budget) -> float:
    """The distance of as many real tiles as there are samples from the rest of them."""
    features = load_features(FEATURES)
    values = torch.tensor(json.loads((root / "real.json").read_text()), dtype=torch.float64)
    # As many on one side as there are samples, where there are twice as many.
    count = min(budget.samples, len(values) // 2)
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(0))
    sides = []
    for part in (order[:count], order[count:]):
        side = FeatureStatistics(features, name="real features")
        side.update(values[part])
        sides.append(side)
    return frechet_distance(*sides)


PIECES: dict[str, Callable[[Run], dict[str, Any]]] = {
    "autoencoder": train_autoencoder,
    "measures": measure,
    "latents": encode_latents,
    "transformer": train_transformer,
    "samples": measure_samples,
}


def work(run: Run) -> None:
    """All pieces of a run that are not finished, one after the other, in this process."""
    torch.set_num_threads(1)
    done = {
        piece["piece"] for piece in finished(run.root) if (piece["method"], piece["seed"]) == (run.method, run.seed)
    }
    for piece, make in PIECES.items():
        if piece in done:
            continue
        start, used = time.perf_counter(), time.process_time()
        found = make(run)
        times = {"seconds": time.perf_counter() - start, "processor_seconds": time.process_time() - used}
        line = {"method": run.method, "seed": run.seed, "piece": piece, **times, **found}
        # One write to a file that is appended to: lines of several processes do not mix.
        with (run.root / "pieces.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(f"{run.name} {piece}: {times['seconds']:.0f} s", flush=True)
    shutil.rmtree(run.folder / "latents", ignore_errors=True)


def finished(root: Path) -> list[dict[str, Any]]:
    """The lines of the pieces that are done; one that was cut off is none."""
    file = root / "pieces.jsonl"
    found = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def run_all(runs: Sequence[Run], jobs: int) -> None:
    """The runs, `jobs` at once."""
    for path in (TRAIN, EVAL):
        if not path.is_file():
            raise SystemExit(f"there is no {path}: make it with the commands above (python {__file__} --help)")
    root, budget = runs[0].root, runs[0].budget
    root.mkdir(parents=True, exist_ok=True)
    note = root / "settings.json"
    if note.is_file() and json.loads(note.read_text()) != asdict(budget):
        raise SystemExit(f"{root} holds runs of another budget: choose another folder with --runs")
    write_file(note, json.dumps(asdict(budget), indent=1).encode())
    real_features(root, budget)
    if jobs == 1:
        for run in runs:
            work(run)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        for _ in pool.map(work, runs):
            pass


def values(pieces: Iterable[dict[str, Any]], method: str, piece: str, key: str) -> dict[int, float]:
    """A number by seed."""
    return {
        p["seed"]: p[key] for p in pieces if (p["method"], p["piece"]) == (method, piece) and p.get(key) is not None
    }


def table(pieces: list[dict[str, Any]]) -> str:
    """Markdown: means and standard errors, then paired differences from the baseline."""
    methods = [method for method in METHODS if any(piece["method"] == method for piece in pieces)]
    titles = [title for *_, title in MEASURES]
    means, differences = [["method", *titles]], [[f"minus {BASELINE}", *titles]]
    for method in methods:
        row, difference = [method], [method]
        for piece, key, _ in MEASURES:
            found, base = values(pieces, method, piece, key), values(pieces, BASELINE, piece, key)
            row.append(with_error(estimate(list(found.values()))) if found else "–")
            gap = paired_difference(found, base)
            text = with_error(gap, sign=True)
            difference.append(f"**{text}**" if gap is not None and is_clear(gap) else text)
        means.append(row)
        if method != BASELINE:
            differences.append(difference)
    return markdown_table(means) + "\n" + markdown_table(differences)


def psd_picture(pieces: list[dict[str, Any]], path: Path) -> None:
    """Spectra of drawn latents and of their means, and of the image at their size; bands from least to most seed."""
    found = [piece for piece in pieces if piece["piece"] == "measures"]
    # Equal rings from 0 to the corner, in cycles per pixel of the latent.
    width = 2**0.5 / 2 / BINS
    centres = [(ring + 0.5) * width for ring in range(BINS)]
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(6.4, 4.2))
    image = torch.tensor([piece["psd_image"] for piece in found]).mean(0)
    flat = image * torch.arange(1, BINS + 1)
    axes.plot(centres, image, color="#222222", label="image")
    axes.plot(centres, flat * image.sum() / flat.sum(), color="#222222", ls=":", label="image, flattened (δ = 1)")
    for method, colour in _colours().items():
        curves = [piece["psd"] for piece in found if piece["method"] == method]
        if curves:
            stacked = torch.tensor(curves)
            axes.plot(centres, stacked.mean(0), color=colour, label=method)
            axes.fill_between(centres, stacked.min(0).values, stacked.max(0).values, color=colour, alpha=0.2, lw=0)
            means = torch.tensor([piece["psd_means"] for piece in found if piece["method"] == method]).mean(0)
            axes.plot(centres, means, color=colour, lw=1, ls="--")
    axes.plot([], [], color="#666666", lw=1, ls="--", label="dashed: posterior means")
    axes.set(yscale="log", xlabel="cycles per pixel of the latent", ylabel="power (1 = white noise of variance 1)")
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def dots_picture(pieces: list[dict[str, Any]], path: Path) -> None:
    """Each measure of each method: a dot for a seed, a bar for the mean."""
    pyplot = _pyplot()
    shown = [
        (piece, key, title)
        for piece, key, title in MEASURES
        if key in ("psnr", "rfd", "esm", "fd", "fd_reconstructions")
    ]
    figure, axes = pyplot.subplots(1, len(shown), figsize=(2.5 * len(shown), 3))
    for axis, (piece, key, title) in zip(axes, shown, strict=True):
        for place, (method, colour) in enumerate(_colours().items()):
            found = values(pieces, method, piece, key)
            axis.plot([place] * len(found), list(found.values()), "o", color=colour, ms=5)
            if found:
                axis.hlines(sum(found.values()) / len(found), place - 0.3, place + 0.3, color=colour)
        axis.set_xticks(range(len(METHODS)), METHODS, rotation=35, ha="right")
        axis.set_title(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def samples_picture(root: Path, seed: int, path: Path) -> None:
    """Samples of one seed, a row for each method."""
    from PIL import Image

    rows = []
    for method in METHODS:
        file = root / f"{method}-{seed}" / "samples.bin"
        if file.is_file():
            pixels = torch.frombuffer(bytearray(file.read_bytes()), dtype=torch.uint8).reshape(-1, 3, SIZE, SIZE)
            rows.append(torch.cat(list(pixels[:SHOWN]), dim=2))
    if rows:
        Image.fromarray(torch.cat(rows, dim=1).permute(1, 2, 0).contiguous().numpy()).save(path)


def _colours() -> dict[str, str]:
    return dict(zip(METHODS, ("#D55E00", "#0072B2", "#56B4E9", "#009E73", "#CC79A7"), strict=True))


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def write_results(root: Path, out: Path, budget: Budget, seed: int) -> str:
    """The results of what is finished; the table."""
    pieces = finished(root)
    text = table(pieces)
    out.mkdir(parents=True, exist_ok=True)
    facts = {"budget": asdict(budget), "features": FEATURES, "real_against_real": floor(root, budget), "pieces": pieces}
    (out / "results.json").write_text(json.dumps(facts, indent=1))
    (out / "table.md").write_text(text)
    if any(piece["piece"] == "measures" for piece in pieces):
        psd_picture(pieces, out / "psd.png")
        dots_picture(pieces, out / "dots.png")
    samples_picture(root, seed, out / "samples.png")
    return text + f"\nReal tiles from real tiles, {budget.samples} on one side: FD {facts['real_against_real']:.2f}\n"


def main() -> None:
    """Run what is missing, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--autoencoder-steps", type=int, help="default: as the recipes say")
    parser.add_argument("--transformer-steps", type=int, help="default: as the recipe says")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--quick", action="store_true", help="a few steps of one seed, to see that all of it works")
    parser.add_argument("--report", action="store_true", help="only write the results of what is finished")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    budget = Budget(options.autoencoder_steps, options.transformer_steps, samples=options.samples)
    seeds = options.seeds
    if options.quick:
        budget, seeds = QUICK, options.seeds[:1]
    root = options.runs or Path("runs") / ("spectrum-matching-quick" if options.quick else "spectrum-matching")
    out = options.out or root / "results"
    if not options.report:
        make = partial(Run, root=root, budget=budget)
        run_all([make(method, seed) for seed in seeds for method in options.methods], options.jobs)
    print("\n" + write_results(root, out, budget, seeds[0]))


if __name__ == "__main__":
    main()
