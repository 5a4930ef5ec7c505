"""The noise levels of a diagnosis: chosen by the data, reached by every process, and how often training draws them."""

import math
from collections.abc import Sequence

import torch

from passband.metrics import PixelBands, WienerFilter
from passband.metrics.noise_levels import noise_levels, noise_range, whole_times
from passband.process import Process

_LEAST_POWER = 1e-6  # of the strongest band's; noise levels are not chosen for bands below
_DRAWN = 1 << 15
_LEVELS = 14  # at most, of those that are chosen
_SAME_RATIO = 5e-4  # two noise ratios that differ by less are one
_NOISIEST = 64.0  # a sampler starts where there is nothing but noise, and keeps the mistakes that it makes there


def common_ratios(processes: Sequence[Process], ratios: Sequence[float]) -> tuple[float, ...]:
    """The noise ratios nearest to some that all processes have.

    Args:
        processes: one, or two that are compared on the same noisy samples; a process may have whole times alone.
        ratios: noise ratios that are asked for.

    Raises:
        ValueError: if a process does not reach one, or they have none in common.

    """
    found = tuple(ratios)
    for process in sorted(processes, key=whole_times, reverse=True):  # whole times have the fewest to choose from
        found = tuple(level.ratio for level in noise_levels(process, found))
    for process in processes:
        own = [level.ratio for level in noise_levels(process, found)]
        if len(own) != len(found) or any(abs(a / b - 1) > _SAME_RATIO for a, b in zip(own, found, strict=True)):
            raise ValueError(
                "the two models' processes have no noise ratios in common: at whole times they are "
                f"{', '.join(f'{ratio:.4g}' for ratio in own)} and {', '.join(f'{ratio:.4g}' for ratio in found)}; "
                "choose levels that both have, or diagnose each by itself"
            )
    return found


def default_ratios(process: Process, wiener: WienerFilter, *others: Process) -> tuple[float, ...]:
    """Noise ratios an octave apart, from half of where noise reaches the weakest band to near where sampling starts.

    Args:
        process: the process, whose range they lie in.
        wiener: the filter of the data, which knows their power.
        others: processes of other models, in whose range they lie too.

    """
    bands = PixelBands(wiener.size)
    power = bands.sums(wiener.psd.mean(0)) / bands.counts
    held = power[power > _LEAST_POWER * power.max()]
    if not len(held):
        raise ValueError("the data have no power: every value of every sample is 0; choose other data")
    ranges = [noise_range(one) for one in (process, *others)]
    lowest, highest = max(low for low, _ in ranges), min(high for _, high in ranges)
    first = math.floor(math.log2(float(held.min().sqrt()) / 2))
    last = math.ceil(math.log2(max(float(held.max().sqrt()) * 2, _NOISIEST)))
    octaves = [2.0**k for k in range(first, last + 1) if lowest <= 2.0**k <= highest]
    step = -(-len(octaves) // _LEVELS)
    chosen = octaves[::step]
    return tuple(chosen) if chosen else (min(max(1.0, lowest), highest),)


def visits(process: Process, ratios: Sequence[float]) -> list[float]:
    """How often training looks at each noise level: the share of its times that lie nearest to it.

    The first and the last level reach as far outwards as inwards, and a single one half an octave either way: what
    training sees further out says nothing of them, so the shares may sum to less than 1.

    Args:
        process: the process, which knows how times are drawn.
        ratios: noise ratios of the levels, smallest first.

    """
    times = process.sample_times(_DRAWN, generator=torch.Generator().manual_seed(0))
    drawn = process.noise_ratio(times).double().clamp(1e-9, 1e9).log()
    levels = torch.tensor(ratios, dtype=torch.float64).log()
    between = (levels[1:] + levels[:-1]) / 2
    half = (between - levels[:-1]).tolist() or [math.log(2) / 2]
    edges = torch.cat([levels[:1] - half[0], between, levels[-1:] + half[-1]])
    shares: list[float] = (torch.histogram(drawn, edges).hist / _DRAWN).tolist()
    return shares
