"""`passband bench`: time and memory beside what one would install or write instead."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from passband._files import write_file
from passband.bench import Budget, Item, ItemResult, Results, Setting, catalogue, choose, measure
from passband.bench.facts import changed, collect_facts
from passband.bench.tables import Row, blocks, describe, markdown, summary, with_block
from passband.cli.console import console
from passband.training.ranks import usable_device

_STYLES = {"head": "bold", "ours": "cyan", "plain": "", "floor": "dim", "good": "green", "bad": "red"}
_WIDE = 100


def bench(
    only: Annotated[
        list[str] | None,
        typer.Option(help="Names to measure: a family (haar), a pattern (haar/*x256), a part. May be repeated."),
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="Print the names and stop.")] = False,
    json: Annotated[Path | None, typer.Option(help="Write the numbers here, after every item.")] = None,
    page: Annotated[
        Path | None, typer.Option("--markdown", help="Write the tables here; in a page, between its bench markers.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what --json holds, and measure what it lacks.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Of PyTorch, on the CPU.")] = 1,
    seconds: Annotated[float, typer.Option(min=0.01, help="Of timing per item, about.")] = 4.0,
    repeats: Annotated[int | None, typer.Option(min=2, help="Turns per item, instead of --seconds.")] = None,
    seed: Annotated[int, typer.Option(help="Of the inputs.")] = 0,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 if a bar is missed.")] = False,
) -> None:
    """Measure every loss, operator and metric beside what one would install or write instead.

    All ways of computing one item take turns in one process. Printed are medians with half the distance between the
    quartiles, forward and backward together, and the bytes kept for the backward pass over the prediction's. First the
    quantities are compared. Ctrl-C keeps what was measured. The other packages: pip install 'passband[bench]'.
    """
    chosen = choose(catalogue(), only or [])
    if show:
        _list(chosen)
        return
    place = usable_device(device)
    with _threads(threads):
        results = _start(json, resume, chosen, place, seed)
        _check_page(page)
        left = [item for item in chosen if item.name not in results.items or results.items[item.name].error]
        complete = _run(left, results, json, Setting(place, seed), Budget(seconds, repeats))
    measured = [results.items[item.name] for item in chosen if item.name in results.items]
    _print(measured)
    Console().print(describe(results.facts), style="dim", markup=False, highlight=False)
    if page is not None and measured and (complete or not page.exists()):
        _write_page(page, markdown(measured, results.facts))
    if not complete:
        console.print(_interrupted(json), markup=False)
        raise typer.Exit(130)
    if any(item.error for item in measured) or (check and any(item.missed for item in measured)):
        raise typer.Exit(1)


def _list(items: Sequence[Item]) -> None:
    shown = Console(soft_wrap=True, highlight=False)
    width = max(len(item.name) for item in items)
    for item in items:
        shown.print(f"{item.name:<{width}}  {item.title}".rstrip(), markup=False)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _start(path: Path | None, resume: bool, chosen: Sequence[Item], place: torch.device, seed: int) -> Results:
    """The results so far: none, or those of the file that is continued."""
    now = collect_facts(place, seed)
    if path is None:
        if resume:
            raise ValueError("--resume continues a file: name it with --json FILE")
        return Results(now)
    if path.is_dir():
        raise ValueError(f"--json must be a file, got the folder {str(path)!r}")
    if not path.exists():
        return Results(now)
    if not resume:
        raise ValueError(f"{str(path)!r} exists: --resume continues it; or name another file, or remove it")
    found = Results.load(path)
    complete = all(item.name in found.items and not found.items[item.name].error for item in chosen)
    if not complete and (reasons := changed(found.facts, now)):
        raise ValueError(
            f"{str(path)!r} was measured otherwise ({'; '.join(reasons)}), so its numbers and new ones do not "
            "belong together: name another file"
        )
    return found


def _check_page(path: Path | None) -> None:
    """Raise before minutes of measuring if the tables have no place."""
    if path is not None and path.exists():
        with_block(path.read_text(encoding="utf-8"), "")


def _write_page(path: Path, block: str) -> None:
    text = path.read_text(encoding="utf-8") if path.exists() else None
    write_file(path, with_block(text, block).encode())


def _run(items: Sequence[Item], results: Results, path: Path | None, setting: Setting, budget: Budget) -> bool:
    """Measure them, saving after each; whether it came to the end."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    try:
        with Progress(*columns, console=console, disable=not items) as progress:
            whole = progress.add_task("bench", total=len(items))
            for item in items:
                progress.update(whole, description=item.name)
                results.items[item.name] = _measured(item, setting, budget)
                if path is not None:
                    results.save(path)
                progress.advance(whole)
    except KeyboardInterrupt:
        return False
    return True


def _measured(item: Item, setting: Setting, budget: Budget) -> ItemResult:
    """The item's result, or what went wrong: one item does not end the others."""
    try:
        return measure(item, setting, budget)
    except Exception as error:  # noqa: BLE001  (it is shown, and the exit status tells)
        return ItemResult(item.name, item.title, error=f"{type(error).__name__}: {error}")


def _interrupted(path: Path | None) -> str:
    if path is None:
        return "interrupted; with --json FILE, what was measured would be kept"
    return f"interrupted; what was measured is in {path}, the same command with --resume continues"


def _print(items: Sequence[ItemResult]) -> None:
    """The tables, on standard output."""
    shown = Console(highlight=False)
    for block in blocks(items, wide=shown.width >= _WIDE):
        shown.print(block.title, style="bold underline", markup=False)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
        for number, column in enumerate(block.head):
            table.add_column(column, justify="left" if number in (0, 5) else "right", no_wrap=True)
        for row in block.rows:
            table.add_row(*row.cells, style=_STYLES[row.style])
        shown.print(table)
        for note in block.notes:
            shown.print(Padding(Text(note, "dim"), (0, 0, 0, 2), expand=False))
        shown.print()
    _print_rows(shown, summary(items))


def _print_rows(shown: Console, rows: Sequence[Row]) -> None:
    for row in rows:
        shown.print(row.cells[0], style=_STYLES[row.style], markup=False)
