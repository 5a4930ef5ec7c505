"""The report of the checkerboard experiment: a page, its figures, and the numbers as JSON."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from passband.metrics import log_spectral_ratio
from passband.reports.figures import (
    curve_figure,
    image_grid,
    psd_figure,
    ratio_figure,
    stack_png,
    to_png,
    write_figure,
)
from passband.reports.page import (
    Code,
    Figure,
    Number,
    Numbers,
    Page,
    Section,
    Table,
    Text,
    current_command,
    installed_versions,
    write_file,
    write_page,
)
from passband.reports.paired import estimate


class _Measure(NamedTuple):
    title: str
    axis: str
    text: str


MEASURES = {
    "lsd": _Measure("Log-spectral distance", "log-spectral distance (dB)", "dB"),
    "leakage": _Measure("Leakage", "power outside the true support (share)", "share of power"),
    "pattern_distance": _Measure("Pattern distance", "RMS distance to the nearest true board", "RMS"),
}


def demo_report(
    results: Mapping[str, Any], pictures: Mapping[str, Tensor], out: Path, command: str | None = None
) -> Path:
    """Write the page, the figures (SVG, PDF and PNG) and results.json of the checkerboard experiment.

    Args:
        results: what [`run_experiment`][passband.training.demo.run_experiment] returned.
        pictures: a few images of the truth and of each arm, in [-1, 1].
        out: folder for index.html, results.json and figures/.
        command: the command that made it; None: that of this process.

    Returns:
        The path of index.html.

    """
    command = current_command() if command is None else command
    document = {**results, "command": command, "versions": installed_versions()}
    write_file(out / "results.json", (json.dumps(document, indent=1) + "\n").encode())
    figures = _draw(results, pictures, out / "figures")
    write_file(out / "figures" / "summary.png", _summary_picture(results, pictures, out / "figures"))
    page = Page(
        title="Checkerboards: the same DDPM with and without a spectral term",
        summary=describe_demo(results),
        sections=[
            Section("The result", [_headline(results), *figures["lsd"]]),
            Section("Samples", figures["samples"]),
            Section("Spectra", [*figures["psd"], *figures["ratio"]]),
            Section("The other measures", [*figures["leakage"], *figures["pattern_distance"]]),
            Section("Paired comparison", [_paired_table(results), Text(_PAIRED, "note")]),
            Section("Each seed", [_seed_table(results)]),
            Section("What was done", [Text(_METHOD), Code(json.dumps(results["recipe"], indent=1))]),
        ],
        command=command,
    )
    return write_page(page, out / "index.html")


def describe_demo(results: Mapping[str, Any]) -> str:
    """The outcome in plain sentences, as it came."""
    ratios = [
        f"{row['ratio']:.2f} after {row['steps']:,} steps" for row in results["paired"] if row["measure"] == "lsd"
    ]
    seeds = len(results["settings"]["seeds"])
    lower = [
        measure.title.lower()
        for key, measure in MEASURES.items()
        if all(row["difference"] < 0 for row in results["paired"] if row["measure"] == key)
    ]
    also = f"Lower at every budget: {', '.join(lower)}." if lower else "No measure is lower at every budget."
    return (
        "With the spectral term, the log-spectral distance to the truth is this many times the baseline's: "
        f"{', '.join(ratios)} (means over {seeds} seed{'s' * (seeds != 1)}). {also}"
    )


def paired_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """The paired comparison as text: measure, steps, baseline, with the term, ratio, difference."""
    return [
        [
            MEASURES[row["measure"]].title,
            f"{row['steps']:,}",
            f"{row['baseline']:.3g}",
            f"{row['value']:.3g}",
            f"{row['ratio']:.2f}",
            f"{row['difference']:+.2g}".replace("-", "−")
            + (f" ± {row['standard_error']:.1g}" if row["standard_error"] is not None else ""),
        ]
        for row in results["paired"]
    ]


_PAIRED = (
    "Both arms of a seed share initial weights, data order, noise and the samples' starting noise, so differences are "
    "taken within seeds: mean difference and its standard error over seeds. Negative is better."
)

_METHOD = (
    "The arms train the same small DDPM on the same checkerboards and differ in the spectral term alone (the "
    "baseline has none). Samples come from the averaged weights. The truth is computed from all possible "
    "boards. Log-spectral distance: root mean square over radii 1 to N/2 of 10·log10 of the ratio of radially "
    "averaged power, with a floor of 1e-4 of the true mean power added to both. Leakage: share of power at "
    "frequencies where no board has any. Pattern distance: root mean square difference per pixel from the "
    "nearest true board. The dotted line is what as many true boards measure."
)


def _headline(results: Mapping[str, Any]) -> Numbers:
    rows = [row for row in results["paired"] if row["measure"] == "lsd"]
    return Numbers(
        [
            Number(
                f"after {row['steps']:,} steps",
                f"{row['value']:.1f} dB",
                f"baseline {row['baseline']:.1f} dB, ratio {row['ratio']:.2f}",
            )
            for row in rows
        ]
    )


def _draw(results: Mapping[str, Any], pictures: Mapping[str, Tensor], folder: Path) -> dict[str, list[Figure]]:
    drawn = {measure: [_curve(results, measure, folder)] for measure in MEASURES}
    drawn["samples"] = [_grid(name, images, results, folder) for name, images in pictures.items()]
    drawn["psd"], drawn["ratio"] = _spectra(results, folder)
    return drawn


def _curve(results: Mapping[str, Any], measure: str, folder: Path) -> Figure:
    steps = results["settings"]["steps"]
    seeds = {
        arm: [[stage[measure] for stage in run["stages"]] for run in runs] for arm, runs in _by_arm(results).items()
    }
    curves = {arm: _mean_and_error(values) for arm, values in seeds.items()}
    figure = curve_figure(
        steps,
        curves,
        seeds=seeds,
        y_label=MEASURES[measure].axis,
        reference=("true boards", results["true_samples"][measure]),
    )
    finals = ", ".join(f"{arm} {means[-1]:.3g}" for arm, (means, _) in curves.items())
    caption = f"{MEASURES[measure].title} over training: mean and standard error over seeds, each seed as a thin line."
    alt = f"{MEASURES[measure].title} at the last measurement: {finals}."
    return write_figure(figure, folder, measure, caption=caption, alt=alt)


def _mean_and_error(values: Sequence[Sequence[float]]) -> tuple[list[float], list[float] | None]:
    found = [estimate(column) for column in zip(*values, strict=True)]
    errors = [each.error for each in found if each.error is not None]
    return [each.mean for each in found], errors or None


def _grid(name: str, images: Tensor, results: Mapping[str, Any], folder: Path) -> Figure:
    steps, seed = results["settings"]["steps"][-1], results["settings"]["seeds"][0]
    caption = (
        "True checkerboards."
        if name == "truth"
        else f"{name.capitalize()}: samples of seed {seed} after {steps:,} steps."
    )
    alt = f"{len(images)} images. {caption}"
    return write_figure(image_grid(images), folder, f"samples-{name}", caption=caption, alt=alt, pixels=True)


def _spectra(results: Mapping[str, Any], folder: Path) -> tuple[list[Figure], list[Figure]]:
    truth = torch.tensor(results["truth"]["psd"], dtype=torch.float64)
    psds, ratios = [], []
    for place, steps in enumerate(results["settings"]["steps"]):
        means = {
            arm: torch.tensor([run["stages"][place]["psd"] for run in runs], dtype=torch.float64).mean(0)
            for arm, runs in _by_arm(results).items()
        }
        caption = f"after {steps:,} steps, mean over seeds."
        psd = psd_figure({"truth": truth, **means})
        psds.append(
            write_figure(
                psd, folder, f"psd-{steps}", caption=f"Radially averaged power spectra {caption}",
                alt=f"Power spectra of {', '.join(['the truth', *means])} {caption}",
            )
        )  # fmt: skip
        ratio = ratio_figure({arm: log_spectral_ratio(mean, truth) for arm, mean in means.items()})
        alt = f"Difference from the truth in decibels per radius {caption}"
        ratios.append(write_figure(ratio, folder, f"ratio-{steps}", caption=alt, alt=alt))
    return psds, ratios


def _summary_picture(results: Mapping[str, Any], pictures: Mapping[str, Tensor], folder: Path) -> bytes:
    """Rows of samples (truth, then each arm) above the last spectra and the curves, as one PNG."""
    rows = torch.cat([images[:16] for images in pictures.values()])
    samples = to_png(image_grid(rows, columns=16))
    last = results["settings"]["steps"][-1]
    charts = [(folder / f"{name}.png").read_bytes() for name in (f"psd-{last}", "lsd", "pattern_distance")]
    return stack_png([[samples], charts])


def _paired_table(results: Mapping[str, Any]) -> Table:
    columns = ["measure", "steps", "baseline", "with the term", "ratio", "paired difference"]
    return Table(columns, paired_rows(results))


def _seed_table(results: Mapping[str, Any]) -> Table:
    rows = [
        [str(run["seed"]), run["arm"], f"{stage['steps']:,}", *(f"{stage[measure]:.4g}" for measure in MEASURES)]
        for run in results["runs"]
        for stage in run["stages"]
    ]
    return Table(["seed", "arm", "steps", "distance (dB)", "leakage", "pattern distance"], rows)


def _by_arm(results: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return {arm: [run for run in results["runs"] if run["arm"] == arm] for arm in results["settings"]["arms"]}
