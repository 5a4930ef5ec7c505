r"""The spectral term in ostris' ai-toolkit.

What the host gives, and what it means: `SDTrainer.calculate_loss` receives prediction, noise, noisy latents, timesteps
and the batch, whose `latents` are clean and as they were noised. Flow models predict noise minus latents, and their
timesteps are 1,000 times the noise level; others predict $\varepsilon$ or v at an index of the scheduler's
`alphas_cumprod`. A model with `x0_pred` predicts the clean latents.

Nothing of the host is imported.
"""

from typing import Any, TypeVar

import torch
from torch import Tensor

from passband.integrations._host_terms import TermLike, by_frames, masked_target, of_one_output
from passband.integrations._target_check import check_target
from passband.process import VP, Flow, Prediction, Process

_Class = TypeVar("_Class", bound=type)

#: Options under which the base loss compares something else than the prediction with its target.
_OTHER_TARGETS = (
    "train_turbo", "do_guidance_loss", "do_differential_guidance", "correct_pred_norm", "match_noise_norm",
    "do_signal_amplification",
)  # fmt: skip
#: Options that multiply the prediction or its target, by 1 unless they are set.
_SCALES = ("pred_scaler", "target_noise_multiplier")


def with_term(
    trainer: _Class,
    regularizer: TermLike | None = None,
    *,
    process: Process | None = None,
    per_frame: bool = False,
) -> _Class:
    """A sub-class of the host's trainer whose loss includes the term, for an extension's `get_process`.

    Loss masks and the datasets' loss multipliers count in the term as they do in the base loss; where the host matches
    a prior prediction, so does the term.

    Args:
        trainer: `SDTrainer`, or a sub-class.
        regularizer: the term, or its arguments in plain values; None: what the job's configuration says under
            `spectral:`.
        process: the process of the training; default: by the model (flow matching or not) and its scheduler, checked in
            the first step against the target that the model names.
        per_frame: of videos, take each frame as an image, instead of the video as one volume; a single frame always is
            one.

    Returns:
        The class. Its `spectral` is the regularizer, whose terms join the host's logged losses under `spectral/`.

    Raises:
        TypeError: for a class without `calculate_loss`, or a regularizer of another kind.
        ValueError: in the first step, for options that replace the prediction or its target (`train_turbo`,
            `do_guidance_loss`, `do_differential_guidance`, `correct_pred_norm`, `match_noise_norm`,
            `do_signal_amplification`, `pred_scaler`, `target_noise_multiplier`), and for a model whose target is
            another.

    """
    given = None if regularizer is None else of_one_output(regularizer)
    if not callable(getattr(trainer, "calculate_loss", None)):
        raise TypeError(f"{trainer!r} has no calculate_loss: expected ai-toolkit's SDTrainer or a sub-class")

    class WithTerm(trainer):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **named: Any) -> None:
            super().__init__(*args, **named)
            found = given or of_one_output(self.get_conf("spectral", required=True))
            self.spectral = by_frames(found, per_frame)
            self._spectral_process = process

        def calculate_loss(
            self,
            noise_pred: Tensor,
            noise: Tensor,
            noisy_latents: Tensor,
            timesteps: Tensor,
            batch: Any,
            mask_multiplier: Tensor | float = 1.0,
            prior_pred: Tensor | None = None,
            **named: Any,
        ) -> Tensor:
            seen = (noise_pred, noise, noisy_latents, timesteps, batch, mask_multiplier, prior_pred)
            base: Tensor = super().calculate_loss(*seen, **named)
            if not noise_pred.requires_grad:
                return base
            _check_options(self.train_config)
            clean, new = _clean(batch, noise_pred), self._spectral_process is None
            if self._spectral_process is None:
                self._spectral_process = process_of(self.sd)
            target, own = _target(self, self._spectral_process, clean, noise, timesteps, batch, prior_pred)
            if new and own and not torch.compiler.is_compiling():
                _check_target(self._spectral_process, target, timesteps, clean, noise)
            return base + self.spectral.of_residual(
                self._spectral_process,
                noise_pred,
                masked_target(noise_pred, target, _mask(mask_multiplier, noise_pred)),
                timesteps,
                clean=clean,
                base_loss=base,
                sample_weight=_multipliers(batch, noise_pred),
            )

        def hook_train_loop(self, *args: Any, **named: Any) -> Any:
            losses = super().hook_train_loop(*args, **named)
            losses.update(self.spectral.logged())
            return losses

    WithTerm.__name__ = WithTerm.__qualname__ = f"{trainer.__name__}WithTerm"
    return WithTerm  # type: ignore[return-value]


