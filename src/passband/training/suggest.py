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
from passband.training.suggest_front import suggest_front
from passband.training.suggest_words import (
    describe_found,
    described_terms,
    loss_name,
    multiple,
    percent,
    sees_phases,
)

#: Of the base loss's gradient, that a suggested term has at the levels where the model is wrong. On the demo's
#: checkerboards a tenth did nothing, and about this much did the most; so it did on a flow (docs/diagnose.md).
_SHARE = 0.3
#: A loss is suggested if at least this many times the base loss's share of its gradient lies where the model is wrong.
_STRONGER = 1.2
#: Of the losses that come this near to the best one, the first is taken: the simplest stands first.
_AS_GOOD = 0.95
#: The term is switched off beyond the levels where the model is wrong if it pulls this many times harder there.
_RUNAWAY = 3.0
#: Of the base loss's gradient, from which on a term is said to outweigh it.
_OUTWEIGHS = 1.0
#: A term that acts at less than this share of the training's steps mends nothing.
_SELDOM = 0.01
_SOFTNESS = 0.25


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
    pull: Tensor  # norm of its gradient over the base loss's for the weight 1, (levels,); NaN where nothing pulls
    levels: Tensor  # those where the model is wrong and training looks, (levels,)
    there: float  # geometric mean of the pull over these; NaN without any


