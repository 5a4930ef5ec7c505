"""What a denoiser under diagnosis is asked, and the losses whose gradients with respect to its answer are compared."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from passband.process import Process
from passband.regularization import Description, SpectralLoss, as_loss
from passband.sampling import predict
from passband.training.sections import LossSettings
from passband.training.subject import Subject

#: The losses whose gradients are looked at, of images or latents, and of audio (besides short-time frames that fit).
LOSSES: dict[str, Description] = {
    "amplitude": "amplitude",
    "amplitude_phase": "amplitude_phase",
    "wavelet": {"name": "wavelet", "wavelet": "haar", "levels": 2},
}
AUDIO_LOSSES: dict[str, Description] = {"amplitude": "amplitude", "amplitude_phase": "amplitude_phase"}
_WAVELET_SIDE = 4  # the shortest that has two levels of Haar's
_FRAME_LENGTHS = (512, 1024, 2048)
#: Under this name stands the term that a network was trained with.
TRAINED = "trained with"
_BASE = "base"


@dataclass(frozen=True)
class Asked:
    """Clean samples noised at one time, and what a network makes of them."""

    process: Process
    t: Tensor
    clean: Float[Tensor, "batch channels *spatial"]
    noise: Float[Tensor, "batch channels *spatial"]

    @property
    def noisy(self) -> Tensor:
        """What the network sees."""
        return self.process.add_noise(self.clean, self.noise, self.t)

    def first(self, count: int) -> "Asked":
        """The first samples alone."""
        return Asked(self.process, self.t, self.clean[:count], self.noise[:count])

    @torch.no_grad()
    def predict(self, model: Callable[..., Any], given: Mapping[str, Any]) -> Tensor:
        """The network's answer; `given` are its further keyword arguments."""
        return predict(model, self.process, self.noisy, self.t, given).float()

    def estimate(self, pred: Tensor) -> Tensor:
        """The clean samples that an answer stands for."""
        return self.process.clean_estimate(self.noisy, pred, self.t)

    def gradients(self, pred: Tensor, base: LossSettings, losses: Mapping[str, SpectralLoss]) -> dict[str, Tensor]:
        """Of each loss, for each sample by itself, with respect to the network's output."""
        if not len(pred):
            return {}
        leaf = pred.detach().requires_grad_(True)
        with torch.enable_grad():
            estimate = self.estimate(leaf)
            values = {_BASE: self._base(leaf, base)}
            values |= {name: loss(estimate, self.clean) for name, loss in losses.items()}
            return {
                name: torch.autograd.grad(value.sum(), leaf, retain_graph=True)[0] for name, value in values.items()
            }

    def _base(self, pred: Tensor, settings: LossSettings) -> Tensor:
        residual = pred - self.process.target(self.clean, self.noise, self.t)
        if settings.space != "prediction":
            residual = residual * self.process.loss_gain(self.t, settings.space).to(residual)
        distances = residual.square() if settings.distance == "l2" else residual.abs()
        return distances.flatten(1).mean(1)


def described_losses(
    subject: Subject, chosen: Mapping[str, Description] | None, size: Sequence[int]
) -> dict[str, Description]:
    """The losses whose gradients are compared, in plain values, by the names that they are shown under.

    Args:
        subject: the denoiser.
        chosen: which losses, if not those that fit.
        size: spatial shape of the clean samples.

    """
    if chosen is not None:
        return dict(chosen)
    if subject.kind != "signals":
        return {
            name: described for name, described in LOSSES.items() if name != "wavelet" or min(size) >= _WAVELET_SIDE
        }
    fitting = [length for length in _FRAME_LENGTHS if length <= size[-1]]
    framed = {"name": "stft", "kind": "amplitude", "frame_lengths": fitting}
    return AUDIO_LOSSES | ({"stft": framed} if fitting else {})


def compared_losses(
    subject: Subject, chosen: Mapping[str, Description] | None, size: Sequence[int]
) -> dict[str, SpectralLoss]:
    """The losses by their names; that which the network was trained with, too."""
    found = {name: as_loss(described) for name, described in described_losses(subject, chosen, size).items()}
    if subject.regularizer is not None:
        found[TRAINED] = as_loss([term.model_dump() for term in subject.regularizer.losses])
    return found


def check_losses(losses: Mapping[str, SpectralLoss], shape: Sequence[int]) -> None:
    """Whether they take such samples: before any network is asked."""
    sample = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    for name, loss in losses.items():
        try:
            loss(sample, 0.5 * sample)
        except ValueError as error:
            why = str(error).partition(";")[0]
            raise ValueError(f"the loss {name!r} does not take samples {list(shape)}: {why}; choose another") from error
