"""Spectral Forcing: a low-pass of the denoiser's input whose cutoff rises with the flow time (arXiv:2606.15236)."""

from passband.forcing.attach import Attachment, attached, check_forced, detach, recorded
from passband.forcing.forcing import SpectralForcing
from passband.forcing.fronts import FRONTS, ConstantFront, ContourFront, Front, LinearFront, front_from_config
from passband.forcing.networks import register_model
from passband.forcing.operator import spectral_low_pass

__all__ = [
    "FRONTS",
    "Attachment",
    "ConstantFront",
    "ContourFront",
    "Front",
    "LinearFront",
    "SpectralForcing",
    "attached",
    "check_forced",
    "detach",
    "front_from_config",
    "recorded",
    "register_model",
    "spectral_low_pass",
]
