"""The DCT by torch-dct (MIT)."""

from collections.abc import Callable

from torch import Tensor

from passband._checks import import_extra

Operator = Callable[[Tensor], Tensor]


def dct(dims: int) -> Operator:
    """The orthonormal DCT-II over the last one or two axes."""
    package = import_extra("torch_dct", "bench")
    transform = package.dct if dims == 1 else package.dct_2d
    return lambda x: transform(x, norm="ortho")


def idct(dims: int) -> Operator:
    """Its inverse."""
    package = import_extra("torch_dct", "bench")
    transform = package.idct if dims == 1 else package.idct_2d
    return lambda x: transform(x, norm="ortho")


def low_pass(radius: Tensor, cutoffs: Tensor, kappa: float) -> Operator:
    """DCT, mask and inverse DCT with autograd; the grid of radii is there already."""
    dims = radius.ndim
    forward, back = dct(dims), idct(dims)

    def operator(z: Tensor) -> Tensor:
        mask = (kappa * (cutoffs.reshape(-1, *(1,) * (z.ndim - 1)) - radius)).sigmoid()
        return back(forward(z) * mask)

    return operator


def block_low_pass(mask: Tensor) -> Operator:
    """The same in blocks of the mask's size, cut out by reshaping."""
    forward, back = dct(2), idct(2)
    side = mask.shape[-1]

    def operator(z: Tensor) -> Tensor:
        *batch, height, width = z.shape
        blocks = z.reshape(*batch, height // side, side, width // side, side).transpose(-3, -2)
        return back(forward(blocks) * mask).transpose(-3, -2).reshape(z.shape)

    return operator
