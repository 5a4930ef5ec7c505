"""The sections of an inspected autoencoder's page: spectra, bands, low-passed latents, channels, pictures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from passband.metrics import LatentResult
from passband.reports.figures import write_figure
from passband.reports.inspection_figures import (
    band_map_figure,
    band_names,
    latent_pictures,
    latent_spectrum_figure,
    low_pass_figure,
    measured_corners,
)
from passband.reports.inspection_verdict import agreement, pm, skill
from passband.reports.page import Block, Cell, Section, Table, Text

_CHANNELS = 32  # rows of the channels' table


@dataclass(frozen=True)
class Inspected:
    """One autoencoder as it was inspected.

    Attributes:
        name: what to call it; different for two on one page.
        result: from [`LatentMeasures`][passband.metrics.LatentMeasures].
        images: a few images in [-1, 1], (batch, channels, height, width).
        reconstructions: theirs.
        pictures: principal components of their latents, from [`pca_picture`][passband.metrics.pca_picture].
        facts: what is known of the autoencoder, for the table of settings.

    """

    name: str
    result: LatentResult
    images: Tensor
    reconstructions: Tensor
    pictures: Tensor
    facts: Mapping[str, str] = field(default_factory=dict)


def figure_sections(inspected: Sequence[Inspected], folder: Path) -> list[Section]:
    """The sections with figures and tables; the figures are written into folder."""
    results = {each.name: each.result for each in inspected}
    sections = [
        Section(
            "The spectrum of the latents",
            [
                write_figure(
                    latent_spectrum_figure(results),
                    folder,
                    "spectrum",
                    caption="Power over frequency, each curve over its mean power, so that only shapes are compared. "
                    "The images' spectrum goes on where that of the latents ends (vertical line: the latents' Nyquist "
                    "frequency; right of it the corners). Dashed: the images' spectrum times the ring's number, the "
                    "target of ESM with δ = 1. Dotted: white noise.",
                    alt="Power spectra: "
                    + "; ".join(
                        f"{n}, exponent {r.latent.beta:.2f}, image {r.small_image.beta:.2f}" for n, r in results.items()
                    ),
                ),
                _spectrum_table(results),
            ],
        )
    ]
    probed = {name: result for name, result in results.items() if result.bands is not None}
    if probed:
        sections += [_band_section(probed, folder), _low_pass_section(probed, folder)]
        sections += _equivariance_section(probed)
    sections += [Section("The channels", _channel_tables(results)), _picture_section(inspected, folder)]
    return sections


def _spectrum_table(results: Mapping[str, LatentResult]) -> Table:
    rows: list[list[Cell]] = []
    seen: set[tuple[int, ...]] = set()
    for name, r in results.items():
        fit = f"{r.latent.low / 2:g}–{r.latent.high / 2:g}"
        parts = [
            (name, r.latent, ""),
            ("the image at its size", r.small_image, ".image"),
            ("white noise", None, ".white"),
        ]
        for label, spectrum, suffix in parts if r.latent_shape not in seen else parts[:1]:
            slope = "0" if spectrum is None else pm(spectrum.beta, spectrum.beta_error)
            values = [pm(*r.means[f"{key}{suffix}"][:2], digits=3) for key in ("esm.0", "esm.1", "rmsc")]
            rows.append([label, slope, fit, *values])
        seen.add(r.latent_shape)
    image = next(iter(results.values())).image
    fit = f"{image.low / 2:g}–{image.high / 2:g}"
    rows.append([f"image, {' × '.join(map(str, image.size))}", pm(image.beta, image.beta_error), fit, None, None, None])
    heads = ["", "Exponent", "Fitted (cycles per image)", "ESM δ = 0", "ESM δ = 1", "RMS contrast"]
    return Table(heads, rows, "Means over images ± standard error. ESM is 0 where the target is met exactly.")


def _band_section(results: Mapping[str, LatentResult], folder: Path) -> Section:
    rows: list[list[Cell]] = []
    for name, result in results.items():
        bands = result.bands
        assert bands is not None
        total = float(bands.response.sum())
        for i, band in enumerate(band_names(bands.edges)):
            rows.append([
                name if i == 0 else "", band, f"{100 * float(bands.response[i]) / total:.1f}" if total else "–",
                _percent(bands.matrix[i, i]), _percent(bands.band_octave[i]), _percent(bands.band_relative[i]),
                f"{float(bands.centre[i]):.1f}",
            ])  # fmt: skip
        rows.append([
            "", "mean", None, pm(100 * bands.on, 100 * bands.on_error, 1),
            pm(100 * bands.octave, 100 * bands.octave_error, 1),
            pm(100 * bands.relative, 100 * bands.relative_error, 1), None,
        ])  # fmt: skip
        rows.append(["", "blind decoder", None, None, _percent(bands.blind), _percent(bands.blind_relative), None])
        rows.append([
            "", "skill over blind", None, None, _percent(skill(bands.octave, bands.blind)),
            _percent(skill(bands.relative, bands.blind_relative)), None,
        ])  # fmt: skip
    heads = ["", "Latent band (cycles per image)", "Share of all change (%)", "In the same band (%)",
             "Within an octave (%)", "Same share of Nyquist (%)", "Centre (cycles per image)"]  # fmt: skip
    figure = write_figure(
        band_map_figure(results),
        folder,
        "bands",
        caption="Each row: one band is removed from the latents, and where the decoded images change, in percent of "
        "the change. Framed: the same frequency. Columns to the right of the frames are finer than the latent's own "
        "grid.",
        alt="Heat map of latent bands and image bands. "
        + "; ".join(
            f"{n}: {100 * r.bands.on:.0f} % in the same band" for n, r in results.items() if r.bands is not None
        ),
    )
    return Section("Where each latent frequency lands", [figure, Table(heads, rows)])


def _low_pass_section(results: Mapping[str, LatentResult], folder: Path) -> Section:
    figure = write_figure(
        low_pass_figure(results),
        folder,
        "low-pass",
        caption="Decoding spectrum matching asks for this: the low-passed latent should decode to the low-passed "
        "image. M is the block-DCT low-pass. Dotted: what the same reconstruction would give, low-passed after "
        "decoding.",
        alt="Line charts of PSNR and of the agreement of the changes over the corner of the low-pass; the table below "
        "gives their values.",
    )
    rows: list[list[Cell]] = []
    for name, result in results.items():
        for kind, label in (("cut", "below {} of the latent's Nyquist frequency"), ("low_pass", "DSM, corner {}")):
            for key in measured_corners(result, kind):
                stem = f"{kind}.{key}"
                found = result.means[f"{stem}.agreement"]
                psnr = [decibels(result.means[f"{stem}.{end}"].mean) for end in ("error", "ideal")]
                first = kind == "cut" and key == measured_corners(result, kind)[0]
                rows.append([name if first else "", label.format(key), pm(found.mean, found.error), *psnr])
        for kind, label in (("cut", "mean, same cycles per image"), ("low_pass", "mean, DSM's corners 8, 10, 12")):
            mean = agreement(result, "cut" if kind == "cut" else "low_pass")
            rows.append(["", label, "–" if mean is None else pm(mean.mean, mean.error), None, None])
    table = Table(
        ["", "What is kept", "Agreement", "PSNR, latent low-passed (dB)", "PSNR, image low-passed (dB)"],
        rows,
        "Agreement: 1 where low-passing the latent changes the image as low-passing the image does, 0 where the "
        "changes have nothing in common (both may be small: see the PSNR).",
    )
    return Section("Low-passed latents", [figure, table])


def _equivariance_section(results: Mapping[str, LatentResult]) -> list[Section]:
    rows: list[list[Cell]] = []
    for name, result in results.items():
        stems = [key.removesuffix(".missed") for key in result.means if key.endswith(".missed")]
        for number, stem in enumerate(stems):
            scale, turns = stem.removeprefix("equivariance.").rsplit(".", 1)
            what = f"scale {scale}" if turns == "0" else f"scale {scale}, {90 * int(turns)}°"
            missed, error, ideal = (result.means[f"{stem}.{end}"] for end in ("missed", "error", "ideal"))
            ratio = f"{error.mean / ideal.mean:.3g}" if ideal.mean > 1e-12 else "–"
            rows.append([
                "" if number else name, what, pm(missed.mean, missed.error, 3), decibels(error.mean),
                decibels(ideal.mean), ratio,
            ])  # fmt: skip
    if not rows:
        return []
    heads = ["", "Transform τ", "Variance missed", "PSNR of D(τz) (dB)", "PSNR of τD(z) (dB)", "Error ratio"]
    text = Text(
        "An equivariant decoder gives the same whether the latent or the image is scaled or turned. Both PSNRs are "
        "against τx; the ratio of the squared errors is 1 for an equivariant decoder, and grows without bound for a "
        "better reconstruction, so that the share of the variance missed, D(τz) against τD(z), is rated instead."
    )
    return [Section("Scaled and turned latents", [Table(heads, rows), text])]


def _channel_tables(results: Mapping[str, LatentResult]) -> list[Block]:
    blocks: list[Block] = []
    for name, result in results.items():
        channels, slopes = result.channels, result.latent.channel_beta
        rows: list[list[Cell]] = [
            [
                i, pm(float(channels.mean[i]), math.nan, 3), f"{float(channels.std[i]):.3f}",
                pm(float(channels.kurtosis[i]), math.nan), pm(float(slopes[i]), math.nan),
                f"{100 * float(channels.shares[i]):.1f}",
            ]
            for i in range(min(len(slopes), _CHANNELS))
        ]  # fmt: skip
        more = f" The first {_CHANNELS} of {len(slopes)} channels." if len(slopes) > _CHANNELS else ""
        caption = (
            f"{name}: {channels.effective:.2f} effective channels of {len(slopes)}. The last column is of principal "
            f"components, not of channels.{more}"
        )
        heads = ["Channel", "Mean", "Std", "Excess kurtosis", "Exponent", "Variance of component (%)"]
        blocks.append(Table(heads, rows, caption))
    return blocks


def _picture_section(inspected: Sequence[Inspected], folder: Path) -> Section:
    figure = latent_pictures(
        inspected[0].images,
        {each.name: each.reconstructions for each in inspected},
        {each.name: each.pictures for each in inspected},
    )
    rows = "; ".join(f"the reconstructions and the latents of {each.name}" for each in inspected)
    caption = (
        f"Row by row: the images; {rows}. Latents are shown as their first three principal components over channels in "
        "red, green and blue, gray at the mean, full at 2.5 standard deviations of each: the third component looks as "
        "strong as the first."
    )
    alt = f"Grid of {len(inspected[0].images)} images, their reconstructions and pictures of their latents."
    return Section("Pictures", [write_figure(figure, folder, "pictures", caption=caption, alt=alt, pixels=True)])


def _percent(value: float | Tensor) -> str:
    share = float(value)
    return f"{100 * share:.0f}".replace("-", "−") if math.isfinite(share) else "–"


def decibels(error: float) -> str:
    """Peak signal to noise of a mean squared error, signal range 2."""
    return f"{10 * math.log10(4 / error):.1f}" if error > 1e-12 else "exact"
