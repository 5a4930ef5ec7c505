"""Constant tensors that operators share (a transform's basis, a grid of radii): built once, kept on each device."""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

Size = TypeVar("Size", int, tuple[int, ...])


class Table(Generic[Size]):
    """A constant tensor that depends on a size alone, so that no call copies it to its device again.

    Compiled code builds it in its own graph; so does whatever traces with tensors that hold no values.

    Args:
        build: function of (size, device) that returns the tensor as precisely as the device can.
        largest: how many tensors are kept; the one that was made first goes first.

    """

    def __init__(self, build: Callable[[Size, torch.device], Tensor], largest: int = 16) -> None:
        self._build: Callable[[Size, torch.device], Tensor] = build
        self._largest = largest
        self._kept: dict[tuple[Size, torch.dtype, torch.device], Tensor] = {}

    def __call__(self, size: Size, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The tensor for a size, to be read only."""
        if torch.compiler.is_compiling() or type(torch.empty(0)) is not Tensor:
            return self._build(size, device).to(dtype)
        key = (size, dtype, device)
        found = self._kept.get(key)
        if found is None:
            # A tensor made in inference mode could never take part in a training step.
            with torch.inference_mode(False), torch.no_grad():
                found = self._build(size, torch.device("cpu")).to(device, dtype)
            while len(self._kept) >= self._largest:
                self._kept.pop(next(iter(self._kept)), None)
            self._kept[key] = found
        return found


def precise(device: torch.device) -> torch.dtype:
    """The most precise dtype that a device can compute in."""
    return torch.float32 if device.type == "mps" else torch.float64
