"""The sections of a diagnosis: maps with their captions, the numbers behind them, and what to try."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from passband.metrics.contrast import Contrast
from passband.metrics.denoiser_families import CALIBRATION, EXCESS
from passband.metrics.denoiser_result import DenoiserSpectrum
from passband.metrics.noise_levels import level_name
from passband.metrics.pixel_bands import band_label
from passband.metrics.power_law import PowerLawResult
from passband.reports.diagnosis.maps import Map, calibration_map, change_map, excess_map, map_figure
from passband.reports.diagnosis.verdict import Extent, extent, seen_cells
from passband.reports.diagnosis.words import interval, signed
from passband.reports.figures import write_figure
from passband.reports.page import (
    Block,
    Cell,
    Code,
    Columns,
    Details,
    Heading,
    Items,
    Number,
    Numbers,
    Section,
    Shown,
    Table,
    Text,
)
from passband.reports.spectrum.words import Terms

_MARKS = "Framed and bold: called, by more than chance. Dashed: left of it the data is stronger than the noise."


@runtime_checkable
class Suggested(Protocol):
    """What might mend a denoiser."""

    @property
    def recipe(self) -> str:
        """Lines of a recipe, YAML; empty where nothing is suggested."""

    @property
    def sentences(self) -> Mapping[str, str]:
        """What each part of the suggestion follows from."""


def headline(result: DenoiserSpectrum, terms: Terms) -> Numbers:
    """The few numbers a reader came for."""
    total = result.wrong.numel()
    calibration = result.calibration.difference
    seen = seen_cells(result)
    worst = extent(result.under & seen, result.excess.difference, result, terms)
    added = extent(result.under & ~seen, result.excess.difference, result, terms)
    smooth = extent(result.smooth, -calibration, result, terms)
    rough = extent(result.rough, calibration, result, terms)
    items = [
        Number(
            "Error over Wiener's, at worst",
            "nowhere above" if worst is None else f"{signed(worst.most)} dB",
            "where there is something to see" if worst is None else worst.where,
        ),
        *([] if added is None else [Number("The same where noise hides all", f"{signed(added.most)} dB", added.where)]),
        _power_number("Smoothest estimate", smooth, -1, "nowhere is power missing"),
        _power_number("Roughest estimate", rough, 1, "nowhere is too much power"),
        Number("Cells that are called", f"{int(result.wrong.sum())} of {total}", "noise levels × bands"),
    ]
    return Numbers(items)


def error_section(models: Sequence[tuple[str, DenoiserSpectrum]], folder: Path, terms: Terms) -> Section:
    """The error of each model over the Wiener filter's."""
    text = Text(
        "At each noise level and in each band of frequency: the error of the clean estimate over that of a Wiener "
        "filter, which knows the data's power spectrum and nothing else. Below zero the network knows more than that, "
        "which it should wherever there is something to see; above zero it under-reaches."
    )
    caption = f"Error of the clean estimate over the Wiener filter's, in decibels. {_MARKS}"
    maps = [(name, excess_map(result), _called_words(result.under, result.excess, result)) for name, result in models]
    tables = [_table(name, result, result.excess, "error over the Wiener filter's (dB)") for name, result in models]
    return Section(
        "Where the model under-reaches",
        [text, *_side_by_side(maps, "error", folder, caption, terms), Details("The numbers", tables)],
    )


def power_section(models: Sequence[tuple[str, DenoiserSpectrum]], folder: Path, terms: Terms) -> Section:
    """Whether the estimates have the power that they should have."""
    text = Text(
        "The best estimate shares with the clean sample exactly as much power as it has itself, whatever the data are. "
        "Too little: the estimate is too smooth, a part of what could be known is missing; one that is half as strong "
        "as it should be reads −3 dB, and has a quarter of the power. Too much: it shows what is not there. Cells "
        "without a number hold next to nothing."
    )
    caption = f"Power of the clean estimate over what it shares with the data, in decibels. {_MARKS}"
    maps = [
        (name, calibration_map(result), _called_words(result.smooth | result.rough, result.calibration, result))
        for name, result in models
    ]
    tables = [_table(name, result, result.calibration, "power (dB)") for name, result in models]
    return Section(
        "Is the estimate too smooth?",
        [text, *_side_by_side(maps, "power", folder, caption, terms), Details("The numbers", tables)],
    )


