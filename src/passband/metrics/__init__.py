"""Measures of generated samples: streaming ones take batches (`update`, `compute`) and merge across ranks."""

from passband.metrics.band_error import BandError, BandErrorResult, radial_bands, wiener_band_error
from passband.metrics.band_map import BandMap, BandMapResult
from passband.metrics.channel_spectrum import ChannelSpectrum, ChannelSpectrumResult
from passband.metrics.channels import ChannelResult, ChannelStatistics, pca_picture
from passband.metrics.checkerboard import leakage, nearest_pattern, pattern_distance
from passband.metrics.decoder_probes import Probed, cut_probe, equivariance_probe, low_pass_probe
from passband.metrics.efficientnet import efficientnet_lite0
from passband.metrics.extractors import load_features
from passband.metrics.features import FeatureExtractor, ModuleFeatures
from passband.metrics.frechet import (
    ExtrapolatedFrechet,
    FrechetDistance,
    FrechetResult,
    extrapolated_frechet_distance,
    frechet_distance,
)
from passband.metrics.inception_score import InceptionScore, InceptionScoreResult
from passband.metrics.kid import KID, KIDResult, polynomial_mmd
from passband.metrics.latents import LatentMeasures, LatentResult
from passband.metrics.passed import PassedPower, passed_power
from passband.metrics.power_law import (
    PowerLawFit,
    PowerLawMeasure,
    PowerLawResult,
    fit_power_law,
    measure_power_law,
)
from passband.metrics.precision_recall import (
    PrecisionRecall,
    PrecisionRecallResult,
    PrecisionRecallScores,
    precision_recall_scores,
)
from passband.metrics.reconstruction import ReconstructionQuality, ReconstructionResult, psnr, ssim
from passband.metrics.sample_means import Estimate, SampleMeans
from passband.metrics.spectrum import (
    MeanPSD,
    OctaveDistance,
    SpectrumDistance,
    SpectrumResult,
    log_spectral_distance,
    log_spectral_ratio,
    octave_bands,
)
from passband.metrics.statistics import FeatureStatistics
from passband.metrics.store import FeatureStore
from passband.metrics.torchscript import TorchScriptFeatures

__all__ = [
    "BandError",
    "BandErrorResult",
    "BandMap",
    "BandMapResult",
    "ChannelResult",
    "ChannelSpectrum",
    "ChannelSpectrumResult",
    "ChannelStatistics",
    "Estimate",
    "ExtrapolatedFrechet",
    "FeatureExtractor",
    "FeatureStatistics",
    "FeatureStore",
    "FrechetDistance",
    "FrechetResult",
    "InceptionScore",
    "InceptionScoreResult",
    "KID",
    "KIDResult",
    "LatentMeasures",
    "LatentResult",
    "MeanPSD",
    "ModuleFeatures",
    "OctaveDistance",
    "PassedPower",
    "PowerLawFit",
    "PowerLawMeasure",
    "PowerLawResult",
    "PrecisionRecall",
    "PrecisionRecallResult",
    "PrecisionRecallScores",
    "Probed",
    "ReconstructionQuality",
    "ReconstructionResult",
    "SampleMeans",
    "SpectrumDistance",
    "SpectrumResult",
    "TorchScriptFeatures",
    "cut_probe",
    "efficientnet_lite0",
    "equivariance_probe",
    "extrapolated_frechet_distance",
    "fit_power_law",
    "frechet_distance",
    "leakage",
    "load_features",
    "log_spectral_distance",
    "log_spectral_ratio",
    "low_pass_probe",
    "measure_power_law",
    "nearest_pattern",
    "octave_bands",
    "passed_power",
    "pattern_distance",
    "pca_picture",
    "polynomial_mmd",
    "precision_recall_scores",
    "psnr",
    "radial_bands",
    "ssim",
    "wiener_band_error",
]
