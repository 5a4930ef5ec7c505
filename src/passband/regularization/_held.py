"""The inputs of a loss, held for second derivatives alone, and a clean estimate that is made again for them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor


class _Recipe(NamedTuple):
    """How to make a tensor again, and of what."""

    tensor: Tensor
    make: Callable[[], Tensor]
    sources: tuple[Tensor, ...]
    versions: tuple[int, ...]

    def __call__(self) -> Tensor:
        if _versions(self.sources) != self.versions:
            raise RuntimeError(
                "a second derivative of a spectral term makes the clean estimate again from what the term was computed "
                "of, but some of that was changed in place since; change a copy"
            )
        with torch.no_grad():
            return self.make()


class _Current(threading.local):
    recipe: _Recipe | None = None


_current = _Current()


@contextmanager
def remade(x: Tensor, make: Callable[[], Tensor], *sources: object) -> Iterator[None]:
    """Within, losses hold how x is made instead of x: for what is cheap to make of tensors that the caller holds.

    Args:
        x: the tensor; where it is one of the sources itself, nothing is to be gained and nothing is done.
        make: makes its values again.
        sources: what `make` reads; tensors among them must not be changed in place until then.

    """
    tensors = tuple(source for source in sources if isinstance(source, Tensor))
    before = _current.recipe
    if not any(_same(x, source) for source in tensors):
        _current.recipe = _Recipe(x, make, tensors, _versions(tensors))
    try:
        yield
    finally:
        _current.recipe = before


def hold(estimate: Tensor, clean: Tensor) -> Any:
    """Return a node of the estimate's graph whose `saved_tensors` are both, looked at by nobody before."""
    recipe = _current.recipe
    with torch.enable_grad():
        if clean.is_inference():  # such tensors cannot be saved
            clean = clean.clone()
        with nullcontext() if recipe is None or not _same(estimate, recipe.tensor) else _packed(estimate, recipe):
            return _Hold.apply(estimate, clean).grad_fn  # type: ignore[no-untyped-call]


def zero_of(estimate: Tensor) -> Tensor:
    """A 0 that depends on the estimate, with derivative 0, and keeps nothing of it."""
    with torch.enable_grad():
        zero: Tensor = _Zero.apply(estimate)  # type: ignore[no-untyped-call]
    return zero


@contextmanager
def _packed(x: Tensor, recipe: _Recipe) -> Iterator[None]:
    def pack(kept: Tensor) -> Tensor | _Recipe:
        return recipe._replace(tensor=kept.new_empty(0)) if _same(kept, x) else kept

    def unpack(kept: Tensor | _Recipe) -> Tensor:
        return kept() if isinstance(kept, _Recipe) else kept

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield


class _Hold(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, estimate: Tensor, clean: Tensor) -> Tensor:
        ctx.save_for_backward(estimate, clean)
        return estimate.new_empty(0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None]:  # noqa: ARG004
        return None, None


class _Zero(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, estimate: Tensor) -> Tensor:
        ctx.shape = estimate.shape
        return estimate.new_zeros(())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.new_zeros(()).expand(ctx.shape)


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same view of one storage."""
    same_form = one.shape == other.shape and one.stride() == other.stride() and one.dtype == other.dtype
    return same_form and one.device == other.device and one.data_ptr() == other.data_ptr()


def _versions(tensors: tuple[Tensor, ...]) -> tuple[int, ...]:
    return tuple(0 if x.is_inference() else x._version for x in tensors)  # noqa: SLF001
