"""Folders and zips of images, of any size and mode, as square samples in [-1, 1]."""

import os
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from passband._checks import check_choice, check_integer
from passband._seeds import seed_for
from passband.data._decode import (
    Header,
    Pixels,
    UnusableImageError,
    center_crop,
    read_header,
    read_image,
    tile_count,
    tiles,
    unusable_if_broken,
)
from passband.data._sources import SUFFIXES, Source, open_source
from passband.data.pixels import from_uint8

Progress = Callable[[int, int], None]


class SkippedImage(NamedTuple):
    """An image that is left out, and why.

    Attributes:
        name: the file's name within the folder or zip, with forward slashes.
        reason: why it cannot be used, for people to read.

    """

    name: str
    reason: str


class _Entry(NamedTuple):
    name: str
    header: Header
    tiles: NDArray[np.int64]  # the chosen ones, by number


class ImageFolder(Dataset[Tensor]):
    r"""The images of a folder or zip, center-cropped or tiled to squares of one size; sample i is always the same.

    Reads AVIF, BMP, GIF, JPEG, PNG, PNM, TIFF and WebP in folders of any depth, sorted by name; hidden files are left
    out. Of several frames the first counts. The EXIF rotation is applied, transparency is laid on white, palettes and
    CMYK become RGB, 16-bit gray is scaled to 8 bits.

    `crop="center"` takes the central square and resizes it with an antialiased Lanczos filter (smaller images are
    enlarged); `crop="tile"` cuts each image into non-overlapping tiles at native resolution, from the top left corner.

    Headers are read when the dataset is made, pixels when a sample is first asked for. Each file is then decoded once
    and its samples are kept as uint8, up to `cache_bytes` in each process. Call `preload` before a DataLoader forks its
    workers, and they share what it decoded.

    A broken image is left out, counted and named in `skipped`. Where the header is sound and the pixels are not, this
    shows only when the file is decoded: its samples are then replaced by those of the next file that is whole, so that
    the length and all other samples stay as they are. (Workers of a DataLoader note it in their own copy of `skipped`.)

    Args:
        path: a folder or a zip file.
        resolution: height and width of a sample, in pixels.
        crop: "center" or "tile".
        channels: 3 (RGB) or 1 (luma, ITU-R 601).
        subset: "all", or one side of a split: "train" or "eval". A hash of the file's name within path and the tile's
            number decides, so each source lends the same share to both sides and a new file moves no old one.
        eval_share: the share of samples in "eval", between 0 and 1.
        limit: keep this many samples at most, picked by the same kind of hash, so from all over the folder.
        strict: raise on the first image that cannot be used, instead of leaving it out.
        cache_bytes: how many bytes of decoded samples to keep.
        progress: called with (files read, files in all) while the headers are read.

    Attributes:
        skipped: the images left out so far, with the reasons.

    Raises:
        FileNotFoundError: if there is nothing at path.
        TypeError: if resolution or limit is no integer.
        ValueError: if path is neither a folder nor a zip, holds no usable image, or an option is unknown; if an image
            cannot be used and `strict` is set.

    Example:
        >>> import tempfile, torch
        >>> from passband.data import ImageFolder, save_image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_image(torch.rand(3, 40, 50), f"{folder}/a photo.png")
        ...     data = ImageFolder(folder, resolution=16, crop="tile")
        ...     len(data), tuple(data[5].shape), data.origin(5)
        (6, (3, 16, 16), ('a photo.png', 5))

    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        resolution: int,
        *,
        crop: str = "center",
        channels: int = 3,
        subset: str = "all",
        eval_share: float = 0.1,
        limit: int | None = None,
        strict: bool = False,
        cache_bytes: int = 2 << 30,
        progress: Progress | None = None,
    ) -> None:
        check_choice("crop", crop, ("center", "tile"))
        if channels not in (1, 3):
            raise ValueError(f"channels must be 1 (luma) or 3 (RGB), got {channels!r}")
        check_choice("subset", subset, ("all", "train", "eval"))
        for name, count in (("resolution", resolution), ("limit", 1 if limit is None else limit)):
            check_integer(name, count)
        if resolution < 1 or (limit is not None and limit < 1) or cache_bytes < 0:
            raise ValueError(
                "resolution and limit must be at least 1 and cache_bytes at least 0, "
                f"got resolution {resolution}, limit {limit}, cache_bytes {cache_bytes}"
            )
        if not 0 <= eval_share <= 1:
            raise ValueError(f"eval_share must lie in [0, 1], got {eval_share}; 0.1 puts a tenth into 'eval'")
        self.path = str(path)
        self.resolution = resolution
        self.crop = crop
        self.channels = channels
        self.subset = subset
        self.eval_share = eval_share
        self.limit = limit
        self.strict = strict
        self.cache_bytes = cache_bytes
        self.skipped: list[SkippedImage] = []
        self._broken: set[int] = set()
        self._cache: OrderedDict[int, Pixels] = OrderedDict()
        self._cached_bytes = 0
        self._source = open_source(path)
        self._entries = self._index(self._source, progress)
        self._starts = np.cumsum([0, *(len(entry.tiles) for entry in self._entries)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Float32[Tensor, "channels resolution resolution"]:
        return from_uint8(self.pixels(index))

    def pixels(self, index: int) -> UInt8[Tensor, "channels resolution resolution"]:
        """The sample as 8-bit pixels.

        Raises:
            IndexError: if there is no such sample.
            ValueError: if the file is broken and `strict` is set, or no file of the dataset can be decoded.

        """
        entry, offset = self._locate(index)
        samples = self._samples(entry)
        for step in range(1, len(self._entries)):
            if samples is not None:
                break
            samples = self._samples((entry + step) % len(self._entries))
        if samples is None:
            first = self.skipped[-1]
            raise ValueError(
                f"none of the {len(self._entries)} images in {self.path!r} can be decoded; "
                f"the last one tried is {first.name!r}: {first.reason}"
            )
        # A copy: the cache must not change with the caller's tensor.
        return torch.from_numpy(samples[offset % len(samples)].copy()).permute(2, 0, 1).contiguous()

    def origin(self, index: int) -> tuple[str, int]:
        """The file's name within path and the tile's number in it (0 for a center crop)."""
        entry, offset = self._locate(index)
        return self._entries[entry].name, int(self._entries[entry].tiles[offset])

    @property
    def names(self) -> list[str]:
        """The files that samples come from, in order."""
        return [entry.name for entry in self._entries]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Width and height of each of `names`, in pixels, upright."""
        return [(entry.header.width, entry.header.height) for entry in self._entries]

    @property
    def nbytes(self) -> int:
        """Size of all samples as uint8; the cache holds them all where this is at most `cache_bytes`."""
        return len(self) * self.resolution**2 * self.channels

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

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_cache": OrderedDict(), "_cached_bytes": 0}

    def _index(self, source: Source, progress: Progress | None) -> list[_Entry]:
        for name, reason in source.unreadable:
            self._skip(name, reason)
        if not source.names:
            raise ValueError(
                f"found no image in {self.path!r}: looked in all its folders for files ending in {', '.join(SUFFIXES)} "
                "(hidden files are left out); check the path"
            )
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

    def _index_whole(self, source: Source, progress: Progress | None) -> list[_Entry]:
        names = [name for name in source.names if self._in_subset(name, 0)]
        if self.limit is not None:  # so that a few of a million images need few headers
            names.sort(key=lambda name: seed_for(0, 0, f"limit {name}"))
        entries: list[_Entry] = []
        for number, name in enumerate(names):
            if self.limit is not None and len(entries) == self.limit:
                break
            header = self._header(source, name)
            if header is not None:
                entries.append(_Entry(name, header, np.zeros(1, dtype=np.int64)))
            if progress is not None:
                progress(number + 1, len(names))
        return sorted(entries, key=lambda entry: entry.name)

    def _index_tiles(self, source: Source, progress: Progress | None) -> list[_Entry]:
        found: list[tuple[str, Header, list[int]]] = []
        for number, name in enumerate(source.names):
            header = self._header(source, name)
            if header is not None:
                count = tile_count(header, self.resolution)
                found.append((name, header, [tile for tile in range(count) if self._in_subset(name, tile)]))
            if progress is not None:
                progress(number + 1, len(source.names))
        if self.limit is not None:
            found = _limit_tiles(found, self.limit)
        return [_Entry(name, header, np.array(chosen)) for name, header, chosen in found if chosen]

    def _in_subset(self, name: str, tile: int) -> bool:
        if self.subset == "all":
            return True
        in_eval = seed_for(0, tile, f"split {name}") < self.eval_share * 2.0**63
        return in_eval == (self.subset == "eval")

    def _header(self, source: Source, name: str) -> Header | None:
        try:
            with unusable_if_broken(), source.open(name) as stream:
                header = read_header(stream)
            if self.crop == "tile" and tile_count(header, self.resolution) == 0:
                size = self.resolution
                raise UnusableImageError(f"{header.width} x {header.height} is smaller than a tile of {size} x {size}")
        except UnusableImageError as error:
            self._skip(name, str(error), error)
            return None
        return header

    def _locate(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} is out of range for {len(self)} samples")
        entry = int(np.searchsorted(self._starts, index, side="right")) - 1
        return entry, index - int(self._starts[entry])

    def _samples(self, number: int) -> Pixels | None:
        """All samples of one file, (samples, resolution, resolution, channels); None where it is broken."""
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        if number in self._broken:
            return None
        entry = self._entries[number]
        try:
            samples = self._decode(entry)
        except UnusableImageError as error:
            self._skip(entry.name, str(error), error)
            self._broken.add(number)
            return None
        self._keep(number, samples)
        return samples

    def _decode(self, entry: _Entry) -> Pixels:
        with unusable_if_broken(), self._source.open(entry.name) as stream:
            image = read_image(stream, entry.header, self.channels)
        if self.crop == "center":
            return center_crop(image, self.resolution)[None]
        return tiles(image, self.resolution, entry.tiles)

    def _keep(self, number: int, samples: Pixels) -> None:
        self._cache[number] = samples
        self._cached_bytes += samples.nbytes
        while self._cached_bytes > self.cache_bytes:
            _, oldest = self._cache.popitem(last=False)
            self._cached_bytes -= oldest.nbytes

    def _skip(self, name: str, reason: str, error: Exception | None = None) -> None:
        if self.strict:
            raise ValueError(
                f"cannot use the image {name!r} in {self.path!r}: {reason}; "
                "repair or remove it, or leave it out by not asking for strict"
            ) from error
        self.skipped.append(SkippedImage(name, reason))


def _limit_tiles(found: list[tuple[str, Header, list[int]]], limit: int) -> list[tuple[str, Header, list[int]]]:
    ranked = sorted(
        (seed_for(0, tile, f"limit {name}"), number, tile)
        for number, (name, _, chosen) in enumerate(found)
        for tile in chosen
    )
    kept = {(number, tile) for _, number, tile in ranked[:limit]}
    return [
        (name, header, [tile for tile in chosen if (number, tile) in kept])
        for number, (name, header, chosen) in enumerate(found)
    ]
