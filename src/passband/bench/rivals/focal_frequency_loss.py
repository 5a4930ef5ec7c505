"""The focal frequency loss by the package of its authors (MIT)."""

from passband._checks import import_extra
from passband.bench.item import Loss


def focal() -> Loss:
    """Their module with its defaults; images alone."""
    loss: Loss = import_extra("focal_frequency_loss", "bench").FocalFrequencyLoss()
    return loss
