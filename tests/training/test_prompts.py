"""Prompt sets as they come, and the files that their scorers look for."""

import json
from pathlib import Path

import pytest
import torch

from passband.training.prompts import BENCHMARKS, Prompt, PromptError, read_dpg, read_geneval, tiled


def line(prompt="a photo of a bench", **other):
    return {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": prompt, **other}


def write_lines(file: Path, lines: list[object]) -> Path:
    file.write_text("".join((text if isinstance(text, str) else json.dumps(text)) + "\n" for text in lines))
    return file


def test_geneval_lines_are_numbered_and_kept_whole(tmp_path: Path):
    lines = [line(), line("two cats", exclude=[{"class": "cat", "count": 3}]), line("ein Fuß")]
    file = write_lines(tmp_path / "evaluation_metadata.jsonl", lines)
    found = read_geneval(file)
    assert [prompt.name for prompt in found] == ["00000", "00001", "00002"]
    assert [prompt.text for prompt in found] == [given["prompt"] for given in lines]
    assert [prompt.metadata for prompt in found] == lines
    assert read_geneval(tmp_path) == found


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ('{"prompt": "a', "is no JSON"),
        ("", "is blank"),
        (["a list"], "is no JSON object"),
        (line("  "), "has no prompt"),
        ({"tag": "x", "include": []}, "has no prompt"),
        ({"prompt": "x", "include": []}, "has no tag"),
        ({"prompt": "x", "tag": "x"}, "'include' must be a list of objects"),
        (line(include=[{"class": "cat"}]), "'include' must be a list of objects"),
        (line(exclude="cat"), "'exclude' must be a list of objects"),
    ],
)
def test_a_broken_geneval_line_is_named(tmp_path: Path, bad: object, message: str):
    file = write_lines(tmp_path / "set.jsonl", [line(), bad, line()])
    with pytest.raises(PromptError, match=message) as error:
        read_geneval(file)
    assert f"{str(file)!r}, line 2" in str(error.value)


def test_a_geneval_file_that_is_missing_empty_or_no_text(tmp_path: Path):
    with pytest.raises(PromptError, match=r"there is no file .*evaluation_metadata\.jsonl"):
        read_geneval(tmp_path)
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(PromptError, match="is empty"):
        read_geneval(tmp_path / "empty.jsonl")
    (tmp_path / "binary.jsonl").write_bytes(json.dumps(line()).encode() + b"\n\xff\xfe\n")
    with pytest.raises(PromptError, match=r"binary.jsonl', line 2 is no UTF-8 text"):
        read_geneval(tmp_path / "binary.jsonl")


def test_dpg_prompts_are_named_as_their_files_and_in_their_order(tmp_path: Path):
    for name, text in {"10": "ten\n", "9": " nine \nlines ", "partiprompts2": "two", "COCOval2014_01": "one"}.items():
        (tmp_path / f"{name}.txt").write_text(text)
    (tmp_path / "notes.md").write_text("not a prompt")
    found = read_dpg(tmp_path)
    assert found == [
        Prompt("9", "nine lines"),
        Prompt("10", "ten"),
        Prompt("COCOval2014_01", "one"),
        Prompt("partiprompts2", "two"),
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.txt": "one", "b.txt": " \n"}, r"b.txt', line 1 is empty"),
        ({"a.1.txt": "one", "a.2.txt": "two"}, r"a.2.txt' has no name of its own before its first dot as 'a.1.txt'"),
        ({".txt.txt": "one"}, "has no name of its own"),
        ({"a.md": "one"}, "holds no .txt file"),
    ],
)
def test_dpg_files_that_cannot_be_scored_are_named(tmp_path: Path, files: dict[str, str], message: str):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(PromptError, match=message):
        read_dpg(tmp_path)


def test_no_folder_of_dpg_prompts(tmp_path: Path):
    with pytest.raises(PromptError, match="is no folder"):
        read_dpg(tmp_path / "prompts")


def test_files_of_a_prompt():
    prompt = Prompt("00007", "a cat", {})
    geneval, dpg = (BENCHMARKS[name].files(prompt, 2) for name in ("geneval", "dpg"))
    assert [str(file.path) for file in geneval] == ["00007/samples/0000.png", "00007/samples/0001.png"]
    assert [file.images for file in geneval] == [(0,), (1,)]
    assert [(str(file.path), file.images) for file in dpg] == [("00007.png", (0, 1))]


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [[1]]), (2, [[1, 2]]), (3, [[1, 2], [3, 0]]), (4, [[1, 2], [3, 4]])]
)
def test_images_lie_where_the_scorer_crops_them(count: int, expected: list[list[int]]):
    height, width = 2, 3
    images = [torch.full((3, height, width), i + 1, dtype=torch.uint8) for i in range(count)]
    picture = tiled(images)
    rows, columns = len(expected), len(expected[0])
    assert picture.shape == (3, rows * height, columns * width)
    for y, row in enumerate(expected):
        for x, value in enumerate(row):
            crop = picture[:, y * height : (y + 1) * height, x * width : (x + 1) * width]
            assert crop.unique().tolist() == [value]
