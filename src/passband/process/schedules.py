"""Noise schedules of VP processes."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from passband._checks import check_integer, check_number


def linear_alphas_cumprod(
    steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02
) -> Float[Tensor, " steps"]:
    """DDPM's schedule: the running product of 1 - beta for linear betas, in float64.

    Args:
        steps: number of noise levels, at least 1.
        beta_start: the first beta, in [0, 1).
        beta_end: the last, at least the first and below 1; DiffWave has 0.05 at 50 steps.

    Returns:
        (steps,), in float64.

    Raises:
        TypeError: if steps is no integer or a beta no number.
        ValueError: if one of them is out of range.

    Example:
        >>> from passband.process import linear_alphas_cumprod
        >>> round(linear_alphas_cumprod()[0].item(), 6)
        0.9999

    Source: Ho et al. 2020 (arXiv:2006.11239), section 4.
    """
    _check_schedule(steps, beta_start, beta_end)
    return (1 - torch.linspace(beta_start, beta_end, steps, dtype=torch.float64)).cumprod(0)


def cosine_alphas_cumprod(steps: int = 1000, offset: float = 0.008, max_beta: float = 0.999) -> Float[Tensor, " steps"]:
    r"""Improved DDPM's schedule, $\bar\alpha(u) = \cos^2(\frac{u + s}{1 + s} \frac{\pi}{2})$; betas at most max_beta.

    Source: Nichol & Dhariwal 2021 (arXiv:2102.09672), Eq. 17.
    """
    _check_schedule(steps, 0.0, max_beta)
    u = torch.arange(steps + 1, dtype=torch.float64) / steps
    curve = ((u + offset) / (1 + offset) * math.pi / 2).cos().square()
    return (curve[1:] / curve[:-1]).clamp(min=1 - max_beta).cumprod(0)


def _check_schedule(steps: int, beta_start: float, beta_end: float) -> None:
    check_integer("steps", steps)
    check_number("beta_start", beta_start)
    check_number("beta_end", beta_end)
    if steps < 1 or not 0 <= beta_start <= beta_end < 1:
        raise ValueError(
            f"a schedule needs steps >= 1 and 0 <= beta_start <= beta_end < 1, got {steps}, {beta_start} and {beta_end}"
        )


def falls(table: Float[Tensor, " steps"]) -> bool:
    """Whether each entry is below the one before; the last may be a trace above, as diffusers' zero-SNR 2**-24 is."""
    change = table.diff()
    return bool((change[:-1] < 0).all() and (change[-1:] < 1e-6).all() and (change != 0).all())
