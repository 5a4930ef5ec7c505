"""What stands for the classes and functions that an EDM checkpoint names: records, tensors and numbers."""

import io
import math
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from passband.integrations.checkpoints.plain_pickle import (
    Admitted,
    CheckpointFormatError,
    Names,
    UnsafeCheckpointError,
    checked_keys,
    load_plain,
    shown,
)

_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_STORAGES = {
    ("torch", f"{name}Storage"): dtype
    for name, dtype in {
        "Float": torch.float32,
        "Double": torch.float64,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}
_NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")


class Record:
    """An object of the checkpoint as data: the name of its class, and its attributes."""

    def __init__(self, class_name: str, state: dict[str, object] | None = None) -> None:
        self.class_name = class_name
        self.state: dict[str, object] = {} if state is None else state

    def set_state(self, state: object) -> None:
        """Take the attributes."""
        self.state = _attributes(state)


class Storage(NamedTuple):
    """The bytes of tensors, and what they are."""

    data: Tensor
    dtype: torch.dtype


class Objects:
    """Builds the objects of one checkpoint.

    Args:
        size: of the checkpoint in bytes; its tensors may not ask for more.

    """

    def __init__(self, size: int) -> None:
        self._left = size
        #: The source texts that the objects carry, which are never compiled.
        self.sources: set[str] = set()

    def names(self) -> Names:
        """The closed list: (module, name), and what stands for it."""
        easy_dict = Admitted(new=dict)
        names = {
            ("torch_utils.persistence", "_reconstruct_persistent_obj"): Admitted(self.persistent),
            ("torch.storage", "_load_from_bytes"): Admitted(self.storage),
            ("torch._utils", "_rebuild_tensor_v2"): Admitted(tensor),
            ("torch._utils", "_rebuild_parameter"): Admitted(parameter),
            ("torch._utils", "_rebuild_parameter_with_state"): Admitted(parameter),
            ("torch", "Size"): Admitted(_size),
            ("collections", "OrderedDict"): Admitted(_ordered_dict, dict),
            ("builtins", "set"): Admitted(_set),
            ("dnnlib.util", "EasyDict"): easy_dict,
            ("dnnlib", "EasyDict"): easy_dict,
            ("numpy", "dtype"): Admitted(DType),
            ("numpy", "ndarray"): Admitted(),
        }
        for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            names[module, "scalar"] = Admitted(_scalar)
            names[module, "_reconstruct"] = Admitted(_array)
        for name in ("ModuleDict", "ModuleList", "Sequential"):
            names["torch.nn.modules.container", name] = Admitted(new=_maker(name))
        for name in ("EDMLoss", "EDM2Loss"):  # those of our own, which the host's snapshots hold
            names["passband.integrations.nvlabs", name] = Admitted(new=_maker(name))
        return names

    def persistent(self, meta: object) -> Record:
        """An object that was pickled by NVLabs' `torch_utils.persistence`; its source text is set aside."""
        if type(meta) is not dict or meta.get("type") != "class":
            raise CheckpointFormatError("holds a persistent object without its description")
        name, source = meta.get("class_name"), meta.get("module_src")
        if not isinstance(name, str) or not isinstance(source, str):
            raise CheckpointFormatError("holds a persistent object without class_name or module_src")
        if source:
            self.sources.add(source)
        state = meta.get("state")
        return Record(name, {} if state is None else _attributes(state))

    def storage(self, data: object) -> Storage:
        """The storage whose saved form, that of torch.save, these bytes are."""
        if type(data) is not bytes:
            raise CheckpointFormatError("holds a storage that is not bytes")
        try:
            found = _zip_storage(data) if data.startswith(b"PK") else _legacy_storage(data)
        except CheckpointFormatError as error:
            raise type(error)(f"holds a tensor whose bytes are a pickle of their own that {error}") from error
        self._left -= found.data.numel()
        if self._left < 0:
            raise UnsafeCheckpointError("asks for more tensors than the file has room for")
        return found


def _legacy_storage(data: bytes) -> Storage:
    stream = io.BytesIO(data)
    magic, version, system = (load_plain(stream, {}) for _ in range(3))
    names = {key: Admitted(lambda dtype=dtype: dtype) for key, dtype in _STORAGES.items()}
    described = load_plain(stream, names, _described)
    keys = load_plain(stream, {})
    if (magic, version) != (_MAGIC, _VERSION) or not isinstance(described, _Described) or keys != [described.key]:
        raise CheckpointFormatError("is no storage of torch.save")
    if type(system) is not dict or system.get("little_endian") is not True:
        raise CheckpointFormatError("was written on a big-endian machine, which cannot be read")
    count = int.from_bytes(stream.read(8), "little", signed=True)
    raw = np.frombuffer(data, np.uint8, offset=stream.tell()).copy()
    if count != described.length or len(raw) != count * described.dtype.itemsize:
        raise CheckpointFormatError(f"announces {described.length} numbers and holds {len(raw)} bytes")
    return Storage(torch.from_numpy(raw), described.dtype)


class _Described(NamedTuple):
    key: str
    dtype: torch.dtype
    length: int


def _described(identifier: object) -> _Described:
    """The persistent identifier of a storage: ("storage", its class, key, device, number of values, None)."""
    if type(identifier) is not tuple or len(identifier) != 6 or identifier[0] != "storage":
        raise CheckpointFormatError("is no storage of torch.save")
    _, cls, key, _, count, view = identifier
    if type(cls) is not Admitted or cls.call is None or not isinstance(key, str) or type(count) is not int or view:
        raise CheckpointFormatError("is no storage of torch.save")
    dtype = cls.call()
    assert isinstance(dtype, torch.dtype)
    return _Described(key, dtype, count)


def _zip_storage(data: bytes) -> Storage:
    """The newer form, which PyTorch itself reads: tensors only, and nothing that unpacks to more than the bytes."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise UnsafeCheckpointError("is compressed")
        loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except CheckpointFormatError:
        raise
    except Exception as error:  # damaged bytes raise errors of any kind there
        reason = str(error).strip().partition("\n")[0][:300]
        raise UnsafeCheckpointError(f"PyTorch refuses to load as tensors only: {reason}") from error
    if not isinstance(loaded, torch.TypedStorage):
        raise CheckpointFormatError("is no storage of torch.save")
    return Storage(torch.empty(0, dtype=loaded.dtype).set_(loaded).view(torch.uint8), loaded.dtype)


def tensor(storage: object, offset: object, size: object, stride: object, *_: object) -> Tensor:
    """A view of a storage, after checking that it lies within and repeats nothing."""
    if not isinstance(storage, Storage) or type(offset) is not int or offset < 0:
        raise CheckpointFormatError("holds a tensor without a storage or an offset in it")
    sizes, strides = _size(size), _size(stride)
    values = storage.data.view(storage.dtype)
    if len(sizes) != len(strides) or len(sizes) > 8:
        raise CheckpointFormatError(f"holds a tensor of {len(sizes)} sizes and {len(strides)} strides")
    last = offset + sum((length - 1) * step for length, step in zip(sizes, strides, strict=True))
    if math.prod(sizes) > len(values) or (math.prod(sizes) > 0 and last >= len(values)):
        raise CheckpointFormatError(
            f"holds a tensor of size {sizes!r}, strides {strides!r} and offset {offset} that reaches beyond "
            f"its storage of {len(values)} numbers"
        )
    return values.as_strided(sizes, strides, min(offset, len(values)))


def parameter(data: object, *_: object) -> Tensor:
    """The tensor of a parameter; whether it is trained is not the checkpoint's business."""
    if not isinstance(data, Tensor):
        raise CheckpointFormatError("holds a parameter that is no tensor")
    return data


class DType:
    """A NumPy number type, as data; its state brings the byte order."""

    def __init__(self, code: object, *_: object) -> None:
        if code not in _NUMBERS:
            raise UnsafeCheckpointError(f"holds NumPy data of type {shown(code)}, which is not a number type")
        self.numpy = np.dtype(str(code))

    def set_state(self, state: object) -> None:
        """Take the byte order; fields and sub-arrays are refused."""
        if type(state) is not tuple or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise UnsafeCheckpointError("holds a NumPy type that is more than a number type")
        if state[1] not in ("<", ">", "|", "="):
            raise CheckpointFormatError("holds a NumPy type without a byte order")
        self.numpy = self.numpy.newbyteorder(state[1])


class Array:
    """A NumPy array of numbers, empty until its state is there."""

    def __init__(self) -> None:
        self.value = np.zeros(0)

    def set_state(self, state: object) -> None:
        """Take (version, shape, type, Fortran order, bytes)."""
        if type(state) is not tuple or len(state) != 5:
            raise CheckpointFormatError("holds a NumPy array without its state")
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, DType) or type(data) is not bytes:
            raise UnsafeCheckpointError("holds a NumPy array of something other than numbers")
        self.value = np.frombuffer(data, dtype.numpy).reshape(_size(shape), order="F" if fortran else "C")


