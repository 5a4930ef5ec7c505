"""From where a denoiser is wrong to what might mend it: rules, each with the numbers that it follows from."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor

from passband.metrics import DenoiserSpectrum, GradientShare, PowerLawResult
from passband.regularization import Description

#: Of the base loss's gradient, that a suggested term has at the levels where the model is wrong. On the demo's
#: checkerboards a tenth did nothing, and about this much did the most.
_SHARE = 0.3
#: A loss is suggested if at least this many times the base loss's share of its gradient lies where the model is wrong.
_STRONGER = 1.2
#: Of the losses that come this near to the best one, the first is taken: the simplest stands first.
_AS_GOOD = 0.95
#: The term is switched off beyond the levels where the model is wrong if it pulls this many times harder there.
_RUNAWAY = 3.0
#: Of the base loss's gradient, from which on a term is said to outweigh it.
_OUTWEIGHS = 1.0
#: Where the Wiener filter leaves this share of the data's power, there is next to nothing but noise to see.
_DROWNED = 0.9
#: Spectral Forcing has been seen to hurt on data whose power falls slower than this.
_FLAT = 1.5
#: A term that acts at less than this share of the training's steps mends nothing.
_SELDOM = 0.01
_SOFTNESS = 0.25
_WHOLE = 9.95

_WORDS = {
    "amplitude": "the Fourier amplitude loss",
    "amplitude_phase": "the amplitude and phase loss",
    "wavelet": "the wavelet loss",
    "focal_frequency": "the focal frequency loss",
    "pixel": "the pixel loss",
    "stft": "the short-time amplitude loss",
}
#: Losses that look at amplitudes alone, and cannot tell where a thing is.
_BLIND = ("amplitude", "stft")


@dataclass(frozen=True)
class Suggestion:
    """What might mend a denoiser: a starting point, to be judged by training with it and measuring again.

    Attributes:
        loss: name of the loss; None: none is suggested.
        weight: lambda; None without a loss.
        gate: largest noise ratio at which the term counts; None without a gate.
        front: Spectral Forcing's front as a recipe names it; None without.
        recipe: the lines of a recipe, YAML; empty where nothing is suggested.
        sentences: what each part of the suggestion follows from: `found`, `loss`, `weight`, `gate`, `front`, `next`.

    """

    loss: str | None = None
    weight: float | None = None
    gate: float | None = None
    front: dict[str, Any] | None = None
    recipe: str = ""
    sentences: dict[str, str] = field(default_factory=dict)


class _Weighed(NamedTuple):
    """A loss beside the base loss: how much of each goes where the model is wrong, and how hard it pulls."""

    name: str
    share: float  # of its gradient over a whole training, on the cells that are wrong
    base: float  # the same of the base loss
    pull: Tensor  # norm of the term's gradient over the base loss's, for the weight 1, (levels,)
    there: float  # its geometric mean over the levels where the model is wrong


def suggest(
    result: DenoiserSpectrum,
    law: PowerLawResult | str,
    *,
    losses: Mapping[str, Description],
    visits: Sequence[float],
    prediction: str = "epsilon",
) -> Suggestion:
    """Suggest a loss, its weight, a gate and a front, each with the sentence that explains it.

    The loss is the one that puts the largest part of its gradient where the model is wrong, if that is more than the
    base loss puts there. Its weight makes its gradient a share of the base loss's at the noise levels in question; a
    gate cuts it off above them, if it would pull much harder there. A front is suggested only where the model invents
    what noise hides.

    Args:
        result: what was measured, with the gradients of `base` and of the losses.
        law: the power law of the data, or why there is none.
        losses: the losses to choose from, in plain values by the names of their gradients.
        visits: how often training looks at each noise level, shares that sum to 1.
        prediction: what the network predicts.

    Returns:
        The suggestion; without a loss and front where nothing is wrong, or nothing of this library promises to mend it.

    """
    wrong = result.wrong
    if result.same:
        found = (
            "Nothing to mend: at no noise level and in no band is the error above the Wiener filter's, or the power of "
            f"the estimate wrong, by more than chance ({result.count} samples)."
        )
        return Suggestion(sentences={"found": found, "loss": "No spectral term is suggested."})
    sentences = {"found": describe_found(result)}
    chosen = _chosen(result, wrong, losses, torch.tensor(visits, dtype=torch.float64), sentences)
    weight = gate = None
    if chosen is not None:
        weight = _rounded(_SHARE / chosen.there)
        sentences["weight"] = _weight_sentence(result, wrong, chosen, weight)
        gate = _gate(result, wrong, chosen, weight, prediction, sentences)
    front = _front(result, law, sentences)
    recipe = _recipe(None if chosen is None else losses[chosen.name], weight, gate, front)
    if recipe:
        sentences["next"] = (
            "This is a starting point that follows from gradients and errors, not from a training: train with and "
            "without it on the same seeds, and compare the two with passband diagnose --against."
        )
    return Suggestion(None if chosen is None else chosen.name, weight, gate, front, recipe, sentences)


def describe_found(result: DenoiserSpectrum) -> str:
    """Where the model is wrong, in one to three sentences."""
    power, error = result.calibration.difference, result.excess.difference
    parts = [
        _where(result, result.smooth, power.neg(), "less power than it shares with the data: it is too smooth"),
        _where(result, result.rough, power, "more power than it shares with the data: it shows what is not there"),
        _where(result, result.under & ~result.smooth & ~result.rough, error, "more error than a linear filter's"),
    ]
    return " ".join(part for part in parts if part)


def _where(result: DenoiserSpectrum, cells: Tensor, size: Tensor, what: str) -> str:
    """The extent of some cells, and the worst of them."""
    count = int(cells.sum())
    if not count:
        return ""
    worst = torch.where(cells & size.isfinite(), size, -math.inf)
    level, band = divmod(int(worst.argmax()), len(result.bands))
    most = f"{float(size[level, band]):.1f} dB"
    there = f"at noise ratio {result.excess.labels[0][level]} {_band(result.excess.labels[1][band])}"
    if count == 1:
        return f"In one cell, {there}, the estimate has {most} {what}."
    rows, columns = (cells.any(axis).nonzero().flatten().tolist() for axis in (1, 0))
    low, high = (result.excess.labels[0][row] for row in (rows[0], rows[-1]))
    levels = f"noise ratios {low} to {high}" if len(rows) > 1 else f"noise ratio {low}"
    return (
        f"In {count} of {cells.numel()} cells ({levels}; {_span(result, columns)}) the estimate has up to {most} "
        f"{what} (most {there})."
    )


def _span(result: DenoiserSpectrum, columns: Sequence[int]) -> str:
    """The frequencies between the lowest and the highest of some bands."""
    labels = result.excess.labels[1]
    if len(columns) == 1:
        return _band(labels[columns[0]])
    ends = result.bands[columns[0]][0], result.bands[columns[-1]][1]
    low, high = (f"1/{round(1 / end, 1):g}" if end else "the mean" for end in ends)
    return f"from {low} to " + (
        "the corners of the plane" if labels[columns[-1]] == "corners" else f"{high} cycles per pixel"
    )


def _band(label: str) -> str:
    named = {"corners": "in the corners of the plane", "mean": "in the mean (brightness)"}
    return named.get(label, f"at {label} cycles per pixel")


def _chosen(
    result: DenoiserSpectrum,
    wrong: Tensor,
    losses: Mapping[str, Description],
    visits: Tensor,
    sentences: dict[str, str],
) -> _Weighed | None:
    """The loss that pulls most where the model is wrong; None where none pulls more than the base loss."""
    looked = float(visits[wrong.any(1)].sum())
    if looked < _SELDOM:
        sentences["loss"] = (
            f"No spectral term is suggested: training spends {_percent(looked)} of its steps at the noise levels where "
            "the model is wrong, and a term could act in no others. Times that are drawn there more often would."
        )
        return None
    base = result.gradients.get("base")
    measured = [] if base is None else [name for name in losses if name in result.gradients]
    weighed = [_weigh(result.gradients[name], base, wrong, visits) for name in measured if base is not None]
    usable = [one for one in weighed if math.isfinite(one.share) and 0 < one.there < math.inf]
    position = bool((result.under & ~result.smooth & ~result.rough).any())
    blind = [one.name for one in usable if _kind(losses[one.name]) in _BLIND] if position else []
    usable = [one for one in usable if one.name not in blind]
    if not usable:
        sentences["loss"] = "No spectral term is suggested: no gradients were measured at the levels in question."
        return None
    most = max(one.share for one in usable)
    best = next(one for one in usable if one.share >= _AS_GOOD * most)
    numbers = "; ".join(f"{_word(losses[one.name])} {_percent(one.share)}" for one in usable)
    left = (
        " A loss of amplitudes alone is left out: some of the errors are in cells whose power is right, and it sees "
        "nothing else."
        if blind
        else ""
    )
    if best.share < _STRONGER * best.base:
        sentences["loss"] = (
            f"No spectral term is suggested: the base loss already spends {_percent(best.base)} of its gradient on "
            f"these cells, and none of the others spends much more ({numbers}).{left} Longer training, a larger "
            "network or another prediction are more likely to help."
        )
        return None
    sentences["loss"] = (
        f"Over a training, {_word(losses[best.name])} spends {_percent(best.share)} of its gradient on the cells that "
        f"are wrong, the base loss {_percent(best.base)} (all that were tried: {numbers}).{left}"
    )
    return best


def _weigh(term: GradientShare, base: GradientShare, wrong: Tensor, visits: Tensor) -> _Weighed:
    pull, rows = term.norm / base.norm, wrong.any(1)
    there = float(pull[rows].log().mean().exp())
    return _Weighed(term.name, _within(term, wrong, visits), _within(base, wrong, visits), pull, there)


def _within(loss: GradientShare, wrong: Tensor, visits: Tensor) -> float:
    """Share of the whole training's squared gradient in some cells."""
    power = visits[:, None] * loss.norm.square()[:, None] * loss.share.nan_to_num(0)
    return float(power[wrong].sum() / power.sum())


