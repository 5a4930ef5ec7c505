r"""One equation for every diffusion and flow process.

A process noises a clean sample as $x_t = \alpha(t)\, x_0 + \sigma(t)\, \varepsilon$, $\varepsilon \sim N(0, I)$, and
every network output is a linear combination $p = a\, x_0 + b\, \varepsilon$. One formula recovers the clean estimate
for all:

$$\hat{x}_0 = \frac{b\, x_t - \sigma\, p}{\alpha b - \sigma a}$$

A process object knows $\alpha$ and $\sigma$ and carries its prediction, which fixes $a$ and $b$. Times are per sample:
a number, or a tensor of one value or of (batch,) values (any shape with that many elements, so EDM's (batch, 1, 1, 1)
too).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from passband._checks import check_choice, check_floating, check_same_shape
from passband._numerics import compute_dtype, no_autocast, upcast

Prediction = Literal["epsilon", "sample", "v_prediction", "velocity", "edm", "edm_negated"]
Time = Shaped[Tensor, "..."] | float | int
Field = Float[Tensor, "batch *shape"]

_ROUNDING = 1e-5


class Level(NamedTuple):
    """The coefficients of x_t = alpha x0 + sigma eps at some times."""

    alpha: Tensor
    sigma: Tensor


class PredictionMix(NamedTuple):
    """The coefficients of the network's output p = a x0 + b eps at some times."""

    a: Tensor
    b: Tensor


