"""Wavelet transforms by pytorch-wavelets (MIT)."""

import importlib.resources
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from passband._checks import import_extra
from passband.bench.item import Loss

WRONG_AT_BORDERS = "its gradient is not that of its value near the borders, unless the wavelet is Haar"
"""Seen by finite differences in version 1.3.0, with mode `symmetric`; PyWavelets' other ports agree with ours."""

Transform = Callable[[Tensor], tuple[Tensor, list[Tensor]]]


def transform(wavelet: str, levels: int, dims: int, device: torch.device, mode: str = "symmetric") -> Transform:
    """Their module: the approximation, and per level the details (in 2-d three in one tensor), finest first."""
    package = load()
    maker = package.DWT1DForward if dims == 1 else package.DWTForward
    module: Any = maker(J=levels, wave=wavelet, mode=mode).to(device)
    result: Transform = module
    return result


def l1(wavelet: str, levels: int, dims: int, device: torch.device) -> Loss:
    """Both fields transformed, the mean absolute difference of each sub-band, summed."""
    analyse = transform(wavelet, levels, dims, device)
    bands = 2**dims - 1

    def loss(estimate: Tensor, clean: Tensor) -> Tensor:
        (low_x, high_x), (low_y, high_y) = analyse(estimate), analyse(clean)
        total = (low_x - low_y).abs().mean()
        for x, y in zip(high_x, high_y, strict=True):
            total = total + bands * (x - y).abs().mean()
        return total

    return loss


def load() -> ModuleType:
    """The package, which asks setuptools for `pkg_resources`; newer ones have none."""
    with _pkg_resources():
        return import_extra("pytorch_wavelets", "bench")


@contextmanager
def _pkg_resources() -> Iterator[None]:
    """The one function of `pkg_resources` that the package uses, where there is none."""
    if "pkg_resources" in sys.modules or importlib.util.find_spec("pkg_resources") is not None:
        yield
        return
    module = ModuleType("pkg_resources")
    module.resource_stream = _open  # type: ignore[attr-defined]
    sys.modules["pkg_resources"] = module
    try:
        yield
    finally:
        del sys.modules["pkg_resources"]


def _open(package: str, name: str) -> Any:
    return (importlib.resources.files(package) / name).open("rb")
