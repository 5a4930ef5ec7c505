"""What the site's hooks make of a page."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "_hooks"


def hook(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"hook_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_setups_are_left_out_and_other_comments_stay() -> None:
    text = "one\n<!-- setup: names\na = 1\n\nb = 2\n-->\ntwo\n<!-- kept -->\n"
    assert hook("setups").on_page_markdown(text) == "one\ntwo\n<!-- kept -->\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("−0.8 ± 0.1", "−0.8\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.1"),
        ("82 (× 1.04), 32 × 32", "82 (× 1.04), 32\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}32"),
        ("mean ± error", "mean ± error"),
    ],
)
def test_a_number_and_its_error_stay_together(text: str, expected: str) -> None:
    assert hook("tables").on_page_content(text) == expected


def test_cells_of_a_stacked_table_know_their_column() -> None:
    table = "<table><tr><th>host</th><th><code>lines</code></th></tr><tr><td>EDM</td><td style='x'>2</td></tr></table>"
    found = hook("tables").on_page_content(f'<div class="stack">{table}</div>{table}')
    labelled = table.replace("<td>EDM", '<td data-label="host">EDM').replace(
        "<td style", '<td data-label="lines" style'
    )
    assert found == f'<div class="stack">{labelled}</div>{table}'


def test_formulas_become_mathml_in_a_box_that_scrolls() -> None:
    text = r'<span class="arithmatex">\(x_0\)</span><div class="arithmatex">\[a &lt; b\]</div>'
    found = hook("mathml").on_page_content(text)
    assert "arithmatex" not in found
    assert found.startswith("<math")
    assert '<div class="formula"><math' in found
    assert "&#x0003C;" in found  # the less-than sign
