"""The report of two sets of samples: a page, its figures, and the numbers as JSON."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from passband.metrics.sample_comparison import SampleComparison
from passband.reports.compare import finite
from passband.reports.front import FrontReport, front_numbers, front_sections
from passband.reports.page import Page, Section, Text, current_command, installed_versions, write_file, write_page
from passband.reports.spectrum.artefacts import artefact_section
from passband.reports.spectrum.numbers import comparison_numbers, series_numbers
from passband.reports.spectrum.sections import (
    band_sections,
    direction_section,
    headline,
    method_section,
    octave_sections,
    sample_section,
    series_section,
)
from passband.reports.spectrum.verdict import describe
from passband.reports.spectrum.words import terms_of, unbroken


def spectrum_report(
    comparison: SampleComparison,
    out: str | os.PathLike[str],
    *,
    real_images: Float[Tensor, "real channels height width"] | None = None,
    fake_images: Float[Tensor, "fake channels height width"] | None = None,
    settings: Mapping[str, str | int | float | None] | None = None,
    notes: Sequence[str] = (),
    fronts: FrontReport | None = None,
    series: Sequence[tuple[str, SampleComparison]] = (),
    command: str | None = None,
) -> Path:
    """Write the page, the figures (SVG, PDF and PNG) and the numbers (JSON) of a comparison of samples.

    Args:
        comparison: from [`compare_samples`][passband.metrics.compare_samples].
        out: folder for index.html, results.json and figures/; made if missing, files of these names are replaced.
        real_images: a few real images in [-1, 1], as they were measured; None: they are no pictures.
        fake_images: a few generated ones.
        settings: what was compared and how, shown as a table.
        notes: warnings, one paragraph each (samples left out, images that were resized).
        fronts: the power law of the images, for a section on the fronts of Spectral Forcing; None: no such section.
        series: (training step, comparison) of the sets of samples of one training, in order; `comparison` is usually
            the last of them.
        command: the command that made it; None: that of this process.

    Returns:
        The path of index.html.

    Example:
        >>> import tempfile, torch
        >>> from passband.metrics import SampleSpectrum, compare_samples
        >>> from passband.reports import spectrum_report
        >>> generator = torch.Generator().manual_seed(0)
        >>> real, fake = SampleSpectrum("real", kind="signals"), SampleSpectrum("fake", kind="signals")
        >>> real.update(torch.randn(64, 1, 12, generator=generator), [f"r{i}" for i in range(64)])
        >>> fake.update(2 * torch.randn(64, 1, 12, generator=generator), [f"f{i}" for i in range(64)])
        >>> with tempfile.TemporaryDirectory() as out:
        ...     page = spectrum_report(compare_samples(real, fake), out)
        ...     page.name, "times the power" in page.read_text()
        ('index.html', True)

    """
    out, settings = Path(out), dict(settings or {})
    command = current_command() if command is None else command
    folder, terms = out / "figures", terms_of(comparison.kind)
    document: dict[str, Any] = {
        **comparison_numbers(comparison),
        "settings": settings,
        "notes": list(notes),
        "command": command,
        "versions": installed_versions(),
    }
    if series:
        document["series"] = series_numbers(series)
    if fronts is not None:
        document["fronts"] = front_numbers(fronts)
    write_file(out / "results.json", (json.dumps(finite(document), indent=2) + "\n").encode())
    page = Page(
        title=f"Spectrum of real and fake {terms.samples}",
        summary=[unbroken(sentence) for sentence in describe(comparison)],
        sections=[
            Section("The result", [headline(comparison), *(Text(note, "warning") for note in notes)]),
            *series_section(series, folder),
            *octave_sections(comparison, folder),
            *direction_section(comparison, folder),
            *artefact_section(comparison, folder),
            *band_sections(comparison, folder),
            sample_section(comparison, folder, real_images, fake_images, settings),
            *([] if fronts is None else front_sections(fronts, out)),
            method_section(comparison),
        ],
        command=command,
    )
    return write_page(page, out / "index.html")
