"""Spectral Regularization: Fourier and wavelet losses on the clean estimate (arXiv:2603.02447)."""

from passband.regularization.decoded import Decode, DecodedLoss
from passband.regularization.estimate import CleanEstimate, DDIMEstimate, Denoiser, tweedie
from passband.regularization.focal import FocalFrequencyLoss, focal_frequency_loss
from passband.regularization.fourier import (
    AmplitudeLoss,
    AmplitudePhaseLoss,
    Coupling,
    amplitude_loss,
    amplitude_phase_loss,
)
from passband.regularization.frames import FramedLoss, framed_loss
from passband.regularization.gate import Gate, NoiseRatioGate
from passband.regularization.loss import SpectralLoss, WeightedSum
from passband.regularization.named import Description, as_loss
from passband.regularization.pixel import PixelLoss, pixel_loss
from passband.regularization.regularizer import SpectralRegularizer
from passband.regularization.wavelet import SubbandWeights, WaveletLoss, wavelet_loss
from passband.regularization.weight import ConstantWeight, EDMWeight, GradientShare, Weight

__all__ = [
    "AmplitudeLoss",
    "AmplitudePhaseLoss",
    "CleanEstimate",
    "ConstantWeight",
    "Coupling",
    "DDIMEstimate",
    "Decode",
    "DecodedLoss",
    "Denoiser",
    "Description",
    "EDMWeight",
    "FocalFrequencyLoss",
    "FramedLoss",
    "Gate",
    "GradientShare",
    "NoiseRatioGate",
    "PixelLoss",
    "SpectralLoss",
    "SpectralRegularizer",
    "SubbandWeights",
    "WaveletLoss",
    "Weight",
    "WeightedSum",
    "amplitude_loss",
    "amplitude_phase_loss",
    "as_loss",
    "focal_frequency_loss",
    "framed_loss",
    "pixel_loss",
    "tweedie",
    "wavelet_loss",
]
