"""The section on regular patterns: the map of all frequencies, where samples are rough, and the patterns by name."""

from collections.abc import Sequence
from pathlib import Path

from passband.metrics.peaks import Peak
from passband.metrics.sample_comparison import SampleComparison
from passband.reports.figures import write_figure
from passband.reports.page import Block, Section, Text
from passband.reports.spectrum.figures_maps import ratio_map_figure
from passband.reports.spectrum.figures_peaks import profile_figure
from passband.reports.spectrum.tables import peak_table
from passband.reports.spectrum.words import terms_of

_AXES = {
    "vertical": "from top to bottom",
    "horizontal": "from left to right",
    "along": "along the signal",
}


def artefact_section(comparison: SampleComparison, folder: Path) -> list[Section]:
    """What repeats: checkerboards, upsampling, block grids."""
    report, terms = comparison.peaks, terms_of(comparison.kind)
    blocks: list[Block] = [Text(_words(report.peaks, report.both))]
    if report.peaks or report.both:
        blocks.append(peak_table(report.peaks, report.both, terms.unit))
    names = "; ".join(f"{number}: {peak.name}" for number, peak in enumerate(report.peaks, 1))
    lines = {number: peak for number, peak in enumerate(report.peaks, 1) if peak.found_by == "spectrum"}
    called = f"Called patterns: {names}." if names else "No pattern is called."
    if report.map.ndim == 2:
        blocks.append(
            write_figure(
                ratio_map_figure(report.map, lines, terms), folder, "map",
                caption="Power difference at every frequency, zero frequency in the middle. Patterns that lie in the "
                "same place of every sample are narrow dots; what is called is circled, with its number.",
                alt=f"Map of the power difference over horizontal and vertical frequency. {called}",
            )
        )  # fmt: skip
    if report.profiles:
        profiles = {_AXES.get(name, name): pair for name, pair in report.profiles.items()}
        blocks.append(
            write_figure(
                profile_figure(report.frequency, profiles, terms, named=_named(report.peaks)), folder, "periodicity",
                caption="How regularly samples are rough and smooth in turn, at each frequency: the periodogram of "
                "their differences between neighbours, over the frequencies around. It shows grids of upsampling, "
                "transposed convolutions and block codecs wherever a sample was cut out. Numbers: what is called.",
                alt=f"Line charts of real and fake over frequency, one for each axis. {called}",
            )
        )  # fmt: skip
    return [Section("Regular patterns", blocks)]


def _words(peaks: Sequence[Peak], both: Sequence[Peak]) -> str:
    if peaks:
        return "The fake set carries regular patterns that the real one has not, or has less of."
    nothing = "No regular pattern of the fake set stands out beyond the real set's own."
    return f"{nothing} Both sets carry those of the table." if both else nothing


def _named(peaks: Sequence[Peak]) -> list[tuple[str, float, str]]:
    """The panel, frequency and number of each called pattern of the profiles, and of its other frequencies."""
    found: dict[tuple[str, float], str] = {}
    for number, peak in enumerate(peaks, 1):
        places = (peak.frequency, *peak.also) if peak.found_by == "periodicity" else ()
        for vertical, horizontal in places:
            for axis, part in (("vertical", vertical), ("horizontal", horizontal)):
                if part:
                    found.setdefault((_AXES[axis], abs(part)), str(number))
    return [(panel, frequency, number) for (panel, frequency), number in found.items()]
