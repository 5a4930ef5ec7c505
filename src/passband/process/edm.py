"""EDM's variance-exploding process."""

import math
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from passband._checks import check_choice, check_number
from passband._numerics import compute_dtype
from passband.process.base import Field, Level, Prediction, Process, Time, check_count, fields


class EDM(Process):
    r"""EDM's variance-exploding process, $x = x_0 + \sigma\, \varepsilon$, with time = noise level.

    With prediction `edm` (default) the network is the raw F of the preconditioned denoiser
    $D = c_{skip} x + c_{out} F(c_{in} x, c_{noise})$, and a plain mean squared error on F is EDM's weighted loss.

    Args:
        prediction: `edm` (default), `sample` (a whole denoiser D), `epsilon`, ...
        sigma_data: standard deviation of the data.
        sigma_min: smallest noise level of samplers' grids.
        sigma_max: largest noise level of samplers' grids.
        p_mean: mean of ln sigma in training.
        p_std: standard deviation of ln sigma in training.
        time: what t is: the noise level `sigma`, or `c_noise` = ln(sigma) / 4 (diffusers' EDM timesteps).

    Raises:
        TypeError: if one of the numbers is none.
        ValueError: if the prediction or time is unknown, unless 0 < sigma_min < sigma_max, or if sigma_data or p_std is
            not above 0, or any of them not finite.

    Example:
        >>> import torch
        >>> from passband import EDM
        >>> EDM().level(torch.tensor(3.0)).sigma.item()
        3.0

    Source: Karras et al. 2022 (arXiv:2206.00364), Table 1 and Eq. 7.
    """

    def __init__(
        self,
        prediction: Prediction = "edm",
        *,
        sigma_data: float = 0.5,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        p_mean: float = -1.2,
        p_std: float = 1.2,
        time: Literal["sigma", "c_noise"] = "sigma",
    ) -> None:
        super().__init__(prediction, sigma_data)
        check_choice("time", time, ("sigma", "c_noise"))
        numbers = {"sigma_min": sigma_min, "sigma_max": sigma_max, "p_mean": p_mean, "p_std": p_std}
        for name, value in numbers.items():
            check_number(name, value)
        if not 0 < sigma_min < sigma_max < math.inf:
            raise ValueError(f"expected 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}")
        if not 0 < p_std < math.inf:
            raise ValueError(f"p_std must be positive, got {p_std}")
        if not math.isfinite(p_mean):
            raise ValueError(f"p_mean must be finite, got {p_mean}")
        self.sigma_min, self.sigma_max = sigma_min, sigma_max
        self.p_mean, self.p_std = p_mean, p_std
        self.time = time

    @property
    def clean_time(self) -> float:  # type: ignore[override]
        """Where sigma = 0."""
        return 0.0 if self.time == "sigma" else -math.inf

    @property
    def noise_time(self) -> float:  # type: ignore[override]
        """Where sigma = sigma_max."""
        return self.sigma_max if self.time == "sigma" else math.log(self.sigma_max) / 4

    @property
    def time_range(self) -> tuple[float, float]:
        """Without an upper bound: sigma_max limits samplers' grids, not the process."""
        return self.clean_time, math.inf

    def level(self, t: Float[Tensor, "*times"]) -> Level:
        """1 and the noise level."""
        sigma = t if self.time == "sigma" else (4 * t).exp()
        return Level(torch.ones_like(sigma), sigma)

    def slope(self, t: Float[Tensor, "*times"]) -> Level:
        """0, and 1 or (for c_noise) 4 sigma."""
        sigma = self.level(t).sigma
        return Level(torch.zeros_like(sigma), torch.ones_like(sigma) if self.time == "sigma" else 4 * sigma)

    def time_at(self, noise_ratio: Float[Tensor, "*times"]) -> Float[Tensor, "*times"]:
        """The ratio is the noise level."""
        return noise_ratio if self.time == "sigma" else noise_ratio.log() / 4

    def sample_times(
        self, count: int, *, generator: torch.Generator | None = None, device: torch.device | str | None = None
    ) -> Shaped[Tensor, " count"]:
        r"""$\ln \sigma \sim N(p_{mean}, p_{std}^2)$."""
        check_count(count)
        log_sigma = torch.randn(count, generator=generator, device=device) * self.p_std + self.p_mean
        return self.time_at(log_sigma.exp())

    def scale_input(self, noisy: Field, t: Time) -> Field:
        r"""$c_{in} x = x / \sqrt{\sigma^2 + \sigma_d^2}$ for the preconditioned network, else x itself."""
        (noisy,) = fields(noisy=noisy)
        sigma = self.level(self._time(t, noisy)).sigma
        if not self.prediction.startswith("edm"):
            return noisy
        return noisy / self._input_norm(sigma)

    def model_time(self, t: Time) -> Tensor:
        r"""$c_{noise} = \ln(\sigma) / 4$."""
        return self._noise_label(self.level(self._floating_time(t)).sigma)

    def own_time(self, model_time: Time) -> Tensor:
        r"""From $c_{noise}$: the inverse of `model_time`.

        Args:
            model_time: $c_{noise}$, a number or a tensor of any shape.

        Returns:
            Times in the process's own unit, of the same shape, in float32 (float64 for a number and float64 times).

        """
        label = torch.as_tensor(model_time, dtype=None if isinstance(model_time, Tensor) else torch.float64)
        return self.time_at(self._labelled_level(label.to(compute_dtype(label))))

    # What the older preconditionings replace.

    def _input_norm(self, sigma: Tensor) -> Tensor:
        """1 / c_in."""
        return torch.hypot(sigma, torch.full_like(sigma, self.sigma_data))

    def _noise_label(self, sigma: Tensor) -> Tensor:
        """c_noise."""
        return sigma.log() / 4

    def _labelled_level(self, label: Tensor) -> Tensor:
        """The noise level of a c_noise."""
        return (4 * label).exp()

    def _range_hint(self) -> str:
        return " (the noise level sigma, not a timestep index)" if self.time == "sigma" else ""
