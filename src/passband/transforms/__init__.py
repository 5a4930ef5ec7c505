"""Orthonormal transforms of fields of shape (batch, channels, *spatial). Knows no diffusion."""

from passband.transforms._subbands import WaveletCoefficients
from passband.transforms.dct import block_dct, block_idct, dct, dct_matrix, idct
from passband.transforms.fourier import half_weights, irfftn, rfftn
from passband.transforms.gaussian import gaussian_blur
from passband.transforms.mel import MelScale, MelSpectrogram, hz_to_mel, mel_filterbank, mel_to_hz
from passband.transforms.radial import (
    PowerLaw,
    band_pool,
    bin_frequencies,
    power_law_exponent,
    power_law_fit,
    radial_bins,
    radial_grid,
    radial_psd,
)
from passband.transforms.stationary import iswt, swt
from passband.transforms.taper import taper, taper_window
from passband.transforms.wavelet import check_transform, dwt, dwt_max_levels, idwt

__all__ = [
    "MelScale",
    "MelSpectrogram",
    "PowerLaw",
    "WaveletCoefficients",
    "band_pool",
    "bin_frequencies",
    "block_dct",
    "block_idct",
    "check_transform",
    "dct",
    "dct_matrix",
    "dwt",
    "dwt_max_levels",
    "gaussian_blur",
    "half_weights",
    "hz_to_mel",
    "idct",
    "idwt",
    "irfftn",
    "iswt",
    "mel_filterbank",
    "mel_to_hz",
    "power_law_exponent",
    "power_law_fit",
    "radial_bins",
    "radial_grid",
    "radial_psd",
    "rfftn",
    "swt",
    "taper",
    "taper_window",
]
