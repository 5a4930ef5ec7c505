"""`passband bench`: what is printed and kept, and what goes wrong. Nothing here looks at times."""

import json
import os
from pathlib import Path

import pytest
import torch

from passband.bench import Item, Results, Setting
from passband.bench.bars import NOT_SLOWER, Bar
from passband.bench.item import Case, Loss, Other, loss_case
from passband.cli import bench as command


def make(name: str, *others: Other) -> Item:
    def build(setting: Setting) -> Case:
        return loss_case(lambda x, y: (x - y).abs(), setting.pair((2, 1, 8)), others)

    return Item(name, build, f"about {name}")


def l1(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x - y).abs().mean()


ITEMS = [
    make("one/2x8", Other("same", lambda: l1, Bar("ratio", 1e-9))),
    make("one/4x8"),
    make("two/2x8", Other("same", lambda: l1, Bar("ratio", 1e9))),
    make("scaling/one/2x8", Other("same", lambda: l1, NOT_SLOWER)),
]


@pytest.fixture(autouse=True)
def few_items(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(command, "catalogue", lambda: list(ITEMS))


def names(path: Path) -> list[str]:
    return list(json.loads(path.read_text())["items"])


def test_tables_are_printed(passband):
    result = passband("bench", "--repeats", 2)
    assert result.status == 0, result.err
    assert [line.split(",")[0] for line in result.out.splitlines() if line.startswith(("one", "two", "scal"))] == [
        "one",
        "two",
        "scaling/one",
    ]
    assert "floor: MSE" in result.out
    assert "missed: two/2x8, same" in result.out
    assert f"torch {torch.__version__}" in result.out


def test_a_missed_bar_is_a_failure_only_when_asked(passband):
    assert passband("bench", "--only", "two", "--repeats", 2).status == 0
    assert passband("bench", "--only", "two", "--repeats", 2, "--check").status == 1
    assert passband("bench", "--only", "one", "--repeats", 2, "--check").status == 0


def test_the_list(passband):
    result = passband("bench", "--list", "--only", "one")
    assert result == (0, "one/2x8  about one/2x8\none/4x8  about one/4x8\n", "")


def test_a_name_that_is_not_there(passband):
    result = passband("bench", "--only", "oen")
    assert result.status == 2
    assert "no item matches 'oen'; near: one" in result.err


def test_json_and_markdown(passband, tmp_path: Path):
    numbers, page = tmp_path / "new" / "a.json", tmp_path / "a.md"
    assert passband("bench", "--repeats", 2, "--json", numbers, "--markdown", page).status == 0
    assert names(numbers) == [item.name for item in ITEMS]
    found = Results.load(numbers)
    assert found.facts["threads"] == 1
    assert found.items["one/2x8"].arms[1].turns == 2
    assert "| one/2x8 |" in page.read_text()


def test_markdown_goes_between_its_markers(passband, tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("# Speed\n\n<!-- bench: begin -->\nold\n<!-- bench: end -->\n\nafter\n")
    assert passband("bench", "--only", "one", "--repeats", 2, "--markdown", page).status == 0
    text = page.read_text()
    assert text.startswith("# Speed\n\n<!-- bench: begin -->")
    assert text.endswith("<!-- bench: end -->\n\nafter\n")
    assert "old" not in text


def test_a_page_without_markers_is_refused_before_anything_is_measured(passband, tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("# Mine\n")
    monkeypatch.setattr(command, "measure", lambda *_: pytest.fail("measured"))
    result = passband("bench", "--markdown", page)
    assert result.status == 2
    assert "no place for the tables" in result.err
    assert page.read_text() == "# Mine\n"


def test_results_are_not_overwritten(passband, tmp_path: Path):
    path = tmp_path / "a.json"
    assert passband("bench", "--only", "one", "--repeats", 2, "--json", path).status == 0
    before = path.read_bytes()
    result = passband("bench", "--only", "two", "--repeats", 2, "--json", path)
    assert result.status == 2
    assert "exists: --resume continues it" in result.err
    assert path.read_bytes() == before


def test_resuming_measures_what_is_lacking(passband, tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    assert passband("bench", "--only", "one/2x8", "--repeats", 2, "--json", path).status == 0
    first = Results.load(path).items["one/2x8"]
    measured = []
    original = command.measure
    monkeypatch.setattr(command, "measure", lambda item, *rest: (measured.append(item.name), original(item, *rest))[1])
    assert passband("bench", "--only", "one", "--repeats", 2, "--json", path, "--resume").status == 0
    assert measured == ["one/4x8"]
    assert names(path) == ["one/2x8", "one/4x8"]
    assert Results.load(path).items["one/2x8"] == first


def test_resuming_what_is_complete_only_prints(passband, tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    assert passband("bench", "--only", "one", "--repeats", 2, "--json", path).status == 0
    content = json.loads(path.read_text())
    content["facts"]["cpu"] = "another one"
    path.write_text(json.dumps(content))
    monkeypatch.setattr(command, "measure", lambda *_: pytest.fail("measured"))
    result = passband("bench", "--only", "one", "--json", path, "--resume", "--markdown", tmp_path / "a.md")
    assert result.status == 0
    assert "another one" in result.out
    assert "another one" in (tmp_path / "a.md").read_text()


def test_numbers_of_another_machine_are_not_continued(passband, tmp_path: Path):
    path = tmp_path / "a.json"
    assert passband("bench", "--only", "one", "--repeats", 2, "--json", path).status == 0
    result = passband("bench", "--repeats", 2, "--threads", 2, "--json", path, "--resume")
    assert result.status == 2
    assert "was measured otherwise (threads 1, now 2)" in result.err


@pytest.mark.parametrize("content", ["", "{", '{"a": 1}'])
def test_a_file_of_another_kind_is_left_alone(passband, tmp_path: Path, content: str):
    path = tmp_path / "a.json"
    path.write_text(content)
    result = passband("bench", "--repeats", 2, "--json", path, "--resume")
    assert result.status == 2
    assert "holds no results of `passband bench`" in result.err
    assert path.read_text() == content


def test_resume_needs_a_file(passband, tmp_path: Path):
    assert "name it with --json" in passband("bench", "--resume").err
    assert "got the folder" in passband("bench", "--json", tmp_path).err


def test_an_interruption_keeps_what_was_measured(passband, tmp_path, monkeypatch):
    path, original = tmp_path / "a.json", command.measure

    def stopping(item: Item, *rest: object) -> object:
        if item.name == "two/2x8":
            raise KeyboardInterrupt
        return original(item, *rest)

    monkeypatch.setattr(command, "measure", stopping)
    result = passband("bench", "--repeats", 2, "--json", path)
    assert result.status == 130
    assert "with --resume continues" in result.err
    assert "one" in result.out
    assert names(path) == ["one/2x8", "one/4x8"]
    monkeypatch.setattr(command, "measure", original)
    assert passband("bench", "--repeats", 2, "--json", path, "--resume").status == 0
    assert names(path) == [item.name for item in ITEMS]


def test_an_interruption_leaves_a_page_as_it_was(passband, tmp_path, monkeypatch):
    page = tmp_path / "a.md"
    assert passband("bench", "--only", "one", "--repeats", 2, "--markdown", page).status == 0
    before = page.read_text()
    original = command.measure

    def stopping(item: Item, *rest: object) -> object:
        if item.name == "one/4x8":
            raise KeyboardInterrupt
        return original(item, *rest)

    monkeypatch.setattr(command, "measure", stopping)
    assert passband("bench", "--repeats", 2, "--markdown", page).status == 130
    assert page.read_text() == before


def test_one_fault_does_not_end_the_others(passband, tmp_path, monkeypatch):
    def wrong(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return 2 * l1(x, y)

    items = [make("bad/2x8", Other("wrong", lambda: wrong)), ITEMS[0]]
    monkeypatch.setattr(command, "catalogue", lambda: items)
    path = tmp_path / "a.json"
    result = passband("bench", "--repeats", 2, "--json", path)
    assert result.status == 1
    assert "failed: bad/2x8: DifferenceError: wrong and passband should compute the same" in result.out
    assert names(path) == ["bad/2x8", "one/2x8"]
    measured = []
    original = command.measure
    monkeypatch.setattr(command, "measure", lambda item, *rest: (measured.append(item.name), original(item, *rest))[1])
    assert passband("bench", "--repeats", 2, "--json", path, "--resume").status == 1
    assert measured == ["bad/2x8"]  # what failed is tried again


def test_threads_are_put_back(passband):
    before = torch.get_num_threads()
    assert passband("bench", "--only", "one/4x8", "--repeats", 2, "--threads", before + 1).status == 0
    assert torch.get_num_threads() == before


def test_wrong_options(passband):
    assert passband("bench", "--repeats", 1).status == 2
    assert passband("bench", "--threads", 0).status == 2
    assert passband("bench", "--seconds", 0).status == 2
    result = passband("bench", "--device", "nonsense")
    assert result.status == 2
    assert "--device must be cpu or cuda (or mps where there is one), got 'nonsense'" in result.err
    assert passband("bench", "--seconds", "nan").status == 2
    assert "finite number" in passband("bench", "--seconds", "inf").err
    assert passband("bench", "--threads", 100000).status == 2
    assert "names nothing" in passband("bench", "--only", "").err


@pytest.fixture
def nothing_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(command, "measure", lambda *_: pytest.fail("measured"))


@pytest.mark.usefixtures("nothing_measured")
@pytest.mark.parametrize("option", ["--json", "--markdown"])
def test_targets_that_cannot_be_written_are_found_first(passband, tmp_path: Path, option: str):
    file = tmp_path / "file"
    file.write_text("")
    result = passband("bench", option, file / "below" / "a")
    assert result.status == 2
    assert f"{option} '{file}/below/a' cannot be written" in result.err
    assert "got the folder" in passband("bench", option, tmp_path).err
    assert (
        f"{option} must be a file, got the device or pipe '{os.devnull}'" in passband("bench", option, os.devnull).err
    )


@pytest.mark.usefixtures("nothing_measured")
def test_a_page_must_be_text_of_its_own(passband, tmp_path: Path):
    page = tmp_path / "a.md"
    page.write_bytes(b"\xff")
    assert "is no text in UTF-8" in passband("bench", "--markdown", page).err
    result = passband("bench", "--markdown", tmp_path / "b", "--json", tmp_path / "x" / ".." / "b")
    assert "must be two files" in result.err


def test_a_disk_that_fills_up_ends_nothing(passband, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.json"
    monkeypatch.setattr(Results, "save", full)
    result = passband("bench", "--only", "one", "--repeats", 2, "--json", path)
    assert result.status == 2
    assert result.err.count("warning:") == 1
    assert "does not hold all of this" in result.err
    assert "4x8" in result.out


def test_the_page_has_all_that_the_file_holds(passband, tmp_path: Path):
    numbers, page = tmp_path / "a.json", tmp_path / "a.md"
    keep = ("--repeats", 2, "--json", numbers, "--resume", "--markdown", page)
    assert passband("bench", "--only", "one", *keep).status == 0
    result = passband("bench", "--only", "two", *keep)
    assert "of --only alone" not in result.err
    assert "| one/2x8 |" in page.read_text()
    assert "| two/2x8 |" in page.read_text()
    assert "nothing left to measure" in passband("bench", "--only", "two", *keep).err


def test_a_page_of_some_items_alone_is_told(passband, tmp_path: Path):
    result = passband("bench", "--only", "two", "--repeats", 2, "--markdown", tmp_path / "a.md")
    assert "holds the items of --only alone" in result.err


def test_an_interruption_before_the_first_item(passband, tmp_path, monkeypatch):
    def stopping(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "measure", stopping)
    result = passband("bench", "--json", tmp_path / "a.json", "--markdown", tmp_path / "a.md")
    assert result.status == 130
    assert "nothing is in" in result.err
    assert "a.md was not written" in result.err


def test_bars_without_their_package_fail_the_check(passband, monkeypatch):
    def broken() -> Loss:
        raise ImportError("no")

    monkeypatch.setattr(command, "catalogue", lambda: [make("a/2x8", Other("x", broken, Bar("ratio", 1.0)))])
    result = passband("bench", "--repeats", 2)
    assert result.status == 0
    assert "1 bar not checked: x is broken" in result.out
    assert passband("bench", "--repeats", 2, "--check").status == 1


def test_what_is_kept_and_the_verdict_are_whole_in_a_narrow_terminal(passband, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    result = passband("bench", "--only", "two", "--repeats", 2)
    (row,) = (line for line in result.out.splitlines() if line.strip().startswith("same"))
    assert row.split()[-2:] == ["1.00", "missed"]
    assert "±" not in row
