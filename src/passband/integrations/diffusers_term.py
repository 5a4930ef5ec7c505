r"""The spectral term from what a diffusers training script holds, one line beside its own loss.

Nothing of diffusers is imported here: the scheduler is read as an object.
"""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from passband._checks import check_choice, check_floating
from passband.integrations._host_terms import of_one_output
from passband.integrations._known_schedulers import KnownSchedulers
from passband.integrations._script_batch import flat_weights, half_of_batch, mean_half, own_times, taken
from passband.integrations._target_check import check_target, check_unit
from passband.process import Prediction
from passband.regularization import SpectralLoss, SpectralRegularizer
from passband.regularization.gate import Gate
from passband.regularization.loss import Field, PerSample
from passband.regularization.weight import Weight

Output = Float[Tensor, "batch channels_and_variances *spatial"]
Samples = Float[Tensor, "_ channels *spatial"]


class DiffusersTerm(nn.Module):
    r"""The spectral term of a diffusers training script: `loss = loss + spectral(noise_scheduler, model_pred, ...)`.

    It reads the process from the scheduler at each call (built once, and again if its prediction type or table was
    replaced), so the same line serves `epsilon`, `sample`, `v_prediction`, EDM and flow scripts. From the network's
    output p and the script's target p* it takes $\hat x_0 = x_0 - k\, (p - p^*)$, k the process's
    [`residual_gain`][passband.process.Process.residual_gain].

    What the scripts do, and it knows:

    - prior preservation: model_pred and target are one half of the batch, timesteps and latents the whole. With twice
      as many times as predictions, the first half of times, clean, noisy, noise and weights is taken (the instance
      images), or the second with `chunk=1`.
    - learned variance: of a model_pred with twice the target's channels, the first half.
    - timesteps or sigmas: where a script holds both, the sigmas are what it noised with.

    It has no parameters and adds nothing to a state dict.

    Args:
        loss: a loss, a description of one, or a whole
            [`SpectralRegularizer`][passband.regularization.SpectralRegularizer] with its weight and gate.
        weight: as for a SpectralRegularizer.
        gate: as for a SpectralRegularizer.
        prediction: what model_pred is, by our names, where it is not what the scheduler says: `sample` where the script
            turns the output into a clean estimate first (`--precondition_outputs`, `--do_edm_style_training`).

    Raises:
        TypeError, ValueError: on an unknown loss, weight, gate or prediction, a weight or gate beside a
            SpectralRegularizer, or one whose clean estimate calls the network again.

    Example:
        >>> import torch
        >>> from diffusers import DDPMScheduler
        >>> from passband import WaveletLoss
        >>> from passband.integrations import DiffusersTerm
        >>> spectral = DiffusersTerm(WaveletLoss("haar"), weight=0.01)
        >>> noise_scheduler = DDPMScheduler(prediction_type="v_prediction")
        >>> latents, noise, timesteps = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.tensor([10, 500])
        >>> target = noise_scheduler.get_velocity(latents, noise, timesteps)
        >>> spectral(noise_scheduler, target, target, timesteps, clean=latents, noise=noise).item()
        0.0

    """

    def __init__(
        self,
        loss: SpectralLoss | SpectralRegularizer | str | Mapping[str, Any] | Sequence[Any],
        weight: float | str | Mapping[str, float] | Weight = 0.01,
        gate: float | Mapping[str, float] | Gate | None = None,
        *,
        prediction: Prediction | None = None,
    ) -> None:
        super().__init__()
        if prediction is not None:
            check_choice("prediction", prediction, get_args(Prediction))
        if not isinstance(loss, SpectralRegularizer):
            loss = SpectralRegularizer(loss, weight, gate)
        elif gate is not None or weight != 0.01:
            raise ValueError("a SpectralRegularizer has its own weight and gate: set them there, not here as well")
        self.regularizer = of_one_output(loss)
        self._schedulers = KnownSchedulers(prediction)

    @property
    def prediction(self) -> Prediction | None:
        """What model_pred is, where it is not what the scheduler says."""
        return self._schedulers.prediction

    @property
    def terms(self) -> dict[str, Tensor]:
        """Detached means of the last call, on its device, as a SpectralRegularizer has them."""
        return self.regularizer.terms

    def logged(self, prefix: str = "spectral") -> dict[str, float]:
        """The last call's terms as numbers for a tracker; waits for the device, so call it at logged steps."""
        return self.regularizer.logged(prefix)

    def forward(
        self,
        scheduler: Any,
        model_pred: Output,
        target: Field,
        timesteps: Tensor | float | int | None = None,
        *,
        sigmas: Tensor | None = None,
        clean: Samples | None = None,
        noisy: Samples | None = None,
        noise: Samples | None = None,
        sample_weight: Tensor | None = None,
        base_loss: Tensor | None = None,
        chunk: int = 0,
    ) -> Tensor:
        r"""Return the mean over the batch of the weighted term, a scalar to add to the script's loss.

        Args:
            scheduler: the noise scheduler of the script, or a Process.
            model_pred: the network's output, (batch, channels, \*spatial), in any floating dtype.
            target: what the script compares it to, of the same shape.
            timesteps: times as the script draws them, (batch,); not needed with sigmas.
            sigmas: noise levels of flow, Euler and EDM schedulers, (batch,) or (batch, 1, 1, 1), in the dtype that
                the script noised with.
            clean: the clean latents or images, scaled as the network sees them.
            noisy: the noisy ones before any scaling of the network's input; may stand in for clean.
            noise: the noise. It is not part of the term: with it, the first call for a scheduler checks that the target
                is the one of clean, noise and timesteps, so that a rewritten target (DREAM) or another prediction is
                an error.
            sample_weight: weights of the samples, (batch,) or (batch, 1, 1, 1), such as min-SNR's.
            base_loss: the script's loss, for a weight by gradient share.
            chunk: which half of the batch model_pred and target are with prior preservation: 0 instance, 1 prior.

        Returns:
            The term, in at least float32.

        Raises:
            TypeError: if an input is of the wrong type, or the scheduler is not supported.
            ValueError: if shapes do not fit, the loss needs clean samples and none are given, or the target is not the
                scheduler's.

        """
        values = self.per_sample(
            scheduler,
            model_pred,
            target,
            timesteps,
            sigmas=sigmas,
            clean=clean,
            noisy=noisy,
            noise=noise,
            sample_weight=sample_weight,
            base_loss=base_loss,
            chunk=chunk,
        )
        return values.mean()

    def per_sample(
        self,
        scheduler: Any,
        model_pred: Output,
        target: Field,
        timesteps: Tensor | float | int | None = None,
        *,
        sigmas: Tensor | None = None,
        clean: Samples | None = None,
        noisy: Samples | None = None,
        noise: Samples | None = None,
        sample_weight: Tensor | None = None,
        base_loss: Tensor | None = None,
        chunk: int = 0,
    ) -> PerSample:
        """Return the weighted term of each sample, shape (batch,).

        The arguments are those of [`forward`][passband.integrations.DiffusersTerm.forward].
        """
        check_floating("model_pred", model_pred)
        check_floating("target", target)
        check_choice("chunk", chunk, (0, 1))
        process, new = self._schedulers(scheduler)
        pred = mean_half(model_pred, target)
        t = own_times(process, timesteps, sigmas)
        batch, rows = len(pred), half_of_batch(len(pred), t.numel(), chunk)
        t = t if rows is None else t[rows]
        clean, noisy, noise, sample_weight = (
            taken(name, x, batch, rows)
            for name, x in (
                ("clean", clean),
                ("noisy", noisy),
                ("noise", noise),
                ("sample_weight", flat_weights(sample_weight)),
            )
        )
        if new and not torch.compiler.is_compiling():
            # Elsewhere than on the CPU looking costs a wait, which noise and noisy ask for and clean alone does not.
            if sigmas is None and (t.device.type == "cpu" or noise is not None or noisy is not None):
                check_unit(process, t)
            check_target(process, target, t, clean=clean, noise=noise, noisy=noisy)
        return self.regularizer.per_sample_of_residual(
            process,
            pred,
            target,
            t,
            clean=clean,
            noisy=noisy,
            base_loss=base_loss,
            sample_weight=sample_weight,
        )

    def extra_repr(self) -> str:
        """Options, for the text of the module."""
        return f"prediction={self.prediction!r}"
