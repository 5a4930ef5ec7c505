r"""The older VP and VE preconditionings, as EDM writes them: $D = c_{skip}\, x + c_{out}\, F(c_{in}\, x, c_{noise})$.

With $S = \sqrt{\sigma^2 + \sigma_d^2}$:

| | `VPPreconditioned` | `VEPreconditioned` | [`EDM`][passband.process.EDM] |
|---|---|---|---|
| $c_{skip}$ | 1 | 1 | $\sigma_d^2 / S^2$ |
| $c_{out}$ | $-\sigma$ | $\sigma$ | $\sigma \sigma_d / S$ |
| $c_{in}$ | $1 / \sqrt{\sigma^2 + 1}$ | 1 | $1 / S$ |
| $c_{noise}$ | $(M - 1)\, \sigma^{-1}(\sigma)$ | $\ln(\sigma / 2)$ | $\ln(\sigma) / 4$ |
| F is trained to be | $\varepsilon$ | $-\varepsilon$ | $(\sigma x_0 / \sigma_d - \sigma_d\, \varepsilon) / S$ |
| training's $\sigma$ | $\sigma(t)$, t uniform on $[\epsilon_t, 1]$ | $\ln \sigma$ uniform | $\ln \sigma$ normal |
| loss weight on D | $1 / \sigma^2$ | $1 / \sigma^2$ | $S^2 / (\sigma \sigma_d)^2$ |

In all three the plain mean squared error on F is the column's own weighted loss on D.

Source: Karras et al. 2022 (arXiv:2206.00364), Table 1, after Song et al. 2021 (arXiv:2011.13456).
"""

import math
from abc import abstractmethod

import torch
from jaxtyping import Shaped
from torch import Tensor

from passband._checks import check_integer, check_number
from passband.process.base import Prediction, PredictionMix, check_count
from passband.process.edm import EDM


class _NoisePreconditioned(EDM):
    """c_skip = 1 and c_out = ±sigma: the network F is the unit noise up to its sign."""

    #: F over the unit noise, where the prediction is `edm`.
    _sign: float

    def _mix(self, t: Tensor) -> PredictionMix:
        if not self.prediction.startswith("edm"):
            return super()._mix(t)
        sign = -self._sign if self.prediction == "edm_negated" else self._sign
        return PredictionMix(torch.zeros_like(t), torch.full_like(t, sign))

    def sample_times(
        self, count: int, *, generator: torch.Generator | None = None, device: torch.device | str | None = None
    ) -> Shaped[Tensor, " count"]:
        """See the table's row of training's sigma."""
        check_count(count)
        return self._quantile(torch.rand(count, generator=generator, device=device))

    @abstractmethod
    def _quantile(self, share: Tensor) -> Tensor:
        """The noise level below which this share of training's noise levels lies."""


