"""Measures of generated samples: streaming ones take batches (`update`, `compute`) and merge across ranks."""

from passband.metrics.audio_embeddings import AudioEmbedding, MelStatistics, TorchScriptEmbedding
from passband.metrics.audio_loading import load_audio_embedding
from passband.metrics.audio_measures import AUDIO_MEASURES, AudioMeasure, load_audio_measure
from passband.metrics.band_error import BandError, BandErrorResult, radial_bands, wiener_band_error
from passband.metrics.band_map import BandMap, BandMapResult
from passband.metrics.bootstrap import BootstrapMeans, in_first_half, poisson_weights
from passband.metrics.channel_spectrum import ChannelSpectrum, ChannelSpectrumResult
from passband.metrics.channels import ChannelResult, ChannelStatistics, pca_picture
from passband.metrics.checkerboard import leakage, nearest_pattern, pattern_distance
from passband.metrics.contrast import Contrast
from passband.metrics.decoder_probes import Probed, cut_probe, equivariance_probe, low_pass_probe
from passband.metrics.denoiser_comparison import compare_denoisers
from passband.metrics.denoiser_result import DenoiserSpectrum, GradientShare
from passband.metrics.denoiser_spectrum import DenoiserMeasure
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
from passband.metrics.frechet_audio import FrechetAudioDistance
from passband.metrics.inception_score import InceptionScore, InceptionScoreResult
from passband.metrics.kid import KID, KIDResult, polynomial_mmd
from passband.metrics.latents import LatentMeasures, LatentResult
from passband.metrics.long_term import LongTermSpectrum
from passband.metrics.long_term_compare import FrequencyBand, LongTermResult, compare_long_term, octave_edges
from passband.metrics.monitor import SpectrumMonitor, spectrum_scalars
from passband.metrics.ndb import NDB, NDBResult, two_proportion_z
from passband.metrics.noise_levels import NoiseLevel, noise_levels, noise_range
from passband.metrics.passed import PassedPower, passed_power
from passband.metrics.peaks import Peak, PeakReport, find_peaks
from passband.metrics.pixel_bands import PixelBands
from passband.metrics.plane_map import PlaneMap
from passband.metrics.planes import Planes
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
from passband.metrics.resemblyzer import ResemblyzerEmbedding
from passband.metrics.sample_comparison import Law, LawPair, SampleComparison, Scored, compare_samples
from passband.metrics.sample_means import Estimate, SampleMeans
from passband.metrics.sample_spectrum import SampleSpectrum
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
from passband.metrics.vggish import vggish_examples
from passband.metrics.wiener import ChannelMoments, WienerFilter, measure_wiener

__all__ = [
    "AUDIO_MEASURES",
    "AudioEmbedding",
    "AudioMeasure",
    "BandError",
    "BandErrorResult",
    "BandMap",
    "BandMapResult",
    "BootstrapMeans",
    "ChannelMoments",
    "ChannelResult",
    "ChannelSpectrum",
    "ChannelSpectrumResult",
    "ChannelStatistics",
    "Contrast",
    "DenoiserMeasure",
    "DenoiserSpectrum",
    "Estimate",
    "ExtrapolatedFrechet",
    "FeatureExtractor",
    "FeatureStatistics",
    "FeatureStore",
    "FrechetAudioDistance",
    "FrechetDistance",
    "FrechetResult",
    "FrequencyBand",
    "GradientShare",
    "InceptionScore",
    "InceptionScoreResult",
    "KID",
    "KIDResult",
    "LatentMeasures",
    "LatentResult",
    "Law",
    "LawPair",
    "LongTermResult",
    "LongTermSpectrum",
    "MeanPSD",
    "MelStatistics",
    "ModuleFeatures",
    "NDB",
    "NDBResult",
    "NoiseLevel",
    "OctaveDistance",
    "PassedPower",
    "Peak",
    "PeakReport",
    "PixelBands",
    "PlaneMap",
    "Planes",
    "PowerLawFit",
    "PowerLawMeasure",
    "PowerLawResult",
    "PrecisionRecall",
    "PrecisionRecallResult",
    "PrecisionRecallScores",
    "Probed",
    "ReconstructionQuality",
    "ReconstructionResult",
    "ResemblyzerEmbedding",
    "SampleComparison",
    "SampleMeans",
    "SampleSpectrum",
    "Scored",
    "SpectrumDistance",
    "SpectrumMonitor",
    "SpectrumResult",
    "TorchScriptEmbedding",
    "TorchScriptFeatures",
    "WienerFilter",
    "compare_denoisers",
    "compare_long_term",
    "compare_samples",
    "cut_probe",
    "efficientnet_lite0",
    "equivariance_probe",
    "extrapolated_frechet_distance",
    "find_peaks",
    "fit_power_law",
    "frechet_distance",
    "in_first_half",
    "leakage",
    "load_audio_embedding",
    "load_audio_measure",
    "load_features",
    "log_spectral_distance",
    "log_spectral_ratio",
    "low_pass_probe",
    "measure_power_law",
    "measure_wiener",
    "nearest_pattern",
    "noise_levels",
    "noise_range",
    "octave_bands",
    "octave_edges",
    "passed_power",
    "pattern_distance",
    "pca_picture",
    "poisson_weights",
    "polynomial_mmd",
    "precision_recall_scores",
    "psnr",
    "radial_bands",
    "spectrum_scalars",
    "ssim",
    "two_proportion_z",
    "vggish_examples",
    "wiener_band_error",
]
