"""The spectral term of a training loss, for any process and prediction."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from passband._backend import by_hand
from passband._checks import check_floating, check_same_shape
from passband.process import Process, Time
from passband.regularization._held import remade
from passband.regularization.estimate import CleanEstimate, Denoiser, tweedie
from passband.regularization.gate import Gate
from passband.regularization.loss import Field, PerSample, SpectralLoss
from passband.regularization.named import Description, as_gate, as_loss, as_weight
from passband.regularization.residual import clean_pair, per_sample
from passband.regularization.weight import Weight


class SpectralRegularizer(nn.Module):
    r"""The term $\lambda\, w\, L_S(\hat x_0, x_0)$ to add to a training loss.

    It turns the network's output into the clean estimate by the process's one formula, whatever the prediction, and
    compares that to the clean sample. It has no parameters and adds nothing to a state dict.

    Args:
        loss: a loss of two clean samples, or a weighted sum: `AmplitudeLoss() + 0.1 * WaveletLoss()`; or its name or
            description in plain values, see [`as_loss`][passband.regularization.as_loss].
        weight: lambda, a number; `"edm"`: EDM's weight of the noise level (`{"edm": NUMBER}`: times a number);
            `{"share": NUMBER}` or an object such as [`GradientShare`][passband.regularization.GradientShare].
        gate: w, a function of the noise ratio with values in [0, 1]; a number is the largest noise ratio at which the
            term counts (`{"max_ratio": NUMBER, "softness": NUMBER}`: with a soft edge); default: no gate.
        clean_estimate: how the clean estimate comes from the network's output; default: Tweedie's, from one output;
            [`DDIMEstimate`][passband.regularization.DDIMEstimate] takes several.

    Raises:
        TypeError, ValueError: on an unknown weight, gate or loss, or numbers out of range.

    Example:
        >>> import torch
        >>> from passband import VP, AmplitudePhaseLoss, SpectralRegularizer
        >>> process, spectral = VP(), SpectralRegularizer(AmplitudePhaseLoss(), weight=0.01)
        >>> clean, noise, t = torch.randn(4, 3, 16, 16), torch.randn(4, 3, 16, 16), process.sample_times(4)
        >>> noisy = process.add_noise(clean, noise, t)
        >>> pred = noise + 0.1 * torch.randn_like(noise)  # the network's output
        >>> loss = (pred - noise).square().mean()
        >>> loss = loss + spectral(process, noisy, pred, t, clean=clean)
        >>> sorted(spectral.terms)
        ['amplitude_phase', 'total']

    Source: Spectral Regularization (arXiv:2603.02447).
    """

    #: Detached means of the last call, on its device: `total` (weighted, gated) and each loss's own value before that.
    terms: dict[str, Tensor]

    def __init__(
        self,
        loss: SpectralLoss | Description,
        weight: float | str | Mapping[str, float] | Weight = 0.01,
        gate: float | Mapping[str, float] | Gate | None = None,
        clean_estimate: CleanEstimate = tweedie,
    ) -> None:
        super().__init__()
        if not callable(clean_estimate):
            raise TypeError(
                f"clean_estimate must be a function (process, noisy, pred, t, denoiser), got {clean_estimate!r}"
            )
        self.loss = as_loss(loss)
        self.weight = as_weight(weight)
        self.gate = as_gate(gate)
        self.clean_estimate = clean_estimate
        self.terms = {}

    @property
    def needs_denoiser(self) -> bool:
        """Whether the clean estimate calls the network again, so that calls of this need `denoiser`."""
        return bool(getattr(self.clean_estimate, "needs_denoiser", False))

    def forward(
        self,
        process: Process,
        noisy: Field,
        pred: Field,
        t: Time,
        *,
        clean: Field,
        base_loss: Tensor | None = None,
        denoiser: Denoiser | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        r"""Return the mean over the batch of the weighted term, a scalar to add to the base loss.

        Args:
            process: the process that noised the samples, with the network's prediction.
            noisy: $x_t$ as the process made it, (batch, channels, \*spatial).
            pred: the network's output, of the same shape.
            t: times, a number or (batch,).
            clean: $x_0$, of the same shape.
            base_loss: the scalar base loss, needed by a weight by gradient share.
            denoiser: the network as a function (x, t) -> prediction, of x_t unscaled and times (batch,) in the
                process's own unit; called only by a clean estimate of several updates (see `needs_denoiser`).
            sample_weight: (batch,) factors of the samples, such as the host's SNR weights.

        Raises:
            TypeError: if an input is not floating.
            ValueError: if shapes differ, t is out of range, or a denoiser is needed and none is given.

        """
        values = self.per_sample(
            process,
            noisy,
            pred,
            t,
            clean=clean,
            base_loss=base_loss,
            denoiser=denoiser,
            sample_weight=sample_weight,
        )
        return values.mean()

    def per_sample(
        self,
        process: Process,
        noisy: Field,
        pred: Field,
        t: Time,
        *,
        clean: Field,
        base_loss: Tensor | None = None,
        denoiser: Denoiser | None = None,
        sample_weight: Tensor | None = None,
    ) -> PerSample:
        """Return the weighted term of each sample, shape (batch,).

        The arguments are those of [`forward`][passband.regularization.SpectralRegularizer.forward].
        """
        _check_process(process)
        check_floating("clean", clean)
        check_floating("pred", pred)
        check_same_shape("clean", clean, "pred", pred)
        estimate = self.clean_estimate(process, noisy, pred, t, denoiser=denoiser)
        # Another estimate may call the network, or draw, so it is kept.
        again = partial(tweedie, process, noisy, pred, t) if self.clean_estimate is tweedie else None
        named = self._terms(estimate, clean, again, noisy, pred, t)
        return self._weighted(named, process, t, pred, base_loss, sample_weight)

    def of_residual(
        self,
        process: Process,
        pred: Field,
        target: Field,
        t: Time,
        *,
        clean: Field | None = None,
        noisy: Field | None = None,
        base_loss: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        r"""Return the same term from what a host's own loss compares, $\hat{x}_0 - x_0 = -k\, (p - p^*)$.

        Args:
            process: the process that noised the samples, with the network's prediction.
            pred: the network's output $p$, (batch, channels, \*spatial).
            target: what the base loss compares it to, $p^*$, of the same shape: that prediction's target as it is.
            t: times, a number or (batch,).
            clean: $x_0$; more exact than `noisy` where both are at hand.
            noisy: $x_t$, from which and the target $x_0$ follows. Without clean and noisy only a loss of the difference
                can be computed: wavelets, pixels, frames of these, and sums of these.
            base_loss: the scalar base loss, needed by a weight by gradient share.
            sample_weight: (batch,) factors of the samples, such as the host's SNR weights.

        Raises:
            TypeError: if an input is not floating.
            ValueError: if shapes differ, t is out of range, the loss needs more than the residual, or the clean
                estimate takes several updates, which need the noisy samples and the network.

        Example:
            >>> import torch
            >>> from passband import Flow, SpectralRegularizer, WaveletLoss
            >>> process, spectral = Flow(data_at=0), SpectralRegularizer(WaveletLoss("haar"))
            >>> clean, noise, t = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.tensor([0.3, 0.6])
            >>> target = noise - clean
            >>> pred = target + 0.1 * torch.randn_like(target)  # the network's output
            >>> direct = spectral(process, process.add_noise(clean, noise, t), pred, t, clean=clean)
            >>> torch.allclose(spectral.of_residual(process, pred, target, t), direct, rtol=1e-4)
            True

        """
        values = self.per_sample_of_residual(
            process, pred, target, t, clean=clean, noisy=noisy, base_loss=base_loss, sample_weight=sample_weight
        )
        return values.mean()

    def per_sample_of_residual(
        self,
        process: Process,
        pred: Field,
        target: Field,
        t: Time,
        *,
        clean: Field | None = None,
        noisy: Field | None = None,
        base_loss: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> PerSample:
        """Return the weighted term of each sample, shape (batch,).

        The arguments are those of [`of_residual`][passband.regularization.SpectralRegularizer.of_residual].
        """
        _check_process(process)
        if self.needs_denoiser:
            raise ValueError(
                f"{self.clean_estimate!r} calls the network again, which a residual does not allow: call the "
                "regularizer itself with noisy, pred, clean= and denoiser=, or take clean_estimate=tweedie"
            )
        pair = partial(clean_pair, self.loss, process, pred, target, t, clean, noisy)
        read = noisy if clean is None else clean
        named = self._terms(*pair(), lambda: pair()[0], pred, target, read, t)
        return self._weighted(named, process, t, pred, base_loss, sample_weight)

    def logged(self, prefix: str = "spectral") -> dict[str, float]:
        """The terms of the last call as numbers, for a tracker: `{"spectral/total": ..., "spectral/amplitude": ...}`.

        Reading them waits for the device, so call it at the steps that are logged only.

        Args:
            prefix: what stands before the names, with a slash between; empty: nothing.

        """
        if not self.terms:
            return {}
        numbers = torch.stack([value.float() for value in self.terms.values()]).tolist()
        before = f"{prefix}/" if prefix else ""
        return {before + name: number for name, number in zip(self.terms, numbers, strict=True)}

    def _terms(
        self, estimate: Tensor, clean: Tensor, again: Callable[[], Tensor] | None, *sources: object
    ) -> dict[str, tuple[float, PerSample]]:
        """Weight and values of each loss by its name; `again` makes the estimate once more of the sources."""
        if again is None or not estimate.requires_grad or not by_hand(estimate):
            return _values(self.loss, estimate, clean)
        with remade(estimate, again, *sources):
            return _values(self.loss, estimate, clean)

    def _weighted(
        self,
        named: dict[str, tuple[float, PerSample]],
        process: Process,
        t: Time,
        pred: Tensor,
        base_loss: Tensor | None,
        sample_weight: Tensor | None,
    ) -> PerSample:
        weighted = [weight * values for weight, values in named.values()]
        values = self._gated(sum(weighted[1:], start=weighted[0]), process, t)
        if sample_weight is not None:
            values = per_sample("sample_weight", sample_weight, values) * values
        values = self.weight(values, process=process, t=t, pred=pred, base_loss=base_loss)
        self.terms = {name: value.detach().mean() for name, (_, value) in named.items()}
        self.terms["total"] = values.detach().mean()
        return values

    def _gated(self, values: PerSample, process: Process, t: Time) -> PerSample:
        if self.gate is None:
            return values
        gate = self.gate(process.noise_ratio(t))
        if not isinstance(gate, Tensor) or gate.numel() not in (1, values.shape[0]):
            got = f"shape {tuple(gate.shape)}" if isinstance(gate, Tensor) else type(gate).__name__
            raise ValueError(f"a gate must return a tensor of one value per noise ratio, got {got}")
        gate = gate.reshape(-1)
        return gate.to(values.device, values.dtype) * values

    def extra_repr(self) -> str:
        """Options, for the text of the module."""
        estimate = getattr(self.clean_estimate, "__name__", repr(self.clean_estimate))
        return f"weight={self.weight}, gate={self.gate}, clean_estimate={estimate}"


def _values(loss: SpectralLoss, estimate: Tensor, clean: Tensor) -> dict[str, tuple[float, PerSample]]:
    return {name: (weight, term(estimate, clean)) for name, weight, term in loss.terms()}


def _check_process(process: object) -> None:
    if not isinstance(process, Process):
        raise TypeError(
            f"process must be a Process such as VP(), got {type(process).__name__}; "
            "of a diffusers scheduler, pass process_from_scheduler(scheduler)"
        )
