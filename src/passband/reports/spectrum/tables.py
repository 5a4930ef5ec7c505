"""Tables of a spectrum report; all of them sort."""

import math
from collections.abc import Mapping, Sequence

from passband.metrics.contrast import Contrast
from passband.metrics.peaks import Peak
from passband.metrics.planes import CHROMA
from passband.metrics.sample_comparison import SampleComparison
from passband.reports.page import Cell, Shown, Table
from passband.reports.spectrum.pattern_words import short_name, with_article
from passband.reports.spectrum.words import Terms, interval, periods, terms_of, unbroken
from passband.reports.words import signed

_ROWS_SHOWN = 120
_BOLD = "Bold: called different."


def octave_table(comparison: SampleComparison, plane: int) -> Table:
    """Each octave of one plane: its difference, interval, noise floor and log-spectral distance."""
    terms, octaves = terms_of(comparison.kind, comparison.sample_rate), comparison.contrasts["octaves"]
    waves = [] if terms.sample_rate else [f"Waves ({terms.steps})"]
    columns = [
        terms.titled("Octave"), *waves, "Difference (dB)", "95 % interval (dB)", "Noise floor (dB)", "LSD (dB)",
        "Called",
    ]  # fmt: skip
    spectra = "the spectra averaged over the channels" if comparison.channels > 1 else "the spectra"
    rows: list[list[Cell]] = []
    for i, (octave, score) in enumerate(zip(comparison.octaves, comparison.octave_lsd, strict=True)):
        rows.append(
            [
                Shown(terms.octave(octave), octave[0]),
                *(Shown(periods(octave), 1 / octave[1]) for _ in waves),
                *_judged(octaves, (plane, i), 2),
                _number(score.value),
                _called(octaves, (plane, i)),
            ]
        )
    return Table(
        columns, rows, caption=f"{_BOLD} LSD: log-spectral distance within the octave, of {spectra}.", sortable=True
    )


def contrast_table(
    contrast: Contrast,
    *,
    only_called: bool = False,
    called: tuple[str, str] = ("too much", "too little"),
    digits: int | None = None,
) -> Table:
    """A family of quantities, one row for each; of very many those that are called, and the largest others.

    Args:
        contrast: the family.
        only_called: leave out what is not called.
        called: what is said of a called difference above and below 0.
        digits: after the point of all numbers; None: of differences as fits their unit, of values 4 that count.

    """
    unit = f" ({contrast.unit})" if contrast.unit else ""
    places = {"": 3, "%": 1}.get(contrast.unit, 2) if digits is None else digits
    columns = [
        *(_title(axis) for axis in contrast.axes), "Real", "Fake", f"Difference{unit}", f"95 % interval{unit}",
        f"Noise floor{unit}", "Called",
    ]  # fmt: skip
    found = [row for row in contrast.rows() if not only_called or bool(contrast.different[row[1]])]
    caption = _BOLD
    if len(found) > _ROWS_SHOWN:
        size = {at: (bool(contrast.different[at]), abs(float(contrast.difference[at]))) for _, at in found}
        kept = set(sorted(size, key=lambda at: size[at], reverse=True)[:_ROWS_SHOWN])
        found = [row for row in found if row[1] in kept]
        caption = f"{_BOLD} The {_ROWS_SHOWN} largest of {len(size)}; results.json holds all."
    rows: list[list[Cell]] = [
        [
            *_named(labels, at),
            *(_value(float(part[at]), digits) for part in (contrast.reference, contrast.value)),
            *_judged(contrast, at, places),
            _called(contrast, at, called),
        ]
        for labels, at in found
    ]
    return Table(columns, rows, caption=caption, sortable=True)


def peak_table(peaks: Sequence[Peak], both: Sequence[Peak], terms: Terms) -> Table:
    """Regular patterns by name: those that are called, numbered as on the map, and those of both sets."""
    places = ["Frequency"] if terms.step == "sample" else ["Frequency down", "Frequency across"]
    colours = any(peak.plane in CHROMA for peak in (*peaks, *both))
    columns = ["Number", "Pattern", "In", *places, "Fake set (dB)", "Real set (dB)"]
    named = [*((str(number), "fake", peak) for number, peak in enumerate(peaks, 1)), *(("–", "both", p) for p in both)]
    rows: list[list[Cell]] = [
        [
            number,
            with_article(peak.name if terms.sample_rate else short_name(peak.name)),
            f"{where}, {peak.plane}" if colours else where,
            *[Shown(terms.frequency(abs(part)), abs(part)) for part in peak.frequency[-len(places) :]],
            Shown(f"{peak.height:.1f} ± {peak.error:.1f}", peak.height),
            _number(peak.in_real, 1),
        ]
        for number, where, peak in named
    ]
    unit = "" if terms.sample_rate else f", in {terms.unit}"
    caption = (
        f"Where each pattern is strongest{unit}; its height above the neighbouring frequencies, with the standard "
        "error of the difference between the sets."
    )
    return Table(columns, rows, caption=caption, sortable=True)


