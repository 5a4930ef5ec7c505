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

    Example:
        >>> from passband.bench import Bar
        >>> Bar("ratio", 2.6, 3.5).verdict(3.0), Bar("kept", 1.0, most=True).verdict(1.2)
        ('met', 'missed')

    """

    of: Literal["ratio", "kept"]
    bar: float
    goal: float | None = None
    most: bool = False

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
STEP_SHARE = Bar("ratio", 0.008, 0.004, most=True)
NOT_SLOWER = Bar("ratio", 1.0)

AMPLITUDE = Bar("ratio", 2.6, 3.5)
AMPLITUDE_1D = Bar("ratio", 2.4, 3.5)
AMPLITUDE_FOCAL = Bar("ratio", 3.5, 6.0)
PHASE = Bar("ratio", 5.0, 7.0)
PHASE_1D = Bar("ratio", 4.0, 7.0)
HAAR = {64: Bar("ratio", 6.3, 8.0), 128: Bar("ratio", 4.8, 8.0), 256: Bar("ratio", 4.5, 8.0)}
BIOR = Bar("ratio", 2.9, 4.0)
LOW_PASS = {64: Bar("ratio", 7.0, 8.0), 256: Bar("ratio", 3.5, 5.0), 512: Bar("ratio", 2.9, 5.0)}
