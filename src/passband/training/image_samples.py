"""Folders and zips of images as sets of samples."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from passband.data import ImageFolder, Skipped, from_uint8
from passband.data._decode import Pixels, UnusableImageError
from passband.data._samples import Entry, Framing, read_samples
from passband.data._sources import open_source
from passband.reports.compare import image_notes
from passband.training.sample_sets import (
    Block,
    Chunk,
    FileReader,
    SampleSet,
    file_blocks,
    files_stamp,
    gathered,
    sample_key,
    samples_at_once,
)


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
        """See the base class."""
        return file_blocks(((entry, len(entry.tiles)) for entry, _ in self.data.listing()), size)

    def facts(self) -> dict[str, Any]:
        """See the base class."""
        framing = self.data.framing._asdict() | {"resolution": list(self.data.size)}
        root = Path(self.path).expanduser()
        paths = [root / name for name in self.data.names] if root.is_dir() else [root]
        return {"images": self.data.digest(), "files": files_stamp(paths), "framing": framing}

    def file_keys(self) -> Iterator[str]:
        """See the base class."""
        return map(sample_key, self.data.names)

    @property
    def left_out(self) -> Sequence[Skipped]:
        """See the base class."""
        return self.data.skipped

    def notes(self, name: str, skipped: Sequence[Skipped]) -> list[str]:
        """See the base class: what was left out, and whether images were resized."""
        self.data.skipped += [each for each in skipped if each not in self.data.skipped]
        return image_notes(name, self.data)


class _ImageReader(FileReader):
    def __init__(self, path: str, framing: Framing, chunk: int, strict: bool) -> None:
        super().__init__(path, "image", strict=strict)
        self.framing, self.chunk = framing, chunk

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
            self.leave_out(entry.name, error)
            return np.empty((0, *self.framing.size, self.framing.channels), dtype=np.uint8)
