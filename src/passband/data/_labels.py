"""Class labels of image files: from a dataset.json beside them, or from the folders they lie in."""

import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from passband._checks import is_integer
from passband.data._sources import FolderSource, JoinedSource, SingleSource, Source, ZipSource

LABEL_KINDS = ("none", "json", "folder")
LABEL_FILE = "dataset.json"
_NAMED = 3


class FileLabels(NamedTuple):
    """The class of each file, how many classes there are, their names where they have any, and where that was read."""

    of: Mapping[str, int]
    classes: int
    class_names: tuple[str, ...] = ()
    place: str = LABEL_FILE


def file_labels(source: Source, kind: str) -> FileLabels:
    """The labels of a source's files; no classes where there are no labels.

    Raises:
        ValueError: if dataset.json is missing or damaged, or an image lies in no class's folder.

    """
    if kind == "none":
        return FileLabels({}, 0)
    if isinstance(source, JoinedSource):
        return _folder_labels(source, source.names) if kind == "folder" else _joined(source)
    assert isinstance(source, FolderSource | ZipSource)
    return _folder_labels(source, source.names) if kind == "folder" else _json_labels(source)


def require_all(labels: FileLabels, names: Sequence[str], where: str) -> None:
    """Raise ValueError, naming the first few, if a file has no label."""
    missing = [name for name in names if name not in labels.of]
    if labels.classes and missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise ValueError(
            f"{labels.place} of {where!r} has no label for {len(missing)} of {len(names)} images: "
            f"{', '.join(map(repr, missing[:_NAMED]))}{more}; add them, or leave those images out of the data"
        )


def _folder_labels(source: Source, names: Sequence[str]) -> FileLabels:
    folders = {name: source.inner(name).split("/")[0] for name in names if "/" in source.inner(name)}
    loose = [name for name in names if name not in folders]
    if loose:
        raise ValueError(
            f"labels='folder' takes the class from the first folder of a file's path, but {len(loose)} of {len(names)} "
            f"images lie in none: {', '.join(map(repr, loose[:_NAMED]))}; move them into their class's folder"
        )
    class_names = tuple(sorted(set(folders.values())))
    number = {name: place for place, name in enumerate(class_names)}
    return FileLabels({name: number[folder] for name, folder in folders.items()}, len(class_names), class_names)


def _joined(source: JoinedSource) -> FileLabels:
    found = [_json_labels(part) for part in source.sources]
    if len({labels.class_names for labels in found}) > 1 or len({bool(labels.classes) for labels in found}) > 1:
        raise ValueError(
            f"the sources' {LABEL_FILE} do not go together: some have labels or class names that others have not; "
            "prepare them one by one"
        )
    of = {f"{number:04d}/{name}": label for number, part in enumerate(found) for name, label in part.of.items()}
    return FileLabels(of, max(labels.classes for labels in found), found[0].class_names)


def _json_labels(source: SingleSource) -> FileLabels:
    where = str(source.root if isinstance(source, FolderSource) else source.path)
    if not source.has(LABEL_FILE):
        raise ValueError(
            f"labels='json' needs {LABEL_FILE} at the root of {where!r}, and there is none; "
            "use labels='folder' where each class has a folder, or labels='none'"
        )
    try:
        with source.open(LABEL_FILE) as stream:
            content = json.loads(stream.read())
    except (ValueError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(where, str(error)) from error
    if not isinstance(content, dict) or "labels" not in content:
        raise _damaged(where, 'expected {"labels": [["00000/img00000000.png", 3], ...]}, or {"labels": null}')
    if content["labels"] is None:
        return FileLabels({}, 0)
    return _parse(content["labels"], content.get("num_classes"), content.get("class_names"), where)


def _parse(pairs: Any, num_classes: Any, class_names: Any, where: str) -> FileLabels:
    """Labels from the pairs (name, class) of a dataset.json; the class is an integer or exactly one-hot."""
    if not isinstance(pairs, list) or not pairs:
        raise _damaged(where, f"labels must be a list of [name, class], or null, got {_short(pairs)}")
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise _damaged(where, f"each of the labels must be [name, class], got {_short(pair)}")
    of = {name.replace("\\", "/"): value for name, value in pairs}
    if isinstance(pairs[0][1], list):
        of, classes = _from_one_hot(of, where)
    else:
        classes = _count_classes(of, where)
    if num_classes is not None:  # known where only some of the classes occur
        if not is_integer(num_classes) or num_classes < classes:
            raise _damaged(where, f"num_classes must be at least {classes}, got {_short(num_classes)}")
        classes = int(num_classes)
    return FileLabels(of, *_with_names(classes, class_names, where))


def _with_names(classes: int, names: Any, where: str) -> tuple[int, tuple[str, ...]]:
    if names is None:
        return classes, ()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) < classes:
        raise _damaged(where, f"class_names must name each of the {classes} classes, got {_short(names)}")
    return len(names), tuple(names)


def _count_classes(of: Mapping[str, Any], where: str) -> int:
    for name, value in of.items():
        if not is_integer(value) or value < 0:
            raise _damaged(where, f"the class of {name!r} must be an integer from 0 on, got {_short(value)}")
    return 1 + max(int(value) for value in of.values())


def _from_one_hot(of: Mapping[str, Any], where: str) -> tuple[dict[str, int], int]:
    found: dict[str, int] = {}
    lengths = {len(value) if isinstance(value, list) else -1 for value in of.values()}
    for name, value in of.items():
        if not isinstance(value, list) or not _is_one_hot(value):
            raise _damaged(where, f"the class of {name!r} must be an integer or a one-hot vector, got {_short(value)}")
        found[name] = value.index(1)
    if len(lengths) > 1:
        raise _damaged(where, f"the one-hot vectors have different lengths: {sorted(lengths)}")
    return found, lengths.pop()


def _is_one_hot(values: Iterable[Any]) -> bool:
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    return len(numbers) == len(list(values)) and sorted(numbers) == [0] * (len(numbers) - 1) + [1]


def _damaged(where: str, what: str) -> ValueError:
    return ValueError(f"{LABEL_FILE} in {where!r} cannot be used: {what}; repair it, or use labels='none'")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
