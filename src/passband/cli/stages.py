"""The stages of a long command: their progress bars, and what Ctrl-C does."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from passband.cli.console import console


@contextmanager
def interruptible() -> Iterator[None]:
    """Work that Ctrl-C stops, and the same command continues."""
    try:
        yield
    except KeyboardInterrupt:
        console.print("\ninterrupted; the same command continues")
        raise typer.Exit(130) from None


class Stages:
    """One progress bar for each stage of a piece of work.

    Args:
        progress: where they are shown.

    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.tasks: dict[str, Any] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show how far a stage is."""
        if what not in self.tasks:
            self.tasks[what] = self.progress.add_task(what)
        self.progress.update(self.tasks[what], completed=done, total=total)


def stages() -> Progress:
    """The progress bars of a command's stages."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)
