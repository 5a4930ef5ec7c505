"""One zip of equal samples from folders and zips of images: in parallel, and resumable at any point."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from passband._checks import check_choice, check_integer, import_extra
from passband._files import written_whole
from passband._pool import run_tasks
from passband.data._labels import LABEL_KINDS, file_labels
from passband.data._parts import Part, PartWriter, Task, assemble, part_path, read_part, source_of
from passband.data._samples import Entry, Framing, ImageSamples, Progress, SkippedImage, checked_resolution

SAMPLES_PER_PART = 256
_PIXELS_PER_PART = 1 << 26  # of the source images: a part of photographs takes seconds, too
_SETTINGS = "settings.json"
_FORMAT = 1


class Prepared(NamedTuple):
    """What was made.

    Attributes:
        path: the zip.
        images: number of samples in it.
        nbytes: its size.
        num_classes: number of classes, 0 without labels.
        class_names: their names, if they have any.
        skipped: the images that were left out, with the reasons.
        resumed: how many of the samples an interrupted run had finished.

    """

    path: Path
    images: int
    nbytes: int
    num_classes: int
    class_names: tuple[str, ...]
    skipped: list[SkippedImage]
    resumed: int


def prepare_images(
    sources: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    resolution: int | Sequence[int],
    *,
    crop: str = "center",
    scale: float = 1.0,
    channels: int = 3,
    labels: str = "none",
    subset: str = "all",
    eval_share: float = 0.1,
    limit: int | None = None,
    strict: bool = False,
    compression: int = 0,
    workers: int = 0,
    on_index: Progress | None = None,
    on_progress: Progress | None = None,
) -> Prepared:
    """Write the samples that `ImageFolder` would give as a dataset zip in EDM's layout.

    The zip holds `00000/img00000000.png` and so on, stored, in the order of the data set, and a dataset.json with the
    labels (or null) and, where classes have names, `class_names`. `ImageFolder(out, resolution, labels="json")` reads
    it, pixel for pixel the same samples, without the broken images, which are left out here and not replaced.

    Finished parts are kept in `.NAME.parts` beside out until the zip is whole. A run that was interrupted or killed, or
    met a full disk, continues there when it is asked for again, and the zip comes out the same to the byte.

    Args:
        sources: folders and zips of images, taken one after the other.
        out: the zip to write, ending in .zip.
        resolution: the side of a square sample in pixels, or (height, width).
        crop: "center" or "tile".
        scale: with tiles, resize the images by this factor first.
        channels: 3 (RGB) or 1 (luma).
        labels: "none", "folder" or "json". Classes of one name in several sources are one class.
        subset: "all", "train" or "eval".
        eval_share: the share of samples in "eval".
        limit: write this many samples at most, picked from all over the sources.
        strict: stop at the first image that cannot be used.
        compression: of the PNGs, 0 (quickest to read; EDM's choice) to 9.
        workers: processes that decode; 0 or 1: this one alone. A script that asks for several must be importable
            (`if __name__ == "__main__":`).
        on_index: called with (headers read, files in all).
        on_progress: called with (samples done, samples in all).

    Raises:
        FileExistsError: if out exists.
        OSError: if the disk is full, or the folder cannot be written to.
        ValueError: if a source or an option cannot be used, or an interrupted run had other settings.

    Example:
        >>> import tempfile, torch
        >>> from passband.data import ImageFolder, prepare_images, save_image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_image(torch.rand(3, 40, 50), f"{folder}/cats/1.png")
        ...     made = prepare_images([folder], f"{folder}/small.zip", 16, crop="tile", labels="folder")
        ...     data = ImageFolder(made.path, 16, labels="json")
        ...     made.images, len(data), data.label(0), data.class_names
        (6, 6, 0, ('cats',))

    """
    out = _checked_out(out)
    check_choice("labels", labels, LABEL_KINDS)
    check_integer("workers", workers)
    check_integer("compression", compression)
    if workers < 0 or not 0 <= compression <= 9:
        raise ValueError(f"expected workers >= 0 and compression 0 … 9, got {workers} and {compression}")
    framing = Framing(checked_resolution(resolution), crop, scale, channels)
    framing.check()
    paths = _checked_sources(sources)
    folder = out.with_name(f".{out.name}.parts")
    if out.exists() and not (folder / _SETTINGS).is_file():  # said before all headers are read
        raise _taken(out)
    data = _index(paths, framing, labels, subset, eval_share, limit, strict, on_index)
    settings = {
        "format": _FORMAT, "sources": paths, **framing._asdict(), "labels": labels, "subset": subset,
        "eval_share": eval_share, "limit": limit, "compression": compression,
        "pillow": import_extra("PIL", "train").__version__, "images": data.digest(),
    }  # fmt: skip
    tasks = list(_tasks(data))
    if out.exists() and not _finished(folder, settings, len(tasks)):
        raise _taken(out)
    _start(folder, settings)
    resumed = _write_parts(paths, framing, compression, folder, tasks, workers, on_progress)
    parts = [read_part(part_path(folder, task.number)) for task in tasks]
    left_out = [*data.skipped, *(found for part in parts for found in part.skipped)]
    skipped = [_with_source(found, paths) for found in left_out]
    if strict and skipped:
        raise ValueError(f"cannot use the image {skipped[0].name!r}: {skipped[0].reason}; repair or remove it")
    images = _finish(out, folder, parts, data)
    return Prepared(out, images, out.stat().st_size, data.num_classes, data.class_names, skipped, resumed)


def _checked_out(out: str | os.PathLike[str]) -> Path:
    out = Path(out).expanduser()
    if out.suffix.lower() != ".zip":
        raise ValueError(f"the result is a zip, got the name {out.name!r}; let it end in .zip")
    return out


def _taken(out: Path) -> FileExistsError:
    return FileExistsError(f"{str(out)!r} exists already: remove it or choose another name")


def _checked_sources(sources: Sequence[str | os.PathLike[str]]) -> list[str]:
    if isinstance(sources, str | os.PathLike):
        raise TypeError(f"sources must be a list of folders and zips, got {sources!r}; for one pass [{sources!r}]")
    if not sources:
        raise ValueError("sources is empty: name at least one folder or zip of images")
    return [str(Path(source).expanduser().resolve()) for source in sources]


def _with_source(skipped: SkippedImage, paths: list[str]) -> SkippedImage:
    """Of several sources, an image's name with its source's."""
    number, _, inner = skipped.name.partition("/")
    if len(paths) == 1 or not number.isdecimal():  # a folder that cannot be listed has its own path
        return skipped
    return SkippedImage(str(Path(paths[int(number)]) / inner), skipped.reason)


def _index(
    paths: list[str],
    framing: Framing,
    labels: str,
    subset: str,
    eval_share: float,
    limit: int | None,
    strict: bool,
    progress: Progress | None,
) -> ImageSamples:
    """The data set that is written; its headers alone are read."""
    source = source_of(paths)
    return ImageSamples(
        source,
        ", ".join(paths),
        framing,
        labels=lambda: file_labels(source, labels),
        subset=subset,
        eval_share=eval_share,
        limit=limit,
        strict=strict,
        progress=progress,
    )


def _tasks(data: ImageSamples) -> Iterator[Task]:
    entries: list[Entry] = []
    labels: list[int] = []
    number = samples = pixels = 0
    for entry, label in data.listing():
        more = entry.header.width * entry.header.height
        if entries and (samples + len(entry.tiles) > SAMPLES_PER_PART or pixels + more > _PIXELS_PER_PART):
            yield Task(number, entries, labels)
            entries, labels, number, samples, pixels = [], [], number + 1, 0, 0
        entries.append(entry)
        labels += [] if label is None else [label]
        samples += len(entry.tiles)
        pixels += more
    yield Task(number, entries, labels)


def _finished(folder: Path, settings: dict[str, object], tasks: int) -> bool:
    """Whether the zip is that of this very run, interrupted between its last two steps."""
    if not (folder / _SETTINGS).is_file() or _differences(folder, settings):
        return False
    return all(part_path(folder, number).is_file() for number in range(tasks))


def _start(folder: Path, settings: dict[str, object]) -> None:
    """Make the folder of parts, or make sure that those in it are of the same settings."""
    if (folder / _SETTINGS).is_file():
        different = _differences(folder, settings)
        if different and any(folder.glob("part-*.zip")):
            raise ValueError(
                f"an interrupted run in {str(folder)!r} had other settings: {'; '.join(different)}. Run it again with "
                "its settings to continue, or remove that folder to start anew"
            )
        if not different:
            return
    with written_whole(folder / _SETTINGS, "nothing was written") as partial:
        partial.write_text(json.dumps(settings, indent=1), encoding="utf-8")


def _differences(folder: Path, settings: dict[str, object]) -> list[str]:
    try:
        before = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
        before = before if isinstance(before, dict) else {}
    except ValueError:
        before = {}
    now = json.loads(json.dumps(settings))
    changed = [name for name in now if before.get(name) != now[name]]
    if changed == ["images"]:
        return ["the images in the sources have changed since"]
    return [f"{name} {before.get(name)!r} then, {now[name]!r} now" for name in changed if name != "images"]


def _write_parts(
    paths: list[str],
    framing: Framing,
    compression: int,
    folder: Path,
    tasks: list[Task],
    workers: int,
    progress: Progress | None,
) -> int:
    """Make the parts that are not there yet; how many samples there were already comes back."""
    sizes = {task.number: sum(len(entry.tiles) for entry in task.entries) for task in tasks}
    missing = [task for task in tasks if not part_path(folder, task.number).is_file()]
    total, resumed = sum(sizes.values()), sum(sizes.values()) - sum(sizes[task.number] for task in missing)
    done = resumed
    if progress is not None:
        progress(done, total)
    for samples in run_tasks(PartWriter, (paths, framing, compression, folder), missing, workers):
        done += samples
        if progress is not None:
            progress(done, total)
    return resumed


def _finish(out: Path, folder: Path, parts: list[Part], data: ImageSamples) -> int:
    images = sum(part.images for part in parts)
    if not images:
        last = parts[-1].skipped[-1]
        raise ValueError(f"none of the images can be decoded; the last one is {last.name!r}: {last.reason}")
    if not out.exists():
        classes = [label for part in parts for label in part.labels] if data.num_classes else None
        notes: dict[str, object] = {"labels": classes}
        if data.num_classes:
            notes["num_classes"] = data.num_classes
        if data.class_names:
            notes["class_names"] = list(data.class_names)
        assemble([part_path(folder, number) for number in range(len(parts))], out, folder, notes)
    shutil.rmtree(folder)
    return images
