"""Sections and numbers of the log-spectral distance of images, as `passband evaluate` scores it."""

import math
import os
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from jaxtyping import Float, Float64
from torch import Tensor

from passband.data import ImageSamples
from passband.metrics import MeanPSD, OctaveDistance, SpectrumResult, log_spectral_ratio
from passband.reports.figures import image_grid, psd_figure, ratio_figure, write_figure
from passband.reports.page import Figure, Section, Table, Text
from passband.reports.words import signed

NOTICEABLE = 0.5  # dB; a smaller difference of an octave is not worth a sentence
_HALVES_FROM = 64  # real images; below, two halves say nothing
_NAMED = 5  # left-out images that are named


def describe(result: SpectrumResult, reference: Float[Tensor, " radii"] | None = None) -> str:
    """The comparison in a sentence or two of plain English.

    Args:
        result: what was measured.
        reference: difference between two halves of the real images per radius, dB. An octave counts as different when
            its mean difference is above twice the root mean square of this, and above 0.5 dB.

    Returns:
        The sentences, the largest deviation first.

    """
    runs = _deviations(result, reference)
    worst = max(result.octaves, key=lambda octave: octave.lsd - _threshold(octave, reference))
    if runs:
        first = f"The fake images have {' and '.join(_phrase(run, result) for run in runs[:2])}."
    elif worst.lsd > _threshold(worst, reference):
        first = (
            "The fake images have too much power at some radii and too little at others, most so "
            f"{_range(worst.low, worst.high, result)} ({worst.lsd:.1f} dB)."
        )
    else:
        first = "The spectrum of the fake images agrees with that of the real ones in every octave."
    distance = f"The log-spectral distance is {result.lsd:.2f} dB"
    if reference is not None:
        distance += f"; two halves of the real images are {rms(reference):.2f} dB apart"
    return f"{first} {distance}."


def spectrum_sections(
    result: SpectrumResult,
    thumbnails_real: Float[Tensor, "real channels height width"],
    thumbnails_fake: Float[Tensor, "fake channels height width"],
    out: str | os.PathLike[str],
    *,
    reference: Float[Tensor, " radii"] | None = None,
    settings: Mapping[str, str | int | float | None] | None = None,
) -> list[Section]:
    """The sections of a page that show where the spectra differ, what was compared, and how it is measured.

    Args:
        result: from [`SpectrumDistance`][passband.metrics.SpectrumDistance].
        thumbnails_real: a few real images in [-1, 1], as they were measured.
        thumbnails_fake: a few generated ones.
        out: the page's folder; the figures are written into figures/ there.
        reference: difference between two halves of the real images per radius, dB.
        settings: what was compared and how, shown as a table.

    """
    pictures = _draw(result, reference, thumbnails_real, thumbnails_fake, Path(out) / "figures")
    return [
        Section("Where the spectra differ", [pictures["ratio"], _octave_table(result), pictures["psd"]]),
        *_channel_section(result),
        Section("What was compared", [pictures["real"], pictures["fake"], _settings_table(result, settings or {})]),
        Section("How the spectrum is measured", [Text(_METHOD), Text(_floor_text(result))]),
    ]


def halves_difference(halves: tuple[MeanPSD, MeanPSD], floor: float) -> Float64[Tensor, " radii"] | None:
    """Difference in decibels per radius between two halves of one set; None where there are too few images."""
    if sum(half.count for half in halves) < _HALVES_FROM:
        return None
    return log_spectral_ratio(halves[0].psd, halves[1].psd, floor)


def image_notes(name: str, data: ImageSamples) -> list[str]:
    """What a reader must know of a set of images: which were left out, and whether resizing changed their spectrum."""
    notes = left_out_note(name, data.skipped)
    resized = data.resized if data.crop == "center" else []
    if resized:
        height, width = data.size
        notes.append(
            f"{len(resized):,} of {len(data.sizes):,} {name} images were resized to {width} × {height} "
            f"(the first from {resized[0][0]} × {resized[0][1]}), which changes their spectrum. "
            "With --crop tile they are measured at their own resolution."
        )
    return notes


