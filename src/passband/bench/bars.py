"""What is promised: the least ratios and the most bytes."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["goal", "met", "missed"]


@dataclass(frozen=True)
class Bar:
    """A bound of one number, and the goal beyond it.

    Attributes:
        of: `ratio`, the time over that of the item's first arm; or `kept`, bytes over the prediction's.
        bar: the bound.
        goal: beyond it, if there is one.
        most: the number must not be above it; without, not below.
        on: `cpu` for a bar of one thread of a CPU; everywhere without.

    Example:
        >>> from passband.bench import Bar
        >>> Bar("ratio", 2.6, 3.5).verdict(3.0), Bar("kept", 1.0, most=True).verdict(1.2)
        ('met', 'missed')

    """

    of: Literal["ratio", "kept"]
    bar: float
    goal: float | None = None
    most: bool = False
    on: Literal["", "cpu"] = ""

    def applies(self, device: str, threads: int) -> bool:
        """Whether it is promised on a device of that type, with so many threads of PyTorch."""
        return not self.on or (device == "cpu" and threads == 1)

    def verdict(self, value: float) -> Verdict:
        """Of a measured number."""
        if not self._holds(value, self.bar):
            return "missed"
        return "met" if self.goal is None or not self._holds(value, self.goal) else "goal"

    def _holds(self, value: float, bound: float) -> bool:
        return value <= bound if self.most else value >= bound


KEPT = Bar("kept", 1.0, most=True)
KEPT_HAAR = Bar("kept", 1.0, 0.25, most=True)
KEPT_LOW_PASS = Bar("kept", 0.01, most=True)
NOT_SLOWER = Bar("ratio", 1.0)


def _alone(bar: float, goal: float, most: bool = False) -> Bar:
    """Of times, on one thread of a CPU."""
    return Bar("ratio", bar, goal, most, on="cpu")


STEP_SHARE = _alone(0.008, 0.004, most=True)

AMPLITUDE = _alone(2.6, 3.5)
AMPLITUDE_1D = _alone(2.4, 3.5)
AMPLITUDE_FOCAL = _alone(3.5, 6.0)
PHASE = _alone(5.0, 7.0)
PHASE_1D = _alone(4.0, 7.0)
HAAR = {64: _alone(6.3, 8.0), 128: _alone(4.8, 8.0), 256: _alone(4.5, 8.0)}
BIOR = _alone(2.9, 4.0)
LOW_PASS = {64: _alone(7.0, 8.0), 256: _alone(3.5, 5.0), 512: _alone(2.9, 5.0)}
