"""From a batch to the two terms of a denoiser's loss."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from torch import Tensor

from passband._seeds import seed_for
from passband.process import Prediction, Process
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


class Draws(NamedTuple):
    """What chance decides for a batch: the noise, of the samples' shape, and a time each."""

    noise: Tensor
    t: Tensor


def draw(process: Process, batch: Batch, seed: int) -> Draws:
    """Noise and times from (seed, global position), on the clean samples' device, so that none crosses a bus."""
    draws = SampleNoise([seed_for(seed, int(p), "noise") for p in batch.positions], batch.clean.device)
    t = draws.times(process)
    return Draws(draws.normal(batch.clean.shape[1:]), t)


def denoising_loss(
    model: Model,
    process: Process,
    regularizer: SpectralRegularizer | None,
    batch: Batch,
    seed: int,
    conditioning: Mapping[str, Tensor] | None = None,
    space: Prediction | None = None,
    distance: Literal["l2", "l1"] = "l2",
) -> Losses:
    """Mean squared or absolute error, plus the spectral term; noise and times from (seed, global position).

    Args:
        model: the network.
        process: its process.
        regularizer: the spectral term, None for none.
        batch: clean samples.
        seed: the run's.
        conditioning: further keyword arguments of the network.
        space: the prediction whose error counts (`velocity`: the v-loss); default: the network's own.
        distance: `l2`, squared errors, or `l1`, absolute ones.

    """
    clean = batch.clean
    noise, t = draw(process, batch, seed)
    noisy = process.add_noise(clean, noise, t)
    pred = predict(model, process, noisy, t, conditioning).float()
    residual = pred - process.target(clean, noise, t)
    if space is not None:
        gain = process.loss_gain(t, space).to(residual)
        residual = residual * gain.reshape(-1, *(1,) * (residual.ndim - 1))
    base = (residual.square() if distance == "l2" else residual.abs()).mean()
    if regularizer is None:
        return Losses(base, None)

    def denoiser(x: Tensor, time: Tensor) -> Tensor:
        return predict(model, process, x, time, conditioning).float()

    again = denoiser if regularizer.needs_denoiser else None
    return Losses(base, regularizer(process, noisy, pred, t, clean=clean, base_loss=base, denoiser=again))