def law_table(comparison: SampleComparison) -> Table:
    """The power laws of both sets."""
    rows: list[list[Cell]] = [
        [name, _number(law.exponent), _number(law.error), _number(law.residual)]
        for name, law in (("real", comparison.law.real), ("fake", comparison.law.fake))
    ]
    terms, law = terms_of(comparison.kind, comparison.sample_rate), comparison.law
    ends = (
        (terms.frequency(law.low), terms.frequency(law.high))
        if terms.sample_rate
        else (f"{law.low:.3g}", f"{law.high:.3g} {terms.unit}")
    )
    caption = f"Power ~ frequency^(−exponent), fitted from {ends[0]} to {ends[1]}."
    return Table(["Set", "Exponent", "Standard error", "Residual (dB RMS)"], rows, caption=caption)


def settings_table(comparison: SampleComparison, settings: Mapping[str, str | int | float | None]) -> Table:
    """What was compared."""
    terms = terms_of(comparison.kind, comparison.sample_rate)
    rows: list[list[Cell]] = [
        [f"real {terms.counted}", f"{comparison.real_count:,}"],
        [f"fake {terms.counted}", f"{comparison.fake_count:,}"],
        [f"size ({terms.steps})", " × ".join(map(str, comparison.size))],
        ["channels", str(comparison.channels)],
        ["independent groups (about)", f"{comparison.groups:,.0f}" if math.isfinite(comparison.groups) else "unknown"],
        ["resampled as pairs", "yes" if comparison.paired else "no"],
    ]
    rows += [["sample rate", f"{comparison.sample_rate:,} Hz"]] if comparison.sample_rate else []
    rows += [[name, str(value)] for name, value in settings.items()]
    return Table(["Setting", "Value"], rows)


def series_table(series: Sequence[tuple[str, SampleComparison]], plane: int) -> Table:
    """The distance and the octaves' differences of each set of samples of a training."""
    bands = series[0][1].contrasts["octaves"].labels[1]
    columns = ["Samples", "LSD (dB)", "95 % interval (dB)", *(unbroken(f"{band} (dB)") for band in bands)]
    rows: list[list[Cell]] = []
    for step, comparison in series:
        octaves, score = comparison.contrasts["octaves"], comparison.lsd
        cells = [
            Shown(signed(value), _order(value), bool(octaves.different[plane, i]))
            for i, value in enumerate(octaves.difference[plane].tolist())
        ]
        between = "unknown" if math.isnan(score.low) else f"{score.low:.2f} … {score.high:.2f}"
        rows.append([_step(step), _number(score.value), Shown(between, score.low), *cells])
    return Table(columns, rows, caption=_BOLD, sortable=True)


def _step(text: str) -> Cell:
    plain = text.replace(",", "").removeprefix("step-")
    return Shown(text, float(plain)) if plain.isdigit() else text


def _judged(contrast: Contrast, at: tuple[int, ...], digits: int) -> list[Cell]:
    """Difference, interval and noise floor of one quantity."""
    value, low, high = (float(part[at]) for part in (contrast.difference, contrast.low, contrast.high))
    floor = float(contrast.floor[at])
    return [
        Shown(signed(value, digits), _order(value), bool(contrast.different[at])),
        Shown(interval(low, high, digits), _order(low)),
        "–" if floor == 0 or not math.isfinite(floor) else f"{floor:.{digits}f}",
    ]


def _called(contrast: Contrast, at: tuple[int, ...], words: tuple[str, str] = ("too much", "too little")) -> str:
    if not bool(contrast.different[at]):
        return "no"
    return words[0] if float(contrast.difference[at]) > 0 else words[1]


def _value(value: float, digits: int | None) -> Cell:
    return value if digits is None else Shown(signed(value, digits), _order(value))


def _order(value: float) -> float | None:
    """What a cell is sorted by: what is not finite comes last."""
    return value if math.isfinite(value) else None


def _number(value: float, digits: int = 2) -> Cell:
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−") if math.isfinite(value) else None


def _named(labels: Sequence[str], at: Sequence[int]) -> list[Cell]:
    """Labels that sort by their place, since "1/8–1/4" has no order of its own."""
    return [Shown(label, float(place)) for label, place in zip(labels, at, strict=True)]


def _title(axis: str) -> str:
    return axis[:1].upper() + axis[1:]
