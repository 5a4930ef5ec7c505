"""What a network is given beside image and time: classes and augmentation labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from passband._seeds import seed_for
from passband.sampling import Guidance
from passband.training.batches import Batch
from passband.training.families import family_of
from passband.training.networks import augment_inputs, class_inputs
from passband.training.sections import SamplingSettings
from passband.training.spectrograms import crop_spectrogram
from passband.transforms import MelSpectrogram


@dataclass(frozen=True)
class Conditioner:
    """From a batch to the keyword arguments of a network.

    Args:
        classes: classes that the network tells apart, 0 without; the null class counts, where it has one.
        one_hot: whether it takes rows of a one-hot matrix, with zeros for no class, or indices, with the last for none.
        augment_dim: width of its augmentation labels, 0 without.
        label_dropout: share of samples that are trained without their class.
        seed: the run's.
        mel: the spectrogram that it is given of audio, None without.

    """

    classes: int
    one_hot: bool
    augment_dim: int
    label_dropout: float
    seed: int
    mel: MelSpectrogram | None = None

    @classmethod
    def of(
        cls, network: nn.Module, label_dropout: float, seed: int, mel: MelSpectrogram | None = None
    ) -> "Conditioner":
        """The one that fits a network."""
        one_hot = family_of(network).one_hot
        return cls(class_inputs(network), one_hot, augment_inputs(network), label_dropout, seed, mel)

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """The network's keyword arguments for a batch."""
        found = {}
        if self.classes:
            assert batch.classes is not None
            found["class_labels"] = self._classes(batch.classes, batch.positions)
        if self.augment_dim:
            # Zeros rather than nothing: a parameter without a gradient would stop several processes.
            blank = batch.clean.new_zeros(len(batch.clean), self.augment_dim)
            found["augment_labels"] = blank if batch.augment_labels is None else batch.augment_labels
        if self.mel is not None:
            assert batch.surroundings is not None
            found["spectrogram"] = crop_spectrogram(self.mel, batch.surroundings, batch.clean.shape[-1])
        return found

    def _classes(self, classes: Tensor, positions: Tensor) -> Tensor:
        dropped = [seed_for(self.seed, int(p), "label") < self.label_dropout * 2.0**63 for p in positions]
        drop = torch.tensor(dropped).to(classes.device, non_blocking=True)
        if not self.one_hot:
            return torch.where(drop, self.classes - 1, classes)
        rows = nn.functional.one_hot(classes, self.classes).float()
        return rows * ~drop[:, None]


#: How the class of a sample follows from its seed.
CLASS_RULES = {"random": "seed_for(seed, 0, 'class') % classes", "balanced": "seed % classes"}


def sampled_classes(seeds: Sequence[int], num_classes: int, rule: Literal["random", "balanced"] = "random") -> Tensor:
    """The class that each sample is drawn with: a function of its seed alone.

    Args:
        seeds: one for each sample.
        num_classes: classes to draw from.
        rule: `random`, or `balanced`, by which consecutive seeds take the classes in turn.

    """
    if rule == "balanced":
        return torch.tensor([seed % num_classes for seed in seeds])
    return torch.tensor([seed_for(seed, 0, "class") % num_classes for seed in seeds])


def no_classes(network: nn.Module, count: int) -> Tensor:
    """What a network is given for no class: the null class, the last of those it tells apart; rows of zeros for EDM's.

    Args:
        network: a class-conditional network.
        count: number of samples.

    """
    classes = class_inputs(network)
    return torch.zeros(count, classes) if family_of(network).one_hot else torch.full((count,), classes - 1)


def sampling_options(
    network: nn.Module, settings: SamplingSettings, seeds: Sequence[int], num_classes: int, device: torch.device
) -> dict[str, Any]:
    """The classes and the guidance that samples are drawn with, as arguments of [`sample`][passband.sampling.sample].

    Args:
        network: the network.
        settings: how samples are drawn.
        seeds: one for each sample.
        num_classes: classes to draw from, 0 for none.
        device: where the samples are drawn.

    """
    if not num_classes:
        return {}
    found: dict[str, Any] = {
        "conditioning": {"class_labels": sampled_classes(seeds, num_classes, settings.classes).to(device)}
    }
    if settings.guidance is not None:
        unconditional = {"class_labels": no_classes(network, len(seeds)).to(device)}
        found["guidance"] = Guidance(settings.guidance.scale, unconditional, settings.guidance.interval)
    return found
