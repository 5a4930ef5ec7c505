"""Formulas as MathML, which browsers render themselves: no script and no request to another site."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    content = BLOCK.sub(lambda m: convert(html.unescape(m[1]).strip(), display="block"), content)
    return INLINE.sub(lambda m: convert(html.unescape(m[1]).strip()), content)
