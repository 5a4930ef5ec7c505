"""Measures of generated samples: streaming ones take batches (`update`, `compute`) and merge across ranks."""

from passband.metrics.checkerboard import leakage, nearest_pattern, pattern_distance
from passband.metrics.spectrum import (
    MeanPSD,
    OctaveDistance,
    SpectrumDistance,
    SpectrumResult,
    log_spectral_distance,
    log_spectral_ratio,
    octave_bands,
)

__all__ = [
    "MeanPSD",
    "OctaveDistance",
    "SpectrumDistance",
    "SpectrumResult",
    "leakage",
    "log_spectral_distance",
    "log_spectral_ratio",
    "nearest_pattern",
    "octave_bands",
    "pattern_distance",
]
