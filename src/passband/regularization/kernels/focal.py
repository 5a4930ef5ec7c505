"""The mean of a squared spectral difference, weighted by its own size, with its gradient."""

from functools import partial

import torch
from torch import Tensor

from passband.regularization._gradient import Gradient
from passband.regularization.kernels.half import by_planes, spectrum, squares, whole_sum_


def focal(estimate: Tensor, clean: Tensor, wanted: bool, alpha: float) -> tuple[Tensor, Gradient | None]:
    """Values and gradient of the focal frequency loss, see `with_gradient`."""
    sums, gradient = by_planes(partial(_planes, alpha=alpha), estimate, clean, wanted)
    count = clean[0].numel()
    return sums / count, None if gradient is None else Gradient(gradient, 2 / count)


def _planes(estimate: Tensor, clean: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Sums and half the gradient's spectrum, see `by_planes`."""
    difference = spectrum(estimate - clean)
    power = squares(difference, torch.empty_like(difference))
    weight = _weight(power, alpha)
    sums = whole_sum_(power.mul_(weight), clean.shape[-1])
    return sums, difference.mul_(weight)


def _weight(power: Tensor, alpha: float) -> Tensor:
    """(|D| / max |D|)^alpha of each plane."""
    largest = power.amax(tuple(range(2, power.ndim)), keepdim=True).sqrt_()
    # Over a largest difference of 0 the weight would be 0 / 0; the power is 0 there too.
    size = power.sqrt().div_(largest.masked_fill_(largest == 0, 1.0))
    return size if alpha == 1 else size.pow_(alpha)
