"""Where files come from: a folder, a zip or several of them, as sorted names (relative, with forward slashes)."""

import io
import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import PIL.Image

SUFFIXES = (
    ".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip

# Small zip entries are read whole: decoders seek, which costs more than the rest of the file.
_AT_ONCE = 1 << 18

Stream = IO[bytes] | io.BytesIO | zipfile.ZipExtFile


class Skipped(NamedTuple):
    """A file that is left out, and why.

    Attributes:
        name: the file's name within the folder or zip, with forward slashes.
        reason: why it cannot be used, for people to read.

    """

    name: str
    reason: str


class Source(ABC):
    """What a data set of images asks of the place they come from.

    Attributes:
        names: all images, in order.
        unreadable: what could not even be listed, with the reasons; known once `names` is.

    """

    names: Sequence[str]
    unreadable: Sequence[tuple[str, str]]
    #: What was looked for, for the error of an empty source.
    nothing = f"in all its folders for files ending in {', '.join(SUFFIXES)} (hidden files are left out)"

    @abstractmethod
    def open(self, name: str) -> "Stream | PIL.Image.Image":
        """The image's bytes, or the image itself where the source has decoded it."""

    def inner(self, name: str) -> str:
        """The name within the folder or zip that holds the image."""
        return name


def is_shown(name: str, suffixes: Sequence[str] = SUFFIXES) -> bool:
    """Whether a relative path has one of the suffixes and neither it nor a folder above it is hidden."""
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in suffixes and not hidden and not name.endswith("/")


class FolderSource(Source):
    """All files under a folder that have one of the suffixes, following links to folders once."""

    def __init__(self, root: Path, suffixes: Sequence[str] = SUFFIXES) -> None:
        self.root, self.suffixes = root, tuple(suffixes)
        self.unreadable: list[tuple[str, str]] = []

    @cached_property
    def names(self) -> list[str]:  # type: ignore[override]
        return sorted(self._walk())

    def _walk(self) -> list[str]:
        names: list[str] = []
        seen: set[str] = set()
        for folder, folders, files in os.walk(self.root, followlinks=True, onerror=self._note):
            real = os.path.realpath(folder)
            if real in seen:  # a link back to a folder already listed
                folders.clear()
                continue
            seen.add(real)
            folders.sort()
            prefix = Path(folder).relative_to(self.root)
            names += [name for name in ((prefix / file).as_posix() for file in files) if is_shown(name, self.suffixes)]
        return names

    def _note(self, error: OSError) -> None:
        self.unreadable.append((str(error.filename), error.strerror or "cannot be listed"))

    def open(self, name: str) -> Stream:
        return (self.root / name).open("rb")

    def has(self, name: str) -> bool:
        return (self.root / name).is_file()


class ZipSource(Source):
    """All image files in a zip; every process opens its own handle, so forked and pickled copies are safe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unreadable: list[tuple[str, str]] = []
        self._handle: zipfile.ZipFile | None = None
        self._pid = -1
        self._zip()  # damage is an error now, not at the first image

    @cached_property
    def names(self) -> list[str]:  # type: ignore[override]
        return sorted({name for name in self._zip().namelist() if is_shown(name)})

    def _zip(self) -> zipfile.ZipFile:
        if self._handle is None or self._pid != os.getpid():
            self._handle = zipfile.ZipFile(self.path)
            self._pid = os.getpid()
        return self._handle

    def open(self, name: str) -> Stream:
        archive = self._zip()
        if archive.getinfo(name).file_size <= _AT_ONCE:
            return io.BytesIO(archive.read(name))
        return archive.open(name)

    def has(self, name: str) -> bool:
        return name in self._zip().NameToInfo

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_handle": None}


SingleSource = FolderSource | ZipSource


class JoinedSource(Source):
    """Several folders and zips, one after the other: their names stand behind their numbers."""

    def __init__(self, sources: Sequence[SingleSource]) -> None:
        self.sources = list(sources)

    @cached_property
    def names(self) -> list[str]:  # type: ignore[override]
        return [f"{number:04d}/{name}" for number, source in enumerate(self.sources) for name in source.names]

    @property
    def unreadable(self) -> list[tuple[str, str]]:  # type: ignore[override]
        return [found for source in self.sources for found in source.unreadable]

    def inner(self, name: str) -> str:
        return name.partition("/")[2]

    def open(self, name: str) -> Stream:
        number, _, inner = name.partition("/")
        return self.sources[int(number)].open(inner)


def open_source(path: str | os.PathLike[str]) -> SingleSource:
    """The folder or zip at path, or one clear error."""
    path = Path(path).expanduser()
    if path.is_dir():
        return FolderSource(path)
    if not path.exists():
        raise FileNotFoundError(f"no such folder or zip of images: {str(path)!r}; check the path")
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{str(path)!r} is neither a folder nor a readable zip file; pass the folder that holds the images, "
            "or a .zip of them (a zip that was cut short in a download reads like this too)"
        )
    try:
        return ZipSource(path)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"the zip file {str(path)!r} is damaged: {error}; create or download it again") from error