def left_out_note(name: str, skipped: Sequence[tuple[str, str]], what: str = "images") -> list[str]:
    """A note that names the first few (file, reason) of a set that were left out; none where all were used."""
    if not skipped:
        return []
    named = "; ".join(f"{file} ({reason})" for file, reason in skipped[:_NAMED])
    more = f"; and {len(skipped) - _NAMED} more" if len(skipped) > _NAMED else ""
    return [f"Left out of the {name} {what}: {len(skipped)}. {named}{more}."]


def comparison_numbers(result: SpectrumResult, reference_lsd: float | None = None) -> dict[str, Any]:
    """The result as plain data for JSON: decibels, exponents, counts, and the spectra themselves."""
    return {
        "lsd_db": result.lsd,
        "reference_lsd_db": reference_lsd,
        "octaves": [
            {"low": octave.low, "high": octave.high, "lsd_db": octave.lsd, "bias_db": octave.bias}
            for octave in result.octaves
        ],
        "exponent": {"real": result.real_exponent, "fake": result.fake_exponent},
        "channel_lsd_db": result.channel_lsd.tolist(),
        "count": {"real": result.real_count, "fake": result.fake_count},
        "size": list(result.size),
        "floor": result.floor,
        "radius": list(range(len(result.real_psd))),
        "psd": {"real": result.real_psd.tolist(), "fake": result.fake_psd.tolist()},
        "psd_standard_error": {"real": result.real_error.tolist(), "fake": result.fake_error.tolist()},
        "ratio_db": result.ratio.tolist(),
    }


_METHOD = (
    "Each image's power spectrum (orthonormal DFT) is averaged over rings of integer radius, in cycles per image, and "
    "then over images and channels; the corners beyond half the image's side are left out. The log-spectral distance "
    "is the root mean square over all radii of the difference in decibels, 10·log10 of the ratio of power. Positive "
    "differences mean too much power in the fake images (noise, artefacts), negative ones too little (blur). The "
    "exponent is that of the power law, power ~ radius^(-exponent), by least squares on logarithms over all radii: the "
    "larger, the smoother."
)


def _floor_text(result: SpectrumResult) -> str:
    return (
        f"To both powers {result.floor:g} times the real images' mean power (radii 1 to {len(result.ratio)}) is added "
        "first, so that radii with hardly any power in the real images do not decide everything."
    )


def _draw(
    result: SpectrumResult, reference: Tensor | None, real: Tensor, fake: Tensor, folder: Path
) -> dict[str, Figure]:
    bands = [(octave.low, octave.high) for octave in result.octaves]
    psds = {"real": result.real_psd, "fake": result.fake_psd}
    errors = {"real": 2 * result.real_error, "fake": 2 * result.fake_error}
    chance = "" if reference is None else " Grey: chance alone, one half of the real images against the other."
    octaves = "; ".join(f"{octave.low} to {octave.high}: {octave.bias:+.1f} dB" for octave in result.octaves)
    ratio = write_figure(
        ratio_figure({"fake": result.ratio}, octaves=bands, reference=reference), folder, "ratio",
        caption="Power of the fake images relative to the real ones at each radius. The bands are octaves, with the "
        f"root mean square of each on top.{chance}",
        alt=f"Line chart of the power difference in decibels over the radius. Mean per octave: {octaves}.",
    )  # fmt: skip
    psd = write_figure(
        psd_figure(psds, spread=errors), folder, "psd",
        caption="Radially averaged power spectra, both axes logarithmic. Shaded: two standard errors over images.",
        alt=f"Two falling curves on logarithmic axes: real with exponent {exponent_text(result.real_exponent)}, "
        f"fake with {exponent_text(result.fake_exponent)}.",
    )  # fmt: skip
    grids = {
        name: write_figure(
            image_grid(images), folder, name, pixels=True,
            caption=f"{name.capitalize()} images, as measured.",
            alt=f"Grid of {len(images)} {name} images.",
        )
        for name, images in (("real", real), ("fake", fake))
    }  # fmt: skip
    return {"ratio": ratio, "psd": psd, **grids}


