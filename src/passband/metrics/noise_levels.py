"""The noise levels at which a denoiser is looked at."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from passband._checks import check_number
from passband.process import Process

_NEAR = 0.015


@dataclass(frozen=True)
class NoiseLevel:
    """A noise level of a process.

    Attributes:
        ratio: sigma / alpha.
        time: the process's own time at which it has it.
        whole: whether the process's times are whole numbers.

    """

    ratio: float
    time: float
    whole: bool

    def t(self, device: torch.device | str | None = None) -> Tensor:
        """The time as the process takes it."""
        return torch.tensor(round(self.time) if self.whole else self.time, device=device)


def noise_levels(process: Process, ratios: Sequence[float]) -> list[NoiseLevel]:
    """The levels of a process nearest to some noise ratios: where its times are whole numbers, at these.

    Args:
        process: the process.
        ratios: sigma / alpha, above 0.

    Returns:
        The levels, rising, each once.

    Raises:
        TypeError: if a ratio is no number.
        ValueError: if there is none, or one is beyond the process's range.

    Example:
        >>> from passband import VP
        >>> from passband.metrics import noise_levels
        >>> [(level.time, round(level.ratio, 3)) for level in noise_levels(VP(), [0.1, 1.0])]
        [(26.0, 0.099), (258.0, 1.0)]

    """
    for ratio in ratios:
        check_number("each noise ratio", ratio)
    lowest, highest = noise_range(process)
    outside = [ratio for ratio in ratios if not lowest * 0.99 <= ratio <= highest * 1.01]
    if outside or not ratios:
        raise ValueError(
            f"the noise ratios of {process!r} lie between {lowest:.3g} and {highest:.3g}, got "
            f"{', '.join(f'{ratio:.3g}' for ratio in outside) or 'none'}: choose levels in between"
        )
    whole, (low, high) = whole_times(process), _trained(process)
    times = process.time_at(torch.tensor([*ratios], dtype=torch.float64)).clamp(low, high)
    times = times.round() if whole else times
    found = zip(process.noise_ratio(times).tolist(), times.tolist(), strict=True)
    levels = {ratio: NoiseLevel(ratio, time, whole) for ratio, time in found if 0 < ratio < math.inf}
    return [levels[ratio] for ratio in sorted(levels)]


def noise_range(process: Process) -> tuple[float, float]:
    """The smallest and the largest noise ratio of a process; 0 and infinity are none that a network is asked at."""
    ends = sorted(float(process.noise_ratio(time)) for time in _trained(process))
    return max(ends[0], 1e-6), min(ends[1], 1e6)


def whole_times(process: Process) -> bool:
    """Whether the process's times are whole numbers."""
    return not process.sample_times(1, generator=torch.Generator()).is_floating_point()


def _trained(process: Process) -> tuple[float, float]:
    """The ends of the times that a network is trained at; of whole ones, the clean end is not one."""
    low, high = process.time_range
    return (low + 1, high) if whole_times(process) and process.clean_time == low else (low, high)


def level_name(ratio: float) -> str:
    """A noise ratio, short: 0.099, which whole numbers of a process's time make of 0.1, is called 0.1.

    Example:
        >>> from passband.metrics.noise_levels import level_name
        >>> level_name(0.0316), level_name(0.0993), level_name(1.0), level_name(157.4)
        ('0.032', '0.1', '1', '160')

    """
    short = float(f"{ratio:.1g}")
    return f"{short if abs(ratio / short - 1) < _NEAR else float(f'{ratio:.2g}'):g}"
