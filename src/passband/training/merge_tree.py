"""Putting parts together in one order, whatever order they come in."""

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

Part = TypeVar("Part")


class MergeTree(Generic[Part]):
    """Merges numbered parts pairwise: 0 with 1, 2 with 3, the results with each other, and so on.

    Which parts are merged depends on their number alone, not on the order in which they come, so that sums of floats
    are the same bits however many processes found them. Of n parts at most about log2(n) wait, and what comes early.

    Args:
        leaves: how many parts there are, at least 1.
        merge: puts two neighbours together, the lower numbers first; may change and return either.

    Attributes:
        nodes: what waits, by (level, number): the part of all leaves whose number divided by 2^level is that number.

    Example:
        >>> from passband.training.merge_tree import MergeTree
        >>> tree = MergeTree(3, lambda low, high: f"({low}{high})")
        >>> for number, name in ((2, "c"), (1, "b"), (0, "a")):
        ...     tree.add(number, name)
        >>> tree.whole
        '((ab)c)'

    """

    def __init__(self, leaves: int, merge: Callable[[Part, Part], Part]) -> None:
        self.leaves, self.merge = leaves, merge
        self.nodes: dict[tuple[int, int], Part] = {}

    def add(self, number: int, part: Part) -> None:
        """Add a part."""
        level, width = 0, self.leaves
        while width > 1:
            beside = number ^ 1
            if beside < width:
                other = self.nodes.pop((level, beside), None)
                if other is None:
                    break
                part = self.merge(other, part) if beside < number else self.merge(part, other)
            level, number, width = level + 1, number // 2, (width + 1) // 2
        self.nodes[level, number] = part

    def restore(self, nodes: Mapping[tuple[int, int], Part]) -> None:
        """Go on from the nodes of another tree of as many leaves."""
        self.nodes = dict(nodes)

    def missing(self) -> list[int]:
        """The numbers of the parts that have not come yet."""
        levels = {level for level, _ in self.nodes}
        return [i for i in range(self.leaves) if not any((level, i >> level) in self.nodes for level in levels)]

    @property
    def whole(self) -> Part:
        """All parts together.

        Raises:
            ValueError: if some have not come yet.

        """
        missing = len(self.missing())
        if missing or not self.nodes:
            raise ValueError(f"{missing} of {self.leaves} parts have not come yet")
        return next(iter(self.nodes.values()))
