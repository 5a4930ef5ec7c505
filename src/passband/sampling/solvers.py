"""Solvers: one step of a sampler from time t to time s, given a function that estimates the clean sample."""

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from passband._checks import check_number, check_pair
from passband.process import Process

Denoise = Callable[[Tensor, float], Tensor]
Normal = Callable[[], Tensor]


@runtime_checkable
class Solver(Protocol):
    """One step of a sampler. A new solver is a class with this method."""

    def step(
        self, denoise: Denoise, process: Process, x: Tensor, t: float, s: float, normal: Normal, steps: int
    ) -> Tensor:
        """Return the sample at time s.

        Args:
            denoise: (x, time) to the clean estimate; one network output (two with guidance).
            process: the process.
            x: the sample at time t.
            t: where the step starts.
            s: where it ends.
            normal: draws standard normal values of x's shape, from each sample's own generator.
            steps: number of steps of the whole run.

        """
        ...


class Euler:
    """The deterministic first-order step, which is DDIM for every process.

    Source: Song et al. 2021 (arXiv:2010.02502), Eq. 12.
    """

    def step(
        self, denoise: Denoise, process: Process, x: Tensor, t: float, s: float, normal: Normal, steps: int
    ) -> Tensor:
        """Return the sample at time s."""
        return process.step(x, denoise(x, t), t, s)


class Heun:
    r"""The second-order step, with optional churn (EDM's Algorithms 1 and 2).

    For EDM and VP it averages $d(x/\alpha)/dr$ over the noise ratio r; for Flow dx/dt over its own time. A step into
    the clean end is Euler's.

    Args:
        churn: EDM's $S_{churn}$: how much fresh noise a whole run adds; 0 is deterministic. Not for Flow.
        churn_range: noise ratios ($S_{tmin}$, $S_{tmax}$) within which noise is added.
        churn_noise: EDM's $S_{noise}$, the standard deviation of the fresh noise.

    Raises:
        TypeError: if churn or churn_noise is no number, or churn_range no pair of numbers.
        ValueError: if an option is out of range; on churn with Flow; where alpha = 0 unless the process is a Flow.

    Source: Karras et al. 2022 (arXiv:2206.00364), Algorithms 1 and 2.
    """

    def __init__(
        self, churn: float = 0.0, churn_range: tuple[float, float] = (0.0, math.inf), churn_noise: float = 1.0
    ) -> None:
        check_number("churn", churn)
        check_number("churn_noise", churn_noise)
        check_pair("churn_range", churn_range)
        if not churn >= 0 or not churn_noise > 0 or not 0 <= churn_range[0] <= churn_range[1]:
            raise ValueError(
                "expected churn >= 0, churn_noise > 0 and 0 <= churn_range[0] <= churn_range[1], "
                f"got {churn}, {churn_noise} and {churn_range}"
            )
        self.churn, self.churn_range, self.churn_noise = churn, churn_range, churn_noise

    def step(
        self, denoise: Denoise, process: Process, x: Tensor, t: float, s: float, normal: Normal, steps: int
    ) -> Tensor:
        """Return the sample at time s."""
        if process.straight_in_time:
            if self.churn > 0:
                raise ValueError(f"churn is defined on the noise ratio of EDM and VP, not for {process!r}; set churn=0")
            return self._in_own_time(denoise, process, x, t, s)
        x, t = self._churned(process, x, t, normal, steps)
        return self._in_noise_ratio(denoise, process, x, t, s)

    def _in_own_time(self, denoise: Denoise, process: Process, x: Tensor, t: float, s: float) -> Tensor:
        estimate = denoise(x, t)
        end = process.step(x, estimate, t, s)
        if _sigma(process, s) == 0:
            return end
        first, last = _velocity(process, x, estimate, t), _velocity(process, end, denoise(end, s), s)
        return x + (s - t) / process.unit_time * (first + last) / 2

    def _in_noise_ratio(self, denoise: Denoise, process: Process, x: Tensor, t: float, s: float) -> Tensor:
        estimate = denoise(x, t)
        end = process.step(x, estimate, t, s)
        if _sigma(process, s) == 0:
            return end
        (alpha_t, alpha_s), (ratio_t, ratio_s) = _alphas_and_ratios(process, t, s)
        first = (x / alpha_t - estimate) / ratio_t
        last = (end / alpha_s - denoise(end, s)) / ratio_s
        return alpha_s * (x / alpha_t + (ratio_s - ratio_t) * (first + last) / 2)

    def _churned(self, process: Process, x: Tensor, t: float, normal: Normal, steps: int) -> tuple[Tensor, float]:
        """Add fresh noise, up to the process's largest noise ratio."""
        (alpha, _), (ratio, _) = _alphas_and_ratios(process, t, t)
        low, high = self.churn_range
        if self.churn == 0 or not low <= ratio <= high:
            return x, t
        raised = ratio * (1 + min(self.churn / steps, math.sqrt(2) - 1))
        raised_time = process.time_at(torch.tensor(raised, dtype=torch.float64)).item()
        (raised_alpha, _), (raised, _) = _alphas_and_ratios(process, raised_time, raised_time)
        added = math.sqrt(max(raised**2 - ratio**2, 0.0)) * self.churn_noise
        return raised_alpha * (x / alpha + added * normal()), raised_time


