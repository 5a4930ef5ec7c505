"""What the commands share: the console, and the report of images that were left out."""

from rich.console import Console

#: On standard error, so that a command's own output can be piped; no line breaks in the middle of a path.
console = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)

_NAMED = 20


def report_skipped(dataset: object) -> None:
    """Name the images that a data set left out, if any."""
    skipped = getattr(dataset, "skipped", [])
    if not skipped:
        return
    console.print(
        f"[yellow]{len(skipped)} image(s) could not be used and were left out (--strict stops at the first):[/]"
    )
    for image in skipped[:_NAMED]:
        console.print(f"  {image.name}: {image.reason}", markup=False)
    if len(skipped) > _NAMED:
        console.print(f"  and {len(skipped) - _NAMED} more")


def parse_share(text: str) -> tuple[int, int]:
    """(I, N) of `I/N`, a share of the work.

    Raises:
        ValueError: if it is none.

    """
    index, slash, count = text.partition("/")
    if not slash or not index.isdecimal() or not count.isdecimal():
        raise ValueError(f"--share takes I/N, such as 2/4 on the second of four machines; got {text!r}")
    if not 1 <= int(index) <= int(count):
        raise ValueError(f"--share takes I/N with I from 1 to N, got {text!r}")
    return int(index), int(count)
