r"""The spectral term in lmnt's DiffWave learner.

Its `train_step` draws an integer diffusion step for each clip, noises the audio, calls the model with noisy audio, step
and spectrogram (in two orders, by version) and then `loss_fn(noise, predicted)`, audio being (batch, samples). Noisy
audio and step are recorded where the model is called, and the clean audio follows from noisy audio and noise; so the
learner's own code runs unchanged.

Nothing of the host is imported.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from passband.integrations._host_terms import TermLike, of_one_output
from passband.process import VP
from passband.regularization import SpectralRegularizer


def attach_term(learner: Any, regularizer: TermLike) -> "TermHandle":
    """Add the term to a learner's loss, by its `loss_fn` and a hook on its model.

    Checkpoints are not changed: neither the learner's state nor the model's has anything of it.

    Args:
        learner: a `DiffWaveLearner`, or what has its `model`, `loss_fn` and `params.noise_schedule`; the model may be
            wrapped for several GPUs already.
        regularizer: the term, or its arguments in plain values; losses see (batch, 1, samples).

    Returns:
        A handle, whose `remove()` gives the learner its loss back.

    Raises:
        TypeError: if this is no such learner, or the regularizer of another kind.

    Example:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> from passband.integrations.diffwave_learner import attach_term
        >>> class Network(torch.nn.Conv1d):
        ...     def forward(self, audio, diffusion_step, spectrogram=None):
        ...         return super().forward(audio[:, None])
        >>> schedule = SimpleNamespace(noise_schedule=torch.linspace(1e-4, 0.05, 50).tolist())
        >>> learner = SimpleNamespace(model=Network(1, 1, 3, padding=1), loss_fn=torch.nn.L1Loss(), params=schedule)
        >>> handle = attach_term(learner, {"loss": "amplitude_phase", "weight": 1e-4})
        >>> noise = torch.randn(2, 512)
        >>> predicted = learner.model(0.8 * torch.randn(2, 512) + 0.6 * noise, torch.tensor([3, 40]))
        >>> learner.loss_fn(noise, predicted.squeeze(1)).backward()  # as train_step does
        >>> handle.remove()

    """
    term = of_one_output(regularizer)
    missing = [name for name in ("model", "loss_fn", "params") if not hasattr(learner, name)]
    if missing:
        raise TypeError(f"{type(learner).__name__} has no {missing[0]}: expected a DiffWaveLearner")
    return TermHandle(learner, term)


class TermHandle:
    """The term on a learner, until it is removed; made by
    [`attach_term`][passband.integrations.diffwave_learner.attach_term]."""  # noqa: D205, D209

    def __init__(self, learner: Any, regularizer: SpectralRegularizer) -> None:
        self.spectral = regularizer
        self.process = process_of(learner.params.noise_schedule)
        self._learner, self._base = learner, learner.loss_fn
        self._seen: tuple[Tensor, Tensor] | None = None
        self._removed = False
        self._hook = learner.model.register_forward_pre_hook(self._record, with_kwargs=True)
        learner.loss_fn = self.loss

    def remove(self) -> None:
        """Give the learner its own loss back."""
        self._hook.remove()
        self._seen, self._removed = None, True
        # Another attachment over this one keeps its place, and calls through.
        if self._learner.loss_fn == self.loss:
            self._learner.loss_fn = self._base

    def loss(self, noise: Tensor, predicted: Tensor) -> Tensor:
        """The learner's loss with the term, in the learner's order of arguments."""
        if self._removed:
            base: Tensor = self._base(noise, predicted)
            return base
        seen, self._seen = self._seen, None
        if seen is None:
            raise RuntimeError("the loss was called without a call of the model before it; see attach_term")
        (noisy, step), pred = seen, predicted.unsqueeze(1)
        base = self._base(noise, pred.squeeze(1))  # of pred, for a weight by gradient share
        return base + self.spectral.of_residual(
            self.process, pred, noise.unsqueeze(1), step, noisy=noisy.unsqueeze(1), base_loss=base
        )

    def _record(self, _model: object, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        inputs = [value for value in (*args, *named.values()) if isinstance(value, Tensor)]
        steps = [value for value in inputs if not value.is_floating_point()]
        if len(steps) != 1:
            raise TypeError(
                f"the model was called with {len(steps)} integer tensors; expected one, the diffusion steps (batch,), "
                "beside the noisy audio and the spectrogram"
            )
        self._seen = inputs[0].detach(), steps[0]


def process_of(noise_schedule: Any) -> VP:
    """The process of a noise schedule of betas, in DiffWave's time: integer steps.

    Args:
        noise_schedule: the betas, a sequence of numbers in (0, 1).

    Example:
        >>> from passband.integrations.diffwave_learner import process_of
        >>> process_of([0.1, 0.2, 0.5]).steps
        3

    """
    betas = np.asarray(noise_schedule, dtype=np.float64)
    return VP("epsilon", alphas_cumprod=torch.from_numpy(np.cumprod(1 - betas)))
