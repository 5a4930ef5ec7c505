"""The losses as one writes them with PyTorch alone: full complex FFTs, both fields transformed, autograd."""

import pywt
import torch
from torch import Tensor
from torch.nn.functional import conv1d, conv2d

from passband.bench.item import Loss


def amplitude(estimate: Tensor, clean: Tensor) -> Tensor:
    """L1 of the moduli of two complex FFTs."""
    return (_spectrum(estimate).abs() - _spectrum(clean).abs()).abs().mean()


def two_angles(estimate: Tensor, clean: Tensor) -> Tensor:
    """Phases by `angle`, their difference wrapped by atan2; its gradient is not bounded near zero amplitude."""
    x, y = _spectrum(estimate), _spectrum(clean)
    difference = x.angle() - y.angle()
    wrapped = torch.atan2(difference.sin(), difference.cos()).abs()
    return ((x.abs() - y.abs()).abs() * (1 + wrapped)).mean()


def focal(estimate: Tensor, clean: Tensor) -> Tensor:
    """The focal frequency loss in any number of dimensions."""
    difference = _spectrum(estimate) - _spectrum(clean)
    size = difference.abs()
    weight = (size / size.flatten(2).amax(-1).reshape(*size.shape[:2], *(1,) * (size.ndim - 2))).detach()
    return (weight * size.square()).mean()


def haar(levels: int) -> Loss:
    """One grouped convolution per level and field, for even sides."""

    def loss(estimate: Tensor, clean: Tensor) -> Tensor:
        bank = _haar_bank(estimate)
        convolve = conv1d if estimate.ndim == 3 else conv2d
        total = estimate.new_zeros(())
        x, y = estimate, clean
        for level in range(levels):
            x, y = (_split(convolve(z, bank, stride=2, groups=z.shape[1]), z.shape[1]) for z in (x, y))
            for band in range(0 if level == levels - 1 else 1, x.shape[2]):
                total = total + (x[:, :, band] - y[:, :, band]).abs().mean()
            x, y = x[:, :, 0], y[:, :, 0]
        return total

    return loss


def low_pass(radius: Tensor, cutoffs: Tensor, kappa: float, matrices: tuple[Tensor, ...]) -> "LowPass":
    """The DCT by matrix products, times the mask."""
    return LowPass(radius, cutoffs, kappa, matrices)


class LowPass:
    """DCT, mask and inverse DCT by dense matrices, with autograd."""

    def __init__(self, radius: Tensor, cutoffs: Tensor, kappa: float, matrices: tuple[Tensor, ...]) -> None:
        self.radius, self.cutoffs, self.kappa, self.matrices = radius, cutoffs, kappa, matrices

    def __call__(self, z: Tensor) -> Tensor:
        """Filter a field."""
        mask = (self.kappa * (self.cutoffs.reshape(-1, *(1,) * (z.ndim - 1)) - self.radius)).sigmoid()
        if len(self.matrices) == 1:
            (rows,) = self.matrices
            return (z @ rows.T * mask) @ rows
        columns, rows = self.matrices
        return columns.T @ ((columns @ z @ rows.T) * mask) @ rows


def stft_l1(frame_lengths: tuple[int, ...], overlap: float) -> Loss:
    """L1 of the moduli of centred short-time Fourier transforms, at several resolutions."""

    def loss(estimate: Tensor, clean: Tensor) -> Tensor:
        total = estimate.new_zeros(())
        for length in frame_lengths:
            window = torch.hann_window(length, device=estimate.device)
            x, y = (
                torch.stft(z.flatten(0, 1), length, round(length * (1 - overlap)), window=window, return_complex=True)
                for z in (estimate, clean)
            )
            total = total + (x.abs() - y.abs()).abs().mean()
        return total / len(frame_lengths)

    return loss


def _split(bands: Tensor, channels: int) -> Tensor:
    return bands.reshape(len(bands), channels, -1, *bands.shape[2:])


def _spectrum(x: Tensor) -> Tensor:
    spectrum: Tensor = torch.fft.fftn(x, dim=tuple(range(2, x.ndim)), norm="ortho")
    return spectrum


def _haar_bank(x: Tensor) -> Tensor:
    wavelet = pywt.Wavelet("haar")
    low, high = (torch.tensor(taps, dtype=x.dtype, device=x.device) for taps in (wavelet.dec_lo, wavelet.dec_hi))
    if x.ndim == 3:
        filters = [low.flip(0), high.flip(0)]
    else:
        filters = [torch.outer(a, b).flip(0, 1) for a in (low, high) for b in (low, high)]
    return torch.stack(filters).unsqueeze(1).repeat(x.shape[1], *(1,) * (x.ndim - 1))
