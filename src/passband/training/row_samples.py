"""Arrays in files, and latents that `passband encode` wrote, as sets of samples."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from passband.data import ArraySamples, LatentShards
from passband.training.sample_sets import Block, Chunk, Reader, SampleSet, file_stamp, samples_at_once

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as images are read with one channel


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
