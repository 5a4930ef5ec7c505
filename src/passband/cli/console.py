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
        f"[yellow]{len(skipped)} file(s) could not be used and were left out (--strict stops at the first):[/]"
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


def parse_resolution(text: str) -> int | tuple[int, int]:
    """The side of a square, `64`, or (height, width), `48x64`.

    Raises:
        ValueError: if it is neither.

    """
    sides = text.lower().replace("×", "x").split("x")
    if len(sides) > 2 or not all(side.strip().isdecimal() for side in sides):
        raise ValueError(f"--resolution takes the side of a square, such as 64, or HEIGHTxWIDTH, 48x64; got {text!r}")
    numbers = [int(side) for side in sides]
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])
