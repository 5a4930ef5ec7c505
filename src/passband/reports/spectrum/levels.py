"""The section on brightness and colour: how far the means of the samples are off, and how they vary."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from passband.metrics.contrast import Contrast
from passband.metrics.planes import LUMA
from passband.metrics.sample_comparison import SampleComparison
from passband.metrics.sample_families import LEVEL, LEVEL_SPREAD
from passband.reports.figures import write_figure
from passband.reports.page import Block, Section, Text
from passband.reports.spectrum.figures_levels import level_figure
from passband.reports.spectrum.level_words import amount_digits, in_display_range, level_clauses
from passband.reports.spectrum.tables import contrast_table
from passband.reports.spectrum.words import Terms, terms_of

_TITLES = {"images": "Brightness", "latents": "Level of each channel", "signals": "Offset"}
_DRAWN = 24
_FEWEST_DRAWN = 3


def level_section(comparison: SampleComparison, folder: Path) -> list[Section]:
    """The means of the samples, which all other sections take away, and how they vary."""
    level, spread = comparison.contrasts[LEVEL], comparison.contrasts.get(LEVEL_SPREAD)
    terms, title = terms_of(comparison.kind, comparison.sample_rate), _TITLES[comparison.kind]
    blocks: list[Block] = [Text(_words(comparison, terms))]
    shown = [level] if spread is None else [level, spread]
    if len(level.labels[0]) >= _FEWEST_DRAWN:
        kept = _drawn(shown)
        more = (
            f" Of {len(level.labels[0])} channels those {len(kept)} that differ most."
            if len(kept) < len(level.labels[0])
            else ""
        )
        blocks.append(
            write_figure(
                level_figure(shown, kept, level_unit(comparison)), folder, "levels",
                caption="Difference of the means of the fake set from those of the real one"
                f"{'' if spread is None else ', and of how they vary'}. Bars: 95 % intervals; filled where the "
                f"difference is called; grey: the noise floor.{more}",
                alt="Chart of the difference of the mean, and of its variation, for each plane. "
                f"Called different: {'; '.join(level_clauses(comparison)) or 'nothing'}.",
            )
        )  # fmt: skip
    table = contrast_table(level, called=("too high", "too low"), digits=1 + amount_digits(level.least))
    blocks.append(replace(table, caption=f"Mean{level_unit(comparison)}. {table.caption}"))
    if spread is not None:
        deviations = replace(spread, reference=spread.reference.sqrt(), value=spread.value.sqrt())
        text = (
            f"Standard deviation of the means of the {terms.samples}{level_unit(comparison)}; differences as of powers."
        )
        table = contrast_table(deviations)
        blocks.append(replace(table, caption=f"{text} {table.caption}"))
    return [Section(f"{title} and colour" if LUMA in level.labels[0] else title, blocks)]


def level_unit(comparison: SampleComparison) -> str:
    """The unit of a mean, as it follows a noun."""
    return ", in units of [−1, 1]" if in_display_range(comparison) else ", in units of the data"


def _words(comparison: SampleComparison, terms: Terms) -> str:
    level, text = comparison.contrasts[LEVEL], ""
    if in_display_range(comparison):
        text = f" Black is −1 and white +1{', and grey has neither Cb nor Cr' if LUMA in level.labels[0] else ''}."
    measure = "" if comparison.kind == "images" else " (2 % of the real values' standard deviation)"
    return (
        f"The mean of each {terms.sample} before any window, which every other section takes away: the power at "
        f"frequency zero.{text} A difference of means is called from {level.least:.2g}{measure} on."
    )


def _drawn(shown: Sequence[Contrast]) -> list[int]:
    """The planes that are drawn: all of a few, else those that differ most in their mean."""
    size = shown[0].difference.abs().nan_to_num(0.0)
    return sorted(size.topk(min(_DRAWN, len(size))).indices.tolist())
