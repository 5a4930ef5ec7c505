"""Images with a caption each."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from passband._checks import check_choice
from passband.data._labels import FileLabels
from passband.data._samples import Framing, ImageSamples, Progress, checked_resolution
from passband.data._sources import SingleSource, open_source

CAPTION_KINDS = ("auto", "metadata", "files")
METADATA = "metadata.jsonl"
_NAMED = 3


class CaptionedImages(ImageSamples):
    r"""The images of a folder or zip with a caption each; otherwise as [`ImageFolder`][passband.data.ImageFolder].

    Captions are what a data set of pictures has as classes elsewhere: `label` gives the number of a sample's caption in
    `class_names`, the sorted captions, each once. White space in them is made single blanks. A tile has its file's.

    Args:
        path: a folder or a zip file.
        resolution: the side of a square sample in pixels, or (height, width).
        captions: "metadata": `metadata.jsonl` at the root, a line `{"file_name": "a/b.png", "text": "a barn"}` for each
            image, as Hugging Face's imagefolder has it; "files": a text file of the image's name beside it, `a/b.txt`;
            "auto": the metadata where there are some, else the files.
        prompt: one caption for all images; none is read then.
        crop: "center" or "tile".
        scale: with tiles, resize the images by this factor first, in (0, 1].
        channels: 3 (RGB) or 1 (luma, ITU-R 601).
        subset: "all", "train" or "eval", by a hash of the name.
        eval_share: the share of samples in "eval", between 0 and 1.
        limit: keep this many samples at most.
        strict: raise on the first image that cannot be used, instead of leaving it out.
        cache_bytes: how many bytes of decoded samples to keep.
        progress: called with (files read, files in all) while the headers are read.

    Raises:
        FileNotFoundError: if there is nothing at path.
        ValueError: if an image has no caption or a blank one, or what holds them cannot be read; or as `ImageFolder`.

    Example:
        >>> import pathlib, tempfile, torch
        >>> from passband.data import CaptionedImages, save_image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_image(torch.rand(3, 16, 16), f"{folder}/barn.png")
        ...     _ = pathlib.Path(folder, "barn.txt").write_text("a barn in the snow")
        ...     data = CaptionedImages(folder, resolution=16)
        ...     data.class_names[data.label(0)]
        'a barn in the snow'

    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        resolution: int | Sequence[int],
        *,
        captions: str = "auto",
        prompt: str | None = None,
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
        check_choice("captions", captions, CAPTION_KINDS)
        framing = Framing(checked_resolution(resolution), crop, scale, channels)
        framing.check()
        source = open_source(path)
        super().__init__(
            source,
            str(path),
            framing,
            labels=lambda: _numbered(file_captions(source, str(path), captions, prompt)),
            subset=subset,
            eval_share=eval_share,
            limit=limit,
            strict=strict,
            cache_bytes=cache_bytes,
            progress=progress,
        )

    @property
    def captions(self) -> tuple[str, ...]:
        """All captions, each once, sorted; `label` counts them."""
        return self.class_names


def file_captions(source: SingleSource, where: str, kind: str = "auto", prompt: str | None = None) -> dict[str, str]:
    """The caption of each image of a source.

    Args:
        source: a folder or zip.
        where: its path, for the errors.
        kind: "metadata", "files" or "auto".
        prompt: one for all.

    Raises:
        ValueError: if an image has none or a blank one, or what holds them cannot be read.

    """
    if prompt is not None:
        return dict.fromkeys(source.names, _tidy(prompt))
    has_metadata = source.has(METADATA)
    if kind == "metadata" and not has_metadata:
        raise ValueError(
            f'captions="metadata" needs {METADATA} at the root of {where!r}, and there is none: write a line '
            '{"file_name": "a/b.png", "text": "a barn"} for each image, or put a .txt beside each and set captions to '
            "files"
        )
    if kind == "metadata" or (kind == "auto" and has_metadata):
        found, place = _metadata(source, where), METADATA
    else:
        found, place = dict(_texts(source, where)), "a .txt of the same name"
    _require(found, source.names, where, place)
    return found


def _metadata(source: SingleSource, where: str) -> dict[str, str]:
    with source.open(METADATA) as stream:
        data = stream.read()
    found: dict[str, str] = {}
    for number, line in enumerate(_decoded(data, METADATA, where).splitlines(), 1):
        if not line.strip():
            continue
        name, text = _entry(line, f"{METADATA} of {where!r}, line {number}")
        if not text:
            raise ValueError(
                f"{METADATA} of {where!r}, line {number}: the caption of {name!r} is blank; write one, or leave the "
                "image out of the data"
            )
        found[name] = text
    return found


def _entry(line: str, place: str) -> tuple[str, str]:
    """The file and the caption that a line names."""
    wanted = 'expected {"file_name": "a/b.png", "text": "a barn"}'
    try:
        entry: Any = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{place} is no JSON ({error}): {wanted}") from error
    if not isinstance(entry, Mapping):
        raise ValueError(f"{place} is no JSON object, got {line[:40]!r}: {wanted}")
    for key in ("file_name", "text"):
        if not isinstance(entry.get(key), str):
            raise ValueError(f"{place} has no text under {key!r}, its keys are {', '.join(map(repr, entry))}: {wanted}")
    return PurePosixPath(entry["file_name"].replace("\\", "/")).as_posix(), _tidy(entry["text"])


def _texts(source: SingleSource, where: str) -> Iterator[tuple[str, str]]:
    for name in source.names:
        file = PurePosixPath(name).with_suffix(".txt").as_posix()
        if not source.has(file):
            continue
        with source.open(file) as stream:
            text = _tidy(_decoded(stream.read(), file, where))
        if not text:
            raise ValueError(
                f"the caption file {file!r} in {where!r} is empty: write a caption into it, or leave its image out of "
                "the data"
            )
        yield name, text


def _decoded(data: bytes, file: str, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file!r} in {where!r} is no UTF-8 text ({error.reason}): save it as UTF-8") from error


def _require(found: Mapping[str, str], names: Sequence[str], where: str, place: str) -> None:
    missing = [name for name in names if name not in found]
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise ValueError(
            f"{len(missing)} of {len(names)} images in {where!r} have no caption in {place}: "
            f"{', '.join(map(repr, missing[:_NAMED]))}{more}; add them to {METADATA} (file_name, text) or as NAME.txt "
            "beside each image, or give one prompt for all (prompt, --prompt)"
        )


def _numbered(captions: Mapping[str, str]) -> FileLabels:
    """Captions as classes."""
    texts = tuple(sorted(set(captions.values())))
    number = {text: place for place, text in enumerate(texts)}
    return FileLabels({name: number[text] for name, text in captions.items()}, len(texts), texts, METADATA)


def _tidy(text: str) -> str:
    return " ".join(text.split())
