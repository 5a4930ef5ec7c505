"""What all processes share: predictions, the clean estimate, and the quantities that follow from alpha and sigma."""

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import copy
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from passband._checks import check_choice, check_floating, check_integer, check_number, check_same_shape
from passband._numerics import compute_dtype, no_autocast, upcast

Prediction = Literal["epsilon", "sample", "v_prediction", "velocity", "edm", "edm_negated"]
Time = Shaped[Tensor, "..."] | float | int
Field = Float[Tensor, "batch *shape"]
Output = Float[Tensor, "batch *heads_and_shape"]

_ROUNDING = 1e-5


class Level(NamedTuple):
    """The coefficients of x_t = alpha x0 + sigma eps at some times.

    Attributes:
        alpha: what multiplies the clean sample, of the times' shape.
        sigma: what multiplies the unit noise, of the times' shape, in the data's unit.

    Example:
        >>> import torch
        >>> from passband import Flow
        >>> alpha, sigma = Flow(data_at=1).level(torch.tensor(0.25))
        >>> alpha.item(), sigma.item()
        (0.25, 0.75)

    """

    alpha: Tensor
    sigma: Tensor


class PredictionMix(NamedTuple):
    """The coefficients of the network's output p = a x0 + b eps at some times.

    Attributes:
        a: what multiplies the clean sample, of the times' shape.
        b: what multiplies the unit noise, of the times' shape.

    """

    a: Tensor
    b: Tensor


