"""The sections of a spectrum report: figures with their captions, and tables."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from passband.metrics.contrast import Contrast
from passband.metrics.planes import POOLED
from passband.metrics.sample_comparison import SampleComparison, Scored
from passband.metrics.sample_families import LEVEL, LEVEL_SPREAD
from passband.reports.figures import image_grid, write_figure
from passband.reports.page import Block, Columns, Details, Figure, Number, Numbers, Section, Table, Text
from passband.reports.spectrum.figures_bands import cell_figure, coherence_figure
from passband.reports.spectrum.figures_maps import direction_figure
from passband.reports.spectrum.figures_octaves import octave_figure, plane_figure, spectrum_figure
from passband.reports.spectrum.figures_series import series_figure
from passband.reports.spectrum.octave_words import main_plane, plane_name
from passband.reports.spectrum.tables import (
    contrast_table,
    law_table,
    octave_table,
    series_table,
    settings_table,
)
from passband.reports.spectrum.words import Terms, terms_of
from passband.reports.words import signed

_PLANES_DRAWN = 24
_OWN_SECTION = frozenset(
    {
        *("octaves", "radial", "directions", "wavelet energy", "wavelet kurtosis", "coherence", "periodicity"),
        *(LEVEL, LEVEL_SPREAD),
    }
)


def headline(comparison: SampleComparison) -> Numbers:
    """The few numbers a reader came for."""
    octaves, plane = comparison.contrasts["octaves"], main_plane(comparison)
    difference, called = octaves.difference[plane].nan_to_num(0.0), octaves.different[plane]
    worst = int((difference.abs() * (called if called.any() else 1)).argmax())
    low, high = float(octaves.low[plane, worst]), float(octaves.high[plane, worst])
    between = f" ({signed(low, 1)} … {signed(high, 1)})" if math.isfinite(low) and math.isfinite(high) else ""
    law, terms = comparison.law, terms_of(comparison.kind, comparison.sample_rate)
    items = [
        Number(
            "Log-spectral distance", _distance(comparison.lsd.value), _uncertainty(comparison.lsd, comparison.paired)
        ),
        Number(
            "Largest octave difference" if called.any() else "Largest octave difference (not called)",
            f"{signed(float(difference[worst]), 1)} dB",
            f"at {terms.within(comparison.octaves[worst])}{between}",
        ),
    ]
    if math.isfinite(law.real.exponent) and math.isfinite(law.fake.exponent):
        ends = [f" ± {each.error:.2f}" if math.isfinite(each.error) else "" for each in (law.fake, law.real)]
        remark = "; ".join(
            part for part in (ends[0].strip(), f"real: {round(law.real.exponent, 2) + 0.0:.2f}{ends[1]}") if part
        )
        items.append(
            Number(
                "Power-law exponent, fake",
                f"{round(law.fake.exponent, 2) + 0.0:.2f}".replace("-", "−"),
                remark.replace("-", "−"),
            )
        )
    return Numbers(items)


def _distance(value: float) -> str:
    return f"{value:.2f} dB" if math.isfinite(value) else "unknown"


def octave_sections(comparison: SampleComparison, folder: Path) -> list[Section]:
    """Where the power differs, the spectra themselves, and each plane."""
    plane, terms = main_plane(comparison), terms_of(comparison.kind, comparison.sample_rate)
    octaves, what = comparison.contrasts["octaves"], plane_name(comparison)
    of = f" of {what}" if what else ""
    values = "; ".join(
        f"{terms.octave(octave)}: {signed(float(octaves.difference[plane, i]))} dB"
        f"{' (called different)' if bool(octaves.different[plane, i]) else ''}"
        for i, octave in enumerate(comparison.octaves)
    )
    floor = (
        "Both sets vary together from one resampling to the next, so that the noise floor of independent halves does "
        "not apply."
        if comparison.paired
        else "Grey boxes: what two random halves of the real set differ by, in 95 of 100 splits."
    )
    drawn = write_figure(
        octave_figure(comparison, plane), folder, "octaves",
        caption=f"Power{of} of the fake {terms.samples} against the real ones. Dots: whole octaves, with 95 % "
        f"intervals that hold for all of them at once; filled where the difference is called. {floor}",
        alt=f"Chart of the power difference in decibels for each {terms.titled('octave')}. {values}.",
    )  # fmt: skip
    spectra = write_figure(
        spectrum_figure(comparison, plane), folder, "spectra",
        caption=f"{'Radially averaged' if len(comparison.size) > 1 else 'Mean'} power spectra{of}, both axes "
        "logarithmic; dotted: the fitted power laws.",
        alt=f"Two curves of power over frequency on logarithmic axes. {_law_words(comparison)}",
    )  # fmt: skip
    sections = [
        Section("Where the power differs", [drawn, octave_table(comparison, plane)]),
        Section("The spectra", [spectra, law_table(comparison)]),
    ]
    return [*sections, *_plane_section(comparison, folder)]


def _plane_section(comparison: SampleComparison, folder: Path) -> list[Section]:
    octaves = comparison.contrasts["octaves"]
    names = octaves.labels[0]
    if len(names) < 2:
        return []
    shown, left = _planes_drawn(octaves)
    colours = "luma" in names
    called = [
        f"{names[i]} at {octaves.labels[1][j]} ({signed(float(octaves.difference[i, j]))} dB)"
        for i in shown
        for j in range(len(comparison.octaves))
        if bool(octaves.different[i, j])
    ]
    what = (
        "Each channel, luma and the two chroma planes (ITU-R 601)"
        if colours
        else "Each channel, and their mean power (all)"
    )
    more = (
        f" Of {len([name for name in names if name != POOLED])} channels those {len(shown)} that differ most."
        if left
        else ""
    )
    figure = write_figure(
        plane_figure(comparison, shown), folder, "planes",
        caption=f"{what}: power difference in each octave. Framed and bold: called different.{more}",
        alt=f"Table of coloured cells, planes by octaves. {_listed(called, 'Called different')}",
    )  # fmt: skip
    title = "Channels, luma and chroma" if colours else "Each channel"
    return [Section(title, [figure, Details("The numbers", [contrast_table(octaves)])])]


def _planes_drawn(octaves: Contrast) -> tuple[list[int], bool]:
    count = len(octaves.labels[0])
    if count <= _PLANES_DRAWN:
        return list(range(count)), False
    size = octaves.difference.abs().nan_to_num(0.0).amax(1)
    return sorted(size.topk(_PLANES_DRAWN).indices.tolist()), True


def direction_section(comparison: SampleComparison, folder: Path) -> list[Section]:
    """Power by direction."""
    directions = comparison.contrasts.get("directions")
    if directions is None:
        return []
    terms = terms_of(comparison.kind, comparison.sample_rate)
    figure = write_figure(
        direction_figure(directions, comparison.octaves, terms), folder, "directions",
        caption="Power difference by octave (ring, the highest outside) and direction of the wave: 0° varies from left "
        "to right (vertical stripes), 90° from top to bottom. Framed, with its number: called different.",
        alt=f"Half a disc of coloured sectors. {_listed(called_cells(directions), 'Called different')}",
    )  # fmt: skip
    return [Section("Directions", [figure, Details("The numbers", [contrast_table(directions)])])]


def band_sections(comparison: SampleComparison, folder: Path) -> list[Section]:
    """Sub-bands of a wavelet, phases across scales, and families that have no section of their own."""
    sections, terms = [], terms_of(comparison.kind, comparison.sample_rate)
    found = [
        comparison.contrasts[name] for name in ("wavelet energy", "wavelet kurtosis") if name in comparison.contrasts
    ]
    if found:
        sections.append(_subband_section(found, folder, terms))
    coherence = comparison.contrasts.get("coherence")
    if coherence is not None:
        sections.append(_coherence_section(coherence, folder, terms))
    sections += [
        Section(name[:1].upper() + name[1:], [contrast_table(contrast)])
        for name, contrast in comparison.contrasts.items()
        if name not in _OWN_SECTION
    ]
    return sections


def _subband_section(found: Sequence[Contrast], folder: Path, terms: Terms) -> Section:
    columns = [[_subband_figure(contrast, folder, terms)] for contrast in found]
    tables = [Details(f"The numbers: {contrast.name}", [contrast_table(contrast)]) for contrast in found]
    text = (
        "Wavelet sub-bands by scale and orientation. Energy is power again, by place; kurtosis is 3 for Gaussian noise "
        f"and larger where few coefficients are large, as at {terms.sharp}. Framed and bold: called different."
    )
    return Section("Sub-bands", [Text(text), Columns(columns), *tables])


def _subband_figure(contrast: Contrast, folder: Path, terms: Terms) -> Figure:
    what = contrast.name.removeprefix("wavelet ").capitalize()
    return write_figure(
        cell_figure(contrast, terms), folder, contrast.name.replace(" ", "-"),
        caption=f"{what} of the sub-bands, difference of the fake set from the real one"
        f"{f' ({contrast.unit})' if contrast.unit else ''}.",
        alt=f"Coloured cells, scales by orientations. {_listed(called_cells(contrast), 'Called different')}",
    )  # fmt: skip


def _coherence_section(coherence: Contrast, folder: Path, terms: Terms) -> Section:
    figure = write_figure(
        coherence_figure(coherence), folder, "coherence",
        caption="Coherence of phases over three neighbouring octaves: 0 for random phases, more where they line up, as "
        f"at {terms.sharp}. Bars: 95 % intervals of the difference; filled where it is called.",
        alt=f"Line charts of coherence over scales, one for each orientation. "
        f"{_listed(called_cells(coherence), 'Called different')}",
    )  # fmt: skip
    return Section("Phases across scales", [figure, Details("The numbers", [contrast_table(coherence)])])


def series_section(series: Sequence[tuple[str, SampleComparison]], folder: Path) -> list[Section]:
    """How the spectrum changed over a training; none with fewer than two sets."""
    if len(series) < 2:
        return []
    steps, comparisons = [step for step, _ in series], [comparison for _, comparison in series]
    plane = main_plane(comparisons[-1])
    first, last = comparisons[0].lsd.value, comparisons[-1].lsd.value
    figure = write_figure(
        series_figure(steps, comparisons, plane), folder, "over-time",
        caption="Log-spectral distance (above, with its 95 % interval) and the octaves' differences (below; hollow "
        "markers are not called) of each set of samples against the real set.",
        alt=f"Two line charts over {len(series)} sets of samples. The log-spectral distance goes from {first:.2f} dB "
        f"at {steps[0]} to {last:.2f} dB at {steps[-1]}.",
    )  # fmt: skip
    return [Section("Over the training", [figure, series_table(series, plane)])]


def sample_section(
    comparison: SampleComparison,
    folder: Path,
    real: Float[Tensor, "real channels height width"] | None,
    fake: Float[Tensor, "fake channels height width"] | None,
    settings: Mapping[str, str | int | float | None],
) -> Section:
    """Some of the samples, where they are pictures, and the settings."""
    blocks: list[Block] = [
        write_figure(
            image_grid(images),
            folder,
            name,
            pixels=True,
            caption=f"{name.capitalize()} images, as measured.",
            alt=f"Grid of {len(images)} {name} images.",
        )
        for name, images in (("real", real), ("fake", fake))
        if images is not None and len(images) and images.ndim == 4 and images.shape[1] in (1, 3)
    ]
    table: Table = settings_table(comparison, settings)
    return Section("What was compared", [*blocks, table])


def called_cells(contrast: Contrast) -> list[str]:
    """What is called of a family, the largest first, as short texts."""
    cells = [(labels, float(contrast.difference[at])) for labels, at in contrast.rows() if bool(contrast.different[at])]
    cells.sort(key=lambda cell: -abs(cell[1]))
    unit = {"dB": " dB", "%": " %"}.get(contrast.unit, "")
    digits = 2 if contrast.unit != "%" else 0
    return [f"{', '.join(labels)} ({signed(value, digits)}{unit})" for labels, value in cells]


def _listed(texts: Sequence[str], what: str, most: int = 6) -> str:
    if not texts:
        return f"{what}: nothing."
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return f"{what}: {'; '.join(texts[:most])}{more}."


def _law_words(comparison: SampleComparison) -> str:
    laws = (("real", comparison.law.real), ("fake", comparison.law.fake))
    known = [f"{name} falls with exponent {law.exponent:.2f}" for name, law in laws if math.isfinite(law.exponent)]
    return f"{' and '.join(known).capitalize()}." if known else "No power law could be fitted."


def _uncertainty(score: Scored, paired: bool) -> str:
    parts = []
    if math.isfinite(score.low) and math.isfinite(score.high):
        parts.append(f"{score.low:.2f} … {score.high:.2f}")
    if math.isfinite(score.floor) and score.floor > 0 and not paired:
        parts.append(f"noise floor {score.floor:.2f} dB")
    return "; ".join(parts)
