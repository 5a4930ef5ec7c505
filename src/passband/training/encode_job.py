"""What is to be encoded, what the latents depend on, and what latents.json says of them."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from passband._checks import check_choice
from passband.data import ImageSamples
from passband.data._latent_header import FORMAT
from passband.data._shards import Moments, Shard, merged
from passband.integrations.autoencoder import Autoencoder
from passband.integrations.teachers import Teacher

SCALES = ("global", "channel")
#: A channel whose standard deviation is this share of the largest holds rounding, not images.
_STILL = 1e-5
DTYPES = {"float16": torch.float16, "float32": torch.float32}


class EncodingJob(NamedTuple):
    """What is asked for."""

    dataset: Dataset[Tensor]
    autoencoder: Autoencoder
    out: Path
    flips: bool
    teachers: tuple[Teacher, ...]
    dtype: str
    scale: str
    shard_size: int
    data: Mapping[str, Any] | None

    def check(self) -> None:
        """Raise unless it can be done."""
        check_choice("dtype", self.dtype, DTYPES)
        check_choice("scale", self.scale, SCALES)
        channels, height, width = self.image_shape
        wanted = self.autoencoder.image_channels
        if channels != wanted:
            raise ValueError(
                f"{self.autoencoder.name} encodes images of {wanted} channel(s), the data has {channels}: open them "
                f"with channels {wanted}"
            )
        self.autoencoder.latent_shape(height, width)
        names = [teacher.name for teacher in self.teachers]
        if len(set(names)) < len(names):
            raise ValueError(f"each teacher needs its own name, got {', '.join(names)}")
        if self.out.exists() and not self.out.is_dir():
            raise FileExistsError(f"{str(self.out)!r} is a file: choose another folder for the latents")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        if isinstance(self.dataset, ImageSamples):
            return self.dataset.channels, *self.dataset.size
        channels, height, width = self.dataset[0].shape
        return channels, height, width

    @property
    def length(self) -> int:
        """Images in the data set."""
        return len(self.dataset)  # type: ignore[arg-type]

    @property
    def shards(self) -> int:
        """How many shards there will be."""
        return math.ceil(self.length / self.shard_size)

    def indices(self, number: int) -> range:
        """The images of a shard."""
        return range(number * self.shard_size, min((number + 1) * self.shard_size, self.length))

    def settings(self) -> dict[str, Any]:
        """What the shards depend on; other settings make other latents."""
        images = self.dataset if isinstance(self.dataset, ImageSamples) else None
        framing = images.framing._asdict() | {"resolution": list(images.size)} if images is not None else None
        return {
            "format": FORMAT,
            "autoencoder": weights_sha256(self.autoencoder.network),
            "images": None if images is None else images.digest(),
            "count": self.length,
            "framing": framing,
            "flips": self.flips,
            "dtype": self.dtype,
            "shard_size": self.shard_size,
            "teachers": [teacher.name for teacher in self.teachers],
        }


def weights_sha256(network: nn.Module) -> str:
    """A hash of all weights of a network, and of their names."""
    found = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def identity(settings: Mapping[str, Any]) -> str:
    """A name for latents of these settings: shards of others are foreign."""
    return hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16).hexdigest()


def latents_header(job: EncodingJob, settings: dict[str, Any], shards: Sequence[Shard]) -> dict[str, Any]:
    """What latents.json says of finished shards.

    Raises:
        ValueError: if no image could be decoded, or a channel cannot be scaled.

    """
    whole = Moments(0, (), (), ())
    for shard in shards:
        whole = merged(whole, shard.note.moments)
    left_out = {found for shard in shards for found in shard.note.skipped}
    left_out |= {(name, reason) for name, reason in getattr(job.dataset, "skipped", [])}
    skipped = sorted(left_out)
    if not whole.values:
        raise ValueError(f"none of the images can be decoded; the last one is {skipped[-1][0]!r}: {skipped[-1][1]}")
    statistics = _statistics(whole)
    shift, scale = _standard(statistics, job.scale)
    example = next(shard for shard in shards if shard.note.samples)
    features = {teacher.name: list(example.arrays[f"features.{teacher.name}"].shape[1:]) for teacher in job.teachers}
    return {
        "format": FORMAT,
        "encoding": identity(settings),
        "shape": list(example.arrays["mean"].shape[1:]),
        "image_shape": list(job.image_shape),
        "count": sum(shard.note.samples for shard in shards),
        "num_classes": getattr(job.dataset, "num_classes", 0),
        "class_names": list(getattr(job.dataset, "class_names", ())),
        "flips": job.flips,
        "scaled": job.scale,
        "shift": shift,
        "scale": scale,
        "statistics": statistics,
        "autoencoder": {"name": job.autoencoder.name, "sha256": settings["autoencoder"]},
        "data": None if job.data is None else dict(job.data),
        "images": settings["images"],
        "teachers": features,
        "skipped": skipped,
        "shards": [
            {"file": s.path.name, "count": s.note.samples, "nbytes": s.nbytes, "digest": s.note.digest} for s in shards
        ],
    }


def _statistics(found: Moments) -> dict[str, list[float]]:
    """Per channel: mean and standard deviation of drawn latents, that of their means, and the noise's."""
    means = [square / found.values for square in found.squares]
    noise = [square / found.values for square in found.noise]
    return {
        "mean": list(found.mean),
        "std": [math.sqrt(a + b) for a, b in zip(means, noise, strict=True)],
        "std_of_means": [math.sqrt(a) for a in means],
        "noise": [math.sqrt(b) for b in noise],
    }


def _standard(statistics: Mapping[str, list[float]], scale: str) -> tuple[list[float], list[float]]:
    mean, std = statistics["mean"], statistics["std"]
    if scale == "global":
        center = math.fsum(mean) / len(mean)
        spread = math.sqrt(math.fsum(s * s + (m - center) ** 2 for m, s in zip(mean, std, strict=True)) / len(mean))
        mean, std = [center] * len(mean), [spread] * len(mean)
    still = [channel for channel, value in enumerate(std) if value <= _STILL * max(std)]
    if still:
        raise ValueError(
            f"the latents of channel(s) {still} are the same everywhere, or nearly so, and cannot be scaled: use "
            "--scale global, or another autoencoder"
        )
    return mean, std
