"""Energy of the wavelet sub-bands by level and orientation."""

import torch
from jaxtyping import Float
from torch import Tensor

from passband.metrics.frequency_words import octave_name
from passband.metrics.planes import Planes, wavelet_levels
from passband.metrics.probes._octaves import frequency_octaves

_PLANE = ("horizontal", "vertical", "diagonal")


class SubbandProbe:
    """What the probes of the sub-bands have in common: their levels, and where there are any.

    Args:
        sample_rate: of audio, Hz: levels that are not heard are left out then.

    """

    axes: tuple[str, ...] = ("level", "orientation")
    compared = True

    def __init__(self, sample_rate: int | None = None) -> None:
        self.sample_rate = sample_rate

    def check(self, shape: tuple[int, ...]) -> bool:
        """A side of 16 at least."""
        return wavelet_levels(shape[1:]) > 0

    def labels(self, shape: tuple[int, ...]) -> tuple[tuple[str, ...], ...]:
        """The octave that each level is about, in cycles per pixel or in Hz, and the orientations."""
        names = tuple(octave_name(octave, self.sample_rate) for octave in self._octaves(shape[1:]))
        return names, _PLANE if len(shape) == 3 else ("along the signal",)

    def subbands(self, planes: Planes) -> list[Tensor]:
        r"""The coefficients of each level that is measured, (batch, orientations, \*spatial)."""
        return list(planes.subbands[: len(self._octaves(planes.size))])

    def _octaves(self, size: tuple[int, ...]) -> tuple[tuple[float, float], ...]:
        """Those that the levels of samples of this size are about, without those that are not heard."""
        return frequency_octaves(min(size), self.sample_rate)[: wavelet_levels(size)]


class WaveletEnergy(SubbandProbe):
    r"""Mean square of the gray plane's wavelet coefficients, (levels, orientations).

    Level j holds about the octave from 1/2^(j+1) to 1/2^j cycles per pixel. Orientations are the directions in which
    the plane varies: horizontally, vertically, along both diagonals; signals have one. Edge coefficients are left
    out, see [`Planes`][passband.metrics.Planes].

    Args:
        sample_rate: of audio, Hz: levels that are not heard are left out then.

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

    def __call__(self, planes: Planes) -> Float[Tensor, "batch levels orientations"]:
        """Energy of each sample."""
        return torch.stack([band.square().flatten(2).mean(2) for band in self.subbands(planes)], 1)

    def derive(self, block: Tensor) -> Tensor:
        """The mean energy itself."""
        return block
