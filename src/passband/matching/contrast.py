"""RMS spatial contrast of token fields, and the spectral energy that it is."""

import torch
from jaxtyping import Float
from torch import Tensor

from passband._checks import check_batch
from passband._numerics import no_autocast, upcast
from passband.transforms import dct


def rms_spatial_contrast(tokens: Float[Tensor, "batch channels *spatial"]) -> Float[Tensor, " batch"]:
    r"""RMS distance of the directions of tokens from their mean direction.

    $\sqrt{\operatorname{mean}_i \lVert \hat z_i - \bar z \rVert^2}$, $\hat z_i = z_i / \lVert z_i \rVert$,
    $\bar z = \operatorname{mean}_i \hat z_i$. 0 where all tokens point the same way, 1 where they average out.

    Args:
        tokens: features on a grid, (batch, channels, \*grid), 1 to 3 grid axes.

    Returns:
        The contrast of each sample, (batch,), 0 to 1, in float32 (float64 for float64 input).

    Raises:
        TypeError: if tokens is not floating.
        ValueError: for a wrong number of dimensions.

    Example:
        >>> import torch
        >>> from passband.matching import rms_spatial_contrast
        >>> tokens = torch.tensor([[[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]], [[1.0, -1.0, 0.0], [0.0, 0.0, 1.0]]])
        >>> [round(value, 4) for value in rms_spatial_contrast(tokens).tolist()]
        [0.0, 0.9428]

    Source: Spectrum Matching (arXiv:2603.14645); B. Peli, Contrast in complex images, 1990.
    """
    directions = _directions(tokens)
    with no_autocast(directions):
        flat = directions.flatten(2)
        return _root((flat - flat.mean(2, keepdim=True)).square().sum(1).mean(1))


def directional_spectral_energy(tokens: Float[Tensor, "batch channels *spatial"]) -> Float[Tensor, " batch"]:
    r"""Energy of the tokens' directions beyond the mean, by frequency: the RMS spatial contrast, by Parseval.

    $\sqrt{\frac{1}{N} \sum_{k \ne 0} \lVert (F \hat z)(k) \rVert^2}$, F the orthonormal DCT-II over the grid of N
    tokens; the orthonormal DFT gives the same sum.

    Args:
        tokens: features on a grid, (batch, channels, \*grid), 1 to 3 grid axes.

    Returns:
        The energy of each sample, (batch,), in float32 (float64 for float64 input).

    Raises:
        TypeError: if tokens is not floating.
        ValueError: for a wrong number of dimensions.

    Example:
        >>> import torch
        >>> from passband.matching import directional_spectral_energy, rms_spatial_contrast
        >>> tokens = torch.randn(2, 8, 5, 7)
        >>> torch.allclose(directional_spectral_energy(tokens), rms_spatial_contrast(tokens))
        True

    Source: Spectrum Matching (arXiv:2603.14645).
    """
    directions = _directions(tokens)
    with no_autocast(directions):
        energy = dct(directions).square().sum(1).flatten(1)
        return _root(energy[:, 1:].sum(1) / energy.shape[1])


def _directions(tokens: Tensor) -> Tensor:
    check_batch("tokens", tokens)
    (tokens,) = upcast(tokens)
    with no_autocast(tokens):
        return torch.nn.functional.normalize(tokens, dim=1)


def _root(square: Tensor) -> Tensor:
    """Square root whose gradient is 0, not infinite, where all tokens agree."""
    return square.clamp_min(torch.finfo(square.dtype).tiny).sqrt()