def _weight_sentence(result: DenoiserSpectrum, wrong: Tensor, chosen: _Weighed, weight: float) -> str:
    rows, names = wrong.any(1).nonzero().flatten().tolist(), result.excess.labels[0]
    shares = {row: weight * float(chosen.pull[row]) for row in rows}
    least, most = min(rows, key=lambda row: shares[row]), max(rows, key=lambda row: shares[row])
    spread = (
        f" ({_multiple(shares[least])} at noise ratio {names[least]}, {_multiple(shares[most])} at {names[most]})"
        if len(rows) > 1
        else ""
    )
    taken = (
        " It outweighs the base loss where that is more than 1, so clip gradients (optimizer.clip_norm)."
        if len(rows) > 1 and shares[most] > _OUTWEIGHS
        else ""
    )
    return (
        f"With λ = {weight:g} the term's gradient is {_SHARE:g} times the base loss's on average over the levels where "
        f"the model is wrong{spread}.{taken} Try a third and three times as much too."
    )


def _gate(
    result: DenoiserSpectrum,
    wrong: Tensor,
    chosen: _Weighed,
    weight: float,
    prediction: str,
    sentences: dict[str, str],
) -> float | None:
    last = int(wrong.any(1).nonzero().max())
    highest = result.excess.labels[0][last]
    if last == len(result.ratios) - 1:
        sentences["gate"] = (
            f"No gate: the model is wrong up to the highest noise ratio that was looked at, {highest}."
            f"{_fallback(result, chosen, weight)}"
        )
        return None
    beyond = float(chosen.pull[last + 1 :].nan_to_num(0).max())
    if beyond < _RUNAWAY * chosen.there:
        sentences["gate"] = (
            "No gate: above the noise levels in question the term pulls at most "
            f"{beyond / chosen.there:.1f} times as hard, against the base loss, as at them."
        )
        return None
    gate = _rounded(math.sqrt(result.ratios[last] * result.ratios[last + 1]))
    epsilon = ", as an ε-prediction's clean estimate carries its error times the noise ratio"
    why = epsilon if prediction == "epsilon" else ""
    sentences["gate"] = (
        f"A gate at noise ratio {gate:g}: beyond {highest} nothing is wrong, and there the term would pull up to"
        f" {beyond / chosen.there:.0f} times as hard, against the base loss, as where it is needed{why}."
    )
    return gate


