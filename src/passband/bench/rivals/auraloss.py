"""The multi-resolution STFT loss of auraloss (Apache-2.0)."""

import warnings

import torch

from passband._checks import import_extra
from passband.bench.item import Loss

DIFFERS = "spectral convergence and log magnitudes, at other hops"


def multi_resolution(device: torch.device) -> Loss:
    """Their module with its defaults: frames of 1024, 2048 and 512 samples, hops of 120, 240 and 50."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_extra("auraloss", "bench")
        loss: Loss = import_extra("auraloss.freq", "bench").MultiResolutionSTFTLoss().to(device)
    return loss
