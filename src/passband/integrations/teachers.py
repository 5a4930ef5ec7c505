"""Teachers: frozen networks whose feature maps a representation is aligned with."""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from passband._checks import check_number, nearest
from passband._numerics import no_autocast
from passband.integrations._dinov2 import load_dinov2
from passband.integrations._named import PREFIX, make_module
from passband.integrations._resize import Resize, resized, shorter_side
from passband.metrics.features import full_float32, rgb
from passband.models.efficientnet import (
    BLOCK_WIDTHS,
    PIXEL_MEAN,
    PIXEL_STD,
    STRIDE,
    EfficientNetTrunk,
    check_block,
    load_efficientnet_lite0,
)

#: Of ImageNet's pixels 0 … 255, as most networks have been trained with.
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
LITE0_BLOCK = 10
"""The last block at stride 16: what objects consist of, still in its place."""
_LITE0, _DINOV2 = "efficientnet-lite0", "dinov2"
_PROBE = 64
_STRETCH = math.log(1.5)


class Teacher(ABC):
    """Base of all teachers: uint8 pixels in, one float32 field per image out, without gradients."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Short, of letters, digits, `-` and `_`: what its features are called in files."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Channels of its fields."""

    @abstractmethod
    def __call__(
        self, pixels: UInt8[Tensor, "batch channels height width"]
    ) -> Float32[Tensor, "batch features rows columns"]:
        """Fields of a batch of pixels 0 … 255."""

    def to(self, device: torch.device | str) -> "Teacher":
        """Move the network to a device, and return self."""
        return self


