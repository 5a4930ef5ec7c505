"""`passband bench`: time and memory beside the packages, or the code, that one would use otherwise."""

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from passband._files import write_file
from passband.bench import Budget, Item, ItemResult, Results, Setting, catalogue, choose, measure
from passband.bench.facts import changed, collect_facts
from passband.bench.tables import BOUNDS, Block, Row, blocks, describe, markdown, summary, with_block
from passband.bench.words import named
from passband.cli.console import console
from passband.training.ranks import usable_device

_STYLES = {"head": "bold", "ours": "cyan", "plain": "", "floor": "dim", "good": "green", "bad": "red"}
_MOST_THREADS = 1024


def bench(
    only: Annotated[
        list[str] | None,
        typer.Option(help="Names to measure: a family (haar), a pattern (haar/*x256), a part. May be repeated."),
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="Print the names and stop.")] = False,
    json: Annotated[
        Path | None, typer.Option(help="Write the numbers here, after every item; the rest may come later.")
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            "--markdown", help="Write the tables here, of all that --json holds; in a page, between its bench markers."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what --json holds, and measure what it lacks.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda (or mps where there is one).")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, max=_MOST_THREADS, help="Number of PyTorch threads on the CPU.")] = 1,
    seconds: Annotated[float, typer.Option(min=0.01, help="Approximate seconds of timing per item.")] = 4.0,
    repeats: Annotated[int | None, typer.Option(min=2, help="Turns per item, instead of --seconds.")] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the inputs.")] = 0,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 1 if a bar is missed or could not be checked.")
    ] = False,
) -> None:
    """Measure every loss, operator and metric beside what you would otherwise install or write.

    All ways of computing one item take turns in one process. Printed are medians with half the distance between the
    quartiles, forward and backward together, and the bytes kept for the backward pass over the prediction's. First the
    quantities are compared. Ctrl-C prints what was measured; only with --json is it kept. The other packages:
    pip install 'passband[bench]'.
    """
    chosen = choose(catalogue(), only or [])
    if show:
        _list(chosen)
        return
    if not math.isfinite(seconds):
        raise ValueError(f"--seconds must be a finite number, got {seconds}")
    place = _device(device)
    _check_targets(json, page)
    with _threads(threads):
        results = _start(json, resume, chosen, collect_facts(place, seed, seconds, repeats))
        left = [item for item in chosen if item.name not in results.items or results.items[item.name].error]
        for option, path in (("--json", json if left else None), ("--markdown", page)):
            _probe(option, path)
        if resume and not left:
            console.print("nothing left to measure")
        complete, fault = _run(left, results, json, Setting(place, seed), Budget(seconds, repeats))
    measured = [results.items[item.name] for item in chosen if item.name in results.items]
    _print(measured)
    Console().print(describe(results.facts, "\n"), style="dim", markup=False, highlight=False)
    if fault is not None:
        console.print(f"error: {json} does not hold all of this: {fault}", markup=False)
    if page is not None:
        _write_tables(page, complete, results, alone=json is None and bool(only))
    if not complete:
        console.print(_interrupted(json), markup=False)
        raise typer.Exit(130)
    if fault is not None:
        raise typer.Exit(2)
    unmet = any(item.missed or item.unchecked for item in measured)
    if any(item.error for item in measured) or (check and unmet):
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


def _device(name: str) -> torch.device:
    """The device, without PyTorch's list of all that it was ever built for."""
    kind = name.partition(":")[0]
    if kind not in ("cpu", "cuda", "mps") or (kind == "mps" and not torch.backends.mps.is_available()):
        raise ValueError(f"--device must be cpu or cuda (or mps where there is one), got {name!r}")
    return usable_device(name)


def _start(path: Path | None, resume: bool, chosen: Sequence[Item], now: dict[str, Any]) -> Results:
    """The results so far: none, or those of the file that is continued."""
    if path is None:
        if resume:
            raise ValueError("--resume continues a file: name it with --json FILE")
        return Results(now)
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


def _check_targets(json: Path | None, page: Path | None) -> None:
    """Raise before minutes of measuring if the numbers or the tables have no place."""
    for option, path in (("--json", json), ("--markdown", page)):
        if path is not None and path.exists() and not path.is_file():
            kind = "the folder" if path.is_dir() else "the device or pipe"
            raise ValueError(f"{option} must be a file, got {kind} {str(path)!r}")
    if json is not None and page is not None and json.resolve() == page.resolve():
        raise ValueError(f"--json and --markdown must be two files, got {str(json)!r} for both")
    if page is not None:
        with_block(_page_text(page), "")


