"""Networks whose published weights load by their own names, and how they are saved.

A network here is raw: the process says how it is called and what its output means, as for any other network. With
[`EDM`][passband.process.EDM] as the process, `passband.sample(network, EDM(), ...)` samples an EDM network, and
[`EDMDenoiser`][passband.models.EDMDenoiser] is the preconditioned denoiser D itself.
"""

from passband.models.denoiser import EDMDenoiser
from passband.models.diffwave import DiffWave
from passband.models.edm_unet import EDMUNet
from passband.models.jit import JIT_SIZES, JiT
from passband.models.lpips import LPIPS, load_lpips
from passband.models.patchgan import PatchGAN, adaptive_weight, generator_loss, hinge_discriminator_loss
from passband.models.perceptual import EfficientNetDistance
from passband.models.saving import Saveable, load_model, registered, save_model

__all__ = [
    "JIT_SIZES",
    "DiffWave",
    "EDMDenoiser",
    "EDMUNet",
    "EfficientNetDistance",
    "JiT",
    "LPIPS",
    "PatchGAN",
    "Saveable",
    "adaptive_weight",
    "generator_loss",
    "hinge_discriminator_loss",
    "load_lpips",
    "load_model",
    "registered",
    "save_model",
]
