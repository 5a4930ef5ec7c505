"""Passband on a machine that has PyTorch alone: stand-ins for jaxtyping and PyWavelets, where these are missing."""

import importlib
import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any


class _Shaped:
    def __class_getitem__(cls, item: Any) -> Any:
        return Any


def use_this_tree() -> None:
    """Import passband from this tree, whatever is installed, with stand-ins for what is not."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
    if _missing("jaxtyping"):
        sys.modules["jaxtyping"] = _Types("jaxtyping")
    if _missing("pywt"):
        sys.modules["pywt"] = _wavelets()


def _missing(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return True
    return False


class _Types(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Shaped


def _wavelets() -> ModuleType:
    """Haar and bior1.3, from their definitions."""
    half = math.sqrt(0.5)
    side = half / 8
    taps = {
        "haar": ([half, half], [-half, half], [half, half], [half, -half]),
        "bior1.3": (
            [-side, side, half, half, side, -side],
            [0.0, 0.0, -half, half, 0.0, 0.0],
            [0.0, 0.0, half, half, 0.0, 0.0],
            [-side, -side, half, -half, side, side],
        ),
    }
    modes = ["zero", "constant", "symmetric", "periodic", "smooth", "periodization", "reflect"]
    module = ModuleType("pywt")
    names = ("dec_lo", "dec_hi", "rec_lo", "rec_hi")
    vars(module).update(
        Modes=SimpleNamespace(modes=[*modes, "antisymmetric", "antireflect"]),
        Wavelet=lambda name: SimpleNamespace(**dict(zip(names, taps[name], strict=True))),
        wavelist=lambda **_: list(taps),
    )
    return module
