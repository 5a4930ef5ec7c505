"""From an image file of any mode to uint8 pixels. Pillow is imported on first use."""

import errno
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import IO, TYPE_CHECKING, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from passband._checks import import_extra
from passband.data._sources import Stream

if TYPE_CHECKING:
    import PIL.Image

Pixels = NDArray[np.uint8]

# What a decoder raises on broken bytes. Anything else (memory, a defect of ours) is not the image's fault.
_BROKEN = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, AttributeError, ZeroDivisionError,
    OverflowError, RuntimeError, NotImplementedError, struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


class UnusableImageError(Exception):
    """An image cannot be used; the message is the reason, without the file's name."""


class Header(NamedTuple):
    """Size as shown (after the EXIF rotation), and the EXIF orientation still to be applied."""

    width: int
    height: int
    orientation: int


@contextmanager
def unusable_if_broken() -> Iterator[None]:
    """Turn whatever broken bytes make a decoder raise into UnusableImageError; keep warnings about them quiet."""
    image_module = import_extra("PIL.Image", "train")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except image_module.DecompressionBombError as error:
        raise UnusableImageError(f"too many pixels to be safe ({error})") from error
    except import_extra("PIL", "train").UnidentifiedImageError as error:
        raise UnusableImageError("not an image in a format that Pillow reads") from error
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno in _EXHAUSTED:
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UnusableImageError(reason or type(error).__name__) from error


def _orientation(image: "PIL.Image.Image") -> int:
    if image.format == "TIFF":  # turned upright by Pillow as it loads
        return 1
    try:
        # Not image.getexif(): for PNG that decodes all the pixels.
        value = import_extra("PIL.Image", "train").Image.getexif(image).get(0x0112, 1)
    except _BROKEN:  # damaged metadata beside good pixels
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _open(stream: "Stream | PIL.Image.Image") -> "AbstractContextManager[PIL.Image.Image]":
    import PIL.Image

    if isinstance(stream, PIL.Image.Image):
        stream.load()
        return nullcontext(stream)  # not ours to close
    if not stream.read(1):
        raise UnusableImageError("the file is empty (0 bytes)")
    stream.seek(0)
    return PIL.Image.open(cast("IO[bytes]", stream))


def read_header(stream: "Stream | PIL.Image.Image") -> Header:
    """Size and orientation, from the file's header alone."""
    with _open(stream) as image:
        orientation = _orientation(image)
        width, height = image.size[::-1] if orientation >= 5 else image.size
        return Header(width, height, orientation)


def read_image(stream: "Stream | PIL.Image.Image", header: Header, channels: int) -> "PIL.Image.Image":
    """Decode the first frame, upright, in mode L or RGB."""
    transpose = import_extra("PIL.Image", "train").Transpose
    turns = {
        2: transpose.FLIP_LEFT_RIGHT, 3: transpose.ROTATE_180, 4: transpose.FLIP_TOP_BOTTOM, 5: transpose.TRANSPOSE,
        6: transpose.ROTATE_270, 7: transpose.TRANSVERSE, 8: transpose.ROTATE_90,
    }  # fmt: skip
    with _open(stream) as opened:
        opened.load()
        image = to_mode(opened, "L" if channels == 1 else "RGB")
    if header.orientation in turns:
        image = image.transpose(turns[header.orientation])
    if image.size != (header.width, header.height):
        raise UnusableImageError(
            f"decodes to {image.size[0]} x {image.size[1]} pixels, its header says {header.width} x {header.height}"
        )
    return image


def to_mode(image: "PIL.Image.Image", mode: str) -> "PIL.Image.Image":
    """Convert any mode to L or RGB: 16 bits scaled to 8, transparency laid on white, CMYK and palettes resolved."""
    image_module = import_extra("PIL.Image", "train")
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        wide = np.asarray(image).astype(np.uint32)
        image = image_module.fromarray(((wide + 128) // 257).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise UnusableImageError(
            f"pixels of mode {image.mode!r} (32 bits) have no stated range; convert the file to 8 or 16 bits"
        )
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        white = image_module.new("RGBA", image.size, (255, 255, 255, 255))
        image = image_module.alpha_composite(white, image).convert("RGB")
    if mode == "L" and image.mode not in ("1", "L"):
        image = image.convert("RGB")  # palettes and CMYK have no direct way to luma that equals the one through RGB
    return image if image.mode == mode else image.convert(mode)


def to_array(image: "PIL.Image.Image") -> Pixels:
    """Pixels as (height, width, channels)."""
    array = np.asarray(image)
    return array[:, :, None] if array.ndim == 2 else array


def cropped(width: int, height: int, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the largest part of an image that has the aspect of size (height, width), in whole pixels."""
    rows, columns = size
    if width * rows <= height * columns:
        return width, max(1, round(width * rows / columns))
    return max(1, round(height * columns / rows)), height


def center_crop(image: "PIL.Image.Image", size: tuple[int, int]) -> Pixels:
    """The central part of the aspect of size (height, width), resized to it with an antialiased Lanczos filter.

    Untouched where it fits.
    """
    width, height = cropped(*image.size, size)
    # Whole pixels: half a pixel of shift would interpolate, which dims the highest frequencies.
    left, top = (image.size[0] - width) // 2, (image.size[1] - height) // 2
    box = (left, top, left + width, top + height)
    if (height, width) == size:
        return to_array(image.crop(box))
    lanczos = import_extra("PIL.Image", "train").Resampling.LANCZOS
    return to_array(image.resize((size[1], size[0]), lanczos, box=box))


def scaled(header: Header, scale: float) -> tuple[int, int]:
    """Width and height after scaling, to the nearest pixel."""
    return max(1, round(header.width * scale)), max(1, round(header.height * scale))


def shrink(image: "PIL.Image.Image", size: tuple[int, int]) -> "PIL.Image.Image":
    """The whole image resized to (width, height) with an antialiased Lanczos filter; untouched where it fits."""
    return image if image.size == size else image.resize(size, import_extra("PIL.Image", "train").Resampling.LANCZOS)


def tile_count(width: int, height: int, size: tuple[int, int]) -> int:
    """How many whole tiles of size (height, width) fit, counted from the top left corner."""
    return (height // size[0]) * (width // size[1])


def tiles(image: "PIL.Image.Image", size: tuple[int, int], which: NDArray[np.int64]) -> Pixels:
    """The given tiles, row by row from the top left corner, at native resolution: (tiles, height, width, channels)."""
    array, (height, width) = to_array(image), size
    rows, columns = array.shape[0] // height, array.shape[1] // width
    grid = array[: rows * height, : columns * width].reshape(rows, height, columns, width, -1)
    return np.ascontiguousarray(grid[which // columns, :, which % columns])
