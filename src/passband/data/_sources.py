"""Where image files come from: a folder or a zip, both as sorted names (relative, with forward slashes)."""

import os
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO

SUFFIXES = (
    ".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip


Stream = IO[bytes] | zipfile.ZipExtFile


def is_image_name(name: str) -> bool:
    """Whether a relative path has an image's suffix and neither it nor a folder above it is hidden."""
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in SUFFIXES and not hidden and not name.endswith("/")


class FolderSource:
    """All image files under a folder, following links to folders once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unreadable: list[tuple[str, str]] = []
        self.names = sorted(self._walk())

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
            names += [name for name in ((prefix / file).as_posix() for file in files) if is_image_name(name)]
        return names

    def _note(self, error: OSError) -> None:
        self.unreadable.append((str(error.filename), error.strerror or "cannot be listed"))

    def open(self, name: str) -> Stream:
        return (self.root / name).open("rb")


class ZipSource:
    """All image files in a zip; every process opens its own handle, so forked and pickled copies are safe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unreadable: list[tuple[str, str]] = []
        self._handle: zipfile.ZipFile | None = None
        self._pid = -1
        self.names = sorted({name for name in self._zip().namelist() if is_image_name(name)})

    def _zip(self) -> zipfile.ZipFile:
        if self._handle is None or self._pid != os.getpid():
            self._handle = zipfile.ZipFile(self.path)
            self._pid = os.getpid()
        return self._handle

    def open(self, name: str) -> Stream:
        return self._zip().open(name)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_handle": None}


Source = FolderSource | ZipSource


def open_source(path: str | os.PathLike[str]) -> Source:
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