def _probe(option: str, path: Path | None) -> None:
    """Raise if nothing can be written there."""
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent) as file:
            file.write(bytes(4096))
    except OSError as error:
        raise ValueError(f"{option} {str(path)!r} cannot be written: {error.strerror}") from error


def _page_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8") if path.exists() else None
    except UnicodeDecodeError as error:
        raise ValueError(f"--markdown {str(path)!r} is no text in UTF-8, so the tables cannot go into it") from error


def _write_tables(page: Path, complete: bool, results: Results, alone: bool) -> None:
    """All that the file of numbers holds; a page that is there stays as it was if the run was interrupted."""
    if not results.items or not (complete or not page.exists()):
        console.print(f"{page} was {'left as it was' if page.exists() else 'not written'}", markup=False)
        return
    order = {item.name: number for number, item in enumerate(catalogue())}
    items = sorted(results.items.values(), key=lambda item: order.get(item.name, len(order)))
    write_file(page, with_block(_page_text(page), markdown(items, results.facts)).encode())
    if alone:
        console.print(
            f"{page} holds the items of --only alone; with --json FILE it would hold all of FILE", markup=False
        )


def _run(
    items: Sequence[Item], results: Results, path: Path | None, setting: Setting, budget: Budget
) -> tuple[bool, OSError | None]:
    """Measure them, saving after each; whether it came to the end, and why not all is saved."""
    fault: OSError | None = None
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    try:
        with Progress(*columns, console=console, disable=not items) as progress:
            whole = progress.add_task("bench", total=len(items))
            for number, item in enumerate(items):

                def turn(done: int, turns: int, number: int = number, item: Item = item) -> None:
                    share = number + done / turns
                    progress.update(whole, completed=share, description=f"{item.name}, turn {done} of {turns}")

                progress.update(whole, completed=number, description=item.name)
                results.items[item.name] = _measured(item, setting, budget, turn)
                if path is not None:
                    fault = _saved(results, path, known=fault is not None)
            progress.update(whole, completed=len(items))
    except KeyboardInterrupt:
        return False, fault
    return True, fault


def _saved(results: Results, path: Path, known: bool) -> OSError | None:
    """What went wrong, warned of once: the measuring goes on, and the next item tries again."""
    try:
        results.save(path)
    except OSError as error:
        if not known:
            console.print(f"warning: {error}; the measuring goes on", markup=False)
        return error
    return None


def _measured(item: Item, setting: Setting, budget: Budget, turn: Callable[[int, int], None]) -> ItemResult:
    """The item's result, or what went wrong: one item does not end the others."""
    try:
        return measure(item, setting, budget, turn)
    except Exception as error:  # noqa: BLE001  (it is shown, and the exit status tells)
        return ItemResult(item.name, item.title, error=named(error))


def _interrupted(path: Path | None) -> str:
    if path is None:
        return "interrupted; with --json FILE, what was measured would be kept"
    if not path.exists():
        return f"interrupted; nothing is in {path}"
    return f"interrupted; what was measured is in {path}, the same command with --resume continues"


def _print(items: Sequence[ItemResult]) -> None:
    """The tables, on standard output."""
    shown = Console(highlight=False)
    for block, table in _fitting(shown, items):
        shown.print(block.title, style="bold underline", markup=False)
        shown.print(table)
        for note in block.notes:
            shown.print(Padding(Text(note, "dim"), (0, 0, 0, 2), expand=False))
        shown.print()
    _print_rows(shown, summary(items))


def _fitting(shown: Console, items: Sequence[ItemResult]) -> list[tuple[Block, Table]]:
    """The tables with all that there is room for: spreads go first, then the column of bars."""
    for wide, bounds in ((True, True), (False, True), (False, False)):
        pairs = [(block, _table(block, bounds)) for block in blocks(items, wide)]
        if all(Measurement.get(shown, shown.options, table).maximum < shown.width for _, table in pairs):
            break
    return pairs


def _table(block: Block, bounds: bool) -> Table:
    """Only the first column may be folded."""
    shown = [number for number, title in enumerate(block.head) if bounds or title != BOUNDS]
    last = len(block.head) - 1
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for number in shown:
        side: Literal["left", "right"] = "left" if number in (0, last) else "right"
        table.add_column(block.head[number], justify=side, no_wrap=number > 0, overflow="fold")
    for row in block.rows:
        table.add_row(*(Text(row.cells[number]) for number in shown), style=_STYLES[row.style])
    return table


def _print_rows(shown: Console, rows: Sequence[Row]) -> None:
    for row in rows:
        shown.print(row.cells[0], style=_STYLES[row.style], markup=False)
