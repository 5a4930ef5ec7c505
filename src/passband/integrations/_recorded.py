"""A network that keeps what it was last asked and what it said, so that a host's own loss can run unchanged."""

from collections.abc import Callable
from typing import Any


class Recorded:
    """A function or network, called through; its last call is kept until it is cleared.

    Args:
        called: what is called. Its other attributes are reached through this object.

    """

    def __init__(self, called: Callable[..., Any]) -> None:
        self.called = called
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}
        self.output: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it, and keep arguments and output."""
        self.args, self.kwargs = args, kwargs
        self.output = self.called(*args, **kwargs)
        return self.output

    def clear(self) -> None:
        """Forget the last call, which holds its graph."""
        self.args, self.kwargs, self.output = (), {}, None

    def __getattr__(self, name: str) -> Any:
        # Only for what is not found here; `called` itself is missing while a copy is being made.
        if name == "called":
            raise AttributeError(name)
        return getattr(self.called, name)
