"""A batch of samples with the transforms that several measures of it share, each computed once."""

from collections.abc import Sequence
from functools import cached_property
from typing import Literal, get_args

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from passband._checks import check_batch, check_choice
from passband._numerics import no_autocast
from passband.transforms import dwt, dwt_max_levels, rfftn, taper
from passband.transforms.taper import TAPERS, Taper

SampleKind = Literal["images", "latents", "signals"]
KINDS: tuple[SampleKind, ...] = get_args(SampleKind)

# ITU-R BT.601: luma, and blue and red against it, scaled to the range of the channels.
_LUMA = (0.299, 0.587, 0.114)
#: The plane that stands for all channels of what has no luma: their mean power.
POOLED = "all"
_COLOURS = ("red", "green", "blue")
#: Names of the plane of brightness, and of the two planes of colour without it.
LUMA = "luma"
CHROMA = ("Cb", "Cr")
_WAVELET = "db2"
_CUT = 1  # coefficients of each edge that depend on how the field continues: half the filter's length, less 1
_SMALLEST_BAND = 8


class Planes:
    r"""A batch of samples and what is measured on it: the tapered spectrum, its power, the sub-bands of a wavelet.

    A plane is a channel; images of three channels have luma and two chroma planes besides (ITU-R BT.601), which are
    linear in the channels and so are their spectra; anything else of several channels has their mean power. Spectra
    are those of the mean-removed, tapered samples (`passband.transforms.taper`), where white noise of variance
    1 has power 1. Everything is computed when it is first asked for, in float32.

    Args:
        samples: (batch, channels, \*spatial), 1 or 2 spatial axes.
        kind: `"images"`, `"latents"` or `"signals"`: only images have luma and chroma.
        taper: `"hann"`, or `"none"` for periodic data.
        name: what the samples are called in errors.

    Attributes:
        samples: the batch, in float32.
        kind: as given.
        taper: as given.

    Raises:
        TypeError: if the samples are not floating.
        ValueError: for another number of axes, an empty axis, or an unknown kind or taper.

    Example:
        >>> import torch
        >>> from passband.metrics import Planes
        >>> planes = Planes(torch.randn(2, 3, 32, 32))
        >>> planes.names
        ('red', 'green', 'blue', 'luma', 'Cb', 'Cr')
        >>> tuple(planes.spectrum.shape), tuple(planes.power.shape), tuple(planes.gray.shape)
        ((2, 3, 32, 17), (2, 6, 32, 17), (2, 32, 32))
        >>> planes.scanned_names, tuple(planes.scanned.shape)
        (('luma', 'Cb', 'Cr'), (2, 3, 32, 32))

    """

    def __init__(
        self,
        samples: Float[Tensor, "batch channels *spatial"],
        *,
        kind: SampleKind = "images",
        taper: Taper = "hann",
        name: str = "samples",
    ) -> None:
        check_batch(name, samples, dims=(1, 2))
        check_choice("kind of samples", kind, KINDS)
        check_choice("taper", taper, TAPERS)
        self.samples = samples.detach().float()
        self.kind, self.taper = kind, taper

    @property
    def size(self) -> tuple[int, ...]:
        """Spatial shape of a sample."""
        return tuple(self.samples.shape[2:])

    @property
    def names(self) -> tuple[str, ...]:
        """The planes' names, the channels first."""
        return plane_names(self.samples.shape[1], self.kind)

    @property
    def scanned_names(self) -> tuple[str, ...]:
        """Names of the planes in which regular patterns are looked for."""
        return scanned_planes(self.samples.shape[1], self.kind)

    @cached_property
    def scanned(self) -> Float[Tensor, "batch scanned *spatial"]:
        """Luma and both chroma planes of colour images, the gray plane alone of everything else."""
        return self._as_scanned(self.samples)

    @property
    def gray(self) -> Float[Tensor, " batch *spatial"]:
        """Luma of colour images, the mean over the channels of everything else."""
        return self.scanned[:, 0]

    @cached_property
    def mean(self) -> Float[Tensor, "batch means"]:
        """Mean of each channel, and of luma and chroma, before any taper; of the channels alone without these."""
        mean = self.samples.flatten(2).mean(2)
        return torch.cat([mean, self._as_scanned(mean[..., None])[..., 0]], 1) if LUMA in self.names else mean

    @cached_property
    def spectrum(self) -> Complex[Tensor, "batch channels *half"]:
        """Orthonormal half spectrum of the tapered channels."""
        return rfftn(taper(self.samples, self.taper))

    @cached_property
    def gray_spectrum(self) -> Complex[Tensor, " batch *half"]:
        """The same of the gray plane."""
        return self._scanned_spectrum[:, 0]

    @cached_property
    def power(self) -> Float[Tensor, "batch planes *half"]:
        """Power of every plane at every frequency of the half spectrum."""
        power = _power(self.spectrum)
        if POOLED in self.names:
            return torch.cat([power, power.mean(1, keepdim=True)], 1)
        return torch.cat([power, self.scanned_power], 1) if LUMA in self.names else power

    @cached_property
    def scanned_power(self) -> Float[Tensor, "batch scanned *half"]:
        """Power of the scanned planes at every frequency of the half spectrum."""
        return _power(self._scanned_spectrum)

    @property
    def gray_power(self) -> Float[Tensor, " batch *half"]:
        """Power of the gray plane at every frequency of the half spectrum."""
        return self.scanned_power[:, 0]

    @cached_property
    def subbands(self) -> tuple[Float[Tensor, "batch orientations *coefficients"], ...]:
        """Detail coefficients of the gray plane by level, the finest first; none that depends on how edges continue.

        The wavelet is Daubechies' of 4 taps, orthonormal: white noise of variance 1 has coefficients of variance 1.
        """
        levels = wavelet_levels(self.size)
        if levels == 0:
            return ()
        found = dwt(self.gray[:, None], _WAVELET, levels=levels, mode="periodization")
        cut = 0 if self.taper == "none" else _CUT
        return tuple(
            torch.cat([_inside(band, cut, side) for band in bands.values()], 1)
            for bands, side in zip(reversed(found.details), _sides(self.size, levels), strict=True)
        )

    @cached_property
    def _scanned_spectrum(self) -> Complex[Tensor, "batch scanned *half"]:
        parts = torch.view_as_real(self.spectrum)
        return torch.view_as_complex(self._as_scanned(parts).contiguous())

    def _as_scanned(self, x: Tensor) -> Tensor:
        """The scanned planes of what has the channels as its second axis, and is linear in them."""
        if x.shape[1] == 1:
            return x
        if LUMA not in self.names:
            return x.mean(1, keepdim=True)
        return _mixed(x, x.new_tensor([_LUMA, *_chroma_rows()]))


