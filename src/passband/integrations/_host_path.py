"""Processes from the paths that a host defines by functions of its own."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from passband.process import Interpolant, Prediction, PredictionMix

HostPath = Callable[[Tensor], tuple[Tensor | float, Tensor | float, Tensor | float, Tensor | float]]
"""t -> (alpha, sigma, their slopes), where a constant may be a plain number."""


class HostInterpolant(Interpolant):
    """The interpolant of a host's path; `score`: its network predicts grad log p = -eps / sigma."""

    def __init__(
        self,
        path: HostPath,
        prediction: Prediction | Literal["score"],
        *,
        data_at: Literal[0, 1],
        sigma_data: float = 0.5,
    ) -> None:
        self.of_score = prediction == "score"
        name: Prediction = "epsilon" if prediction == "score" else prediction
        super().__init__(partial(_coefficients, path), name, data_at=data_at, sigma_data=sigma_data)

    def _mix(self, t: Tensor) -> PredictionMix:
        mix = super()._mix(t)
        return PredictionMix(mix.a, -mix.b / self.level(t).sigma) if self.of_score else mix


def _coefficients(path: HostPath, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    alpha, sigma, alpha_slope, sigma_slope = (_tensor(value, t) for value in path(t))
    return alpha, sigma, alpha_slope, sigma_slope


def _tensor(value: Tensor | float, t: Tensor) -> Tensor:
    return value if isinstance(value, Tensor) else torch.full_like(t, value)
