"""Notebooks made from tutorials: one source, the page. `python docs/notebooks.py` writes them anew."""

import json
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "tutorials"
PAGES = ("diffusers-ddpm", "flow", "autoencoder")

PYTHON = re.compile(r"^```python\n(.*?)^```\n?", re.DOTALL | re.MULTILINE)
SETUP = re.compile(r"^<!-- setup", re.MULTILINE)


def notebook(markdown: str) -> dict[str, Any]:
    """The page as a notebook in nbformat 4.5: its Python blocks as code to run, what stands between them as text."""
    if SETUP.search(markdown):
        raise ValueError("a page that becomes a notebook must run as it is read: take the hidden set-up out")
    cells = []
    for number, part in enumerate(PYTHON.split(markdown)):
        # re.split puts what the group matched at the odd places.
        text = part.strip("\n")
        if text:
            cells.append(_cell("code" if number % 2 else "markdown", text, len(cells)))
    python = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    metadata = {"kernelspec": python, "language_info": {"name": "python"}}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def as_text(page: str) -> str:
    """The notebook file of a tutorial, without outputs."""
    made = notebook((FOLDER / f"{page}.md").read_text(encoding="utf-8"))
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def _cell(kind: str, text: str, number: int) -> dict[str, Any]:
    cell: dict[str, Any] = {
        "cell_type": kind,
        "id": f"cell-{number}",
        "metadata": {},
        "source": text.splitlines(keepends=True),
    }
    return {**cell, "execution_count": None, "outputs": []} if kind == "code" else cell


if __name__ == "__main__":
    for page in PAGES:
        (FOLDER / f"{page}.ipynb").write_text(as_text(page), encoding="utf-8")
