"""The spectral term of a training loss, for any process and prediction."""

from torch import Tensor, nn

from passband._checks import check_floating, check_same_shape, nearest
from passband.process import Process, Time
from passband.regularization.estimate import CleanEstimate, Denoiser, tweedie
from passband.regularization.gate import Gate, NoiseRatioGate
from passband.regularization.loss import Field, PerSample, SpectralLoss
from passband.regularization.weight import ConstantWeight, EDMWeight, Weight


class SpectralRegularizer(nn.Module):
    r"""The term $\lambda\, w\, L_S(\hat x_0, x_0)$ to add to a training loss.

    It turns the network's output into the clean estimate by the process's one formula, whatever the prediction, and
    compares that to the clean sample. It has no parameters and adds nothing to a state dict.

    Args:
        loss: a loss of two clean samples, or a weighted sum: `AmplitudeLoss() + 0.1 * WaveletLoss()`.
        weight: lambda, a number; `"edm"`: EDM's weight of the noise level; or an object such as
            [`GradientShare`][passband.regularization.GradientShare].
        gate: w, a function of the noise ratio with values in [0, 1]; a number is the largest noise ratio at which the
            term counts; default: no gate.
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
        loss: SpectralLoss,
        weight: float | str | Weight = 0.01,
        gate: float | Gate | None = None,
        clean_estimate: CleanEstimate = tweedie,
    ) -> None:
        super().__init__()
        if not isinstance(loss, SpectralLoss):
            raise TypeError(f"loss must be a SpectralLoss such as AmplitudeLoss(), got {loss!r}")
        if not callable(clean_estimate):
            raise TypeError(
                f"clean_estimate must be a function (process, noisy, pred, t, denoiser), got {clean_estimate!r}"
            )
        self.loss = loss
        self.weight = _as_weight(weight)
        self.gate = _as_gate(gate)
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

        Raises:
            TypeError: if an input is not floating.
            ValueError: if shapes differ, t is out of range, or a denoiser is needed and none is given.

        """
        values = self.per_sample(process, noisy, pred, t, clean=clean, base_loss=base_loss, denoiser=denoiser)
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
    ) -> PerSample:
        """Return the weighted term of each sample, shape (batch,).

        The arguments are those of [`forward`][passband.regularization.SpectralRegularizer.forward].
        """
        if not isinstance(process, Process):
            raise TypeError(
                f"process must be a Process such as VP(), got {type(process).__name__}; "
                "of a diffusers scheduler, pass process_from_scheduler(scheduler)"
            )
        check_floating("clean", clean)
        check_floating("pred", pred)
        check_same_shape("clean", clean, "pred", pred)
        estimate = self.clean_estimate(process, noisy, pred, t, denoiser=denoiser)
        named = {name: (weight, term(estimate, clean)) for name, weight, term in self.loss.terms()}
        weighted = [weight * values for weight, values in named.values()]
        values = self._gated(sum(weighted[1:], start=weighted[0]), process, t)
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


def _as_weight(weight: float | str | Weight) -> Weight:
    if isinstance(weight, bool) or weight is None:
        raise TypeError(f"weight must be a number, 'edm' or a weight object, got {weight!r}")
    if isinstance(weight, int | float):
        return ConstantWeight(weight)
    if isinstance(weight, str):
        if weight != "edm":
            raise ValueError(f"unknown weight: got {weight!r}{nearest(weight, ['edm'])}; expected a number or 'edm'")
        return EDMWeight()
    if isinstance(weight, type):
        raise TypeError(f"weight must be an object, got the class {weight.__name__}; create it: {weight.__name__}(...)")
    if not callable(weight):
        raise TypeError(f"weight must be a number, 'edm' or a weight object, got {weight!r}")
    return weight


def _as_gate(gate: float | Gate | None) -> Gate | None:
    if isinstance(gate, int | float) and not isinstance(gate, bool):
        return NoiseRatioGate(gate)
    if gate is not None and not callable(gate):
        raise TypeError(f"gate must be the largest noise ratio, a function of the noise ratio, or None, got {gate!r}")
    return gate
