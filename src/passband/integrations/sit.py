"""The spectral term for SiT's transport."""

from typing import Any, Literal

from torch import Tensor

from passband._checks import check_choice
from passband.integrations._host_path import HostInterpolant
from passband.integrations._host_terms import TermLike, of_one_output
from passband.integrations._recorded import Recorded
from passband.process import Prediction

#: The host's model types, and what they are here.
_PREDICTIONS: dict[str, Prediction | Literal["score"]] = {
    "VELOCITY": "velocity",
    "NOISE": "epsilon",
    "SCORE": "score",
}


class SpectralTransport:
    r"""SiT's transport with a spectral term in its training loss; everything else is the transport's own.

    `training_losses` runs the host's around a model whose call is kept. The process is the path's own alpha and sigma
    (`Linear`, `GVP`, `VP`), data at t = 1; the prediction follows from the model type: velocity, noise, or score, whose
    clean estimate is $(x_t + \sigma^2 s) / \alpha$.

    Args:
        transport: what `create_transport` returned.
        regularizer: the term, or its arguments in plain values; as the attribute `regularizer`, with the `terms` of the
            last call.
        sigma_data: standard deviation of the latents, used by the weight `"edm"` only.

    Raises:
        TypeError: if this is no transport, or no regularizer.
        ValueError: if its model type is unknown, or the regularizer's clean estimate calls the network again.

    Example:
        >>> import enum, torch
        >>> from passband import AmplitudeLoss, SpectralRegularizer
        >>> from passband.integrations.sit import SpectralTransport
        >>> class Linear:  # the host's, in short
        ...     def compute_alpha_t(self, t):
        ...         return t, 1
        ...     def compute_sigma_t(self, t):
        ...         return 1 - t, -1
        >>> class Transport:
        ...     model_type, path_sampler = enum.Enum("ModelType", "NOISE SCORE VELOCITY").VELOCITY, Linear()
        ...     def training_losses(self, model, x1, model_kwargs=None):
        ...         t, noise = torch.rand(len(x1)), torch.randn_like(x1)
        ...         u = t[:, None, None, None]
        ...         velocity = model(u * x1 + (1 - u) * noise, t, **(model_kwargs or {}))
        ...         return {"pred": velocity, "loss": (velocity - x1 + noise).square().flatten(1).mean(1)}
        >>> transport = SpectralTransport(Transport(), SpectralRegularizer(AmplitudeLoss()))
        >>> losses = transport.training_losses(lambda x, t: 0.5 * x, torch.randn(2, 4, 8, 8))
        >>> losses["loss"].shape, losses["spectral"].shape
        (torch.Size([2]), torch.Size([2]))

    Source: Ma et al. 2024 (SiT, arXiv:2401.08740); Spectral Regularization (arXiv:2603.02447).
    """

    def __init__(self, transport: Any, regularizer: TermLike, *, sigma_data: float = 0.5) -> None:
        missing = [name for name in ("training_losses", "path_sampler", "model_type") if not hasattr(transport, name)]
        if missing:
            raise TypeError(f"{type(transport).__name__} is no transport of SiT: it has no {', '.join(missing)}")
        kind = getattr(transport.model_type, "name", transport.model_type)
        check_choice("model type", kind, _PREDICTIONS)
        self.transport, self.regularizer = transport, of_one_output(regularizer)
        self.process = HostInterpolant(self._path, _PREDICTIONS[kind], data_at=1, sigma_data=sigma_data)

    def training_losses(self, model: Any, x1: Tensor, model_kwargs: dict[str, Any] | None = None) -> dict[str, Tensor]:
        """The host's terms; `loss` (batch,) includes the weighted term, and `spectral` is that alone, detached."""
        recorded = Recorded(model)
        terms: dict[str, Tensor] = self.transport.training_losses(recorded, x1, model_kwargs)
        noisy, t = recorded.args[:2]
        base = terms["loss"]
        term = self.regularizer.per_sample(self.process, noisy, recorded.output, t, clean=x1, base_loss=base.mean())
        return {**terms, "loss": base + term, "spectral": term.detach()}

    def _path(self, t: Tensor) -> tuple[Any, Any, Any, Any]:
        alpha, alpha_slope = self.transport.path_sampler.compute_alpha_t(t)
        sigma, sigma_slope = self.transport.path_sampler.compute_sigma_t(t)
        return alpha, sigma, alpha_slope, sigma_slope

    def __getattr__(self, name: str) -> Any:
        if name == "transport":  # missing while a copy is being made
            raise AttributeError(name)
        return getattr(self.transport, name)
