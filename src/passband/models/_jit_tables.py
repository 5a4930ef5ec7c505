"""Where a token is: fixed tables of a transformer on a grid of patches."""

import torch
from torch import Tensor

_PERIOD = 10_000.0


def position_table(rows: int, columns: int, width: int) -> Tensor:
    """Added sines and cosines, (1, rows * columns, width) in float32: first half for the column, second for the row.

    Args:
        rows: of the grid.
        columns: of the grid.
        width: of the tokens, a multiple of 4.

    """
    exponents = torch.arange(width // 4, dtype=torch.float64, device="cpu") / (width // 4)
    frequencies = _PERIOD**-exponents
    row, column = _grid(rows, columns)
    halves = []
    for index in (column, row):
        phases = index[:, None] * frequencies
        halves += [phases.sin(), phases.cos()]
    return torch.cat(halves, dim=1)[None].float()


def rotary_table(rows: int, columns: int, head_dim: int, context: int = 0) -> Tensor:
    """Cosines and sines of the rotations, (2, context + rows * columns, head_dim / 2) in float32.

    The first half of the pairs turns with the row, the second with the column; context tokens are not turned.

    Args:
        rows: of the grid.
        columns: of the grid.
        head_dim: width of an attention head, a multiple of 4.
        context: number of tokens before those of the grid.

    """
    pairs = head_dim // 4
    frequencies = _PERIOD ** -(torch.arange(pairs, dtype=torch.float64, device="cpu") / pairs)
    row, column = _grid(rows, columns)
    angles = torch.cat([row[:, None] * frequencies, column[:, None] * frequencies], dim=1)
    angles = torch.cat([angles.new_zeros(context, 2 * pairs), angles])
    return torch.stack([angles.cos(), angles.sin()]).float()


def _grid(rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Row and column of each token, row by row."""
    tokens = torch.arange(rows * columns, device="cpu")
    return (tokens // columns).double(), (tokens % columns).double()
