"""A tensor that a graph makes again, from what its caller holds anyway, instead of keeping it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor


class _Remade(NamedTuple):
    make: Callable[[], Tensor]
    sources: tuple[Tensor, ...]
    versions: tuple[int, ...]

    def __call__(self) -> Tensor:
        if tuple(source._version for source in self.sources) != self.versions:  # noqa: SLF001
            raise RuntimeError(
                "a second derivative of a spectral term makes the clean estimate again from the prediction and the "
                "noisy sample, but one of them was changed in place since; change a copy"
            )
        with torch.no_grad():
            return self.make()


@contextmanager
def remade(x: Tensor, make: Callable[[], Tensor], *sources: Tensor) -> Iterator[None]:
    """Within, graphs keep how x is made, not x: for what is cheap to make and asked for by second derivatives alone.

    Args:
        x: the tensor; where it is one of the sources itself, nothing is to be gained and nothing is done.
        make: makes its values again.
        sources: what `make` reads, and keeps alive.

    """
    if not x.requires_grad or any(_same(x, source) for source in sources):
        yield
        return
    again = _Remade(make, sources, tuple(source._version for source in sources))  # noqa: SLF001

    def pack(kept: Tensor) -> Tensor | _Remade:
        return again if _same(kept, x) else kept

    def unpack(kept: Tensor | _Remade) -> Tensor:
        return kept() if isinstance(kept, _Remade) else kept

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same view of one storage."""
    same_form = one.shape == other.shape and one.stride() == other.stride() and one.dtype == other.dtype
    return same_form and one.device == other.device and one.data_ptr() == other.data_ptr()
