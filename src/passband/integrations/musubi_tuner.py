r"""The spectral term in kohya's musubi-tuner.

What the host gives, and what it means: `call_dit` receives clean latents, noise, the noisy input and timesteps, and
returns the prediction with its target: noise minus latents, or (Z-Image) latents minus noise. Latents are (batch,
channels, frames, height, width), or without frames. Timesteps tell the noise level $\sigma$ in two ways:
`--timestep_sampling sigma` takes them from the scheduler, $1000\, \sigma$; all others draw $\sigma$ and hold
$1000\, \sigma + 1$.

Nothing of the host is imported.
"""

from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from passband._numerics import no_autocast
from passband.integrations._host_terms import TermLike, as_shaped, by_frames, of_one_output
from passband.process import Flow

_Class = TypeVar("_Class", bound=type)


def noise_level(args: Any, timesteps: Tensor) -> Tensor:
    r"""The noise level $\sigma$ in [0, 1] that the host's timesteps stand for.

    Args:
        args: the host's arguments, with `timestep_sampling`.
        timesteps: (batch,), as the host holds them.

    Returns:
        $\sigma$ of each sample, in float32.

    Example:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> from passband.integrations.musubi_tuner import noise_level
        >>> noise_level(SimpleNamespace(timestep_sampling="shift"), torch.tensor([1.0, 501.0])).tolist()
        [0.0, 0.5]
        >>> noise_level(SimpleNamespace(timestep_sampling="sigma"), torch.tensor([500.0])).item()
        0.5

    """
    offset = 0.0 if args.timestep_sampling == "sigma" else 1.0
    return ((timesteps.float() - offset) / 1000).clamp(0, 1)


class SpectralTerm:
    r"""The term from what the host's loops hold after `call_dit`, for loops without a plug-in point.

    Args:
        regularizer: the term, or its arguments in plain values.
        per_frame: take each frame as an image, instead of the video as one volume; a single frame always is one.

    Raises:
        TypeError, ValueError: as [`SpectralRegularizer`][passband.regularization.SpectralRegularizer] does; when
            called, ValueError for a target that is no velocity.

    Example:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> from passband.integrations.musubi_tuner import SpectralTerm
        >>> spectral = SpectralTerm({"loss": "wavelet", "weight": 0.01}, per_frame=True)  # before the loop
        >>> args, timesteps = SimpleNamespace(timestep_sampling="shift"), torch.tensor([501.0])
        >>> latents, noise = torch.randn(1, 16, 3, 8, 8), torch.randn(1, 16, 3, 8, 8)
        >>> target = noise - latents
        >>> spectral(args, 0.9 * target, target, timesteps, latents, noise).shape  # in it
        torch.Size([])

    """

    def __init__(self, regularizer: TermLike, *, per_frame: bool = False) -> None:
        self.regularizer = by_frames(of_one_output(regularizer), per_frame)
        self._towards_noise: bool | None = None

    def __call__(
        self,
        args: Any,
        pred: Tensor,
        target: Tensor,
        timesteps: Tensor,
        latents: Tensor,
        noise: Tensor,
        *,
        base_loss: Tensor | None = None,
    ) -> Tensor:
        r"""Return the term, a scalar to add to the loop's loss.

        Args:
            args: the host's arguments.
            pred: the prediction, (batch, channels, \*spatial).
            target: its target, a velocity in either direction.
            timesteps: (batch,), as the host holds them.
            latents: the clean latents, scaled and shifted.
            noise: the noise, of their shape.
            base_loss: the scalar base loss, needed by a weight by gradient share.

        """
        latents, noise = (as_shaped(field.to(pred.device), pred) for field in (latents, noise))
        if self._towards_noise is None:  # a property of the host's model: looked at once
            self._towards_noise = _is_towards_noise(target, latents, noise)
        level = noise_level(args, timesteps)
        process, t = (Flow(0), level) if self._towards_noise else (Flow(1), 1 - level)
        return self.regularizer.of_residual(process, pred, target, t, clean=latents, base_loss=base_loss)