class Process(ABC):
    """A noising process and what its network predicts. A new process is `level` and its inverse, `time_at`.

    Args:
        prediction: what the network's output is; a and b of each name are in the table of `docs/conventions.md`.
        sigma_data: standard deviation of the data, used by EDM's preconditioning and weights.

    """

    #: Time of the clean end, and the noisy time from which sampling starts.
    clean_time: float
    noise_time: float
    #: Whether alpha and sigma are straight lines in the process's own time, so that solvers integrate over it.
    straight_in_time: bool = False
    #: How much of the process's time is one unit of the time that `slope` differentiates by.
    unit_time: float = 1.0

    def __init__(self, prediction: Prediction, sigma_data: float = 0.5) -> None:
        check_choice("prediction", prediction, get_args(Prediction))
        if not sigma_data > 0:
            raise ValueError(f"sigma_data must be positive, got {sigma_data}")
        self.prediction: Prediction = prediction
        self.sigma_data = sigma_data

    def __repr__(self) -> str:
        settings = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if not k.startswith("_"))
        return f"{type(self).__name__}({settings})"

    @property
    def time_range(self) -> tuple[float, float]:
        """The smallest and the largest valid time."""
        return min(self.clean_time, self.noise_time), max(self.clean_time, self.noise_time)

    # What a process defines.

    @abstractmethod
    def level(self, t: Float[Tensor, "*times"]) -> Level:
        """Alpha and sigma at floating times, elementwise and without checks."""

    @abstractmethod
    def slope(self, t: Float[Tensor, "*times"]) -> Level:
        """Derivatives of alpha and sigma in the process's own time, elementwise."""

    @abstractmethod
    def time_at(self, noise_ratio: Float[Tensor, "*times"]) -> Float[Tensor, "*times"]:
        """The time at which sigma / alpha equals noise_ratio (infinity allowed where alpha reaches 0)."""

    @abstractmethod
    def sample_times(
        self, count: int, *, generator: torch.Generator | None = None, device: torch.device | str | None = None
    ) -> Shaped[Tensor, " count"]:
        """Draw times as training does."""

    # What follows from it.

    def noise_ratio(self, t: Time) -> Tensor:
        r"""$r = \sigma / \alpha$, the axis on which all processes compare; infinite where alpha is 0.

        Example:
            >>> import torch
            >>> from passband import VP
            >>> round(VP().noise_ratio(999).item())
            157

        """
        alpha, sigma = self.level(self._floating_time(t))
        return sigma / alpha

    def log_snr(self, t: Time) -> Tensor:
        r"""$\ln(\alpha^2 / \sigma^2) = -2 \ln r$."""
        return -2 * self.noise_ratio(t).log()

    def flow_time(self, t: Time) -> Tensor:
        r"""$\tau = \alpha / (\alpha + \sigma)$ in [0, 1]: 0 is noise, 1 is data."""
        alpha, sigma = self.level(self._floating_time(t))
        return alpha / (alpha + sigma)

    def edm_weight(self, t: Time) -> Tensor:
        r"""EDM's $\lambda(r) = (r^2 + \sigma_d^2) / (r\, \sigma_d)^2$ at the noise ratio r.

        Source: Karras et al. 2022 (arXiv:2206.00364), Table 1.
        """
        r2, d2 = self.noise_ratio(t).square(), self.sigma_data**2
        return 1 / d2 + 1 / r2

    def add_noise(self, clean: Field, noise: Field, t: Time) -> Field:
        r"""$x_t = \alpha(t)\, x_0 + \sigma(t)\, \varepsilon$, in at least float32.

        Raises:
            ValueError: if clean and noise differ in shape or t is out of range or of another batch size.

        """
        clean, noise = _fields(clean=clean, noise=noise)
        alpha, sigma = self.level(self._time(t, clean))
        return alpha * clean + sigma * noise

    def target(self, clean: Field, noise: Field, t: Time) -> Field:
        r"""What the network should predict, $p = a\, x_0 + b\, \varepsilon$."""
        clean, noise = _fields(clean=clean, noise=noise)
        a, b = self._mix(self._time(t, clean))
        return a * clean + b * noise

    def clean_estimate(self, noisy: Field, pred: Field, t: Time) -> Field:
        r"""Tweedie's clean estimate from one network output.

        $\hat{x}_0 = (b\, x_t - \sigma p) / (\alpha b - \sigma a)$.

        At sigma = 0 it is x_t / alpha (`sample`: the prediction itself).

        Args:
            noisy: $x_t$, (batch, \*shape).
            pred: the network's output, of the same shape.
            t: times, a number or (batch,).

        Returns:
            The clean estimate, in at least float32.

        Raises:
            ValueError: if shapes differ, if t is out of range, or if the prediction holds nothing of the clean sample
                at t (`epsilon` where alpha = 0). Times on an accelerator are not checked: there the result is not
                finite.

        Example:
            >>> import torch
            >>> from passband import VP
            >>> process = VP(prediction="v_prediction")
            >>> clean, noise, t = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8), torch.tensor([10, 900])
            >>> noisy, pred = process.add_noise(clean, noise, t), process.target(clean, noise, t)
            >>> torch.allclose(process.clean_estimate(noisy, pred, t), clean, atol=1e-4)
            True

        """
        noisy, pred = _fields(noisy=noisy, pred=pred)
        if self.prediction == "sample":
            self._time(t, noisy)
            return pred
        with no_autocast(noisy):
            time = self._time(t, noisy)
            alpha, sigma = self.level(time)
            a, b = self._mix(time)
            scale = self._denominator(alpha, sigma, a, b)
            return (b / scale) * noisy - (sigma / scale) * pred

    def residual_gain(self, t: Time) -> Tensor:
        r"""The k of $\hat{x}_0 - x_0 = -k\, (p - p^*)$, $k = \sigma / (\alpha b - \sigma a)$; -1 for `sample`.

        With it a term that is linear in x0 needs only the residual of a host's own loss.
        """
        time = self._floating_time(t)
        if self.prediction == "sample":
            return -torch.ones_like(time)
        alpha, sigma = self.level(time)
        a, b = self._mix(time)
        return sigma / self._denominator(alpha, sigma, a, b)

    def step(self, noisy: Field, clean_estimate: Field, t: Time, s: Time) -> Field:
        r"""One deterministic (Euler, DDIM) step from time t to time s.

        $x_s = \alpha_s \hat{x}_0 + \sigma_s \hat\varepsilon$ with
        $\hat\varepsilon = (x_t - \alpha_t \hat{x}_0) / \sigma_t$.
        No division by alpha, so it starts at a flow's alpha = 0.

        Source: Song et al. 2021 (DDIM, arXiv:2010.02502), Eq. 12 with eta = 0.
        """
        noisy, clean_estimate = _fields(noisy=noisy, clean_estimate=clean_estimate)
        alpha_t, sigma_t = self.level(self._time(t, noisy))
        alpha_s, sigma_s = self.level(self._time(s, noisy))
        ratio = sigma_s / sigma_t
        return (alpha_s - ratio * alpha_t) * clean_estimate + ratio * noisy

    # How the network is called.

    def scale_input(self, noisy: Field, t: Time) -> Field:
        """The network's input (x_t itself unless the process says otherwise)."""
        self._time(t, noisy)
        return noisy

    def model_time(self, t: Time) -> Tensor:
        """The time that the network is given (the process's own unless it says otherwise)."""
        return t if isinstance(t, Tensor) else torch.as_tensor(t)

    def initial(self, noise: Field, t: Time) -> Field:
        """Where sampling starts at time t, given unit noise."""
        (noise,) = _fields(noise=noise)
        return self.level(self._time(t, noise)).sigma * noise

    # Inside.

    def _mix(self, t: Tensor) -> PredictionMix:
        return _MIXES[self.prediction](self, t)

    def _denominator(self, alpha: Tensor, sigma: Tensor, a: Tensor, b: Tensor) -> Tensor:
        scale = alpha * b - sigma * a
        if _checkable(scale) and bool((scale == 0).any()):
            raise ValueError(
                f"a {self.prediction!r} prediction holds nothing of the clean sample where alpha = 0 (pure noise): "
                "leave that time out, or train with 'v_prediction' or 'sample'"
            )
        return scale

    def _time(self, t: Time, x: Tensor) -> Tensor:
        """The times as x's compute dtype on its device, shaped to broadcast over it."""
        time = self._floating_time(t, compute_dtype(x)).to(x.device)
        if time.numel() not in (1, x.shape[0]):
            raise ValueError(
                f"t must hold one time, or one per sample: got shape {tuple(time.shape)} for a batch of {x.shape[0]}"
            )
        return time.reshape(-1, *(1,) * (x.ndim - 1))

    def _floating_time(self, t: Time, dtype: torch.dtype | None = None) -> Tensor:
        time = torch.as_tensor(t, dtype=None if isinstance(t, Tensor) else torch.float64)
        if time.is_complex() or time.dtype == torch.bool:
            raise TypeError(f"t must hold real numbers, got {time.dtype}")
        low, high = self.time_range
        # Hosts compute times in float32, so the ends may be overstepped by a rounding error.
        lowest, highest = low - _ROUNDING * abs(low), high + _ROUNDING * abs(high)
        if _checkable(time) and not bool(((time >= lowest) & (time <= highest)).all()):
            raise ValueError(
                f"t is outside the range of {type(self).__name__}: got values in "
                f"[{time.min().item():g}, {time.max().item():g}], expected [{low:g}, {high:g}]"
                f"{self._range_hint()}"
            )
        if dtype is None:
            dtype = torch.float64 if time.dtype == torch.float64 else torch.float32
        return time.to(dtype)

    def _range_hint(self) -> str:
        return ""


