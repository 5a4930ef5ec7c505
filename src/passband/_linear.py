"""Matrix products on a CPU by the faster of the two libraries that PyTorch brings."""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

_SMALLEST = 2**21
"""Multiplications from which on oneDNN's longer start pays."""


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply x by the transpose of weight, (rows, n) and (columns, n), in any dense layouts; not for autograd."""
    if x.dtype == torch.float32 and x.device.type == "cpu" and pays(*x.shape, len(weight)):
        by_onednn = onednn()
        if by_onednn is not None:
            return by_onednn(x, weight, None, "none", [], "")
    return x @ weight.T


def pays(*sizes: int) -> bool:
    """Whether a product of such sizes is large enough for oneDNN."""
    return math.prod(sizes) >= _SMALLEST


@lru_cache(maxsize=1)
def onednn() -> Callable[..., Tensor] | None:
    """The product by oneDNN: it uses AVX-512 wherever there is one, MKL (behind @) on Intel's processors alone."""
    try:
        product: Callable[..., Tensor] = torch.ops.mkldnn._linear_pointwise.default  # noqa: SLF001
        x = torch.eye(2, dtype=torch.float32, device="cpu")
        return product if torch.equal(product(x, x, None, "none", [], ""), x) else None
    except (AttributeError, RuntimeError, TypeError):  # a build without it, or with another signature
        return None
