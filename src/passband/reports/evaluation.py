"""The report of an evaluated network: metrics, spectrum, samples, and the numbers as JSON."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from passband.metrics import SpectrumResult
from passband.reports.compare import describe, finite, spectrum_sections
from passband.reports.page import Number, Numbers, Page, Section, Table, Text, current_command, write_file, write_page

COLUMNS = ("metric", "value", "real halves", "extrapolated")


def evaluation_report(
    results: Mapping[str, Any],
    spectrum: SpectrumResult,
    thumbnails_real: Float[Tensor, "real channels height width"],
    thumbnails_fake: Float[Tensor, "fake channels height width"],
    out: Path,
    *,
    reference: Float[Tensor, " radii"] | None = None,
    command: str | None = None,
) -> Path:
    """Write the page, the figures and results.json of an evaluation; results.json last: it says that all is there.

    Args:
        results: `metrics`, `samples`, `real`, `notes` and what else is kept, as
            [`Evaluator`][passband.training.evaluate.Evaluator] makes them.
        spectrum: from [`SpectrumDistance`][passband.metrics.SpectrumDistance].
        thumbnails_real: a few real images in [-1, 1].
        thumbnails_fake: a few samples.
        out: folder for index.html, results.json and figures/.
        reference: difference between two halves of the real images per radius, dB.
        command: the command that made it; None: that of this process.

    Returns:
        The path of index.html.

    """
    command = current_command() if command is None else command
    notes = [Text(note, "warning") for note in results["notes"]]
    sections = spectrum_sections(
        spectrum, thumbnails_real, thumbnails_fake, out, reference=reference, settings=_settings(results)
    )
    page = Page(
        title=f"Evaluation of {Path(results['samples']['run']).name} at step {results['samples']['step']:,}",
        summary=f"{describe_metrics(results)} {describe(spectrum, reference)}".strip(),
        sections=[
            Section("The result", [_headline(results), *notes]),
            Section("Metrics", [Table(COLUMNS, evaluation_rows(results)), *map(Text, metric_texts(results))]),
            *sections,
        ],
        command=command,
        versions=results["versions"],
    )
    path = write_page(page, out / "index.html")
    write_file(out / "results.json", (json.dumps(finite({**results, "command": command}), indent=1) + "\n").encode())
    return path


def evaluation_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """The metrics as text: name with the better direction, value, floor, and the value extrapolated to all samples."""
    return [
        [
            f"{entry['title']} {'↓' if entry['better'] == 'lower' else '↑'}",
            _number(entry["value"]) + (f" ± {entry['spread']:.2g}" if "spread" in entry else ""),
            _number(entry.get("floor")),
            _number(entry.get("extrapolated"))
            + (f" ± {entry['extrapolated_error']:.2g}" if "extrapolated_error" in entry else ""),
        ]
        for entry in results["metrics"]
    ]


def describe_metrics(results: Mapping[str, Any]) -> str:
    """The Fréchet distances in a sentence, with what tells whether they are large."""
    found = []
    for entry in results["metrics"]:
        if entry["metric"] == "frechet":
            floor = f"; two halves of the real images: {_number(entry['floor'])}" if "floor" in entry else ""
            found.append(
                f"The {entry['title'].lower().replace('fréchet', 'Fréchet')} of {entry['fake']:,} samples from "
                f"{entry['real']:,} real images is {_number(entry['value'])} ({entry['spec']}{floor})."
            )
    return " ".join(found)


def metric_texts(results: Mapping[str, Any]) -> list[str]:
    """How each metric is measured, over which features, and what its bias is."""
    texts = []
    for name, text in _TEXTS.items():
        entries = [entry for entry in results["metrics"] if entry["metric"] == name]
        if entries:
            texts.append(text + "".join(_bias(entry) for entry in entries))
    features = dict.fromkeys(entry["features"] for entry in results["metrics"] if entry["features"])
    return [*texts, *(f"Features: {name}." for name in features)]


_TEXTS = {
    "frechet": (
        "Fréchet distance: the squared distance of two Gaussians fitted to the features. From finite samples it comes "
        "out too large, the more so the fewer there are: compare values of equal numbers of samples only."
    ),
    "kid": (
        "Kernel distance: squared maximum mean discrepancy of the features under a cubic kernel; unbiased, so it can "
        "be negative."
    ),
    "precision": (
        "Precision and recall: share of the samples within the real images' neighbourhoods (to the third nearest "
        "neighbour), and of the real images within the samples'; they depend on the numbers compared."
    ),
    "inception_score": (
        "Inception Score: how sure the classifier is of each sample, and how varied its answers are; mean and standard "
        "deviation over 10 splits. It looks at samples alone and knows the classifier's classes only."
    ),
    "lsd": "Log-spectral distance: root mean square over radii of the difference of the power spectra in decibels.",
}


def _bias(entry: Mapping[str, Any]) -> str:
    text = ""
    if "floor" in entry:
        first, second = entry["floor_counts"]
        text += (
            f" Two disjoint halves of the real images ({first:,} and {second:,}) are {_number(entry['floor'])} apart."
        )
    if "extrapolated" in entry:
        text += (
            f" Extrapolated to infinitely many samples (a line in 1/N): {_number(entry['extrapolated'])} ± "
            f"{entry['extrapolated_error']:.2g}; the bias of the finite number of real images stays."
        )
    elif entry["metric"] == "frechet":
        text += " There are too few samples for these features to extrapolate to infinitely many."
    if "subsets" in entry:
        number, size = entry["subsets"]
        text += f" Mean and standard deviation over {number} random subsets of {size:,}."
    if "compared" in entry and entry["metric"] == "precision":
        text += f" Compared: {entry['compared'][0]:,} real images and {entry['compared'][1]:,} samples."
    return text


def _headline(results: Mapping[str, Any]) -> Numbers:
    items = []
    for entry in results["metrics"]:
        remark = f"{entry['better']} is better"
        if "floor" in entry:
            remark = f"halves of the real images: {_number(entry['floor'])}"
        items.append(Number(entry["title"], _number(entry["value"]), remark))
    return Numbers(items)


def _settings(results: Mapping[str, Any]) -> dict[str, str]:
    samples = results["samples"]
    first, last = samples["seeds"]
    shown = {
        "real images from": results["real"],
        "run": samples["run"],
        "checkpoint": f"step {samples['step']:,}, weights: {samples['weights']}",
        "seeds": f"{first} to {last}",
        "sampler": f"{samples['solver']}, {samples['steps']} steps, {samples['nfe']} network evaluations",
        "spacing of times": samples["spacing"] or "the process's own",
        "clean estimate clipped to": samples["clip"] or "not clipped",
        "processes": results["processes"],
        "machine": results["machine"],
        "seconds": f"{results['seconds']:,.0f}",
    }
    if "classes" in samples:
        shown["classes"] = f"{samples['classes']}, one for each seed"
    return {name: str(value) for name, value in shown.items()}


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.4g}".replace("-", "−")
