"""Decoding Spectrum Matching: one block-DCT low-pass on image and latent alike."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from passband._checks import check_batch, check_integer
from passband._numerics import no_autocast
from passband._seeds import seed_for
from passband._tables import Table, precise
from passband.matching._draws import CountedDraws
from passband.transforms import block_dct, block_idct

Image = Float[Tensor, "batch channels *spatial"]
Latent = Float[Tensor, "batch latent_channels *latent_spatial"]

CORNERS: tuple[int, ...] = (0, 8, 10, 12)
"""The paper's corners; 0 leaves everything."""

_LARGEST_CORNER = 14


def dsm_mask(image: Image, latent: Latent, corner: int, *, block: int = 8) -> tuple[Image, Latent]:
    r"""The same low-pass on image and latent: the decoder must turn the masked latent into the masked image.

    In every 8 x 8 block the DCT coefficients with $u + v \ge 15 - k$ are set to 0. A side that the block does not
    divide takes the largest block from half of it up that does, or else the whole side; indices of a block of side m
    count as $7 u / (m - 1)$, so k = 0 masks nothing whatever the sides, and k = 14 all but the mean of a block of up to
    8.

    Args:
        image: (batch, channels, \*spatial), 1 to 3 spatial axes (with d axes, sums of indices count $2 / d$ times).
        latent: its latent, (batch, channels, \*spatial); it may be of another size and number of channels.
        corner: k, 0 to 14; see [`draw_corner`][passband.matching.draw_corner].
        block: side of the blocks, at least 1.

    Returns:
        Both, masked, of their own shapes and dtypes; computed in at least float32.

    Raises:
        TypeError: if an input is not floating, or corner or block not an integer.
        ValueError: if the batches or numbers of axes differ, corner is not in 0 to 14 or block is below 1.

    Example:
        >>> import torch
        >>> from passband import dsm_mask
        >>> image, latent = dsm_mask(torch.randn(2, 3, 64, 64), torch.randn(2, 4, 8, 8), 12)
        >>> image.shape, latent.shape
        (torch.Size([2, 3, 64, 64]), torch.Size([2, 4, 8, 8]))

    Source: Spectrum Matching (arXiv:2603.14645), Decoding Spectrum Matching.
    """
    check_batch("image", image)
    check_batch("latent", latent)
    if image.ndim != latent.ndim or image.shape[0] != latent.shape[0]:
        raise ValueError(
            "image and latent must have the same batch and number of axes, "
            f"got {tuple(image.shape)} and {tuple(latent.shape)}"
        )
    return dsm_low_pass(image, corner, block=block), dsm_low_pass(latent, corner, block=block)


def dsm_low_pass(
    field: Float[Tensor, "batch channels *spatial"], corner: int, *, block: int = 8
) -> Float[Tensor, "batch channels *spatial"]:
    r"""What [`dsm_mask`][passband.matching.dsm_mask] does to each of the two.

    Args:
        field: (batch, channels, \*spatial), 1 to 3 spatial axes.
        corner: k, 0 to 14.
        block: side of the blocks, at least 1.

    Returns:
        The masked field, of its own shape and dtype.

    Raises:
        TypeError: if field is not floating, or corner or block not an integer.
        ValueError: for a wrong number of axes, a corner that is not in 0 to 14 or a block below 1.

    Example:
        >>> import torch
        >>> from passband.matching import dsm_low_pass
        >>> x = torch.arange(16.0).reshape(1, 1, 16)
        >>> dsm_low_pass(x, 14).squeeze()[[0, 7, 8, 15]].round(decimals=4).tolist()  # the mean of each block
        [3.5, 3.5, 11.5, 11.5]

    """
    check_batch("field", field)
    check_corner(corner)
    sides = block_sides(tuple(field.shape[2:]), block)
    if corner == 0:
        return field
    spectrum = block_dct(field, sides)
    kept = _MASKS((int(corner), *sides), spectrum.dtype, spectrum.device)
    with no_autocast(spectrum):
        return block_idct(spectrum * kept).to(field.dtype)