def change_sections(
    models: Sequence[tuple[str, DenoiserSpectrum]], comparison: Contrast | None, folder: Path, terms: Terms
) -> list[Section]:
    """What the second model does otherwise; nothing with one model."""
    if comparison is None or len(models) < 2:
        return []
    (first, result), (second, _) = models
    figure = write_figure(
        map_figure(change_map(comparison, result), step=terms.step), folder, "change",
        caption=f"Error of {second} over that of {first}, in decibels: negative where {second} errs less. {_MARKS}",
        alt=f"Heat map of noise levels by bands. {_called_words(comparison.different, comparison, result)}",
    )  # fmt: skip
    text = Text(
        f"Both models saw the same noisy {terms.samples}, so that what both find hard takes no part in the difference."
    )
    table = _table(second, result, comparison, f"error over that of {first} (dB)")
    return [Section(f"What {second} does otherwise", [text, figure, Details("The numbers", [table])])]


def suggestion_sections(suggestion: Suggested | None) -> list[Section]:
    """What might mend the model, each part with the sentence that explains it."""
    if suggestion is None:
        return []
    said = {key: text.replace("`", "") for key, text in suggestion.sentences.items()}
    blocks: list[Block] = [Text(said["next"], "note")] if "next" in said else []
    for key, title in _PARTS.items():
        if key in said:
            blocks.append(Heading(title))
            blocks.append(Text(said[key]))
    further = [text for key, text in said.items() if key not in (*_PARTS, "found", "next")]
    if further:
        blocks.append(Items(further))
    if suggestion.recipe:
        blocks.append(Heading("As lines of a recipe"))
        blocks.append(Code(suggestion.recipe.rstrip("\n")))
    return [Section("What to try", blocks)]


_PARTS = {"loss": "Loss", "weight": "Weight", "gate": "Gate", "front": "Spectral Forcing"}


def measured_section(
    models: Sequence[tuple[str, DenoiserSpectrum]],
    law: PowerLawResult | str | None,
    facts: Mapping[str, Mapping[str, str]],
    settings: Mapping[str, str | int | float | None],
    terms: Terms,
) -> Section:
    """What was measured, and how."""
    result = models[0][1]
    rows: list[Sequence[Cell]] = [[name, value] for name, value in settings.items()]
    shape = " × ".join(map(str, (result.channels, *result.size)))
    rows.append([terms.samples, f"{result.count:,} of {shape}"])
    ratios = ", ".join(level_name(ratio) for ratio in result.ratios)
    rows.append(["noise ratios σ/α", ratios])
    rows.append(["the same in the process's time", ", ".join(f"{time:.4g}" for time in result.times)])
    if isinstance(law, PowerLawResult):
        rows.append(["power law of the data", _law_words(law)])
    elif law is not None:
        rows.append(["power law of the data", law])
    tables: list[Block] = [Table(["Setting", "Value"], rows)]
    for name, known in facts.items():
        tables.append(Table(["Model", name], [[fact, value] for fact, value in known.items()]))
    return Section("What was measured", tables)


def _law_words(law: PowerLawResult) -> str:
    """Its exponent, and where it meets that of unit noise, if it does."""
    exponent = f"exponent {law.beta:.2f} ± {law.beta_error:.2f}".replace("-", "−")
    return f"{exponent}, k1 {law.k1:.3g}" if math.isfinite(law.k1) else exponent


