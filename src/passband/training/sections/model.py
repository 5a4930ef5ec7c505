"""The networks that are trained to denoise."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from passband._checks import nearest
from passband.models import JIT_SIZES
from passband.training.sections.settings import Settings


class UNetModel(Settings):
    """diffusers' UNet2DModel, in its terms, or one that was saved (`pretrained`, a folder with config.json)."""

    name: Literal["unet"] = "unet"
    pretrained: Path | None = None
    block_out_channels: tuple[Annotated[int, Field(ge=1)], ...] = Field((64, 128, 256), min_length=1)
    layers_per_block: int = Field(2, ge=1)
    attention_levels: tuple[int, ...] = ()
    mid_attention: bool = True
    attention_head_dim: int = Field(32, ge=1)
    norm_num_groups: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    class_conditional: bool = False
    label_dropout: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _fits(self) -> "UNetModel":
        if self.pretrained is not None:
            return self
        widths, groups, head = self.block_out_channels, self.norm_num_groups, self.attention_head_dim
        unknown = [level for level in self.attention_levels if not 0 <= level < len(widths)]
        if unknown:
            raise ValueError(f"attention_levels {unknown} do not exist: the levels are 0 (finest) to {len(widths) - 1}")
        if any(width % groups for width in widths):
            raise ValueError(f"block_out_channels {widths} must be multiples of norm_num_groups, {groups}")
        attended = [widths[level] for level in self.attention_levels] + [widths[-1]] * self.mid_attention
        if attended and min(attended) < head:
            raise ValueError(
                f"attention_head_dim {head} exceeds the {min(attended)} channels of a level with attention: lower it, "
                "or take the attention out (attention_levels, mid_attention)"
            )
        return self


class EDMUNetModel(Settings):
    """EDM's U-Net in its DDPM++ or NCSN++ form, or one that was imported or saved (`pretrained`, its folder)."""

    name: Literal["edm_unet"]
    pretrained: Path | None = None
    form: Literal["ddpmpp", "ncsnpp"] = "ddpmpp"
    model_channels: int = Field(128, ge=1)
    channel_mult: tuple[Annotated[int, Field(ge=1)], ...] = Field((1, 2, 2, 2), min_length=1)
    num_blocks: int = Field(4, ge=1)
    attn_resolutions: tuple[int, ...] = (16,)
    dropout: float | None = Field(None, ge=0, lt=1, description="Default: 0.1, or that of the pretrained network.")
    augment_dim: int = Field(0, ge=0)
    class_conditional: bool = False
    label_dropout: float = Field(0.0, ge=0, lt=1)


class JiTModel(Settings):
    """JiT of a published size, any part of it changed, or one that was imported or saved (`pretrained`, its folder)."""

    name: Literal["jit"]
    pretrained: Path | None = None
    size: str = "B/16"
    patch_size: int | None = Field(None, ge=1)
    hidden_size: int | None = Field(None, ge=1)
    depth: int | None = Field(None, ge=1)
    num_heads: int | None = Field(None, ge=1)
    bottleneck_dim: int | None = Field(None, ge=1)
    in_context_len: int | None = Field(None, ge=0)
    in_context_start: int | None = Field(None, ge=0)
    patch_embedding: Literal["conv", "linear"] | None = None
    dropout: float | None = Field(
        None, ge=0, lt=1, description="Of attention and projections; default: 0, or the pretrained's."
    )
    gradient_checkpointing: bool = False
    class_conditional: bool = False
    label_dropout: float = Field(0.0, ge=0, lt=1)

    @field_validator("size")
    @classmethod
    def _known(cls, size: str) -> str:
        if size not in JIT_SIZES:
            raise ValueError(f"unknown size{nearest(size, JIT_SIZES)}; the sizes are {', '.join(JIT_SIZES)}")
        return size

    @property
    def changes(self) -> dict[str, Any]:
        """The constructor's arguments in which the network differs from its size."""
        fields = ("patch_size", "hidden_size", "depth", "num_heads", "bottleneck_dim", "in_context_len")
        names = (*fields, "in_context_start", "patch_embedding")
        found = {name: getattr(self, name) for name in names} | {"attn_drop": self.dropout, "proj_drop": self.dropout}
        return {name: value for name, value in found.items() if value is not None}


class DiTModel(Settings):
    """diffusers' DiTTransformer2DModel, in its terms, or one that was saved (`pretrained`, its folder)."""

    name: Literal["dit"]
    pretrained: Path | None = None
    patch_size: int = Field(2, ge=1)
    num_layers: int = Field(28, ge=1)
    num_heads: int = Field(16, ge=1)
    head_dim: int = Field(72, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    gradient_checkpointing: bool = False
    class_conditional: bool = False
    label_dropout: float = Field(0.0, ge=0, lt=1)


class DiffWaveModel(Settings):
    """DiffWave, or one that was imported or saved (`pretrained`, its folder)."""

    name: Literal["diffwave"]
    pretrained: Path | None = None
    n_mels: int = Field(80, ge=1, description="As data.mel.n_mels.")
    residual_layers: int = Field(30, ge=1)
    residual_channels: int = Field(64, ge=1)
    dilation_cycle_length: int = Field(10, ge=1)
    upsample_factors: tuple[Annotated[int, Field(ge=2, multiple_of=2)], ...] = Field(
        (16, 16), min_length=1, description="Their product is data.mel.hop_length."
    )
    unconditional: bool = False
    gradient_checkpointing: bool = False
    # What networks for images may do, and this one does not.
    class_conditional: ClassVar[bool] = False
    label_dropout: ClassVar[float] = 0.0


Model = Annotated[
    Annotated[UNetModel, Tag("unet")]
    | Annotated[EDMUNetModel, Tag("edm_unet")]
    | Annotated[JiTModel, Tag("jit")]
    | Annotated[DiTModel, Tag("dit")]
    | Annotated[DiffWaveModel, Tag("diffwave")],
    Discriminator(
        lambda model: model.get("name", "unet") if isinstance(model, dict) else getattr(model, "name", None),
        custom_error_type="model",
        custom_error_message=(
            "the model's name is unet (diffusers' UNet2DModel), edm_unet (EDM's DDPM++ and NCSN++), jit, dit "
            "(diffusers' DiTTransformer2DModel) or diffwave"
        ),
    ),
]


def knows_no_class(model: Model) -> bool:
    """Whether a class-conditional network of these settings can be asked for no class, as guidance does.

    Pretrained ones are assumed to, but for the U-Net, which has a null class by its label dropout alone.
    """
    return model.label_dropout > 0 or (model.pretrained is not None and not isinstance(model, UNetModel))
