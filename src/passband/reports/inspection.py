"""The report of an inspected autoencoder: a verdict in words, the numbers it rests on, figures, and all as JSON."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from passband.metrics import ChannelSpectrumResult, LatentResult
from passband.reports.compare import finite
from passband.reports.inspection_sections import Inspected, figure_sections
from passband.reports.inspection_verdict import difference, findings, headline, pm, verdict, warnings
from passband.reports.page import (
    Block,
    Cell,
    Number,
    Numbers,
    Page,
    Section,
    Table,
    Text,
    current_command,
    installed_versions,
    write_file,
    write_page,
)


def inspection_report(
    inspected: Sequence[Inspected],
    out: str | os.PathLike[str],
    *,
    settings: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    command: str | None = None,
) -> Path:
    """Write the page, the figures (SVG, PDF and PNG) and the numbers (JSON) of one or two inspected autoencoders.

    Args:
        inspected: one, or two that saw the same images.
        out: folder for index.html, results.json and figures/; made if missing, files of these names are replaced.
        settings: what was inspected and how, shown as a table.
        notes: warnings, one paragraph each.
        command: the command that made it; None: that of this process.

    Returns:
        The path of index.html.

    Raises:
        ValueError: if there are neither one nor two, or both have one name.

    """
    if not 1 <= len(inspected) <= 2 or len({each.name for each in inspected}) < len(inspected):
        raise ValueError(
            f"a page shows one autoencoder or two with different names, got {[each.name for each in inspected]}"
        )
    out = Path(out)
    command = current_command() if command is None else command
    results = {each.name: each.result for each in inspected}
    words = [verdict(name, result) for name, result in results.items()]
    summary = words
    if len(results) == 2:
        words.append(difference(list(results), list(results.values())))
        summary = [*(headline(name, result) for name, result in results.items()), words[-1]]
    notes = [*notes, *(note for name, result in results.items() for note in warnings(name, result))]
    document = {
        "verdict": words,
        "autoencoders": {each.name: inspection_numbers(each) for each in inspected},
        "settings": dict(settings or {}),
        "notes": notes,
        "command": command,
        "versions": installed_versions(),
    }
    write_file(out / "results.json", (json.dumps(finite(document), indent=2, ensure_ascii=False) + "\n").encode())
    page = Page(
        title="Which latent space is easier to learn?"
        if len(results) == 2
        else f"Is the latent space of {inspected[0].name} easy to learn?",
        summary=" ".join(summary),
        sections=[
            Section(
                "The verdict, and what it rests on",
                [
                    _headline(results),
                    *map(Text, words[:2] if len(results) == 2 else []),
                    *(Text(note, "warning") for note in notes),
                    _questions(results),
                    Text(_LIMITS, "note"),
                ],
            ),
            *figure_sections(inspected, out / "figures"),
            Section("What was inspected", [_settings(inspected, settings or {})]),
            Section("How it is measured and rated", [Text(_METHOD), _rules(inspected[0].result)]),
        ],
        command=command,
    )
    return write_page(page, out / "index.html")


def inspection_numbers(each: Inspected) -> dict[str, Any]:
    """The result as plain data for JSON."""
    result = each.result
    channels, bands = result.channels, result.bands
    return {
        "count": result.count,
        "probed": result.probed,
        "image_shape": list(result.image_shape),
        "latent_shape": list(result.latent_shape),
        "findings": [
            {"question": f.question, "value": f.value, "rating": f.rating, "rule": f.rule} for f in findings(result)
        ],
        "means": {name: {"mean": m.mean, "error": m.error, "count": m.samples} for name, m in result.means.items()},
        "spectrum": {
            "image": _spectrum_numbers(result.image),
            "image_at_latent_size": _spectrum_numbers(result.small_image),
            "latent": _spectrum_numbers(result.latent),
        },
        "channels": {
            "mean": channels.mean.tolist(),
            "std": channels.std.tolist(),
            "excess_kurtosis": channels.kurtosis.tolist(),
            "variance_shares": channels.shares.tolist(),
            "effective": channels.effective,
        },
        "bands": None
        if bands is None
        else {
            "edges_cycles_per_image": [edge / 2 for edge in bands.edges],
            "image_edges_cycles_per_image": [edge / 2 for edge in bands.image_edges],
            "matrix": bands.matrix.tolist(),
            "response": bands.response.tolist(),
            "same_band": {"mean": bands.on, "error": bands.on_error},
            "octave": {"mean": bands.octave, "error": bands.octave_error, "blind": bands.blind},
            "relative": {"mean": bands.relative, "error": bands.relative_error, "blind": bands.blind_relative},
            "centre_cycles_per_image": bands.centre.tolist(),
            "above": bands.above,
        },
        "facts": dict(each.facts),
    }


def _spectrum_numbers(spectrum: ChannelSpectrumResult) -> dict[str, Any]:
    return {
        "exponent": spectrum.beta,
        "exponent_error": spectrum.beta_error,
        "fitted_bins": [spectrum.low, spectrum.high],
        "channel_exponents": spectrum.channel_beta.tolist(),
        "cycles_per_image": spectrum.cycles.tolist(),
        "cycles_per_pixel": spectrum.frequency.tolist(),
        "power": spectrum.power.tolist(),
        "power_error": spectrum.power_error.tolist(),
        "channel_power": spectrum.channels.tolist(),
    }


def _questions(results: Mapping[str, LatentResult]) -> Table:
    found = [findings(result) for result in results.values()]
    rows: list[list[Cell]] = [
        [answers[0].question, *(f"{answer.rating}: {answer.value}" for answer in answers)]
        for answers in zip(*found, strict=True)
    ]
    return Table(["Question", *results], rows)


def _rules(result: LatentResult) -> Table:
    return Table(["Question", "What is rated, and the thresholds"], [[f.question, f.rule] for f in findings(result)])


def _headline(results: Mapping[str, LatentResult]) -> Block:
    if len(results) == 2:
        rows: list[list[Cell]] = [[name, *_summary(result)] for name, result in results.items()]
        return Table(["", *_SUMMARY], rows)
    (result,) = results.values()
    return Numbers([Number(label, value) for label, value in zip(_SUMMARY, _summary(result), strict=True)])


_SUMMARY = ("PSNR (dB)", "SSIM", "Exponent (image)", "ESM δ = 1 (white noise)", "Effective channels")


def _summary(result: LatentResult) -> list[str]:
    means = result.means
    ssim = f"{means['ssim'].mean:.3f}" if "ssim" in means else "–"
    psnr = means["psnr"].mean
    return [
        f"{psnr:.1f}" if math.isfinite(psnr) else "exact",
        ssim,
        f"{pm(result.latent.beta, math.nan)} ({pm(result.small_image.beta, math.nan)})",
        f"{means['esm.1'].mean:.3f} ({means['esm.1.white'].mean:.3f})",
        f"{result.channels.effective:.1f} of {result.latent_shape[0]}",
    ]


def _settings(inspected: Sequence[Inspected], settings: Mapping[str, str]) -> Table:
    rows: list[list[Cell]] = []
    for each in inspected:
        result = each.result
        shape, latent = (" × ".join(map(str, shape)) for shape in (result.image_shape, result.latent_shape))
        rows.append([each.name, f"images {shape}, latents {latent}"])
        rows.append(["images measured", f"{result.count:,}, the decoder probed with {result.probed:,}"])
        rows += [[name, value] for name, value in each.facts.items()]
    return Table(["Setting", "Value"], [*rows, *([name, value] for name, value in settings.items())])


_LIMITS = (
    "What this page cannot tell. None of these numbers is a trained diffusion model: they are properties that the "
    "literature found to go along with latents that are learned well, and the thresholds are conventions. A rating can "
    "be good for a useless autoencoder (a small blurred copy of the image has a fine spectrum) and poor for one that "
    "works. Reconstruction, the semantics of the latents and the size of the network that learns them are not rated. "
    "The latents are means: what the posterior's noise adds is not seen. Different autoencoders may be compared on the "
    "same images only, and the better number is a reason to train on those latents first, not a result."
)
_METHOD = (
    "Power is that of the orthonormal DCT-II, averaged over images and over rings of frequency; exponents are fitted "
    "to rings from 2 to 3/4 of the shorter side (in half-cycles), for the latent and for the image at the latent's "
    "size alike (the image's DCT, cropped). ESM is the divergence of the two binned spectra per image, as in training; "
    "white noise of the latent's shape and the small image itself are the ends of its scale. RMS contrast is the "
    "distance of the normalised latent vectors from their mean.\n\n"
    "For the map, one radial band after the other is removed from the latent, and the power of the change of the "
    "decoded image is summed per band. 'Blind' is the share that a decoder would get whose every band had the same "
    "response. The effective number of channels is (Σλ)² / Σλ² of the covariance's eigenvalues λ. Ratios over images "
    "are ratios of sums; ± is one standard error over images, taken as independent (tiles of one photograph are not "
    "quite)."
)
