"""Energy of the wavelet sub-bands by level and orientation."""

import torch
from jaxtyping import Float
from torch import Tensor

from passband.metrics.planes import Planes, wavelet_levels
from passband.metrics.probes._octaves import frequency_octaves, octave_label

_PLANE = ("horizontal", "vertical", "diagonal")


class WaveletEnergy:
    r"""Mean square of the gray plane's wavelet coefficients, (levels, orientations).

    Level j holds about the octave from 1/2^(j+1) to 1/2^j cycles per pixel. Orientations are the directions in which
    the plane varies: horizontally, vertically, along both diagonals; signals have one. Edge coefficients are left
    out, see [`Planes`][passband.metrics.Planes].

    Example:
        >>> import torch
        >>> from passband.metrics import Planes
        >>> from passband.metrics.probes import WaveletEnergy
        >>> energy = WaveletEnergy()(Planes(torch.randn(64, 1, 32, 32, generator=torch.Generator().manual_seed(0))))
        >>> tuple(energy.shape), round(float(energy.mean()), 1)  # white noise: 1
        ((64, 2, 3), 1.0)

    Source: E. P. Simoncelli and E. H. Adelson, Noise Removal via Bayesian Wavelet Coring (1996).

    """

    name, unit, least = "wavelet energy", "dB", 0.2
    axes: tuple[str, ...] = ("level", "orientation")
    compared = True

    def check(self, shape: tuple[int, ...]) -> bool:
        """A side of 16 at least."""
        return wavelet_levels(shape[1:]) > 0

    def __call__(self, planes: Planes) -> Float[Tensor, "batch levels orientations"]:
        """Energy of each sample."""
        return torch.stack([band.square().flatten(2).mean(2) for band in planes.subbands], 1)

    def derive(self, block: Tensor) -> Tensor:
        """The mean energy itself."""
        return block

    def labels(self, shape: tuple[int, ...]) -> tuple[tuple[str, ...], ...]:
        """The octave that each level is about, in cycles per pixel, and the orientations."""
        return subband_labels(shape)


def subband_labels(shape: tuple[int, ...]) -> tuple[tuple[str, ...], ...]:
    r"""Labels of levels and orientations of samples of this shape, (channels, \*spatial)."""
    octaves = frequency_octaves(min(shape[1:]))[: wavelet_levels(shape[1:])]
    return tuple(octave_label(*octave) for octave in octaves), _PLANE if len(shape) == 3 else ("along the signal",)