def _array(*_: object) -> Array:
    return Array()


def _scalar(dtype: object, data: object) -> object:
    if not isinstance(dtype, DType) or type(data) is not bytes:
        raise UnsafeCheckpointError("holds a NumPy scalar of something other than a number")
    (value,) = np.frombuffer(data, dtype.numpy)
    return value.item()


def _size(size: object) -> tuple[int, ...]:
    if type(size) not in (tuple, list) or any(type(n) is not int or not 0 <= n < 2**63 for n in size):  # type: ignore[attr-defined]
        raise CheckpointFormatError("holds a size or a stride that is not made of whole numbers")
    return tuple(size)  # type: ignore[arg-type]


def _ordered_dict(*pairs: object) -> dict[object, object]:
    if pairs:
        raise UnsafeCheckpointError("makes a dictionary of something")
    return {}


def _set(items: object = ()) -> set[object]:
    if type(items) not in (list, tuple):
        raise CheckpointFormatError("makes a set of something that is no list")
    return set(checked_keys(list(items)))  # type: ignore[call-overload]


def _maker(name: str) -> Callable[[], Record]:
    return lambda: Record(name)


def _attributes(state: object) -> dict[str, object]:
    if type(state) is not dict or not all(isinstance(key, str) for key in state):
        raise CheckpointFormatError("holds an object whose attributes are no dictionary")
    return state
