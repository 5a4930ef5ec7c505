"""Gaussian blur in one to three dimensions, equal to SciPy's."""

import math
from collections.abc import Sequence
from functools import lru_cache

from jaxtyping import Float
from torch import Tensor

from passband._checks import check_batch, check_choice
from passband._numerics import upcast
from passband.transforms._correlate import correlate
from passband.transforms._extend import extend

_EXTENSIONS = {
    "reflect": "symmetric",
    "mirror": "reflect",
    "nearest": "constant",
    "constant": "zero",
    "wrap": "periodic",
}
"""SciPy's names of the boundary modes, and how the wavelets call the same thing."""

_LARGEST_RADIUS = 100_000
"""Beyond it the kernel itself would fill the memory."""

BLUR_MODES: tuple[str, ...] = tuple(_EXTENSIONS)
"""Boundary modes, by their SciPy names."""


def gaussian_blur(
    x: Float[Tensor, "batch channels *spatial"],
    sigma: int | float | Sequence[int | float],
    *,
    mode: str = "reflect",
    truncate: int | float = 4.0,
) -> Float[Tensor, "batch channels *spatial"]:
    r"""Separable Gaussian blur over the spatial axes, per channel: `scipy.ndimage.gaussian_filter`.

    Along each axis $y(i) = \sum_{|k| \le r} g(k)\, x(i + k)$ with $g(k) \propto e^{-k^2 / 2\sigma^2}$,
    $\sum_k g(k) = 1$; the radius $r$ is `truncate` $\cdot\,\sigma$, rounded, and may exceed the field.

    Args:
        x: real field, (batch, channels, \*spatial), 1 to 3 spatial axes.
        sigma: standard deviation in positions, at least 0, or one per axis; 0 leaves its axis as it is.
        mode: how the field continues beyond its border abcd, by SciPy's names: `reflect` (dcba|abcd|dcba; PyTorch
            has no such padding), `mirror` (dcb|abcd|cba; what PyTorch calls reflect), `nearest` (aaa|abcd|ddd),
            `constant` (zeros) or `wrap` (abcd|abcd|abcd).
        truncate: radius of the kernel in standard deviations, above 0.

    Returns:
        The blurred field, in float32 (float64 for float64 input).

    Raises:
        TypeError: if x is not floating.
        ValueError: for a wrong number of dimensions, an unknown mode, or a sigma or truncate out of range.

    Example:
        >>> import torch
        >>> from passband.transforms import gaussian_blur
        >>> x = torch.zeros(1, 1, 9)
        >>> x[..., 4] = 1.0
        >>> gaussian_blur(x, 1.0).squeeze()[3:6]
        tensor([0.2420, 0.3989, 0.2420])

    """
    check_batch("x", x)
    check_choice("mode", mode, BLUR_MODES)
    sigmas = _sigmas(sigma, x.ndim - 2)
    if not (math.isfinite(truncate) and truncate > 0):
        raise ValueError(f"truncate must be a finite number above 0, got {truncate}")
    (x,) = upcast(x)
    for axis, width in enumerate(sigmas, start=2):
        if truncate * width > _LARGEST_RADIUS:
            raise ValueError(
                f"sigma {width:g} with truncate {truncate:g} needs a kernel of more than {_LARGEST_RADIUS:,} positions "
                "on each side; lower them, or take the mean of the field"
            )
        taps = _kernel(width, truncate)
        if len(taps) > 1:
            radius = len(taps) // 2
            (x,) = correlate(extend(x, axis, radius, radius, _EXTENSIONS[mode]), (taps,), axis)
    return x


def _sigmas(sigma: int | float | Sequence[int | float], dims: int) -> tuple[float, ...]:
    sigmas = (float(sigma),) * dims if isinstance(sigma, int | float) else tuple(float(s) for s in sigma)
    if len(sigmas) != dims:
        raise ValueError(f"sigma must be one number or one per spatial axis ({dims}), got {len(sigmas)} of them")
    if not all(math.isfinite(s) and s >= 0 for s in sigmas):
        raise ValueError(f"sigma must be finite and at least 0, got {sigma}")
    return sigmas


@lru_cache(maxsize=64)
def _kernel(sigma: float, truncate: float) -> tuple[float, ...]:
    radius = int(truncate * sigma + 0.5)
    weights = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(-radius, radius + 1)] if radius else [1.0]
    total = math.fsum(weights)
    return tuple(weight / total for weight in weights)
