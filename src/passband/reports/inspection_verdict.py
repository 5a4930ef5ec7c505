"""What the numbers of an autoencoder say about learning its latents: ratings by stated thresholds, and sentences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from passband.metrics import Estimate, LatentResult

Rating = Literal["good", "fair", "poor", "unknown"]

#: Thresholds (good, poor) of each rating. They are conventions of this page, not results.
ESM_SHARE = (0.3, 0.75)  # of white noise's divergence; below, above
STEEPER = 0.2  # beyond the image's exponent
NEARLY_WHITE = 0.25  # of the image's exponent
SKILL = (0.6, 0.3)  # of the octave share over a blind decoder's; above, below
AGREEMENT = (0.7, 0.4)  # above, below
MISSED = (0.2, 0.4)  # of the variance; below, above
CORNERS_JUDGED = (8, 10, 12)  # those that decoders are trained with
HALVED = "equivariance.0.5.0.missed"
POOR_RECONSTRUCTION = 20.0  # dB
FEW_IMAGES = 64
_WORDS = ("none", "one", "two", "three", "four", "five")


@dataclass(frozen=True)
class Finding:
    """One question and its answer.

    Attributes:
        question: what is asked.
        value: the number with its unit, as text.
        rating: by the thresholds.
        says: the answer in words, without the subject and the full stop; empty where unknown.
        rule: the thresholds, as text.

    """

    question: str
    value: str
    rating: Rating
    says: str
    rule: str


def findings(result: LatentResult) -> tuple[Finding, ...]:
    """The five questions that the verdict rests on, in order."""
    return _slope(result), _divergence(result), _bands(result), _low_pass(result), _scaled(result)


def headline(name: str, result: LatentResult) -> str:
    """The shortest verdict: how many of the questions speak against it."""
    ratings = [finding.rating for finding in findings(result)]
    asked, poor = len(ratings) - ratings.count("unknown"), ratings.count("poor")
    if not asked:
        return f"{name}: nothing could be rated."
    if poor:
        return f"{name}: {_WORDS[poor]} of {_WORDS[asked]} measures {'speak' if poor > 1 else 'speaks'} against it."
    if "fair" in ratings:
        return f"{name}: nothing speaks clearly against it."
    return f"{name}: nothing measured here speaks against it."


def verdict(name: str, result: LatentResult) -> str:
    """A few sentences on one autoencoder.

    Args:
        name: what to call it.
        result: from [`LatentMeasures`][passband.metrics.LatentMeasures].

    Returns:
        Plain text.

    """
    says: dict[Rating, list[str]] = {"poor": [], "fair": [], "good": [], "unknown": []}
    for finding in findings(result):
        says[finding.rating].append(finding.says)
    heads: tuple[tuple[Rating, str], ...] = (("poor", "Against"), ("fair", "In between"), ("good", "In favour"))
    parts = [f"{head}: {'; '.join(says[rating])}." for rating, head in heads if says[rating]]
    return " ".join([headline(name, result), *parts, _reconstruction(result)])


def warnings(name: str, result: LatentResult) -> list[str]:
    """What a reader must know before believing the numbers."""
    notes = list(result.notes)
    psnr = result.means["psnr"].mean  # NaN where all are exact
    if psnr < POOR_RECONSTRUCTION:
        notes.append(
            f"The reconstruction is poor ({psnr:.1f} dB): the latents hold little of the images, and the answers below "
            "say little about an autoencoder that is fit for use."
        )
    if result.count < FEW_IMAGES:
        images = "1 image was" if result.count == 1 else f"{result.count} images were"
        notes.append(f"Only {images} measured: errors are large or unknown.")
    if min(result.latent_shape[1:]) < 8:
        notes.append(
            f"The latents have {result.latent_shape[1]} × {result.latent_shape[2]} positions: too few frequencies for "
            "a power law to mean much. Take larger images."
        )
    unused = result.channels.unused
    if unused:
        notes.append(f"{unused} of {result.latent_shape[0]} channels hardly vary: they carry nothing.")
    return [f"{name}: {note}" for note in notes]


def difference(names: Sequence[str], results: Sequence[LatentResult]) -> str:
    """The second autoencoder against the first, in words: only what differs by more than twice the standard error."""
    first, second = results
    better: list[str] = []
    worse: list[str] = []
    for what, a, b, up, digits in _compared(first, second):
        gap = b.mean - a.mean
        error = math.hypot(a.error, b.error)
        if not math.isfinite(gap) or not abs(gap) > 2 * (error if math.isfinite(error) else math.inf):
            continue
        text = f"{what} ({a.mean:.{digits}f} → {b.mean:.{digits}f})"
        (better if (gap > 0) == up else worse).append(text)
    if not better and not worse:
        return f"No measure separates {names[1]} from {names[0]} by more than twice its standard error."
    parts = [f"better in {_join(better)}"] if better else []
    parts += [f"worse in {_join(worse)}"] if worse else []
    grids = [" × ".join(map(str, found.latent_shape)) for found in results]
    caution = (
        "" if grids[0] == grids[1] else f" Their latents differ in size ({grids[0]}, {grids[1]}), so do the bands."
    )
    return f"Against {names[0]}, {names[1]} is {' and '.join(parts)}.{caution}"


def agreement(result: LatentResult, kind: Literal["cut", "low_pass"]) -> Estimate | None:
    """The mean agreement of low-passed latents: by frequency (`cut`), or in DSM's blocks over the corners judged."""
    wanted = [f"low_pass.{k}.agreement" for k in CORNERS_JUDGED]
    names = wanted if kind == "low_pass" else [name for name in result.means if name.startswith("cut.")]
    found = [result.means[name] for name in names if name in result.means and name.endswith(".agreement")]
    found = [estimate for estimate in found if math.isfinite(estimate.mean)]
    if not found:
        return None
    error = sum(estimate.error for estimate in found) / len(found)  # of the same images: errors add up
    return Estimate(sum(estimate.mean for estimate in found) / len(found), error, found[0].samples)


