"""Files from an address, for as long as they are read."""

import contextlib
import uuid
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import Request, url2pathname, urlopen

_PIECE = 1 << 20
_SCHEMES = ("http", "https", "file")


def is_url(source: str) -> bool:
    """Whether this is an address rather than a path."""
    return "://" in source


@contextlib.contextmanager
def downloaded(
    url: str, *, beside: Path, progress: Callable[[int, int | None], None] | None = None, timeout: float = 30.0
) -> Iterator[Path]:
    """Give the file of an address: for http and https a hidden one beside a path, removed at the end.

    Args:
        url: http, https or file.
        beside: the file is written into this path's folder.
        progress: called with the bytes that are there and their number, None if unknown.
        timeout: seconds without an answer.

    Raises:
        ValueError: if the address is of another kind.
        OSError: if the file cannot be had whole, or the disk is full.

    """
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"cannot read {url!r}: give a path, or an address that begins with http, https or file")
    if parts.scheme == "file":
        yield Path(url2pathname(parts.path))
        return
    partial = beside.with_name(f".{beside.name}.{uuid.uuid4().hex[:12]}.download")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, partial, progress, timeout)
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _fetch(url: str, path: Path, progress: Callable[[int, int | None], None] | None, timeout: float) -> None:
    try:
        with urlopen(Request(url), timeout=timeout) as answer, path.open("xb") as file:  # noqa: S310  # http(s) only
            length = answer.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
            done = 0
            while piece := answer.read(_PIECE):
                file.write(piece)
                done += len(piece)
                if progress is not None:
                    progress(done, total)
    except URLError as error:
        raise OSError(f"cannot download {url!r} ({error.reason}): check the address and the connection") from error
    except HTTPException as error:
        raise OSError(f"the download of {url!r} broke off ({error!r}): run the command again") from error
    except TimeoutError as error:
        raise OSError(f"{url!r} stopped answering: run the command again") from error
    if total is not None and done != total:
        raise OSError(f"the download of {url!r} broke off after {done:,} of {total:,} bytes: run the command again")
