"""The report of a diagnosed denoiser: a page, its figures, and the numbers as JSON."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from passband.metrics.contrast import Contrast
from passband.metrics.denoiser_result import DenoiserSpectrum
from passband.metrics.power_law import PowerLawResult
from passband.reports.compare import finite
from passband.reports.diagnosis.gradients import gradient_sections
from passband.reports.diagnosis.numbers import diagnosis_numbers
from passband.reports.diagnosis.sections import (
    Suggested,
    change_sections,
    error_section,
    headline,
    measured_section,
    method_section,
    power_section,
    suggestion_sections,
)
from passband.reports.diagnosis.verdict import describe_diagnosis
from passband.reports.page import Page, Section, Text, current_command, installed_versions, write_file, write_page
from passband.reports.spectrum.words import terms_of


def diagnosis_report(
    models: Mapping[str, DenoiserSpectrum],
    out: str | os.PathLike[str],
    *,
    suggestion: Suggested | None = None,
    comparison: Contrast | None = None,
    law: PowerLawResult | str | None = None,
    kind: Literal["images", "latents", "signals"] = "images",
    facts: Mapping[str, Mapping[str, str]] | None = None,
    settings: Mapping[str, str | int | float | None] | None = None,
    notes: Sequence[str] = (),
    command: str | None = None,
) -> Path:
    """Write the page, the figures (SVG, PDF and PNG) and the numbers (JSON) of one or two denoisers.

    Args:
        models: name of the model to what was measured of it: the diagnosed one, and another one beside it.
        out: folder for index.html, results.json and figures/; made if missing, files of these names are replaced.
        suggestion: what might mend the first one.
        comparison: the second one's error over the first one's, from
            [`compare_denoisers`][passband.metrics.compare_denoisers].
        law: the power law of the data; or why there is none.
        kind: what the samples are.
        facts: what is known of each model, shown as tables.
        settings: how it was measured, shown as a table.
        notes: warnings, one paragraph each.
        command: the command that made it; None: that of this process.

    Returns:
        The path of index.html.

    Raises:
        ValueError: if there are neither one nor two models.

    Example:
        >>> import tempfile, torch
        >>> from passband.metrics import DenoiserMeasure, measure_wiener
        >>> from passband.reports import diagnosis_report
        >>> clean, noise = torch.randn(2, 64, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> measure = DenoiserMeasure([0.5, 1.0], wiener=measure_wiener(clean))
        >>> estimates = [0.8 * (clean + 0.5 * noise), 0.25 * (clean + noise)]
        >>> measure.update(clean, noise, estimates, [str(i) for i in range(64)])
        >>> with tempfile.TemporaryDirectory() as out:
        ...     page = diagnosis_report({"half": measure.compute()}, out)
        ...     page.name, "too smooth" in page.read_text()
        ('index.html', True)

    """
    if not 1 <= len(models) <= 2:
        raise ValueError(f"a page shows one model or two, got {list(models)}")
    out, settings = Path(out), dict(settings or {})
    command = current_command() if command is None else command
    found, terms, folder = list(models.items()), terms_of(kind), out / "figures"
    summary = describe_diagnosis(found, comparison, terms)
    document = {
        "summary": list(summary),
        **diagnosis_numbers(found, comparison, suggestion, law),
        "kind": kind,
        "facts": {name: dict(known) for name, known in (facts or {}).items()},
        "settings": settings,
        "notes": list(notes),
        "command": command,
        "versions": installed_versions(),
    }
    write_file(out / "results.json", (json.dumps(finite(document), indent=2, ensure_ascii=False) + "\n").encode())
    result = found[0][1]
    page = Page(
        title=f"Where is {found[0][0]} wrong?",
        summary=summary,
        sections=[
            Section("The result", [headline(result, terms), *(Text(note, "warning") for note in notes)]),
            error_section(found, folder, terms),
            *change_sections(found, comparison, folder, terms),
            power_section(found, folder, terms),
            *gradient_sections(result, folder, terms),
            *suggestion_sections(suggestion),
            measured_section(found, law, facts or {}, settings, terms),
            method_section(terms),
        ],
        command=command,
    )
    _clear(folder, len(found), gradients="base" in result.gradients)
    return write_page(page, out / "index.html")


def _clear(folder: Path, models: int, *, gradients: bool) -> None:
    """Remove what an earlier page left, of another model or none, under the names of this one's figures."""
    beside = ("error-2", "change", "power-2") if models < 2 else ()
    for name in (*beside, *(() if gradients else ("gradients",))):
        for file in folder.glob(f"{name}.*"):
            file.unlink()
