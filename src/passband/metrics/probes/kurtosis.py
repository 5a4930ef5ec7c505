"""Kurtosis of the wavelet sub-bands by level and orientation."""

import torch
from jaxtyping import Float
from torch import Tensor

from passband.metrics.planes import Planes
from passband.metrics.probes.wavelet import SubbandProbe

_FLAT = 1e-11  # of a sample's mean square: less is what rounding leaves of a sub-band without content


class WaveletKurtosis(SubbandProbe):
    r"""Kurtosis of the gray plane's wavelet coefficients within a sample, (levels, orientations).

    $\kappa = \operatorname{mean}(c^4) / \operatorname{mean}(c^2)^2$ of a sub-band's coefficients c, per sample, and
    then the geometric mean over samples: 3 for Gaussian noise, more where few coefficients are large and many small,
    as at edges. A spectrum does not see it: noise of the right colour in the place of detail lowers it. The plain mean
    would be decided by a few samples that are empty but for a spot. Samples whose sub-band is flat are left out.

    Args:
        sample_rate: of audio, Hz: levels that are not heard are left out then.

    Example:
        >>> import torch
        >>> from passband.metrics import Planes
        >>> from passband.metrics.probes import WaveletKurtosis
        >>> probe, generator = WaveletKurtosis(), torch.Generator().manual_seed(0)
        >>> block = probe(Planes(torch.randn(64, 1, 64, 64, generator=generator)))
        >>> round(float(probe.derive(block.mean(0))[0, 0]), 1)  # Gaussian
        3.0

    Source: D. J. Field, Relations between the statistics of natural images and the response properties of cortical
    cells (1987); D. L. Ruderman, The statistics of natural images (1994).

    """

    name, unit, least = "wavelet kurtosis", "%", 5.0

    def __call__(self, planes: Planes) -> Float[Tensor, "batch levels orientations 2"]:
        """The logarithm and 1, or 0 and 0 where a sub-band is flat."""
        scale = planes.gray.flatten(1).square().mean(1)[:, None]
        return torch.stack([_log_kurtosis(band, scale) for band in self.subbands(planes)], 1)

    def derive(self, block: Tensor) -> Tensor:
        """The geometric mean over the samples that are not flat; NaN where all are."""
        return (block[..., 0] / block[..., 1]).exp()


def _log_kurtosis(band: Tensor, scale: Tensor) -> Tensor:
    squares = band.square().flatten(2)
    energy = squares.mean(2)
    held = energy > _FLAT * scale
    # Over the energy before the square: fourth powers of faint coefficients underflow in float32.
    kurtosis = (squares / energy.clamp_min(torch.finfo(energy.dtype).tiny)[..., None]).square().mean(2)
    value = torch.where(held, kurtosis.clamp_min(1.0).log(), 0.0)
    return torch.stack([value, held.to(value.dtype)], -1)
