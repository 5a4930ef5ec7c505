"""Gates: weights in [0, 1] that are functions of the noise ratio, so that they mean the same for every process."""

from collections.abc import Callable

import torch
from torch import Tensor

from passband._checks import check_number

Gate = Callable[[Tensor], Tensor]


class NoiseRatioGate:
    r"""1 up to a noise ratio, 0 beyond it, with an optional soft edge.

    $w(r) = \text{sigmoid}((\ln r_{max} - \ln r) / s)$, s the softness in units of ln r; s = 0: a step.

    An epsilon prediction's clean estimate carries the network's error times r, 157 at the last step of DDPM's schedule:
    there an ungated loss mostly sees noise.

    Args:
        max_ratio: noise ratio sigma / alpha of the edge, positive.
        softness: width of the edge in ln r, at least 0.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from passband.regularization import NoiseRatioGate
        >>> NoiseRatioGate(2.0)(torch.tensor([0.0, 2.0, 3.0])).tolist()
        [1.0, 1.0, 0.0]

    """

    def __init__(self, max_ratio: float, softness: float = 0.0) -> None:
        check_number("max_ratio", max_ratio)
        check_number("softness", softness)
        if not max_ratio > 0:
            raise ValueError(f"max_ratio is a noise ratio sigma / alpha and must be positive, got {max_ratio}")
        if not softness >= 0:
            raise ValueError(f"softness is a width in ln(sigma / alpha) and must be at least 0, got {softness}")
        self.max_ratio = max_ratio
        self.softness = softness

    def __call__(self, noise_ratio: Tensor) -> Tensor:
        """Return the weight at each noise ratio."""
        if self.softness == 0:
            return (noise_ratio <= self.max_ratio).to(noise_ratio.dtype)
        return torch.sigmoid(-(noise_ratio / self.max_ratio).log() / self.softness)

    def __repr__(self) -> str:
        return f"NoiseRatioGate(max_ratio={self.max_ratio}, softness={self.softness})"
