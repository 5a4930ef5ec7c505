"""What the numbers of an autoencoder say about learning its latents: ratings by stated thresholds, and sentences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from passband.metrics import Estimate, LatentResult

Rating = Literal["good", "fair", "poor", "unknown"]

#: Thresholds (good, poor) of each rating. They are conventions of this page, not results.
ESM_SHARE = (0.5, 0.9)  # of white noise's divergence; below, above
STEEPER = 0.2  # beyond the image's exponent
NEARLY_WHITE = 0.25  # of the image's exponent
OCTAVE_SHARE = (0.7, 0.5)  # above, below
OVER_BLIND = 0.1  # beyond a decoder that cannot tell the bands apart
DROP = (1.0, 3.0)  # dB; below, above
CORNERS_JUDGED = (8, 10, 12)  # those that decoders are trained with
HALVED = "equivariance.0.5.0"
POOR_RECONSTRUCTION = 20.0  # dB
FEW_IMAGES = 64


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


def verdict(name: str, result: LatentResult) -> str:
    """Two or three sentences on one autoencoder.

    Args:
        name: what to call it.
        result: from [`LatentMeasures`][passband.metrics.LatentMeasures].

    Returns:
        Plain text.

    """
    found = findings(result)
    poor = [finding for finding in found if finding.rating == "poor"]
    fair = [finding for finding in found if finding.rating == "fair"]
    asked = sum(finding.rating != "unknown" for finding in found)
    if not asked:
        first = f"{name}: nothing could be rated, see the notes"
    elif poor:
        first = f"{name}: {_count(len(poor), asked)} speak against it: {_join([finding.says for finding in poor])}"
        if fair:
            first += f". In between: {_join([finding.says for finding in fair])}"
    elif fair:
        first = f"{name}: nothing speaks clearly against it, but {_join([finding.says for finding in fair])}"
    else:
        first = f"{name}: nothing measured here speaks against it: {_join([finding.says for finding in found[:3]])}"
    return f"{first}. {_reconstruction(result)}"


def warnings(name: str, result: LatentResult) -> list[str]:
    """What a reader must know before believing the numbers."""
    notes = list(result.notes)
    psnr = result.means["psnr"].mean
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
    better, worse = [], []
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
    return f"Against {names[0]}, {names[1]} is {' and '.join(parts)}."


def judged_drop(result: LatentResult) -> Estimate | None:
    """The mean loss over the corners that are judged; None where none was measured."""
    found = [result.means[key] for k in CORNERS_JUDGED if (key := f"low_pass.{k}.drop") in result.means]
    if not found:
        return None
    error = sum(estimate.error for estimate in found) / len(found)  # of the same images: errors add up
    return Estimate(sum(estimate.mean for estimate in found) / len(found), error, found[0].count)


def pm(value: float, error: float, digits: int = 2) -> str:
    """A number with its standard error."""
    if not math.isfinite(value):
        return "–"
    shown = f"{value:.{digits}f}".replace("-", "−")
    return f"{shown} ± {error:.{digits}f}" if math.isfinite(error) else shown


def _slope(result: LatentResult) -> Finding:
    latent, image = result.latent, result.small_image
    question = "Does the latent's power fall with frequency, and no steeper than the image's?"
    rule = (
        f"good: exponent between {NEARLY_WHITE:g} times the image's and {STEEPER:g} above it; fair: steeper; poor: flatter"
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
    return Finding(question, value, "good", f"{says} (exponent {latent.beta:.2f} to {image.beta:.2f})", rule)


def _divergence(result: LatentResult) -> Finding:
    question = "Is its spectrum close to the flattened spectrum of the image (ESM, δ = 1)?"
    rule = f"share of white noise's divergence; good: below {ESM_SHARE[0]:g}; poor: {ESM_SHARE[1]:g} and more"
    own, white = (result.means[key].mean for key in ("esm.1", "esm.1.white"))
    if not white > 0:
        return Finding(question, "–", "unknown", "", rule)
    share = own / white
    rating = _rated(share, ESM_SHARE)
    how = {"good": "close to", "fair": "part of the way to", "poor": "as far as white noise from"}[rating]
    if share > 1.1:
        how = "further than white noise from"
    says = f"its spectrum is {how} the flattened spectrum of the image"
    return Finding(question, f"{share:.2f} ({own:.4f} of {white:.4f})", rating, says, rule)


def _bands(result: LatentResult) -> Finding:
    question = "Does each latent frequency land at its own frequency in the image?"
    rule = (
        f"share of the response within an octave; good: {OCTAVE_SHARE[0]:g} and more; poor: below {OCTAVE_SHARE[1]:g}, "
        f"or within {OVER_BLIND:g} of a decoder that cannot tell frequencies apart"
    )
    bands = result.bands
    if bands is None or not math.isfinite(bands.octave):
        return Finding(question, "–", "unknown", "", rule)
    value = f"{pm(bands.octave, bands.octave_error)} (blind {bands.blind:.2f})"
    if bands.octave - bands.blind < OVER_BLIND:
        return Finding(question, value, "poor", "the decoder hardly tells the latent's frequencies apart", rule)
    rating = _rated(-bands.octave, (-OCTAVE_SHARE[0], -OCTAVE_SHARE[1]), strict=True)
    how = {"good": "keeps", "fair": "only partly keeps", "poor": "does not keep"}[rating]
    return Finding(question, value, rating, f"the decoder {how} frequency to frequency", rule)


def _low_pass(result: LatentResult) -> Finding:
    question = "Does a low-passed latent decode to the low-passed image?"
    rule = (
        f"loss against low-passing the decoded image, mean of the corners {', '.join(map(str, CORNERS_JUDGED))}; good: "
        f"below {DROP[0]:g} dB; poor: {DROP[1]:g} dB and more"
    )
    drop = judged_drop(result)
    if drop is None:
        return Finding(question, "–", "unknown", "", rule)
    rating = _rated(drop.mean, DROP)
    how = {"good": "are decoded to low-passed images", "fair": "are decoded to low-passed images only roughly"}
    how["poor"] = "are not decoded to low-passed images"
    says = f"low-passed latents {how[rating]} (loss {_minus(drop.mean, 1)} dB)"
    return Finding(question, f"{pm(drop.mean, drop.error, 1)} dB", rating, says, rule)


def _scaled(result: LatentResult) -> Finding:
    question = "Does a latent at half the size decode to the image at half the size?"
    rule = f"loss against halving the decoded image; good: below {DROP[0]:g} dB; poor: {DROP[1]:g} dB and more"
    drop = result.means.get(f"{HALVED}.drop")
    if drop is None:
        return Finding(question, "–", "unknown", "", rule)
    rating = _rated(drop.mean, DROP)
    how = {"good": "follow", "fair": "only roughly follow", "poor": "do not follow"}[rating]
    says = f"decoded images {how} the latent's scale (loss {_minus(drop.mean, 1)} dB)"
    return Finding(question, f"{pm(drop.mean, drop.error, 1)} dB", rating, says, rule)


def _reconstruction(result: LatentResult) -> str:
    psnr = result.means["psnr"].mean
    return f"It reconstructs at {psnr:.1f} dB PSNR" + (" (exactly)." if psnr >= 119 else ".")


def _compared(a: LatentResult, b: LatentResult) -> list[tuple[str, Estimate, Estimate, bool, int]]:
    """(name, first, second, whether more is better, digits) of what both have."""
    pairs = [
        ("reconstruction, PSNR in dB", a.means["psnr"], b.means["psnr"], True, 2),
        ("ESM divergence at δ = 1", a.means["esm.1"], b.means["esm.1"], False, 4),
        ("loss of low-passed latents, dB", judged_drop(a), judged_drop(b), False, 1),
        ("loss of halved latents, dB", a.means.get(f"{HALVED}.drop"), b.means.get(f"{HALVED}.drop"), False, 1),
    ]
    found = [(what, x, y, up, digits) for what, x, y, up, digits in pairs if x is not None and y is not None]
    if a.bands is not None and b.bands is not None:
        x, y = (Estimate(bands.octave, bands.octave_error, bands.count) for bands in (a.bands, b.bands))
        found.insert(2, ("response within an octave", x, y, True, 2))
    return found


def _rated(value: float, limits: tuple[float, float], *, strict: bool = False) -> Rating:
    good, poor = limits
    if value < good or (strict and value == good):
        return "good"
    return "fair" if value < poor or (strict and value == poor) else "poor"


def _known(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _minus(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def _count(poor: int, asked: int) -> str:
    words = ("no", "one", "two", "three", "four", "five")
    return f"{words[poor]} of {words[asked]} measures" if poor > 1 else f"one of {words[asked]} measures"


def _join(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
