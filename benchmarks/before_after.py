"""The start page's picture: samples of the checkerboard experiment without and with the term, from `make demo`'s runs.

    python -m benchmarks.before_after --runs runs/demo --out docs/images/before-after.png

All samples that the first seed keeps, from the same starting noise on both sides: nothing is chosen.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

ARMS = {"baseline": "mean squared error alone", "regularized": "with the spectral term"}


def mosaic(runs: Path, arm: str, columns: int = 4, gap: int = 2) -> np.ndarray:
    """The samples of the first seed at its last measured step, row by row."""
    seeds = sorted(runs.glob("seed-*"))
    if not seeds:
        raise SystemExit(f"no runs in {runs}: make them with `make demo`")
    folder = max((seeds[0] / arm / "samples").glob("step-*"))
    boards = [np.asarray(Image.open(file).convert("L")) for file in sorted(folder.glob("*.png"))]
    framed = [np.pad(board, gap, constant_values=150) for board in boards]
    rows = [np.hstack(framed[start : start + columns]) for start in range(0, len(framed), columns)]
    return np.vstack(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/demo"))
    parser.add_argument("--out", type=Path, default=Path("docs/images/before-after.png"))
    arguments = parser.parse_args()
    figure = Figure(figsize=(9, 4.85), dpi=110, layout="constrained")
    for axes, (arm, title) in zip(figure.subplots(1, 2), ARMS.items(), strict=True):
        axes.imshow(mosaic(arguments.runs, arm), cmap="gray", vmin=0, vmax=255)
        axes.set_title(title, fontsize=15, pad=10)
        axes.set_axis_off()
    figure.savefig(arguments.out, bbox_inches="tight", pad_inches=0.05, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    main()
