"""Training batches that depend on (seed, global position) alone: on no rank, worker or restart."""

import signal
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from passband._seeds import seed_for
from passband.data import (
    AudioFolder,
    ImageSamples,
    LatentShards,
    SampleOrder,
    SkippedImage,
    batch_positions,
    from_uint8,
)


class Batch(NamedTuple):
    """Clean samples, their global positions (how many samples of the run came before each), and what is known of them.

    Attributes:
        clean: (batch, channels, *spatial), floats: images in [-1, 1], standardised latents, or audio in [-1, 1].
        positions: (batch,).
        classes: (batch,), None without labels.
        augment_labels: (batch, width), what augmentation did to each; None without.
        images: of latents, the pixels 0 ... 255 that were encoded; None where nothing looks at them.
        features: of latents, a teacher's features of the images by its name, (batch, width, height, width).
        surroundings: of audio, the samples with those before and after that a spectrogram depends on, (batch, longer).

    """

    clean: Tensor
    positions: Tensor
    classes: Tensor | None = None
    augment_labels: Tensor | None = None
    images: Tensor | None = None
    features: dict[str, Tensor] | None = None
    surroundings: Tensor | None = None


class _Read(NamedTuple):
    """What is read at once: a batch on the CPU (8-bit pixels where there are), and images newly left out."""

    batch: Batch
    skipped: list[SkippedImage]


class Reading(NamedTuple):
    """How samples are read.

    Attributes:
        flip: whether half of the samples are mirrored.
        posterior: of latents, whether they are drawn from their posterior or its means.
        features: of latents, the teachers whose features are read with them.

    """

    flip: bool = False
    posterior: bool = True
    features: tuple[str, ...] = ()


_AS_STORED = Reading()


class _Positioned(Dataset[_Read]):
    """A data set asked for by global positions."""

    def __init__(self, dataset: Dataset[Any], seed: int, reading: Reading) -> None:
        self.dataset, self.seed, self.reading = dataset, seed, reading
        self.order = SampleOrder(len(dataset), seed)  # type: ignore[arg-type]
        self.told = len(getattr(dataset, "skipped", []))

    def __getitems__(self, positions: list[int]) -> _Read:
        """A whole batch, each part in one tensor."""
        indices = [self.order.index(position) for position in positions]
        flipped = [self.reading.flip and seed_for(self.seed, position, "flip") % 2 == 1 for position in positions]
        if isinstance(self.dataset, LatentShards):
            return _Read(self._latents(self.dataset, indices, positions, flipped), self._skipped())
        if isinstance(self.dataset, AudioFolder):
            return _Read(self._audio(self.dataset, indices, positions), self._skipped())
        samples = self._read(indices)
        turned = [k for k, turn in enumerate(flipped) if turn]
        if turned:
            samples[turned] = samples[turned].flip(-1)
        return _Read(Batch(samples, torch.tensor(positions), self._classes(indices)), self._skipped())

    def note(self, skipped: Iterable[SkippedImage]) -> None:
        """Keep in this process what its workers have left out."""
        if isinstance(self.dataset, ImageSamples | AudioFolder):
            self.dataset.skipped += [image for image in skipped if image not in self.dataset.skipped]

    def _latents(self, dataset: LatentShards, indices: list[int], positions: list[int], flipped: list[bool]) -> Batch:
        seeds = [seed_for(self.seed, position, "posterior") for position in positions]
        found = dataset.read(
            indices,
            flipped=flipped,
            seeds=seeds if self.reading.posterior else None,
            features=self.reading.features,
        )
        labels = found.labels if dataset.num_classes else None
        return Batch(found.latents, torch.tensor(positions), labels, None, found.images, found.features)

    def _audio(self, dataset: AudioFolder, indices: list[int], positions: list[int]) -> Batch:
        found = dataset.read(indices, [seed_for(self.seed, position, "crop") for position in positions])
        clean = found[:, None, dataset.margin : dataset.margin + dataset.length].contiguous()
        return Batch(clean, torch.tensor(positions), surroundings=found)

    def _read(self, indices: list[int]) -> Tensor:
        if isinstance(self.dataset, ImageSamples):
            return self.dataset.pixel_batch(indices)  # a quarter of the floats' bytes on the way to the device
        return torch.stack([self.dataset[index] for index in indices])

    def _skipped(self) -> list[SkippedImage]:
        found = self.dataset.skipped[self.told :] if isinstance(self.dataset, ImageSamples | AudioFolder) else []
        self.told += len(found)
        return found

    def _classes(self, indices: list[int]) -> Tensor | None:
        if not isinstance(self.dataset, ImageSamples) or not self.dataset.num_classes:
            return None
        return torch.tensor([self.dataset.label(index) for index in indices])


