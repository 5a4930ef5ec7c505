"""Bands of DCT frequencies in cycles per pixel, which mean the same at every resolution."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from passband._checks import check_floating
from passband.transforms import radial_grid

Band = tuple[float, float]

#: Bands are half octaves above this frequency, where the detail is that models get wrong, and octaves below it.
_HALF_OCTAVES_FROM = 1 / 16
_TOP = 0.5
_ROUNDING = 1e-9


class PixelBands:
    r"""Octaves of the DCT's radius, counted from the top in cycles per pixel; half octaves from 1/16 up.

    A coefficient $k$ of a field of sides $n_i$ has the frequency $\sqrt{\sum_i (k_i / 2 n_i)^2}$. The highest band
    holds the corners of the plane, beyond 1/2 cycle per pixel: a fifth of all coefficients of an image, at which a loss
    pulls like at any others. The lowest holds the mean alone, frequency 0: the brightness of an image. Bands that hold
    no coefficient are left out.

    Args:
        size: spatial shape of the samples, 1 to 3 sides.

    Attributes:
        size: of the samples.
        edges: (low, high) of each band in cycles per pixel, lowest first; a band holds low < f <= high, and that of the
            mean is (0, 0).
        index: the band of every coefficient, of the shape `size`.
        counts: coefficients of each band.

    Raises:
        ValueError: if the size is none, or has no frequency but 0.

    Example:
        >>> from passband.metrics import PixelBands
        >>> PixelBands((16, 16)).labels()
        ('mean', '1/64–1/32', '1/32–1/16', '1/16–1/11.3', '1/11.3–1/8', '1/8–1/5.7', '1/5.7–1/4', '1/4–1/2.8', '1/2.8–1/2', 'corners')

    """  # noqa: E501

    def __init__(self, size: Sequence[int]) -> None:
        radius = radial_grid(size, "dct") / (2 * min(size))
        self.size = tuple(size)
        if not bool((radius > 0).any()):
            raise ValueError(f"samples of size {self.size} have no frequency beside their mean: take larger ones")
        ends = _limits(float(radius[radius > 0].min()), float(radius.max()))
        place = torch.bucketize(radius - _ROUNDING, torch.tensor(ends, dtype=torch.float64)).masked_fill(radius == 0, 0)
        counts = torch.bincount(place.flatten(), minlength=len(ends))
        bands = [(0.0, 0.0), *pairwise(ends)]
        kept = counts > 0
        self.index: Tensor = (kept.cumsum(0) - 1)[place]
        self.counts: Tensor = counts[kept]
        self.edges: tuple[Band, ...] = tuple(band for band, held in zip(bands, kept.tolist(), strict=True) if held)
        self._members: dict[torch.device, Tensor] = {}

    def __len__(self) -> int:
        return len(self.edges)

    def sums(self, power: Float[Tensor, "*batch_and_frequencies"]) -> Float64[Tensor, "*batch bands"]:
        r"""Sums over the coefficients of each band, in float64 on the CPU.

        Args:
            power: (\*batch, \*size), any number of leading axes.

        Raises:
            TypeError: if power is not floating.
            ValueError: if it does not end in the bands' size.

        """
        check_floating("power", power)
        dims = len(self.size)
        if tuple(power.shape[-dims:]) != self.size:
            raise ValueError(f"power must end in the size {self.size} of the bands, got {tuple(power.shape)}")
        members = self._members_on(power.device)
        sums: Tensor = torch.flatten(power, -dims).to(members.dtype) @ members
        return sums.cpu().double()

    def labels(self) -> tuple[str, ...]:
        """The bands in words, such as `1/4–1/2.8`, cycles per pixel."""
        return tuple(band_label(band) for band in self.edges)

    def _members_on(self, device: torch.device) -> Tensor:
        """Which coefficient is in which band, (coefficients, bands)."""
        if device not in self._members:
            wide = torch.float32 if device.type == "mps" else torch.float64
            rows = torch.arange(len(self.edges))
            self._members[device] = (self.index.flatten()[:, None] == rows).to(device, wide)
        return self._members[device]


def band_label(band: Band) -> str:
    """A band in words, in cycles per pixel: `1/4–1/2.8`; `corners` beyond 1/2, `mean` for frequency 0."""
    if band[1] <= 0:
        return "mean"
    if band[0] >= _TOP:
        return "corners"
    return "–".join(f"1/{round(1 / edge, 1):g}" for edge in band)


def _limits(lowest: float, highest: float) -> list[float]:
    """The ends of all bands, rising: octaves, from 1/16 up half ones, and the corners."""
    halves = 2 * round(math.log2(_TOP / _HALF_OCTAVES_FROM))
    found = [_TOP * (2.0 ** -(i // 2) if i % 2 == 0 else 2.0 ** (-i / 2)) for i in range(halves + 1)]
    while found[-1] >= lowest - _ROUNDING:
        found.append(found[-1] / 2)
    beyond = [highest] if highest > _TOP + _ROUNDING else []
    return [*reversed(found), *beyond]