class VP(Process):
    r"""Variance-preserving diffusion (DDPM, and DDIM, which shares its training).

    $\alpha = \sqrt{\bar\alpha_t}$, $\sigma = \sqrt{1-\bar\alpha_t}$. Time is the index 0 ... T-1 of the schedule; -1 is
    the clean end. Between indices, (alpha, sigma) runs along the chord, scaled back to the unit circle, so solvers may
    stop anywhere.

    Args:
        prediction: `epsilon` (default), `sample`, `v_prediction`, ...
        alphas_cumprod: $\bar\alpha$ of each index, decreasing, in [0, 1]; default: linear betas from 1e-4 to 0.02 in
            1,000 steps.
        sigma_data: see [`Process`][passband.process.Process].

    Raises:
        ValueError: if alphas_cumprod is not a decreasing sequence in [0, 1].

    Example:
        >>> import torch
        >>> from passband import VP
        >>> alpha, sigma = VP().level(torch.tensor([-1.0, 0.0, 999.0]))
        >>> [round(value, 3) for value in alpha.tolist()]
        [1.0, 1.0, 0.006]

    Source: Ho et al. 2020 (DDPM, arXiv:2006.11239), Eq. 4.
    """

    clean_time = -1.0

    def __init__(
        self,
        prediction: Prediction = "epsilon",
        *,
        alphas_cumprod: Float[Tensor, " steps"] | None = None,
        sigma_data: float = 0.5,
    ) -> None:
        super().__init__(prediction, sigma_data)
        table = linear_alphas_cumprod() if alphas_cumprod is None else alphas_cumprod
        table = table.detach().to("cpu", torch.float64)
        inside = bool(((table >= 0) & (table <= 1)).all())
        if table.ndim != 1 or len(table) < 1 or not inside or not _falls(table):
            raise ValueError(
                "alphas_cumprod must be a 1-d sequence in [0, 1] that decreases: "
                f"got shape {tuple(table.shape)} and values from {table.max():g} to {table.min():g}"
            )
        clean_end = torch.ones(1, dtype=torch.float64)
        self._alpha = torch.cat([clean_end, table.sqrt()])
        self._sigma = torch.cat([1 - clean_end, (1 - table).sqrt()])
        self._on_device: dict[tuple[torch.device, torch.dtype], Level] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_on_device": {}}

    @property
    def steps(self) -> int:
        """The number of noise levels T."""
        return len(self._alpha) - 1

    @property
    def noise_time(self) -> float:  # type: ignore[override]
        """The last index, T - 1."""
        return float(self.steps - 1)

    def level(self, t: Float[Tensor, "*times"]) -> Level:
        r"""$\sqrt{\bar\alpha}$ and $\sqrt{1 - \bar\alpha}$."""
        alpha, sigma = self._chord(t)
        norm = torch.hypot(alpha, sigma)
        return Level(alpha / norm, sigma / norm)

    def slope(self, t: Float[Tensor, "*times"]) -> Level:
        r"""$\alpha' = -\theta' \sigma$, $\sigma' = \theta' \alpha$; the angle's speed is its rise over t's interval."""
        table = self._table(t)
        angle = torch.atan2(table.sigma, table.alpha)
        after = self._entry(t)
        speed = angle[after] - angle[after - 1]
        alpha, sigma = self.level(t)
        return Level(-speed * sigma, speed * alpha)

    def time_at(self, noise_ratio: Float[Tensor, "*times"]) -> Float[Tensor, "*times"]:
        """On the chord between the two entries; beyond the table, its end."""
        table = self._table(noise_ratio)
        # As the angle's cosine and sine, so that an infinite ratio is an ordinary value.
        cos, sin = (1 + noise_ratio.square()).rsqrt(), (1 + noise_ratio.square().reciprocal()).rsqrt()
        angles = torch.atan2(table.sigma, table.alpha)
        before = (torch.searchsorted(angles, noise_ratio.atan().contiguous(), right=True) - 1).clamp(0, self.steps - 1)
        alpha, sigma = table.alpha[before], table.sigma[before]
        rise, fall = table.sigma[before + 1] - sigma, table.alpha[before + 1] - alpha
        weight = (sin * alpha - cos * sigma) / (cos * rise - sin * fall)
        return before + weight.clamp(0, 1) - 1

    def sample_times(
        self, count: int, *, generator: torch.Generator | None = None, device: torch.device | str | None = None
    ) -> Shaped[Tensor, " count"]:
        """Uniform indices 0 ... T-1."""
        return torch.randint(0, self.steps, (count,), generator=generator, device=device)

    def initial(self, noise: Field, t: Time) -> Field:
        """Unit noise, whatever is left of the signal at t (as DDPM's and DDIM's samplers do)."""
        (noise,) = _fields(noise=noise)
        self._time(t, noise)
        return noise

    def _chord(self, t: Tensor) -> Level:
        """The table, linear between its entries."""
        table = self._table(t)
        # Comparisons with NaN times would index anywhere; a NaN weight carries the NaN through instead.
        position = (t + 1).clamp(0, self.steps).nan_to_num(0)
        before = position.long().clamp(max=self.steps - 1)
        weight = (t + 1) - before
        return Level(*(torch.lerp(column[before], column[before + 1], weight) for column in table))

    def _entry(self, t: Tensor) -> Tensor:
        """Index into the table of the first entry at or after t, 1 at least: the end of t's interval."""
        return (t + 1).clamp(0, self.steps).nan_to_num(0).ceil().long().clamp(min=1)

    def _table(self, t: Tensor) -> Level:
        key = (t.device, t.dtype)
        if key not in self._on_device:
            self._on_device[key] = Level(self._alpha.to(t.device, t.dtype), self._sigma.to(t.device, t.dtype))
        return self._on_device[key]

    def _range_hint(self) -> str:
        return f" (an index of its {self.steps} noise levels; -1 is the clean end)"


