"""Every Python block of the documentation runs, in order, in one namespace per page and in a folder of its own."""

import random
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

RUNS = {"setup", "python", "diff"}
#: What a fence may be; another language would be code that nobody runs.
LANGUAGES = RUNS | {"pycon", "console", "text", "yaml", "json", "bash"}


def to_run(block: Any) -> str:
    """The Python of a block; of a diff its context and added lines."""
    if block.language != "diff":
        return str(block.code)
    kept = [
        "" if line.startswith(("-", "@@", "+++", "\\")) else line[1:] if line[:1] in "+ " else line
        for line in block.code.splitlines()
    ]
    return "\n".join(kept) + "\n"


def run(page: Any, names: dict[str, Any]) -> None:
    for block in page.of(*RUNS):
        try:
            if block.code.lstrip().startswith(">>> "):
                raise SyntaxError("a doctest belongs into a ```pycon block")
            # Empty lines before it: tracebacks then name the page's own lines and show them.
            exec(compile("\n" * (block.line - 1) + to_run(block), str(page.path), "exec"), names)
        except Exception as error:
            error.add_note(f"in the {block.language} block of {page.name} that begins at line {block.line}")
            raise


@pytest.fixture
def names(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The namespace of a page, as a module of its own, so that its classes can be pickled and inspected."""
    folder = tmp_path / "page"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    threads, seeded = torch.get_num_threads(), random.getstate()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(0)
        yield module.__dict__
    torch.set_num_threads(threads)
    random.setstate(seeded)


# Without the run-time shape checks, as its readers run it.
@pytest.mark.bad_input
def test_the_blocks_of_a_page_run_in_order(page: Any, names: dict[str, Any]) -> None:
    run(page, names)


test_the_blocks_of_a_page_run_in_order.of_pages = lambda page: page.of("python", "diff")  # type: ignore[attr-defined]


def test_every_fence_is_in_a_language_that_is_run_or_known(page: Any) -> None:
    unknown = [
        f"{page.name}:{block.line}: ```{block.language}" for block in page.blocks if block.language not in LANGUAGES
    ]
    assert unknown == []


def test_every_fence_and_setup_is_closed(page: Any) -> None:
    """One that is not swallows what follows it, and nothing of that is run."""
    fences = sum(line.lstrip().startswith("```") for line in page.text.splitlines())
    assert fences == 2 * sum(block.language != "setup" for block in page.blocks)
    assert page.text.count("<!-- setup") == len(page.of("setup"))


Write = Callable[[str], Any]

EXAMPLE = """# A page

<!-- setup: what a reader has
value = 2
-->

```python
value += 1
```

- in a list

    ```python
    def inner():
        return value
    ```

```diff
@@ a script
 before = inner()
-after = before
+after = before * 10
```

```text
not Python
```
"""


def test_blocks_share_a_namespace_and_a_diff_runs_as_changed(write_page: Write, names: dict[str, Any]) -> None:
    run(write_page(EXAMPLE), names)
    assert (names["before"], names["after"]) == (3, 30)


def test_a_page_runs_in_an_empty_folder(write_page: Write, names: dict[str, Any]) -> None:
    run(write_page("```python\nfrom pathlib import Path\n\nfound = list(Path().iterdir())\n```\n"), names)
    assert names["found"] == []


def test_a_failing_block_names_page_and_line(write_page: Write, names: dict[str, Any]) -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        run(write_page(EXAMPLE.replace("value += 1", "\nvalue / 0")), names)
    assert raised.traceback[-1].lineno + 1 == 9
    assert str(raised.traceback[-1].path).endswith("page.md")
    assert raised.value.__notes__ == ["in the python block of page.md that begins at line 8"]


def test_a_doctest_in_a_python_block_is_refused(write_page: Write, names: dict[str, Any]) -> None:
    with pytest.raises(SyntaxError, match="pycon"):
        run(write_page("```python\n>>> 1\n1\n```\n"), names)
