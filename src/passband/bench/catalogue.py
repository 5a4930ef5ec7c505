"""All items, and the choice of some by their names."""

import difflib
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from passband.bench.item import Item
from passband.bench.items import audio, cosine, fourier, matching, metrics, scaling, steps, wavelets


def catalogue() -> list[Item]:
    """Every item, in the order in which they are measured."""
    modules = (fourier, wavelets, cosine, audio, matching, metrics, steps, scaling)
    return [item for module in modules for item in module.items()]


def choose(items: Sequence[Item], patterns: Sequence[str]) -> list[Item]:
    """Those whose name one of the patterns matches; all without patterns.

    Args:
        items: to choose from.
        patterns: the whole name, one with `*`, `?` or `[...]`, or else a part of a name. A pattern that is the start of
            names (whole parts of them) means these alone: `haar` is not `scaling/haar`.

    Raises:
        ValueError: if a pattern matches nothing, naming what is near.

    """
    if not patterns:
        return list(items)
    found = {item.name for pattern in patterns for item in _matching(items, pattern)}
    return [item for item in items if item.name in found]


def _matching(items: Sequence[Item], pattern: str) -> list[Item]:
    def those(test: Callable[[str], bool]) -> list[Item]:
        return [item for item in items if test(item.name)]

    if not pattern.strip("/ "):
        raise ValueError(f"{pattern!r} names nothing: leave --only out to measure everything")
    if any(sign in pattern for sign in "*?["):
        found = those(lambda name: fnmatchcase(name, pattern))
    else:
        start = pattern.rstrip("/")
        found = those(lambda name: name == start or name.startswith(start + "/")) or those(lambda name: pattern in name)
    if not found:
        raise ValueError(f"no item matches {pattern!r}; {_near(items, pattern)}; `passband bench --list` shows all")
    return found


def _near(items: Sequence[Item], pattern: str) -> str:
    names = [item.name for item in items]
    parts = sorted({part for name in names for part in (name, *name.split("/"), name.rpartition("/")[0]) if part})
    small = {part.lower(): part for part in parts}
    close = difflib.get_close_matches(pattern.lower(), small, n=5, cutoff=0.5)
    if close:
        return "near: " + ", ".join(small[part] for part in close)
    return "families: " + ", ".join(dict.fromkeys(name.partition("/")[0] for name in names))
