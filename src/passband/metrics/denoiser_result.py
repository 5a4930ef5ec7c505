"""What is measured of a denoiser, per noise level and frequency band."""

from dataclasses import dataclass, field

from torch import Tensor

from passband.metrics.bootstrap import BootstrapMeans
from passband.metrics.contrast import Contrast


@dataclass(frozen=True)
class GradientShare:
    """Where a loss pulls: its gradient with respect to the network's output, by noise level and band.

    Attributes:
        name: of the loss; `base` for the loss that is trained without a spectral term.
        share: share of the squared gradient in each band, rows sum to 1, (levels, bands); NaN where there is none.
        norm: root mean square over samples of the gradient's norm, for the weight 1 and without a gate, (levels,).

    """

    name: str
    share: Tensor
    norm: Tensor


@dataclass(frozen=True)
class DenoiserSpectrum:
    """What [`DenoiserMeasure`][passband.metrics.DenoiserMeasure] computes.

    Tensors are float64 on the CPU: rows are noise levels, rising, columns are bands, the mean and the lowest
    frequencies first. In bands where the data have no power, errors are taken against a tenth of their mean power per
    coefficient, which is added to the network's error and to the filter's.

    Attributes:
        ratios: noise ratio sigma / alpha of each level.
        times: the same in the process's own time.
        bands: (low, high) of each band in cycles per pixel; (0, 0) is the mean, the one beyond 0.5 holds the corners.
        size: spatial shape of the samples.
        channels: of a sample.
        count: number of samples.
        power: the data's mean power per coefficient, (bands,).
        relative: error of the clean estimate over the data's power; 1 for an estimate of zero.
        wiener: the same of the Wiener filter on the same noisy samples.
        held: power of the estimate over the data's.
        excess: error over the Wiener filter's, dB: above 0, a linear filter would do better.
        calibration: 10·log10(E|X̂|² / E[X̂·X]), dB: 0 for the best estimate (of whatever data), negative for one that
            is too smooth, positive for one with power that is not the data's, 20 at most either way. NaN where there is
            next to nothing to estimate, and next to nothing is.
        under: cells where the model does worse than the Wiener filter, (levels, bands).
        smooth: cells whose estimate has too little power.
        rough: cells whose estimate has too much.
        floor: what was added to the power and the errors of empty bands, (bands,); 0 in others.
        gradients: what each loss pulls at, by its name; `base` first.
        means: the measured means with their bootstrap, from which two models are compared.

    """

    ratios: tuple[float, ...]
    times: tuple[float, ...]
    bands: tuple[tuple[float, float], ...]
    size: tuple[int, ...]
    channels: int
    count: int
    power: Tensor
    relative: Tensor
    wiener: Tensor
    held: Tensor
    excess: Contrast
    calibration: Contrast
    under: Tensor
    smooth: Tensor
    rough: Tensor
    floor: Tensor
    gradients: dict[str, GradientShare] = field(default_factory=dict)
    means: BootstrapMeans | None = field(default=None, repr=False, compare=False)

    @property
    def wrong(self) -> Tensor:
        """Cells where anything is called, (levels, bands)."""
        return self.under | self.smooth | self.rough

    @property
    def same(self) -> bool:
        """Whether nothing is called."""
        return not bool(self.wrong.any())
