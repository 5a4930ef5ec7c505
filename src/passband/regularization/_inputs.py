"""What all losses share: their checks, and means over a half spectrum."""

import math
from collections.abc import Sequence

from torch import Tensor

from passband._checks import check_batch, check_same_shape
from passband._numerics import upcast
from passband.transforms import half_weights


def checked_pair(estimate: Tensor, clean: Tensor) -> tuple[Tensor, ...]:
    """Check two fields of one shape and bring them to their compute dtype."""
    check_batch("estimate", estimate)
    check_batch("clean", clean)
    check_same_shape("estimate", estimate, "clean", clean)
    return upcast(estimate, clean)


def spectrum_mean(half: Tensor, size: Sequence[int]) -> Tensor:
    """Mean over channels and all frequencies, (batch,), of a quantity on the half spectrum of a field of that size."""
    weights = half_weights(size, half.dtype, half.device)
    return (half * weights).flatten(1).sum(1) / (half.shape[1] * math.prod(size))