class RescaledVP(VP):
    r"""A VP process in the coordinates $x_t / \alpha = x_0 + r\, \varepsilon$, as Euler-type samplers of VP models use.

    Same times as [`VP`][passband.process.VP], but the noise ratio r is what is linear between indices, as in those
    samplers; the network sees $x / \sqrt{1 + r^2}$, which is the VP sample.

    Raises:
        ValueError: if alphas_cumprod reaches 0, where r is infinite.

    """

    def __init__(
        self,
        prediction: Prediction = "epsilon",
        *,
        alphas_cumprod: Float[Tensor, " steps"] | None = None,
        sigma_data: float = 0.5,
    ) -> None:
        super().__init__(prediction, alphas_cumprod=alphas_cumprod, sigma_data=sigma_data)
        if not bool(self._alpha.all()):
            raise ValueError(
                "alphas_cumprod reaches 0, where x / alpha does not exist: use VP, or end the table at a small value "
                "(diffusers' Euler schedulers take 2**-24)"
            )
        self._alpha, self._sigma = torch.ones_like(self._alpha), self._sigma / self._alpha

    def level(self, t: Float[Tensor, "*times"]) -> Level:
        """1 and r."""
        return self._chord(t)

    def slope(self, t: Float[Tensor, "*times"]) -> Level:
        """The rise of r over the interval that ends at t."""
        ratio, after = self._table(t).sigma, self._entry(t)
        rise = ratio[after] - ratio[after - 1]
        return Level(torch.zeros_like(rise), rise)

    def scale_input(self, noisy: Field, t: Time) -> Field:
        r"""The VP sample, $x / \sqrt{1 + r^2}$."""
        (noisy,) = _fields(noisy=noisy)
        return noisy / torch.hypot(*self.level(self._time(t, noisy)))

    def initial(self, noise: Field, t: Time) -> Field:
        """Unit noise of VP, in these coordinates."""
        (noise,) = _fields(noise=noise)
        return noise * torch.hypot(*self.level(self._time(t, noise)))


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
        if not 0 < sigma_min < sigma_max < math.inf:
            raise ValueError(f"expected 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}")
        if not p_std > 0:
            raise ValueError(f"p_std must be positive, got {p_std}")
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
        log_sigma = torch.randn(count, generator=generator, device=device) * self.p_std + self.p_mean
        return self.time_at(log_sigma.exp())

    def scale_input(self, noisy: Field, t: Time) -> Field:
        r"""$c_{in} x = x / \sqrt{\sigma^2 + \sigma_d^2}$ for the preconditioned network, else x itself."""
        (noisy,) = _fields(noisy=noisy)
        sigma = self.level(self._time(t, noisy)).sigma
        if not self.prediction.startswith("edm"):
            return noisy
        return noisy / torch.hypot(sigma, torch.full_like(sigma, self.sigma_data))

    def model_time(self, t: Time) -> Tensor:
        r"""$c_{noise} = \ln(\sigma) / 4$."""
        return self.level(self._floating_time(t)).sigma.log() / 4

    def _range_hint(self) -> str:
        return " (the noise level sigma, not a timestep index)" if self.time == "sigma" else ""


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
        if not 0 < time_scale < math.inf:
            raise ValueError(f"time_scale must be positive, got {time_scale}")
        if logit_normal is not None and not logit_normal[1] > 0:
            raise ValueError(f"logit_normal is (mean, std) with a positive std, got {logit_normal}")
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
        if self.logit_normal is None:
            return self.time_scale * torch.rand(count, generator=generator, device=device)
        mean, std = self.logit_normal
        normal = torch.randn(count, generator=generator, device=device)
        return self.time_scale * (mean + std * normal).sigmoid()

    def _range_hint(self) -> str:
        if self.time_scale != 1:
            return ""
        return "; for timesteps that run to 1000, as diffusers' do, pass Flow(..., time_scale=1000)"


