"""How strong a suggested term is: its gradient beside the base loss's, and the weight that makes it a share of that."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from passband.metrics import DenoiserSpectrum, GradientShare
from passband.training.suggest_words import multiple

#: Of the base loss's gradient, that a suggested term has at the levels where the model is wrong. On the demo's
#: checkerboards a tenth did nothing, and about this much did the most; a flow took more, too (docs/diagnose.md).
_SHARE = 0.3
#: Of the base loss's gradient, from which on a term is said to outweigh it.
OUTWEIGHS = 1.0
#: A term that acts at less than this share of the training's steps mends nothing.
SELDOM = 0.01


class Weighed(NamedTuple):
    """A loss beside the base loss: how much of each goes where the model is wrong, and how hard it pulls.

    Attributes:
        name: of its gradient.
        share: of its gradient over a whole training, on the cells that are wrong.
        base: the same of the base loss.
        pull: norm of its gradient over the base loss's for the weight 1, (levels,); NaN where nothing pulls.
        levels: those where the model is wrong and training looks, (levels,).
        there: geometric mean of the pull over these; NaN without any.

    """

    name: str
    share: float
    base: float
    pull: Tensor
    levels: Tensor
    there: float

    @property
    def weight(self) -> float:
        """Lambda, to two digits: it makes the gradient 0.3 times the base loss's where the model is wrong."""
        return rounded(_SHARE / self.there)


def weigh(result: DenoiserSpectrum, name: str, visits: Sequence[float]) -> Weighed:
    """Weigh a loss against the base loss.

    Args:
        result: what was measured, with the gradients of `base` and of the loss.
        name: of the loss's gradient.
        visits: how often training looks at each noise level, as shares of its steps.

    """
    term, base, drawn = result.gradients[name], result.gradients["base"], torch.tensor(visits, dtype=torch.float64)
    pull = term.norm / base.norm
    pull = pull.where((drawn > 0) & pull.isfinite() & (pull > 0), torch.nan)
    levels = result.wrong.any(1) & pull.isfinite()
    often = levels & (drawn >= SELDOM)
    levels = often if bool(often.any()) else levels
    there = float(pull[levels].log().mean().exp())
    return Weighed(name, _within(term, result.wrong, drawn), _within(base, result.wrong, drawn), pull, levels, there)


def _within(loss: GradientShare, wrong: Tensor, visits: Tensor) -> float:
    """Share of the whole training's squared gradient in some cells."""
    power = visits[:, None] * loss.norm.square()[:, None] * loss.share.nan_to_num(0)
    return float(power[wrong].sum() / power.sum())


def overall(result: DenoiserSpectrum, name: str, visits: Sequence[float], gate: float | None = None) -> float:
    """Norm of a loss's gradient over the base loss's for the weight 1, in root mean square over a whole training.

    Args:
        result: what was measured, with the gradients of `base` and of the loss.
        name: of the loss's gradient.
        visits: how often training looks at each noise level, as shares of its steps.
        gate: largest noise ratio at which the loss counts; None without a gate.

    """
    acts, drawn = [gate is None or ratio <= gate for ratio in result.ratios], torch.tensor(visits, dtype=torch.float64)
    term, base = (result.gradients[one].norm.square() * drawn for one in (name, "base"))
    return float((term[torch.tensor(acts)].sum() / base.sum()).sqrt())


def weight_sentence(result: DenoiserSpectrum, chosen: Weighed, weight: float, whole: float) -> str:
    """What a weight does.

    Args:
        result: what was measured.
        chosen: the loss.
        weight: its lambda.
        whole: norm of its gradient over the base loss's for the weight 1, over a whole training.

    """
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
        if shares[most] > OUTWEIGHS
        else ""
    )
    return (
        f"With λ = {weight:g} the term's gradient is {_SHARE:g} times the base loss's on average (geometric) over the "
        f"noise levels where the model is wrong{spread}, and {multiple(weight * whole)} times in root mean square "
        f"over a whole training.{taken} Try a third and three times as much too."
    )


def rounded(value: float) -> float:
    """A number to two significant digits.

    Example:
        >>> from passband.training.suggest_weight import rounded
        >>> rounded(0.01234), rounded(156.0)
        (0.012, 160.0)

    """
    return float(f"{value:.2g}")
