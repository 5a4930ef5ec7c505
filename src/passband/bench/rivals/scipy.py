"""What one takes from SciPy (BSD-3-Clause): forward alone, on the CPU."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from passband._checks import import_extra

Operator = Callable[[Tensor], Tensor]


def dctn() -> Operator:
    """The orthonormal DCT-II over all axes but the first two."""
    fft = import_extra("scipy.fft", "bench")
    return lambda x: torch.from_numpy(fft.dctn(x.detach().numpy(), norm="ortho", axes=tuple(range(2, x.ndim))))


def band_pass(sigma1: float, sigma2: float) -> Operator:
    """The difference of two Gaussian blurs over the deviation, on the last two axes."""
    blur = import_extra("scipy.ndimage", "bench").gaussian_filter

    def operator(x: Tensor) -> Tensor:
        values = x.detach().numpy()
        inner, outer = (blur(values, (0, 0, sigma, sigma)) for sigma in (sigma1, sigma2))
        return torch.from_numpy((inner - outer) / values.std((2, 3), keepdims=True))

    return operator


def welch(sample_rate: int, n_fft: int) -> Callable[[Tensor], Tensor]:
    """The mean spectrum of clips by Welch's method."""
    signal = import_extra("scipy.signal", "bench")

    def spectrum(clips: Tensor) -> Tensor:
        _, power = signal.welch(clips.double().numpy(), sample_rate, nperseg=n_fft, noverlap=n_fft // 2, detrend=False)
        return torch.from_numpy(power.mean(0))

    return spectrum


def frechet() -> Callable[[Tensor, Tensor], float]:
    """The Fréchet distance of two sets of features by the square root of a matrix product, as FID scripts have it."""
    linalg = import_extra("scipy.linalg", "bench")

    def distance(real: Tensor, fake: Tensor) -> float:
        a, b = real.double().numpy(), fake.double().numpy()
        first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
        root = linalg.sqrtm(first @ second).real
        gap = a.mean(0) - b.mean(0)
        return float(gap @ gap + np.trace(first) + np.trace(second) - 2 * np.trace(root))

    return distance


def precision_recall(neighbours: int) -> Callable[[Tensor, Tensor], tuple[float, float]]:
    """Precision and recall by full tables of distances."""
    cdist = import_extra("scipy.spatial.distance", "bench").cdist

    def scores(real: Tensor, fake: Tensor) -> tuple[float, float]:
        a, b = real.double().numpy(), fake.double().numpy()
        between = cdist(a, b)
        radius_a = np.partition(cdist(a, a), neighbours, axis=1)[:, neighbours]
        radius_b = np.partition(cdist(b, b), neighbours, axis=1)[:, neighbours]
        precision = (between <= radius_a[:, None]).any(0).mean()
        recall = (between <= radius_b[None, :]).any(1).mean()
        return float(precision), float(recall)

    return scores
