"""The sections of a recipe that goes on training a diffusers pipeline."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from passband.training.sections.data import ImagesData, Side
from passband.training.sections.loss import RegularizerSettings
from passband.training.sections.run import EMAs, OptimizerSettings, TrainingSettings
from passband.training.sections.settings import Settings


class LoRASettings(Settings):
    """Low-rank adapters in the place of the whole network."""

    rank: int = Field(16, ge=1)
    alpha: float | None = Field(None, gt=0, description="Scale of the adapters times rank; default: the rank.")
    targets: tuple[Annotated[str, Field(min_length=1)], ...] | None = Field(
        None, min_length=1, description="Ends of the names of the layers; default: the attention's projections."
    )
    dropout: float = Field(0.0, ge=0, lt=1)
    base: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="Precision of the weights below the adapters.")


class PipelineSettings(Settings):
    """The pipeline's folder, as diffusers saves it, and what of it is trained."""

    path: Path
    variant: str | None = Field(None, description="Of the weights' files, such as fp16.")
    prediction: Literal["epsilon", "sample", "v_prediction"] | None = Field(
        None, description="What the network predicts, where its scheduler's configuration is wrong."
    )
    lora: LoRASettings | None = None
    training_guidance: float | None = Field(
        None, ge=0, description="Of networks with an input for it (Flux dev): what they are given; default: 1, none."
    )
    gradient_checkpointing: bool = False
    embeddings: Literal["device", "cpu"] = Field("device", description="Where the prompts' embeddings are kept.")


class PipelineData(ImagesData):
    """Images with captions, with classes, or alone, as the pipeline asks."""

    resolution: Side | tuple[Side, Side]
    captions: Literal["auto", "metadata", "files"] = Field(
        "auto", description="metadata.jsonl (file_name, text), NAME.txt beside each image, or what of them is there."
    )
    prompt: str | None = Field(None, min_length=1, description="One caption for all images; none is read then.")
    dropout: float = Field(0.1, ge=0, le=1, description="Share of samples without caption or class, for guidance.")

    @model_validator(mode="after")
    def _fits(self) -> "PipelineData":
        if self.augment is not None:
            raise ValueError("augment is for networks that are told of it: set it to null")
        if self.prompt is not None and self.captions != "auto":
            raise ValueError(
                f"prompt is the caption of all images, and captions {self.captions!r} reads one for each: take one out"
            )
        if self.prompt is not None and not self.prompt.strip():
            raise ValueError("prompt is blank: give the images a caption, or set dropout to 1 to train without any")
        return self


class PipelineRegularizer(RegularizerSettings):
    """The spectral term, on latents or, decoded, on pixels."""

    pixels: bool = Field(False, description="Compare decoded images in the place of latents: sharper, and slower.")
    crop: int | None = Field(None, ge=1, description="With pixels: decode a random square of so many latents' sides.")

    @model_validator(mode="after")
    def _crops(self) -> "PipelineRegularizer":
        if self.crop is not None and not self.pixels:
            raise ValueError("crop is a part of the latent to decode: set pixels to true, or crop to null")
        return self


class PipelineOptimizer(OptimizerSettings):
    """AdamW at a rate for weights that are good already."""

    lr: float = Field(1e-5, gt=0)
    weight_decay: float = Field(0.01, ge=0)


class PipelineTraining(TrainingSettings):
    """Length, precision, averaging, of a shorter training."""

    steps: int = Field(2000, ge=1)
    batch_size: int = Field(4, ge=1)
    ema: EMAs = Field(0.99, description="One average, or several: ema, ema2, ...")
    save_every: int = Field(500, ge=1)
    sample_every: int | None = Field(500, ge=1)


class PipelineSampling(Settings):
    """How the pipeline draws samples; what is null is as the pipeline has it."""

    count: int = Field(4, ge=1)
    steps: int | None = Field(None, ge=1)
    guidance: float | None = Field(None, ge=0)
    prompts: tuple[str, ...] = Field((), description="Taken in turns; default: captions of the images.")
    classes: Literal["random", "balanced"] = Field("random", description="Balanced: seed modulo classes.")
    seed: int = 0

    @field_validator("prompts", mode="before")
    @classmethod
    def _several(cls, prompts: object) -> object:
        return (prompts,) if isinstance(prompts, str) else prompts
