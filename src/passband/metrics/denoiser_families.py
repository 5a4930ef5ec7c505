"""What a denoiser is judged by, as ratios of summed powers: the error's, and that of the estimate's power."""

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from passband.metrics.contrast import Contrast, Family, decide

#: Differences below this are not called, dB.
LEAST_DECIBELS = 0.1
#: The power of an estimate is judged where it, or that of the Wiener filter's, is at least this share of the data's:
#: below, there is next to none.
LEAST_ESTIMATE = 0.01
#: The calibration ends at 20 dB either way: an estimate is taken to share at least this much of its own power with the
#: data, and to hold at least this much of what it shares.
LEAST_COMMON = 0.01
#: What an estimate shares with the data is taken to be at least this much of what the Wiener filter's does: one that
#: holds far less is too smooth, whatever of it is shared.
_LEAST_LINEAR = 1e-3
EXCESS, CALIBRATION, AGAINST = "excess over Wiener", "power of the estimate", "error against"
KINDS = 5  # of sums per level: error, the filter's, power, power in common, and the control
_DECIBELS = 20 / math.log(10)  # of one neper
_AXES = ("noise ratio", "band")

Labels = tuple[tuple[str, ...], ...]


class Sums(NamedTuple):
    """Mean sums per band: power (..., bands), the others (..., levels, bands)."""

    power: Tensor
    error: Tensor
    wiener: Tensor
    estimate: Tensor
    common: Tensor
    control: Tensor  # what the noise does to the surplus of the filter's estimate over what it shares; 0 on average


class _Pair(NamedTuple):
    """Two powers, of which the ratio is judged."""

    value: Tensor
    reference: Tensor

    @property
    def balance(self) -> Tensor:
        """(value - reference) / (value + reference), in -1 to 1; NaN where either is not above 0."""
        value, reference = self
        return torch.where((value > 0) & (reference > 0), (value - reference) / (value + reference), torch.nan)


def split_sums(means: Float64[Tensor, "*lead values"], levels: int, floor: Float64[Tensor, " bands"]) -> Sums:
    """The means of the samples' vectors by kind; the floor is added to the power and to the errors."""
    bands = len(floor)
    error, wiener, *others = torch.unflatten(means[..., bands:], -1, (levels, KINDS, bands)).unbind(-2)
    return Sums(means[..., :bands] + floor, error + floor, wiener + floor, *others)


def excess_family(sums: Sums, drawn: Sums, labels: Labels, least: float) -> Family:
    """The network's error over the Wiener filter's.

    Args:
        sums: of all samples.
        drawn: of the bootstrap's replicates.
        labels: of levels and bands.
        least: the smallest excess worth calling, dB.

    """
    pair, drawn_pair = (_Pair(x.error, x.wiener) for x in (sums, drawn))
    return _family(EXCESS, labels, least, sums.error / sums.power, sums.wiener / sums.power, pair, drawn_pair)


def calibration_family(sums: Sums, drawn: Sums, labels: Labels, unclear: Tensor) -> Family:
    """The power of the estimate over what it shares with the data.

    Args:
        sums: of all samples.
        drawn: of the bootstrap's replicates.
        labels: of levels and bands.
        unclear: bands without power, of which nothing is said.

    """
    common = _controlled(sums, drawn)
    hardly = torch.maximum(sums.estimate, _linear(sums)) < LEAST_ESTIMATE * sums.power
    pair, drawn_pair = (
        _Pair(*(part.masked_fill(unclear | hardly, torch.nan) for part in calibrated(x.estimate, shared, _linear(x))))
        for x, shared in zip((sums, drawn), common, strict=True)
    )
    value, reference = sums.estimate / sums.power, common[0] / sums.power
    return _family(CALIBRATION, labels, LEAST_DECIBELS, value, reference, pair, drawn_pair)


def against_family(first: tuple[Sums, Sums], second: tuple[Sums, Sums], labels: Labels) -> Family:
    """The error of a second network over that of the first: of each its sums, and those of the replicates."""
    value, reference = (one[0].error / one[0].power for one in (second, first))
    pair, drawn = (_Pair(after.error, before.error) for before, after in zip(first, second, strict=True))
    return _family(AGAINST, labels, LEAST_DECIBELS, value, reference, pair, drawn)


def calibrated(estimate: Tensor, common: Tensor, linear: Tensor) -> tuple[Tensor, Tensor]:
    """The two powers whose ratio is the calibration, neither below a hundredth of the other.

    Args:
        estimate: power of the estimate.
        common: what it shares with the data; not above 0 for an estimate that is all invented.
        linear: what the Wiener filter's estimate shares with them, beside which one may be next to nothing.

    """
    reference = torch.maximum(common, torch.maximum(LEAST_COMMON * estimate, _LEAST_LINEAR * linear))
    return torch.maximum(estimate, LEAST_COMMON * reference), reference


def decide_decibels(families: list[Family], groups: float) -> list[Contrast]:
    r"""Decide families of balances together, and give their differences in decibels.

    Of a balance $u = (a - b) / (a + b)$ the ratio is $20 \log_{10}(e)\,\mathrm{artanh}(u)$ dB. The two are told from 0
    alike where $a \approx b$. Where a exceeds b many times, u is near 1 however far b itself is uncertain, and a is
    told from b although nobody can say by how many decibels: the interval's far end is a long way off then.

    Args:
        families: of balances.
        groups: how many independent observations there are.

    """
    return [_in_decibels(contrast) for contrast in decide(families, groups=groups).contrasts.values()]


def _family(
    name: str, labels: Labels, least: float, value: Tensor, reference: Tensor, pair: _Pair, drawn: _Pair
) -> Family:
    limit = math.tanh(least / _DECIBELS)
    return Family(name, "", _AXES, labels, limit, reference, value, pair.balance, drawn.balance)


def _in_decibels(contrast: Contrast) -> Contrast:
    """A contrast of balances in decibels; the error is to first order."""
    u = contrast.difference
    difference, low, high = (_DECIBELS * end.clamp(-1, 1).atanh() for end in (u, contrast.low, contrast.high))
    error = _DECIBELS * contrast.error / (1 - u.square())
    least = _DECIBELS * math.atanh(contrast.least)
    return replace(contrast, unit="dB", least=least, difference=difference, error=error, low=low, high=high)


def _linear(sums: Sums) -> Tensor:
    """What the Wiener filter's estimate shares with the data."""
    return sums.power[..., None, :] - sums.wiener


def _controlled(sums: Sums, drawn: Sums) -> tuple[Tensor, Tensor]:
    """What the estimates share with the data, and its replicates, less the work of chance that can be told.

    The control variate is what the noise adds to the filter's own surplus, of which the mean is known to be 0.
    """
    surplus, control = (drawn.estimate - drawn.common).nan_to_num(0), drawn.control.nan_to_num(0)
    spread = control - control.mean(0)
    beta = ((surplus - surplus.mean(0)) * spread).sum(0) / spread.square().sum(0).clamp_min(1e-300)
    return sums.common + beta * sums.control, drawn.common + beta * drawn.control