def exponent_text(value: float) -> str:
    """A power-law exponent in words; images without power at some radius have none."""
    return f"{value:.2f}" if math.isfinite(value) else "undefined"


def _octave_table(result: SpectrumResult) -> Table:
    rows = [[span(o.low, o.high), f"{o.lsd:.2f}", signed(o.bias)] for o in result.octaves]
    rows.append(["all", f"{result.lsd:.2f}", signed(float(result.ratio.mean()))])
    return Table(["Radius (cycles per image)", "Log-spectral distance (dB)", "Mean difference (dB)"], rows)


def _channel_section(result: SpectrumResult) -> list[Section]:
    if len(result.channel_lsd) < 2:
        return []
    names = (
        ["red", "green", "blue"] if len(result.channel_lsd) == 3 else [str(i) for i in range(len(result.channel_lsd))]
    )
    rows = [[name, f"{value:.2f}"] for name, value in zip(names, result.channel_lsd.tolist(), strict=True)]
    return [Section("Each channel by itself", [Table(["Channel", "Log-spectral distance (dB)"], rows)])]


def _settings_table(result: SpectrumResult, settings: Mapping[str, str | int | float | None]) -> Table:
    measured: list[list[str | int | float | None]] = [
        ["real images", f"{result.real_count:,}"],
        ["fake images", f"{result.fake_count:,}"],
        ["size (pixels)", " × ".join(map(str, result.size))],
        ["channels", str(len(result.channel_lsd))],
    ]
    return Table(["Setting", "Value"], [*measured, *([name, str(value)] for name, value in settings.items())])


def rms(values: Tensor) -> float:
    """Root mean square."""
    return float(values.double().square().mean().sqrt())


def _threshold(octave: OctaveDistance, reference: Tensor | None) -> float:
    """The difference of an octave, dB, that is worth a sentence."""
    return NOTICEABLE if reference is None else max(NOTICEABLE, 2 * rms(reference[octave.low - 1 : octave.high]))


def _deviations(result: SpectrumResult, reference: Tensor | None) -> list[list[OctaveDistance]]:
    """Runs of neighbouring octaves that all have too much, or all too little power; the heaviest first."""

    def sign(octave: OctaveDistance) -> int:
        return int(math.copysign(1, octave.bias)) if abs(octave.bias) > _threshold(octave, reference) else 0

    runs = [list(run) for direction, run in groupby(result.octaves, key=sign) if direction]
    return sorted(runs, key=lambda run: -sum(o.lsd**2 * (o.high - o.low + 1) for o in run))


def _phrase(run: list[OctaveDistance], result: SpectrumResult) -> str:
    low, high = run[0].low, run[-1].high
    mean = float(result.ratio[low - 1 : high].mean())
    return f"{abs(mean):.1f} dB too {'much' if mean > 0 else 'little'} power {_range(low, high, result)}"


def _range(low: int, high: int, result: SpectrumResult) -> str:
    last = len(result.ratio)
    if low == 1 and high == last:
        return "at all radii"
    if high == last:
        return f"from {low} cycles per image upwards"
    if low == 1:
        return f"up to {high} cycles per image" if high > 1 else "at 1 cycle per image"
    return f"at {span(low, high)} cycles per image"


def span(low: int, high: int) -> str:
    """A range of radii, both included."""
    return f"{low}–{high}" if high > low else str(low)


def finite(value: Any) -> Any:
    """Plain data for JSON, which has no NaN: null stands for it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(entry) for entry in value]
    return value
