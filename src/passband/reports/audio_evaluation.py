"""The report of an evaluated network of audio: metrics, long-term spectra, clips to listen to, the numbers as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from passband.reports.audio_long_term import long_term_sections
from passband.reports.audio_results import audio_numbers
from passband.reports.audio_spectra import LongTermComparison
from passband.reports.audio_verdict import describe_audio
from passband.reports.compare import finite
from passband.reports.grid_tables import ARROWS
from passband.reports.listening import ListeningClip, ListeningRow, listening_section
from passband.reports.page import (
    Number,
    Numbers,
    Page,
    Section,
    Table,
    Text,
    current_command,
    write_file,
    write_page,
)

COLUMNS = ("metric", "value", "originals", "halves of the originals")
_COLUMNS_TEXT = (
    "Value: the mean over clips with its standard error, where a clip has a number of its own. Originals: the same "
    "number of the original clips. Halves: what two halves of the originals give, the least that can be told apart."
)

#: Name of a clip to its original (None for samples without), what was made, and the measures of that.
Shown = Mapping[str, tuple[Float[Tensor, " samples"] | None, Float[Tensor, " others"], Mapping[str, float]]]


def audio_evaluation_report(
    results: Mapping[str, Any], comparison: LongTermComparison, shown: Shown, out: Path, *, command: str | None = None
) -> Path:
    """Write the page, its figures and results.json of an evaluation; results.json last: it says that all is there.

    Args:
        results: `metrics`, `samples`, `clips`, `real`, `notes` and what else is kept, as
            [`AudioEvaluator`][passband.training.evaluate_audio.AudioEvaluator] makes them.
        comparison: from [`LongTermSets.compute`][passband.reports.LongTermSets].
        shown: some clips, to listen to.
        out: folder for index.html, results.json and figures/.
        command: the command that made it; None: that of this process.

    Returns:
        The path of index.html.

    """
    command = current_command() if command is None else command
    notes = [Text(note, "warning") for note in results["notes"]]
    sections = [
        Section("The result", [_headline(results), *notes]),
        Section("Metrics", [Table(COLUMNS, audio_rows(results)), *map(Text, audio_texts(results))]),
        _listening(results, shown, comparison.result.sample_rate, out),
        *long_term_sections(comparison, out),
        Section("How it was made", [_settings(results)]),
    ]
    clips = _clip_table(results)
    page = Page(
        title=f"Evaluation of {Path(results['samples']['run']).name} at step {results['samples']['step']:,}",
        summary=_summary(results, comparison),
        sections=[*sections[:-1], *([Section("Each clip", [clips])] if clips.rows else []), sections[-1]],
        command=command,
        versions=results["versions"],
    )
    path = write_page(page, out / "index.html")
    document = {**results, "spectrum": audio_numbers(comparison), "command": command}
    write_file(out / "results.json", (json.dumps(finite(document), indent=1) + "\n").encode())
    return path


def audio_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """The metrics as text: name with the better direction, value, that of the originals, that of halves of them."""
    return [
        [
            f"{entry['title']} {ARROWS[entry['better']]}",
            _number(entry["value"]) + (f" ± {entry['spread']:.2g}" if entry.get("spread") is not None else ""),
            _number(entry.get("original")),
            _number(entry.get("floor")),
        ]
        for entry in results["metrics"]
    ]


def audio_texts(results: Mapping[str, Any]) -> list[str]:
    """How the metrics are measured."""
    texts = [_COLUMNS_TEXT]
    for entry in results["metrics"]:
        if entry["metric"] == "frechet_audio":
            real, fake = entry["windows"]
            texts.append(
                f"Fréchet audio distance over {entry['features']}, of {real:,} and {fake:,} windows; it comes out too "
                "large, the more so the fewer there are."
            )
        elif entry["metric"] == "hf_balance":
            texts.append(
                f"High-frequency energy: what lies above {entry['above_hz']:,.0f} Hz in all clips together, against "
                "that of the originals. Below 0 the audio is muffled, above 0 it is noisy."
            )
        elif entry["metric"] == "ndb":
            texts.append(
                f"Number of different bins, of {entry['bins']}, at the level {entry['level']:g}; Jensen-Shannon "
                f"divergence {entry['divergence']:.3g}."
            )
        if entry.get("undefined"):
            texts.append(f"{entry['title']} is not defined for {entry['undefined']} of {entry['fake']} clips.")
    return texts


def _summary(results: Mapping[str, Any], comparison: LongTermComparison) -> str:
    """What was compared, and how its long-term spectrum comes out."""
    of = {"vocoder": "clips were made of their spectrograms and compared with the originals"}
    what = of.get(results["kind"], "samples were drawn and compared with real clips")
    return f"{len(results['clips'])} {what}. {describe_audio(comparison, 'generated')}"


def _headline(results: Mapping[str, Any]) -> Numbers:
    items = []
    for entry in results["metrics"]:
        remark = {"zero": "0 is right"}.get(entry["better"], f"{entry['better']} is better")
        if entry.get("original") is not None:
            remark = f"originals: {_number(entry['original'])}"
        items.append(Number(entry["title"], _number(entry["value"]), remark))
    return Numbers(items)


def _listening(results: Mapping[str, Any], shown: Shown, rate: int, out: Path) -> Section:
    paired = results["kind"] == "vocoder"
    columns = ["original", "generated"] if paired else ["generated"]
    titles, rows = _titles(results), []
    for name, (original, made, values) in shown.items():
        clips = [ListeningClip(made, rate, {titles.get(key, key): value for key, value in values.items()})]
        if original is not None:
            clips.insert(0, ListeningClip(original, rate))
        rows.append(ListeningRow(name, clips))
    return listening_section("To listen to", rows, out, columns=columns)


def _clip_table(results: Mapping[str, Any]) -> Table:
    clips = results["clips"]
    names = [name for name in (clips[0] if clips else {}) if name not in ("name", "seconds")]
    rows = [[clip["name"], clip["seconds"], *(clip[name] for name in names)] for clip in clips]
    titles = _titles(results)
    return Table(["clip", "length (s)", *(titles.get(name, name) for name in names)], rows if names else [])


def _titles(results: Mapping[str, Any]) -> dict[str, str]:
    """Name of a metric to what a reader calls it, with its unit."""
    return {entry["metric"]: entry["title"] for entry in results["metrics"]}


def _settings(results: Mapping[str, Any]) -> Table:
    samples = results["samples"]
    schedule = samples.get("noise_schedule")
    steps = f"noise schedule {schedule}" if schedule else f"{samples['steps']} steps"
    shown = {
        "real clips from": f"{results['real']} ({results['subset']})",
        "run": samples["run"],
        "checkpoint": f"step {samples['step']:,}, weights: {samples['weights']}",
        "sampler": f"{samples['solver']}, {steps}, {samples['nfe']} network evaluations",
        "sample rate": f"{samples['sample_rate']:,} Hz",
        "processes": results["processes"],
        "machine": results["machine"],
        "seconds": f"{results['seconds']:,.0f}",
    }
    return Table(["setting", "value"], [[name, str(value)] for name, value in shown.items()])


def _number(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.4g}".replace("-", "−")
