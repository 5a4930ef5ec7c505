"""Fields of tokens: their order as sequences, and their resampling to another grid."""

import torch
from torch import Tensor

from passband._checks import check_batch
from passband._numerics import no_autocast, upcast


def check_tokens(name: str, tokens: Tensor, width: int, batch: int | None = None) -> None:
    """Raise unless tokens is a field of the expected width (and batch)."""
    check_batch(name, tokens)
    if tokens.shape[1] != width or (batch is not None and tokens.shape[0] != batch):
        wanted = f"({'batch' if batch is None else batch}, {width}, *grid)"
        raise ValueError(
            f"{name} must have shape {wanted}, got {tuple(tokens.shape)}; a sequence (batch, length, width) becomes a "
            "field by tokens.transpose(1, 2).unflatten(2, grid)"
        )


def resampled(name: str, tokens: Tensor, grid: tuple[int, ...]) -> Tensor:
    """The tokens on another grid: bilinear, antialiased where it is smaller."""
    own = tuple(tokens.shape[2:])
    if own == grid:
        return tokens
    if len(own) != len(grid) or len(own) > 2:
        raise ValueError(
            f"{name} has grid {own}, which cannot be resampled to {grid}; both must have the same 1 or 2 axes"
        )
    line = len(own) == 1
    with no_autocast(tokens):
        (tokens,) = upcast(tokens)
        plane = tokens.unsqueeze(-1) if line else tokens
        size = (*grid, 1) if line else grid
        plane = torch.nn.functional.interpolate(plane, size=size, mode="bilinear", align_corners=False, antialias=True)
        return plane.squeeze(-1) if line else plane