class Ancestral:
    r"""The stochastic step of DDPM: part of the noise is drawn anew.

    The variance of that part is
    $\eta^2 \frac{\sigma_s^2}{\sigma_t^2} (\sigma_t^2 - \frac{\alpha_t^2}{\alpha_s^2} \sigma_s^2)$.

    Args:
        eta: 1 is DDPM (its smaller, posterior variance), 0 is Euler.

    Raises:
        TypeError: if eta is no number.
        ValueError: if eta is not in [0, 1].

    Source: Ho et al. 2020 (arXiv:2006.11239), Eq. 7; Song et al. 2021 (arXiv:2010.02502), Eq. 16.
    """

    def __init__(self, eta: float = 1.0) -> None:
        check_number("eta", eta)
        if not 0 <= eta <= 1:
            raise ValueError(f"eta must be in [0, 1], got {eta}")
        self.eta = eta

    def step(
        self, denoise: Denoise, process: Process, x: Tensor, t: float, s: float, normal: Normal, steps: int
    ) -> Tensor:
        """Return the sample at time s."""
        estimate = denoise(x, t)
        (alpha_t, sigma_t), (alpha_s, sigma_s) = (_level(process, time) for time in (t, s))
        fresh_variance = (sigma_s / sigma_t) ** 2 * (sigma_t**2 - (alpha_t / alpha_s * sigma_s) ** 2)
        fresh = self.eta * math.sqrt(max(fresh_variance, 0.0))
        kept = math.sqrt(max(sigma_s**2 - fresh**2, 0.0))
        noise = (x - alpha_t * estimate) / sigma_t
        x = alpha_s * estimate + kept * noise
        return x + fresh * normal() if fresh > 0 else x


#: The solvers' names in recipes and on the command line.
SOLVERS: dict[str, Callable[[], Solver]] = {"euler": Euler, "heun": Heun, "ancestral": Ancestral}


def _level(process: Process, t: float) -> tuple[float, float]:
    alpha, sigma = process.level(torch.tensor(t, dtype=torch.float64))
    return alpha.item(), sigma.item()


def _sigma(process: Process, t: float) -> float:
    return _level(process, t)[1]


def _velocity(process: Process, x: Tensor, estimate: Tensor, t: float) -> Tensor:
    alpha, sigma = _level(process, t)
    alpha_slope, sigma_slope = process.slope(torch.tensor(t, dtype=torch.float64))
    return alpha_slope.item() * estimate + sigma_slope.item() * (x - alpha * estimate) / sigma


def _alphas_and_ratios(process: Process, t: float, s: float) -> tuple[tuple[float, float], tuple[float, float]]:
    (alpha_t, sigma_t), (alpha_s, sigma_s) = _level(process, t), _level(process, s)
    if alpha_t == 0:
        raise ValueError(
            f"Heun's step of {type(process).__name__} divides by alpha, which is 0 at t = {t:g}: "
            "start at a later time, or use the Euler solver for the first step"
        )
    return (alpha_t, alpha_s), (sigma_t / alpha_t, sigma_s / alpha_s)
