"""Labels from folders and from dataset.json: of the sample that is returned, whatever was left out."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from passband.data import ImageFolder

Image = pytest.importorskip("PIL.Image")

CLASSES = ("cat", "dog", "eel")


def write(path: Path, number: int, size: int = 32) -> None:
    """An image whose pixels tell its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size, 3), number, np.uint8)).save(path)


def break_pixels(path: Path) -> None:
    """Keep the header, cut the pixels."""
    path.write_bytes(path.read_bytes()[:60])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images of each class, image k of class k // 4, in folders and in dataset.json."""
    root = tmp_path / "images"
    pairs = []
    for number in range(12):
        name = f"{CLASSES[number // 4]}/deep/{number:02}.png"
        write(root / name, number)
        pairs.append([name, number // 4])
    (root / "dataset.json").write_text(json.dumps({"labels": pairs}))
    return root


def zipped(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder).as_posix())
    return path


def set_labels(folder: Path, content: object) -> None:
    (folder / "dataset.json").write_text(content if isinstance(content, str) else json.dumps(content))


def number_of(data: ImageFolder, index: int) -> int:
    return int(data.pixels(index)[0, 0, 0])


def assert_consistent(data: ImageFolder) -> None:
    assert [data.label(i) for i in range(len(data))] == [number_of(data, i) // 4 for i in range(len(data))]


@pytest.mark.parametrize("labels", ["folder", "json"])
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_each_image_has_its_class(folder, labels, kind):
    data = ImageFolder(zipped(folder) if kind == "zip" else folder, 32, labels=labels)
    assert [data.label(i) for i in range(12)] == [0] * 4 + [1] * 4 + [2] * 4
    assert data.num_classes == 3
    assert data.class_names == (CLASSES if labels == "folder" else ())
    assert data.skipped == []


@pytest.mark.parametrize("labels", ["folder", "json"])
@pytest.mark.parametrize(
    "options",
    [
        {"limit": 5},
        {"subset": "eval", "eval_share": 0.4},
        {"crop": "tile"},
        {"crop": "tile", "limit": 17, "subset": "train"},
    ],
)
def test_parts_of_the_data_keep_their_classes(folder, labels, options):
    data = ImageFolder(folder, 16, labels=labels, **options)
    assert 0 < len(data) < 48 or options == {"crop": "tile"}
    assert_consistent(data)
    assert data.num_classes == 3  # also where a class has no sample left


@pytest.mark.parametrize("labels", ["folder", "json"])
@pytest.mark.parametrize("crop", ["center", "tile"])
@pytest.mark.parametrize("first", ["label", "pixels", "preload", "no cache"])
def test_a_broken_image_lends_no_label(folder, labels, crop, first):
    for number in (2, 3, 7, 11):  # the last of each class: the stand-in is of another one
        break_pixels(folder / f"{CLASSES[number // 4]}/deep/{number:02}.png")
    data = ImageFolder(folder, 16, crop=crop, labels=labels, cache_bytes=0 if first == "no cache" else 1 << 20)
    per = 4 if crop == "tile" else 1
    if first == "preload":
        data.preload()
    if first == "pixels":
        data.pixel_batch(range(len(data)))
    expected = [{2: 4, 3: 4, 7: 8, 11: 0}.get(number, number) // 4 for number in range(12) for _ in range(per)]
    assert [data.label(i) for i in range(len(data))] == expected
    assert_consistent(data)
    assert len(data.skipped) == 4


def test_labels_are_known_without_decoding_twice(folder, monkeypatch):
    data = ImageFolder(folder, 32, labels="json", cache_bytes=0)
    opened = []
    original = data._source.open
    monkeypatch.setattr(data._source, "open", lambda name: (opened.append(name), original(name))[1])
    data.pixels(3)
    data.label(3)
    data.label(3)
    assert len(opened) == 1


def test_broken_headers_need_no_label(folder):
    (folder / "loose.png").write_bytes(b"nothing")
    data = ImageFolder(folder, 32, labels="json")
    assert [skipped.name for skipped in data.skipped] == ["loose.png"]
    assert_consistent(data)


def test_no_labels(folder):
    for data in (ImageFolder(folder, 32), null_labels(folder)):
        assert data.num_classes == 0
        assert data.class_names == ()
        with pytest.raises(ValueError, match=r"have no labels here; pass labels='folder' or labels='json'"):
            data.label(0)


def null_labels(folder: Path) -> ImageFolder:
    set_labels(folder, {"labels": None})
    return ImageFolder(folder, 32, labels="json")


def test_label_out_of_range(folder):
    with pytest.raises(IndexError, match="sample 12 is out of range for 12"):
        ImageFolder(folder, 32, labels="json").label(12)


def pairs_of(folder: Path) -> list[list]:
    return json.loads((folder / "dataset.json").read_text())["labels"]


def test_one_hot_vectors(folder):
    vectors = [[name, np.eye(5)[label].tolist()] for name, label in pairs_of(folder)]
    set_labels(folder, {"labels": vectors})
    data = ImageFolder(folder, 32, labels="json")
    assert data.num_classes == 5
    assert_consistent(data)


def test_backslashes_and_further_keys(folder):
    pairs = [[name.replace("/", "\\"), label] for name, label in pairs_of(folder)]
    set_labels(folder, {"labels": pairs, "class_names": ["a", "b", "c", "d"], "made": "elsewhere"})
    data = ImageFolder(folder, 32, labels="json")
    assert data.class_names == ("a", "b", "c", "d")
    assert data.num_classes == 4
    assert_consistent(data)
    set_labels(folder, {"labels": pairs, "num_classes": 9})
    assert ImageFolder(folder, 32, labels="json").num_classes == 9


def test_missing_labels_are_named(folder):
    set_labels(folder, {"labels": pairs_of(folder)[:7]})
    with pytest.raises(
        ValueError,
        match=r"has no label for 5 of 12 images: 'dog/deep/07.png', 'eel/deep/08.png', 'eel/deep/09.png' and 2 more",
    ):
        ImageFolder(folder, 32, labels="json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"labels": [', "Expecting value"),
        ('{"labels"', "delimiter"),
        ([], r'expected \{"labels"'),
        ({"classes": []}, r'expected \{"labels"'),
        ({"labels": []}, r"a list of \[name, class\], or null, got \[\]"),
        ({"labels": {"a.png": 0}}, r"a list of \[name, class\]"),
        ({"labels": [["a.png"]]}, r"each of the labels must be \[name, class\], got \['a.png'\]"),
        ({"labels": [[0, "a.png"]]}, r"each of the labels must be \[name, class\]"),
        ({"labels": [["a.png", "cat"]]}, r"the class of 'a.png' must be an integer from 0 on, got 'cat'"),
        ({"labels": [["a.png", -1]]}, "got -1"),
        ({"labels": [["a.png", 1.5]]}, "got 1.5"),
        ({"labels": [["a.png", True]]}, "got True"),
        ({"labels": [["a.png", None]]}, "got None"),
        ({"labels": [["a.png", [0.5, 0.5]]]}, r"an integer or a one-hot vector, got \[0.5, 0.5\]"),
        ({"labels": [["a.png", [1, 1, 0]]]}, "one-hot"),
        ({"labels": [["a.png", [0, 0]]]}, "one-hot"),
        ({"labels": [["a.png", [0, True]]]}, "one-hot"),
        ({"labels": [["a.png", []]]}, "one-hot"),
        ({"labels": [["a.png", [0, 1]], ["b.png", 1]]}, "class of 'b.png' must be an integer or a one-hot"),
        ({"labels": [["a.png", 1], ["b.png", [0, 1]]]}, "class of 'b.png' must be an integer from 0 on"),
        ({"labels": [["a.png", [0, 1]], ["b.png", [0, 1, 0]]]}, r"different lengths: \[2, 3\]"),
        ({"labels": [["a.png", 3]], "class_names": ["a"]}, "class_names must name each of the 4 classes"),
        ({"labels": [["a.png", 3]], "num_classes": 3}, "num_classes must be at least 4, got 3"),
    ],
)
def test_damaged_label_files(folder, content, message):
    set_labels(folder, content)
    with pytest.raises(ValueError, match=f"dataset.json in .*images' cannot be used: .*{message}.*repair it"):
        ImageFolder(folder, 32, labels="json")


def test_a_damaged_entry_of_a_zip(folder):
    path = zipped(folder)
    data = bytearray(path.read_bytes())
    data[data.index(b'{"labels"') + 3] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"dataset.json in .*images.zip' cannot be used: Bad CRC"):
        ImageFolder(path, 32, labels="json")


def test_no_label_file(folder):
    (folder / "dataset.json").unlink()
    with pytest.raises(
        ValueError, match=r"labels='json' needs dataset.json at the root of .*images', and there is none"
    ):
        ImageFolder(folder, 32, labels="json")
    with pytest.raises(ValueError, match=r"needs dataset.json at the root of .*images.zip'"):
        ImageFolder(zipped(folder), 32, labels="json")


def test_loose_images_have_no_folder(folder):
    write(folder / "z.png", 0)
    with pytest.raises(ValueError, match=r"1 of 13 images lie in none: 'z.png'; move them into their class's folder"):
        ImageFolder(folder, 32, labels="folder")


def test_worker_processes_agree(folder):
    break_pixels(folder / "cat/deep/03.png")

    class Pairs(torch.utils.data.Dataset):
        def __init__(self, data):
            self.data = data

        def __len__(self):
            return len(self.data)

        def __getitem__(self, index):
            return self.data.pixels(index), self.data.label(index)

    data = ImageFolder(zipped(folder), 32, labels="json")
    loader = torch.utils.data.DataLoader(Pairs(data), 4, num_workers=2)
    pixels, labels = (torch.cat(found) for found in zip(*loader, strict=True))
    assert torch.equal(pixels[:, 0, 0, 0] // 4, labels.to(torch.uint8))
    assert labels[3] == 1
