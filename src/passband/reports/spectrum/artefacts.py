"""The section on regular patterns: the map of all frequencies, where samples are rough, and the patterns by name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from passband.metrics.peaks import Peak, PeakReport
from passband.metrics.sample_comparison import SampleComparison
from passband.reports.figures import write_figure
from passband.reports.page import Block, Figure, Items, Section, Text
from passband.reports.spectrum.figures_lines import ratio_line_figure
from passband.reports.spectrum.figures_maps import ratio_map_figure
from passband.reports.spectrum.figures_peaks import profile_figure
from passband.reports.spectrum.pattern_words import pattern_causes
from passband.reports.spectrum.tables import peak_table
from passband.reports.spectrum.words import Terms, terms_of

_AXES = {
    "vertical": "from top to bottom",
    "horizontal": "from left to right",
    "along": "along the signal",
}


def artefact_section(comparison: SampleComparison, folder: Path) -> list[Section]:
    """What repeats: checkerboards, upsampling, block grids, in luma and, where something is called there, in chroma."""
    report, terms = comparison.peaks, terms_of(comparison.kind, comparison.sample_rate)
    blocks: list[Block] = [Text(_words(report.peaks, report.both))]
    if report.peaks or report.both:
        blocks.append(peak_table(report.peaks, report.both, terms))
    causes = [] if terms.sample_rate else pattern_causes((*report.peaks, *report.both))
    blocks += [Text("What leaves such patterns:"), Items(causes)] if causes else []
    for number, plane in enumerate(report.maps):
        names = (plane,) if number else ("", plane)
        peaks = {i: peak for i, peak in enumerate(report.peaks, 1) if peak.plane in names}
        lines = {i: peak for i, peak in peaks.items() if peak.found_by == "spectrum"}
        shown = _Shown(plane if len(report.maps) > 1 else "", peaks, number == 0)
        if number == 0 or lines:
            blocks.append(_spectrum_figure(comparison, folder, shown, lines))
        if plane in report.profiles and (number == 0 or len(peaks) > len(lines)):
            blocks.append(_profile_figure(report, folder, shown, terms))
    return [Section("Regular patterns", blocks)]


class _Shown(NamedTuple):
    """A plane that is drawn.

    Attributes:
        plane: its name; empty where it is the only one.
        peaks: what is called in it, by number.
        first: whether it is the gray one, whose figures have no plane in their names.

    """

    plane: str
    peaks: Mapping[int, Peak]
    first: bool

    @property
    def of(self) -> str:
        """The plane as it follows a noun."""
        return f" of {self.plane}" if self.plane else ""

    @property
    def suffix(self) -> str:
        """Of the figures' names."""
        return "" if self.first else f"-{self.plane.lower()}"

    @property
    def called(self) -> str:
        """What is called, for those who do not see the figure."""
        names = "; ".join(f"{number}: {peak.name}" for number, peak in self.peaks.items())
        return f"Called patterns: {names}." if names else "No pattern is called."


def _spectrum_figure(comparison: SampleComparison, folder: Path, shown: _Shown, lines: Mapping[int, Peak]) -> Figure:
    """The power difference at every frequency of one plane."""
    report, terms = comparison.peaks, terms_of(comparison.kind, comparison.sample_rate)
    ratio = report.maps[shown.plane] if shown.plane else report.map
    if ratio.ndim == 2:
        return write_figure(
            ratio_map_figure(ratio, lines, terms), folder, f"map{shown.suffix}",
            caption=f"Power difference{shown.of} at every frequency, zero frequency in the middle. Patterns that lie "
            "in the same place of every sample are narrow dots; what is called is circled, with its number.",
            alt=f"Map of the power difference{shown.of} over horizontal and vertical frequency. {shown.called}",
        )  # fmt: skip
    return write_figure(
        ratio_line_figure(ratio, lines, terms, low=comparison.octaves[-1][0]), folder, "lines",
        caption="Power difference at every frequency. Tones are narrow peaks; what is called has its number.",
        alt=f"Line chart of the power difference over frequency. {shown.called}",
    )  # fmt: skip


def _profile_figure(report: PeakReport, folder: Path, shown: _Shown, terms: Terms) -> Figure:
    """How regularly one plane is rough."""
    plane = shown.plane or next(iter(report.profiles))
    profiles = {_AXES.get(name, name): pair for name, pair in report.profiles[plane].items()}
    return write_figure(
        profile_figure(report.frequency, profiles, terms, named=_named(shown.peaks)), folder,
        f"periodicity{shown.suffix}",
        caption=f"How regularly {f'{shown.plane} is' if shown.plane else 'samples are'} rough and smooth in turn, at "
        "each frequency: the periodogram of the differences between neighbours, over the frequencies around. It shows "
        "grids of upsampling, transposed convolutions and block codecs wherever a sample was cut out. Numbers: what "
        "is called.",
        alt=f"Line charts of real and fake{shown.of} over frequency, one for each axis. {shown.called}",
    )  # fmt: skip


def _words(peaks: Sequence[Peak], both: Sequence[Peak]) -> str:
    if peaks:
        return "The fake set carries regular patterns that the real one has not, or has less of."
    nothing = "No regular pattern of the fake set stands out beyond the real set's own."
    return f"{nothing} Both sets carry those of the table." if both else nothing


def _named(peaks: Mapping[int, Peak]) -> list[tuple[str, float, str]]:
    """The panel, frequency and number of each called pattern of the profiles, and of its other frequencies."""
    found: dict[tuple[str, float], str] = {}
    for number, peak in peaks.items():
        places = (peak.frequency, *peak.also) if peak.found_by == "periodicity" else ()
        for vertical, horizontal in places:
            for axis, part in (("vertical", vertical), ("horizontal", horizontal)):
                if part:
                    found.setdefault((_AXES[axis], abs(part)), str(number))
    return [(panel, frequency, number) for (panel, frequency), number in found.items()]
