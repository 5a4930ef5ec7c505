"""Samples in array files (NumPy's .npz and .npy, safetensors), read in chunks and never whole."""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.utils.data import Dataset

from passband._checks import check_choice
from passband.data._array_files import ArrayRows, is_array_file, open_rows, split_name
from passband.data.pixels import from_uint8

__all__ = ["VALUES", "ArraySamples", "is_array_file", "split_name"]

#: What the values of an array may be; "auto" looks at the first samples.
VALUES = ("auto", "-1..1", "0..1", "0..255", "raw")

IMAGES, LATENTS, SIGNALS = "images", "latents", "signals"

_LOOKED_AT = 64  # samples, to tell what the values are
_PIXEL_CHANNELS = (1, 3)
#: Beyond these, values of images in [-1, 1] or [0, 1] that were not clipped would be strange.
_SIGNED, _UNIT, _BYTES = 2.0, 1.5, 300.0


class _Layout(NamedTuple):
    """Where the channels are among the axes after the first: None where there is no such axis."""

    channel_axis: int | None
    shape: tuple[int, ...]  # (channels, *spatial)

    def apply(self, rows: Tensor) -> Tensor:
        """Rows as (batch, channels, *spatial)."""
        return rows.unsqueeze(1) if self.channel_axis is None else rows.movedim(self.channel_axis, 1)

    @property
    def words(self) -> str:
        """Where the channels are, in words."""
        if self.channel_axis is None:
            return "without an axis of channels"
        return "channels first" if self.channel_axis == 1 else "channels last"


