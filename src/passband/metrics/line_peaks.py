"""Narrow lines in the plane of frequencies: power that one set has at single frequencies, and the other has not."""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from passband.metrics.plane_map import PlaneMap

#: Periods of what upsampling, patches and codecs leave.
PERIODS = (2, 3, 4, 8, 16)
LEAST_DB = 1.0
SMALLEST_SIDE = 16

_NEAR, _FAR = 3, 7  # neighbours that a line is measured against; a taper mixes two on each side
_DIRECTIONS = {1: ((1,),), 2: ((0, 1), (1, 0), (1, 1), (1, -1))}
_COMMONEST = 8  # longest period whose multiples are few enough to be looked at with less suspicion
_CHANCE = 0.005  # of one false line in a page, among common frequencies, and among all others
_ERRORS = 4.0  # how many standard errors over the groups of samples a line has to stand out
_OCTAVES = 3  # whose scatter is judged apart
_AT_ONCE = 2**14
_EMPTY = 1e-11  # share of the mean power that is added to both sides of a ratio


class Line(NamedTuple):
    """One frequency at which the fake set has more power than its surroundings suggest.

    Attributes:
        place: index of the frequency along each axis.
        height: of the fake set's power over that of the neighbours, dB.
        error: standard error of the difference between the sets' heights, dB.
        in_real: height of the real set's power, dB.

    """

    place: tuple[int, ...]
    height: float
    error: float
    in_real: float


def find_lines(real: PlaneMap, fake: PlaneMap, size: tuple[int, ...], plane: int = 0) -> list[Line]:
    r"""Frequencies at which the ratio of two mean spectra of a plane stands out, the highest first.

    The height of a frequency is that of the log ratio over its neighbours, 3 to 7 bins off along the axes and both
    diagonals: over the higher of the medians on both sides, so that a slope is no peak, and the smallest of the four
    directions, so that a ridge is none. (The height of one set's own power is over the mean of both medians, as all
    spectra fall.) It counts if the ratio and the fake set by itself stand out so far that chance makes one of all
    frequencies do so in 1 of 200 comparisons, judged by the scatter over the octave (median absolute deviation), and if
    that is no matter of single samples: both heights are at least 1 dB and more than 4 times their jackknife error over
    groups of samples.

    Args:
        real: mean power of the reference set.
        fake: mean power of the other set.
        size: spatial shape of the samples.
        plane: which of the planes; that one false line of 200 comparisons is shared among all there are.

    Returns:
        The lines that the fake set has; empty for samples of less than 16 positions.

    Example:
        >>> import torch
        >>> from passband.metrics.line_peaks import find_lines
        >>> from passband.metrics.plane_map import PlaneMap
        >>> from passband.transforms import rfftn
        >>> noise = torch.randn(2, 200, 1, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> noise[1, :, :, ::2, ::2] += 0.3  # every second row and column
        >>> real, fake = PlaneMap(), PlaneMap()
        >>> for plane, samples in zip((real, fake), noise):
        ...     plane.update(rfftn(samples).abs() ** 2, [str(i) for i in range(200)])
        >>> sorted(line.place for line in find_lines(real, fake, (32, 32)))
        [(0, 16), (16, 0), (16, 16)]

    """
    if min(size) < SMALLEST_SIDE:
        return []
    extra, chance = _EMPTY * float(real.mean(0).mean()), _CHANCE / real.planes
    maps = [_decibels(each.mean(plane), extra) for each in (real, fake)]
    places = _candidates(size)
    scan = [_heights(maps[1] - maps[0], places, size, strict=True), _heights(maps[1], places, size)]
    found = torch.stack([_outstanding(each, places, size, chance) for each in scan]).all(0)
    places, heights, in_fake = places[found], scan[0][found], scan[1][found]
    in_real = _heights(maps[0], places, size)
    error, own = _jackknife(real, fake, plane, places, size, extra)
    called = (heights > _ERRORS * error) & (in_fake > _ERRORS * own) & (torch.minimum(heights, in_fake) >= LEAST_DB)
    kept = _local_maxima(places[called], heights[called], size)
    columns = zip(places[called], in_fake[called], error[called], in_real[called], strict=True)
    lines = [
        Line(tuple(place.tolist()), float(height), float(spread), float(before))
        for keep, (place, height, spread, before) in zip(kept.tolist(), columns, strict=True)
        if keep
    ]
    return sorted(lines, key=lambda line: -line.height)


