"""Bytes that a forward call keeps for its backward pass."""

from collections.abc import Sequence
from weakref import WeakSet

import torch
from torch import Tensor

from passband.bench.timing import Call


class _Saved:
    """A saved tensor, which lives as long as the graph that saved it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def kept_bytes(call: Call, inputs: Sequence[Tensor]) -> int:
    """Bytes of the storages that autograd saves in the forward call, those of the inputs excepted.

    A storage counts once and whole, however many views of it are saved, if it is still held when the call returns. The
    inputs' own storages do not count: they are there anyway. What a package keeps in other ways than autograd's saved
    tensors is not seen.

    Args:
        call: forward and backward.
        inputs: tensors whose storages do not count.

    Returns:
        Bytes.

    Example:
        >>> import torch
        >>> from passband.bench import Call, kept_bytes
        >>> x = torch.ones(8, requires_grad=True)
        >>> kept_bytes(Call(lambda: (x.exp() * x).sum(), lambda value: value.backward()), [x])  # exp(x), float32
        32

    """
    known = {x.untyped_storage().data_ptr() for x in inputs}
    held: WeakSet[_Saved] = WeakSet()

    def pack(x: Tensor) -> _Saved:
        saved = _Saved(x)
        held.add(saved)
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.tensor):
        result = call.forward()
    storages = (saved.tensor.untyped_storage() for saved in held)
    total = sum({each.data_ptr(): each.nbytes() for each in storages if each.data_ptr() not in known}.values())
    if call.backward is not None:
        call.backward(result)
    return total