class VPPreconditioned(_NoisePreconditioned):
    r"""The VP preconditioning of the variance-exploding process: F predicts the noise, given a VP time.

    $c_{skip} = 1$, $c_{out} = -\sigma$, $c_{in} = 1 / \sqrt{\sigma^2 + 1}$, $c_{noise} = (M - 1)\, \sigma^{-1}(\sigma)$
    with $\sigma(t) = \sqrt{e^{\beta_d t^2 / 2 + \beta_{min} t} - 1}$. This is [`VP`][passband.process.VP] training in
    the coordinates $x / \alpha$: the time of this process is the noise level.

    Training draws $\sigma(t)$ for t uniform on $[\epsilon_t, 1]$; samplers' grids run from $\sigma(1)$ = 152 to
    $\sigma(\epsilon_t)$ = 0.001.

    Args:
        prediction: `edm` (default) for the network F; another for a network that predicts something else.
        beta_d: $\beta_d$, the rise of the noise rate over t = 0 ... 1, above 0.
        beta_min: $\beta_{min}$, the noise rate at t = 0, above 0.
        steps: M, the number of steps to which $c_{noise}$ is scaled, at least 2.
        epsilon_t: $\epsilon_t$, the smallest t of training, in (0, 1).
        sigma_data: standard deviation of the data, for weights.

    Raises:
        TypeError: if steps is no integer, or another argument no number.
        ValueError: if the prediction is unknown, or a number is out of range or not finite.

    Example:
        >>> from passband.process import VPPreconditioned
        >>> process = VPPreconditioned()
        >>> round(process.sigma_max), round(process.model_time(process.sigma_max).item())
        (152, 999)

    Source: Karras et al. 2022 (arXiv:2206.00364), Table 1, column VP, and Appendix C.1.
    """

    _sign = 1.0

    def __init__(
        self,
        prediction: Prediction = "edm",
        *,
        beta_d: float = 19.9,
        beta_min: float = 0.1,
        steps: int = 1000,
        epsilon_t: float = 1e-5,
        sigma_data: float = 0.5,
    ) -> None:
        for name, value in {"beta_d": beta_d, "beta_min": beta_min, "epsilon_t": epsilon_t}.items():
            check_number(name, value)
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive, got {value}")
        if epsilon_t >= 1:
            raise ValueError(f"epsilon_t is the smallest t of training, below 1; got {epsilon_t}")
        check_integer("steps", steps)
        if steps < 2:
            raise ValueError(f"steps is the number M of noise steps, at least 2; got {steps}")
        self.beta_d, self.beta_min, self.steps, self.epsilon_t = beta_d, beta_min, steps, epsilon_t
        smallest, largest = self._sigma_at(torch.tensor([epsilon_t, 1.0], dtype=torch.float64)).tolist()
        super().__init__(prediction, sigma_data=sigma_data, sigma_min=smallest, sigma_max=largest)

    def _sigma_at(self, time: Tensor) -> Tensor:
        return (time * (self.beta_d / 2 * time + self.beta_min)).expm1().sqrt()

    def _input_norm(self, sigma: Tensor) -> Tensor:
        return torch.hypot(sigma, torch.ones_like(sigma))

    def _noise_label(self, sigma: Tensor) -> Tensor:
        # The root of beta_d t^2 / 2 + beta_min t = ln(1 + sigma^2), in the form that does not cancel at small sigma.
        rate = 2 * sigma.square().log1p()
        return (self.steps - 1) * rate / ((self.beta_min**2 + self.beta_d * rate).sqrt() + self.beta_min)

    def _labelled_level(self, label: Tensor) -> Tensor:
        return self._sigma_at(label / (self.steps - 1))

    def _quantile(self, share: Tensor) -> Tensor:
        return self._sigma_at(self.epsilon_t + share * (1 - self.epsilon_t))


class VEPreconditioned(_NoisePreconditioned):
    r"""The VE preconditioning: F predicts the negative noise from the unscaled x.

    $c_{skip} = 1$, $c_{out} = \sigma$, $c_{in} = 1$, $c_{noise} = \ln(\sigma / 2)$. Training draws $\ln \sigma$
    uniformly from $\sigma_{min}$ to $\sigma_{max}$.

    Args:
        prediction: `edm` (default) for the network F; another for a network that predicts something else.
        sigma_min: smallest noise level of training and of samplers' grids.
        sigma_max: largest noise level of training and of samplers' grids.
        sigma_data: standard deviation of the data, for weights.

    Raises:
        TypeError: if a number is none.
        ValueError: if the prediction is unknown, unless 0 < sigma_min < sigma_max, or if sigma_data is not above 0.

    Example:
        >>> import torch
        >>> from passband.process import VEPreconditioned
        >>> process, noise = VEPreconditioned(), torch.full((1, 1, 4), 3.0)
        >>> process.target(torch.zeros(1, 1, 4), noise, 5.0).unique().item()  # minus the noise
        -3.0

    Source: Karras et al. 2022 (arXiv:2206.00364), Table 1, column VE, and Appendix C.2.
    """

    _sign = -1.0

    def __init__(
        self,
        prediction: Prediction = "edm",
        *,
        sigma_min: float = 0.02,
        sigma_max: float = 100.0,
        sigma_data: float = 0.5,
    ) -> None:
        super().__init__(prediction, sigma_data=sigma_data, sigma_min=sigma_min, sigma_max=sigma_max)

    def _input_norm(self, sigma: Tensor) -> Tensor:
        return torch.ones_like(sigma)

    def _noise_label(self, sigma: Tensor) -> Tensor:
        return (sigma / 2).log()

    def _labelled_level(self, label: Tensor) -> Tensor:
        return 2 * label.exp()

    def _quantile(self, share: Tensor) -> Tensor:
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** share
