"""Captions of images: metadata.jsonl, a text file beside each, or one prompt for all."""

import json
import zipfile
from pathlib import Path

import pytest
import torch

from passband.data import CaptionedImages, save_image

TEXTS = {"a/0.png": "a red barn", "a/1.png": "a  blue\nbarn ", "b/2.png": "a red barn"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    for name in TEXTS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save_image(torch.rand(3, 16, 16, generator=generator), tmp_path / name)
    return tmp_path


def write_metadata(folder: Path, texts: dict[str, str]) -> None:
    lines = [json.dumps({"file_name": name, "text": text, "other": 1}) for name, text in texts.items()]
    (folder / "metadata.jsonl").write_text("\n".join([*lines, "", ""]))


def write_files(folder: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        (folder / name).with_suffix(".txt").write_text(text)


def captions_of(data: CaptionedImages) -> dict[str, str]:
    return {data.origin(i)[0]: data.captions[data.label(i)] for i in range(len(data))}


@pytest.mark.parametrize("write", [write_metadata, write_files])
@pytest.mark.parametrize("zipped", [False, True])
def test_each_image_has_its_caption(folder: Path, tmp_path_factory: pytest.TempPathFactory, write, zipped: bool):
    write(folder, TEXTS)
    path = folder
    if zipped:
        path = tmp_path_factory.mktemp("zips") / "images.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in folder.rglob("*.*"):
                archive.write(file, file.relative_to(folder))
    data = CaptionedImages(path, 16)
    assert captions_of(data) == {name: " ".join(text.split()) for name, text in TEXTS.items()}
    assert data.captions == ("a blue barn", "a red barn")
    assert data.num_classes == 2


def test_metadata_comes_before_files_unless_files_are_asked_for(folder: Path):
    write_files(folder, TEXTS)
    write_metadata(folder, dict.fromkeys(TEXTS, "a barn"))
    assert set(captions_of(CaptionedImages(folder, 16)).values()) == {"a barn"}
    assert "a red barn" in captions_of(CaptionedImages(folder, 16, captions="files")).values()


def test_one_prompt_for_all_reads_none(folder: Path):
    (folder / "metadata.jsonl").write_text("no JSON")
    assert captions_of(CaptionedImages(folder, 16, prompt=" a  barn ")) == dict.fromkeys(TEXTS, "a barn")


def test_tiles_have_the_caption_of_their_image(folder: Path):
    write_files(folder, TEXTS)
    data = CaptionedImages(folder, 8, crop="tile")
    assert len(data) == 12
    assert [data.captions[data.label(i)] for i in range(4)] == ["a red barn"] * 4


def test_a_broken_image_lends_neither_its_pixels_nor_its_caption(folder: Path):
    write_files(folder, TEXTS)
    whole = (folder / "a/0.png").read_bytes()
    (folder / "a/0.png").write_bytes(whole[: len(whole) // 2])
    data = CaptionedImages(folder, 16)
    assert data.captions[data.label(0)] == "a blue barn"
    assert torch.equal(data[0], data[1])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"metadata.jsonl of .*, line 1 is no JSON"),
        ("[]", r"line 1 is no JSON object, got '\[\]'"),
        (
            '{"file_name": "a/0.png", "caption": "x"}',
            r"line 1 has no text under 'text', its keys are 'file_name'",
        ),
        ('{"file_name": "a/0.png", "text": " "}', r"line 1: the caption of 'a/0.png' is blank"),
        ('{"file_name": "a/0.png", "text": "x"}', r"2 of 3 images in .* have no caption in metadata.jsonl: 'a/1.png'"),
    ],
)
def test_metadata_that_cannot_be_used(folder: Path, line: str, message: str):
    (folder / "metadata.jsonl").write_text(line)
    with pytest.raises(ValueError, match=message):
        CaptionedImages(folder, 16)


def test_files_that_cannot_be_used(folder: Path):
    with pytest.raises(ValueError, match=r"3 of 3 images in .* have no caption in a \.txt of the same name"):
        CaptionedImages(folder, 16)
    with pytest.raises(ValueError, match=r"needs metadata.jsonl at the root of .*, and there is none"):
        CaptionedImages(folder, 16, captions="metadata")
    with pytest.raises(ValueError, match=r"unknown captions: got 'metdata' \(did you mean 'metadata'\?\)"):
        CaptionedImages(folder, 16, captions="metdata")
    write_files(folder, TEXTS)
    (folder / "a/1.txt").write_text(" \n")
    with pytest.raises(ValueError, match=r"the caption file 'a/1.txt' in .* is empty"):
        CaptionedImages(folder, 16)
    (folder / "a/1.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ValueError, match=r"'a/1.txt' in .* is no UTF-8 text"):
        CaptionedImages(folder, 16)