def pm(value: float, error: float, digits: int = 2) -> str:
    """A number with its standard error."""
    if not math.isfinite(value):
        return "–"
    shown = _minus(value, digits)
    return f"{shown} ± {error:.{digits}f}" if math.isfinite(error) else shown


def _slope(result: LatentResult) -> Finding:
    latent, image = result.latent, result.small_image
    question = "Does the latent's power fall with frequency, and no steeper than the image's?"
    rule = (
        f"exponent; good: from {NEARLY_WHITE:g} times the image's to {STEEPER:g} above it; fair: steeper; poor: flatter"
    )
    value = f"{pm(latent.beta, latent.beta_error)} (image {pm(image.beta, image.beta_error)})"
    if not math.isfinite(latent.beta) or not math.isfinite(image.beta):
        return Finding(question, value, "unknown", "", rule)
    error = math.hypot(_known(latent.beta_error), _known(image.beta_error))
    if latent.beta < NEARLY_WHITE * image.beta:
        says = "its spectrum is nearly white" if latent.beta > 0 else "its spectrum does not fall with frequency"
        return Finding(question, value, "poor", f"{says} (exponent {_minus(latent.beta)})", rule)
    if latent.beta > image.beta + STEEPER:
        return Finding(question, value, "fair", "its spectrum is steeper than the image's", rule)
    flatter = image.beta - latent.beta > 2 * error
    says = "its spectrum is a flattened power law" if flatter else "its spectrum falls as the image's does"
    return Finding(question, value, "good", f"{says} (exponent {latent.beta:.2f}, the image's {image.beta:.2f})", rule)


def _divergence(result: LatentResult) -> Finding:
    question = "Is its spectrum close to the flattened spectrum of the image (ESM, δ = 1)?"
    rule = f"divergence as a share of white noise's; good: below {ESM_SHARE[0]:g}; poor: {ESM_SHARE[1]:g} and more"
    own, white = (result.means[key].mean for key in ("esm.1", "esm.1.white"))
    if not white > 0:
        return Finding(question, "–", "unknown", "", rule)
    share = own / white
    rating = _rated(share, ESM_SHARE)
    how = {"good": "close to", "fair": "part of the way to", "poor": "as far as white noise from"}[rating]
    if share > 1.1:
        how = "further than white noise from"
    if rating != "good" and result.latent.beta > result.small_image.beta:
        how = f"too steep, {how}"
    says = f"its spectrum is {how} the flattened spectrum of the image"
    return Finding(question, f"{share:.2f} of white noise's ({own:.3f} against {white:.3f})", rating, says, rule)


def skill(share: float, blind: float) -> float:
    """How far a share is from what a blind decoder gets (0) to all (1)."""
    return (share - blind) / (1 - blind) if blind < 1 else math.nan


