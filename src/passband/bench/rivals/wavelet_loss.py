"""The wavelet loss of the package wavelet-loss (Apache-2.0), which transforms by pytorch-wavelets."""

import torch
from torch import Tensor
from torch.nn.functional import l1_loss

from passband._checks import import_extra
from passband.bench.item import Loss
from passband.bench.rivals import pytorch_wavelets


def l1(wavelet: str, levels: int, device: torch.device) -> Loss:
    """Their module with L1, weights of 1 and the coarsest approximation, which is the sum that Passband takes."""
    pytorch_wavelets.load()
    weights = dict.fromkeys(("ll", "lh", "hl", "hh"), 1.0)
    module = import_extra("wavelet_loss", "bench").WaveletLoss(
        wavelet=wavelet, level=levels, mode="symmetric", loss_fn=l1_loss, band_weights=weights, device=device
    )

    def loss(estimate: Tensor, clean: Tensor) -> Tensor:
        value: Tensor = module(estimate, clean)[0]
        return value

    return loss