def method_section(terms: Terms) -> Section:
    """How it is measured, and what it cannot tell."""
    resampled = "; tiles of one image are resampled together" if terms.samples == "images" else ""
    measured = (
        f"The same noise is added to the same clean {terms.samples} at each noise ratio σ/α, and the network is asked "
        "once for its clean estimate. Error, power and what the estimate shares with the clean sample are summed over "
        "bands of the orthonormal DCT: its radius is the frequency, half octaves above 1/16 and octaves below, in "
        f"{terms.unit}; the mean and the corners of the plane stand apart."
    )
    references = (
        "The Wiener filter is made of these very samples: their mean power per coefficient, in channels that are "
        "turned so that they are uncorrelated. It sees the same noise. For Gaussian fields no estimate is better; on "
        "photographs a network can be, since edges are more than their power. The power of an estimate needs no such "
        "reference: the mean of all clean samples that a noisy one may have come from has E|X̂|² = E[X̂·X] in every "
        "band, whatever the data are."
    )
    intervals = (
        "Intervals hold for all cells of a map and of the two maps together: a Poisson bootstrap, and of each "
        f"replicate the largest deviation in standard errors{resampled}. They are those of (a − b) / (a + b), turned "
        "into decibels: where a is many times b, their far end is a long way off, and a is told from b all the same. A "
        "cell is called if its interval leaves out zero and it differs by 0.1 dB or more."
    )
    limits = (
        "What this page cannot tell is whether the samples look right. The errors of single estimates add up over the "
        "steps of a sampler, and may cancel: look at the samples themselves with passband compare."
    )
    return Section("How it is measured", [Text("\n\n".join([measured, references, intervals])), Text(limits, "note")])


def _power_number(label: str, found: Extent | None, sign: int, otherwise: str) -> Number:
    if found is None:
        return Number(label, "–", otherwise)
    return Number(label, f"{signed(sign * found.most)} dB", found.where)


def _side_by_side(
    maps: Sequence[tuple[str, Map, str]], name: str, folder: Path, caption: str, terms: Terms
) -> list[Block]:
    """One map, or two of them beside each other with one scale of colours."""
    figures: list[Block] = []
    for number, (model, shown, called) in enumerate(maps):
        title = model if len(maps) > 1 else ""
        drawn = map_figure(shown, step=terms.step, title=title, scale_of=[one for _, one, _ in maps])
        figures.append(
            write_figure(
                drawn,
                folder,
                name if number == 0 else f"{name}-{number + 1}",
                caption=caption if number == 0 else f"The same of {model}, on the same noisy {terms.samples}.",
                alt=f"Heat map of noise levels by bands{f' for {model}' if title else ''}. {called}",
            )
        )
    return [Columns([[figure] for figure in figures], wide=True)] if len(figures) > 1 else figures


def _called_words(called: Tensor, contrast: Contrast, result: DenoiserSpectrum) -> str:
    """The framed cells, for those who cannot see them: the largest first."""
    if not bool(called.any()):
        return "No cell is called."
    size = torch.where(called, contrast.difference.abs(), -torch.inf).flatten()
    count = int(called.sum())
    order = size.argsort(descending=True)[: min(count, _READ)].tolist()
    places = [divmod(place, len(result.bands)) for place in order]
    words = [
        f"{signed(float(contrast.difference[i, j]))} dB at noise ratio {level_name(result.ratios[i])}, "
        f"{band_label(result.bands[j])}"
        for i, j in places
    ]
    first = f"{count} cells are called" if count > 1 else "One cell is called"
    return f"{first}{', the largest' if count > _READ else ''}: {'; '.join(words)}."


_READ = 6


def _table(name: str, result: DenoiserSpectrum, contrast: Contrast, what: str) -> Table:
    rows: list[Sequence[Cell]] = []
    for i, ratio in enumerate(result.ratios):
        for j, band in enumerate(result.bands):
            difference = float(contrast.difference[i, j])
            called = bool(contrast.different[i, j])
            rows.append([
                Shown(level_name(ratio), ratio),
                Shown(band_label(band), band[1]),
                Shown(signed(difference, 2), difference, marked=called),
                interval(float(contrast.low[i, j]), float(contrast.high[i, j])),
                Shown(f"{float(contrast.value[i, j]):.3g}", float(contrast.value[i, j])),
                Shown(f"{float(contrast.reference[i, j]):.3g}", float(contrast.reference[i, j])),
            ])  # fmt: skip
    value, reference = _COLUMNS.get(contrast.name, ("this model", "the other"))
    heads = ["Noise ratio", "Band (cycles)", what.capitalize(), "95 % interval", value, reference]
    return Table(heads, rows, f"{name}. Bold: called. The last two columns are shares of the data's power.", True)


_COLUMNS = {
    EXCESS: ("Error", "Wiener filter's error"),
    CALIBRATION: ("Power of the estimate", "What it shares with the data"),
}
