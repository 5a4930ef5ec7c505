"""The gains of Spectral Forcing: a sigmoid of the radius, and its exact form."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from passband._backend import by_triton
from passband._tables import Table
from passband.transforms import radial_grid


class Options(NamedTuple):
    """What a call fixes beside its cutoffs."""

    kappa: float
    window: tuple[int, ...]
    exact: bool


def gains(cutoffs: Tensor, options: Options) -> Tensor:
    """What multiplies the DCT of each sample, (batch, *window): M, or for the exact form 1 - M'."""
    rho = relative_radius(options.window, cutoffs.dtype, cutoffs.device)
    return gains_at(cutoffs.reshape(-1, *(1,) * rho.ndim), rho, options)


def gains_at(c: Tensor, rho: Tensor, options: Options) -> Tensor:
    """The gain for cutoffs at radii; both broadcast."""
    if not options.exact:
        return _sigmoid(c - rho, options.kappa)
    # 1 - M / M(DC) as (1 - M)(1 - exp(-kappa rho)): exactly 0 at DC, nothing cancels.
    share = (options.kappa / 4 * (1 - c)).clamp(max=1)
    return _sigmoid(rho - c, options.kappa) * -torch.expm1(-options.kappa * rho) * share


def _sigmoid(x: Tensor, slope: float) -> Tensor:
    """sigmoid(slope x), in x's place where no gradient is asked for."""
    return (x * slope).sigmoid() if x.requires_grad else x.mul_(slope).sigmoid_()


def multiply_(spectrum: Tensor, cutoffs: Tensor, options: Options) -> None:
    """Multiply a spectrum in place by its gains: (batch, channels, windows, frequencies, ...), a pair for each axis."""
    if by_triton(spectrum):
        from passband.forcing.triton_mask import LARGEST_PLANE, mask_

        if math.prod(spectrum.shape[2:]) < LARGEST_PLANE:
            mask_(spectrum, cutoffs, options.window, options.kappa, options.exact)
            return
    spectrum.mul_(over_windows(gains(cutoffs, options)))


def over_windows(mask: Tensor) -> Tensor:
    """A mask (batch, *window) in the form in which it multiplies such a spectrum."""
    return mask.reshape(len(mask), 1, *(part for side in mask.shape[1:] for part in (1, side)))


def _relative_radius(size: tuple[int, ...], device: torch.device) -> Tensor:
    radius = radial_grid(size, kind="dct", device=device)
    return radius / radius.max().clamp(min=1e-12)  # a single point has no frequency but 0


relative_radius = Table(_relative_radius, largest=8)
"""The DCT radius of every frequency of a window over its largest."""