def plane_names(channels: int, kind: SampleKind = "images") -> tuple[str, ...]:
    """Names of the planes of samples with so many channels.

    The channels, then luma, Cb and Cr of colour images; of all others the mean power over the channels.

    Example:
        >>> from passband.metrics.planes import plane_names
        >>> plane_names(3), plane_names(4, "latents")
        (('red', 'green', 'blue', 'luma', 'Cb', 'Cr'), ('1', '2', '3', '4', 'all'))

    """
    if channels == 3 and kind == "images":
        return (*_COLOURS, LUMA, *CHROMA)
    numbered = tuple(str(number + 1) for number in range(channels))
    return (*numbered, POOLED) if channels > 1 else numbered


def scanned_planes(channels: int, kind: SampleKind = "images") -> tuple[str, ...]:
    """Names of the planes in which regular patterns are looked for, the gray one first.

    Luma and chroma of colour images; of anything else of several channels their mean.

    Example:
        >>> from passband.metrics.planes import scanned_planes
        >>> scanned_planes(3), scanned_planes(4, "latents"), scanned_planes(1)
        (('luma', 'Cb', 'Cr'), ('all',), ('1',))

    """
    names = plane_names(channels, kind)
    return names[channels:] or names


def wavelet_levels(size: Sequence[int]) -> int:
    """How many wavelet levels samples of this size have, down to sub-bands of 8 positions a side; 0 if too small."""
    by_size = max((min(size) // _SMALLEST_BAND).bit_length() - 1, 0)
    return min(by_size, dwt_max_levels(tuple(size), _WAVELET))


def _chroma_rows() -> list[list[float]]:
    """Cb = (blue - luma) / 2(1 - 0.114) and Cr = (red - luma) / 2(1 - 0.299)."""
    rows = []
    for channel in (2, 0):
        row = [-share for share in _LUMA]
        row[channel] += 1
        rows.append([weight / (2 * (1 - _LUMA[channel])) for weight in row])
    return rows


def _power(spectrum: Tensor) -> Tensor:
    return spectrum.real.square() + spectrum.imag.square()


def _mixed(x: Tensor, rows: Float[Tensor, "planes channels"]) -> Tensor:
    """Linear combinations over the second axis, one for each row."""
    with no_autocast(x):
        return torch.matmul(rows, x.flatten(2)).reshape(len(x), len(rows), *x.shape[2:])


def _sides(size: Sequence[int], levels: int) -> list[tuple[int, ...]]:
    """How many coefficients of each level lie wholly within the field's even part, the finest level first."""
    return [tuple(side >> level for side in size) for level in range(1, levels + 1)]


def _inside(band: Tensor, cut: int, sides: tuple[int, ...]) -> Tensor:
    """A sub-band without `cut` coefficients at each edge; odd sizes were filled up, that is left out too."""
    for axis, side in enumerate(sides, start=2):
        band = band.narrow(axis, cut, side - 2 * cut)
    return band
