"""The spectra that Encoding Spectrum Matching compares: rings, their means, and the image at a latent's size."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from passband._checks import check_batch, check_integer, is_integer
from passband._numerics import upcast
from passband._tables import precise
from passband.transforms import band_pool, dct, idct
from passband.transforms.dct import low_dct


class Rings(NamedTuple):
    """The radial bins of a DCT, equal rings of frequency from 0 to the corner, the same for every size.

    Attributes:
        edges: lower and upper edges, (bins + 1,), in cycles per pixel of the field, float64.
        centres: their middles, (bins,).
        counts: how many frequencies of the field each ring holds, the mean (DC) left out, (bins,). Small fields have
            rings without any.

    """

    edges: Tensor
    centres: Tensor
    counts: Tensor


def spectrum_rings(size: Sequence[int], bins: int = 16) -> Rings:
    r"""The rings that [`latent_spectrum`][passband.matching.latent_spectrum] pools over.

    Frequency $u$ of a side of $n$ pixels is $u / 2n$ cycles per pixel, and the radius is the norm over the axes, so a
    ring stands for the same waves in fields of every size and shape. The last ring ends in the corner, at
    $\sqrt{d} / 2$ for $d$ axes.

    Args:
        size: spatial shape of the field, 1 to 3 sides.
        bins: number of rings, at least 1.

    Returns:
        Edges, centres and counts.

    Raises:
        TypeError: if bins is not an integer.
        ValueError: if bins is below 1, or size is not 1 to 3 positive sides.

    Example:
        >>> from passband.matching import spectrum_rings
        >>> rings = spectrum_rings((16, 24), bins=4)
        >>> rings.centres.mul(1000).round().tolist(), rings.counts.tolist()
        ([88.0, 265.0, 442.0, 619.0], [43, 120, 176, 44])

    """
    check_bins(bins)
    size = checked_size(size)
    edges = torch.arange(bins + 1, dtype=torch.float64) * (math.sqrt(len(size)) / 2 / bins)
    rings = ring_index((*size, bins), torch.device("cpu")).flatten()
    counts = torch.bincount(rings[1:], minlength=bins)  # DC comes first
    return Rings(edges, (edges[1:] + edges[:-1]) / 2, counts)


def latent_spectrum(
    field: Float[Tensor, "batch channels *spatial"], bins: int = 16
) -> Float[Tensor, "batch channels bins"]:
    r"""Binned power spectral density of each channel: mean power of the orthonormal DCT-II in rings of frequency.

    The mean (DC) is left out. White noise of unit variance has 1 in every ring. Means over channels give the spectrum
    that [`esm_divergence`][passband.matching.esm_divergence] compares.

    Args:
        field: image or latent, (batch, channels, \*spatial), 1 to 3 spatial axes.
        bins: number of rings, see [`spectrum_rings`][passband.matching.spectrum_rings].

    Returns:
        (batch, channels, bins), in float32 (float64 for float64 input), in the field's units squared; 0 in a ring that
        holds no frequency.

    Raises:
        TypeError: if field is not floating, or bins not an integer.
        ValueError: for a wrong number of dimensions, or bins below 1.

    Example:
        >>> import torch
        >>> from passband.matching import latent_spectrum
        >>> noise = torch.randn(64, 4, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> bool((latent_spectrum(noise).mean((0, 1)) - 1).abs().max() < 0.1)
        True

    """
    check_batch("field", field)
    check_bins(bins)
    power = dct(field).square()
    return band_pool(power, ring_index((*power.shape[2:], bins), power.device), bins)


def anti_aliased(
    image: Float[Tensor, "batch channels *spatial"], size: Sequence[int]
) -> Float[Tensor, "batch channels *resized"]:
    r"""The image at a latent's size: its DCT cropped to the frequencies that the smaller grid can hold.

    An ideal low-pass at the new grid's own limit and the resampling in one, for any ratio of sizes, whole or not:
    every wave that the new grid can hold keeps its amplitude and its place, every other is gone.

    Args:
        image: (batch, channels, \*spatial), 1 to 3 spatial axes.
        size: new spatial shape, at most the image's along each axis.

    Returns:
        The smaller image, in float32 (float64 for float64 input).

    Raises:
        TypeError: if image is not floating.
        ValueError: if size has another number of axes, or is larger than the image.

    Example:
        >>> import torch
        >>> from passband.matching import anti_aliased
        >>> anti_aliased(torch.randn(2, 3, 64, 48), (31, 24)).shape
        torch.Size([2, 3, 31, 24])
        >>> anti_aliased(torch.ones(1, 1, 9), (4,)).allclose(torch.ones(1, 1, 4))
        True

    """
    check_batch("image", image)
    wanted = checked_size(size)
    given = tuple(image.shape[2:])
    if len(wanted) != len(given) or any(new > old for new, old in zip(wanted, given, strict=False)):
        raise ValueError(
            f"the latent must have as many axes as the image and be at most as large, got an image of size {given} and "
            f"a latent of size {wanted}; the image comes first, the latent second"
        )
    if wanted == given:
        return upcast(image)[0]
    return idct(anti_aliased_spectrum(image, wanted))


def anti_aliased_spectrum(image: Tensor, size: tuple[int, ...]) -> Tensor:
    """The DCT of [`anti_aliased`][passband.matching.anti_aliased]; each axis is cropped before the next is taken."""
    (spectrum,) = upcast(image)
    for axis in reversed(range(2, image.ndim)):
        spectrum = low_dct(spectrum, axis, size[axis - 2])
    return spectrum * math.sqrt(math.prod(size) / math.prod(image.shape[2:]))


def ring_index(size: tuple[int, ...], device: torch.device) -> Tensor:
    """The ring of every frequency, an integer of the spectrum's shape; -1 for DC. size is (*spatial, bins)."""
    *spatial, bins = size
    radius = torch.zeros((), dtype=precise(device), device=device)
    for axis, n in enumerate(spatial):
        share = torch.arange(n, device=device).to(radius.dtype) / n
        radius = radius + share.square().reshape([-1 if i == axis else 1 for i in range(len(spatial))])
    # The tolerance puts a frequency on an edge into the upper ring, however its radius was rounded.
    ring = torch.floor(bins * (radius / len(spatial)).sqrt() + 1e-9).clamp_max(bins - 1)
    return torch.where(radius > 0, ring, -1).long()


def check_bins(bins: int) -> None:
    """Raise unless bins is a number of rings."""
    check_integer("bins", bins)
    if bins < 1:
        raise ValueError(f"bins is the number of radial bins, got {bins}; pass at least 1 (the paper: 16)")


def checked_size(size: Sequence[int]) -> tuple[int, ...]:
    """The size as a tuple of plain integers."""
    sides = tuple(size) if isinstance(size, Sequence) else ()
    if not 1 <= len(sides) <= 3 or not all(is_integer(side) and side >= 1 for side in sides):
        raise ValueError(f"size must be 1 to 3 positive side lengths, got {size!r}; pass latent.shape[2:]")
    return tuple(int(side) for side in sides)