def _bands(result: LatentResult) -> Finding:
    question = "Does each latent frequency land at its own place in the image?"
    rule = (
        f"response within an octave, on the way from a blind decoder to all of it; good: {SKILL[0]:g} and more; poor: "
        f"below {SKILL[1]:g}; the better of: same cycles per image, same share of the Nyquist frequency"
    )
    bands = result.bands
    if bands is None or not math.isfinite(bands.octave):
        return Finding(question, "–", "unknown", "", rule)
    own, relative = skill(bands.octave, bands.blind), skill(bands.relative, bands.blind_relative)
    value = f"{own:.2f} same cycles, {relative:.2f} same share".replace("-", "−")
    rating = _rated(-max(own, relative), (-SKILL[0], -SKILL[1]))
    how = {"good": "keeps", "fair": "only partly keeps", "poor": "does not keep"}[rating]
    scaled = " (as shares of the Nyquist frequency)" if relative > own and rating != "poor" else ""
    return Finding(question, value, rating, f"the decoder {how} frequency to frequency{scaled}", rule)


def _low_pass(result: LatentResult) -> Finding:
    question = "Does a low-passed latent decode to the low-passed image?"
    rule = (
        f"agreement of the change with the one asked for; good: {AGREEMENT[0]:g} and more; poor: below "
        f"{AGREEMENT[1]:g}; the better of: same cycles per image, DSM's blocks at corners "
        f"{', '.join(map(str, CORNERS_JUDGED))}"
    )
    own, blocks = agreement(result, "cut"), agreement(result, "low_pass")
    known = [estimate.mean for estimate in (own, blocks) if estimate is not None]
    if not known:
        return Finding(question, "–", "unknown", "", rule)
    parts = [] if own is None else [f"{pm(own.mean, own.error)} same cycles"]
    parts += [] if blocks is None else [f"{pm(blocks.mean, blocks.error)} DSM"]
    rating = _rated(-max(known), (-AGREEMENT[0], -AGREEMENT[1]))
    how = {"good": "decode", "fair": "only roughly decode", "poor": "do not decode"}[rating]
    sense = " (in DSM's blocks)" if blocks is not None and blocks.mean == max(known) and rating != "poor" else ""
    return Finding(question, ", ".join(parts), rating, f"low-passed latents {how} to low-passed images{sense}", rule)


def _scaled(result: LatentResult) -> Finding:
    question = "Does a latent at half the size decode to the image at half the size?"
    rule = (
        f"share of the halved image's variance that is missed; good: below {MISSED[0]:g}; poor: {MISSED[1]:g} and more"
    )
    missed = result.means.get(HALVED)
    if missed is None or not math.isfinite(missed.mean):
        return Finding(question, "–", "unknown", "", rule)
    rating = _rated(missed.mean, MISSED)
    how = {"good": "decode", "fair": "only roughly decode", "poor": "do not decode"}[rating]
    says = f"halved latents {how} to halved images"
    return Finding(question, f"{pm(missed.mean, missed.error)} of the variance missed", rating, says, rule)


def _reconstruction(result: LatentResult) -> str:
    psnr = result.means["psnr"].mean
    return f"It reconstructs at {psnr:.1f} dB PSNR." if math.isfinite(psnr) else "It reconstructs exactly."


def _compared(a: LatentResult, b: LatentResult) -> list[tuple[str, Estimate, Estimate, bool, int]]:
    """(name, first, second, whether more is better, digits) of what both have."""
    pairs = [
        ("reconstruction, PSNR in dB", a.means["psnr"], b.means["psnr"], True, 2),
        ("ESM divergence at δ = 1", a.means["esm.1"], b.means["esm.1"], False, 4),
        ("agreement of low-passed latents", agreement(a, "cut"), agreement(b, "cut"), True, 2),
        ("agreement of DSM's low-pass", agreement(a, "low_pass"), agreement(b, "low_pass"), True, 2),
        ("missed at half the size", a.means.get(HALVED), b.means.get(HALVED), False, 2),
    ]
    found = [(what, x, y, up, digits) for what, x, y, up, digits in pairs if x is not None and y is not None]
    if a.bands is not None and b.bands is not None:
        x, y = (Estimate(bands.octave, bands.octave_error, bands.count) for bands in (a.bands, b.bands))
        found.insert(2, ("response within an octave", x, y, True, 2))
    return found


def _rated(value: float, limits: tuple[float, float]) -> Rating:
    good, poor = limits
    return "good" if value <= good else "fair" if value < poor else "poor"


def _known(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _minus(value: float, digits: int = 2) -> str:
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def _join(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