def _fallback(result: DenoiserSpectrum, chosen: _Weighed, weight: float) -> str:
    """A gate below which the term does not outweigh the base loss, for a training that becomes unsteady."""
    outweighs = (weight * chosen.pull.nan_to_num(0) > _OUTWEIGHS).tolist()
    if outweighs != sorted(outweighs) or outweighs[0] or not outweighs[-1]:
        return ""
    first = outweighs.index(True)
    gate = _rounded(math.sqrt(result.ratios[first - 1] * result.ratios[first]))
    return (
        f" Should the training become unsteady, a gate at {gate:g} keeps the term to where the base loss outweighs it."
    )


def _cut(result: DenoiserSpectrum) -> Tensor:
    """Cells that a low-pass can take without loss: noise hides this band and all above it. The mean always passes."""
    hidden = (result.wiener > _DROWNED).flip(1).cumprod(1).flip(1).bool()
    above_mean: Tensor = hidden & torch.tensor([high > 0 for _, high in result.bands])
    return above_mean


def _front(result: DenoiserSpectrum, law: PowerLawResult | str, sentences: dict[str, str]) -> dict[str, Any] | None:
    """A front where the model invents what noise hides."""
    drowned = (result.under | result.rough) & _cut(result)
    if isinstance(law, str) or law.front is None:
        why = law if isinstance(law, str) else "the data's power does not fall with frequency"
        sentences["front"] = f"No front can be given: {why.rstrip('.')}."
        return None
    if not bool(drowned.any()):
        sentences["front"] = (
            "No Spectral Forcing: the model is not wrong where noise hides the data at a frequency and at all above "
            "it, which is what a low-pass on its input could keep from it."
        )
        return None
    cells = f"{int(drowned.sum())} cell{'s' * (int(drowned.sum()) > 1)}"
    if law.beta < _FLAT:
        sentences["front"] = (
            f"No Spectral Forcing, though the model invents what noise hides in {cells}: the data's "
            f"power falls only as frequency^−{law.beta:.1f}, and on such data it has been seen to hurt."
        )
        return None
    sentences["front"] = (
        f"In {cells} the model adds error where noise hides the data (a Wiener filter leaves more "
        f"than {100 * _DROWNED:.0f} % there). Spectral Forcing takes these frequencies from its input; this front is "
        f"the contour of your own data, power as frequency^−{law.beta:.2f}. A network has to be trained with it, and "
        "it has helped transformers with coarse patches alone so far."
    )
    return {
        "name": "contour",
        "beta": round(law.beta, 3),
        "k1": round(law.k1, 3),
        "size": law.size[0] if len(set(law.size)) == 1 else list(law.size),
    }


