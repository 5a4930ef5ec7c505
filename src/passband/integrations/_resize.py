"""The sizes at which networks get their images."""

from collections.abc import Callable

from torch import Tensor, nn

from passband._checks import check_integer

#: The size an image is resized to, of its own: (height, width) to (height, width).
Resize = Callable[[int, int], tuple[int, int]]


def shorter_side(side: int) -> Resize:
    """The size at which the shorter side has this length."""
    check_integer("resize", side)
    if side < 1:
        raise ValueError(f"resize must be at least 1, got {side}")

    def resize(height: int, width: int) -> tuple[int, int]:
        short = min(height, width)
        return round(height * side / short), round(width * side / short)

    return resize


def resized(x: Tensor, resize: Resize | None) -> Tensor:
    """Images at the size that a function gives them, by bicubic interpolation with an antialiasing filter."""
    height, width = x.shape[2:]
    size = (height, width) if resize is None else resize(height, width)
    if size == (height, width):
        return x
    return nn.functional.interpolate(x, size=size, mode="bicubic", antialias=True, align_corners=False)
