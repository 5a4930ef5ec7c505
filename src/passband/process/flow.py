"""Linear flow, in both directions of time."""

import math
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from passband._checks import check_choice, check_number, check_pair
from passband.process.base import Level, Prediction, Process, check_count


class Flow(Process):
    r"""Linear flow (rectified flow, flow matching, stochastic interpolants), in both conventions.

    With $u = t / \text{time\_scale}$ in [0, 1]: `data_at=1` (JiT, SiT's own code): $\alpha = u$, $\sigma = 1 - u$;
    `data_at=0` (SD3, Flux, diffusers, REPA): $\alpha = 1 - u$, $\sigma = u$. The velocity is dx/du.

    Args:
        data_at: the end of time at which the data lies.
        prediction: `velocity` (default), `sample`, ...
        time_scale: length of the time axis; diffusers' flow timesteps run to 1,000.
        logit_normal: (mean, std) of logit(u) in training, e.g. (-0.8, 0.8) with data_at=1 for JiT; default: u uniform.
        sigma_data: see [`Process`][passband.process.Process].

    Raises:
        TypeError: if time_scale or sigma_data is no number, or logit_normal no pair of numbers.
        ValueError: if data_at or the prediction is unknown, time_scale or sigma_data is not above 0, or logit_normal
            has a std that is not above 0.

    Example:
        >>> import torch
        >>> from passband import Flow
        >>> clean, noise = torch.zeros(1, 1, 4), torch.ones(1, 1, 4)
        >>> Flow(data_at=0).add_noise(clean, noise, 0.25).unique().tolist()
        [0.25]

    Source: Lipman et al. 2023 (arXiv:2210.02747), Example II; Esser et al. 2024 (arXiv:2403.03206) for logit-normal
    times.
    """

    straight_in_time = True

    def __init__(
        self,
        data_at: Literal[0, 1],
        prediction: Prediction = "velocity",
        *,
        time_scale: float = 1.0,
        logit_normal: tuple[float, float] | None = None,
        sigma_data: float = 0.5,
    ) -> None:
        super().__init__(prediction, sigma_data)
        check_choice("data_at", data_at, (0, 1))
        check_number("time_scale", time_scale)
        if not 0 < time_scale < math.inf:
            raise ValueError(f"time_scale must be positive, got {time_scale}")
        if logit_normal is not None:
            check_pair("logit_normal", logit_normal)
            if not math.isfinite(logit_normal[0]) or not 0 < logit_normal[1] < math.inf:
                raise ValueError(f"logit_normal is (mean, std), both finite, with a positive std, got {logit_normal}")
        self.data_at: Literal[0, 1] = data_at
        self.time_scale = self.unit_time = time_scale
        self.logit_normal = logit_normal
        self.clean_time = data_at * time_scale
        self.noise_time = (1 - data_at) * time_scale

    def level(self, t: Float[Tensor, "*times"]) -> Level:
        """(u, 1 - u), or the reverse where data_at is 0."""
        u = t / self.time_scale
        return Level(u, 1 - u) if self.data_at == 1 else Level(1 - u, u)

    def slope(self, t: Float[Tensor, "*times"]) -> Level:
        """In the unit time u, whatever the time scale."""
        one = torch.ones_like(t)
        return Level(one, -one) if self.data_at == 1 else Level(-one, one)

    def time_at(self, noise_ratio: Float[Tensor, "*times"]) -> Float[Tensor, "*times"]:
        r"""$\tau = 1 / (1 + r)$."""
        tau = 1 / (1 + noise_ratio)
        return self.time_scale * (tau if self.data_at == 1 else 1 - tau)

    def sample_times(
        self, count: int, *, generator: torch.Generator | None = None, device: torch.device | str | None = None
    ) -> Shaped[Tensor, " count"]:
        """Uniform or logit-normal in u, times the time scale."""
        check_count(count)
        if self.logit_normal is None:
            return self.time_scale * torch.rand(count, generator=generator, device=device)
        mean, std = self.logit_normal
        normal = torch.randn(count, generator=generator, device=device)
        return self.time_scale * (mean + std * normal).sigmoid()

    def _range_hint(self) -> str:
        if self.time_scale != 1:
            return ""
        return "; for timesteps that run to 1000, as diffusers' do, pass Flow(..., time_scale=1000)"
