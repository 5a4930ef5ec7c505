"""The clean samples of a diagnosis: those of the recipe that are held out of training, or any others."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from passband.data import AudioFolder, ImageFolder, ImageSamples, LatentShards, SampleOrder
from passband.training.batches import Batch, Reading, batches
from passband.training.build import build_dataset
from passband.training.config import RecipeError
from passband.training.decode import LATENTS
from passband.training.sections import AnyData, AudioData, CheckerboardData, LatentsData, PowerLawData
from passband.training.subject import LatentSpace, Subject

#: Samples, and files that they come from.
LEAST = 8
#: What keeps the seeds of drawn samples apart from those that were trained on.
_UNSEEN = 1 << 20


@dataclass(frozen=True)
class DiagnosisData:
    """Clean samples, always the same ones in the same order.

    Attributes:
        dataset: the data set.
        reading: how its samples are read.
        count: how many of them are used.
        seed: of the order, and of what is drawn (crops of audio, latents of their posterior).
        source: where they come from, for people to read.
        notes: what a reader must know.
        by_sample: resample each sample by itself, not with all others of its file.

    """

    dataset: Dataset[Any]
    reading: Reading
    count: int
    seed: int
    source: str
    notes: tuple[str, ...] = ()
    by_sample: bool = False

    def batches(self, batch_size: int, device: torch.device) -> Iterator[tuple[Batch, list[str]]]:
        """Batches with the keys of their samples: the file's name, so that tiles of one photograph are resampled
        together."""  # noqa: D205, D209
        size = min(batch_size, self.count)
        steps = -(-self.count // size)
        found = batches(self.dataset, 0, steps, size, self.seed, reading=self.reading, device=device)
        indices = self.indices()
        for batch in found:
            kept = _first(batch, self.count - int(batch.positions[0]))
            yield kept, [self.key(indices[int(position)]) for position in kept.positions]

    def indices(self) -> list[int]:
        """The samples of the data set that are used, in the order of their positions."""
        order = SampleOrder(len(self.dataset), self.seed)  # type: ignore[arg-type]
        return [order.index(position) for position in range(self.count)]

    def key(self, index: int) -> str:
        """What a sample of the data set is resampled by."""
        dataset = self.dataset
        if self.by_sample:
            return str(index)
        if isinstance(dataset, ImageSamples):
            name = dataset.origin(index)[0]
        elif isinstance(dataset, AudioFolder):
            name = dataset.origin(index)
        else:
            return str(index)
        return str(PurePosixPath(name).with_suffix(""))


def own_data(subject: Subject, count: int, seed: int = 0) -> DiagnosisData:
    """The data of the network's own recipe; held out of training, if any are.

    Raises:
        RecipeError: if the network has no recipe that names its data.
        FileNotFoundError, ValueError: if they cannot be read.

    """
    data = subject.data
    if data is None:
        raise RecipeError(f"{subject.name!r} has no recipe that names its data: give them as the second argument, DATA")
    settings, seen = _held_out(data, count)
    dataset = build_dataset(settings)
    if isinstance(dataset, LatentShards):
        _put_into_space(subject, dataset)
    notes = ("The samples are those that the network was trained on: nothing is held out of its data.",) if seen else ()
    posterior = isinstance(data, LatentsData) and data.posterior == "sample"
    source = str(getattr(data, "path", data.name))
    return _limited(dataset, Reading(posterior=posterior), count, seed, source, notes)


def given_data(
    subject: Subject,
    path: Path,
    count: int,
    seed: int = 0,
    *,
    crop: str | None = None,
    labels: str | None = None,
    strict: bool = False,
) -> DiagnosisData:
    """Other data than the recipe's, prepared for the network.

    Args:
        subject: the network.
        path: folder or zip of images, folder of latents that `passband encode` wrote, or folder of audio.
        count: how many samples, at most.
        seed: of their order.
        crop: of images: `center` or `tile`; default: as the recipe, else `center`.
        labels: of images: where their classes are; default: as the recipe, else `none`.
        strict: stop at the first file that cannot be read.

    Raises:
        FileNotFoundError, ValueError: if they cannot be read, or are of another kind.

    """
    of_latents = subject.kind == "latents" and subject.data is not None  # a pipeline encodes images itself
    if (path / LATENTS).is_file() and not of_latents:
        raise ValueError(
            f"{str(path)!r} holds encoded latents, and {subject.name!r} is asked about "
            f"{'audio' if subject.kind == 'signals' else 'images'}: give a folder of these"
        )
    if of_latents:
        return _given_latents(subject, path, count, seed)
    if subject.kind == "signals":
        return _limited(_audio(subject, path, count, strict), Reading(), count, seed, str(path), ())
    channels, height, width = subject.shape
    crop = crop or getattr(subject.data, "crop", "center")
    labels = labels or getattr(subject.data, "labels", "none")
    side = height if height == width else (height, width)
    dataset = ImageFolder(path, side, crop=crop, channels=channels, labels=labels, limit=count, strict=strict)  # type: ignore[arg-type]
    return _limited(dataset, Reading(), count, seed, str(path), ())


def _given_latents(subject: Subject, path: Path, count: int, seed: int) -> DiagnosisData:
    if not (path / LATENTS).is_file():
        raise ValueError(
            f"{subject.name!r} was trained on latents, and {str(path)!r} holds none: encode the images first with "
            "`passband encode`, with the autoencoder of its own latents"
        )
    shards = LatentShards(path)
    if shards.shape != subject.shape:
        raise ValueError(
            f"{subject.name!r} takes samples {list(subject.shape)}, the latents in {str(path)!r} are "
            f"{list(shards.shape)}: give those that it was trained on"
        )
    _put_into_space(subject, shards)
    return _limited(shards, Reading(posterior=False), count, seed, str(path), ())


def _put_into_space(subject: Subject, shards: LatentShards) -> None:
    """Standardise latents as those that the network was trained on: of other samples, the mean is another."""
    if subject.space is None:
        return
    if LatentSpace.of(shards.header).autoencoder != subject.space.autoencoder:
        raise ValueError(
            f"the latents in {str(shards.path)!r} are another autoencoder's than those that {subject.name!r} was "
            "trained on: encode the images with the one in its folder autoencoder, with `passband encode`"
        )
    shards.shift, shards.scale = subject.space.shift, subject.space.scale


def _audio(subject: Subject, path: Path, count: int, strict: bool) -> AudioFolder:
    if isinstance(subject.data, AudioData):
        found = build_dataset(subject.data.model_copy(update={"path": path, "limit": None, "strict": strict}))
        assert isinstance(found, AudioFolder)
        return found
    mel = subject.mel
    assert mel is not None
    length = min(subject.shape[-1], 62 * mel.hop_length)
    return AudioFolder(
        path, mel.sample_rate, length=length, hop_length=mel.hop_length, margin=mel.margin, limit=count, strict=strict
    )


def _held_out(data: AnyData, count: int) -> tuple[AnyData, bool]:
    """The settings of what is held out, and whether training saw these samples all the same."""
    if isinstance(data, CheckerboardData | PowerLawData):
        return data.model_copy(update={"length": count, "seed": data.seed + _UNSEEN}), False
    if isinstance(data, LatentsData):
        return data.model_copy(update={"flip": False}), True
    changes: dict[str, Any] = {"augment": None} if not isinstance(data, AudioData) else {}
    held = data.subset == "train"
    return data.model_copy(update=changes | ({"subset": "eval"} if held else {})), not held


def _limited(
    dataset: Dataset[Any], reading: Reading, count: int, seed: int, source: str, notes: tuple[str, ...]
) -> DiagnosisData:
    there = len(dataset)  # type: ignore[arg-type]
    if there < LEAST:
        raise ValueError(
            f"a diagnosis needs at least {LEAST} samples to tell a fault from chance, and {source!r} has {there} to "
            "give (of a recipe's data, those that are held out): give other ones as DATA"
        )
    data = DiagnosisData(dataset, reading, min(count, there), seed, source, notes)
    files = len({data.key(index) for index in data.indices()})
    if files >= LEAST:
        return data
    note = (
        f"The samples come from {files} file{'' if files == 1 else 's'} and are taken as independent, which they are "
        "not: the intervals are narrower than they should be."
    )
    return replace(data, by_sample=True, notes=(*notes, note))


def _first(batch: Batch, count: int) -> Batch:
    """The first samples of a batch."""
    if count >= len(batch.clean):
        return batch
    cut = {name: value[:count] for name, value in batch._asdict().items() if isinstance(value, Tensor)}
    features = None if batch.features is None else {name: rows[:count] for name, rows in batch.features.items()}
    return batch._replace(**cut, features=features)
