"""A process from the coefficients of a path that somebody else defines."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from passband._checks import check_choice
from passband.process.base import Level, Prediction, Process, check_count

Coefficients = Callable[[Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]
"""t -> ($\\alpha$, $\\sigma$, $\\alpha'$, $\\sigma'$), elementwise."""


class Interpolant(Process):
    r"""A stochastic interpolant between noise and data, $x_t = \alpha(t)\, x_0 + \sigma(t)\, \varepsilon$, t in [0, 1].

    For hosts that have paths of their own, such as the variance-preserving ones of SiT and REPA.

    Args:
        coefficients: a function t -> (alpha, sigma, and their derivatives in t) of tensors, elementwise, whose ratio
            sigma / alpha falls from the noisy end to the clean one.
        prediction: what the network's output is.
        data_at: the end of time at which the data lies.
        sigma_data: see [`Process`][passband.process.Process].

    Raises:
        TypeError: if coefficients is not a function.
        ValueError: if the prediction or data_at is unknown.

    Example:
        >>> import math, torch
        >>> from passband.process import Interpolant
        >>> def quarter(t):
        ...     angle = t * math.pi / 2
        ...     return angle.sin(), angle.cos(), math.pi / 2 * angle.cos(), -math.pi / 2 * angle.sin()
        >>> process = Interpolant(quarter, data_at=1)
        >>> round(process.noise_ratio(0.5).item(), 6), round(process.time_at(torch.tensor(1.0)).item(), 6)
        (1.0, 0.5)

    Source: Albergo et al. 2023 (arXiv:2303.08797); Ma et al. 2024 (SiT, arXiv:2401.08740), Section 2.
    """

    def __init__(
        self,
        coefficients: Coefficients,
        prediction: Prediction = "velocity",
        *,
        data_at: Literal[0, 1] = 1,
        sigma_data: float = 0.5,
    ) -> None:
        super().__init__(prediction, sigma_data)
        if not callable(coefficients):
            raise TypeError(f"coefficients must be a function t -> (alpha, sigma, slopes), got {coefficients!r}")
        check_choice("data_at", data_at, (0, 1))
        self.coefficients, self.data_at = coefficients, data_at
        self.clean_time, self.noise_time = float(data_at), float(1 - data_at)

    def level(self, t: Float[Tensor, "*times"]) -> Level:
        """The first two of the coefficients."""
        alpha, sigma, _, _ = self.coefficients(t)
        return Level(alpha, sigma)

    def slope(self, t: Float[Tensor, "*times"]) -> Level:
        """The last two of the coefficients."""
        _, _, alpha, sigma = self.coefficients(t)
        return Level(alpha, sigma)

    def time_at(self, noise_ratio: Float[Tensor, "*times"]) -> Float[Tensor, "*times"]:
        """By bisection between the two ends."""
        wanted = noise_ratio.double()
        clean, noisy = torch.full_like(wanted, self.clean_time), torch.full_like(wanted, self.noise_time)
        for _ in range(_HALVINGS):
            middle = (clean + noisy) / 2
            alpha, sigma = self.level(middle)
            below = sigma < wanted * alpha
            below |= wanted == math.inf
            clean, noisy = torch.where(below, middle, clean), torch.where(below, noisy, middle)
        return torch.where(wanted.isnan(), wanted, (clean + noisy) / 2).to(noise_ratio.dtype)

    def sample_times(
        self, count: int, *, generator: torch.Generator | None = None, device: torch.device | str | None = None
    ) -> Shaped[Tensor, " count"]:
        """Uniform in [0, 1)."""
        check_count(count)
        return torch.rand(count, generator=generator, device=device)


_HALVINGS = 52
