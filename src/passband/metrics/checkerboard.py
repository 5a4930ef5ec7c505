"""How far generated checkerboards are from true ones; the caller passes all true patterns."""

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from passband._checks import check_batch
from passband.transforms import half_weights, rfftn

_CHUNK = 256  # images at once: 8 MB in float64 at 64×64


def leakage(
    images: Float[Tensor, "batch channels height width"],
    patterns: Float[Tensor, "patterns 1 height width"],
    tolerance: float = 1e-6,
) -> Float64[Tensor, ""]:
    r"""Share of the images' power at frequencies where no true pattern has any.

    The support is where the mean power spectrum of the patterns is above `tolerance` times its maximum. Frequency 0
    gets no special treatment: checkerboards of ±1 have mean 0, so a brightness offset is leakage too.

    Args:
        images: generated images; all their power is summed before the division, so a faint image weighs little.
        patterns: every true pattern, once.
        tolerance: what counts as no power, relative to the strongest frequency of the patterns.

    Returns:
        A number in 0 ... 1, in float64; NaN if the images have no power at all.

    Raises:
        ValueError: if the sizes differ.

    Example:
        >>> import torch
        >>> from passband.metrics import leakage
        >>> board = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(4, 4).reshape(1, 1, 8, 8)
        >>> round(float(leakage(board + 1, board)), 6)  # the offset has as much power as the board
        0.5

    """
    _check(images, patterns)
    weights = half_weights(images.shape[2:], device=images.device)
    truth = _power(patterns).to(images.device)
    outside = truth <= tolerance * truth.max()
    power = _power(images) * weights
    return (power * outside).sum() / power.sum()


def nearest_pattern(
    images: Float[Tensor, "batch channels height width"], patterns: Float[Tensor, "patterns 1 height width"]
) -> tuple[Float64[Tensor, " batch"], Int64[Tensor, " batch"]]:
    """RMS distance of every image to the true pattern that is nearest to it, and which one that is.

    Args:
        images: generated images; every channel is compared to the same pattern.
        patterns: every true pattern.

    Returns:
        The distances, root mean square over pixels and channels, in the images' unit, float64; the patterns' indices.

    Raises:
        ValueError: if the sizes differ.

    Example:
        >>> import torch
        >>> from passband.metrics import nearest_pattern
        >>> patterns = torch.stack([torch.ones(1, 4, 4), -torch.ones(1, 4, 4)])
        >>> distance, index = nearest_pattern(torch.full((1, 1, 4, 4), -0.25), patterns)
        >>> distance.tolist(), index.tolist()
        ([0.75], [1])

    """
    _check(images, patterns)
    truth = patterns.to(images.device, torch.float64)
    flat = truth.flatten(1)
    energy = images.shape[1] * flat.square().sum(1)
    distances, indices = [], []
    for chunk in torch.split(images.double(), _CHUNK):
        # |a - b|² = |a|² - 2ab + |b|²; |a|² is the same for all patterns.
        index = (energy - 2 * chunk.sum(1).flatten(1) @ flat.T).argmin(1)
        # The expansion cancels where the match is close, so the distance itself is taken directly.
        distances.append((chunk - truth[index]).square().flatten(1).mean(1).sqrt())
        indices.append(index)
    if not distances:
        return truth.new_zeros(0), torch.zeros(0, dtype=torch.int64, device=images.device)
    return torch.cat(distances), torch.cat(indices)


def pattern_distance(
    images: Float[Tensor, "batch channels height width"], patterns: Float[Tensor, "patterns 1 height width"]
) -> Float64[Tensor, ""]:
    """Mean over the images of the RMS distance to the nearest true pattern.

    Args:
        images: generated images, see [`nearest_pattern`][passband.metrics.nearest_pattern].
        patterns: every true pattern.

    Returns:
        The mean distance in the images' unit (for patterns of ±1, an all-grey image is at 1), float64.

    Raises:
        ValueError: if the sizes differ.

    Example:
        >>> import torch
        >>> from passband.metrics import pattern_distance
        >>> float(pattern_distance(torch.zeros(3, 1, 4, 4), torch.ones(1, 1, 4, 4)))
        1.0

    """
    return nearest_pattern(images, patterns)[0].mean()


def _power(x: Tensor) -> Tensor:
    """Mean power spectrum over samples and channels, half of it, in float64."""
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    for chunk in torch.split(x, _CHUNK):
        spectrum = rfftn(chunk.double())
        total = total + (spectrum.real.square() + spectrum.imag.square()).sum((0, 1))
    return total / max(len(x) * x.shape[1], 1)


def _check(images: Tensor, patterns: Tensor) -> None:
    check_batch("images", images, dims=(2,))
    check_batch("patterns", patterns, dims=(2,))
    if len(patterns) == 0:
        raise ValueError(
            "patterns is empty; pass every true pattern, for instance data.checkerboard_patterns(size, cells)"
        )
    if patterns.shape[1] != 1 or patterns.shape[2:] != images.shape[2:]:
        raise ValueError(
            f"patterns must have shape (patterns, 1, *{tuple(images.shape[2:])}) to fit the images, "
            f"got {tuple(patterns.shape)}; make them for the same size"
        )
