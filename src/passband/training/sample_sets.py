"""Sets of samples to be measured: images, arrays and latents, each read block by block in any process."""

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from passband.data import ArraySamples, ImageFolder, LatentShards, Skipped, from_uint8
from passband.data._decode import Pixels, UnusableImageError
from passband.data._samples import Entry, Framing, read_samples
from passband.data._sources import Source, open_source
from passband.reports.compare import image_notes

Shape = tuple[int, ...]

#: Values of float32 that are held at once; more are not faster, and cost memory.
_AT_ONCE = 1 << 20
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as images are read with one channel


class Chunk(NamedTuple):
    r"""Some samples of a set.

    Attributes:
        samples: (batch, channels, \*spatial), float32.
        keys: what each is resampled by: samples of one key stay together.
        numbers: their numbers in the set.

    """

    samples: Tensor
    keys: list[str]
    numbers: Sequence[int]


class Block(NamedTuple):
    """Samples that are measured at once, in one process.

    Attributes:
        first: number of its first sample.
        size: number of samples.
        items: what the reader turns into samples.

    """

    first: int
    size: int
    items: Sequence[Any]


class Reader(ABC):
    """Turns blocks into samples, in the process that measures them.

    Attributes:
        skipped: files that could not be used so far, with the reasons.

    """

    skipped: Sequence[Skipped] = ()

    @abstractmethod
    def read(self, block: Block) -> Iterator[Chunk]:
        """The samples of a block, some at a time."""


class SampleSet(ABC):
    r"""A set of samples of one shape.

    Attributes:
        path: where it lies, for people to read.
        kind: "images", "latents" or "signals".
        sample_rate: of signals that are audio, Hz; None of everything else.
        shape: (channels, \*spatial) of a sample.
        reading: how the files were read, in a few words.
        reader: what reads its blocks; can be sent to another process.

    """

    path: str
    kind: str
    sample_rate: int | None = None
    shape: Shape
    reading: str
    reader: Reader

    @abstractmethod
    def __len__(self) -> int:
        """The number of samples, those of broken files included."""

    @abstractmethod
    def blocks(self, size: int) -> list[Block]:
        """All samples in blocks of about this size, always the same ones."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What the samples depend on, the files' sizes and times included, to notice that they changed."""

    @property
    def left_out(self) -> Sequence[Skipped]:
        """Files that were left out when the set was opened, with the reasons."""
        return ()

    def notes(self, name: str, skipped: Sequence[Skipped]) -> list[str]:
        """What a reader of the report must know of the set, called by a name."""
        return []


class ImageSet(SampleSet):
    """The images of a folder or zip.

    Args:
        data: the images; what was left out so far is in its `skipped`.

    """

    kind = "images"

    def __init__(self, data: ImageFolder) -> None:
        self.data, self.path = data, data.path
        self.shape = (data.channels, *data.size)
        self.reader = _ImageReader(data.path, data.framing, samples_at_once(self.shape), data.strict)
        framed = "whole tiles" if data.crop == "tile" else "central parts"
        self.reading = f"{len(data):,} {framed} of {len(data.names):,} images"

    def __len__(self) -> int:
        return len(self.data)

    def blocks(self, size: int) -> list[Block]:
        """See the base class: a block holds whole files, so that each is decoded once."""
        found: list[Block] = []
        entries: list[Entry] = []
        first = count = 0
        for entry, _ in self.data.listing():
            entries.append(entry)
            count += len(entry.tiles)
            if count >= size:
                found.append(Block(first, count, tuple(entries)))
                entries, first, count = [], first + count, 0
        return [*found, Block(first, count, tuple(entries))] if entries else found

    def facts(self) -> dict[str, Any]:
        """See the base class."""
        framing = self.data.framing._asdict() | {"resolution": list(self.data.size)}
        root = Path(self.path).expanduser()
        paths = [root / name for name in self.data.names] if root.is_dir() else [root]
        return {"images": self.data.digest(), "files": files_stamp(paths), "framing": framing}

    @property
    def left_out(self) -> Sequence[Skipped]:
        """See the base class."""
        return self.data.skipped

    def notes(self, name: str, skipped: Sequence[Skipped]) -> list[str]:
        """See the base class: what was left out, and whether images were resized."""
        self.data.skipped += [each for each in skipped if each not in self.data.skipped]
        return image_notes(name, self.data)


class _ImageReader(Reader):
    def __init__(self, path: str, framing: Framing, chunk: int, strict: bool) -> None:
        self.path, self.framing, self.chunk, self.strict = path, framing, chunk, strict
        self.skipped: list[Skipped] = []
        self._source: Source | None = None

    def read(self, block: Block) -> Iterator[Chunk]:
        """See the base class."""
        sizes = [len(entry.tiles) for entry in block.items]
        files = ((entry.name, self._decoded(entry)) for entry in block.items)
        for pixels, keys, numbers in gathered(files, sizes, block.first, self.chunk):
            images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
            yield Chunk(from_uint8(images).contiguous(), keys, numbers)

    def _decoded(self, entry: Entry) -> Pixels:
        """The samples of a file, none if it is broken."""
        self._source = open_source(self.path) if self._source is None else self._source
        try:
            return read_samples(self._source, entry, self.framing)
        except UnusableImageError as error:
            if self.strict:
                raise ValueError(
                    f"cannot use the image {entry.name!r} in {self.path!r}: {error}; repair or remove it, or leave it "
                    "out by not asking for strict"
                ) from error
            self.skipped.append(Skipped(entry.name, str(error)))
            return np.empty((0, *self.framing.size, self.framing.channels), dtype=np.uint8)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_source": None, "skipped": []}


