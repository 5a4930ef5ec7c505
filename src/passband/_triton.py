"""How Triton kernels are launched: on the tensors' device, on one axis of programs, with sizes that need no trials."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def launch(
    kernel: Any, programs: int, device: torch.device, *arguments: Any, fused: bool = True, **options: Any
) -> None:
    """Run `programs` programs of a kernel on one axis (the other two end at 65535), on the device's current stream.

    Nothing here waits for the device, and sizes are chosen without trials, so a CUDA graph can capture the launch.

    Args:
        kernel: a `triton.jit` function.
        programs: how many programs, 0 for none at all.
        device: the device of the tensors.
        *arguments: the kernel's arguments.
        fused: whether a product and a sum may round once instead of twice (then a b - b a need not be 0).
        **options: the kernel's constants, and how many warps a program has.

    """
    if programs >= 2**31:
        raise ValueError(f"a kernel runs at most 2^31 - 1 programs, got {programs}; pass fewer samples at a time")
    if programs:
        with _current(device):
            kernel[(programs,)](*arguments, enable_fp_fusion=fused, **options)


def _current(device: torch.device) -> AbstractContextManager[Any]:
    """Make the device the current one: Triton launches there, whatever the tensors' device."""
    elsewhere = device.type == "cuda" and device.index != torch.cuda.current_device()
    return torch.cuda.device(device) if elsewhere else nullcontext()


def cdiv(n: int, size: int) -> int:
    """Blocks of a size that cover n."""
    return -(-n // size)


def power_of_two(n: int) -> int:
    """The least power of two that is at least n (1 for less)."""
    return 1 << max(n - 1, 0).bit_length()


def block_size(n: int, smallest: int, largest: int) -> int:
    """A power of two between two others for n elements: no larger than covers them."""
    return min(max(power_of_two(n), smallest), largest)


def even_block(n: int, smallest: int, largest: int) -> int:
    """A power of two whose blocks cover n with little left over: the largest that wastes a quarter at most."""
    size = block_size(n, smallest, largest)
    while size > smallest and 4 * (cdiv(n, size) * size - n) > n:
        size //= 2
    return size


def strides(x: Tensor) -> tuple[int, int, int, int]:
    """Strides of (batch, channels, rows, columns) of a field with one or two spatial axes; it has one row in 1-d."""
    batch, channels, *rows, columns = x.stride()
    return batch, channels, rows[0] if rows else 0, columns
