"""The task of training a denoiser on images: from a batch to its two loss terms."""

from typing import NamedTuple

from torch import Tensor

from passband._seeds import seed_for
from passband.process import Process
from passband.regularization import SpectralRegularizer
from passband.sampling import Model, SampleNoise, predict
from passband.training.batches import Batch


class Losses(NamedTuple):
    """The terms of a training loss, scalars."""

    base: Tensor
    spectral: Tensor | None

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        return self.base if self.spectral is None else self.base + self.spectral


def denoising_loss(
    model: Model, process: Process, regularizer: SpectralRegularizer | None, batch: Batch, seed: int
) -> Losses:
    """Mean squared error of the prediction, plus the spectral term; noise and times from (seed, global position)."""
    clean = batch.clean
    # On the clean samples' device, so that no noise crosses a bus.
    draws = SampleNoise([seed_for(seed, int(p), "noise") for p in batch.positions], clean.device)
    t = draws.times(process)
    noise = draws.normal(clean.shape[1:])
    noisy = process.add_noise(clean, noise, t)
    pred = predict(model, process, noisy, t).float()
    base = (pred - process.target(clean, noise, t)).square().mean()
    if regularizer is None:
        return Losses(base, None)
    return Losses(base, regularizer(process, noisy, pred, t, clean=clean, base_loss=base))
