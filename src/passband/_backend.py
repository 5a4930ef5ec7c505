"""Which form of a loss or an operator runs: plain autograd, a gradient written by hand, or a Triton kernel."""

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache, lru_cache
from importlib.util import find_spec
from typing import Literal, get_args, no_type_check

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

Backend = Literal["auto", "plain", "torch", "triton"]

ENVIRONMENT = "PASSBAND_BACKEND"
"""The variable that chooses the backend of a whole program."""


class backend:  # noqa: N801  # a context manager, named as those of PyTorch are
    """Choose, for what is called within, how losses and operators are computed; all ways agree up to rounding.

    - `auto` (the default): Triton kernels where tensors and Triton allow them (on a GPU), else `torch`.
    - `torch`: PyTorch's operations with gradients written by hand.
    - `plain`: the formula as it stands, with autograd's gradient: slower, and what the others are checked against.
    - `triton`: Triton kernels wherever one exists, also in Triton's interpreter; an error where it cannot run.

    It holds for the process, not for a thread. The environment variable `PASSBAND_BACKEND` sets it for a whole program.
    Second derivatives, forward-mode derivatives, `torch.func` transforms and compiled code take `plain` by themselves.

    Args:
        name: one of the four.

    Raises:
        ValueError: for another name; when a loss is called with `triton`, if Triton cannot run there.

    Example:
        >>> import torch
        >>> import passband
        >>> x, y = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
        >>> with passband.backend("plain"):
        ...     reference = passband.AmplitudeLoss()(x, y)
        >>> torch.allclose(passband.AmplitudeLoss()(x, y), reference)
        True

    """

    def __init__(self, name: Backend) -> None:
        self._name = _known("backend", name)

    def __enter__(self) -> None:
        global _chosen
        self._before, _chosen = _chosen, self._name

    def __exit__(self, *error: object) -> None:
        global _chosen
        _chosen = self._before


@contextmanager
def plain_here() -> Iterator[None]:
    """Take plain autograd within, on this thread alone: for the library's own use, also in a backward pass."""
    before = _plain_threads.depth
    _plain_threads.depth = before + 1
    try:
        yield
    finally:
        _plain_threads.depth = before


class _PlainThreads(threading.local):
    depth = 0


_plain_threads = _PlainThreads()


def by_hand(*tensors: Tensor) -> bool:
    """Whether gradients written by hand run: nobody asked for plain autograd, or for what only autograd can do."""
    if torch.compiler.is_compiling() or _chosen == "plain" or _plain_threads.depth:
        return False
    if torch._C._are_functorch_transforms_active() or _has_tangent(tensors):  # noqa: SLF001
        return False
    return not any(map(torch._C._functorch.is_legacy_batchedtensor, tensors))  # noqa: SLF001


def by_triton(x: Tensor) -> bool:
    """Whether a Triton kernel runs on x, where there is one; only asked where `by_hand` holds."""
    if _chosen == "triton":
        _check_triton(x)
        return True
    if _chosen != "auto" or not x.is_cuda or x.dtype not in TRITON_DTYPES or type(x) not in (Tensor, Parameter):
        return False
    return find_triton() and works(x.device)


TRITON_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.complex64)
"""What kernels read and write; they compute in float32."""


@lru_cache(maxsize=1)
def find_triton() -> bool:
    """Whether Triton is installed."""
    return find_spec("triton") is not None


@cache
def works(device: torch.device) -> bool:
    """Whether kernels run on a device: found out once, since an old GPU or a missing C compiler is seen no earlier."""
    try:
        import triton

        @triton.jit
        @no_type_check
        def nothing(x_ptr):  # noqa: ANN001, ANN202
            pass

        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            nothing[(1,)](torch.empty(1, device=device))
    except Exception as error:  # noqa: BLE001  # whatever it is, PyTorch's operations work
        warnings.warn(
            f"Triton does not run on {device}, so PyTorch's operations are used ({type(error).__name__}: {error}); "
            "PASSBAND_BACKEND=torch chooses them without this warning",
            stacklevel=2,
        )
        return False
    return True


def _has_tangent(tensors: tuple[Tensor, ...]) -> bool:
    if forward_ad._current_level < 0:  # noqa: SLF001
        return False
    return any(forward_ad.unpack_dual(x).tangent is not None for x in tensors)  # type: ignore[no-untyped-call]


def _check_triton(x: Tensor) -> None:
    if not find_triton():
        raise ValueError("backend 'triton' needs Triton, which is not installed: pip install triton (Linux only)")
    if x.dtype not in TRITON_DTYPES:
        raise ValueError(f"backend 'triton' computes in float32, got a tensor of {x.dtype}; take 'auto' or 'torch'")
    if not x.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(
            f"backend 'triton' needs tensors on a GPU, got one on {x.device}; for Triton's interpreter, set "
            "TRITON_INTERPRET=1 before the first use"
        )


def _known(source: str, name: str) -> Backend:
    for choice in get_args(Backend):
        if name == choice:
            known: Backend = choice
            return known
    raise ValueError(f"{source} must be one of {', '.join(get_args(Backend))}; got {name!r}")


_chosen: Backend = _known(ENVIRONMENT, os.environ.get(ENVIRONMENT) or "auto")
