"""Tables of images in the Hugging Face format, by the optional `datasets` library."""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from passband._checks import import_extra, is_integer
from passband.data._decode import UnusableImageError
from passband.data._labels import FileLabels
from passband.data._samples import Framing, ImageSamples, Progress, checked_resolution
from passband.data._sources import Source, Stream

if TYPE_CHECKING:
    import PIL.Image

_FILES = {".parquet": "parquet", ".arrow": "arrow"}


class HubImages(ImageSamples):
    """The images of a Hugging Face data set, as [`ImageFolder`][passband.data.ImageFolder] gives those of a folder.

    A row takes the place of a file; its number, with leading zeros, is its name. Rows hold encoded images, which are
    decoded in the workers, or images of Pillow. Needs the extra `hub`.

    Args:
        data: a data set in memory (anything with a length and rows that are dicts), or where to load it from: a folder
            written by `save_to_disk`, a folder of Parquet or image files, a .parquet or .arrow file, or a name on the
            Hub.
        resolution: the side of a square sample in pixels, or (height, width).
        split: which of the splits to load.
        image_column: where the images are.
        label_column: where the classes are: ClassLabel, integers, or strings (numbered in their order); None for no
            labels.
        crop: "center" or "tile", as for ImageFolder; so are the options below.
        scale: with tiles, resize the images by this factor first.
        channels: 3 (RGB) or 1 (luma).
        subset: "all", "train" or "eval".
        eval_share: the share of samples in "eval".
        limit: keep this many samples at most, picked by a hash.
        strict: raise on the first image that cannot be used.
        cache_bytes: how many bytes of decoded samples to keep, in this process and its workers together.
        progress: called with (rows read, rows in all) while the headers are read.

    Raises:
        MissingExtraError: if the data must be loaded and the extra `hub` is not installed.
        TypeError: if data is streamed, without a length.
        ValueError: if there is no such split or column, no usable image, or a label is missing.

    Example:
        >>> from PIL import Image
        >>> from passband.data import HubImages
        >>> rows = [{"image": Image.new("RGB", (20, 16)), "label": 1}, {"image": Image.new("L", (8, 8)), "label": 0}]
        >>> data = HubImages(rows, resolution=8, label_column="label")
        >>> tuple(data[0].shape), data.label(0), data.num_classes
        ((3, 8, 8), 1, 2)

    """

    _how_to_label = "pass label_column to HubImages"

    def __init__(
        self,
        data: Any,
        resolution: int | Sequence[int],
        *,
        split: str = "train",
        image_column: str = "image",
        label_column: str | None = None,
        crop: str = "center",
        scale: float = 1.0,
        channels: int = 3,
        subset: str = "all",
        eval_share: float = 0.1,
        limit: int | None = None,
        strict: bool = False,
        cache_bytes: int = 2 << 30,
        progress: Progress | None = None,
    ) -> None:
        framing = Framing(checked_resolution(resolution), crop, scale, channels)
        framing.check()
        is_path = isinstance(data, str | os.PathLike)
        rows = _load(os.fspath(data), split) if is_path else data
        if isinstance(rows, Mapping):
            rows = _split_of(rows, split)
        if not hasattr(rows, "__len__") or not hasattr(rows, "__getitem__"):
            raise TypeError(
                f"data must have a length and rows by number, got {type(rows).__name__}; load it without streaming"
            )
        if hasattr(rows, "with_format"):
            rows = rows.with_format(None)  # plain Python values
        source = _Rows(rows, image_column)
        super().__init__(
            source,
            str(data) if is_path else type(rows).__name__,
            framing,
            labels=None if label_column is None else lambda: _row_labels(rows, source.names, label_column),
            subset=subset,
            eval_share=eval_share,
            limit=limit,
            strict=strict,
            cache_bytes=cache_bytes,
            progress=progress,
        )


class _Rows(Source):
    """The images of a table's column, named by their rows."""

    nothing = "in its rows"
    unreadable = ()

    def __init__(self, rows: Any, column: str) -> None:
        _check_column(rows, column)
        self.rows = _encoded(rows, column)
        self.column = column
        self.names = [f"{number:08d}" for number in range(len(rows))]

    def open(self, name: str) -> "Stream | PIL.Image.Image":
        value = self.rows[int(name)][self.column]
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path")
        if value is None:
            raise UnusableImageError("the row has no image")
        if isinstance(value, bytes | bytearray):
            return io.BytesIO(value)
        if isinstance(value, str | os.PathLike):
            return Path(value).open("rb")
        if isinstance(value, import_extra("PIL.Image", "train").Image):
            image: PIL.Image.Image = value
            return image
        raise UnusableImageError(f"a value of type {type(value).__name__} is no image")


def _encoded(rows: Any, column: str) -> Any:
    """The rows with that column alone and its images as they are stored, where the table can do so."""
    if not hasattr(rows, "cast_column"):
        return rows
    rows = rows.select_columns([column])
    image_type = import_extra("datasets", "hub").Image
    return rows.cast_column(column, image_type(decode=False)) if isinstance(rows.features[column], image_type) else rows


def _check_column(rows: Any, column: str) -> None:
    columns = _columns(rows)
    if columns and column not in columns:
        raise ValueError(f"the data set has no column {column!r}: it has {', '.join(map(repr, columns))}")


def _columns(rows: Any) -> Sequence[str]:
    known = getattr(rows, "column_names", None)
    if known is not None:
        return list(known)
    return list(rows[0]) if len(rows) else []


def _row_labels(rows: Any, names: Sequence[str], column: str) -> FileLabels:
    _check_column(rows, column)
    values = _values(rows, column)
    feature = (getattr(rows, "features", None) or {}).get(column)
    class_names = tuple(getattr(feature, "names", None) or ())
    known = [value for value in values if value is not None]
    if all(isinstance(value, str) for value in known):
        class_names = class_names or tuple(sorted(set(known)))
        number = {name: place for place, name in enumerate(class_names)}
        values = [None if value is None else number[value] for value in values]
    elif not all(is_integer(value) for value in known):
        wrong = next(value for value in known if not is_integer(value))
        raise ValueError(f"column {column!r} must hold integers or strings, got {wrong!r} of {type(wrong).__name__}")
    # -1 is how the library writes an unknown class.
    of = {name: int(value) for name, value in zip(names, values, strict=True) if value is not None and value >= 0}
    classes = len(class_names) or 1 + max(of.values(), default=0)
    return FileLabels(of, classes, class_names, f"column {column!r}")


def _values(rows: Any, column: str) -> list[Any]:
    if hasattr(rows, "select_columns"):
        return list(rows.select_columns([column])[:][column])
    return [rows[number][column] for number in range(len(rows))]


def _split_of(splits: Mapping[str, Any], split: str) -> Any:
    if split not in splits:
        raise ValueError(f"the data set has no split {split!r}: it has {', '.join(map(repr, splits))}")
    return splits[split]


def _load(path: str, split: str) -> Any:
    datasets = import_extra("datasets", "hub")
    local = Path(path).expanduser()
    if any((local / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return datasets.load_from_disk(str(local))
    if local.is_file():
        if local.suffix.lower() not in _FILES:
            raise ValueError(f"{path!r} is neither a .parquet nor an .arrow file; ImageFolder reads folders and zips")
        return datasets.load_dataset(_FILES[local.suffix.lower()], data_files={split: str(local)}, split=split)
    return datasets.load_dataset(str(local) if local.exists() else path, split=split)
