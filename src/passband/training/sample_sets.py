"""Sets of samples to be measured, each read block by block in any process."""

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from passband.data import Skipped

Shape = tuple[int, ...]

#: Values of float32 that are held at once; more are not faster, and cost memory.
_AT_ONCE = 1 << 20


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


class FileReader(Reader):
    """Reads files that are opened where they are read; what cannot be used is left out, or raised.

    Args:
        path: of the folder or zip.
        what: a file is called in errors: "image".
        strict: raise at the first file that cannot be used.

    """

    def __init__(self, path: str, what: str, *, strict: bool) -> None:
        self.path, self.what, self.strict = path, what, strict
        self.skipped: list[Skipped] = []
        self._source: Any = None

    def leave_out(self, name: str, error: Exception) -> None:
        """Note why a file cannot be used.

        Raises:
            ValueError: if the reader is strict.

        """
        if self.strict:
            raise ValueError(
                f"cannot use the {self.what} {name!r} in {self.path!r}: {error}; repair or remove it, or leave it out "
                "by not asking for strict"
            ) from error
        self.skipped.append(Skipped(name, str(error)))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_source": None, "skipped": []}


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

    def file_keys(self) -> Iterator[str]:
        """What the samples of each file are resampled by, where files have names of their own."""
        return iter(())

    @property
    def left_out(self) -> Sequence[Skipped]:
        """Files that were left out when the set was opened, with the reasons."""
        return ()

    def notes(self, name: str, skipped: Sequence[Skipped]) -> list[str]:
        """What a reader of the report must know of the set, called by a name."""
        return []


def file_blocks(files: Iterable[tuple[Any, int]], size: int) -> list[Block]:
    """Blocks of whole files, so that each file is decoded once.

    Args:
        files: each with the number of its samples.
        size: how many samples a block holds, about.

    Example:
        >>> from passband.training.sample_sets import file_blocks
        >>> [tuple(block) for block in file_blocks([("a", 2), ("b", 3), ("c", 1)], 4)]
        [(0, 5, ('a', 'b')), (5, 1, ('c',))]

    """
    found: list[Block] = []
    items: list[Any] = []
    first = count = 0
    for item, samples in files:
        items.append(item)
        count += samples
        if count >= size:
            found.append(Block(first, count, tuple(items)))
            items, first, count = [], first + count, 0
    return [*found, Block(first, count, tuple(items))] if items else found


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