class ArraySamples(Dataset[Tensor]):
    r"""The samples of an array in a file: images, latents or signals, as floats (channels, \*spatial).

    Read are .npz (as ADM writes its samples: `arr_0`, uint8, channels last, perhaps with labels), .npy and
    .safetensors; of a file with several arrays the one named in `FILE.npz:name`, else `arr_0`, else the only one with
    at least three axes. Rows are read where they lie, so that memory stays small however large the file is; a
    compressed .npz is unpacked on the way, and best read in order.

    The axes: (sample, height, width, channels) or (sample, channels, height, width), whichever has 1, 3 or 4 channels,
    or else square samples, or else the latter; (sample, height, width) for uint8 and square floats; (sample, channels,
    time) otherwise; (sample, time).

    The values: uint8 pixels become floats in [-1, 1]. Floats of images, with 1 or 3 channels, are told by the first 64
    samples: with a minimum below -0.5 and nothing beyond ±2 they are in [-1, 1]; up to 1.5 in [0, 1]; from 0 to 255 as
    pixels; and left as they are otherwise, which makes them latents. `values` says it instead.

    Args:
        path: the file, or FILE:name.
        values: "auto", or what the values of images are: "-1..1", "0..1", "0..255"; "raw": leave them as they are.

    Attributes:
        path: as given, for people to read.
        file: the file.
        name: the array's name in it, empty for .npy.
        shape: (channels, \*spatial) of a sample.
        kind: "images", "latents" or "signals".
        values: what the values were taken for, one of VALUES but "auto".
        reading: how the array was read, in a sentence.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, it is not clear which array is meant, or its values or axes are no samples'.

    Example:
        >>> import tempfile, numpy
        >>> from passband.data import ArraySamples
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     numpy.savez(f"{folder}/samples.npz", numpy.zeros((10, 16, 16, 3), dtype=numpy.uint8), numpy.arange(10))
        ...     data = ArraySamples(f"{folder}/samples.npz")
        ...     len(data), data.kind, data.shape, data[9].min().item()
        (10, 'images', (3, 16, 16), -1.0)

    """

    def __init__(self, path: str | os.PathLike[str], *, values: str = "auto") -> None:
        check_choice("values", values, VALUES)
        self.path = os.fspath(path)
        self.file = split_name(path)[0]
        self._rows = open_rows(path)
        self.name = self._rows.name
        self._check()
        self._layout = _layout(self._rows)
        self.shape = self._layout.shape
        self.values = self._told() if values == "auto" else self._as_asked(values)
        self.kind = self._kind()
        self.reading = self._sentence()

    def __len__(self) -> int:
        return self._rows.shape[0]

    def __getitem__(self, index: int) -> Float32[Tensor, " channels *spatial"]:
        return self.read((index,))[0]

    def read(self, indices: Sequence[int]) -> Float32[Tensor, "batch channels *spatial"]:
        """Several samples in one tensor; neighbours are read at once.

        Raises:
            IndexError: if there is no such sample.
            ValueError: if the file is damaged.

        """
        for index in indices:
            if not 0 <= index < len(self):
                raise IndexError(f"sample {index} is out of range for {len(self)} samples")
        rows = [self._rows.read(start, stop) for start, stop in _runs(indices)]
        found = torch.cat(rows) if rows else torch.empty(0, *self._rows.shape[1:])
        return self._scaled(self._layout.apply(found)).contiguous()

    def _scaled(self, rows: Tensor) -> Tensor:
        if rows.dtype == torch.uint8:
            return from_uint8(rows) if self.values == "0..255" else rows.to(torch.float32)
        if self.values == "0..1":
            return rows * 2 - 1
        return rows / 127.5 - 1 if self.values == "0..255" else rows

    def _check(self) -> None:
        rows = self._rows
        what = f"the array {rows.name!r} in {str(self.file)!r}" if rows.name else f"the array in {str(self.file)!r}"
        if rows.dtype.kind not in "uf" or (rows.dtype.kind == "u" and rows.dtype.itemsize > 1 and not rows.bfloat16):
            raise ValueError(
                f"{what} has values of type {rows.type_name}; expected uint8 pixels or floats: convert it, "
                "such as with array.astype(numpy.uint8)"
            )
        if not 2 <= len(rows.shape) <= 4:
            raise ValueError(
                f"{what} has shape {rows.shape}; expected samples first and two axes of images, with or without one of "
                "channels, or one axis of time"
            )
        if 0 in rows.shape:
            raise ValueError(f"{what} is empty: its shape is {rows.shape}")

    def _told(self) -> str:
        rows = self._rows
        if rows.dtype.kind == "u" and not rows.bfloat16:
            return "0..255"
        if len(self.shape) != 3 or self.shape[0] not in _PIXEL_CHANNELS:
            return "raw"
        looked_at = rows.read(0, min(_LOOKED_AT, len(self)))
        finite = looked_at[looked_at.isfinite()]  # what is not finite is an error where it is used
        if not len(finite):
            return "raw"
        low, high = float(finite.min()), float(finite.max())
        if -_SIGNED <= low < -0.5 and high <= _SIGNED:
            return "-1..1"
        if low >= -0.5 and high <= _UNIT:
            return "0..1"
        return "0..255" if low >= -0.5 and 16 < high <= _BYTES else "raw"

    def _as_asked(self, values: str) -> str:
        if values != "raw" and (len(self.shape) != 3 or self.shape[0] not in _PIXEL_CHANNELS):
            raise ValueError(
                f"values {values!r} are those of images of 1 or 3 channels, and the samples in {self.path!r} have "
                f"shape {self.shape} (channels first): use 'raw' or 'auto'"
            )
        return values

    def _kind(self) -> str:
        if len(self.shape) == 2:
            return SIGNALS
        if self.values == "raw":
            return LATENTS
        if self.shape[0] not in _PIXEL_CHANNELS:
            raise ValueError(
                f"{self.path!r} holds uint8 samples of {self.shape[0]} channels; images have 1 (gray) or 3 (RGB): "
                "leave out the others, such as with array[..., :3]"
            )
        return IMAGES

    def _sentence(self) -> str:
        rows = self._rows
        named = f", array {rows.name!r}" if rows.name else ""
        axes = " × ".join(map(str, rows.shape[1:]))
        scaled = {"0..255": "0 … 255 became −1 … 1", "0..1": "0 … 1 became −1 … 1", "-1..1": "values in −1 … 1"}
        values = scaled.get(self.values, "values as they are")
        return (
            f"{self.file.name}{named}: {len(self):,} {self.kind} of {axes} ({rows.type_name}, {self._layout.words}), "
            f"{values}"
        )


def _layout(rows: ArrayRows) -> _Layout:
    """Which axis holds the channels."""
    sides = rows.shape[1:]
    if len(sides) == 1:
        return _Layout(None, (1, *sides))
    if len(sides) == 2:
        gray = (rows.dtype.kind == "u" and not rows.bfloat16) or sides[0] == sides[1]
        return _Layout(None, (1, *sides)) if gray else _Layout(1, sides)
    first, last = _Layout(1, sides), _Layout(3, (sides[2], sides[0], sides[1]))
    for fits in (_few_channels, _square):
        if fits(first) != fits(last):
            return first if fits(first) else last
    return first


def _few_channels(layout: _Layout) -> bool:
    return layout.shape[0] in (1, 3, 4)


def _square(layout: _Layout) -> bool:
    return layout.shape[1] == layout.shape[2]


def _runs(indices: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Neighbouring indices as (start, stop)."""
    start = previous = None
    for index in indices:
        if start is not None and previous is not None and index != previous + 1:
            yield start, previous + 1
            start = index
        start = index if start is None else start
        previous = index
    if start is not None and previous is not None:
        yield start, previous + 1
