"""The two forms of Encoding Spectrum Matching: what they do differently on the one path of the divergence."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from passband._tables import Table, precise
from passband.matching.spectrum import anti_aliased_spectrum, ring_index
from passband.transforms import dct, gaussian_blur

FLOOR = 1e-8
"""Added to sums, and to what goes into a logarithm (the reference's value)."""

Size = tuple[int, ...]


class Form(NamedTuple):
    """What the two forms of the divergence do differently; all else is one path."""

    image_power: Callable[[Tensor, Size], Tensor]
    """From the image and the latent's size to the DCT power, averaged over channels."""
    latent_power: Callable[[Tensor], Tensor]
    """The same of the latent itself."""
    means: Table[Size]
    """(frequencies, bins), by (*size, bins): the weights of the mean over each bin."""
    unit: Callable[[Tensor, Size], Tensor]
    """The unit in which binned power goes into the logarithm, (batch, 1)."""
    dims: tuple[int, ...]
    """The numbers of spatial axes it can take."""

    def pool(self, power: Tensor, bins: int) -> Tensor:
        """Mean power in each bin, (batch, bins); a product with a matrix, so the same bits on every run."""
        return power.flatten(1) @ self.means((*power.shape[1:], bins), power.dtype, power.device)


def members(bin_of: Tensor, bins: int, device: torch.device) -> Tensor:
    """(frequencies, bins): 1 where a frequency belongs to a bin."""
    return (bin_of.reshape(-1, 1) == torch.arange(bins, device=device)).to(precise(device))


def mean_power(spectrum: Tensor) -> Tensor:
    """Power averaged over channels, (batch, *frequencies)."""
    return spectrum.square().mean(1)


# The repaired form.


def _ring_means(size: Size, device: torch.device) -> Tensor:
    rings = members(ring_index(size, device), size[-1], device)
    return rings / rings.sum(0).clamp_min(1)


def _ring_shares(size: Size, device: torch.device) -> Tensor:
    counts = members(ring_index(size, device), size[-1], device).sum(0)
    return counts / counts.sum().clamp_min(1)


_SHARES = Table[Size](_ring_shares)
"""(bins,): the share of all frequencies but DC that each ring holds."""


def _own_mean(power: Tensor, size: Size) -> Tensor:
    """Mean power over all frequencies; the floor, in units of the largest value squared, serves constant fields."""
    shares = _SHARES((*size, power.shape[1]), power.dtype, power.device)
    return (power * shares).sum(1, keepdim=True) + FLOOR


def _scaled(field: Tensor) -> Tensor:
    """The field without its mean, over its largest magnitude.

    The divergence depends on neither; without them no power overflows or vanishes, and the scale needs no gradient.
    What varies by less than rounding is a constant: 0, with gradient 0.
    """
    every = tuple(range(1, field.ndim))
    largest = field.detach().abs().amax(every, keepdim=True)
    scaled = field / torch.where(largest > 0, largest, torch.ones_like(largest))
    centred = scaled - scaled.mean(every[1:], keepdim=True)
    rounding = (8 * torch.finfo(field.dtype).eps) ** 2
    constant = centred.detach().square().mean(every, keepdim=True) <= rounding
    return torch.where(constant, torch.zeros_like(centred), centred)


REPAIRED = Form(
    image_power=lambda image, size: mean_power(anti_aliased_spectrum(_scaled(image), size)),
    latent_power=lambda latent: mean_power(dct(_scaled(latent))),
    means=Table(_ring_means),
    unit=_own_mean,
    dims=(1, 2, 3),
)


# The reference form.

_BLUR = 1.2
_UNBLURRED_HEIGHT = 32


def reference_form(center: bool, keep_dc: bool) -> Form:
    """The form of the published implementation, with its two options."""

    def power(field: Tensor) -> Tensor:
        if center:
            field = field - field.mean((2, 3), keepdim=True)
        values = mean_power(dct(field)).clamp_min(1e-8)
        if keep_dc:
            return values
        kept = torch.ones_like(values)
        kept[..., 0, 0] = 0
        return values * kept

    return Form(
        image_power=lambda image, size: power(_resized(image, size)),
        latent_power=power,
        means=_INDEX_MEANS,
        unit=lambda power, size: torch.ones_like(power[:, :1]),  # noqa: ARG005
        dims=(2,),
    )


def _resized(image: Tensor, size: Size) -> Tensor:
    if size[0] != _UNBLURRED_HEIGHT:
        image = gaussian_blur(image, _BLUR, mode="constant", truncate=2.5)  # 7 x 7
    return torch.nn.functional.interpolate(image, size=size, mode="bicubic", align_corners=False)


def _index_means(size: Size, device: torch.device) -> Tensor:
    height, width, bins = size
    rows = torch.arange(height, device=device).to(precise(device))
    columns = torch.arange(width, device=device).to(precise(device))
    radius = (rows[:, None].square() + columns.square()).sqrt()
    bin_of = torch.floor(bins * (radius / radius.max().clamp_min(FLOOR))).long().clamp_max(bins - 1)
    rings = members(bin_of, bins, device)
    return rings / (rings.sum(0) + FLOOR)


_INDEX_MEANS = Table[Size](_index_means)
