"""Shards of tensors that are divided among processes (FSDP2), told from whole ones."""

import sys
from typing import Any

from torch import Tensor


def is_shard(value: Any) -> bool:
    """Whether it is a `DTensor`.

    Their module takes half a second to import, and there are none before something has imported it.
    """
    tensors = sys.modules.get("torch.distributed.tensor")
    return tensors is not None and isinstance(value, tensors.DTensor)


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, sharing its memory."""
    found: Any = tensor
    return found.to_local() if is_shard(tensor) else tensor
