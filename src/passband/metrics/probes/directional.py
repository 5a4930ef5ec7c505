"""Power of the gray plane by octave and direction of the wave."""

import math
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from passband.metrics.frequency_words import octave_name
from passband.metrics.planes import Planes
from passband.metrics.probes._octaves import frequency_octaves
from passband.transforms import band_pool, half_weights, radial_bins, radial_grid

SECTORS = 12


class DirectionalPower:
    r"""Mean power of the gray plane by octave and sector of 15°, (octaves, sectors); images and 2-d latents only.

    The angle is that of the wave vector, counted as the picture is seen: 0° for waves that run horizontally (vertical
    stripes), 45° for those that run from the lower left to the upper right, 90° vertically. Sector s is centred on
    15° s, so that what sampling and compression do along the axes falls into the middle of sectors 0 and 6. Octaves
    are those of radial bins; the lowest ones, in which a sector would be empty, are left out.

    Example:
        >>> import torch
        >>> from passband.metrics import Planes
        >>> from passband.metrics.probes import DirectionalPower
        >>> wave = torch.cos(0.75 * torch.pi * torch.arange(64.0)).expand(1, 1, 64, 64)  # from left to right
        >>> power = DirectionalPower()(Planes(wave))
        >>> tuple(power.shape), divmod(int(power.argmax()), 12)  # the top octave, 0 degrees
        ((1, 4, 12), (0, 0))

    """

    name, unit, least = "directions", "dB", 0.2
    axes: tuple[str, ...] = ("octave", "direction")
    compared = True

    def check(self, shape: tuple[int, ...]) -> bool:
        """Two spatial axes, large enough for every direction of the top octave."""
        return len(shape) == 3 and _octaves(shape[1:]) > 0

    def __call__(self, planes: Planes) -> Float[Tensor, "batch octaves sectors"]:
        """Power of each sample."""
        power, count = planes.gray_power, _octaves(planes.size)
        weights = half_weights(planes.size, dtype=power.dtype, device=power.device)
        cells = _cells(planes.size).to(power.device)
        return band_pool(power, cells, count * SECTORS, weights).reshape(len(power), count, SECTORS)

    def derive(self, block: Tensor) -> Tensor:
        """The mean power itself."""
        return block

    def labels(self, shape: tuple[int, ...]) -> tuple[tuple[str, ...], ...]:
        """The octaves in cycles per pixel, and the angles in degrees."""
        octaves = frequency_octaves(min(shape[1:]))[: _octaves(shape[1:])]
        return tuple(octave_name(octave) for octave in octaves), tuple(f"{15 * sector}°" for sector in range(SECTORS))


@lru_cache(maxsize=8)
def _cells(size: tuple[int, ...]) -> Int[Tensor, "height half"]:
    """The number octave · 12 + sector of every frequency of the half spectrum, on the CPU; -1 where it is in none."""
    frequency, sector = radial_bins(size).double() / min(size), _sectors(*size)
    # Beyond half a cycle per pixel along an axis a frequency and its mirror image are one: it has no direction.
    frequency[radial_grid(size) > min(size) / 2] = 1.0
    cells = torch.full(frequency.shape, -1)
    for number, (low, high) in enumerate(frequency_octaves(min(size))):
        inside = (frequency > low) & (frequency <= high)
        cells[inside] = number * SECTORS + sector[inside]
    return cells


def _sectors(height: int, width: int) -> Int[Tensor, "height half"]:
    """The sector of every frequency's angle; rows are numbered downwards, so the vertical frequency is turned."""
    vertical = -torch.fft.fftfreq(height, dtype=torch.float64)[:, None]
    horizontal = torch.fft.rfftfreq(width, dtype=torch.float64)
    degrees = torch.atan2(vertical, horizontal) * (180 / math.pi)
    return torch.floor(degrees / (180 / SECTORS) + 0.5).long() % SECTORS


def _octaves(size: tuple[int, ...]) -> int:
    """How many octaves from the top have a frequency in every sector."""
    cells, most = _cells(size), len(frequency_octaves(min(size)))
    held = torch.bincount(cells[cells >= 0], minlength=most * SECTORS).reshape(most, SECTORS)
    return int((held > 0).all(1).long().cumprod(0).sum())
