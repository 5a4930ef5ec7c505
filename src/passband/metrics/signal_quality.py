"""Distances of a generated clip from its reference that know nothing of speech."""

import math
from functools import lru_cache

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from passband._checks import import_extra
from passband.metrics._clips import centred_power

_LONGEST_STFT = 2048
_FLOOR = 1e-10


def multi_resolution_stft(generated: Float32[Tensor, " samples"], reference: Float32[Tensor, " samples"]) -> float:
    """Multi-resolution STFT distance, as auraloss computes it with its defaults.

    The mean over three resolutions of the spectral convergence plus the mean absolute difference of log magnitudes.
    NaN for clips of at most 1,024 samples, and for a silent reference. The resolutions are in samples: it depends on
    the sample rate.

    Source:
        Yamamoto et al., arXiv:1910.11480; Steinmetz & Reiss, auraloss.

    """
    loss = _multi_resolution_loss()
    if len(generated) <= _LONGEST_STFT // 2 or is_silent(reference):
        return math.nan
    with torch.no_grad():
        return float(loss(generated[None, None], reference[None, None]))


def log_spectral_error(
    generated: Float32[Tensor, " samples"],
    reference: Float32[Tensor, " samples"],
    *,
    n_fft: int = 1024,
    floor: float = _FLOOR,
) -> float:
    r"""Frame-wise log-spectral distance in dB.

    The mean over frames of the root mean square over frequencies of
    $10 \log_{10} \frac{|X|^2 + \phi}{|Y|^2 + \phi}$; Hann window of n_fft samples, a quarter of it from frame to frame,
    powers relative to that of a full-scale sine, $\phi$ = floor (10⁻¹⁰ is -100 dB). NaN for clips of at most n_fft / 2
    samples, and for a silent reference.

    Source:
        Gray & Markel, IEEE Transactions on Acoustics, Speech, and Signal Processing 24 (1976).

    """
    if len(generated) <= n_fft // 2 or is_silent(reference):
        return math.nan
    full_scale = (torch.hann_window(n_fft).sum() / 2).square()
    generated_power, reference_power = (
        centred_power(x, n_fft, n_fft // 4).double() / full_scale + floor for x in (generated, reference)
    )
    return float((10 * torch.log10(generated_power / reference_power)).square().mean(0).sqrt().mean())


def is_silent(clip: Float32[Tensor, " samples"]) -> bool:
    """Whether all samples are zero."""
    return not bool(clip.any())


@lru_cache(maxsize=1)
def _multi_resolution_loss() -> nn.Module:
    import_extra("auraloss", "audio")
    loss: nn.Module = import_extra("auraloss.freq", "audio").MultiResolutionSTFTLoss()
    return loss
