"""The spectral term for k-diffusion: a denoiser whose `loss` has it."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from passband.integrations._host_terms import TermLike, of_one_output
from passband.integrations._recorded import Recorded
from passband.process import EDM
from passband.regularization import SpectralRegularizer


def with_term(factory: Callable[..., nn.Module], regularizer: TermLike) -> Callable[..., nn.Module]:
    r"""Wrap k-diffusion's denoiser factory, so that the denoisers it makes have the term in their `loss`.

    The denoiser is the host's own object: its forward, scalings, weighting and state dict are unchanged. Its
    `loss(input, noise, sigma, **kwargs)` runs the host's (`Denoiser`, `DenoiserWithVariance` and `SimpleLossDenoiser`,
    any weighting and scales) around an inner model whose call is kept, and returns (batch,): that loss plus
    $\lambda\, w\, L_S(\hat x_0, x_0)$ with $\hat x_0 = c_{out} F + c_{skip} x$. The host's weighting does not multiply
    the term.

    Args:
        factory: what makes a denoiser of an inner model: `K.config.make_denoiser_wrapper(config)`, or
            `K.layers.Denoiser`.
        regularizer: the term, or its arguments in plain values; as `denoiser.loss.regularizer`, with the `terms` of the
            last call.

    Returns:
        A factory to be called as the given one.

    Raises:
        TypeError: if the factory is not callable, the regularizer none, or, when called, if it makes no denoiser.
        ValueError: if the regularizer's clean estimate calls the network again.

    Example:
        >>> import torch
        >>> from passband import AmplitudeLoss, SpectralRegularizer
        >>> from passband.integrations.k_diffusion import with_term
        >>> class Denoiser(torch.nn.Module):  # the host's, in short
        ...     def __init__(self, inner_model, sigma_data=1.0):
        ...         super().__init__()
        ...         self.inner_model, self.sigma_data = inner_model, sigma_data
        ...     def get_scalings(self, sigma):
        ...         norm = (sigma**2 + self.sigma_data**2) ** 0.5
        ...         return (self.sigma_data / norm) ** 2, sigma * self.sigma_data / norm, 1 / norm
        ...     def loss(self, input, noise, sigma, **kwargs):
        ...         c_skip, c_out, c_in = (c[:, None, None, None] for c in self.get_scalings(sigma))
        ...         x = input + noise * sigma[:, None, None, None]
        ...         target = (input - c_skip * x) / c_out
        ...         return (self.inner_model(c_in * x, sigma) - target).square().flatten(1).mean(1)
        >>> model = with_term(Denoiser, SpectralRegularizer(AmplitudeLoss()))(lambda x, sigma: 0.5 * x)
        >>> images = torch.randn(2, 3, 8, 8)
        >>> model.loss(images, torch.randn_like(images), torch.tensor([0.5, 2.0])).shape
        torch.Size([2])

    Source: https://github.com/crowsonkb/k-diffusion; Spectral Regularization (arXiv:2603.02447).
    """
    if not callable(factory) or isinstance(factory, nn.Module):
        raise TypeError(
            "factory must make a denoiser of an inner model, such as K.config.make_denoiser_wrapper(config), got "
            f"{'a' if isinstance(factory, nn.Module) else 'the'} {type(factory).__name__}"
        )
    term = of_one_output(regularizer)

    def make(*args: Any, **kwargs: Any) -> nn.Module:
        denoiser = factory(*args, **kwargs)
        missing = [
            name for name in ("inner_model", "sigma_data", "get_scalings", "loss") if not hasattr(denoiser, name)
        ]
        if missing:
            raise TypeError(f"{type(denoiser).__name__} is no denoiser of k-diffusion: it has no {', '.join(missing)}")
        if "loss" in vars(denoiser):
            raise TypeError("the denoiser has a term already; add the losses instead: AmplitudeLoss() + WaveletLoss()")
        vars(denoiser)["loss"] = _Loss(denoiser, term)  # no module: it stays out of the state dict
        return denoiser

    return make


class _Loss:
    """A denoiser's own loss and the term. It is copied with its denoiser, and no part of its state dict."""

    def __init__(self, denoiser: nn.Module, regularizer: SpectralRegularizer) -> None:
        self.denoiser, self.regularizer = denoiser, regularizer

    def __call__(self, input: Tensor, noise: Tensor, sigma: Tensor, **kwargs: Any) -> Tensor:  # noqa: A002
        losses, inner = self._host_loss(input, noise, sigma, **kwargs)
        output = inner.output[0] if isinstance(inner.output, tuple) else inner.output
        # What the network saw, not input + noise * sigma: the host may perturb the noise.
        c_in = self.denoiser.get_scalings(sigma)[2]  # type: ignore[operator]
        noisy = inner.args[0] / c_in.reshape(-1, *(1,) * (input.ndim - 1))
        process = EDM("edm", sigma_data=float(self.denoiser.sigma_data))  # type: ignore[arg-type]
        term = self.regularizer.per_sample(process, noisy, output, sigma, clean=input, base_loss=losses.mean())
        return losses + term

    def _host_loss(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Recorded]:
        """The host's loss, and the call of the inner model in it."""
        host: Any = type(self.denoiser)
        attributes = vars(self.denoiser)
        place = attributes["_modules"] if "inner_model" in attributes["_modules"] else attributes
        inner = place["inner_model"]
        recorded = Recorded(inner)
        place["inner_model"] = recorded
        try:
            return host.loss(self.denoiser, *args, **kwargs), recorded
        finally:
            place["inner_model"] = inner