class ModuleTeacher(Teacher):
    r"""Any `nn.Module` as a teacher.

    The module gets $(x - \text{mean}) / \text{std}$, x the pixels 0 … 255, gray images repeated to three channels. It
    returns fields (batch, width, rows, columns), or tokens (batch, length, width) in reading order, without class or
    register tokens, which are folded to the grid of `length` positions that comes closest to the image's shape. It is
    put into evaluation mode and frozen.

    Resizing is bicubic with an antialiasing filter, before the normalisation, without rounding.

    Args:
        module: the network.
        name: what its features are called; other characters than letters, digits, `-` and `_` become `-`.
        mean: of the pixels 0 … 255, one number or one per channel.
        std: likewise, positive.
        resize: length that an image's shorter side is given, or a function of (height, width) that returns both new
            sides; None keeps the size.
        width: channels of the fields; None asks the module with one black image.
        dtype: what the network computes in; bfloat16 or float16 by autocast. The fields are float32.

    Raises:
        TypeError: if an option is of the wrong type; when called, if the pixels are not uint8.
        ValueError: if an option is out of range; when called, if the module returns neither fields nor tokens that
            fit the image's shape.

    Example:
        >>> import torch
        >>> from passband.integrations.teachers import ModuleTeacher
        >>> teacher = ModuleTeacher(torch.nn.Conv2d(3, 8, 16, stride=16), "patches")
        >>> teacher(torch.zeros(2, 3, 48, 64, dtype=torch.uint8)).shape, teacher.width
        (torch.Size([2, 8, 3, 4]), 8)

    """

    def __init__(
        self,
        module: nn.Module,
        name: str,
        mean: float | Sequence[float] = IMAGENET_MEAN,
        std: float | Sequence[float] = IMAGENET_STD,
        resize: int | Resize | None = None,
        *,
        width: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise TypeError(f"module must be an nn.Module, got {type(module).__name__}")
        self.module = module.eval().requires_grad_(False)
        self._name = _file_safe(name)
        self._device = next((p.device for p in module.parameters()), torch.device("cpu"))
        self._mean, self._std = (_per_channel(*given).to(self._device) for given in (("mean", mean), ("std", std)))
        if not (self._std > 0).all():
            raise ValueError(f"std must be positive, got {std}")
        self._resize = resize if callable(resize) or resize is None else shorter_side(resize)
        self._width, self._dtype = width, dtype

    @property
    def name(self) -> str:
        """What its features are called in files."""
        return self._name

    @property
    def width(self) -> int:
        """Channels of its fields."""
        if self._width is None:
            self(torch.zeros(1, 3, _PROBE, _PROBE, dtype=torch.uint8))
        assert self._width is not None
        return self._width

    def to(self, device: torch.device | str) -> "ModuleTeacher":
        """Move the network to a device, and return self."""
        self._device = torch.device(device)
        self._mean, self._std = self._mean.to(self._device), self._std.to(self._device)
        self.module.to(self._device)
        return self

    @torch.no_grad()
    def __call__(
        self, pixels: UInt8[Tensor, "batch channels height width"]
    ) -> Float32[Tensor, "batch features rows columns"]:
        """Fields of a batch of pixels 0 … 255, on the network's device."""
        pixels = rgb(pixels)
        x = pixels.to(self._device).float()
        with no_autocast(x), full_float32(x):
            x = resized(x, self._resize)
            x = (x - self._mean) / self._std
            with torch.autocast(x.device.type, self._dtype, enabled=self._dtype != torch.float32):
                output = self.module(x)
        height, width = x.shape[2:]
        fields = self._fields(output, len(pixels), height, width).float()
        self._width = fields.shape[1]
        return fields

    def _fields(self, output: Any, batch: int, height: int, width: int) -> Tensor:
        if not isinstance(output, Tensor):
            raise TypeError(f"the teacher {self.name!r} must return a tensor, got {type(output).__name__}; wrap it")
        if output.ndim not in (3, 4) or len(output) != batch or 0 in output.shape[1:]:
            raise ValueError(
                f"the teacher {self.name!r} must return fields ({batch}, width, rows, columns) or tokens "
                f"({batch}, length, width), got shape {tuple(output.shape)}"
            )
        if output.ndim == 3:
            grid = self._grid(output.shape[1], height, width)
            output = output.transpose(1, 2).reshape(batch, -1, *grid)
        channels = output.shape[1]
        if self._width not in (None, channels):
            raise ValueError(f"the teacher {self.name!r} must return {self._width} channels, got {channels}")
        fields: Tensor = output
        return fields

    def _grid(self, length: int, height: int, width: int) -> tuple[int, int]:
        pairs = [(rows, length // rows) for rows in range(1, length + 1) if length % rows == 0]
        stretch, grid = min(
            (abs(math.log(rows * width / (columns * height))), (rows, columns)) for rows, columns in pairs
        )
        if stretch > _STRETCH:
            raise ValueError(
                f"the {length} tokens of the teacher {self.name!r} make no grid of an image of {height}x{width}; "
                "return the tokens of its patches alone, without class or register tokens, or fields"
            )
        return grid


def load_teacher(spec: str, device: torch.device | str = "cpu", *, dtype: torch.dtype = torch.float32) -> ModuleTeacher:
    """A teacher by name.

    | spec | what |
    |---|---|
    | `efficientnet-lite0:N` | the map of block N, 0 … 15, ImageNet weights; without `:N` block 10 |
    | `dinov2:PATH` | DINOv2's normed patch tokens, from a folder that transformers has saved |
    | `module:package.name` | the module that this function without arguments returns |

    Each may end in `@SIDE`: the image is resized until its shorter side is SIDE.

    **EfficientNet-Lite0** needs no download (extra `eval`). Its blocks are 0 (16 channels) at stride 2; 1, 2 (24) at 4;
    3, 4 (40) at 8; 5 … 7 (80) and 8 … 10 (112) at 16; 11 … 14 (192) and 15 (320) at 32. An image keeps its size, a
    side under 32 is enlarged to it.

    **DINOv2**, with registers or without, gets one patch of 14 pixels for every 16 of the image, as in REPA: 256 x 256
    becomes 224 x 224, and 48 x 64 becomes 42 x 56. With `@SIDE` both sides are rounded to whole patches. The class
    token and the registers are left out.

    **A module** gets images of their own size, normalised as ImageNet's pixels, and returns fields or tokens, see
    [`ModuleTeacher`][passband.integrations.teachers.ModuleTeacher].

    Args:
        spec: see the table.
        device: where the network runs.
        dtype: what it computes in; bfloat16 or float16 by autocast.

    Raises:
        FileNotFoundError: if a path does not exist.
        ImportError: if a module's package cannot be imported.
        MissingExtraError: if EfficientNet's wheels, or transformers, are not installed.
        TypeError: if a module's function returns something else.
        ValueError: if spec is none of these, or a folder does not hold what it should.

    Example:
        >>> import torch
        >>> from passband.integrations.teachers import load_teacher
        >>> teacher = load_teacher("efficientnet-lite0")
        >>> teacher(torch.zeros(2, 3, 48, 64, dtype=torch.uint8)).shape, teacher.name
        (torch.Size([2, 112, 3, 4]), 'efficientnet-lite0-10')

    Source:
        Tan & Le, arXiv:1905.11946; Oquab et al., arXiv:2304.07193; REPA: Yu et al., arXiv:2410.06940.

    """
    text, side = _split_side(spec)
    kind, _, rest = text.partition(":")
    if kind == _LITE0:
        teacher = _lite0(spec, rest, side, dtype)
    elif kind == _DINOV2 and rest:
        network, resize, width = load_dinov2(Path(rest), side)
        teacher = ModuleTeacher(
            network, _named(f"{kind}-{Path(rest).resolve().name}", side), resize=resize, width=width, dtype=dtype
        )
    elif text.startswith(PREFIX):
        teacher = ModuleTeacher(make_module(text), _named(rest, side), resize=side, dtype=dtype)
    else:
        raise ValueError(
            f"unknown teacher: got {spec!r}{nearest(kind, [_LITE0, _DINOV2])}; expected {_LITE0}[:BLOCK], "
            f"{_DINOV2}:FOLDER or {PREFIX}package.name, each with @SIDE behind it or without"
        )
    return teacher.to(device)


def _lite0(spec: str, layer: str, side: int | None, dtype: torch.dtype) -> ModuleTeacher:
    if layer and not layer.isdecimal():
        raise ValueError(f"unknown block in {spec!r}; write {_LITE0}:N with N a block 0 … {len(BLOCK_WIDTHS) - 1}")
    block = int(layer or LITE0_BLOCK)
    check_block(f"the block of {spec!r}", block)
    network, _ = load_efficientnet_lite0()
    least = max(STRIDE, side or 0)

    def resize(height: int, width: int) -> tuple[int, int]:
        return (height, width) if side is None and min(height, width) >= least else shorter_side(least)(height, width)

    trunk = EfficientNetTrunk(network, block)
    return ModuleTeacher(
        trunk, _named(f"{_LITE0}-{block}", side), PIXEL_MEAN, PIXEL_STD, resize, width=BLOCK_WIDTHS[block], dtype=dtype
    )


def _split_side(spec: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(.+)@(\d+)", spec)
    if match is None:
        return spec, None
    if int(match[2]) < 1:
        raise ValueError(f"@SIDE must be at least 1, got {spec!r}")
    return match[1], int(match[2])


def _named(name: str, side: int | None) -> str:
    return name if side is None else f"{name}-{side}"


def _file_safe(name: str) -> str:
    safe = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")
    if not safe:
        raise ValueError(f"a teacher's name must have a letter or a digit, got {name!r}")
    return safe


def _per_channel(name: str, value: float | Sequence[float]) -> Tensor:
    values = list(value) if isinstance(value, Sequence) else [value]
    for number in values:
        check_number(name, number)
    if len(values) not in (1, 3):
        raise ValueError(f"{name} must be one number or three, one per channel; got {len(values)}")
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)
