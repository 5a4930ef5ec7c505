"""What was measured, as a JSON file that is always whole and can be continued."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from passband._files import write_file
from passband.bench.bars import Verdict
from passband.bench.item import Kind

FORMAT = "passband bench 1"
FORWARD_ALONE = "its forward pass alone, against ours"

T = TypeVar("T")


@dataclass(frozen=True)
class Check:
    """A bar and the number that was measured.

    Attributes:
        of: `ratio` or `kept`.
        bar: the bound.
        goal: beyond it, if any.
        most: whether the number must not be above it.
        value: measured.
        verdict: `goal`, `met` or `missed`.

    """

    of: Literal["ratio", "kept"]
    bar: float
    goal: float | None
    most: bool
    value: float
    verdict: Verdict


@dataclass(frozen=True)
class ArmResult:
    """One way to compute an item, measured.

    Attributes:
        name: as in the tables.
        kind: ours, rival, floor; step, share, with.
        ms: median of forward and backward.
        spread: half the distance between the quartiles, ms.
        forward_ms: median of the forward pass alone.
        turns: how often it was its turn.
        calls: calls per turn.
        ratio: ms over that of the item's first arm, which has none.
        ratio_spread: half the distance between the quartiles of the ratios turn by turn.
        kept_bytes: bytes saved for the backward pass, inputs excepted.
        kept: the same over the prediction's bytes.
        deviation: relative difference of the quantity from the first arm's, where they should be the same.
        differs: why they are not the same.
        remark: what else a reader should know.
        missing: why it was not measured; begins with `broken` where its package is installed.
        unchecked: bars that could then not be checked.
        checks: bars.

    """

    name: str
    kind: Kind
    ms: float | None = None
    spread: float | None = None
    forward_ms: float | None = None
    turns: int = 0
    calls: int = 0
    ratio: float | None = None
    ratio_spread: float | None = None
    kept_bytes: int | None = None
    kept: float | None = None
    deviation: float | None = None
    differs: str = ""
    remark: str = ""
    missing: str = ""
    unchecked: int | None = None
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True)
class ItemResult:
    """An item, measured.

    Attributes:
        name: of the item.
        title: what it is.
        arms: the first one is what the ratios are of.
        unit: bytes of the prediction.
        error: what went wrong; then there are no arms.

    """

    name: str
    title: str = ""
    arms: tuple[ArmResult, ...] = ()
    unit: int = 0
    error: str = ""

    @property
    def missed(self) -> list[tuple[ArmResult, Check]]:
        """The bars that were not reached."""
        return [(arm, check) for arm in self.arms for check in arm.checks if check.verdict == "missed"]

    @property
    def unchecked(self) -> list[ArmResult]:
        """The arms whose bars could not be checked, since their packages are missing or broken."""
        return [arm for arm in self.arms if arm.unchecked]


@dataclass
class Results:
    """A run's items by name, with the facts of the machine.

    Args:
        facts: of the machine, the versions, the commit and the date.
        items: measured so far.

    """

    facts: dict[str, Any]
    items: dict[str, ItemResult] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the file, or leave what was there.

        Raises:
            OSError: if it cannot be written.

        """
        content = {
            "format": FORMAT,
            "facts": self.facts,
            "items": {name: _stripped(asdict(item)) for name, item in self.items.items()},
        }
        write_file(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> "Results":
        """Read a file that `save` wrote.

        Raises:
            OSError: if it cannot be read.
            ValueError: if it is another kind of file.

        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
            if content["format"] != FORMAT:
                raise ValueError(f"its format is {content['format']!r}, this is {FORMAT!r}")
            return cls(_facts(content["facts"]), {name: _item(item) for name, item in content["items"].items()})
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"{str(path)!r} holds no results of `passband bench` ({error}); name another file"
            ) from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no measurement")


def _facts(content: Any) -> dict[str, Any]:
    if not isinstance(content, dict) or not isinstance(content.get("packages", {}), dict):
        raise TypeError("its facts are no table of names")
    return content


def _item(content: Mapping[str, Any]) -> ItemResult:
    arms = tuple(
        _typed(ArmResult(**{**arm, "checks": tuple(_typed(Check(**check)) for check in arm.get("checks", ()))}))
        for arm in content.get("arms", ())
    )
    if not arms and not content.get("error"):
        raise ValueError(f"{content.get('name')} has neither numbers nor an error")
    return _typed(ItemResult(**{**content, "arms": arms}))


def _typed(found: T) -> T:
    """The same, or a TypeError if a field holds another type than it says."""
    for name, hint in get_type_hints(type(found)).items():
        value = getattr(found, name)
        if not _fits(value, hint):
            raise TypeError(f"{name} is {value!r}")
    return found


def _fits(value: object, hint: Any) -> bool:
    origin, choices = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in choices
    if origin is tuple:
        return isinstance(value, tuple)
    if origin is UnionType:
        return any(_fits(value, choice) for choice in choices)
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, int | float if hint is float else hint)


def _stripped(content: Any) -> Any:
    """Without what is empty, but for a check's missing goal."""
    if isinstance(content, dict):
        kept = {name: _stripped(value) for name, value in content.items()}
        return {name: value for name, value in kept.items() if name == "goal" or value not in (None, "", (), [])}
    if isinstance(content, list | tuple):
        return [_stripped(value) for value in content]
    return content