def common_frequency(index: int, side: int) -> tuple[int, int] | None:
    """The multiple m/p of a common period that an index along an axis stands for, as (m, p) in lowest terms.

    Example:
        >>> from passband.metrics.line_peaks import common_frequency
        >>> common_frequency(8, 64), common_frequency(48, 64), common_frequency(9, 64)
        ((1, 8), (1, 4), None)

    """
    index = min(index % side, side - index % side)
    for period in PERIODS:
        for multiple in range(period // 2 + 1):
            if round(side * multiple / period) == index:
                shared = math.gcd(multiple, period)
                return multiple // shared, period // shared
    return None


def _decibels(power: Tensor, extra: float) -> Tensor:
    return 10 * torch.log10(power + extra)


def _candidates(size: tuple[int, ...]) -> Int64[Tensor, "places axes"]:
    """Every frequency of the half spectrum once, without the lowest, whose neighbours are those on the other side."""
    sides = (*size[:-1], size[-1] // 2 + 1)
    places = torch.cartesian_prod(*(torch.arange(side) for side in sides)).reshape(-1, len(size))
    # Where the last index is its own mirror image, the other axis holds every frequency twice.
    own = (2 * places[:, -1]) % size[-1] == 0
    once = ~own | (2 * places[:, 0] <= size[0])
    return places[once & (signed_index(places, size).abs().amax(1) > _NEAR)]


def signed_index(places: Tensor, size: tuple[int, ...]) -> Int64[Tensor, "places axes"]:
    """Indices counted from -side / 2 on."""
    sides = torch.tensor(size)
    return torch.where(places > sides // 2, places - sides, places)


def _at(maps: Tensor, places: Tensor, size: tuple[int, ...]) -> Float[Tensor, "..."]:
    """Values of half spectra, (*lead, *half), at any frequencies, (..., axes): those beyond are mirror images."""
    places = places % torch.tensor(size)
    beyond = places[..., -1] > size[-1] // 2
    places = torch.where(beyond[..., None], -places % torch.tensor(size), places)
    flat, index = maps.flatten(maps.ndim - len(size)), places[..., 0]
    if len(size) == 2:
        index = index * maps.shape[-1] + places[..., 1]
    return flat[..., index]


def _heights(
    maps: Tensor, places: Tensor, size: tuple[int, ...], *, strict: bool = False
) -> Float64[Tensor, "*lead places"]:
    """Height of log maps over their neighbours, the smallest over the directions: over both sides, or the higher."""
    return torch.cat([_heights_of(maps, part, size, strict) for part in torch.split(places, _AT_ONCE)], -1)


def _heights_of(maps: Tensor, places: Tensor, size: tuple[int, ...], strict: bool) -> Tensor:
    steps = torch.arange(_NEAR, _FAR + 1)
    off = torch.tensor(_DIRECTIONS[len(size)])[:, None, None, :] * torch.stack([steps, -steps])[None, :, :, None]
    around = _at(maps, places[:, None, None, None, :] + off, size)  # (*lead, places, directions, 2 sides, steps)
    sides = around.median(-1).values
    return (_at(maps, places, size)[..., None] - (sides.amax(-1) if strict else sides.mean(-1))).amin(-1)


def _outstanding(heights: Tensor, places: Tensor, size: tuple[int, ...], chance: float) -> Tensor:
    """Which heights are more than the scatter within their octave makes of so many."""
    score, octave = torch.zeros_like(heights), _octave(places, size)
    for number in range(_OCTAVES):
        inside = octave == number
        if not inside.any():
            continue
        middle = heights[inside].median()
        scatter = 1.4826 * (heights[inside] - middle).abs().median()
        score[inside] = (heights[inside] - middle) / scatter.clamp_min(1e-12)
    common = torch.tensor([_is_common(place, size) for place in places.tolist()])
    needed = torch.where(common, _threshold(int(common.sum()), chance), _threshold(len(places), chance))
    return score > needed


def _is_common(place: Sequence[int], size: tuple[int, ...]) -> bool:
    found = [common_frequency(index, side) for index, side in zip(place, size, strict=True)]
    return all(multiple is not None and multiple[1] <= _COMMONEST for multiple in found)


def _threshold(count: int, chance: float) -> float:
    return NormalDist().inv_cdf(1 - chance / max(count, 1))


def _octave(places: Tensor, size: tuple[int, ...]) -> Int64[Tensor, " places"]:
    """0 for the top octave and the corners, 1, and 2 for all below."""
    radius = (signed_index(places, size) / torch.tensor(size)).square().sum(1).sqrt()
    return torch.floor(-torch.log2(2 * radius.clamp_min(1e-9))).clamp(0, _OCTAVES - 1).long()


def _jackknife(
    real: PlaneMap, fake: PlaneMap, plane: int, places: Tensor, size: tuple[int, ...], extra: float
) -> tuple[Tensor, Tensor]:
    """Standard errors, over the groups of samples, of heights of the ratio and of the fake set's own.

    Infinite with fewer than 3 groups in a set.
    """
    least = min(int((each.counts > 0).sum()) for each in (real, fake))
    if least < 3 or not len(places):
        none = torch.full((len(places),), torch.inf, dtype=torch.float64)
        return none, none
    filled = (real.counts > 0) | (fake.counts > 0)
    without = [_decibels(each.without(plane)[filled], extra) for each in (real, fake)]
    heights = _heights(without[1] - without[0], places, size, strict=True), _heights(without[1], places, size)
    ratio, own = (((least - 1) * each.var(0, correction=0)).sqrt() for each in heights)
    return ratio, own


def _local_maxima(places: Tensor, heights: Tensor, size: tuple[int, ...]) -> Tensor:
    """Which places have no higher one so near that it is the same line."""
    sides = torch.tensor(size)
    kept = torch.ones(len(places), dtype=torch.bool)
    for mirror in (1, -1):
        apart = (places[:, None] - mirror * places[None]) % sides
        near = torch.minimum(apart, sides - apart).amax(-1) < _NEAR
        kept &= ~(near & (heights[None] > heights[:, None])).any(1)
    return kept
