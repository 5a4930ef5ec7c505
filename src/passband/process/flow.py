"""Linear flow, in both directions of time."""

import math
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from passband._checks import check_choice, check_number, check_pair
from passband._numerics import upcast
from passband.process.base import Field, Level, Output, Prediction, Process, Time, check_count


class Flow(Process):
    r"""Linear flow (rectified flow, flow matching, stochastic interpolants), in both conventions.

    With $u = t / \text{time\_scale}$ in [0, 1]: `data_at=1` (JiT, SiT's own code): $\alpha = u$, $\sigma = 1 - u$;
    `data_at=0` (SD3, Flux, diffusers, REPA): $\alpha = 1 - u$, $\sigma = u$. The velocity is dx/du.

    Args:
        data_at: the end of time at which the data lies.
        prediction: `velocity` (default), `sample`, ...
        time_scale: length of the time axis; diffusers' flow timesteps run to 1,000.
        logit_normal: (mean, std) of logit(u) in training, e.g. (-0.8, 0.8) with data_at=1 for JiT; default: u uniform.
        velocity_floor: what a velocity is divided by at least where it follows from a clean estimate,
            $v = (\hat{x}_0 - x_t) / \max(1 - \tau, \text{floor})$, 0 to 1, in training (`loss_gain`) and in
            sampling alike; JiT has 0.05.
        hybrid: the network has two heads, a clean estimate and a velocity, of which the prediction (`velocity`) is
            $(1 - \tau)\, v_{\hat{x}_0} + \tau\, v$.
        noise_scale: standard deviation s of the noise at the noisy end, above 0: sigma is s times its unit line, and
            the flow time counts noise in this unit. JiT's networks for 512 pixels and up have 2.
        sigma_data: see [`Process`][passband.process.Process].

    Raises:
        TypeError: if time_scale, velocity_floor, noise_scale or sigma_data is no number, or logit_normal no pair of
            numbers.
        ValueError: if data_at or the prediction is unknown, time_scale, noise_scale or sigma_data is not above 0,
            logit_normal has a std that is not above 0, velocity_floor is not in [0, 1), or hybrid goes with another
            prediction.

    Example:
        >>> import torch
        >>> from passband import Flow
        >>> clean, noise = torch.zeros(1, 1, 4), torch.ones(1, 1, 4)
        >>> Flow(data_at=0).add_noise(clean, noise, 0.25).unique().tolist()
        [0.25]

    Source: Lipman et al. 2023 (arXiv:2210.02747), Example II; Esser et al. 2024 (arXiv:2403.03206) for logit-normal
    times; Li & He 2025 (JiT, arXiv:2511.13720) for the clean prediction with a velocity loss and its floor; Spectral
    Forcing (arXiv:2606.15236) for the hybrid head.
    """

    straight_in_time = True

    def __init__(
        self,
        data_at: Literal[0, 1],
        prediction: Prediction = "velocity",
        *,
        time_scale: float = 1.0,
        logit_normal: tuple[float, float] | None = None,
        velocity_floor: float = 0.0,
        hybrid: bool = False,
        noise_scale: float = 1.0,
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
        check_number("velocity_floor", velocity_floor)
        if not 0 <= velocity_floor < 1:
            raise ValueError(f"velocity_floor is a noise level of the flow, in [0, 1), got {velocity_floor}")
        check_number("noise_scale", noise_scale)
        if not 0 < noise_scale < math.inf:
            raise ValueError(f"noise_scale must be positive, got {noise_scale}")
        if hybrid and prediction != "velocity":
            raise ValueError(f"a hybrid head makes a velocity: set prediction to 'velocity', got {prediction!r}")
        self.data_at: Literal[0, 1] = data_at
        self.velocity_floor, self.hybrid, self.noise_scale = velocity_floor, hybrid, noise_scale
        self.heads = 2 if hybrid else 1
        self.time_scale = self.unit_time = time_scale
        self.logit_normal = logit_normal
        self.clean_time = data_at * time_scale
        self.noise_time = (1 - data_at) * time_scale

    def level(self, t: Float[Tensor, "*times"]) -> Level:
        """(u, 1 - u), or the reverse where data_at is 0, the second times the noise scale."""
        tau, distance = self._unit(t)
        return Level(tau, self.noise_scale * distance)

    def slope(self, t: Float[Tensor, "*times"]) -> Level:
        """In the unit time u, whatever the time scale."""
        one = torch.ones_like(t) if self.data_at == 1 else -torch.ones_like(t)
        return Level(one, -self.noise_scale * one)

    def time_at(self, noise_ratio: Float[Tensor, "*times"]) -> Float[Tensor, "*times"]:
        r"""$\tau = 1 / (1 + r / s)$."""
        tau = 1 / (1 + noise_ratio / self.noise_scale)
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

    def flow_time(self, t: Time) -> Tensor:
        r"""The share $\tau$ of the way to the data, u or 1 - u: the noise counts in units of its scale."""
        return self._unit(self._floating_time(t))[0]

    def loss_gain(self, t: Time, space: Prediction) -> Tensor:
        """As for any process, but an error in velocity is over at least the floor."""
        if space != "velocity" or self.prediction == "velocity":
            return super().loss_gain(t, space)
        _, distance = self._unit(self._floating_time(t))
        return -self._sign * self.residual_gain(t) / distance.clamp(min=self.velocity_floor)

    def read_output(self, noisy: Field, output: Output, t: Time) -> Field:
        r"""With a hybrid head: $(1 - \tau)\, v_{\hat{x}_0} + \tau\, v$, the clean estimate's channels first."""
        if not self.hybrid:
            return output
        noisy, output = upcast(noisy, output)
        estimate, velocity = output.chunk(2, dim=1)
        tau, distance = self._unit(self._time(t, noisy))
        by_estimate = self._sign * (estimate - noisy) / distance.clamp(min=self.velocity_floor)
        return (1 - tau) * by_estimate + tau * velocity

    def steered(self, noisy: Field, clean_estimate: Field, t: Time) -> Field:
        r"""$x_t + \min(1, (1 - \tau) / \text{floor})\, (\hat{x}_0 - x_t)$ unless the prediction is the velocity."""
        if self.velocity_floor == 0 or self.prediction == "velocity":
            return clean_estimate
        _, distance = self._unit(self._time(t, noisy))
        return noisy + (distance / self.velocity_floor).clamp(max=1) * (clean_estimate - noisy)

    @property
    def _sign(self) -> int:
        """Of the velocity, in the direction of the data."""
        return 1 if self.data_at == 1 else -1

    def _unit(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The flow time, and the distance to the data that is left: 1 minus it, without rounding."""
        u = t / self.time_scale
        return (u, 1 - u) if self.data_at == 1 else (1 - u, u)

    def _range_hint(self) -> str:
        if self.time_scale != 1:
            return ""
        return "; for timesteps that run to 1000, as diffusers' do, pass Flow(..., time_scale=1000)"
