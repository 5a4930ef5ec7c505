"""Numeric precision: every transform and process runs in at least float32, outside autocast."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """The dtype to compute in: float32 at least, float64 where any of the tensors is float64."""
    dtype = torch.float32
    for x in tensors:
        dtype = torch.promote_types(dtype, x.dtype)
    return dtype


def upcast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """All tensors in their common compute dtype (no copy where they have it already)."""
    dtype = compute_dtype(*tensors)
    return tuple(x.to(dtype) for x in tensors)


def no_autocast(x: Tensor) -> AbstractContextManager[None]:
    """Switch autocast off on x's device, so that no operation inside falls back to half precision."""
    device = x.device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)
