"""How long work tells of its progress."""

from collections.abc import Callable

#: Called with (what goes on, how far it is, of how many).
OnProgress = Callable[[str, int, int], None]
