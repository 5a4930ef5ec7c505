"""The sections of an autoencoder's recipe: its network, and what it is trained to do."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Discriminator, Field, field_validator, model_validator

from passband.training.sections.settings import Settings

Share = Annotated[float, Field(ge=0, lt=1)]


class AutoencoderKLModel(Settings):
    """diffusers' AutoencoderKL, in its terms, or one that was saved (`pretrained`, its folder or its pipeline's)."""

    name: Literal["autoencoder_kl"] = "autoencoder_kl"
    pretrained: Path | None = None
    block_out_channels: tuple[Annotated[int, Field(ge=1)], ...] = Field((128, 256, 512, 512), min_length=1)
    layers_per_block: int = Field(2, ge=1)
    latent_channels: int = Field(4, ge=1)
    mid_attention: bool = True
    norm_num_groups: int = Field(32, ge=1)
    gradient_checkpointing: bool = False

    @model_validator(mode="after")
    def _fits(self) -> "AutoencoderKLModel":
        widths, groups = self.block_out_channels, self.norm_num_groups
        if self.pretrained is None and any(width % groups for width in widths):
            raise ValueError(f"block_out_channels {widths} must be multiples of norm_num_groups, {groups}")
        return self


class PerceptualSettings(Settings):
    """A distance of images by a network's features: `efficientnet-lite0`, `lpips` or `module:package.function`."""

    name: str = Field(min_length=1)
    weights: Path | None = None
    weight: float = Field(0.5, ge=0)


class AdversarialSettings(Settings):
    """A PatchGAN discriminator with the hinge loss, weighted by the gradients of the decoder's last layer."""

    weight: float = Field(0.5, ge=0)
    start_step: int = Field(50_001, ge=1, description="The first step that has it, counted from 1.")
    base_channels: int = Field(64, ge=1)
    layers: int = Field(3, ge=1)
    norm: Literal["batch", "group", "none"] = "batch"
    lr: float | None = Field(None, gt=0, description="Of the discriminator; default: the autoencoder's.")
    betas: tuple[Share, Share] | None = Field(None, description="Likewise.")


class KLTerm(Settings):
    """KL divergence from the standard normal distribution, summed over the latent, per pixel value of the image."""

    name: Literal["kl"]
    weight: float = Field(1e-6, ge=0)


class ESMTerm(Settings):
    """Encoding spectrum matching."""

    name: Literal["esm"]
    weight: float = Field(0.01, ge=0)
    delta: float = 1.0
    bins: int = Field(16, ge=1)
    reference: bool = False
    of: Literal["mean", "sample"] = Field(
        "mean", description="The posterior's mean, or the latent as it is drawn, whose noise can stand in for detail."
    )


class DSMTerm(Settings):
    """Decoding spectrum matching: the masked latent is decoded to the masked image."""

    name: Literal["dsm"]
    corners: tuple[Annotated[int, Field(ge=0, le=14)], ...] = Field((0, 8, 10, 12), min_length=1)
    block: int = Field(8, ge=2)


class EQTerm(Settings):
    """EQ-VAE's scale equivariance: the scaled and turned latent is decoded to the scaled and turned image."""

    name: Literal["eq"]
    probability: float = Field(0.5, ge=0, le=1)
    scale: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (0.25, 1.0)
    turns: bool = True

    @field_validator("scale")
    @classmethod
    def _rises(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if scale[0] > scale[1]:
            raise ValueError(f"the range of scales must rise, as (0.25, 1.0) does, got {scale}")
        return scale


class TeacherTerm(Settings):
    """VA-VAE's alignment of the latent with a teacher's features."""

    name: Literal["teacher"]
    teacher: str = "efficientnet-lite0"
    weight: float = Field(0.1, ge=0)
    cos_margin: float = 0.5
    distance_margin: float = 0.25


LatentTerm = Annotated[KLTerm | ESMTerm | DSMTerm | EQTerm | TeacherTerm, Discriminator("name")]


class ObjectiveSettings(Settings):
    """What the autoencoder is trained to do."""

    l1: float = Field(1.0, ge=0)
    perceptual: PerceptualSettings | None = None
    adversarial: AdversarialSettings | None = None
    latent: tuple[LatentTerm, ...] = (KLTerm(name="kl"),)

    @field_validator("latent")
    @classmethod
    def _fit(cls, terms: tuple[LatentTerm, ...]) -> tuple[LatentTerm, ...]:
        names = [term.name for term in terms]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"each term counts once, got {', '.join(twice)} more than once")
        if {"dsm", "eq"} <= set(names):
            raise ValueError("dsm and eq both change what is decoded: take one of them")
        return terms

    @model_validator(mode="after")
    def _reconstructs(self) -> "ObjectiveSettings":
        if not self.l1 and self.perceptual is None:
            raise ValueError("nothing here asks for a reconstruction: set l1 above 0, or name a perceptual distance")
        return self
