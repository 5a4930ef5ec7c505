"""The spectral term, and band-passed targets, for REPA's loss object."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from passband.integrations._host_path import HostInterpolant
from passband.integrations._host_terms import TermLike, of_one_output
from passband.integrations._recorded import Recorded
from passband.matching import dog as band_pass
from passband.matching.targets import check_sigmas


def spectral_loss(
    base: type,
    regularizer: TermLike | None = None,
    *,
    dog: tuple[float, float] | None = None,
    sigma_data: float = 0.5,
) -> type:
    r"""Make a subclass of REPA's `SILoss` with a spectral term, with the same constructor and call.

    The call `loss_fn(model, images, model_kwargs, zs=zs)` runs the host's around a model whose call is kept, and
    returns (denoising loss (batch,) with the term added, projection loss). The process is the host's `interpolant` (its
    `path_type`, `linear` or `cosine`), data at t = 0, prediction velocity.

    Args:
        base: the host's class, `loss.SILoss`.
        regularizer: the term on the denoising loss, or its arguments in plain values; None: none.
        dog: (sigma1, sigma2) of [`dog`][passband.matching.dog] for the targets `zs`, shares of the token grid's side;
            default: the targets as they are.
        sigma_data: standard deviation of the latents, used by the weight `"edm"` only.

    Returns:
        The subclass. Its `spectral` is the regularizer, with the `terms` of the last call.

    Raises:
        TypeError: if base is no class with an `interpolant`, or the regularizer none.
        ValueError: unless 0 <= sigma1 < sigma2, or if the regularizer's clean estimate calls the network again; when
            called, if the tokens of a target are no square grid.

    Example:
        >>> import torch
        >>> from passband import AmplitudeLoss, SpectralRegularizer
        >>> from passband.integrations.repa import spectral_loss
        >>> class SILoss:  # the host's, in short
        ...     def interpolant(self, t):
        ...         return 1 - t, t, -1, 1
        ...     def __call__(self, model, images, model_kwargs=None, zs=None):
        ...         t, noise = torch.rand(len(images), 1, 1, 1), torch.randn_like(images)
        ...         velocity, tokens = model((1 - t) * images + t * noise, t.flatten(), **(model_kwargs or {}))
        ...         return (velocity - noise + images).square().flatten(1).mean(1), torch.zeros(())
        >>> loss_fn = spectral_loss(SILoss, SpectralRegularizer(AmplitudeLoss()))()
        >>> model = lambda x, t, y: (0.5 * x, [])
        >>> loss, projection = loss_fn(model, torch.randn(2, 4, 8, 8), dict(y=None), zs=[])
        >>> loss.shape
        torch.Size([2])

    Source: REPA (arXiv:2410.06940); Spectral Regularization (arXiv:2603.02447); Spectrum Matching (arXiv:2603.14645).
    """
    if not isinstance(base, type) or not hasattr(base, "interpolant"):
        raise TypeError(f"base must be REPA's class SILoss, which has an interpolant, got {base!r}")
    term = None if regularizer is None else of_one_output(regularizer)
    if dog is not None:
        check_sigmas(*dog)

    class SpectralSILoss(base):  # type: ignore[misc]
        spectral = term

        def __call__(
            self,
            model: Any,
            images: Tensor,
            model_kwargs: dict[str, Any] | None = None,
            zs: Sequence[Tensor] | None = None,
        ) -> tuple[Tensor, Tensor]:
            if dog is not None and zs is not None:
                zs = [dog_tokens(z, *dog) for z in zs]
            recorded = Recorded(model)
            denoising, projection = super().__call__(recorded, images, model_kwargs, zs=zs)
            if term is None:
                return denoising, projection
            process = HostInterpolant(self.interpolant, "velocity", data_at=0, sigma_data=sigma_data)
            noisy, t = recorded.args[:2]
            values = term.per_sample(process, noisy, recorded.output[0], t, clean=images, base_loss=denoising.mean())
            return denoising + values, projection

    SpectralSILoss.__name__ = SpectralSILoss.__qualname__ = f"Spectral{base.__name__}"
    return SpectralSILoss


def dog_tokens(tokens: Tensor, sigma1: float, sigma2: float) -> Tensor:
    """Band-pass a teacher's tokens, (batch, tokens, width), on their square grid.

    Args:
        tokens: the patch tokens without any class token, row by row.
        sigma1: see [`dog`][passband.matching.dog].
        sigma2: see [`dog`][passband.matching.dog].

    Returns:
        The band, of the same shape, in at least float32.

    Raises:
        ValueError: if they are no square grid.

    Example:
        >>> import torch
        >>> from passband.integrations.repa import dog_tokens
        >>> dog_tokens(torch.randn(2, 256, 8), 0.0, 0.125).shape
        torch.Size([2, 256, 8])

    """
    if tokens.ndim != 3 or math.isqrt(tokens.shape[1]) ** 2 != tokens.shape[1]:
        raise ValueError(
            "tokens must have shape (batch, tokens, width), with a square number of tokens, got shape "
            f"{tuple(tokens.shape)}; leave class and register tokens out"
        )
    side = math.isqrt(tokens.shape[1])
    grid = tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], side, side)
    return band_pass(grid, sigma1, sigma2).flatten(2).transpose(1, 2)
