"""Between float images in [-1, 1] and 8-bit pixels, and onto disk."""

import io
import os
from pathlib import Path

import torch
from jaxtyping import Float, Float32, Shaped, UInt8
from torch import Tensor

from passband._checks import check_floating, import_extra
from passband._files import written_whole


def from_uint8(pixels: UInt8[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
    """Pixels 0 … 255 to floats in [-1, 1]: x / 127.5 - 1.

    Args:
        pixels: uint8, of any shape.

    Returns:
        Floats in [-1, 1] of the same shape, float32.

    Raises:
        TypeError: if pixels is not a uint8 tensor.

    Example:
        >>> import torch
        >>> from passband.data import from_uint8
        >>> from_uint8(torch.tensor([0, 255], dtype=torch.uint8)).tolist()
        [-1.0, 1.0]

    """
    if not isinstance(pixels, Tensor) or pixels.dtype != torch.uint8:
        got = pixels.dtype if isinstance(pixels, Tensor) else type(pixels).__name__
        raise TypeError(f"pixels must be a uint8 tensor, got {got}; floats in [-1, 1] become pixels by to_uint8")
    return pixels.to(torch.float32) / 127.5 - 1.0


def to_uint8(x: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Floats in [-1, 1] to pixels 0 … 255, rounded to the nearest and clamped; the inverse of `from_uint8`.

    Args:
        x: real floating tensor of any shape; values outside [-1, 1] are clamped.

    Returns:
        Pixels of the same shape, uint8.

    Raises:
        TypeError: if x is not floating.
        ValueError: if a value is NaN: no pixel stands for it.

    Example:
        >>> import torch
        >>> from passband.data import to_uint8
        >>> to_uint8(torch.tensor([-1.0, 0.0, 1.0, 3.0])).tolist()
        [0, 128, 255, 255]

    """
    check_floating("x", x)
    if x.isnan().any():
        raise ValueError(
            f"cannot turn NaN into pixels: {int(x.isnan().sum())} of {x.numel()} values are NaN; "
            "check the model and the sampler that made the image"
        )
    x = x.detach().to(torch.promote_types(x.dtype, torch.float32))
    return ((x + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)


def random_flip(x: Shaped[Tensor, "*batch width"], seed: int) -> Shaped[Tensor, "*batch width"]:
    """Mirror x left to right for one half of all seeds.

    Args:
        x: image, (..., height, width).
        seed: the sample's own seed, `seed_for(seed, position, "flip")`: the lowest bit decides.

    Example:
        >>> import torch
        >>> from passband.data import random_flip
        >>> x = torch.tensor([[1.0, 2.0]])
        >>> random_flip(x, seed=2).tolist(), random_flip(x, seed=3).tolist()
        ([[1.0, 2.0]], [[2.0, 1.0]])

    """
    return x.flip(-1) if seed % 2 else x


def save_image(x: Float[Tensor, "channels height width"], path: str | os.PathLike[str]) -> None:
    """Write one image as PNG, whole or not at all: a killed run leaves no half-written file under the name.

    Args:
        x: image in [-1, 1], 1 (gray) or 3 (RGB) channels; values outside are clamped.
        path: file to write, ending in .png; missing folders are made.

    Raises:
        TypeError: if x is not floating.
        ValueError: if x is not one image of 1 or 3 channels, holds NaN, or the name does not end in .png.
        OSError: if it cannot be written, the disk being full for instance.

    Example:
        >>> import tempfile, torch
        >>> from passband.data import ImageFolder, save_image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_image(torch.zeros(3, 8, 8), f"{folder}/0.png")
        ...     len(ImageFolder(folder, resolution=8))
        1

    """
    path = Path(path)
    if x.ndim != 3 or x.shape[0] not in (1, 3) or 0 in x.shape:
        raise ValueError(
            f"x must be one image of shape (1 or 3, height, width), got shape {tuple(x.shape)}; "
            "save the images of a batch one by one"
        )
    if path.suffix.lower() != ".png":
        raise ValueError(f"samples are written as PNG, got the name {path.name!r}; let it end in .png")
    pixels = to_uint8(x).permute(1, 2, 0).cpu().contiguous().numpy()
    image = import_extra("PIL.Image", "train").fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    encoded = io.BytesIO()
    image.save(encoded, format="PNG")
    with written_whole(path, "this image was not written, earlier ones are; free some space", synced=False) as partial:
        partial.write_bytes(encoded.getvalue())
