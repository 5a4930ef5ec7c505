"""One shard of latents: its images read, encoded in batches, and checked."""

import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from passband.data import ImageSamples, from_uint8, to_uint8
from passband.data._shards import Array
from passband.integrations.autoencoder import Autoencoder
from passband.integrations.teachers import Teacher

#: Called with the number of images that a batch held.
OnBatch = Callable[[int], None]


class NonFiniteLatentsError(ValueError):
    """Latents or features hold NaN or infinity; their shard was not written."""


class Read(NamedTuple):
    """A batch of images as it was read, or what went wrong."""

    indices: list[int]
    images: Tensor
    labels: list[int]
    skipped: list[tuple[str, str]]
    error: Exception | None = None


class Encoder(NamedTuple):
    """How images become the arrays of a shard."""

    autoencoder: Autoencoder
    teachers: Sequence[Teacher]
    flips: bool
    dtype: torch.dtype
    device: torch.device

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """The arrays of a batch of images: 8-bit pixels, or floats in [-1, 1]."""
        images = images.to(self.device, non_blocking=True)
        found = self._encode(images, "_flipped", "")
        return found | self._encode(images.flip(-1), "_flipped", "flipped") if self.flips else found

    def _encode(self, images: Tensor, suffix: str, flipped: str) -> dict[str, Tensor]:
        floats = images if images.is_floating_point() else from_uint8(images)
        with torch.no_grad():
            mean, std = self.autoencoder.encode(floats)
        suffix = suffix if flipped else ""
        found = {f"mean{suffix}": mean, f"std{suffix}": std}
        if self.teachers:
            pixels = to_uint8(images) if images.is_floating_point() else images
            ending = ".flipped" if flipped else ""
            found |= {f"features.{teacher.name}{ending}": teacher(pixels) for teacher in self.teachers}
        return {name: value.float().to(self.dtype) for name, value in found.items()}


class _Batches(Dataset[Read]):
    """A data set asked for whole batches of images, which says what it left out and what went wrong."""

    def __init__(self, dataset: Dataset[Tensor]) -> None:
        self.dataset = dataset

    def __getitems__(self, indices: list[int]) -> Read:
        try:
            return _read(self.dataset, indices)
        except (ValueError, OSError) as error:  # raised in the main process, without a worker's traceback
            return Read(indices, torch.empty(0), [], [], error)


def _read(dataset: Dataset[Tensor], indices: list[int]) -> Read:
    if not isinstance(dataset, ImageSamples):
        return Read(indices, torch.stack([dataset[index] for index in indices]), [], [])
    pixels = dataset.pixel_batch(indices)
    broken: dict[str, str] = dict(dataset.skipped)
    names = [dataset.origin(index)[0] for index in indices]
    kept = [place for place, name in enumerate(names) if name not in broken]  # others were lent pixels
    skipped = sorted({(name, broken[name]) for name in names if name in broken})
    labels = [dataset.label(indices[place]) for place in kept] if dataset.num_classes else []
    return Read([indices[place] for place in kept], pixels[kept], labels, skipped)


def _as_it_is(batch: Any) -> Any:
    return batch


def _undisturbed(_worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process


def read_batches(
    dataset: Dataset[Tensor], shards: Sequence[range], batch_size: int, workers: int, device: torch.device
) -> Iterator[Read]:
    """The images of shards in batches; none goes beyond its shard.

    Raises:
        OSError, ValueError: if an image cannot be used, where the data set is strict.

    """
    loader = DataLoader(
        _Batches(dataset),
        batch_sampler=[batch for shard in shards for batch in batches_of(shard, batch_size)],
        num_workers=workers,
        pin_memory=device.type == "cuda",
        collate_fn=_as_it_is,
        worker_init_fn=_undisturbed,
        generator=torch.Generator(),
    )
    for read in loader:
        if read.error is not None:
            raise read.error
        yield read


def batches_of(shard: range, batch_size: int) -> list[list[int]]:
    """The indices of a shard, in batches."""
    return [list(shard[start : start + batch_size]) for start in range(0, len(shard), batch_size)]


def encode_shard(
    encoder: Encoder, dataset: Dataset[Tensor], reads: Sequence[Read] | Iterator[Read], on_batch: OnBatch
) -> tuple[dict[str, Array], list[tuple[str, str]]]:
    """The arrays of a shard, and the images that were left out.

    Raises:
        NonFiniteLatentsError: if a latent or a feature is not finite.

    """
    parts: list[dict[str, Array]] = []
    skipped: set[tuple[str, str]] = set()
    for read in reads:
        skipped.update(read.skipped)
        if read.indices:
            parts.append(_encoded(encoder, dataset, read))
        on_batch(len(read.indices))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())}
    return joined, sorted(skipped)


def _encoded(encoder: Encoder, dataset: Dataset[Tensor], read: Read) -> dict[str, Array]:
    found = encoder(read.images)
    _check_finite(found, dataset, read)
    arrays: dict[str, Array] = {name: value.cpu().numpy() for name, value in found.items()}
    arrays["index"] = np.array(read.indices, dtype=np.int64)
    if read.labels:
        arrays["labels"] = np.array(read.labels, dtype=np.int64)
    return arrays


def _check_finite(found: dict[str, Tensor], dataset: Any, read: Read) -> None:
    good = torch.stack([value.isfinite().flatten(1).all(1) for value in found.values()]).cpu()
    if bool(good.all()):
        return
    bad = [index for index, fine in zip(read.indices, good.all(0).tolist(), strict=True) if not fine]
    what = [name for name, fine in zip(found, good.all(1).tolist(), strict=True) if not fine]
    named = isinstance(dataset, ImageSamples)
    names = [repr(dataset.origin(index)[0]) if named else f"sample {index}" for index in bad]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    raise NonFiniteLatentsError(
        f"{', '.join(what)} of {', '.join(dict.fromkeys(names[:3]))}{more} hold NaN, infinity, or values beyond the "
        "range of --dtype float16: try --dtype float32; if that fails too, the autoencoder or the teacher is broken"
    )
