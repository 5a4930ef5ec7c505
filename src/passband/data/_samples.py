"""Images of any size and mode as samples of one size: what data sets of files and of tables share."""

import hashlib
import json
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from passband._checks import check_choice, check_integer, check_number
from passband.data._cache import SampleCache
from passband.data._decode import (
    Header,
    Pixels,
    UnusableImageError,
    center_crop,
    cropped,
    read_header,
    read_image,
    scaled,
    shrink,
    tile_count,
    tiles,
    unusable_if_broken,
)
from passband.data._labels import FileLabels, require_all
from passband.data._sources import Skipped, Source
from passband.data._subsets import in_share, limit_rank
from passband.data.pixels import from_uint8

Progress = Callable[[int, int], None]

#: A larger sample would rather be a typing error that fills the memory.
MAX_RESOLUTION = 1 << 14

#: The name of `Skipped` where images are meant.
SkippedImage = Skipped


def checked_resolution(resolution: int | Sequence[int]) -> int | tuple[int, int]:
    """The side of a square sample, or (height, width).

    Raises:
        TypeError: if it is neither an integer nor a pair of them.
        ValueError: if a side is out of its range.

    """
    pair = isinstance(resolution, Sequence) and not isinstance(resolution, str)
    sides = tuple(resolution) if isinstance(resolution, Sequence) and pair else (resolution,)
    if pair and len(sides) != 2:
        raise ValueError(f"resolution must be the side of a square or (height, width), got {resolution!r}")
    for side in sides:
        check_integer("each side of resolution" if pair else "resolution", side)
    numbers = [operator.index(side) for side in sides]  # type: ignore[arg-type]
    if not all(1 <= number <= MAX_RESOLUTION for number in numbers):
        raise ValueError(
            f"resolution must lie in [1, {MAX_RESOLUTION}], got resolution {resolution}; it is the side of a "
            "sample in pixels, or its (height, width)"
        )
    return (numbers[0], numbers[1]) if pair else numbers[0]


