"""Datasets (images, checkerboards) and the order in which their samples are visited."""

from passband.data.checkerboard import Checkerboard, checkerboard_patterns, checkerboard_support, checkerboards
from passband.data.images import ImageFolder, SkippedImage
from passband.data.order import SampleOrder, batch_positions, epoch_order
from passband.data.pixels import from_uint8, random_flip, save_image, to_uint8

__all__ = [
    "Checkerboard",
    "ImageFolder",
    "SampleOrder",
    "SkippedImage",
    "batch_positions",
    "checkerboard_patterns",
    "checkerboard_support",
    "checkerboards",
    "epoch_order",
    "from_uint8",
    "random_flip",
    "save_image",
    "to_uint8",
]
