"""EQ-VAE's scale and rotation: the same transform on image and latent."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from passband._checks import check_batch, check_choice, check_integer, check_number, check_pair
from passband._numerics import no_autocast, upcast
from passband._seeds import seed_for
from passband.matching._draws import CountedDraws

Image = Float[Tensor, "batch channels height width"]
Latent = Float[Tensor, "batch latent_channels latent_height latent_width"]
NewImage = Float[Tensor, "batch channels new_height new_width"]
NewLatent = Float[Tensor, "batch latent_channels new_latent_height new_latent_width"]
Resize = Literal["bicubic", "bilinear"]

_DRAWS = 2.0**63


def eq_transform(
    image: Image, latent: Latent, scale: int | float, turns: int, *, mode: Resize = "bicubic"
) -> tuple[NewImage, NewLatent]:
    """Scale and rotate image and latent alike: the decoder must turn the one into the other.

    The latent is resized to the whole number of positions nearest to `scale` times its sides (at least 1), the image to
    exactly the decoder's factor times that, both antialiased; then both are turned.

    Args:
        image: (batch, channels, height, width).
        latent: its latent; each of its sides must divide the image's.
        scale: factor of the sides, above 0; EQ-VAE draws 0.25 to 1.
        turns: rotation in quarter turns, counterclockwise, any integer.
        mode: `bicubic` or `bilinear`.

    Returns:
        Both, transformed, in their own dtypes; computed in at least float32.

    Raises:
        TypeError: if an input is not floating, scale not a number or turns not an integer.
        ValueError: if batches differ, the latent's sides do not divide the image's, scale is not positive and finite,
            or the mode is unknown.

    Example:
        >>> import torch
        >>> from passband.matching import eq_transform
        >>> image, latent = eq_transform(torch.randn(2, 3, 64, 96), torch.randn(2, 4, 8, 12), 0.6, turns=1)
        >>> image.shape, latent.shape
        (torch.Size([2, 3, 56, 40]), torch.Size([2, 4, 7, 5]))

    Source: EQ-VAE (arXiv:2502.09509).
    """
    check_number("scale", scale)
    check_integer("turns", turns)
    check_choice("mode", mode, get_args(Resize))
    if not 0 < scale < math.inf:
        raise ValueError(f"scale must be positive and finite, got {scale}")
    factors = _factors(image, latent)
    small = [max(1, math.floor(scale * n + 0.5)) for n in latent.shape[2:]]
    large = [n * factor for n, factor in zip(small, factors, strict=True)]
    return _transformed(image, large, turns, mode), _transformed(latent, small, turns, mode)


def draw_transform(
    seed: int,
    step: int,
    *,
    scale: Sequence[int | float] = (0.25, 1.0),
    turns: bool = True,
    probability: int | float = 0.5,
) -> tuple[float, int]:
    """One scale and rotation for a whole step, the same on all ranks and after a restart.

    Args:
        seed: the run's seed.
        step: the training step.
        scale: the range of scales, drawn uniformly.
        turns: whether to draw 0 to 3 quarter turns; else 0.
        probability: of a step with a transform at all; else the scale is 1 and the turns are 0.

    Returns:
        (scale, turns).

    Raises:
        TypeError: if an argument is of another kind than above.
        ValueError: if the range is not positive and rising, or probability not in 0 to 1.

    Example:
        >>> from passband.matching import draw_transform
        >>> scale, turns = draw_transform(0, 1, probability=1.0)
        >>> 0.25 <= scale <= 1, turns in (0, 1, 2, 3)
        (True, True)
        >>> draw_transform(0, 1, probability=0.0)
        (1.0, 0)

    Source: EQ-VAE (arXiv:2502.09509).
    """
    low, high = _checked_draw(scale, turns, probability)
    if seed_for(seed, step, "eq apply") / _DRAWS >= probability:
        return 1.0, 0
    drawn = low + (high - low) * (seed_for(seed, step, "eq scale") / _DRAWS)
    return drawn, seed_for(seed, step, "eq turns") % 4 if turns else 0


class EQ(CountedDraws):
    """[`eq_transform`][passband.matching.eq_transform] with a transform drawn at every step.

    Args:
        scale: the range of scales, drawn uniformly.
        turns: whether to draw quarter turns too.
        probability: of a step with a transform at all.
        mode: `bicubic` or `bilinear`.
        seed: the run's seed; give all ranks the same.

    Raises:
        TypeError: if an argument is of another kind than above.
        ValueError: if one is out of range.

    Example:
        >>> import torch
        >>> from passband.matching import EQ
        >>> image, latent = EQ(seed=0)(torch.randn(2, 3, 64, 64), torch.randn(2, 4, 8, 8))
        >>> image.shape[-1] == 8 * latent.shape[-1]
        True

    """

    def __init__(
        self,
        *,
        scale: Sequence[int | float] = (0.25, 1.0),
        turns: bool = True,
        probability: int | float = 0.5,
        mode: Resize = "bicubic",
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        self.scale = _checked_draw(scale, turns, probability)
        check_choice("mode", mode, get_args(Resize))
        self.turns, self.probability = turns, probability
        self.mode: Resize = mode

    def forward(self, image: Image, latent: Latent, step: int | None = None) -> tuple[NewImage, NewLatent]:
        """Transform both by the draw of a step.

        Args:
            image: (batch, channels, height, width).
            latent: its latent; each of its sides must divide the image's.
            step: the training step; None: the number of calls so far, which the state dict keeps.

        Returns:
            Both, transformed.

        """
        scale, turns = draw_transform(
            self.seed, self.next_step(step), scale=self.scale, turns=self.turns, probability=self.probability
        )
        return eq_transform(image, latent, scale, turns, mode=self.mode)

    def extra_repr(self) -> str:
        """Options, for the text of the module."""
        return f"scale={self.scale}, turns={self.turns}, probability={self.probability}, mode={self.mode!r}"


def _transformed(field: Tensor, size: list[int], turns: int, mode: str) -> Tensor:
    if list(field.shape[2:]) != size:
        (wide,) = upcast(field)
        with no_autocast(wide):
            resized = torch.nn.functional.interpolate(wide, size=size, mode=mode, align_corners=False, antialias=True)
        field = resized.to(field.dtype)
    return field.rot90(turns % 4, dims=(2, 3))


def _factors(image: Tensor, latent: Tensor) -> list[int]:
    check_batch("image", image, (2,))
    check_batch("latent", latent, (2,))
    if image.shape[0] != latent.shape[0]:
        raise ValueError(
            f"image and latent must have the same batch, got {tuple(image.shape)} and {tuple(latent.shape)}"
        )
    sides = list(zip(image.shape[2:], latent.shape[2:], strict=True))
    if any(large % small for large, small in sides):
        raise ValueError(
            f"the latent's sides must divide the image's, got an image of size {tuple(image.shape[2:])} and a latent "
            f"of size {tuple(latent.shape[2:])}; the image comes first, the latent second"
        )
    return [large // small for large, small in sides]


def _checked_draw(scale: Sequence[int | float], turns: bool, probability: float) -> tuple[float, float]:
    check_pair("scale", scale)
    low, high = (float(end) for end in scale)
    if not 0 < low <= high < math.inf:
        raise ValueError(f"scale must be a positive, rising range such as (0.25, 1.0), got {tuple(scale)}")
    if not isinstance(turns, bool):
        raise TypeError(f"turns must be True or False, got {turns!r}")
    check_number("probability", probability)
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must lie in 0 to 1, got {probability}")
    return low, high
