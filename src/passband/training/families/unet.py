"""diffusers' U-Net."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from passband._checks import import_extra
from passband.training.families.base import Family, Shape
from passband.training.sections import Model, UNetModel


class UNetFamily(Family[UNetModel]):
    """diffusers' UNet2DModel."""

    class_name, name, folder = "UNet2DModel", "unet", "unet"

    def build(self, settings: UNetModel, shape: Shape, classes: int, heads: int) -> nn.Module:
        """See the base class."""
        diffusers = import_extra("diffusers", "train")
        channels, height, width = shape
        levels = range(len(settings.block_out_channels))
        attention = [level in settings.attention_levels for level in levels]
        network = diffusers.UNet2DModel(
            sample_size=(height, width),
            in_channels=channels,
            out_channels=heads * channels,
            block_out_channels=settings.block_out_channels,
            layers_per_block=settings.layers_per_block,
            down_block_types=tuple("AttnDownBlock2D" if has else "DownBlock2D" for has in attention),
            up_block_types=tuple("AttnUpBlock2D" if has else "UpBlock2D" for has in reversed(attention)),
            add_attention=settings.mid_attention,
            attention_head_dim=settings.attention_head_dim,
            norm_num_groups=settings.norm_num_groups,
            dropout=settings.dropout,
            # With label dropout, the last class is the null class.
            num_class_embeds=classes + (settings.label_dropout > 0) if classes else None,
        )
        assert isinstance(network, nn.Module)
        return network

    def shape(self, config: Mapping[str, Any]) -> Shape:
        """See the base class."""
        size = config["sample_size"]
        height, width = (size, size) if isinstance(size, int) else size
        return config["in_channels"], height, width

    def class_inputs(self, config: Mapping[str, Any]) -> int:
        """See the base class."""
        return int(config.get("num_class_embeds") or 0)

    def has_null(self, settings: Model | None) -> bool:
        """See the base class."""
        return settings is not None and settings.label_dropout > 0

    def check(self, config: Mapping[str, Any], where: str, shape: Shape, heads: int) -> None:
        """See the base class."""
        if config["out_channels"] != heads * config["in_channels"]:
            raise ValueError(
                f"{where} gives {config['out_channels']} channels for {config['in_channels']}, expected "
                f"{heads * config['in_channels']}: one that learns the variance too cannot be trained here"
            )
        unit = 2 ** (len(config["block_out_channels"]) - 1)
        if shape[1] % unit or shape[2] % unit:
            sides = shape[1] if shape[1] == shape[2] else f"{shape[1]} x {shape[2]}"
            raise ValueError(
                f"{where} needs a resolution divisible by {unit}, the data has {sides}; set data.resolution"
            )
