"""What one writes with NumPy: forward alone, on the CPU."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def radial_psd(x: Tensor) -> Tensor:
    """The radially averaged power of square images, by a complex FFT and `bincount`: (batch, channels, bins)."""
    values = x.detach().double().numpy()
    side = values.shape[-1]
    power = np.abs(np.fft.fft2(values, norm="ortho")) ** 2
    frequency = np.fft.fftfreq(side, 1 / side)
    bins = (np.hypot(frequency[:, None], frequency) + 0.5).astype(int).ravel()
    rings, counts = side // 2 + 1, np.bincount(bins)
    rows = [np.bincount(bins, weights=image.ravel()) / counts for image in power.reshape(-1, side, side)]
    return torch.from_numpy(np.stack(rows)[:, :rings].reshape(*values.shape[:2], rings))


def spectral_distance(real: Tensor, fake: Tensor) -> float:
    """The log-spectral distance of two sets of images in decibels."""
    a, b = (radial_psd(x).mean((0, 1)).numpy()[1:] for x in (real, fake))
    floor = 1e-4 * a.mean()
    ratio = 10 * np.log10((b + floor) / (a + floor))
    return float(np.sqrt(np.mean(ratio**2)))


def polynomial_mmd() -> Callable[[Tensor, Tensor], float]:
    """The unbiased estimate by three full kernel tables."""

    def estimate(real: Tensor, fake: Tensor) -> float:
        a, b = real.double().numpy(), fake.double().numpy()
        m, n = len(a), len(b)
        aa, bb, ab = ((x @ y.T / a.shape[1] + 1) ** 3 for x, y in ((a, a), (b, b), (a, b)))
        within = (aa.sum() - np.trace(aa)) / (m * (m - 1)) + (bb.sum() - np.trace(bb)) / (n * (n - 1))
        return float(within - 2 * ab.mean())

    return estimate


def inception_score(logits: Tensor) -> float:
    """The exponential of the mean divergence of the rows' softmax from their mean."""
    values = logits.double().numpy()
    p = np.exp(values - values.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return float(np.exp((p * (np.log(p) - np.log(p.mean(0)))).sum(1).mean()))