def process_of(model: Any) -> Process:
    """The process that a model of the host is trained on.

    Args:
        model: the trainer's `sd`, with `is_flow_matching`, `prediction_type` and `noise_scheduler`, and `x0_pred` in
            newer versions.

    Raises:
        ValueError: on another prediction type, or a scheduler without `alphas_cumprod`.

    Example:
        >>> from types import SimpleNamespace
        >>> from passband.integrations.ai_toolkit import process_of
        >>> process_of(SimpleNamespace(is_flow_matching=True)).time_range
        (0.0, 1000.0)

    """
    if model.is_flow_matching:
        return Flow(0, "sample" if getattr(model, "x0_pred", False) else "velocity", time_scale=1000.0)
    known: dict[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "v_prediction", "sample": "sample"}
    table = getattr(model.noise_scheduler, "alphas_cumprod", None)
    if model.prediction_type not in known or table is None:
        raise ValueError(
            f"unknown training of the model: prediction_type {model.prediction_type!r} with the scheduler "
            f"{type(model.noise_scheduler).__name__}; pass its process, e.g. process=VP('epsilon', alphas_cumprod=...)"
        )
    return VP(known[model.prediction_type], alphas_cumprod=table)


def _check_options(config: Any) -> None:
    found = [option for option in _OTHER_TARGETS if getattr(config, option, False)]
    found += [option for option in _SCALES if getattr(config, option, 1.0) != 1]
    if found:
        raise ValueError(
            f"train.{found[0]} replaces what the prediction is compared to, so no clean estimate follows from it: "
            "train without this option, or without the spectral term"
        )


def _check_target(process: Process, target: Tensor, timesteps: Tensor, clean: Tensor, noise: Tensor) -> None:
    try:
        check_target(process, target, timesteps, clean=clean, noise=noise)
    except ValueError as error:
        raise ValueError(
            f"the model's get_loss_target is not the target of {process!r} for these latents, noise and timesteps: "
            "pass the process that it is trained on, e.g. process=Flow(data_at=0, prediction='sample', "
            "time_scale=1000) for a model that predicts clean latents"
        ) from error


def _clean(batch: Any, pred: Tensor) -> Tensor:
    """The batch's clean latents, repeated where the host doubled the batch (long and short captions)."""
    latents: Tensor = batch.latents.to(pred.device)
    copies = len(pred) // len(latents)
    return latents if copies <= 1 else torch.cat([latents] * copies)


def _target(
    trainer: Any, process: Process, clean: Tensor, noise: Tensor, timesteps: Tensor, batch: Any, prior: Tensor | None
) -> tuple[Tensor, bool]:
    """What the base loss compares the prediction to, and whether the model named it.

    Of v it is as it should be, whatever the host makes of it.
    """
    config = trainer.train_config
    masked = getattr(config, "inverted_mask_prior", False) and getattr(batch, "mask_tensor", None) is not None
    if prior is not None and not masked and not getattr(config, "do_prior_divergence", False):
        return prior, False
    if trainer.sd.is_flow_matching and hasattr(trainer.sd, "get_loss_target"):
        found: Tensor = trainer.sd.get_loss_target(noise=noise, batch=batch, timesteps=timesteps)
        return found.detach(), True
    return process.target(clean, noise.to(clean.dtype), timesteps), False


def _mask(multiplier: Tensor | float, pred: Tensor) -> Tensor | None:
    """The loss mask with an axis for frames where the prediction has one."""
    if not isinstance(multiplier, Tensor):
        return None if multiplier == 1 else torch.tensor(float(multiplier))
    return multiplier.unsqueeze(2) if multiplier.ndim == pred.ndim - 1 else multiplier


def _multipliers(batch: Any, pred: Tensor) -> Tensor | None:
    """The datasets' loss multipliers, one for each sample, where this version of the host has them and they differ."""
    found = getattr(batch, "loss_multiplier_list", None)
    if found is None or all(value == 1 for value in found):
        return None  # no copy to the device
    values = torch.tensor(found, dtype=torch.float32, device=pred.device)
    return values if len(values) == len(pred) else values.repeat(len(pred) // len(values))
