"""Checkerboards: images of ±1 whose spectrum is known exactly."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float32
from torch import Tensor
from torch.utils.data import Dataset

from passband._checks import check_integer, is_integer
from passband._seeds import seed_for

DEFAULT_CELLS = (4, 8, 16)


def _check_cells(size: int, cells: Sequence[int]) -> tuple[int, ...]:
    check_integer("size", size)
    if not isinstance(cells, Sequence) or not all(is_integer(cell) for cell in cells):
        raise TypeError(f"cells must be a sequence of cell sizes in whole pixels, got {cells!r}; for one pass (8,)")
    cells = tuple(cells)
    if not cells or len(set(cells)) != len(cells):
        raise ValueError(f"cells must be distinct cell sizes, at least one, got {cells}")
    bad = [cell for cell in cells if cell < 1 or size < 1 or size % (2 * cell)]
    if bad:
        allowed = [cell for cell in range(1, size // 2 + 1) if size % (2 * cell) == 0]
        raise ValueError(
            f"a cell size must divide half the image's size, so that the board is periodic in it; "
            f"got cells {bad} for size {size}; expected some of {allowed}"
        )
    return cells


def _wave(size: int, cells: Tensor, offsets: Tensor) -> Tensor:
    """Square waves of ±1, (count, size): sign flips every cell, shifted by the offset."""
    position = torch.arange(size) + offsets[:, None]
    return 1.0 - 2.0 * (position // cells[:, None] % 2).to(torch.float32)


def _boards(size: int, placements: Sequence[tuple[int, int, int]]) -> Tensor:
    """Boards (count, 1, size, size) from (cell, row offset, column offset)."""
    cell, row, column = torch.tensor(list(placements), dtype=torch.int64).reshape(-1, 3).unbind(1)
    return (_wave(size, cell, row)[:, :, None] * _wave(size, cell, column)[:, None, :]).unsqueeze(1)


def _placement(cells: tuple[int, ...], seed: int, index: int) -> tuple[int, int, int]:
    cell = cells[seed_for(seed, index, "checkerboard cell") % len(cells)]
    row = seed_for(seed, index, "checkerboard row") % (2 * cell)
    column = seed_for(seed, index, "checkerboard column") % (2 * cell)
    return cell, row, column


def checkerboards(
    count: int,
    size: int = 64,
    cells: Sequence[int] = DEFAULT_CELLS,
    *,
    channels: int = 1,
    seed: int = 0,
    start: int = 0,
) -> Float32[Tensor, "count channels size size"]:
    r"""The checkerboards number start … start + count - 1 of a seed.

    $x(v, u) = (-1)^{\lfloor (v+a)/c \rfloor + \lfloor (u+b)/c \rfloor}$, the cell size c uniform over `cells`, the
    offsets a and b uniform over 0 … 2c - 1. Image i depends on (seed, i) alone.

    Args:
        count: number of images.
        size: height and width in pixels.
        cells: the cell sizes to draw from, in pixels, each a divisor of size / 2: the board is then periodic in the
            image, and its DFT lies on odd multiples of size / (2c) exactly.
        channels: copies of the board along the channel axis.
        seed: any integer.
        start: index of the first image.

    Returns:
        Images of exactly ±1.

    Raises:
        TypeError: if size is no integer or cells no sequence of them.
        ValueError: if a cell size does not divide size / 2 or occurs twice; if there is none; if a number is too small.

    Example:
        >>> from passband.data import checkerboards
        >>> x = checkerboards(3, size=16, cells=(2, 4))
        >>> tuple(x.shape), x.unique().tolist(), x.mean().item()
        ((3, 1, 16, 16), [-1.0, 1.0], 0.0)

    """
    cells = _check_cells(size, cells)
    if count < 0 or channels < 1:
        raise ValueError(f"expected count >= 0 and channels >= 1, got count {count} and channels {channels}")
    boards = _boards(size, [_placement(cells, seed, index) for index in range(start, start + count)])
    return boards.repeat(1, channels, 1, 1)


def checkerboard_patterns(
    size: int = 64, cells: Sequence[int] = DEFAULT_CELLS
) -> Float32[Tensor, "patterns 1 size size"]:
    """Every checkerboard that can be drawn, each once: 2c² per cell size c.

    Of the (2c)² offsets half repeat the other half: moving the board by one cell along both axes changes nothing.

    Args:
        size: height and width in pixels.
        cells: the cell sizes, each a divisor of size / 2.

    Raises:
        TypeError: as [`checkerboards`][passband.data.checkerboards].
        ValueError: as [`checkerboards`][passband.data.checkerboards].

    Example:
        >>> from passband.data import checkerboard_patterns
        >>> tuple(checkerboard_patterns(size=16, cells=(2, 4)).shape)
        (40, 1, 16, 16)

    """
    cells = _check_cells(size, cells)
    return _boards(size, [(c, row, column) for c in cells for row in range(c) for column in range(2 * c)])


def checkerboard_support(size: int = 64, cells: Sequence[int] = DEFAULT_CELLS) -> Bool[Tensor, "size half"]:
    """Where the DFT of these checkerboards is not zero: odd multiples of size / (2c) along both axes, for any c.

    Args:
        size: height and width in pixels.
        cells: the cell sizes, each a divisor of size / 2.

    Returns:
        Mask over the half spectrum of [`rfftn`][passband.transforms.rfftn], (size, size // 2 + 1).

    Raises:
        TypeError: as [`checkerboards`][passband.data.checkerboards].
        ValueError: as [`checkerboards`][passband.data.checkerboards].

    Example:
        >>> from passband.data import checkerboard_support
        >>> checkerboard_support(size=8, cells=(2,)).nonzero().tolist()
        [[2, 2], [6, 2]]

    """
    cells = _check_cells(size, cells)
    support = torch.zeros(size, size // 2 + 1, dtype=torch.bool)
    for cell in cells:
        step = size // (2 * cell)
        odd = torch.arange(size) % (2 * step) == step
        support |= odd[:, None] & odd[None, : size // 2 + 1]
    return support


class Checkerboard(Dataset[Tensor]):
    """Checkerboards as a map-style dataset; item i is image i of [`checkerboards`][passband.data.checkerboards].

    Args:
        size: height and width in pixels.
        cells: the cell sizes to draw from, each a divisor of size / 2.
        channels: copies of the board along the channel axis.
        length: number of images.
        seed: any integer; another seed gives other images.

    Raises:
        TypeError: as `checkerboards`.
        ValueError: as `checkerboards`, or if length is under 1.

    Example:
        >>> from passband.data import Checkerboard
        >>> data = Checkerboard(size=32, length=100)
        >>> len(data), tuple(data[99].shape)
        (100, (1, 32, 32))

    """

    def __init__(
        self,
        size: int = 64,
        cells: Sequence[int] = DEFAULT_CELLS,
        channels: int = 1,
        length: int = 50_000,
        seed: int = 0,
    ) -> None:
        if length < 1 or channels < 1:
            raise ValueError(f"length and channels must be at least 1, got length {length} and channels {channels}")
        self.size = size
        self.cells = _check_cells(size, cells)
        self.channels = channels
        self.length = length
        self.seed = seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Float32[Tensor, "channels size size"]:
        if not 0 <= index < self.length:
            raise IndexError(f"index {index} is out of range for {self.length} checkerboards")
        return checkerboards(1, self.size, self.cells, channels=self.channels, seed=self.seed, start=index)[0]
