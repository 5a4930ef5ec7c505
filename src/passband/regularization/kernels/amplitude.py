"""The mean of |A - A^| with its gradient."""

from functools import partial

import torch
from torch import Tensor

from passband._backend import by_triton
from passband.regularization._gradient import Gradient
from passband.regularization.kernels.half import by_planes, modulus, spectrum, whole_sum_


def amplitude(estimate: Tensor, clean: Tensor, wanted: bool) -> tuple[Tensor, Gradient | None]:
    """Values and gradient of the amplitude loss, see `with_gradient`."""
    sums, gradient = by_planes(partial(_planes, wanted=wanted), estimate, clean, wanted)
    count = clean[0].numel()
    return sums / count, None if gradient is None else Gradient(gradient, 1 / count)


def _planes(estimate: Tensor, clean: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
    """Sums of | |X| - |Y| | over channels and the whole spectrum, and the spectrum of their gradient.

    It is sign(|X| - |Y|) X / |X|, 0 where |X| = 0; under the root of the smallest normal number it fades to 0.
    """
    y = spectrum(clean)
    if by_triton(y):
        from passband.regularization.kernels.triton_spectrum import amplitude_

        x = spectrum(estimate)
        return amplitude_(x, y, clean.shape[-1], wanted), x
    amplitude_y = modulus(y, y)
    x = spectrum(estimate)
    amplitude_x = modulus(x, y)
    gap = torch.sub(amplitude_x, amplitude_y, out=amplitude_y)
    sums = whole_sum_(gap.abs(), clean.shape[-1])
    if wanted:
        smallest = torch.finfo(gap.dtype).tiny ** 0.5
        x.mul_(gap.sign_().div_(amplitude_x.clamp_(min=smallest)))
    return sums, x
