"""HTML source of tables: numbers to the right, and what their columns are sorted by."""

import html
import math
import re
from collections.abc import Sequence

from passband.reports.blocks import Cell, Shown, Table

_LETTERS = 10  # of a number's unit or remark
_SHORT = 16  # letters of a text that need not be broken
_NUMBER = re.compile(r"[<>≈±≤≥~ ]*([+-]?\d[\d,]*(?:\.\d+)?(?:[eE][+-]?\d+)?)")


def table_source(table: Table) -> str:
    """The table within a box that scrolls where the screen is too narrow."""
    columns = [[row[i] for row in table.rows] for i in range(len(table.columns))]
    kinds = [_kind(cells) for cells in columns]
    heads = "".join(
        # A column of names has no head, and an empty one would be read out.
        f'<th scope="col"{_class(kind)}>{html.escape(name)}</th>' if name else "<td></td>"
        for name, kind in zip(table.columns, kinds, strict=True)
    )
    rows = "".join(f"<tr>{_row(row, kinds, table.sortable)}</tr>\n" for row in table.rows)
    caption = f"<caption>{html.escape(table.caption)}</caption>" if table.caption else ""
    kind = ' class="sortable"' if table.sortable else ""
    name = html.escape(table.caption or ", ".join(filter(None, table.columns)) or "Table")
    return (
        f'<div class="scroll" role="group" tabindex="0" aria-label="{name}"><table{kind}>{caption}'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>\n"
    )


def _row(row: Sequence[Cell], kinds: Sequence[str], sortable: bool) -> str:
    cells = []
    for cell, kind in zip(row, kinds, strict=True):
        key = f' data-sort="{_key(cell, kind == "number")}"' if sortable else ""
        cells.append(f"<td{_class(kind)}{key}>{_markup(cell)}</td>")
    return "".join(cells)


def _kind(cells: Sequence[Cell]) -> str:
    """`number` to the right, `short` on one line, or nothing for texts."""
    if _is_numeric(cells):
        return "number"
    return "short" if len(cells) > 1 and all(len(_text(cell)) <= _SHORT for cell in cells) else ""


def _is_numeric(cells: Sequence[Cell]) -> bool:
    """A column of numbers, or of short texts that start like one ("3.1 dB", "−0.2 ± 0.1", "–")."""
    shown = [_text(cell).lstrip("+-−±<>≈[( ") for cell in cells]
    # "2 × 2 checkerboard" is a name.
    return bool(shown) and all(
        text in ("", "–") or (text[:1].isdigit() and sum(map(str.isalpha, text)) <= _LETTERS) for text in shown
    )


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _markup(cell: Cell) -> str:
    text = html.escape(_text(cell))
    return f"<strong>{text}</strong>" if isinstance(cell, Shown) and cell.marked else text


def _text(cell: Cell) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "–"
    if isinstance(cell, Shown):
        return cell.text
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def _key(cell: Cell, numeric: bool) -> str:
    """What a cell is sorted by: a number where there is one, else its text; empty comes last."""
    match cell:
        case Shown():
            value = cell.value
        case str():
            if not numeric:
                return html.escape(cell)
            found = _NUMBER.match(cell.replace("−", "-"))
            value = float(found[1].replace(",", "")) if found else None
        case _:
            value = cell
    return "" if value is None or math.isnan(value) else repr(value)