Item = TypeVar("Item")


def _as_it_is(batch: Item) -> Item:
    """What collates a batch that is one already; a function of its own, so that it pickles."""
    return batch


def _undisturbed(_worker: int) -> None:
    """Leave Ctrl-C and SIGTERM to the main process: launchers send them to the workers too, which it needs to save."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


class _Share:
    """The positions of one rank's share of each global batch, from a step on, in `accumulate` parts."""

    def __init__(self, start: int, stop: int, batch_size: int, rank: int, world_size: int, accumulate: int) -> None:
        self.steps, self.batch_size, self.rank, self.world_size = range(start, stop), batch_size, rank, world_size
        self.accumulate = accumulate

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            share = batch_positions(step, self.batch_size, self.rank, self.world_size)
            size = len(share) // self.accumulate
            for part in range(self.accumulate):
                yield list(share[part * size : (part + 1) * size])

    def __len__(self) -> int:
        return len(self.steps) * self.accumulate


def check_divides(batch_size: int, world_size: int, accumulate: int) -> None:
    """Raise unless a batch divides among the processes and parts.

    Raises:
        ValueError: if it does not.

    """
    if batch_size % (world_size * accumulate):
        raise ValueError(
            f"batch_size must be a multiple of processes x accumulate, got {batch_size} for {world_size} x {accumulate}"
            "; the batch size counts the samples of all processes and parts together"
        )


def batches(
    dataset: Dataset[Any],
    start: int,
    stop: int,
    batch_size: int,
    seed: int,
    *,
    reading: Reading = _AS_STORED,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    accumulate: int = 1,
    device: torch.device | str = "cpu",
) -> Iterator[Batch]:
    """The batches of steps start to stop - 1, each in `accumulate` parts, on the device.

    Raises:
        ValueError: if a sample is not finite, or the batch size does not divide among the ranks and parts.

    """
    check_divides(batch_size, world_size, accumulate)
    positioned = _Positioned(dataset, seed, reading)
    share = _Share(start, stop, batch_size, rank, world_size, accumulate)
    pin = torch.device(device).type == "cuda"
    loader = DataLoader(
        positioned,
        batch_sampler=share,
        num_workers=workers,
        pin_memory=pin,
        collate_fn=_as_it_is,
        worker_init_fn=_undisturbed,
        generator=torch.Generator(),  # or it draws from the global one
    )
    for batch, skipped in loader:
        positioned.note(skipped)
        if batch.clean.is_floating_point():
            _check_finite(batch.clean, batch.positions, positioned.order)
        yield _moved(batch, device)


def as_pixels(images: Tensor) -> Tensor:
    """Images in [-1, 1] as 8-bit pixels: `to_uint8` without its look at the values, for which a device would wait."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def _moved(batch: Batch, device: torch.device | str) -> Batch:
    """The batch on the device, pixels as floats; its positions stay where they are."""

    def move(value: Tensor | None) -> Tensor | None:
        return None if value is None else value.to(device, non_blocking=True)

    clean = batch.clean.to(device, non_blocking=True)
    return batch._replace(
        clean=clean if clean.is_floating_point() else from_uint8(clean),
        classes=move(batch.classes),
        images=move(batch.images),
        surroundings=move(batch.surroundings),
        features={name: value.to(device, non_blocking=True) for name, value in (batch.features or {}).items()} or None,
    )


def _check_finite(clean: Tensor, positions: Tensor, order: SampleOrder) -> None:
    finite = torch.isfinite(clean).flatten(1).all(1)
    if not bool(finite.all()):
        bad = [order.index(int(position)) for position in positions[~finite]]
        raise ValueError(f"the data holds NaN or infinity in sample(s) {bad}: repair or remove them, then resume")
