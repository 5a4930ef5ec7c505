"""Reads a pickle as plain data, without Python's unpickler: nothing that it names is imported, made or called.

The instructions are taken apart by `pickletools`, which runs none of them. A closed list of them is followed here, and
the only functions that can be reached are those that the caller lists.
"""

import pickletools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Any, BinaryIO, Protocol, cast, runtime_checkable

#: A network of 60 million parameters takes about 60,000 instructions; without a bound a small file could fill memory.
MAX_INSTRUCTIONS = 2_000_000
_SHOWN = 120
_HEAVY = 1 << 16
_GONE = object()

_FAULTS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


class CheckpointFormatError(ValueError):
    """A checkpoint that is broken, or of another kind; the message says what was found and what to do."""


class UnsafeCheckpointError(CheckpointFormatError):
    """A checkpoint that asks for something off the closed list; nothing in it was run."""


@runtime_checkable
class Stateful(Protocol):
    """A stand-in that takes the state of the object it stands for, as data."""

    def set_state(self, state: object) -> None:
        """Take the state."""


@dataclass(frozen=True, slots=True, eq=False)
class Admitted:
    """What stands for a name of the list.

    Args:
        call: our own function for a call of it; None: it is not to be called.
        new: our own function for an empty object of that class; None: none is made.

    """

    call: Callable[..., object] | None = None
    new: Callable[[], object] | None = None


Names = Mapping[tuple[str, str], Admitted]


def load_plain(stream: BufferedIOBase, names: Names, persistent: Callable[[object], object] | None = None) -> object:
    """Read one pickle from a stream, which is left right after it.

    Args:
        stream: where it begins. Lengths in it are believed no further than the stream goes.
        names: (module, name) of each global that is admitted, and what stands for it.
        persistent: our own function for persistent identifiers; None: they are refused.

    Raises:
        UnsafeCheckpointError: if it holds a name or an instruction that is not admitted.
        CheckpointFormatError: if it is broken.

    """
    machine = _Machine(names, persistent)
    bounded = cast(BinaryIO, _Bounded(stream))
    position: int | None = 0
    try:
        for count, (opcode, argument, position) in enumerate(pickletools.genops(bounded)):  # noqa: B007
            if count >= MAX_INSTRUCTIONS:
                raise UnsafeCheckpointError(f"has more than {MAX_INSTRUCTIONS:,} pickle instructions")
            if opcode.name == "STOP":
                return machine.stack.pop()
            step = _STEPS.get(opcode.name)
            if step is None:
                raise UnsafeCheckpointError(f"uses the pickle instruction {opcode.name}, which such a file never needs")
            step(machine, argument)
    except CheckpointFormatError as error:
        text = str(error)
        raise type(error)(text if "(at byte" in text else f"{text} (at byte {position})") from error
    except _FAULTS as error:
        raise CheckpointFormatError(f"is broken: {_reason(error)} (at byte {position})") from error
    raise CheckpointFormatError("is broken: it has no end")


class _Bounded:
    """A stream for pickletools that never reserves memory for more than is left to read."""

    def __init__(self, stream: BufferedIOBase) -> None:
        self._stream = stream
        self._position = stream.tell()
        self._end = stream.seek(0, 2)
        stream.seek(self._position)

    def read(self, count: int) -> bytes:
        data = self._stream.read(max(0, min(count, self._end - self._position)))
        self._position += len(data)
        return data

    def readline(self) -> bytes:
        data = self._stream.readline(1 << 16)
        self._position += len(data)
        return data

    def tell(self) -> int:
        return self._position


