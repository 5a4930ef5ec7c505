"""HTML source of the blocks; all text is escaped, all pictures are inside."""

import base64
import html
import re
from pathlib import PurePosixPath
from urllib.parse import quote

from passband.reports._table import table_source
from passband.reports._themes import adaptive
from passband.reports.blocks import (
    Audio,
    Block,
    Code,
    Columns,
    Details,
    Figure,
    Heading,
    Items,
    Number,
    Numbers,
    Table,
    Text,
    audio_type,
)

_WIDTH = re.compile(r'<svg\b[^>]*?\bwidth="([\d.]+)pt"')
_ORDINARY = 500  # points
_AS_THEY_ARE = "/:;=+?@!$()*~,"
NARROW = "34rem"  # screens up to here show a figure's narrow layout


def escape(text: object) -> str:
    return html.escape(str(text), quote=True)


def render_block(block: Block) -> str:
    match block:
        case Text():
            paragraphs = "".join(f"<p>{escape(part)}</p>\n" for part in block.text.split("\n\n"))
            return paragraphs if block.tone == "plain" else f'<div class="{block.tone}">{paragraphs}</div>\n'
        case Heading():
            return f"<h3>{escape(block.text)}</h3>\n"
        case Items():
            return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in block.texts)}</ul>\n"
        case Code():
            return code_source(block.text)
        case Numbers():
            return f'<dl class="numbers">{"".join(map(_number, block.items))}</dl>\n'
        case Figure():
            return _figure(block)
        case Audio():
            return _player(block)
        case Table():
            return table_source(block)
        case Columns():
            return _columns(block)
        case Details():
            inside = "".join(map(render_block, block.blocks))
            return f"<details><summary>{escape(block.title)}</summary>\n{inside}</details>\n"


def code_source(text: str) -> str:
    # Focus lets the keyboard scroll lines that are wider than the page.
    return f'<pre tabindex="0"><code>{escape(text)}</code></pre>\n'


def _number(item: Number) -> str:
    remark = f'<dd class="remark">{escape(item.remark)}</dd>' if item.remark else ""
    return f"<div><dt>{escape(item.label)}</dt><dd>{escape(item.value)}</dd>{remark}</div>"


def _figure(figure: Figure) -> str:
    kind = ' class="pixelated"' if figure.pixelated else ""
    # What has a white ground of its own lies on white in the dark too.
    card = "card" if isinstance(figure.image, str) or figure.transparent else "card white"
    picture = f'<img{kind} src="{data_uri(_themed(figure.image))}" alt="{escape(figure.alt)}">'
    if figure.narrow is not None:
        narrow = data_uri(_themed(figure.narrow))
        picture = f'<picture><source media="(max-width: {NARROW})" srcset="{narrow}">{picture}</picture>'
    return (
        f'<figure{_kind(figure.image)}><div class="{card}">{picture}</div>'
        f"<figcaption>{escape(figure.caption)}{_links(figure)}</figcaption></figure>\n"
    )


def _kind(image: str | bytes) -> str:
    """Drawn figures of ordinary width are no wider than the text, so that theirs is not larger than it."""
    width = _WIDTH.search(image) if isinstance(image, str) else None
    return ' class="drawn"' if width and float(width[1]) <= _ORDINARY else ""


def _links(figure: Figure) -> str:
    """The figure's files: the first by its name, the others by their suffix."""
    if not figure.files:
        return ""
    names = [figure.files[0], *(PurePosixPath(name).suffix for name in figure.files[1:])]
    links = (
        f'<a href="{escape(quote(file))}" aria-label="{escape(file)}">{escape(name)}</a>'
        for file, name in zip(figure.files, names, strict=True)
    )
    return f' <span class="files">{" · ".join(links)}</span>'


def _themed(image: str | bytes) -> str | bytes:
    return adaptive(image) if isinstance(image, str) else image


def _player(audio: Audio) -> str:
    alt, picture = escape(audio.alt), ""
    if audio.picture is not None:
        # The player below has the name already: a screen reader need not say it twice.
        card = "card" if isinstance(audio.picture, str) else "card white"
        picture = f'<div class="{card}"><img src="{data_uri(_themed(audio.picture))}" alt=""></div>'
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
    kind = "columns wide" if columns.wide else "columns"
    return f'{title}<div class="{kind}">\n{cells}</div>\n'


def data_uri(image: str | bytes) -> str:
    """SVG source or PNG data as a data: URI (an SVG in an image can neither run scripts nor clash by ids)."""
    if isinstance(image, bytes):
        return f"data:image/png;base64,{base64.b64encode(image).decode()}"
    # Pictures within an SVG are in base64 already; to do that twice makes them longer.
    kinds = (f";base64,{base64.b64encode(image.encode()).decode()}", f",{quote(image, safe=_AS_THEY_ARE)}")
    return f"data:image/svg+xml{min(kinds, key=len)}"
