"""What a network is given beside image and time: classes and augmentation labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from passband._seeds import seed_for
from passband.models import EDMUNet
from passband.training.batches import Batch
from passband.training.networks import augment_inputs, class_inputs


@dataclass(frozen=True)
class Conditioner:
    """From a batch to the keyword arguments of a network.

    Args:
        classes: classes that the network tells apart, 0 without; the null class counts, where it has one.
        one_hot: whether it takes rows of a one-hot matrix, with zeros for no class, or indices, with the last for none.
        augment_dim: width of its augmentation labels, 0 without.
        label_dropout: share of samples that are trained without their class.
        seed: the run's.

    """

    classes: int
    one_hot: bool
    augment_dim: int
    label_dropout: float
    seed: int

    @classmethod
    def of(cls, network: nn.Module, label_dropout: float, seed: int) -> "Conditioner":
        """The one that fits a network."""
        return cls(class_inputs(network), isinstance(network, EDMUNet), augment_inputs(network), label_dropout, seed)

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
        return found

    def _classes(self, classes: Tensor, positions: Tensor) -> Tensor:
        dropped = [seed_for(self.seed, int(p), "label") < self.label_dropout * 2.0**63 for p in positions]
        drop = torch.tensor(dropped).to(classes.device, non_blocking=True)
        if not self.one_hot:
            return torch.where(drop, self.classes - 1, classes)
        rows = nn.functional.one_hot(classes, self.classes).float()
        return rows * ~drop[:, None]


def sampled_classes(seeds: Sequence[int], num_classes: int) -> Tensor:
    """The class that each sample is drawn with: a function of its seed alone."""
    return torch.tensor([seed_for(seed, 0, "class") % num_classes for seed in seeds])