def with_term(trainer: _Class, regularizer: TermLike, *, per_frame: bool = False) -> _Class:
    """A sub-class of a network trainer whose backward pass includes the term.

    What `call_dit` last predicted with a gradient is kept, and the term joins the loss that the accelerator is given:
    so every loop of the host has it, gradient accumulation and loss scaling included. The loss that the host logs is
    the base loss; the terms are logged beside it.

    Args:
        trainer: a network trainer class: `WanNetworkTrainer`, `HunyuanVideoNetworkTrainer`, `QwenImageNetworkTrainer`,
            ...
        regularizer: the term, or its arguments in plain values.
        per_frame: take each frame as an image, instead of the video as one volume; a single frame always is one.

    Returns:
        The class. Its `spectral` is the regularizer, whose terms join the host's logged steps under `spectral/`.

    Raises:
        TypeError, ValueError: as [`SpectralRegularizer`][passband.regularization.SpectralRegularizer] does, and for a
            class without `call_dit`; in the first step, for a model whose target is no velocity.

    """
    term = SpectralTerm(regularizer, per_frame=per_frame)
    if not callable(getattr(trainer, "call_dit", None)):
        raise TypeError(f"{trainer!r} has no call_dit: expected a network trainer class of musubi-tuner")

    class WithTerm(trainer):  # type: ignore[misc, valid-type]
        spectral = term.regularizer
        _spectral_kept: _Kept | None = None

        def call_dit(
            self,
            args: Any,
            accelerator: Any,
            transformer: Any,
            latents: Tensor,
            batch: Any,
            noise: Tensor,
            noisy_model_input: Tensor,
            timesteps: Tensor,
            *rest: Any,
            **named: Any,
        ) -> Any:
            seen = (args, accelerator, transformer, latents, batch, noise, noisy_model_input, timesteps)
            output = super().call_dit(*seen, *rest, **named)
            pred, target = (output.pred, output.target) if hasattr(output, "pred") else output
            if pred.requires_grad:
                self._spectral_kept = _Kept(args, pred, target, timesteps, latents, noise)
                _add_to_backward(accelerator, self)
            return output

        def plus_spectral_term(self, loss: Tensor) -> Tensor:
            """The loss and the term of the last prediction, once."""
            kept, self._spectral_kept = self._spectral_kept, None
            if kept is None:
                return loss
            return loss + term(*kept, base_loss=loss)

        def generate_step_logs(self, *args: Any, **named: Any) -> Any:
            return super().generate_step_logs(*args, **named) | term.regularizer.logged()

    WithTerm.__name__ = WithTerm.__qualname__ = f"{trainer.__name__}WithTerm"
    return WithTerm  # type: ignore[return-value]


class _Kept(NamedTuple):
    """What the term needs of a call of the network."""

    args: Any
    pred: Tensor
    target: Tensor
    timesteps: Tensor
    latents: Tensor
    noise: Tensor


def _add_to_backward(accelerator: Any, trainer: Any) -> None:
    """Let the accelerator's backward pass ask the trainer for the term; once for each accelerator."""
    if getattr(accelerator, "_spectral_trainer", None) is trainer:
        return
    backward = accelerator.backward

    def with_term(loss: Tensor, *args: Any, **named: Any) -> Any:
        return backward(trainer.plus_spectral_term(loss), *args, **named)

    accelerator.backward, accelerator._spectral_trainer = with_term, trainer  # noqa: SLF001


#: Mean square by which a target may differ from a velocity, for that of the velocity 1.
_TOLERANCE = 0.05**2


def _is_towards_noise(target: Tensor, latents: Tensor, noise: Tensor) -> bool:
    """Whether the target is noise minus latents, not latents minus noise."""
    with torch.no_grad(), no_autocast(target):
        target, velocity = target.float(), noise.float() - latents.float()
        gaps = torch.stack([(target - velocity).square().mean(), (target + velocity).square().mean()])
        towards, away = (gaps / velocity.square().mean()).tolist()
    if min(towards, away) > _TOLERANCE:
        raise ValueError(
            "the target is neither noise minus latents nor latents minus noise: for a model with another target, "
            "call regularizer.of_residual(process, pred, target, t, clean=latents) with its process"
        )
    return not away < towards