class _Machine:
    """The stack machine that a pickle is a program for, cut down to what makes data."""

    def __init__(self, names: Names, persistent: Callable[[object], object] | None) -> None:
        self.stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}
        self._names = names
        self._persistent = persistent

    def mark(self, _: object) -> None:
        self._marks.append(len(self.stack))

    def since_mark(self) -> list[Any]:
        start = self._marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self, count: int) -> list[Any]:
        if count > len(self.stack):
            raise IndexError("an instruction finds nothing to work on")
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    def drop(self, _: object) -> None:
        self.pop(1)

    def memoize(self, _: object) -> None:
        self.put(len(self._memo))

    def put(self, index: int) -> None:
        # The bytes of a tensor are used once; kept here, they would double what is in memory.
        self._memo[index] = _GONE if _is_heavy(self.stack[-1]) else self.stack[-1]

    def get(self, index: int) -> None:
        value = self._memo[index]
        if value is _GONE:
            raise CheckpointFormatError("uses the same large data twice")
        self.push(value)

    def append(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise TypeError("items are given to something that is no list")
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not dict:
            raise TypeError("keys are given to something that is no dictionary")
        self.stack[-1].update(_pairs(items))

    def add_items(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not set:
            raise TypeError("members are given to something that is no set")
        self.stack[-1].update(checked_keys(items))

    def find(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("a global is named by something that is no text")
        found = self._names.get((module, name))
        if found is None:
            shown = f"{module}.{name}"[:_SHOWN]
            raise UnsafeCheckpointError(
                f"names the global {shown!r}, which is not on the list of names that such a file needs"
            )
        self.push(found)

    def reduce(self, _: object) -> None:
        function, arguments = self.pop(2)
        if type(function) is not Admitted or function.call is None or type(arguments) is not tuple:
            raise UnsafeCheckpointError(f"calls something that is not to be called: {_kind(function)}")
        self.push(function.call(*arguments))

    def new(self, _: object) -> None:
        cls, arguments = self.pop(2)
        if type(cls) is not Admitted or cls.new is None or type(arguments) is not tuple or arguments:
            raise UnsafeCheckpointError(f"makes an object of something that is no class for it: {_kind(cls)}")
        self.push(cls.new())

    def build(self, _: object) -> None:
        (state,) = self.pop(1)
        target = self.stack[-1]
        if not isinstance(target, Stateful):
            raise UnsafeCheckpointError(f"sets the state of something that has none: {_kind(target)}")
        target.set_state(state)

    def persistent(self, _: object) -> None:
        (identifier,) = self.pop(1)
        if self._persistent is None:
            raise UnsafeCheckpointError("refers to data outside the file (a persistent identifier)")
        self.push(self._persistent(identifier))


def checked_keys(items: list[Any]) -> list[Any]:
    """The items, when all are plain values: hashing anything nested deep enough would end the process."""
    for item in items:
        if not isinstance(item, str | bytes | int | float | None):
            raise TypeError(f"a key is neither text nor a number but {_kind(item)}")
    return items


def shown(value: object) -> str:
    """A value for a message: text and numbers cut short, of others the kind (lists in lists may have no end)."""
    if isinstance(value, str | bytes):
        return repr(value[:_SHOWN])
    if isinstance(value, float | None) or (isinstance(value, int) and abs(value) < 1 << 64):
        return repr(value)
    return _kind(value)


def _is_heavy(value: object) -> bool:
    while type(value) is tuple and len(value) == 1:
        (value,) = value
    return type(value) is bytes and len(value) > _HEAVY


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(checked_keys(items[::2]), items[1::2], strict=True))


def _protocol(_: _Machine, version: int) -> None:
    if not 2 <= version <= 5:
        raise ValueError(f"protocol {version}; known are 2 to 5")


def _kind(value: object) -> str:
    return "a name of the list" if isinstance(value, Admitted) else f"a value of type {type(value).__name__}"


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return f"it refers to {str(error)[:_SHOWN]}, which it did not give before"
    return (str(error) or type(error).__name__)[: 3 * _SHOWN]


_Step = Callable[[_Machine, Any], None]

_VALUES = (
    "BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT SHORT_BINUNICODE BINUNICODE BINUNICODE8 "
    "SHORT_BINBYTES BINBYTES BINBYTES8"
)

_STEPS: dict[str, _Step] = {
    "PROTO": _protocol,
    "FRAME": lambda *_: None,
    "MARK": _Machine.mark,
    "POP": _Machine.drop,
    "MEMOIZE": _Machine.memoize,
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Machine.put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine.get),
    **dict.fromkeys(_VALUES.split(), _Machine.push),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_SET": lambda machine, _: machine.push(set()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.pop(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.pop(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.pop(3))),
    "FROZENSET": lambda machine, _: machine.push(frozenset(checked_keys(machine.since_mark()))),
    "APPEND": lambda machine, _: machine.append(machine.pop(1)),
    "APPENDS": lambda machine, _: machine.append(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.set_items(machine.pop(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "ADDITEMS": lambda machine, _: machine.add_items(machine.since_mark()),
    "GLOBAL": lambda machine, name: machine.find(*name.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.find(*machine.pop(2)),
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.new,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}
