"""The taper that keeps a field's edges out of its spectrum: mean removed, Hann window, white noise keeps power 1."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from passband._checks import check_batch, check_choice
from passband._numerics import upcast
from passband.transforms.radial import _checked_size, _grid_dtype

Taper = Literal["hann", "none"]
TAPERS: tuple[Taper, ...] = get_args(Taper)


def taper_window(
    size: Sequence[int], kind: Taper = "hann", device: torch.device | str | None = None
) -> Float[Tensor, "*spatial"]:
    r"""The window over the spatial axes, scaled so that its mean square is 1.

    For `"hann"`, $w(n) \propto \prod_i \sin^2(\pi (n_i + 1/2) / N_i)$: symmetric, so that mirrored fields have the same
    power, and never 0. For `"none"`, 1 everywhere.

    Args:
        size: spatial shape of the field, 1 to 3 entries.
        kind: `"hann"` or `"none"`.
        device: device of the result.

    Returns:
        The window, of shape size, in float64 (float32 on a device without it).

    Raises:
        ValueError: for an unknown kind, an empty size or a side below 1.

    Example:
        >>> from passband.transforms import taper_window
        >>> window = taper_window((8, 6))
        >>> tuple(window.shape), round(float(window.square().mean()), 6)
        ((8, 6), 1.0)

    """
    check_choice("taper", kind, TAPERS)
    size = _checked_size(size)
    window = torch.ones((), dtype=_grid_dtype(device), device=device)
    for axis, n in enumerate(size):
        place = (torch.arange(n, device=device).to(window.dtype) + 0.5) / n
        side = torch.sin(math.pi * place).square() if kind == "hann" else torch.ones_like(place)
        side = side / side.square().mean().sqrt()
        window = window * side.reshape([-1 if i == axis else 1 for i in range(len(size))])
    return window


def taper(
    x: Float[Tensor, "batch channels *spatial"], kind: Taper = "hann"
) -> Float[Tensor, "batch channels *spatial"]:
    r"""Remove each channel's mean and weight the rest, so that what remains falls to nothing towards the edges.

    $y = w \, (x - \sum_n w x / \sum_n w)$ with the window of [`taper_window`][passband.transforms.taper_window]. The
    DFT continues a field periodically: the step from one edge to the opposite one leaks into all frequencies, most
    visibly into the highest, where photographs have the least power. Tapered, there is no step. White noise of unit
    variance keeps power 1 at every frequency but the lowest: 0 has none, and its next neighbours lose some with the
    mean. Each frequency is mixed with its nearest neighbours (two bins on each side).

    Args:
        x: real field, (batch, channels, \*spatial), 1 to 3 spatial axes.
        kind: `"hann"`, or `"none"` for data that are periodic: then the plain mean is removed and nothing else.

    Returns:
        The tapered field, in float32 (float64 for float64 input).

    Raises:
        TypeError: if x is not floating.
        ValueError: for an unknown kind, or if x has no or more than 3 spatial dimensions.

    Example:
        >>> import torch
        >>> from passband.transforms import radial_psd, taper
        >>> ramp = torch.linspace(0, 1, 64).reshape(1, 1, 64)  # smooth, but for the step at its end
        >>> plain, tapered = (radial_psd(taper(ramp, kind))[0, 0, -1].item() for kind in ("none", "hann"))
        >>> plain / tapered > 1e6
        True

    Source: F. J. Harris, On the Use of Windows for Harmonic Analysis with the Discrete Fourier Transform, Proceedings
    of the IEEE 66(1), 1978.

    """
    check_batch("x", x)
    (x,) = upcast(x)
    axes = tuple(range(2, x.ndim))
    window = taper_window(tuple(x.shape[2:]), kind, x.device).to(x.dtype)
    if kind == "none":
        return x - x.mean(axes, keepdim=True)
    mean = (x * window).sum(axes, keepdim=True) / window.sum()
    return (x - mean) * window
