"""Leave out the set-ups that only the tests of the pages run."""

import re
from typing import Any

SETUP = re.compile(r"^<!-- setup[^\n]*\n.*?^--> *\n", re.DOTALL | re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    return SETUP.sub("", markdown)