def gathered(
    files: Iterable[tuple[str, NDArray[Any]]], sizes: Sequence[int], first: int, chunk: int
) -> Iterator[tuple[NDArray[Any], list[str], list[int]]]:
    """The samples of several files, so many at a time, with their keys and numbers.

    Args:
        files: name and samples of each; none of a broken one.
        sizes: how many samples each should have, which are numbered whether they are there or not.
        first: number of the first sample.
        chunk: samples at a time.

    """
    rows: list[NDArray[Any]] = []
    keys: list[str] = []
    numbers: list[int] = []
    for (name, samples), size in zip(files, sizes, strict=True):
        rows += list(samples)
        keys += [sample_key(name)] * len(samples)
        numbers += range(first, first + len(samples))
        first += size
        while len(rows) >= chunk:
            yield np.stack(rows[:chunk]), keys[:chunk], numbers[:chunk]
            del rows[:chunk], keys[:chunk], numbers[:chunk]
    if rows:
        yield np.stack(rows), keys, numbers


def samples_at_once(shape: Shape) -> int:
    """How many samples are held at once."""
    return max(1, _AT_ONCE // math.prod(shape))


def sample_key(name: str) -> str:
    """What the samples of a file are resampled by: its name within the folder, without the ending.

    A mere number, as generated images are named by, has no leading zeros: it is that of a row of an array too.

    Example:
        >>> from passband.training.sample_sets import sample_key
        >>> sample_key("cats/000012.png"), sample_key("000012.png")
        ('cats/000012', '12')

    """
    key = str(PurePosixPath(name).with_suffix(""))
    return str(int(key)) if key.isascii() and key.isdecimal() else key


def file_stamp(path: Path) -> list[int]:
    """Size and time of a file."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def files_stamp(paths: Iterable[Path]) -> str:
    """A hash of the sizes and times of files."""
    found = hashlib.blake2b(digest_size=16)
    for path in paths:
        found.update(json.dumps(file_stamp(path)).encode())
    return found.hexdigest()


class RowSet(SampleSet):
    """Samples by number: an array in a file, or latents that `passband encode` wrote.

    Args:
        data: the samples.
        channels: 1: the luma of samples of 3 channels; None: as they are.
        limit: use this many at most, spread evenly.

    Raises:
        ValueError: if the samples do not have that many channels.

    """

    def __init__(
        self, data: ArraySamples | LatentShards, *, channels: int | None = None, limit: int | None = None
    ) -> None:
        self.data, self.path = data, str(data.path)
        self.kind = data.kind if isinstance(data, ArraySamples) else "latents"
        luma = channels == 1 and data.shape[0] == 3 and self.kind == "images"
        if channels is not None and self.kind == "images" and not luma and channels != data.shape[0]:
            raise ValueError(
                f"{self.path!r} holds images of {data.shape[0]} channel(s), so they cannot be compared with --channels "
                f"{channels}: leave it out, or take 1"
            )
        self.shape = (1 if luma else data.shape[0], *data.shape[1:])
        total = len(data)
        count = total if limit is None else min(limit, total)
        self.numbers = [number * total // count for number in range(count)]
        self.reader = _RowReader(data, samples_at_once(data.shape), luma)
        self.reading = self._reading(luma)

    def __len__(self) -> int:
        return len(self.numbers)

    def blocks(self, size: int) -> list[Block]:
        """See the base class."""
        starts = range(0, len(self.numbers), size)
        parts = [self.numbers[start : start + size] for start in starts]
        return [Block(start, len(part), part) for start, part in zip(starts, parts, strict=True)]

    def facts(self) -> dict[str, Any]:
        """See the base class."""
        facts: dict[str, Any] = {"shape": list(self.shape), "count": len(self)}
        if isinstance(self.data, LatentShards):
            return facts | {"encoding": self.data.header["encoding"]}
        return facts | {"file": file_stamp(self.data.file), "array": self.data.name, "values": self.data.values}

    def _reading(self, luma: bool) -> str:
        chosen = f"; {len(self):,} of them" if len(self) < len(self.data) else ""
        if isinstance(self.data, ArraySamples):
            return f"{self.data.reading}{', luma' if luma else ''}{chosen}"
        return f"{len(self.data):,} latents, drawn from their posteriors and standardised{chosen}"


class _RowReader(Reader):
    def __init__(self, data: ArraySamples | LatentShards, chunk: int, luma: bool) -> None:
        self.data, self.chunk, self.luma = data, chunk, luma

    def read(self, block: Block) -> Iterator[Chunk]:
        """See the base class."""
        for start in range(0, block.size, self.chunk):
            rows = block.items[start : start + self.chunk]
            samples = self._rows(rows)
            if self.luma:
                samples = (samples * samples.new_tensor(_LUMA).reshape(-1, 1, 1)).sum(1, keepdim=True)
            first = block.first + start
            yield Chunk(samples, [str(row) for row in rows], range(first, first + len(rows)))

    def _rows(self, rows: Sequence[int]) -> Tensor:
        if isinstance(self.data, ArraySamples):
            return self.data.read(rows)
        return self.data.read(rows, seeds=rows).latents  # as a network is trained on them: with the posterior's noise