def linear_alphas_cumprod(
    steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02
) -> Float[Tensor, " steps"]:
    """DDPM's schedule: the running product of 1 - beta for linear betas, in float64.

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
    if steps < 1 or not 0 <= beta_start <= beta_end < 1:
        raise ValueError(
            f"a schedule needs steps >= 1 and 0 <= beta_start <= beta_end < 1, got {steps}, {beta_start} and {beta_end}"
        )


def _falls(table: Float[Tensor, " steps"]) -> bool:
    """Whether each entry is below the one before; the last may be a trace above, as diffusers' zero-SNR 2**-24 is."""
    change = table.diff()
    return bool((change[:-1] < 0).all() and (change[-1:] < 1e-6).all() and (change != 0).all())


def _fields(**named: Tensor) -> tuple[Tensor, ...]:
    """Check that the named tensors are floating and of one shape, and bring them to their compute dtype."""
    (first_name, first), *others = named.items()
    check_floating(first_name, first)
    if first.ndim == 0:
        raise ValueError(f"{first_name} must have shape (batch, *shape), got a single number; add a batch axis")
    for name, x in others:
        check_floating(name, x)
        check_same_shape(name, x, first_name, first)
    return upcast(*named.values())


def _checkable(x: Tensor) -> bool:
    """Whether looking at x's values costs no synchronisation with an accelerator and breaks no graph."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


# The predictions: a and b of p = a x0 + b eps.


def _epsilon(_process: Process, t: Tensor) -> PredictionMix:
    return PredictionMix(torch.zeros_like(t), torch.ones_like(t))


def _sample(_process: Process, t: Tensor) -> PredictionMix:
    return PredictionMix(torch.ones_like(t), torch.zeros_like(t))


def _v_prediction(process: Process, t: Tensor) -> PredictionMix:
    # Over the norm, so that it also holds where x = x0 + sigma eps.
    alpha, sigma = process.level(t)
    norm = torch.hypot(alpha, sigma)
    return PredictionMix(-sigma / norm, alpha / norm)


def _velocity(process: Process, t: Tensor) -> PredictionMix:
    return PredictionMix(*process.slope(t))


def _edm(process: Process, t: Tensor) -> PredictionMix:
    # As a function of sigma / alpha, written without the division.
    alpha, sigma = process.level(t)
    norm = torch.hypot(sigma, alpha * process.sigma_data)
    return PredictionMix(sigma / (process.sigma_data * norm), -process.sigma_data * alpha / norm)


def _edm_negated(process: Process, t: Tensor) -> PredictionMix:
    a, b = _edm(process, t)
    return PredictionMix(-a, -b)


_MIXES: dict[Prediction, Callable[[Process, Tensor], PredictionMix]] = {
    "epsilon": _epsilon,
    "sample": _sample,
    "v_prediction": _v_prediction,
    "velocity": _velocity,
    "edm": _edm,
    "edm_negated": _edm_negated,
}
