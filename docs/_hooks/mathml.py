"""Formulas as MathML, which browsers render themselves: no script and no request to another site."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    # In a box of its own, which scrolls where the formula is wider than the page.
    content = BLOCK.sub(
        lambda m: f'<div class="formula">{convert(html.unescape(m[1]).strip(), display="block")}</div>', content
    )
    return INLINE.sub(lambda m: convert(html.unescape(m[1]).strip()), content)
