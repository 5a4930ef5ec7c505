"""What all losses share: their checks, and means over a half spectrum."""

import math
from collections.abc import Sequence

from torch import Tensor

from passband._checks import check_batch, check_same_shape
from passband.transforms import half_weights


def check_pair(estimate: Tensor, clean: Tensor) -> None:
    """Raise unless both are fields of one shape."""
    check_batch("estimate", estimate)
    check_batch("clean", clean)
    check_same_shape("estimate", estimate, "clean", clean)


def check_spectral_pair(estimate: Tensor, clean: Tensor) -> None:
    """The same, for a loss that takes FFTs, which need samples."""
    check_pair(estimate, clean)
    if clean.shape[0] == 0:
        raise ValueError(f"clean holds no samples: got shape {tuple(clean.shape)}; leave empty batches out")


def spectrum_mean(half: Tensor, size: Sequence[int]) -> Tensor:
    """Mean over channels and all frequencies, (batch,), of a quantity on the half spectrum of a field of that size."""
    weights = half_weights(size, half.dtype, half.device)
    return (half * weights).flatten(1).sum(1) / (half.shape[1] * math.prod(size))
