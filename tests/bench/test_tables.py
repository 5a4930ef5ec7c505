"""Rows for a terminal and Markdown."""

import re
from dataclasses import replace

import pytest

from passband.bench.results import FORWARD_ALONE, ArmResult, Check, ItemResult
from passband.bench.tables import BEGIN, END, blocks, describe, markdown, number, summary, with_block

FACTS = {"cpu": "A chip", "cores": 2, "threads": 1, "torch": "2", "passband": "0", "commit": "abc+", "date": "today"}


def check(verdict: str = "met", of: str = "ratio") -> Check:
    return Check(of, 2.6, 3.5, False, 2.0, verdict)


OURS = ArmResult("passband", "ours", 1.5, 0.01, 0.9, kept=1.0)
RIVAL = ArmResult("x", "rival", 3.0, 0.2, 2.0, ratio=2.0, ratio_spread=0.1, checks=(check("missed"),))
OTHER = ArmResult("y", "rival", 3.0, 0.2, ratio=2.0, ratio_spread=0.1, differs="not | the same", remark="careful")
GONE = ArmResult("z", "rival", missing="pip install it")
FLOOR = ArmResult("L1", "floor", 0.1, 0.0, ratio=0.07, ratio_spread=0.01)
LOSS = ItemResult("haar/2x2", "t", (OURS, RIVAL, OTHER, GONE, FLOOR), 16)
SHARE = ArmResult("haar", "share", 0.5, 0.01, ratio=0.005, ratio_spread=0.0001)
HALF = Check("ratio", 0.008, 0.004, True, 0.005, "met")
STEP = ItemResult("step/unet", "a U-Net", (ArmResult("step, MSE", "step", 100.0, 1.0), replace(SHARE, checks=(HALF,))))
NAIVE = ArmResult("naive", "rival", 3.0, 0.0, ratio=2.0, ratio_spread=0.0, checks=(check(),))
FASTER = replace(NAIVE, ms=1.0, ratio=0.67, checks=(check("missed"),))
FAST = ItemResult("scaling/haar/4x3", "", (OURS, NAIVE), 4000)
SLOW = ItemResult("scaling/haar/1x3", "", (OURS, FASTER), 4000)
FAILED = ItemResult("haar/3x3", "t", error="RuntimeError: a | b")


def test_a_family_has_a_table():
    found = blocks([LOSS, STEP, FAST, SLOW, FAILED])
    assert [block.title for block in found] == ["haar", "step/unet: a U-Net", "scaling/haar, the other: naive"]
    assert all(len(row.cells) == len(block.head) for block in found for row in block.rows)


def test_rows_of_a_loss():
    (block,) = blocks([LOSS, FAILED])
    cells = {row.cells[0].strip(): row for row in block.rows}
    assert cells["2x2"].style == "head"
    assert cells["passband"].cells[1:4] == ("1.50 ± 0.01", "", "1.00")
    assert cells["x"].cells[1:] == ("3.00 ± 0.20", "2.00 ± 0.10", "", "≥ 2.6 / 3.5", "missed")
    assert cells["x"].style == "bad"
    assert cells["floor: L1"].style == "floor"
    assert cells["z"].cells[1] == "missing"
    assert cells["3x3"].cells[1] == "failed"
    assert block.notes == ("≠ y: not | the same", "y: careful", "z: pip install it")


def test_a_narrow_terminal_has_no_spreads():
    (block,) = blocks([LOSS], wide=False)
    assert block.rows[2].cells[1:3] == ("3.00", "2.00")


def test_what_was_not_checked_is_counted():
    gone = [replace(GONE, name=name, unchecked=1) for name in ("x", "y")]
    lines = [row.cells[0] for row in summary([replace(LOSS, arms=(OURS, *gone))])]
    assert lines == ["2 bars not checked: x, y are missing"]
    broken = replace(GONE, missing="broken: no", unchecked=2)
    assert summary([replace(LOSS, arms=(OURS, broken))])[0].cells == ("2 bars not checked: z is broken",)


def test_a_forward_pass_names_the_time_it_is_relative_to():
    host = replace(OTHER, differs=FORWARD_ALONE)
    item = replace(LOSS, arms=(OURS, host))
    assert blocks([item], wide=False)[0].rows[2].cells[2] == "2.00 of 0.900 ms"
    assert "y ≠ 2.00 ± 0.10 of 0.900 ms" in markdown([item], FACTS)