def suggest(
    result: DenoiserSpectrum,
    law: PowerLawResult | str,
    *,
    losses: Mapping[str, Description],
    visits: Sequence[float],
    prediction: str = "epsilon",
    kind: str | None = None,
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
        visits: how often training looks at each noise level, as shares of its steps.
        prediction: what the network predicts.
        kind: what the samples are: `images`, `latents` or `signals`; None: signals if they have one axis, else images.

    Returns:
        The suggestion; without a loss and front where nothing is wrong, or nothing of this library promises to mend it.

    """
    wrong, kind = result.wrong, kind or ("signals" if len(result.size) == 1 else "images")
    if result.same:
        found = (
            "Nothing to mend: at no noise level and in no band is the error above the Wiener filter's, or the power of "
            f"the estimate wrong, by more than chance ({result.count} samples)."
        )
        return Suggestion(sentences={"found": found, "loss": "No spectral term is suggested."})
    sentences, drawn = {"found": describe_found(result, kind)}, torch.tensor(visits, dtype=torch.float64)
    chosen = _chosen(result, wrong, losses, drawn, sentences)
    weight = gate = None
    if chosen is not None:
        weight = _rounded(_SHARE / chosen.there)
        gate, why = _gate(result, wrong, chosen, weight, prediction)
        sentences |= {
            "weight": _weight_sentence(result, chosen, weight, _overall(result, chosen, drawn, gate)),
            "gate": why,
        }
    front = None
    if kind != "signals":  # Spectral Forcing is for images and latents
        front, sentences["front"] = suggest_front(result, law)
    recipe = _recipe(None if chosen is None else losses[chosen.name], weight, gate, front)
    if recipe:
        sentences["next"] = (
            "This is a starting point that follows from gradients and errors, not from a training: train with and "
            "without it on the same seeds, and compare the two with passband diagnose --against."
        )
    if chosen is not None and any(name != "base" and name not in losses for name in result.gradients):
        sentences["next"] += " The model was trained with a spectral term already; these lines take its place."
    return Suggestion(None if chosen is None else chosen.name, weight, gate, front, recipe, sentences)


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
            f"No spectral term is suggested: training spends {percent(looked)} of its steps at the noise levels where "
            "the model is wrong, and a term could act in no others. Times that are drawn there more often would."
        )
        return None
    base = result.gradients.get("base")
    measured = [] if base is None else [name for name in losses if name in result.gradients]
    weighed = [_weigh(result.gradients[name], base, wrong, visits) for name in measured if base is not None]
    pulling = [one for one in weighed if math.isfinite(one.share) and math.isfinite(one.there)]
    blind = [one.name for one in pulling if not sees_phases(losses[one.name])] if _unexplained(result) else []
    usable = [one for one in pulling if one.name not in blind]
    if not usable:
        sentences["loss"] = f"No spectral term is suggested: {_why_none(bool(measured), bool(blind))}."
        return None
    most = max(one.share for one in usable)
    best = next(one for one in usable if one.share >= _AS_GOOD * most)
    numbers = "; ".join(f"{loss_name(losses[one.name])} {percent(one.share)}" for one in usable)
    left = (
        " A loss of amplitudes alone is left out: some of the errors are in cells whose power is not called wrong, and "
        "it sees nothing but power."
        if blind
        else ""
    )
    if not best.share > _STRONGER * best.base:
        sentences["loss"] = (
            f"No spectral term is suggested: the base loss already spends {percent(best.base)} of its gradient on "
            f"these cells, and none of the others spends much more ({numbers}).{left} Longer training, a larger "
            "network or another prediction are more likely to help."
        )
        return None
    sentences["loss"] = (
        f"Over a training, {loss_name(losses[best.name])} spends {percent(best.share)} of its gradient on the cells "
        f"that are wrong, the base loss {percent(best.base)} (all that were tried: {numbers}).{left}"
    )
    return best


def _unexplained(result: DenoiserSpectrum) -> bool:
    """Whether there are errors that the power does not tell of: it is right, or too little to be judged."""
    return bool((result.under & ~result.smooth & ~result.rough).any())


def _why_none(measured: bool, blind: bool) -> str:
    if blind:
        return (
            "those that were tried look at amplitudes alone, and some of the errors are in cells whose power is not "
            "called wrong"
        )
    if measured:
        return "at the levels in question the gradients vanish or are not finite"
    return "no gradients were measured at the levels in question"


def _weigh(term: GradientShare, base: GradientShare, wrong: Tensor, visits: Tensor) -> _Weighed:
    pull = term.norm / base.norm
    pull = pull.where((visits > 0) & pull.isfinite() & (pull > 0), torch.nan)
    levels = wrong.any(1) & pull.isfinite()
    often = levels & (visits >= _SELDOM)
    levels = often if bool(often.any()) else levels
    there = float(pull[levels].log().mean().exp())
    return _Weighed(term.name, _within(term, wrong, visits), _within(base, wrong, visits), pull, levels, there)


def _within(loss: GradientShare, wrong: Tensor, visits: Tensor) -> float:
    """Share of the whole training's squared gradient in some cells."""
    power = visits[:, None] * loss.norm.square()[:, None] * loss.share.nan_to_num(0)
    return float(power[wrong].sum() / power.sum())


def _overall(result: DenoiserSpectrum, chosen: _Weighed, visits: Tensor, gate: float | None) -> float:
    """Norm of the term's gradient over the base loss's for the weight 1, in root mean square over a whole training."""
    acts = torch.tensor([gate is None or ratio <= gate for ratio in result.ratios])
    term, base = (result.gradients[name].norm.square() * visits for name in (chosen.name, "base"))
    return float((term[acts].sum() / base.sum()).sqrt())


def _weight_sentence(result: DenoiserSpectrum, chosen: _Weighed, weight: float, overall: float) -> str:
    rows, names = chosen.levels.nonzero().flatten().tolist(), result.excess.labels[0]
    shares = {row: weight * float(chosen.pull[row]) for row in rows}
    least, most = min(rows, key=lambda row: shares[row]), max(rows, key=lambda row: shares[row])
    spread = (
        f" ({multiple(shares[least])} at noise ratio {names[least]}, {multiple(shares[most])} at {names[most]})"
        if len(rows) > 1
        else ""
    )
    taken = (
        " It outweighs the base loss where that is more than 1, so leave the clipping of gradients on "
        "(optimizer.clip_norm)."
        if shares[most] > _OUTWEIGHS
        else ""
    )
    return (
        f"With λ = {weight:g} the term's gradient is {_SHARE:g} times the base loss's on average (geometric) over the "
        f"noise levels where the model is wrong{spread}, and {multiple(weight * overall)} times in root mean square "
        f"over a whole training.{taken} Try a third and three times as much too."
    )


def _gate(
    result: DenoiserSpectrum, wrong: Tensor, chosen: _Weighed, weight: float, prediction: str
) -> tuple[float | None, str]:
    """The largest noise ratio at which the term should count, None for no gate; and why."""
    last = int(wrong.any(1).nonzero().max())
    highest = result.excess.labels[0][last]
    if last == len(result.ratios) - 1:
        return None, (
            f"No gate: the model is wrong up to the highest noise ratio that was looked at, {highest}."
            f"{_fallback(result, chosen, weight)}"
        )
    beyond = float(chosen.pull[last + 1 :].nan_to_num(0).max())
    if not beyond:
        return None, f"No gate: beyond noise ratio {highest} the term pulls at nothing that training draws."
    if beyond < _RUNAWAY * chosen.there:
        return None, (
            "No gate: above the noise levels in question the term pulls at most "
            f"{beyond / chosen.there:.1f} times as hard, against the base loss, as at them."
        )
    gate = _rounded(math.sqrt(result.ratios[last] * result.ratios[last + 1]))
    epsilon = ", as an ε-prediction's clean estimate carries its error times the noise ratio"
    why = epsilon if prediction == "epsilon" else ""
    return gate, (
        f"A gate at noise ratio {gate:g}: beyond {highest} nothing is called wrong, and there the term would pull up to"
        f" {beyond / chosen.there:.0f} times as hard, against the base loss, as where it is needed{why}."
    )


def _fallback(result: DenoiserSpectrum, chosen: _Weighed, weight: float) -> str:
    """A gate below which the term does not outweigh the base loss, for a training that becomes unsteady."""
    felt = chosen.pull.isfinite().nonzero().flatten().tolist()
    outweighs = [weight * float(chosen.pull[level]) > _OUTWEIGHS for level in felt]
    if outweighs != sorted(outweighs) or outweighs[0] or not outweighs[-1]:
        return ""
    first = outweighs.index(True)
    gate = _rounded(math.sqrt(result.ratios[felt[first - 1]] * result.ratios[felt[first]]))
    return (
        f" Should the training become unsteady, a gate at {gate:g} keeps the term to where the base loss outweighs it."
    )


def _recipe(loss: Description | None, weight: float | None, gate: float | None, front: dict[str, Any] | None) -> str:
    """The lines of a recipe."""
    lines: dict[str, Any] = {}
    if loss is not None:
        term: dict[str, Any] = {"losses": described_terms(loss), "weight": weight}
        lines["regularizer"] = term | ({} if gate is None else {"gate": {"max_ratio": gate, "softness": _SOFTNESS}})
    if front is not None:
        lines["forcing"] = {"front": front}
    return str(yaml.safe_dump(lines, sort_keys=False, default_flow_style=None)) if lines else ""


def _rounded(value: float) -> float:
    """To two significant digits."""
    return float(f"{value:.2g}")
