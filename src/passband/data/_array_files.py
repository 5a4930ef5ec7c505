"""Rows of an array in a file (.npy, a member of an .npz, a tensor of a .safetensors), read without the rest of it."""

import json
import math
import os
import struct
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SUFFIXES = (".npy", ".npz", ".safetensors")

_SKIP = 1 << 20
_LOCAL_HEADER = 30  # bytes of a zip member's own header, before its name
_SAFETENSORS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "U8": "|u1"}
_MAX_HEADER = 100 << 20  # of a safetensors file, as its own library has it


class Bytes(ABC):
    """A run of bytes, of which parts are read; every process opens its own handle."""

    path: Path
    size: int

    def __init__(self) -> None:
        self._handle: Any = None
        self._pid = -1

    @abstractmethod
    def read(self, offset: int, size: int) -> bytes:
        """Bytes from an offset on; fewer where the file ends."""

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_handle": None}

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self._handle.close()


class FileBytes(Bytes):
    """A part of a file, read in any order."""

    def __init__(self, path: Path, start: int = 0) -> None:
        super().__init__()
        self.path, self.start = path, start
        self.size = path.stat().st_size - start

    def read(self, offset: int, size: int) -> bytes:
        """See the base class."""
        if self._handle is None or self._pid != os.getpid():
            self._handle, self._pid = self.path.open("rb"), os.getpid()
        self._handle.seek(self.start + offset)
        found: bytes = self._handle.read(size)
        return found


class MemberBytes(Bytes):
    """A compressed member of a zip: cheap to read in its order, from the beginning again when asked to go back."""

    def __init__(self, path: Path, member: str) -> None:
        super().__init__()
        self.path, self.member = path, member
        with zipfile.ZipFile(path) as archive:
            self.size = archive.getinfo(member).file_size

    def read(self, offset: int, size: int) -> bytes:
        """See the base class."""
        stream = self._at(offset)
        while stream.tell() < offset:
            if not stream.read(min(_SKIP, offset - stream.tell())):
                return b""
        return stream.read(size)

    def _at(self, offset: int) -> zipfile.ZipExtFile:
        if self._handle is None or self._pid != os.getpid() or self._handle.tell() > offset:
            self._handle = zipfile.ZipFile(self.path).open(self.member)  # noqa: SIM115  (kept open)
            self._pid = os.getpid()
        stream: zipfile.ZipExtFile = self._handle
        return stream


class ArrayRows:
    """An array in a file, of which rows are read.

    Attributes:
        name: the array's name within the file; empty for .npy.
        shape: its shape, rows first.
        dtype: how its values are stored.
        bfloat16: whether the 16-bit integers stand for bfloat16.

    """

    def __init__(
        self,
        source: Bytes,
        name: str,
        shape: Sequence[int],
        dtype: np.dtype[Any],
        *,
        start: int = 0,
        bfloat16: bool = False,
    ) -> None:
        self.source, self.name, self.start = source, name, start
        self.shape, self.dtype, self.bfloat16 = tuple(int(n) for n in shape), dtype, bfloat16
        if start < 0 or any(side < 0 for side in self.shape):
            raise damaged(source.path, f"its header says a shape of {self.shape} from byte {start} on")
        if start + math.prod(self.shape) * dtype.itemsize > source.size:
            raise damaged(source.path, "it ends before its last row")

    @property
    def type_name(self) -> str:
        """How the values are stored, for people to read."""
        return "bfloat16" if self.bfloat16 else self.dtype.name

    def read(self, start: int, stop: int) -> Tensor:
        """Rows start … stop - 1: uint8 as they are, others as float32."""
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        try:
            data = self.source.read(self.start + start * row, (stop - start) * row)
        except (OSError, EOFError, zipfile.BadZipFile, ValueError, RuntimeError) as error:
            raise damaged(self.source.path, str(error)) from error
        except Exception as error:  # a decompressor's own
            raise damaged(self.source.path, f"{type(error).__name__}: {error}") from error
        if len(data) < (stop - start) * row:
            raise damaged(self.source.path, "it ends before its last row")
        array: NDArray[Any] = np.frombuffer(data, self.dtype).reshape(stop - start, *self.shape[1:])
        if self.bfloat16:
            return torch.from_numpy(array.astype(np.int32) << 16).view(torch.float32)
        return torch.from_numpy(array.astype(np.uint8 if self.dtype.kind == "u" else np.float32))


class DamagedError(ValueError):
    """An array file cannot be read."""


def damaged(path: Path, reason: str) -> DamagedError:
    """The error of an array file that cannot be read."""
    return DamagedError(f"{str(path)!r} cannot be read as arrays: {reason}; write or download it again")


def split_name(path: str | os.PathLike[str]) -> tuple[Path, str]:
    """The file and the array's name of `FILE.npz:name`; an empty name without one."""
    text = os.fspath(path)
    file, colon, name = text.rpartition(":")
    if colon and Path(file).suffix.lower() in SUFFIXES:
        return Path(file).expanduser(), name
    return Path(text).expanduser(), ""


def is_array_file(path: str | os.PathLike[str]) -> bool:
    """Whether a path names an array file by its suffix, with or without an array's name."""
    return split_name(path)[0].suffix.lower() in SUFFIXES


