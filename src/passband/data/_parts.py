"""The pieces in which a data set's zip is made, and how they are put together."""

import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from passband._checks import import_extra
from passband._files import written_whole
from passband.data._decode import Pixels, UnusableImageError
from passband.data._labels import LABEL_FILE
from passband.data._samples import Entry, Framing, SkippedImage, read_samples
from passband.data._sources import JoinedSource, Source, open_source

_NOTES = "notes.json"
_KEPT = "the finished parts are kept in {folder!r}; free some space and run the same command again to continue"


class Task(NamedTuple):
    """A run of images that are written as one part, with their labels (none without)."""

    number: int
    entries: list[Entry]
    labels: list[int]


class Part(NamedTuple):
    """What a finished part holds."""

    labels: list[int]
    skipped: list[SkippedImage]
    images: int


def source_of(paths: Sequence[str]) -> Source:
    """The folder or zip, or several as one."""
    opened = [open_source(path) for path in paths]
    return opened[0] if len(opened) == 1 else JoinedSource(opened)


def part_path(folder: Path, number: int) -> Path:
    """Where a part lies."""
    return folder / f"part-{number:06d}.zip"


class PartWriter:
    """Decodes the images of a task and writes their samples as PNG into its part."""

    def __init__(self, paths: Sequence[str], framing: Framing, compression: int, folder: Path) -> None:
        self.source = source_of(paths)
        self.framing = framing
        self.compression = compression
        self.folder = folder

    def __call__(self, task: Task) -> int:
        """Write the part; the number of samples that were asked for comes back."""
        path = part_path(self.folder, task.number)
        kept = _KEPT.format(folder=str(self.folder))
        with written_whole(path, kept) as partial, zipfile.ZipFile(partial, "w") as archive:
            self._write(archive, task)
        return sum(len(entry.tiles) for entry in task.entries)

    def _write(self, archive: zipfile.ZipFile, task: Task) -> None:
        labels: list[int] = []
        skipped: list[tuple[str, str]] = []
        images = 0
        for place, entry in enumerate(task.entries):
            try:
                samples = read_samples(self.source, entry, self.framing)
            except UnusableImageError as error:
                skipped.append((entry.name, str(error)))
                continue
            for sample in samples:
                archive.writestr(zip_info(str(images)), encode_png(sample, self.compression))
                images += 1
            labels += task.labels[place : place + 1] * len(samples)
        notes = {"labels": labels, "skipped": skipped, "images": images}
        archive.writestr(zip_info(_NOTES), json.dumps(notes, ensure_ascii=True))


def encode_png(sample: Pixels, compression: int) -> bytes:
    """One sample (height, width, channels) as PNG."""
    array = sample[:, :, 0] if sample.shape[2] == 1 else sample
    encoded = io.BytesIO()
    import_extra("PIL.Image", "train").fromarray(array).save(encoded, format="PNG", compress_level=compression)
    return encoded.getvalue()


def zip_info(name: str) -> zipfile.ZipInfo:
    """An entry that does not tell when and where it was made."""
    info = zipfile.ZipInfo(name)  # stored, of 1980
    info.create_system = 3
    info.external_attr = 0o644 << 16
    return info


def read_part(path: Path) -> Part:
    """What a part holds, without its images.

    Raises:
        ValueError: if it is damaged; it is removed, so that it is made again.

    """
    with _opened(path) as archive:
        notes = json.loads(archive.read(_NOTES))
    return Part(notes["labels"], [SkippedImage(*found) for found in notes["skipped"]], notes["images"])


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, ValueError, KeyError) as error:
        path.unlink(missing_ok=True)
        raise ValueError(
            f"the part {str(path)!r} was damaged ({error}) and has been removed: "
            "run the same command again to make it anew"
        ) from error


def assemble(paths: Iterable[Path], out: Path, scratch: Path, labels: dict[str, object]) -> int:
    """Put the parts' images into one zip, numbered from 0; the number of them comes back.

    Args:
        paths: the parts, in order.
        out: the zip to make.
        scratch: a folder on the same disk, for the unfinished zip.
        labels: what dataset.json says beside the images' names: "labels", a list of classes or None, and more.

    """
    partial = scratch / out.name
    kept = _KEPT.format(folder=str(scratch))
    with written_whole(partial, kept) as writing, zipfile.ZipFile(writing, "w") as archive:
        names = [_copy(archive, image, number) for number, image in enumerate(_images(paths))]
        classes = labels["labels"]
        pairs = [list(pair) for pair in zip(names, classes, strict=True)] if isinstance(classes, list) else None
        archive.writestr(zip_info(LABEL_FILE), json.dumps({**labels, "labels": pairs}, ensure_ascii=True))
    partial.replace(out)
    return len(names)


def _images(paths: Iterable[Path]) -> Iterator[bytes]:
    for path in paths:
        with _opened(path) as archive:
            for name in archive.namelist():
                if name != _NOTES:
                    yield archive.read(name)


def _copy(archive: zipfile.ZipFile, image: bytes, number: int) -> str:
    name = f"{number // 1000:05d}/img{number:08d}.png"
    archive.writestr(zip_info(name), image)
    return name
