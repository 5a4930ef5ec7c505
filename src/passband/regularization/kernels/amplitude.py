"""The mean of |A - A^| with its gradient."""

from functools import partial

import torch
from torch import Tensor

from passband._backend import by_triton
from passband.regularization._gradient import Gradient
from passband.regularization.kernels.half import by_planes, modulus, spectrum, whole_sum


def amplitude(estimate: Tensor, clean: Tensor, wanted: bool) -> tuple[Tensor, Gradient | None]:
    """Values and gradient of the amplitude loss, see `with_gradient`."""
    sums, gradient = by_planes(partial(_planes, wanted=wanted), estimate, clean, wanted)
    count = clean[0].numel()
    return sums / count, None if gradient is None else Gradient(gradient, 1 / count)


def _planes(estimate: Tensor, clean: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
    """Sums and the gradient's spectrum of some planes."""
    x = spectrum(estimate)
    return _pointwise(x, spectrum(clean), clean.shape[-1], wanted), x


def _pointwise(x: Tensor, y: Tensor, width: int, gradient: bool) -> Tensor:
    """Sum of | |X| - |Y| | over channels and the whole spectrum, (batch,); both spectra are overwritten.

    x becomes the gradient sign(|X| - |Y|) X / |X| where that is asked for; it fades to 0 under the root of the smallest
    normal number.
    """
    if by_triton(x):
        from passband.regularization.kernels.triton_spectrum import amplitude_

        return amplitude_(x, y, width, gradient)
    amplitude_y, amplitude_x = modulus(y, y), modulus(x, y)
    gap = torch.sub(amplitude_x, amplitude_y, out=amplitude_y)
    sums = whole_sum(gap.abs(), width)
    if gradient:
        smallest = torch.finfo(gap.dtype).tiny ** 0.5
        x.mul_(gap.sign_().div_(amplitude_x.clamp_(min=smallest)))
    return sums
