"""HTML source of the blocks; all text is escaped, all pictures are inside."""

import base64
import html
import math
from collections.abc import Sequence
from urllib.parse import quote

from passband.reports.blocks import (
    Audio,
    Block,
    Cell,
    Code,
    Columns,
    Figure,
    Number,
    Numbers,
    Table,
    Text,
    audio_type,
)


def escape(text: object) -> str:
    return html.escape(str(text), quote=True)


def render_block(block: Block) -> str:
    match block:
        case Text():
            paragraphs = "".join(f"<p>{escape(part)}</p>\n" for part in block.text.split("\n\n"))
            return paragraphs if block.tone == "plain" else f'<div class="{block.tone}">{paragraphs}</div>\n'
        case Code():
            return f"<pre><code>{escape(block.text)}</code></pre>\n"
        case Numbers():
            return f'<dl class="numbers">{"".join(map(_number, block.items))}</dl>\n'
        case Figure():
            return _figure(block)
        case Audio():
            return _player(block)
        case Table():
            return _table(block)
        case Columns():
            return _columns(block)


def _number(item: Number) -> str:
    remark = f'<dd class="remark">{escape(item.remark)}</dd>' if item.remark else ""
    return f"<div><dt>{escape(item.label)}</dt><dd>{escape(item.value)}</dd>{remark}</div>"


def _figure(figure: Figure) -> str:
    kind = ' class="pixelated"' if figure.pixelated else ""
    source, alt = data_uri(figure.image), escape(figure.alt)
    return (
        f'<figure><div class="card"><img{kind} src="{source}" alt="{alt}"></div>'
        f"<figcaption>{escape(figure.caption)}</figcaption></figure>\n"
    )


def _player(audio: Audio) -> str:
    alt, picture = escape(audio.alt), ""
    if audio.picture is not None:
        # The player below has the name already: a screen reader need not say it twice.
        picture = f'<div class="card"><img src="{data_uri(audio.picture)}" alt=""></div>'
    title = f'<p class="head">{escape(audio.title)}</p>' if audio.title else ""
    caption = f"<figcaption>{escape(audio.caption)}</figcaption>" if audio.caption else ""
    return (
        f'<figure class="player">{title}{picture}<audio controls preload="metadata" src="{_audio_source(audio.data)}" '
        f'aria-label="{alt}"></audio>{caption}</figure>\n'
    )


def _audio_source(source: bytes | str) -> str:
    if isinstance(source, bytes):
        return f"data:{audio_type(source)};base64,{base64.b64encode(source).decode()}"
    return escape(quote(source))


def _columns(columns: Columns) -> str:
    title = f"<h3>{escape(columns.title)}</h3>\n" if columns.title else ""
    cells = "".join(f"<div>{''.join(map(render_block, cell))}</div>\n" for cell in columns.columns)
    return f'{title}<div class="columns">\n{cells}</div>\n'


def data_uri(image: str | bytes) -> str:
    """SVG source or PNG data as a data: URI (an SVG in an image can neither run scripts nor clash by ids)."""
    if isinstance(image, bytes):
        return f"data:image/png;base64,{base64.b64encode(image).decode()}"
    return f"data:image/svg+xml;base64,{base64.b64encode(image.encode()).decode()}"


def _table(table: Table) -> str:
    numeric = [_is_numeric([row[i] for row in table.rows]) for i in range(len(table.columns))]
    heads = "".join(
        f'<th scope="col"{_align(right)}>{escape(name)}</th>'
        for name, right in zip(table.columns, numeric, strict=True)
    )
    rows = "".join(
        "<tr>"
        + "".join(f"<td{_align(right)}>{_cell(cell)}</td>" for cell, right in zip(row, numeric, strict=True))
        + "</tr>\n"
        for row in table.rows
    )
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    body = f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>"
    return f'<div class="scroll" tabindex="0"><table>{caption}{body}</table></div>\n'


def _is_numeric(cells: Sequence[Cell]) -> bool:
    """A column of numbers, or of texts that start like one ("3.1 dB", "−0.2 ± 0.1", "–")."""
    shown = [_cell(cell).lstrip("+-−±<>≈ ") for cell in cells]
    return bool(shown) and all(text[:1].isdigit() or text in ("", "–") for text in shown)


def _align(right: bool) -> str:
    return ' class="number"' if right else ""


def _cell(cell: Cell) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "–"
    return escape(f"{cell:.4g}" if isinstance(cell, float) else cell)
