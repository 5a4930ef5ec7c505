"""EDM's U-Nets."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from passband.models import EDMUNet
from passband.training.families.base import Family, Shape, check_same_sides, rebuilt
from passband.training.sections import EDMUNetModel


class EDMFamily(Family[EDMUNetModel]):
    """EDM's DDPM++ and NCSN++."""

    class_name, name, folder = "EDMUNet", "edm_unet", "unet"
    one_hot = True

    def build(self, settings: EDMUNetModel, shape: Shape, classes: int, heads: int) -> nn.Module:
        """See the base class."""
        if heads != 1:
            raise ValueError("edm_unet has one head: set process.hybrid to false, or take model.name jit or unet")
        channels, height, width = shape
        if height != width:
            raise ValueError(f"edm_unet takes square samples, got {height} x {width}: take model.name unet or jit")
        return EDMUNet(
            img_resolution=height,
            img_channels=channels,
            label_dim=classes,
            augment_dim=settings.augment_dim,
            model_channels=settings.model_channels,
            channel_mult=settings.channel_mult,
            num_blocks=settings.num_blocks,
            attn_resolutions=settings.attn_resolutions,
            dropout=0.1 if settings.dropout is None else settings.dropout,
            **_FORMS[settings.form],
        )

    def shape(self, config: Mapping[str, Any]) -> Shape:
        """See the base class."""
        return config["img_channels"], config["img_resolution"], config["img_resolution"]

    def class_inputs(self, config: Mapping[str, Any]) -> int:
        """See the base class."""
        return int(config["label_dim"])

    def augment_inputs(self, config: Mapping[str, Any]) -> int:
        """See the base class."""
        return int(config["augment_dim"])

    def check(self, config: Mapping[str, Any], where: str, shape: Shape, heads: int) -> None:
        """See the base class."""
        check_same_sides(self.shape(config), where, shape)

    def adapted(self, network: nn.Module, settings: EDMUNetModel) -> nn.Module:
        """The network with the settings' dropout, if they name one and it has another."""
        assert isinstance(network, EDMUNet)
        if settings.dropout in (None, network.config["dropout"]):
            return network
        return rebuilt(network, dropout=settings.dropout)


_FORMS: dict[str, dict[str, Any]] = {
    "ddpmpp": {
        "embedding_type": "positional",
        "encoder_type": "standard",
        "channel_mult_noise": 1,
        "resample_filter": (1, 1),
    },
    "ncsnpp": {
        "embedding_type": "fourier",
        "encoder_type": "residual",
        "channel_mult_noise": 2,
        "resample_filter": (1, 3, 3, 1),
    },
}
