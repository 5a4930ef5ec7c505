"""Datasets (images, captions, audio, latents, arrays, checkerboards, power-law fields), and their samples' order."""

from passband.data._samples import ImageSamples
from passband.data._sources import Skipped
from passband.data.arrays import ArraySamples
from passband.data.audio import AudioFolder
from passband.data.audio_files import AudioClip, read_audio, save_audio
from passband.data.augment import Augment
from passband.data.captions import CaptionedImages
from passband.data.checkerboard import Checkerboard, checkerboard_patterns, checkerboard_support, checkerboards
from passband.data.hub import HubImages
from passband.data.images import ImageFolder, SkippedImage
from passband.data.latents import LatentBatch, LatentShards
from passband.data.order import SampleOrder, batch_positions, epoch_order
from passband.data.pixels import from_uint8, random_flip, save_image, to_uint8
from passband.data.power_law import PowerLawFields, power_law_fields, power_law_psd, texture_coherence
from passband.data.prepare import Prepared, prepare_images

__all__ = [
    "ArraySamples",
    "AudioClip",
    "AudioFolder",
    "Augment",
    "CaptionedImages",
    "Checkerboard",
    "HubImages",
    "ImageFolder",
    "ImageSamples",
    "LatentBatch",
    "LatentShards",
    "PowerLawFields",
    "Prepared",
    "SampleOrder",
    "Skipped",
    "SkippedImage",
    "batch_positions",
    "checkerboard_patterns",
    "checkerboard_support",
    "checkerboards",
    "epoch_order",
    "from_uint8",
    "power_law_fields",
    "power_law_psd",
    "prepare_images",
    "random_flip",
    "read_audio",
    "save_audio",
    "save_image",
    "texture_coherence",
    "to_uint8",
]