def draw_corner(seed: int, step: int, corners: Sequence[int] = CORNERS) -> int:
    """One corner for a whole step, the same on all ranks and after a restart.

    Args:
        seed: the run's seed.
        step: the training step.
        corners: what to draw from, all equally likely; each 0 to 14.

    Returns:
        One of the corners.

    Raises:
        TypeError: if seed, step or a corner is not an integer.
        ValueError: if corners is empty, or one is not in 0 to 14.

    Example:
        >>> from passband.matching import draw_corner
        >>> [draw_corner(0, step) for step in range(8)]
        [8, 10, 8, 10, 12, 0, 8, 10]

    """
    choices = _checked_corners(corners)
    return choices[seed_for(seed, step, "dsm") % len(choices)]


class DSM(CountedDraws):
    """[`dsm_mask`][passband.matching.dsm_mask] with a corner drawn at every step.

    Args:
        corners: what to draw from, each 0 to 14.
        block: side of the blocks, at least 1.
        seed: the run's seed; give all ranks the same.

    Raises:
        TypeError: if an argument is of another kind than above.
        ValueError: if corners is empty, one is not in 0 to 14, or block is below 1.

    Example:
        >>> import torch
        >>> from passband.matching import DSM
        >>> dsm = DSM(seed=0)
        >>> image, latent = dsm(torch.randn(2, 3, 64, 64), torch.randn(2, 4, 8, 8))
        >>> dsm.state_dict()["_extra_state"].item()  # calls so far: a resumed run goes on from here
        1

    """

    def __init__(self, corners: Sequence[int] = CORNERS, *, block: int = 8, seed: int = 0) -> None:
        super().__init__(seed)
        self.corners = _checked_corners(corners)
        _check_block(block)
        self.block = block

    def forward(self, image: Image, latent: Latent, step: int | None = None) -> tuple[Image, Latent]:
        r"""Mask both with the corner of a step.

        Args:
            image: (batch, channels, \*spatial).
            latent: its latent, (batch, channels, \*spatial).
            step: the training step; None: the number of calls so far, which the state dict keeps.

        Returns:
            Both, masked.

        """
        corner = draw_corner(self.seed, self.next_step(step), self.corners)
        return dsm_mask(image, latent, corner, block=self.block)

    def extra_repr(self) -> str:
        """Options, for the text of the module."""
        return f"corners={self.corners}, block={self.block}, seed={self.seed}"


def block_sides(size: tuple[int, ...], block: int = 8) -> tuple[int, ...]:
    """The block's side along each axis: the largest divisor from block/2 to block, or else the whole side."""
    _check_block(block)
    return tuple(
        next((side for side in range(min(block, n), (block + 1) // 2 - 1, -1) if side and n % side == 0), n)
        for n in size
    )


def _mask(size: tuple[int, ...], device: torch.device) -> Tensor:
    """1 where a coefficient stays, 0 where it goes; size is (corner, *sides)."""
    corner, *sides = size
    dtype = precise(device)
    waves = sum(side > 1 for side in sides)  # a side of 1 has no wave
    total = torch.zeros((), dtype=dtype, device=device)
    for axis, side in enumerate(sides):
        index = torch.arange(side, device=device).to(dtype) * (_LARGEST_CORNER / (max(waves, 1) * max(side - 1, 1)))
        total = total + index.reshape([-1 if i == axis else 1 for i in range(len(sides))])
    return (total < 15 - corner - 1e-9).to(dtype)


_MASKS = Table[tuple[int, ...]](_mask, largest=64)


def check_corner(corner: int) -> None:
    """Raise unless corner is a whole number from 0 to 14."""
    check_integer("corner", corner)
    if not 0 <= corner <= _LARGEST_CORNER:
        raise ValueError(f"corner must be 0 (no mask) to 14 (the mean of each block alone), got {corner}")


def _check_block(block: int) -> None:
    check_integer("block", block)
    if block < 1:
        raise ValueError(f"block must be at least 1, got {block}; the paper uses 8")


def _checked_corners(corners: Sequence[int]) -> tuple[int, ...]:
    if not isinstance(corners, Sequence):
        raise TypeError(f"corners must be a sequence of whole numbers such as {CORNERS}, got {corners!r}")
    if not corners:
        raise ValueError(f"corners is empty; give at least one, such as {CORNERS}")
    for corner in corners:
        check_corner(corner)
    return tuple(int(corner) for corner in corners)