class Framing(NamedTuple):
    """How an image becomes samples: squares of a resolution, or (height, width)."""

    resolution: int | tuple[int, int]
    crop: str = "center"
    scale: float = 1.0
    channels: int = 3

    def check(self) -> None:
        """Raise unless all options are allowed."""
        check_choice("crop", self.crop, ("center", "tile"))
        if self.channels not in (1, 3):
            raise ValueError(f"channels must be 1 (luma) or 3 (RGB), got {self.channels!r}")
        checked_resolution(self.resolution)
        check_number("scale", self.scale)
        if not 0 < self.scale <= 1:
            raise ValueError(f"scale must lie in (0, 1], got {self.scale}; 0.5 halves both sides before tiles are cut")
        if self.scale != 1 and self.crop != "tile":
            raise ValueError(
                f"scale goes with crop='tile', got scale {self.scale} with crop {self.crop!r}, "
                "which resizes each image to the resolution anyway"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a sample."""
        return self.resolution if isinstance(self.resolution, tuple) else (self.resolution, self.resolution)

    def tile_count(self, header: Header) -> int:
        """How many tiles an image has."""
        return tile_count(*scaled(header, self.scale), self.size)


class Entry(NamedTuple):
    """A usable image: its name in the source, its header, and the chosen tiles by number (0 for a center crop)."""

    name: str
    header: Header
    tiles: NDArray[np.int64]


_WHOLE = np.zeros(1, dtype=np.int64)  # one array for all: a million images would hold a million


def read_samples(source: Source, entry: Entry, framing: Framing) -> Pixels:
    """All samples of one image, (samples, height, width, channels).

    Raises:
        UnusableImageError: if it is broken.

    """
    with unusable_if_broken(), source.open(entry.name) as stream:
        image = read_image(stream, entry.header, framing.channels)
    if framing.crop == "center":
        return center_crop(image, framing.size)[None]
    return tiles(shrink(image, scaled(entry.header, framing.scale)), framing.size, entry.tiles)


class ImageSamples(Dataset[Tensor]):
    """Samples of one size of the images of a source: the interface of `ImageFolder` and `HubImages`.

    Attributes:
        path: where the images come from, for people to read.
        resolution: the side of a sample in pixels, or (height, width), as it was given.
        size: (height, width) of a sample, in pixels.
        crop: "center" or "tile".
        channels: 1 or 3.
        num_classes: number of classes, 0 without labels.
        class_names: a name for each class, empty where they have none.
        skipped: the images left out so far, with the reasons.

    """

    #: For the error of a missing label.
    _how_to_label = "pass labels"

    def __init__(
        self,
        source: Source,
        path: str,
        framing: Framing,
        *,
        labels: Callable[[], FileLabels] | None = None,
        subset: str = "all",
        eval_share: float = 0.1,
        limit: int | None = None,
        strict: bool = False,
        cache_bytes: int = 2 << 30,
        progress: Progress | None = None,
    ) -> None:
        framing.check()
        check_choice("subset", subset, ("all", "train", "eval"))
        check_integer("limit", 1 if limit is None else limit)
        if (limit is not None and limit < 1) or cache_bytes < 0:
            raise ValueError(
                f"limit must be at least 1 and cache_bytes at least 0, got limit {limit}, cache_bytes {cache_bytes}"
            )
        if not 0 <= eval_share <= 1:
            raise ValueError(f"eval_share must lie in [0, 1], got {eval_share}; 0.1 puts a tenth into 'eval'")
        self.path = path
        self.framing = framing
        self.resolution, self.crop, self.scale, self.channels = framing
        self.size = framing.size
        self.subset = subset
        self.eval_share = eval_share
        self.limit = limit
        self.strict = strict
        self.cache_bytes = cache_bytes
        self.skipped: list[SkippedImage] = []
        self._source = source
        found = FileLabels({}, 0) if labels is None else labels()  # before the headers: a mistake here shows soon
        self._entries = self._index(source, progress)
        self._starts = np.cumsum([0, *(len(entry.tiles) for entry in self._entries)])
        self._cache: SampleCache[Pixels] = SampleCache(cache_bytes)
        self._whole = bytearray(len(self._entries))  # 1 where the file has been decoded, 2 where it is broken
        self.num_classes, self.class_names = found.classes, found.class_names
        require_all(found, self.names, path)
        numbers = [found.of[name] for name in self.names] if found.classes else []
        self._labels = np.array(numbers, dtype=np.int64)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Float32[Tensor, "channels height width"]:
        return from_uint8(self.pixels(index))

    def pixels(self, index: int) -> UInt8[Tensor, "channels height width"]:
        """The sample as 8-bit pixels.

        Raises:
            IndexError: if there is no such sample.
            ValueError: if the file is broken and `strict` is set, or no file of the dataset can be decoded.

        """
        return self.pixel_batch((index,))[0]

    def pixel_batch(self, indices: Sequence[int]) -> UInt8[Tensor, "batch channels height width"]:
        """Several samples as 8-bit pixels, in one tensor: what to send through a DataLoader.

        Raises:
            IndexError: if there is no such sample.
            ValueError: if a file is broken and `strict` is set, or no file of the dataset can be decoded.

        """
        found = np.empty((len(indices), *self.size, self.channels), dtype=np.uint8)
        for place, index in enumerate(indices):
            entry, offset = self._locate(index)
            samples = self._decoded(entry)[1]
            found[place] = samples[offset % len(samples)]
        return torch.from_numpy(found).permute(0, 3, 1, 2).contiguous()

    def label(self, index: int) -> int:
        """The class of the sample that `pixels` gives for the index, 0 … num_classes - 1.

        Raises:
            IndexError: if there is no such sample.
            ValueError: if the data has no labels, or as `pixels`.

        """
        if not self.num_classes:
            raise ValueError(
                f"the images of {self.path!r} have no labels here; {self._how_to_label}, and check num_classes first"
            )
        entry, _ = self._locate(index)
        if self._whole[entry] != 1:  # a broken file lends neither its pixels nor its label
            entry = self._decoded(entry)[0]
        return int(self._labels[entry])

    def origin(self, index: int) -> tuple[str, int]:
        """The file's name within path and the tile's number in it (0 for a center crop)."""
        entry, offset = self._locate(index)
        return self._entries[entry].name, int(self._entries[entry].tiles[offset])

    def listing(self) -> Iterator[tuple[Entry, int | None]]:
        """Each usable image with its label (None without labels), undecoded."""
        for number, entry in enumerate(self._entries):
            yield entry, int(self._labels[number]) if self.num_classes else None

    def digest(self) -> str:
        """A hash of the names, sizes, tiles and labels of all usable images, to notice that they changed."""
        found = hashlib.sha256()
        for entry, label in self.listing():
            line = [entry.name, *entry.header, entry.tiles.tolist(), label]
            found.update(json.dumps(line).encode())
        return found.hexdigest()

    @property
    def names(self) -> list[str]:
        """The files that samples come from, in order."""
        return [entry.name for entry in self._entries]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Width and height of each of `names`, in pixels, upright."""
        return [(entry.header.width, entry.header.height) for entry in self._entries]

    @property
    def resized(self) -> list[tuple[int, int]]:
        """Those of `sizes` whose samples are not the file's own pixels, but resized."""
        height, width = self.size
        if self.crop == "center":
            return [found for found in self.sizes if cropped(*found, self.size) != (width, height)]
        return self.sizes if self.scale != 1 else []

    @property
    def nbytes(self) -> int:
        """Size of all samples as uint8; the cache holds them all where this is at most `cache_bytes`."""
        return len(self) * self.size[0] * self.size[1] * self.channels

    def preload(self, progress: Progress | None = None) -> None:
        """Decode every file now: finds the broken ones and fills the cache. Samples are the same with and without.

        Args:
            progress: called with (files decoded, files in all).

        Raises:
            ValueError: with `strict`, if a file is broken.

        """
        for number in range(len(self._entries)):
            self._samples(number)
            if progress is not None:
                progress(number + 1, len(self._entries))

    def _index(self, source: Source, progress: Progress | None) -> list[Entry]:
        names = source.names
        for name, reason in source.unreadable:
            self._skip(name, reason)
        if not names:
            raise ValueError(f"found no image in {self.path!r}: looked {source.nothing}; check the path")
        if self.crop == "center":
            entries = self._index_whole(source, progress)
        else:
            entries = self._index_tiles(source, progress)
        if entries:
            return entries
        if self.skipped:
            first = self.skipped[0]
            raise ValueError(
                f"none of the {len(source.names)} images in {self.path!r} can be used; "
                f"{len(self.skipped)} were left out, the first is {first.name!r}: {first.reason}"
            )
        raise ValueError(
            f"subset {self.subset!r} with eval_share {self.eval_share} holds none of the samples of {self.path!r}, "
            f"which are few ({len(source.names)} files); change eval_share or use subset='all'"
        )

    def _index_whole(self, source: Source, progress: Progress | None) -> list[Entry]:
        names = [name for name in source.names if self._in_subset(name, 0)]
        if self.limit is not None:  # so that a few of a million images need few headers
            names.sort(key=limit_rank)
        entries: list[Entry] = []
        for number, name in enumerate(names):
            if self.limit is not None and len(entries) == self.limit:
                break
            header = self._header(source, name)
            if header is not None:
                entries.append(Entry(name, header, _WHOLE))
            if progress is not None:
                progress(number + 1, len(names))
        return sorted(entries, key=lambda entry: entry.name)

    def _index_tiles(self, source: Source, progress: Progress | None) -> list[Entry]:
        found: list[tuple[str, Header, list[int]]] = []
        for number, name in enumerate(source.names):
            header = self._header(source, name)
            if header is not None:
                count = self.framing.tile_count(header)
                found.append((name, header, [tile for tile in range(count) if self._in_subset(name, tile)]))
            if progress is not None:
                progress(number + 1, len(source.names))
        if self.limit is not None:
            found = _limit_tiles(found, self.limit)
        return [Entry(name, header, np.array(chosen)) for name, header, chosen in found if chosen]

    def _in_subset(self, name: str, tile: int) -> bool:
        if self.subset == "all":
            return True
        in_eval = in_share(name, tile, high=self.eval_share)
        return in_eval == (self.subset == "eval")

    def _header(self, source: Source, name: str) -> Header | None:
        try:
            with unusable_if_broken(), source.open(name) as stream:
                header = read_header(stream)
            if self.crop == "tile" and self.framing.tile_count(header) == 0:
                (width, height), (rows, columns) = scaled(header, self.scale), self.size
                raise UnusableImageError(f"{width} x {height} is smaller than a tile of {columns} x {rows}")
        except UnusableImageError as error:
            self._skip(name, str(error), error)
            return None
        return header

    def _locate(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} is out of range for {len(self)} samples")
        entry = int(np.searchsorted(self._starts, index, side="right")) - 1
        return entry, index - int(self._starts[entry])

    def _decoded(self, number: int) -> tuple[int, Pixels]:
        """The samples of a file, or of the next one that is whole, and that one's number."""
        for step in range(len(self._entries)):
            candidate = (number + step) % len(self._entries)
            samples = self._samples(candidate)
            if samples is not None:
                return candidate, samples
        last = self.skipped[-1]
        raise ValueError(
            f"none of the {len(self._entries)} images in {self.path!r} can be decoded; "
            f"the last one tried is {last.name!r}: {last.reason}"
        )

    def _samples(self, number: int) -> Pixels | None:
        """All samples of one file, (samples, height, width, channels); None where it is broken."""
        samples = self._cache.get(number)
        if samples is not None or self._whole[number] == 2:
            return samples
        entry = self._entries[number]
        try:
            samples = read_samples(self._source, entry, self.framing)
        except UnusableImageError as error:
            self._skip(entry.name, str(error), error)
            self._whole[number] = 2
            return None
        self._whole[number] = 1
        self._cache.put(number, samples)
        return samples

    def _skip(self, name: str, reason: str, error: Exception | None = None) -> None:
        if self.strict:
            raise ValueError(
                f"cannot use the image {name!r} in {self.path!r}: {reason}; "
                "repair or remove it, or leave it out by not asking for strict"
            ) from error
        self.skipped.append(SkippedImage(name, reason))


def _limit_tiles(found: list[tuple[str, Header, list[int]]], limit: int) -> list[tuple[str, Header, list[int]]]:
    ranked = sorted(
        (limit_rank(name, tile), number, tile) for number, (name, _, chosen) in enumerate(found) for tile in chosen
    )
    kept = {(number, tile) for _, number, tile in ranked[:limit]}
    return [
        (name, header, [tile for tile in chosen if (number, tile) in kept])
        for number, (name, header, chosen) in enumerate(found)
    ]
