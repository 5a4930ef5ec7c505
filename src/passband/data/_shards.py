"""Files of latents: safetensors, written whole, read by mapping them into memory."""

import hashlib
import json
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from passband._checks import import_extra
from passband._files import written_whole

_NOTE = "passband"  # one key, since safetensors does not keep the order of several
_DTYPES: dict[str, np.dtype[Any]] = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4"), "I64": np.dtype("<i8")}
_KEPT = "the finished shards are kept in {folder!r}; free some space and run the same command again to continue"

Array = NDArray[Any]


class DamagedShardError(ValueError):
    """A shard that cannot be used; the message says which, why and what to do."""


class Moments(NamedTuple):
    """Per-channel statistics of latents, in float64: of means, and the mean of squared standard deviations."""

    values: int  # of each channel
    mean: tuple[float, ...]
    squares: tuple[float, ...]  # sums of squared deviations of the means
    noise: tuple[float, ...]  # sums of squared standard deviations


class Note(NamedTuple):
    """What a shard says of itself.

    Attributes:
        encoding: which encoding it is a part of.
        number: its place among the shards.
        samples: how many it holds.
        moments: their statistics.
        skipped: images that were left out, with the reasons.
        digest: of its content.

    """

    encoding: str
    number: int
    samples: int
    moments: Moments
    skipped: list[tuple[str, str]]
    digest: str


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"shard-{number:05d}.safetensors"


def moments(means: Sequence[Array], stds: Sequence[Array]) -> Moments:
    """Statistics of arrays (samples, channels, *grid), taken together.

    NumPy's sums in float64 over pieces of a fixed size: the same bits on any number of threads.
    """
    found: Moments | None = None
    for mean, std in zip(means, stds, strict=True):
        for start in range(0, len(mean), 64):
            part = _moments(mean[start : start + 64], std[start : start + 64])
            found = part if found is None else merged(found, part)
    if found is None:
        zeros = (0.0,) * (means[0].shape[1] if means else 0)
        return Moments(0, zeros, zeros, zeros)
    return found


def _moments(mean: Array, std: Array) -> Moments:
    channels = mean.shape[1]
    rows = np.ascontiguousarray(np.moveaxis(mean, 1, 0).reshape(channels, -1), dtype=np.float64)
    noise = np.ascontiguousarray(np.moveaxis(std, 1, 0).reshape(channels, -1), dtype=np.float64)
    center = rows.mean(axis=1)
    squares = ((rows - center[:, None]) ** 2).sum(axis=1)
    return Moments(
        rows.shape[1], tuple(center.tolist()), tuple(squares.tolist()), tuple((noise**2).sum(axis=1).tolist())
    )


def merged(first: Moments, second: Moments) -> Moments:
    """Statistics of two sets together (Chan, Golub and LeVeque's update)."""
    if not first.values or not second.values:
        return second if second.values else first
    count = first.values + second.values
    mean, squares = [], []
    for a, b, square_a, square_b in zip(first.mean, second.mean, first.squares, second.squares, strict=True):
        gap = b - a
        mean.append(a + gap * second.values / count)
        squares.append(square_a + square_b + gap * gap * first.values * second.values / count)
    noise = tuple(a + b for a, b in zip(first.noise, second.noise, strict=True))
    return Moments(count, tuple(mean), tuple(squares), noise)


def write_shard(path: Path, arrays: Mapping[str, Array], note: Note) -> None:
    """Write a shard, whole or not at all; the digest of its note is filled in.

    Raises:
        OSError: if it cannot be written, the disk being full for instance.

    """
    held = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    text = json.dumps(note._replace(digest=digest(held)))
    data = import_extra("safetensors.numpy", "train").save(held, metadata={_NOTE: text})
    with written_whole(path, _KEPT.format(folder=str(path.parent))) as partial:
        partial.write_bytes(data)


def digest(arrays: Mapping[str, Array]) -> str:
    """A hash of arrays and their names."""
    found = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        array = arrays[name]
        found.update(f"{name} {array.dtype.str} {array.shape};".encode())
        found.update(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data if array.size else b"")
    return found.hexdigest()


class Shard:
    """The arrays of a shard, in its file or in memory.

    Args:
        path: the file.
        preloaded: read it whole.

    Raises:
        DamagedShardError: if it is missing, cut short or no shard of latents.

    """

    def __init__(self, path: Path, *, preloaded: bool = False) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self.nbytes = path.stat().st_size
                start = _header_size(file.read(8), self.nbytes)
                header = json.loads(file.read(start - 8))
                data: Any = self._bytes(file, preloaded)
            self.note = _read_note(header.pop("__metadata__"))
            self.arrays = {name: _array(data, start, entry) for name, entry in header.items()}
            _check(self.arrays, self.note)
        except FileNotFoundError as error:
            raise damaged(path, "it is missing") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
            raise damaged(path, str(error) or type(error).__name__) from error

    def _bytes(self, file: Any, preloaded: bool) -> Any:
        if preloaded:
            file.seek(0)
            return file.read()
        # PyTorch's mapping keeps no file open, as Python's mmap does: of a thousand shards, that many are allowed.
        found = torch.from_file(str(self.path), shared=False, size=self.nbytes, dtype=torch.uint8).numpy()
        found.flags.writeable = False
        return found

    def verify(self) -> None:
        """Read all of it.

        Raises:
            DamagedShardError: if its content is not as it was written.

        """
        if digest(self.arrays) != self.note.digest:
            raise damaged(self.path, "its content is not as it was written")


def damaged(path: Path, reason: str) -> DamagedShardError:
    """What to say of a shard that cannot be used."""
    return DamagedShardError(
        f"the shard {str(path)!r} cannot be used: {reason}. Delete it and run the same `passband encode` command "
        "again, which makes what is missing, or copy it back from elsewhere"
    )


def _header_size(length: bytes, nbytes: int) -> int:
    if len(length) < 8:
        raise ValueError("it is cut short")
    size: int = struct.unpack("<Q", length)[0] + 8
    if size > nbytes:
        raise ValueError("it is cut short, or no safetensors file")
    return size


def _read_note(metadata: Mapping[str, str]) -> Note:
    if _NOTE not in metadata:
        raise ValueError("it is a safetensors file that `passband encode` did not write")
    note = Note(*json.loads(metadata[_NOTE]))
    return note._replace(moments=Moments(*note.moments), skipped=[(name, why) for name, why in note.skipped])


def _array(data: Any, start: int, entry: Mapping[str, Any]) -> Array:
    dtype, shape = _DTYPES[entry["dtype"]], tuple(entry["shape"])
    first, last = entry["data_offsets"]
    if last - first != dtype.itemsize * math.prod(shape) or first < 0:
        raise ValueError("its header is damaged")
    if start + last > len(data):
        raise ValueError("it is cut short")
    found: Array = np.frombuffer(data, dtype, math.prod(shape), start + first).reshape(shape)
    return found


def _check(arrays: Mapping[str, Array], note: Note) -> None:
    if note.samples and not {"mean", "std", "index"} <= arrays.keys():
        raise ValueError("it holds no mean, std and index")
    if any(len(array) != note.samples for array in arrays.values()):
        raise ValueError("its header is damaged")
