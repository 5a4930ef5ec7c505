"""What the samples of recipes/forcing/question-grid.yaml say beyond their spectrum: the texture, and who predicts it.

passband grid recipes/forcing/question-grid.yaml --out runs/question
python -m benchmarks.forcing_question --runs runs/question --out benchmarks/results/forcing-question

Adds to the grid's log-spectral distances, from the samples that it kept: how far the power of the texture's band and of
the low band is from the truth, and how far the texture is the one that each sample's own low band predicts. Writes
results.json and table.md, and the page with its figures into the folder textures of the runs.
"""

import argparse
import math
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from passband.data import from_uint8, power_law_fields, texture_coherence, to_uint8
from passband.reports.grid import grid_report
from passband.reports.grid_tables import compare_arms
from passband.training.draw import read_sample
from passband.training.grid import Combination, Grid, collect, load_grid
from passband.training.sections import PowerLawData
from passband.transforms import dct

GRID = Path("recipes/forcing/question-grid.yaml")
REAL = 4096
MEASURES = {
    "texture_error": ("Power of the texture's band, error (dB)", "lower"),
    "low_error": ("Power of the low band, error (dB)", "lower"),
    "coherence": ("Coherence of texture and low band", "higher"),
}


def bands(data: PowerLawData) -> dict[str, Tensor]:
    """The DCT coefficients of the low band and of the texture's."""
    size = data.resolution
    cutoff = size // 4 if data.cutoff is None else data.cutoff
    index = torch.arange(size)
    inside = (index - (size + cutoff) // 2).abs() <= cutoff
    low = torch.hypot(index[:, None].double(), index.double()) <= cutoff
    low[0, 0] = False
    return {"texture": inside[:, None] & inside, "low": low}


@lru_cache
def reference(data: PowerLawData) -> tuple[Tensor, float]:
    """Mean DCT power and coherence of real fields, as pixels like the samples: clipping takes some of the power."""
    options = data.model_dump(exclude={"name", "length", "seed"})
    fields = from_uint8(to_uint8(power_law_fields(REAL, **options, seed=data.seed + (1 << 21))))
    return dct(fields.double()).square().mean((0, 1)), texture_coherence(fields, data.cutoff).mean().item()


def measure(data: PowerLawData, samples: Tensor) -> dict[str, float]:
    """The measures of samples (count, 1, size, size) in [-1, 1]; the coherence where there is one to be learnt."""
    truth, coherence = reference(data)
    power = dct(samples.double()).square().mean((0, 1))
    found = {}
    for name, band in bands(data).items():
        decibels = 10 * math.log10((power[band].sum() / truth[band].sum()).item())
        found |= {f"{name}_decibels": decibels, f"{name}_error": abs(decibels)}
    if data.share > 0 and data.kind == "signal":
        found |= {"coherence": texture_coherence(samples, data.cutoff).mean().item(), "real_coherence": coherence}
    return found


def added(grid: Grid, root: Path) -> dict[str, Any]:
    """The grid's results with these measures."""
    results = collect(grid, root)
    count = grid.settings.evaluate.count
    for run in results["runs"]:
        found = Combination(run["model"], run["arm"], run["seed"])
        folder = grid.evaluation(root, found, run["steps"]) / "samples"
        seeds = range(grid.settings.evaluate.seed, grid.settings.evaluate.seed + count)
        data = grid.recipes[found].data
        assert isinstance(data, PowerLawData)
        samples = from_uint8(torch.stack([read_sample(folder, seed, data.channels) for seed in seeds]))
        run["metrics"] |= measure(data, samples)
    for key, (title, better) in MEASURES.items():
        facts = {"metric": key, "title": title, "better": better, "features": "DCT bands", "real": REAL, "fake": count}
        results["metrics"][key] = facts
    return results | {"tables": compare_arms(results)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/question"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("overrides", nargs="*", help="of the grid, as `passband grid` was given them")
    options = parser.parse_args()
    torch.set_num_threads(1)
    page = grid_report(added(load_grid(GRID, options.overrides), options.runs), options.runs / "textures")
    options.out.mkdir(parents=True, exist_ok=True)
    for name in ("results.json", "table.md"):
        shutil.copy(page.parent / name, options.out / name)
    print(f"Page: {page}")


if __name__ == "__main__":
    main()
