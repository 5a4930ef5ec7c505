"""Show the docstrings' `Example:` sections as the doctests they are."""

import re
from typing import Any

import griffe


class DoctestSections(griffe.Extension):
    """Griffe knows doctests under the title `Examples:` only."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = re.sub(r"^(\s*)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