class Process(ABC):
    """A noising process and what its network predicts. A new process is `level` and its inverse, `time_at`.

    Args:
        prediction: what the network's output is; a and b of each name are in the table of `docs/conventions.md`.
        sigma_data: standard deviation of the data, above 0, used by EDM's preconditioning and weights.

    Raises:
        TypeError: if sigma_data is no number.
        ValueError: if the prediction is unknown, or sigma_data is not above 0 and finite.

    """

    #: Time of the clean end, and the noisy time from which sampling starts.
    clean_time: float
    noise_time: float
    #: Whether alpha and sigma are straight lines in the process's own time, so that solvers integrate over it.
    straight_in_time: bool = False
    #: How much of the process's time is one unit of the time that `slope` differentiates by.
    unit_time: float = 1.0
    #: How many outputs of the samples' channels the network has; `read_output` joins them.
    heads: int = 1

    def __init__(self, prediction: Prediction, sigma_data: float = 0.5) -> None:
        check_choice("prediction", prediction, get_args(Prediction))
        check_number("sigma_data", sigma_data)
        if not 0 < sigma_data < math.inf:
            raise ValueError(f"sigma_data must be positive, got {sigma_data}")
        self.prediction: Prediction = prediction
        self.sigma_data = sigma_data

    def __repr__(self) -> str:
        # The constructor's own arguments that are kept under their names; what follows from them is left out.
        names = [name for name in inspect.signature(type(self)).parameters if name in vars(self)]
        return f"{type(self).__name__}({', '.join(f'{name}={vars(self)[name]!r}' for name in names)})"

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
        """Draw times as training does.

        Args:
            count: number of times, at least 0.
            generator: source of randomness, on the same device; default: PyTorch's own.
            device: device of the times; default: PyTorch's own.

        Returns:
            Times in the process's own unit, (count,).

        Raises:
            TypeError: if count is no integer.
            ValueError: if count is negative.

        """

    # What follows from it.

    def noise_ratio(self, t: Time) -> Tensor:
        r"""$r = \sigma / \alpha$, the axis on which all processes compare; infinite where alpha is 0.

        Args:
            t: times in the process's own unit, a number or a tensor of any shape, within `time_range`.

        Returns:
            Ratios at least 0, of t's shape, in float32 (float64 for a number and for float64 times).

        Raises:
            TypeError: if t is no real number and no real tensor.
            ValueError: if a time on the CPU is out of range; on an accelerator it is not looked at.

        Example:
            >>> import torch
            >>> from passband import VP
            >>> round(VP().noise_ratio(999).item())
            157

        """
        alpha, sigma = self.level(self._floating_time(t))
        return sigma / alpha

    def log_snr(self, t: Time) -> Tensor:
        r"""$\ln(\alpha^2 / \sigma^2) = -2 \ln r$.

        Args:
            t: times, as for [`noise_ratio`][passband.process.Process.noise_ratio].

        Returns:
            Natural logarithms of t's shape; infinite where sigma (plus) or alpha (minus) is 0.

        Raises:
            TypeError: if t is no real number and no real tensor.
            ValueError: if a time is out of range.

        Example:
            >>> from passband import Flow
            >>> Flow(data_at=1).log_snr(0.5).item() == 0  # as much signal as noise
            True

        """
        return -2 * self.noise_ratio(t).log()

    def flow_time(self, t: Time) -> Tensor:
        r"""$\tau = \alpha / (\alpha + \sigma)$ in [0, 1]: 0 is noise, 1 is data.

        Args:
            t: times, as for [`noise_ratio`][passband.process.Process.noise_ratio].

        Returns:
            Flow times of t's shape.

        Raises:
            TypeError: if t is no real number and no real tensor.
            ValueError: if a time is out of range.

        Example:
            >>> from passband import EDM, Flow
            >>> EDM().flow_time(3.0).item(), Flow(data_at=0).flow_time(0.75).item()
            (0.25, 0.25)

        """
        alpha, sigma = self.level(self._floating_time(t))
        return alpha / (alpha + sigma)

    def edm_weight(self, t: Time) -> Tensor:
        r"""EDM's $\lambda(r) = (r^2 + \sigma_d^2) / (r\, \sigma_d)^2$ at the noise ratio r.

        Args:
            t: times, as for [`noise_ratio`][passband.process.Process.noise_ratio].

        Returns:
            Weights of t's shape, above $1 / \sigma_d^2$; infinite where there is no noise.

        Raises:
            TypeError: if t is no real number and no real tensor.
            ValueError: if a time is out of range.

        Example:
            >>> from passband import EDM
            >>> EDM(sigma_data=0.5).edm_weight(1.0).item()
            5.0

        Source: Karras et al. 2022 (arXiv:2206.00364), Table 1.
        """
        r2, d2 = self.noise_ratio(t).square(), self.sigma_data**2
        return 1 / d2 + 1 / r2

    def add_noise(self, clean: Field, noise: Field, t: Time) -> Field:
        r"""$x_t = \alpha(t)\, x_0 + \sigma(t)\, \varepsilon$, in at least float32.

        Args:
            clean: $x_0$, (batch, \*shape), in the data's unit.
            noise: $\varepsilon$, unit Gaussian noise of the same shape.
            t: times, a number or (batch,), within `time_range`.

        Returns:
            The noisy sample $x_t$ of the same shape, in float32 (float64 for float64 input).

        Raises:
            TypeError: if clean or noise is not floating, or t holds no real numbers.
            ValueError: if clean and noise differ in shape or t is out of range or of another batch size.

        Example:
            >>> import torch
            >>> from passband import EDM
            >>> clean, noise = torch.ones(2, 1, 4), torch.ones(2, 1, 4)
            >>> EDM().add_noise(clean, noise, torch.tensor([0.0, 80.0]))[:, 0, 0].tolist()
            [1.0, 81.0]

        """
        clean, noise = fields(clean=clean, noise=noise)
        alpha, sigma = self.level(self._time(t, clean))
        return alpha * clean + sigma * noise

    def target(self, clean: Field, noise: Field, t: Time) -> Field:
        r"""What the network should predict, $p = a\, x_0 + b\, \varepsilon$.

        Args:
            clean: $x_0$, (batch, \*shape).
            noise: $\varepsilon$, of the same shape.
            t: times, a number or (batch,), within `time_range`.

        Returns:
            The target of the process's prediction, of the same shape, in float32 (float64 for float64 input).

        Raises:
            TypeError: if clean or noise is not floating, or t holds no real numbers.
            ValueError: if clean and noise differ in shape or t is out of range or of another batch size.

        Example:
            >>> import torch
            >>> from passband import Flow
            >>> clean, noise = torch.full((1, 1, 4), 3.0), torch.ones(1, 1, 4)
            >>> Flow(data_at=1, prediction="velocity").target(clean, noise, 0.5).unique().item()  # clean - noise
            2.0

        """
        clean, noise = fields(clean=clean, noise=noise)
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
            TypeError: if noisy or pred is not floating, or t holds no real numbers.
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
        noisy, pred = fields(noisy=noisy, pred=pred)
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

        Args:
            t: times, as for [`noise_ratio`][passband.process.Process.noise_ratio].

        Returns:
            Gains of t's shape.

        Raises:
            TypeError: if t is no real number and no real tensor.
            ValueError: if a time is out of range, or the prediction holds nothing of the clean sample there.

        Example:
            >>> from passband import EDM
            >>> EDM("epsilon").residual_gain(3.0).item(), EDM("sample").residual_gain(3.0).item()
            (3.0, -1.0)

        """
        time = self._floating_time(t)
        if self.prediction == "sample":
            return -torch.ones_like(time)
        alpha, sigma = self.level(time)
        a, b = self._mix(time)
        return sigma / self._denominator(alpha, sigma, a, b)

    def loss_gain(self, t: Time, space: Prediction) -> Tensor:
        r"""What turns a residual of this prediction into one of another: $k_p / k_q$, by the residual gains.

        So a network that predicts one thing can be trained on the error of another, such as x-prediction with the
        v-loss, where it is 1 / sigma.

        Args:
            t: times, as for [`noise_ratio`][passband.process.Process.noise_ratio].
            space: the prediction q in whose space the error is measured.

        Returns:
            Factors of t's shape.

        Raises:
            TypeError: if t is no real number and no real tensor.
            ValueError: if the space is unknown, a time is out of range, or a prediction holds nothing of the clean
                sample there.

        Example:
            >>> from passband import Flow
            >>> Flow(data_at=1, prediction="sample").loss_gain(0.75, "velocity").item()
            4.0

        """
        check_choice("space", space, get_args(Prediction))
        if space == self.prediction:
            return torch.ones_like(self._floating_time(t))
        other = copy(self)
        other.prediction = space
        return self.residual_gain(t) / other.residual_gain(t)

    def step(self, noisy: Field, clean_estimate: Field, t: Time, s: Time) -> Field:
        r"""One deterministic (Euler, DDIM) step from time t to time s.

        $x_s = \alpha_s \hat{x}_0 + \sigma_s \hat\varepsilon$ with
        $\hat\varepsilon = (x_t - \alpha_t \hat{x}_0) / \sigma_t$.
        No division by alpha, so it starts at a flow's alpha = 0.

        Args:
            noisy: $x_t$, (batch, \*shape).
            clean_estimate: $\hat{x}_0$, of the same shape.
            t: times at which the step starts, a number or (batch,), where sigma is above 0.
            s: times at which it ends, either side of t.

        Returns:
            $x_s$ of the same shape, in float32 (float64 for float64 input); not finite where sigma is 0 at t.

        Raises:
            TypeError: if noisy or clean_estimate is not floating, or a time is no real number.
            ValueError: if the shapes differ, or a time is out of range or of another batch size.

        Example:
            >>> import torch
            >>> from passband import EDM
            >>> noisy, estimate = torch.full((1, 1, 4), 5.0), torch.ones(1, 1, 4)
            >>> EDM().step(noisy, estimate, t=2.0, s=1.0).unique().item()  # half the noise: 1 + (5 - 1) / 2
            3.0

        Source: Song et al. 2021 (DDIM, arXiv:2010.02502), Eq. 12 with eta = 0.
        """
        noisy, clean_estimate = fields(noisy=noisy, clean_estimate=clean_estimate)
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

    def own_time(self, model_time: Time) -> Tensor:
        """The process's own time, from the one that the network is given: the inverse of `model_time`.

        Args:
            model_time: times as the network gets them, a number or a tensor of any shape.

        Returns:
            Times in the process's own unit, of the same shape.

        Example:
            >>> from passband import EDM
            >>> process = EDM()
            >>> round(process.own_time(process.model_time(3.0)).item(), 9)
            3.0

        """
        return model_time if isinstance(model_time, Tensor) else torch.as_tensor(model_time)

    def read_output(self, noisy: Field, output: Output, t: Time) -> Field:
        r"""The prediction in a network's output: the output itself, unless the network has several heads.

        Args:
            noisy: $x_t$, unscaled, (batch, channels, \*spatial).
            output: what the network returned, (batch, heads x channels, \*spatial).
            t: times, a number or (batch,).

        """
        return output

    def steered(self, noisy: Field, clean_estimate: Field, t: Time) -> Field:
        """The clean estimate that a sampler's step heads for: the given one, unless the process limits its velocity."""
        return clean_estimate

    def initial(self, noise: Field, t: Time) -> Field:
        """Where sampling starts at time t, given unit noise."""
        (noise,) = fields(noise=noise)
        return self.level(self._time(t, noise)).sigma * noise

    # Inside.

    def _mix(self, t: Tensor) -> PredictionMix:
        return _MIXES[self.prediction](self, t)

    def _denominator(self, alpha: Tensor, sigma: Tensor, a: Tensor, b: Tensor) -> Tensor:
        scale = alpha * b - sigma * a
        if checkable(scale) and bool((scale == 0).any()):
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
        try:
            time = torch.as_tensor(t, dtype=None if isinstance(t, Tensor) else torch.float64)
        except (TypeError, ValueError) as error:
            raise TypeError(f"t must be a time, or a tensor of one time per sample, got {t!r}") from error
        if time.is_complex() or time.dtype == torch.bool:
            raise TypeError(f"t must hold real numbers, got {time.dtype}")
        low, high = self.time_range
        # Hosts compute times in float32, so the ends may be overstepped by a rounding error.
        lowest, highest = low - _ROUNDING * abs(low), high + _ROUNDING * abs(high)
        if checkable(time) and not bool(((time >= lowest) & (time <= highest)).all()):
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


def fields(**named: Tensor) -> tuple[Tensor, ...]:
    """Check that the named tensors are floating and of one shape, and bring them to their compute dtype."""
    (first_name, first), *others = named.items()
    check_floating(first_name, first)
    if first.ndim == 0:
        raise ValueError(f"{first_name} must have shape (batch, *shape), got a single number; add a batch axis")
    for name, x in others:
        check_floating(name, x)
        check_same_shape(name, x, first_name, first)
    return upcast(*named.values())


def check_count(count: int) -> None:
    """Raise unless count is a number of times that can be drawn."""
    check_integer("count", count)
    if count < 0:
        raise ValueError(f"count is the number of times to draw, at least 0; got {count}")


def checkable(x: Tensor) -> bool:
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
