"""What a teacher's tokens are made into before the comparison: spatially normalised, or band-passed."""

import math

from jaxtyping import Float
from torch import Tensor

from passband._checks import check_batch, check_number
from passband._numerics import no_autocast, upcast
from passband.transforms import gaussian_blur

Tokens = Float[Tensor, "batch channels *spatial"]

_RELATIVE = 1e-8
"""Variance below this share of the mean square is rounding: a constant channel gives 0, not noise."""


def spatial_normalize(tokens: Tokens, gamma: int | float = 1.0) -> Tokens:
    r"""Take (a share of) each channel's mean over the grid out: $(Z - \gamma\,\text{mean}\,Z) / \text{std}\,Z$.

    Mean and (population) standard deviation are over the grid, per sample and channel.

    Args:
        tokens: features on a grid, (batch, channels, \*grid), 1 to 3 grid axes.
        gamma: share of the mean that goes, usually 0 to 1.

    Returns:
        The normalised tokens, in float32 (float64 for float64 input).

    Raises:
        TypeError: if tokens is not floating, or gamma not a number.
        ValueError: for a wrong number of dimensions, or a gamma that is not finite.

    Example:
        >>> import torch
        >>> from passband.matching import spatial_normalize
        >>> spatial_normalize(torch.tensor([[[1.0, 3.0]]])).tolist()
        [[[-1.0, 1.0]]]

    Source: iREPA (arXiv:2512.10794).
    """
    check_batch("tokens", tokens)
    check_gamma(gamma)
    (tokens,) = upcast(tokens)
    with no_autocast(tokens):
        mean = tokens.mean(_grid(tokens), keepdim=True)
        return (tokens - gamma * mean) / _deviation(tokens, mean)


def dog(tokens: Tokens, sigma1: int | float, sigma2: int | float) -> Tokens:
    r"""Band-pass on the token grid: $(G_{\sigma_1} * Z - G_{\sigma_2} * Z) / \text{std}\,Z$, a difference of Gaussians.

    The blurs continue the grid by reflection. It keeps waves between the two widths; the mean goes. With
    $\sigma_1 = 0$ and $\sigma_2 \to \infty$ it is [`spatial_normalize`][passband.matching.spatial_normalize].

    Args:
        tokens: features on a grid of any shape, (batch, channels, \*grid), 1 to 3 grid axes.
        sigma1: width of the inner Gaussian as a share of the shorter grid side; 0: no inner blur.
        sigma2: width of the outer one, above sigma1; the paper names no values, start from 1/16 to 1/4.

    Returns:
        The band of the tokens, in float32 (float64 for float64 input), per channel in units of its standard deviation
        over the grid.

    Raises:
        TypeError: if tokens is not floating, or a sigma not a number.
        ValueError: for a wrong number of dimensions, or unless 0 <= sigma1 < sigma2.

    Example:
        >>> import torch
        >>> from passband import dog
        >>> tokens = torch.randn(2, 384, 12, 16)
        >>> dog(tokens, 0.0, 0.125).shape
        torch.Size([2, 384, 12, 16])

    Source: Spectrum Matching (arXiv:2603.14645), REPA-DoG.
    """
    check_batch("tokens", tokens)
    check_sigmas(sigma1, sigma2)
    (tokens,) = upcast(tokens)
    side = min(tokens.shape[2:])
    with no_autocast(tokens):
        mean = tokens.mean(_grid(tokens), keepdim=True)
        centred = tokens - mean  # the band does not change, and rounding is that of the contrast, not of the mean
        band = gaussian_blur(centred, sigma1 * side) - gaussian_blur(centred, sigma2 * side)
        return band / _deviation(tokens, mean)


def check_gamma(gamma: float) -> None:
    """Raise unless gamma is a finite number."""
    check_number("gamma", gamma)
    if not math.isfinite(gamma):
        raise ValueError(f"gamma is the share of the mean to subtract, a finite number, got {gamma}")


def check_sigmas(sigma1: float, sigma2: float) -> None:
    """Raise unless 0 <= sigma1 < sigma2."""
    check_number("sigma1", sigma1)
    check_number("sigma2", sigma2)
    if not 0 <= sigma1 < sigma2 < math.inf:
        raise ValueError(
            f"sigmas must satisfy 0 <= sigma1 < sigma2 (shares of the shorter grid side), got {sigma1} and {sigma2}"
        )


def _grid(tokens: Tensor) -> tuple[int, ...]:
    return tuple(range(2, tokens.ndim))


def _deviation(tokens: Tensor, mean: Tensor) -> Tensor:
    variance = (tokens - mean).square().mean(_grid(tokens), keepdim=True)
    floor = _RELATIVE * tokens.square().mean(_grid(tokens), keepdim=True) + 1e-12
    return (variance + floor).sqrt()
