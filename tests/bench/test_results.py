"""The file of results: whole, readable again, and refused where it does not fit."""

import json
import re
from pathlib import Path

import pytest
import torch

from passband.bench.facts import SAME, changed, collect_facts, commit, processor
from passband.bench.results import ArmResult, Check, ItemResult, Results

OURS = ArmResult("passband", "ours", 1.5, 0.1, 0.9, 11, 2, kept_bytes=64, kept=0.5)
RIVAL = ArmResult("x", "rival", 3.0, 0.2, 2.0, 11, 1, ratio=2.0, ratio_spread=0.1, deviation=1e-7, differs="a | b")
MISSED = Check("ratio", 2.6, 3.5, False, 2.0, "missed")
NO_GOAL = Check("kept", 1.0, None, True, 0.5, "met")
ITEM = ItemResult("haar/2x2", "a title", (OURS, RIVAL, ArmResult("y", "rival", missing="not here")), 128)


def results(*items: ItemResult) -> Results:
    return Results({"cpu": "a", "threads": 1}, {item.name: item for item in items})


def test_what_is_written_is_read_again(tmp_path: Path):
    checked = ItemResult("a", "t", (ArmResult("x", "rival", 1.0, ratio=2.0, checks=(MISSED, NO_GOAL)),))
    failed = ItemResult("b", "t", error="RuntimeError: no")
    wanted = results(ITEM, checked, failed)
    wanted.save(tmp_path / "new" / "a.json")
    assert Results.load(tmp_path / "new" / "a.json") == wanted


def test_the_file_holds_what_was_promised(tmp_path: Path):
    results(ITEM).save(tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["facts"]["threads"] == 1
    ours, rival, missing = content["items"]["haar/2x2"]["arms"]
    assert (ours["ms"], ours["spread"], ours["kept_bytes"]) == (1.5, 0.1, 64)
    assert (rival["ratio"], rival["ratio_spread"]) == (2.0, 0.1)
    assert missing["missing"] == "not here"
    assert "ms" not in missing


def test_missed_bars_are_found():
    item = ItemResult("a", "t", (OURS, ArmResult("x", "rival", checks=(NO_GOAL, MISSED))))
    assert [(arm.name, check) for arm, check in item.missed] == [("x", MISSED)]


NO_ITEM = '{"format": "passband bench 1", "facts": {}, "items": {"a": {"b": 1}}}'


def _file(arms: str, facts: str = "{}") -> str:
    return f'{{"format": "passband bench 1", "facts": {facts}, "items": {{"a": {{"name": "a", "arms": {arms}}}}}}}'


WRONG = [
    _file('[{"name": "x", "kind": "ours"}]', "[]"),
    _file('[{"name": "x", "kind": "ours"}]', '{"packages": []}'),
    _file('[{"name": "x", "kind": "ours", "ms": "3"}]'),
    _file('[{"name": "x", "kind": "ours", "ms": NaN}]'),
    _file('[{"name": "x", "kind": "mine"}]'),
    _file('[{"name": "x", "kind": "ours", "checks": [{}]}]'),
    _file("[[]]"),
    _file("[]"),
    _file('{"x": 1}'),
]


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"format": "other"}', NO_ITEM, *WRONG])
def test_another_file_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"a\.json' holds no results of `passband bench`"):
        Results.load(path)


def test_a_number_that_is_none_is_not_written_over_the_file(tmp_path: Path):
    path = tmp_path / "a.json"
    results(ITEM).save(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        results(ItemResult("a", "t", (ArmResult("x", "rival", ms=float("nan")),))).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_facts():
    facts = collect_facts(torch.device("cpu"), 5)
    assert facts["cpu"] == processor() != ""
    assert facts["threads"] == torch.get_num_threads()
    assert (facts["torch"], facts["seed"], facts["device"]) == (torch.__version__, 5, "cpu")
    assert facts.get("commit") == commit()
    assert "gpu" not in facts
    json.dumps(facts)


def test_facts_that_keep_numbers_apart():
    facts = dict.fromkeys(SAME, "a")
    assert changed(facts, {**facts, "date": "tomorrow", "load": 3}) == []
    assert changed(facts, {**facts, "threads": 2}) == ["threads a, now 2"]
    assert changed({}, {"commit": "abc"}) == ["commit None, now abc"]
    assert changed({"packages": {"x": "1", "y": "2"}}, {"packages": {"y": "3"}}) == ["x 1, now None", "y 2, now 3"]
    assert {"seconds", "repeats", "python", "commit"} <= set(SAME)


def test_turns_take_the_place_of_seconds():
    facts = collect_facts(torch.device("cpu"), 0, 4.0, 7)
    assert "seconds" not in facts
    assert facts["repeats"] == 7


def test_changed_files_have_a_hash(monkeypatch: pytest.MonkeyPatch):
    def git(diff: str):
        return lambda _git, _folder, name, *_: diff if name == "diff" else "abc"

    found = []
    for diff in ("", "a", "b"):
        monkeypatch.setattr("passband.bench.facts._git", git(diff))
        found.append(commit())
    assert found[0] == "abc"
    assert len(set(found)) == 3
    assert all(re.fullmatch(r"abc\+[0-9a-f]{8}", each) for each in found[1:])