def open_rows(path: str | os.PathLike[str]) -> ArrayRows:
    """The array at a path: of several in one file, the one that is named, or else the only one that holds samples.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, holds no such array, or several that could be meant.

    """
    file, name = split_name(path)
    if not file.is_file():
        raise FileNotFoundError(f"no such file: {str(file)!r}; check the path")
    suffix = file.suffix.lower()
    if suffix == ".npy":
        if name:
            raise ValueError(f"a .npy file holds one array without a name, got {os.fspath(path)!r}: leave out {name!r}")
        return _npy(FileBytes(file), "")
    if suffix not in SUFFIXES:
        raise ValueError(f"array files end in {', '.join(SUFFIXES)}, got {str(file)!r}")
    return _chosen(file, _members(file) if suffix == ".npz" else _tensors(file), name)


def _chosen(file: Path, found: Mapping[str, ArrayRows | ValueError], name: str) -> ArrayRows:
    """The array that is meant; that others beside it cannot be read does not matter."""
    arrays = {key: rows for key, rows in found.items() if isinstance(rows, ArrayRows)}
    failed = {key: error for key, error in found.items() if isinstance(error, ValueError)}
    wanted = name or "arr_0"
    if wanted in failed or (failed and not arrays):
        raise failed.get(wanted) or next(iter(failed.values()))
    held = ", ".join(f"{key!r} of shape {rows.shape}" for key, rows in arrays.items()) or "nothing"
    if name:
        if name not in arrays:
            raise ValueError(f"{str(file)!r} holds no array {name!r}; it holds {held}")
        return arrays[name]
    fitting = [key for key, rows in arrays.items() if len(rows.shape) >= 3]
    if "arr_0" in fitting:  # as ADM writes its samples, perhaps with labels and statistics beside them
        return arrays["arr_0"]
    if len(fitting) == 1:
        return arrays[fitting[0]]
    if len(arrays) == 1 and len(next(iter(arrays.values())).shape) == 2:
        return next(iter(arrays.values()))
    if not fitting:
        raise ValueError(
            f"{str(file)!r} holds no samples, which have at least three axes (sample, and height, width, channels in "
            f"some order; or channels and time); it holds {held}"
        )
    raise ValueError(f"{str(file)!r} holds several arrays: name one, as in {f'{file}:{fitting[0]}'!r}; it holds {held}")


def _npy(source: Bytes, name: str) -> ArrayRows:
    try:
        header = _HeaderReader(source)
        version = np.lib.format.read_magic(header)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in read:
            raise ValueError(f"its .npy version is {version}")
        shape, columns_first, dtype = read[version](header)
    except Exception as error:  # NumPy's, the file's, or a decompressor's own
        raise damaged(source.path, str(error)) from error
    if columns_first and len(shape) > 1:
        raise ValueError(
            f"the array {name or source.path.name!r} in {str(source.path)!r} is stored column by column, so that no "
            "sample lies in one piece: save numpy.ascontiguousarray(array)"
        )
    return ArrayRows(source, name, shape, dtype, start=header.position)


class _HeaderReader:
    """What NumPy reads an array's header from."""

    def __init__(self, source: Bytes) -> None:
        self.source, self.position = source, 0

    def read(self, size: int = 0, /) -> bytes:
        """The next bytes."""
        found = self.source.read(self.position, size)
        self.position += len(found)
        return found


def _members(file: Path) -> dict[str, ArrayRows | ValueError]:
    try:
        with zipfile.ZipFile(file) as archive:
            found = [info for info in archive.infolist() if info.filename.endswith(".npy")]
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise damaged(file, str(error)) from error
    named = {info.filename.removesuffix(".npy"): info for info in found}
    return {name: _member(file, info, name) for name, info in named.items()}


def _member(file: Path, info: zipfile.ZipInfo, name: str) -> ArrayRows | ValueError:
    """An array, or why it cannot be read: that matters only if it is the one that is meant."""
    try:
        return _npy(_member_bytes(file, info), name)
    except ValueError as error:
        return error


def _member_bytes(file: Path, info: zipfile.ZipInfo) -> Bytes:
    if info.flag_bits & 1:
        raise ValueError(f"{str(file)!r} is encrypted: save it without a password")
    if info.compress_type != zipfile.ZIP_STORED:
        return MemberBytes(file, info.filename)
    local = FileBytes(file).read(info.header_offset, _LOCAL_HEADER)
    if len(local) < _LOCAL_HEADER:
        raise damaged(file, "it is cut short")
    name, extra = struct.unpack("<HH", local[26:30])
    return FileBytes(file, info.header_offset + _LOCAL_HEADER + name + extra)


def _tensors(file: Path) -> dict[str, ArrayRows]:
    source = FileBytes(file)
    try:
        (length,) = struct.unpack("<Q", source.read(0, 8))
        if length > _MAX_HEADER:
            raise ValueError(f"its header claims to be {length} bytes long")
        header = json.loads(source.read(8, length))
        header.pop("__metadata__", None)
        return {key: _tensor(source, key, note, 8 + length) for key, note in header.items()}
    except DamagedError:
        raise
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(file, str(error)) from error


def _tensor(source: Bytes, name: str, note: dict[str, Any], data: int) -> ArrayRows:
    stored = note["dtype"]
    dtype = np.dtype(_SAFETENSORS.get(stored, "V1"))  # others can be listed, and not read
    shape = note["shape"] if stored in _SAFETENSORS else ()
    return ArrayRows(source, name, shape, dtype, start=data + note["data_offsets"][0], bfloat16=stored == "BF16")