def test_an_item_alone_has_no_counterpart():
    item = ItemResult("eq/2x2", "", (OURS,))
    assert blocks([item])[0].rows[0].cells[0] == "2x2 (no counterpart)"
    assert "| no counterpart | |" in markdown([item], FACTS).replace("|  |", "| |")
    alone = replace(item, name="scaling/haar/2x2")
    assert "none: no counterpart" in blocks([alone])[0].notes


def test_bytes_and_their_goal():
    bar = Check("kept", 1.0, 0.25, True, 1.0, "met")
    assert blocks([replace(LOSS, arms=(replace(OURS, checks=(bar,)),))])[0].rows[1].cells[4] == "kept ≤ 1 (goal 0.25)"


def test_markdown_has_the_reasons():
    text = markdown([LOSS, FAST], FACTS)
    assert "- ≠ y: not | the same\n- y: careful\n- z: pip install it\n" in text
    assert text.index("- y: careful") < text.index("**scaling**")


def test_shares_are_percentages():
    (block,) = blocks([STEP])
    assert block.rows[1].cells == ("  haar", "0.500 ± 0.010", "0.500 ± 0.010 %", "", "≤ 0.8 / 0.4 %", "met")


def test_points_that_are_slower_are_flagged():
    (block,) = blocks([FAST, SLOW])
    assert [row.cells[-1] for row in block.rows] == ["", "slower"]
    assert block.rows[0].cells[4] == "1500"  # 1.5 ms for 1,000 values, in ns


def test_the_summary_counts_and_names():
    lines = [row.cells[0] for row in summary([LOSS, STEP, FAILED])]
    assert lines == [
        "1 of 2 bars reached",
        "missed: haar/2x2, x: 2.00, the bar is ≥ 2.6",
        "failed: haar/3x3: RuntimeError: a | b",
    ]
    assert summary([]) == []
    there = ItemResult("a", "", (replace(RIVAL, checks=(check("goal"), check())),))
    assert [row.cells[0] for row in summary([there])] == ["2 of 2 bars reached, 1 at its goal"]


def test_markdown_tables_are_whole():
    text = markdown([LOSS, FAILED, STEP, FAST, SLOW], FACTS)
    assert text.startswith(BEGIN)
    assert text.endswith(END)
    assert "| haar/2x2 | 1.50 ± 0.01 | 1.00 | x 2.00 ± 0.10 (≥ 2.6 / 3.5 **missed**)<br>y ≠ 2.00" in text
    assert "failed: RuntimeError: a \\| b" in text
    assert "**0.670 ± 0.000**; 1500 ns" in text
    assert "A chip (2 cores), 1 thread, torch 2, passband 0 at abc+, today" in text


def test_columns_of_markdown_agree():
    lines = markdown([LOSS, FAILED, STEP, FAST, SLOW], FACTS).splitlines()
    width = 0
    for line in lines:
        bars = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not (width and bars) or bars == width, line
        width = bars


def test_the_block_takes_its_place_in_a_page():
    page = f"# Title\n\n{BEGIN}\nold\n{END}\n\nmore\n"
    assert with_block(page, f"{BEGIN}\nnew\n{END}") == f"# Title\n\n{BEGIN}\nnew\n{END}\n\nmore\n"
    assert with_block(None, "block") == "block\n"


@pytest.mark.parametrize("page", ["# Title\n", f"{END} {BEGIN}", BEGIN])
def test_a_page_without_a_place_is_refused(page: str):
    with pytest.raises(ValueError, match="no place for the tables"):
        with_block(page, "block")


def test_facts_in_words():
    assert describe({**FACTS, "threads": 2, "backend": "plain", "gpu": "A card"}) == (
        "A card (2 cores), 2 threads, torch 2, passband 0 at abc+, backend plain, today"
    )


NUMBERS = {
    0: "0",
    1234.5: "1234",
    99.94: "99.9",
    10: "10.0",
    9.994: "9.99",
    0.1: "0.100",
    0.0123: "0.0123",
    1e-7: "1e-07",
}


@pytest.mark.parametrize(("value", "text"), NUMBERS.items())
def test_numbers(value: float, text: str):
    assert number(value) == text
