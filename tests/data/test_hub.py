"""`HubImages`: rows give the samples and labels that files with the same bytes give."""

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from passband._checks import MissingExtraError
from passband.data import HubImages, ImageFolder

Image = pytest.importorskip("PIL.Image")


def encoded(number, size=(20, 24), kind="PNG", **options):
    pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture(scope="module")
def files():
    rotated = Image.Exif()
    rotated[0x0112] = 6
    wide = encoded(9, (18, 40), "JPEG", exif=rotated)
    return [encoded(0), encoded(1), wide, encoded(3, (16, 16)), encoded(4, (33, 50))]


@pytest.fixture
def folder(tmp_path, files):
    """The same images as files, named by row."""
    root = tmp_path / "images"
    root.mkdir()
    for number, data in enumerate(files):
        (root / f"{number:08d}.png").write_bytes(data)
    return root


class Table:
    """A data set as the library shows it, without the library."""

    def __init__(self, rows, names=None):
        self.rows = rows
        self.column_names = list(rows[0])
        self.features = {name: SimpleNamespace(names=names) if name == "label" else None for name in self.column_names}

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def shapes(data, form):
    """The image of a row, in each of the forms that a table may hold."""
    if form == "image":
        return Image.open(io.BytesIO(data))
    return {"bytes": data, "path": None} if form == "dict" else data


def same(data, other):
    assert len(data) == len(other)
    indices = range(len(data))
    return torch.equal(data.pixel_batch(indices), other.pixel_batch(indices))


@pytest.mark.parametrize("form", ["bytes", "dict", "image"])
@pytest.mark.parametrize("options", [{}, {"crop": "tile"}, {"crop": "tile", "scale": 0.6, "channels": 1}])
def test_rows_equal_files(files, folder, form, options):
    table = Table([{"image": shapes(data, form)} for data in files])
    data = HubImages(table, 8, **options)
    direct = ImageFolder(folder, 8, **options)
    assert same(data, direct)
    assert torch.equal(data[1], direct[1])
    assert data.skipped == []
    assert data.num_classes == 0
    with pytest.raises(ValueError, match="have no labels here; pass label_column to HubImages"):
        data.label(0)


def test_paths_in_rows(files, folder):
    paths = sorted(folder.iterdir())
    assert same(HubImages(Table([{"image": str(p)} for p in paths]), 8), ImageFolder(folder, 8))
    assert same(HubImages([{"image": {"bytes": None, "path": str(p)}} for p in paths], 8), ImageFolder(folder, 8))


def labelled(files, labels, names=None):
    return Table([{"image": data, "label": label} for data, label in zip(files, labels, strict=True)], names)


@pytest.mark.parametrize(
    ("labels", "names", "expected", "class_names"),
    [
        ([1, 0, 1, 0, 1], ["cat", "dog", "eel"], [1, 0, 1, 0, 1], ("cat", "dog", "eel")),
        ([1, 0, 1, 0, 3], None, [1, 0, 1, 0, 3], ()),
        (["b", "a", "b", "c", "a"], None, [1, 0, 1, 2, 0], ("a", "b", "c")),
    ],
)
def test_labels(files, labels, names, expected, class_names):
    data = HubImages(labelled(files, labels, names), 8, label_column="label")
    assert [data.label(i) for i in range(5)] == expected
    assert data.class_names == class_names
    assert data.num_classes == (len(class_names) or 4)
    tiles = HubImages(labelled(files, labels, names), 8, label_column="label", crop="tile")
    assert [tiles.label(i) for i in range(len(tiles))] == [expected[int(tiles.origin(i)[0])] for i in range(len(tiles))]


