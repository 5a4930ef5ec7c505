"""Wavelet transforms by the PyTorch-Wavelet-Toolbox (EUPL-1.2: measured here, never a part of Passband)."""

from torch import Tensor

from passband._checks import import_extra
from passband.bench.item import Loss


def coefficients(x: Tensor, wavelet: str, levels: int) -> list[Tensor]:
    """All sub-bands, the coarsest approximation first."""
    package = import_extra("ptwt", "bench")
    if x.ndim == 3:
        return list(package.wavedec(x, wavelet, mode="symmetric", level=levels))
    low, *details = package.wavedec2(x, wavelet, mode="symmetric", level=levels)
    return [low, *(band for level in details for band in level)]


def stationary(x: Tensor, wavelet: str, levels: int) -> list[Tensor]:
    """The stationary transform along the last axis, the coarsest approximation first."""
    return list(import_extra("ptwt", "bench").swt(x, wavelet, level=levels))


def l1(wavelet: str, levels: int) -> Loss:
    """Both fields transformed, the mean absolute difference of each sub-band, summed."""
    import_extra("ptwt", "bench")

    def loss(estimate: Tensor, clean: Tensor) -> Tensor:
        pairs = zip(coefficients(estimate, wavelet, levels), coefficients(clean, wavelet, levels), strict=True)
        means = [(x - y).abs().mean() for x, y in pairs]
        return sum(means[1:], start=means[0])

    return loss
