r"""The spectral term in kohya's sd-scripts.

What the host gives, and what it means:

- `get_noise_pred_and_target` returns (prediction, target, timesteps, ..., weighting), `post_process_loss` takes the
  per-sample loss: between the two lies all that the term needs, $\hat{x}_0 - x_0 = -k\, (p - p^*)$.
- SD and SDXL: $\varepsilon$, or v by `--v_parameterization` (which the scheduler's own config need not know); timesteps
  are indices. `--zero_terminal_snr` replaces the scheduler's `alphas_cumprod`, so it is read when training runs.
- Flux, HunyuanImage: the target is noise minus latents, timesteps are 1,000 times the noise level. Lumina: latents
  minus noise, the same timesteps. Anima: noise minus latents, the noise level itself.
- SD3: the host turns the output into a clean estimate and compares it to the latents.

Nothing of the host is imported.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from passband._checks import check_choice
from passband.integrations._host_terms import TermLike, as_shaped, factors, masked_target, of_one_output
from passband.integrations._sd_scripts_host import flow_of, loss_mask, process_of
from passband.process import Process

__all__ = ["SpectralTerm", "process_of", "with_term"]

_Class = TypeVar("_Class", bound=type)

HostWeights = Literal["none", "host"]


class SpectralTerm:
    """The term as a function of what a training script of sd-scripts holds, for scripts without a plug-in point.

    Args:
        regularizer: the term, or its arguments in plain values.
        process: the process of the training; default: of the script's scheduler and arguments (SD, SDXL).

    Raises:
        TypeError, ValueError: as [`SpectralRegularizer`][passband.regularization.SpectralRegularizer] does.

    Example:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> from diffusers import DDPMScheduler
        >>> from passband.integrations.sd_scripts import SpectralTerm
        >>> spectral = SpectralTerm({"loss": "wavelet", "weight": 0.01})  # before the loop
        >>> args, noise_scheduler = SimpleNamespace(v_parameterization=False), DDPMScheduler()
        >>> noise, timesteps = torch.randn(2, 4, 8, 8), torch.tensor([10, 500])
        >>> noise_pred = noise + 0.1
        >>> loss = (noise_pred - noise).square().mean()
        >>> loss = loss + spectral(args, noise_scheduler, noise_pred, noise, timesteps)  # in it

    """

    def __init__(self, regularizer: TermLike, *, process: Process | None = None) -> None:
        self.regularizer = of_one_output(regularizer)
        self.given = process
        self._found: tuple[object, Process] | None = None

    def __call__(
        self,
        args: Any,
        noise_scheduler: Any,
        noise_pred: Tensor,
        target: Tensor,
        timesteps: Tensor,
        *,
        latents: Tensor | None = None,
        base_loss: Tensor | None = None,
    ) -> Tensor:
        r"""Return the term, a scalar to add to the script's loss.

        Args:
            args: the script's arguments.
            noise_scheduler: its scheduler.
            noise_pred: the prediction as the script's loss takes it, (batch, channels, \*spatial).
            target: what that loss compares it to.
            timesteps: (batch,), as the script holds them.
            latents: the clean latents, scaled as they are noised; needed by losses of more than the difference.
            base_loss: the scalar base loss, needed by a weight by gradient share.

        """
        process = self.process(args, noise_scheduler)
        return self.regularizer.of_residual(process, noise_pred, target, timesteps, clean=latents, base_loss=base_loss)

    def process(self, args: Any, noise_scheduler: Any) -> Process:
        """The process of a scheduler and arguments, made once."""
        if self.given is not None:
            return self.given
        if self._found is None or self._found[0] is not noise_scheduler:
            self._found = noise_scheduler, process_of(args, noise_scheduler)
        return self._found[1]


class _Kept(NamedTuple):
    """What the one hook saw for the other."""

    pred: Tensor
    target: Tensor
    latents: Tensor
    weighting: Tensor | None
    batch: Mapping[str, Any]


def with_term(
    trainer: _Class,
    regularizer: TermLike,
    *,
    process: Process | None = None,
    weights: HostWeights = "none",
) -> _Class:
    r"""A sub-class of a network trainer whose loss of each sample includes the term.

    The term is there where the prediction has a gradient, so validation losses stay what they were. Factors of the
    images (`loss_weights`: prior preservation) and loss masks count in the term as they do in the base loss.

    Args:
        trainer: `NetworkTrainer` of train_network.py, or a sub-class: SDXL's, Flux's, SD3's, Lumina's, HunyuanImage's,
            Anima's.
        regularizer: the term, or its arguments in plain values.
        process: the process of the training; default: by the trainer, the scheduler and the arguments.
        weights: `host`: the term of each sample times what min-SNR, debiased estimation, v-like scaling and weighting
            schemes make of the base loss; `none`: not.

    Returns:
        The class. Its `spectral` is the regularizer, whose terms join the host's logged steps under `spectral/`.

    Raises:
        TypeError, ValueError: as [`SpectralRegularizer`][passband.regularization.SpectralRegularizer] does, for a class
            without the two hooks, or an unknown `weights`; in the first step, for a trainer whose process is not known.

    Example:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> from diffusers import DDPMScheduler
        >>> from passband.integrations.sd_scripts import with_term
        >>> class NetworkTrainer:  # what train_network.py has
        ...     def get_noise_pred_and_target(self, args, accelerator, noise_scheduler, latents, batch):
        ...         noise = torch.randn_like(latents)
        ...         pred = (0.9 * noise).requires_grad_()
        ...         return pred, noise, torch.tensor([10, 500]), None
        ...     def post_process_loss(self, loss, args, timesteps, noise_scheduler):
        ...         return loss
        >>> trainer = with_term(NetworkTrainer, {"loss": "wavelet", "weight": 0.01})()
        >>> args, scheduler = SimpleNamespace(v_parameterization=False), DDPMScheduler()
        >>> pred, target, t, _ = trainer.get_noise_pred_and_target(args, None, scheduler, torch.randn(2, 4, 8, 8), {})
        >>> base = (pred - target).square().mean((1, 2, 3))
        >>> bool((trainer.post_process_loss(base, args, t, scheduler) > base).all())
        True

    """
    term = SpectralTerm(regularizer, process=process)
    check_choice("weights", weights, ("none", "host"))
    for hook in ("get_noise_pred_and_target", "post_process_loss"):
        if not callable(getattr(trainer, hook, None)):
            raise TypeError(f"{trainer!r} has no {hook}: expected a network trainer class of sd-scripts")

    class WithTerm(trainer):  # type: ignore[misc, valid-type]
        spectral = term.regularizer
        _spectral_kept: _Kept | None = None

        def get_noise_pred_and_target(
            self,
            args: Any,
            accelerator: Any,
            noise_scheduler: Any,
            latents: Tensor,
            batch: Any,
            *rest: Any,
            **named: Any,
        ) -> Any:
            found = super().get_noise_pred_and_target(
                args, accelerator, noise_scheduler, latents, batch, *rest, **named
            )
            self._spectral_kept = _Kept(found[0], found[1], latents, found[-1], batch)
            return found

        def post_process_loss(self, loss: Tensor, args: Any, timesteps: Tensor, noise_scheduler: Any) -> Tensor:
            base: Tensor = super().post_process_loss(loss, args, timesteps, noise_scheduler)
            kept, self._spectral_kept = self._spectral_kept, None
            if kept is None or not kept.pred.requires_grad:
                return base
            sample_weight = kept.batch.get("loss_weights")
            if weights == "host":
                ones = super().post_process_loss(torch.ones_like(loss), args, timesteps, noise_scheduler)
                sample_weight = factors(sample_weight, ones, kept.weighting)
            return base + term.regularizer.per_sample_of_residual(
                _process(term, self, args, noise_scheduler),
                kept.pred,
                masked_target(kept.pred, kept.target, loss_mask(args, kept.batch, kept.pred)),
                timesteps,
                clean=as_shaped(kept.latents, kept.pred),
                base_loss=base.mean(),
                sample_weight=sample_weight,
            )

        def generate_step_logs(self, *args: Any, **named: Any) -> Any:
            return super().generate_step_logs(*args, **named) | term.regularizer.logged()

    WithTerm.__name__ = WithTerm.__qualname__ = f"{trainer.__name__}WithTerm"
    return WithTerm  # type: ignore[return-value]


def _process(term: SpectralTerm, trainer: object, args: Any, noise_scheduler: Any) -> Process:
    """The process given, the one known by the trainer's class, or the scheduler's."""
    if term.given is None and not hasattr(noise_scheduler, "alphas_cumprod"):
        found = flow_of(trainer)
        if found is not None:
            return found
    return term.process(args, noise_scheduler)