def test_broken_rows(files):
    rows = [*files, None, b"nothing", 3.5, files[0][:300]]
    data = HubImages(labelled(rows, [*range(5), 9, 9, 9, 9]), 8, label_column="label")
    assert len(data) == 6
    assert torch.equal(data.pixels(5), data.pixels(0))
    assert data.label(5) == 0
    assert [skipped.name for skipped in data.skipped] == ["00000005", "00000006", "00000007", "00000008"]
    assert [skipped.reason for skipped in data.skipped][:3] == [
        "the row has no image",
        "not an image in a format that Pillow reads",
        "a value of type float is no image",
    ]
    with pytest.raises(ValueError, match="cannot use the image '00000005' in 'Table': the row has no image"):
        HubImages(Table([{"image": row} for row in rows]), 8, strict=True)


@pytest.mark.parametrize("unknown", [-1, None])
def test_missing_labels(files, unknown):
    table = labelled(files, [0, unknown, 1, unknown, 1], ["a", "b"])
    with pytest.raises(ValueError, match=r"column 'label' of 'Table' has no label for 2 of 5 images: '00000001'"):
        HubImages(table, 8, label_column="label")


@pytest.mark.parametrize(
    ("rows", "options", "error", "message"),
    [
        (Table([{"picture": b"", "label": 0}]), {}, ValueError, "no column 'image': it has 'picture', 'label'"),
        (Table([{"image": b""}]), {"label_column": "y"}, ValueError, "no column 'y': it has 'image'"),
        ([], {}, ValueError, "found no image in 'list': looked in its rows"),
        (iter([]), {}, TypeError, "must have a length and rows by number, got list_iterator; load it without stream"),
        ({"test": []}, {}, ValueError, "no split 'train': it has 'test'"),
        ([{"image": b"", "label": 0.5}], {"label_column": "label"}, ValueError, "integers or strings, got 0.5"),
        ([{"image": b""}], {}, ValueError, "none of the 1 images in 'list' can be used"),
        ([{"image": b""}], {"crop": "middle"}, ValueError, "unknown crop"),
    ],
)
def test_bad_arguments(rows, options, error, message):
    with pytest.raises(error, match=message):
        HubImages(rows, 8, **options)


def test_without_the_library(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'passband\[hub\]'"):
        HubImages(str(tmp_path), 8)


# With the library itself.


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    library = pytest.importorskip("datasets")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(library.config, "HF_HUB_OFFLINE", True)
    library.disable_progress_bars()
    return library


@pytest.fixture
def table(datasets, files):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    rows = {"image": [{"bytes": data, "path": None} for data in files], "label": [0, 1, 1, 0, 1]}
    return datasets.Dataset.from_dict(rows, features=features)


def check(data, folder):
    assert same(data, ImageFolder(folder, 8))
    assert [data.label(i) for i in range(5)] == [0, 1, 1, 0, 1]
    assert (data.class_names, data.num_classes) == (("cat", "dog"), 2)


def test_a_table_of_the_library(table, folder):
    check(HubImages(table, 8, label_column="label"), folder)
    check(HubImages(table.with_format("torch"), 8, label_column="label"), folder)


@pytest.mark.parametrize("kind", ["folder", "splits", "parquet", "parquet folder"])
def test_saved_tables(table, folder, tmp_path, datasets, kind):
    path = tmp_path / "saved"
    if kind == "folder":
        table.save_to_disk(path)
    elif kind == "splits":
        datasets.DatasetDict({"train": table, "test": table.select([0])}).save_to_disk(path)
        assert len(HubImages(path, 8, split="test")) == 1
        with pytest.raises(ValueError, match="no split 'val': it has 'train', 'test'"):
            HubImages(path, 8, split="val")
    else:
        path = tmp_path / "saved" / "train.parquet"
        path.parent.mkdir()
        table.to_parquet(path)
        path = path.parent if kind.endswith("folder") else path
    data = HubImages(str(path), 8, label_column="label")
    check(data, folder)
    loader = torch.utils.data.DataLoader(data, 5, num_workers=1)
    assert torch.equal(next(iter(loader)), torch.stack(list(data)))


def test_a_file_of_another_kind(tmp_path, datasets):
    (tmp_path / "a.zip").write_bytes(b"")
    with pytest.raises(ValueError, match=r"neither a .parquet nor an .arrow file; ImageFolder reads folders and zips"):
        HubImages(tmp_path / "a.zip", 8)
