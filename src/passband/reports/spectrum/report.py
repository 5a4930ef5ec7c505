"""The report of two sets of samples: a page, its figures, and the numbers as JSON."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor

from passband.metrics.sample_comparison import SampleComparison
from passband.reports.compare import finite
from passband.reports.front import FrontReport, front_numbers, front_sections
from passband.reports.page import (
    Number,
    Numbers,
    Page,
    Section,
    Text,
    current_command,
    installed_versions,
    write_file,
    write_page,
)
from passband.reports.spectrum.artefacts import artefact_section
from passband.reports.spectrum.levels import level_section
from passband.reports.spectrum.method import method_section
from passband.reports.spectrum.numbers import comparison_numbers, series_numbers
from passband.reports.spectrum.sections import (
    band_sections,
    direction_section,
    headline,
    octave_sections,
    sample_section,
    series_section,
)
from passband.reports.spectrum.verdict import describe
from passband.reports.spectrum.words import terms_of, unbroken

#: The figures that a report can have, by the names of their files without the ending.
FIGURES = (
    "octaves", "spectra", "planes", "levels", "directions", "map*", "lines", "periodicity*", "wavelet-*", "coherence",
    "over-time", "real", "fake", "front-*",
)  # fmt: skip


class Beside(NamedTuple):
    """What a report shows beside the spectra.

    Attributes:
        headline: numbers that a reader came for.
        first: sections that stand before the spectra.
        last: sections that stand after them.
        numbers: what results.json holds besides.

    """

    headline: Sequence[Number] = ()
    first: Sequence[Section] = ()
    last: Sequence[Section] = ()
    numbers: Mapping[str, Any] = {}


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
    beside: Beside | None = None,
    command: str | None = None,
) -> Path:
    """Write the page, the figures (SVG, PDF and PNG) and the numbers (JSON) of a comparison of samples.

    Args:
        comparison: from [`compare_samples`][passband.metrics.compare_samples].
        out: folder for index.html, results.json and figures/; made if missing. What an earlier report left there is
            replaced, its figures that this one does not have are removed.
        real_images: a few real images in [-1, 1], as they were measured; None: they are no pictures.
        fake_images: a few generated ones.
        settings: what was compared and how, shown as a table.
        notes: warnings, one paragraph each (samples left out, images that were resized).
        fronts: the power law of the images, for a section on the fronts of Spectral Forcing; None: no such section.
        series: (training step, comparison) of the sets of samples of one training, in order; `comparison` is usually
            the last of them.
        beside: what is shown beside the spectra, such as players of audio.
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
    beside = Beside() if beside is None else beside
    command = current_command() if command is None else command
    folder, terms = out / "figures", terms_of(comparison.kind, comparison.sample_rate)
    _clear(folder)
    document: dict[str, Any] = {
        **comparison_numbers(comparison),
        **beside.numbers,
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
            Section(
                "The result",
                [Numbers([*headline(comparison).items, *beside.headline]), *(Text(note, "warning") for note in notes)],
            ),
            *beside.first,
            *series_section(series, folder),
            *octave_sections(comparison, folder),
            *level_section(comparison, folder),
            *direction_section(comparison, folder),
            *artefact_section(comparison, folder),
            *band_sections(comparison, folder),
            *beside.last,
            sample_section(comparison, folder, real_images, fake_images, settings),
            *([] if fronts is None else front_sections(fronts, out)),
            method_section(comparison),
        ],
        command=command,
    )
    return write_page(page, out / "index.html")


def _clear(folder: Path) -> None:
    """Remove the figures of an earlier report, of which this one may have fewer."""
    for name in FIGURES:
        for suffix in ("svg", "pdf", "png"):
            for file in folder.glob(f"{name}.{suffix}"):
                file.unlink()