def _recipe(loss: Description | None, weight: float | None, gate: float | None, front: dict[str, Any] | None) -> str:
    """The lines of a recipe."""
    lines: dict[str, Any] = {}
    if loss is not None:
        term: dict[str, Any] = {"losses": _terms(loss), "weight": weight}
        lines["regularizer"] = term | ({} if gate is None else {"gate": {"max_ratio": gate, "softness": _SOFTNESS}})
    if front is not None:
        lines["forcing"] = {"front": front}
    return str(yaml.safe_dump(lines, sort_keys=False, default_flow_style=None)) if lines else ""


def _terms(loss: Description) -> list[dict[str, Any]]:
    if isinstance(loss, str):
        return [{"name": loss}]
    return [dict(loss)] if isinstance(loss, Mapping) else [dict(one) for one in loss]


def _kind(loss: Description) -> str:
    terms = _terms(loss)
    return str(terms[0]["name"]) if len(terms) == 1 else "sum"


def _word(loss: Description) -> str:
    return _WORDS.get(_kind(loss), " + ".join(str(term["name"]) for term in _terms(loss)))


def _multiple(share: float) -> str:
    """A share as a multiple: 0.002, 0.3, 35."""
    return f"{share:.0f}" if share >= _WHOLE else f"{share:.1g}" if share < 1 else f"{share:.2g}"


def _percent(share: float) -> str:
    if share == 0:
        return "none"
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.1f} %" if percent >= 0.1 else "less than 0.1 %"


def _rounded(value: float) -> float:
    """To two significant digits."""
    return float(f"{value:.2g}")
