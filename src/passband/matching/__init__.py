"""Spectrum Matching: latents and representations with the right spectrum (arXiv:2603.14645), and its baselines."""

from passband.matching.alignment import AlignmentLoss, alignment_loss
from passband.matching.contrast import directional_spectral_energy, rms_spatial_contrast
from passband.matching.dsm import DSM, draw_corner, dsm_low_pass, dsm_mask
from passband.matching.eq import EQ, draw_transform, eq_transform
from passband.matching.esm import ESM, esm_divergence, esm_loss
from passband.matching.latent_alignment import LatentAlignment, marginal_cosine_loss, marginal_distance_loss
from passband.matching.spectrum import Rings, anti_aliased, latent_spectrum, spectrum_rings
from passband.matching.targets import dog, spatial_normalize

__all__ = [
    "DSM",
    "EQ",
    "ESM",
    "AlignmentLoss",
    "LatentAlignment",
    "Rings",
    "alignment_loss",
    "anti_aliased",
    "directional_spectral_energy",
    "dog",
    "draw_corner",
    "draw_transform",
    "dsm_low_pass",
    "dsm_mask",
    "eq_transform",
    "esm_divergence",
    "esm_loss",
    "latent_spectrum",
    "marginal_cosine_loss",
    "marginal_distance_loss",
    "rms_spatial_contrast",
    "spatial_normalize",
    "spectrum_rings",
]
