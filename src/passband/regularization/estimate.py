"""Clean estimates: from one network output, or by several deterministic updates."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from passband._checks import check_integer
from passband._numerics import compute_dtype
from passband.process import Process, Time

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""One more output of the network that is trained: `denoiser(x_t, t)`, x_t unscaled and t (batch,) in the process's own
time, returns the process's prediction, with gradients. `lambda x, t: predict(model, process, x, t)` is one."""


@runtime_checkable
class CleanEstimate(Protocol):
    """How the clean estimate comes from a network output.

    One that calls the network again has an attribute `needs_denoiser` that is true.
    """

    def __call__(
        self, process: Process, noisy: Tensor, pred: Tensor, t: Time, denoiser: Denoiser | None = None
    ) -> Tensor:
        """Return the clean estimate, differentiable in pred (and through the denoiser's outputs)."""
        ...


def tweedie(process: Process, noisy: Tensor, pred: Tensor, t: Time, denoiser: Denoiser | None = None) -> Tensor:  # noqa: ARG001
    """Estimate from one network output: [`Process.clean_estimate`][passband.process.Process.clean_estimate]."""
    return process.clean_estimate(noisy, pred, t)


class DDIMEstimate:
    r"""The clean end of n deterministic (DDIM, Euler) updates from $x_t$, as the paper has it for audio.

    The updates run at times evenly spaced in the process's own time between t and its clean end (noise levels, where
    that is at minus infinity), each sample from its own t. The first uses the network's output that is there; each
    further one calls the denoiser, and gradients flow through all of them: n = 5 keeps the activations of 5 calls. With
    n = 1 it is Tweedie's estimate.

    The times of a VP process are not whole indices then; a network that looks its times up in a table cannot take them.

    Args:
        steps: the number n of updates, at least 1.

    Raises:
        TypeError: if steps is no integer.
        ValueError: if steps is less than 1; when called, if steps is more than 1 and there is no denoiser.

    Example:
        >>> import torch
        >>> from passband import Flow
        >>> from passband.regularization import DDIMEstimate
        >>> process = Flow(data_at=1, prediction="sample")
        >>> def denoiser(x, t):  # exact for data that is one point, 0.25
        ...     return torch.full_like(x, 0.25)
        >>> noisy, t = torch.randn(2, 1, 8), torch.tensor([0.1, 0.9])
        >>> DDIMEstimate(3)(process, noisy, denoiser(noisy, t), t, denoiser).unique().item()
        0.25

    Source: Spectral Regularization (arXiv:2603.02447); Song et al. 2021 (DDIM, arXiv:2010.02502), Eq. 12 with eta = 0.
    """

    def __init__(self, steps: int = 1) -> None:
        check_integer("steps", steps)
        if steps < 1:
            raise ValueError(f"steps is the number of updates, at least 1; got {steps}")
        self.steps = steps

    @property
    def needs_denoiser(self) -> bool:
        """Whether it calls the network again."""
        return self.steps > 1

    def __call__(
        self, process: Process, noisy: Tensor, pred: Tensor, t: Time, denoiser: Denoiser | None = None
    ) -> Tensor:
        r"""Return the clean estimate.

        Args:
            process: the process that noised the samples, with the network's prediction.
            noisy: $x_t$, (batch, \*shape).
            pred: the network's output at t, of the same shape.
            t: times, a number or (batch,).
            denoiser: the network, called as `denoiser(x, t)`.

        """
        estimate = process.clean_estimate(noisy, pred, t)
        if self.steps == 1:
            return estimate
        if denoiser is None:
            raise ValueError(
                f"{self!r} calls the network {self.steps - 1} more time(s): pass denoiser=, a function (x, t) -> "
                "prediction such as lambda x, t: predict(model, process, x, t)"
            )
        x, times = noisy, _times(process, noisy, t, self.steps)
        for now, after in pairwise(times):
            x = _step(process, x, process.steered(x, estimate, now), now, after)
            estimate = process.clean_estimate(x, denoiser(x, after), after)
        return estimate

    def __repr__(self) -> str:
        return f"DDIMEstimate(steps={self.steps})"


def _times(process: Process, noisy: Tensor, t: Time, steps: int) -> list[Tensor]:
    """The times at which the updates start, each (batch,)."""
    start = torch.as_tensor(t, dtype=compute_dtype(noisy)).to(noisy.device).reshape(-1).expand(len(noisy))
    shares = [step / steps for step in range(steps)]
    if math.isfinite(process.clean_time):
        return [(1 - share) * start + share * process.clean_time for share in shares]
    ratio = process.noise_ratio(start)
    return [start, *(process.time_at((1 - share) * ratio) for share in shares[1:])]


def _step(process: Process, noisy: Tensor, estimate: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The process's step from t to s, and none for samples that have no noise, where it would be 0 / 0."""
    clean = process.noise_ratio(t) == 0
    t, s = (x.masked_fill(clean, process.noise_time) for x in (t, s))
    return process.step(noisy, estimate, t, s)
