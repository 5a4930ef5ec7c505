"""From where a denoiser is wrong to what might mend it: rules, each with the numbers that it follows from."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import yaml

from passband.metrics import DenoiserSpectrum, PowerLawResult
from passband.regularization import Description
from passband.training.suggest_front import suggest_front
from passband.training.suggest_weight import OUTWEIGHS, SELDOM, Weighed, overall, rounded, weigh, weight_sentence
from passband.training.suggest_words import describe_found, described_terms, loss_name, percent, sees_phases

#: A loss is suggested if at least this many times the base loss's share of its gradient lies where the model is wrong.
_STRONGER = 1.2
#: Of the losses that come this near to the best one, the first is taken: the simplest stands first.
_AS_GOOD = 0.95
#: The term is switched off beyond the levels where the model is wrong if it pulls this many times harder there.
_RUNAWAY = 3.0
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
    kind = kind or ("signals" if len(result.size) == 1 else "images")
    if result.same:
        found = (
            "Nothing to mend: at no noise level and in no band is the error above the Wiener filter's, or the power of "
            f"the estimate wrong, by more than chance ({result.count} samples)."
        )
        return Suggestion(sentences={"found": found, "loss": "No spectral term is suggested."})
    sentences = {"found": describe_found(result, kind)}
    chosen = _chosen(result, losses, visits, sentences)
    weight = gate = None
    if chosen is not None:
        weight = chosen.weight
        gate, why = _gate(result, chosen, weight, prediction)
        sentences |= {
            "weight": weight_sentence(result, chosen, weight, overall(result, chosen.name, visits, gate)),
            "gate": why,
        }
    front = None
    if kind != "signals":  # Spectral Forcing is for images and latents
        front, sentences["front"] = suggest_front(result, law, prediction)
    recipe = _recipe(None if chosen is None else losses[chosen.name], weight, gate, front)
    if recipe:
        sentences["next"] = (
            "This is a starting point that follows from gradients and errors, not from a training: it may lower these "
            "errors and leave the samples as they are, or worse. Train with and without it on the same seeds, compare "
            "the two with passband diagnose --against, and their samples with passband compare."
        )
    if chosen is not None and any(name != "base" and name not in losses for name in result.gradients):
        sentences["next"] += " The model was trained with a spectral term already; these lines take its place."
    return Suggestion(None if chosen is None else chosen.name, weight, gate, front, recipe, sentences)


def _chosen(
    result: DenoiserSpectrum, losses: Mapping[str, Description], visits: Sequence[float], sentences: dict[str, str]
) -> Weighed | None:
    """The loss that pulls most where the model is wrong; None where none pulls more than the base loss."""
    looked = float(torch.tensor(visits, dtype=torch.float64)[result.wrong.any(1)].sum())
    if looked < SELDOM:
        sentences["loss"] = (
            f"No spectral term is suggested: training spends {percent(looked)} of its steps at the noise levels where "
            "the model is wrong, and a term could act in no others. Times that are drawn there more often would."
        )
        return None
    measured = [name for name in losses if name in result.gradients and "base" in result.gradients]
    weighed = [weigh(result, name, visits) for name in measured]
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


def _gate(result: DenoiserSpectrum, chosen: Weighed, weight: float, prediction: str) -> tuple[float | None, str]:
    """The largest noise ratio at which the term should count, None for no gate; and why."""
    last = int(result.wrong.any(1).nonzero().max())
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
    gate = rounded(math.sqrt(result.ratios[last] * result.ratios[last + 1]))
    epsilon = ", as an ε-prediction's clean estimate carries its error times the noise ratio"
    why = epsilon if prediction == "epsilon" else ""
    return gate, (
        f"A gate at noise ratio {gate:g}: beyond {highest} nothing is called wrong, and there the term would pull up to"
        f" {beyond / chosen.there:.0f} times as hard, against the base loss, as where it is needed{why}."
    )


def _fallback(result: DenoiserSpectrum, chosen: Weighed, weight: float) -> str:
    """A gate below which the term does not outweigh the base loss, for a training that becomes unsteady."""
    felt = chosen.pull.isfinite().nonzero().flatten().tolist()
    outweighs = [weight * float(chosen.pull[level]) > OUTWEIGHS for level in felt]
    if outweighs != sorted(outweighs) or outweighs[0] or not outweighs[-1]:
        return ""
    first = outweighs.index(True)
    gate = rounded(math.sqrt(result.ratios[felt[first - 1]] * result.ratios[felt[first]]))
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
