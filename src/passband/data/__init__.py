"""Datasets (images, checkerboards) and the order in which their samples are visited."""

from passband.data.checkerboard import Checkerboard, checkerboard_patterns, checkerboard_support, checkerboards
from passband.data.order import SampleOrder, batch_positions, epoch_order

__all__ = [
    "Checkerboard",
    "SampleOrder",
    "batch_positions",
    "checkerboard_patterns",
    "checkerboard_support",
    "checkerboards",
    "epoch_order",
]
