"""Measures of generated samples: streaming ones take batches (`update`, `compute`) and merge across ranks."""

from passband.metrics.band_error import BandError, BandErrorResult, radial_bands, wiener_band_error
from passband.metrics.checkerboard import leakage, nearest_pattern, pattern_distance
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
    "ReconstructionQuality",
    "ReconstructionResult",
    "SpectrumDistance",
    "SpectrumResult",
    "TorchScriptFeatures",
    "efficientnet_lite0",
    "extrapolated_frechet_distance",
    "fit_power_law",
    "frechet_distance",
    "leakage",
    "load_features",
    "log_spectral_distance",
    "log_spectral_ratio",
    "measure_power_law",
    "nearest_pattern",
    "octave_bands",
    "passed_power",
    "pattern_distance",
    "polynomial_mmd",
    "precision_recall_scores",
    "radial_bands",
    "wiener_band_error",
    "psnr",
    "ssim",
]
