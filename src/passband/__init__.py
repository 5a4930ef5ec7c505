"""Spectral training terms, operators and measures for diffusion and flow models.

The names below load on first use, so that `import passband` stays as light as `import torch`.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from passband._backend import backend
    from passband.forcing import SpectralForcing
    from passband.integrations import DiffusersTerm, process_from_scheduler
    from passband.matching import AlignmentLoss, dog, dsm_mask, esm_loss
    from passband.metrics import SpectrumDistance, SpectrumMonitor
    from passband.process import EDM, VP, Flow
    from passband.regularization import (
        AmplitudeLoss,
        AmplitudePhaseLoss,
        FocalFrequencyLoss,
        SpectralRegularizer,
        WaveletLoss,
    )
    from passband.sampling import sample
    from passband.transforms import radial_psd

__version__ = "0.1.0"

__all__ = [
    "VP",
    "EDM",
    "Flow",
    "process_from_scheduler",
    "DiffusersTerm",
    "AmplitudeLoss",
    "AmplitudePhaseLoss",
    "WaveletLoss",
    "FocalFrequencyLoss",
    "SpectralRegularizer",
    "SpectralForcing",
    "esm_loss",
    "dsm_mask",
    "AlignmentLoss",
    "dog",
    "sample",
    "radial_psd",
    "SpectrumDistance",
    "SpectrumMonitor",
    "backend",
    "__version__",
]

_LAZY = {
    "VP": "passband.process",
    "EDM": "passband.process",
    "Flow": "passband.process",
    "process_from_scheduler": "passband.integrations",
    "DiffusersTerm": "passband.integrations",
    "AmplitudeLoss": "passband.regularization",
    "AmplitudePhaseLoss": "passband.regularization",
    "WaveletLoss": "passband.regularization",
    "FocalFrequencyLoss": "passband.regularization",
    "SpectralRegularizer": "passband.regularization",
    "SpectralForcing": "passband.forcing",
    "esm_loss": "passband.matching",
    "dsm_mask": "passband.matching",
    "AlignmentLoss": "passband.matching",
    "dog": "passband.matching",
    "sample": "passband.sampling",
    "radial_psd": "passband.transforms",
    "SpectrumDistance": "passband.metrics",
    "SpectrumMonitor": "passband.metrics",
    "backend": "passband._backend",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'passband' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
