"""JiT, on pixels or on latents."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn

from passband.models import JiT
from passband.training.families.base import (
    Family,
    Shape,
    Tap,
    block_of,
    check_outputs,
    check_same_sides,
    field_of,
    rebuilt,
)
from passband.training.sections import JiTModel, Model


class JiTFamily(Family[JiTModel]):
    """The plain transformer. Its last class is the null class."""

    class_name, name, folder = "JiT", "jit", "transformer"

    def build(self, settings: JiTModel, shape: Shape, classes: int, heads: int) -> nn.Module:
        """See the base class."""
        channels, height, width = shape
        options = {**settings.changes, "in_channels": channels, "out_channels": heads * channels}
        network = JiT.from_size(settings.size, input_size=(height, width), num_classes=classes, **options)
        return self.adapted(network, settings)

    def shape(self, config: Mapping[str, Any]) -> Shape:
        """See the base class."""
        size = config["input_size"]
        height, width = (size, size) if isinstance(size, int) else size
        return config["in_channels"], height, width

    def class_inputs(self, config: Mapping[str, Any]) -> int:
        """See the base class."""
        return int(config["num_classes"]) + 1 if config["num_classes"] else 0

    def has_null(self, settings: Model | None) -> bool:
        """See the base class."""
        return True

    def check(self, config: Mapping[str, Any], where: str, shape: Shape, heads: int) -> None:
        """See the base class."""
        check_same_sides(self.shape(config), where, shape)
        check_outputs(config, where, shape, heads)

    def adapted(self, network: nn.Module, settings: JiTModel) -> nn.Module:
        """The network with the settings' dropout, if they name one and it has another, and gradient checkpointing."""
        assert isinstance(network, JiT)
        drops = {"attn_drop": settings.dropout, "proj_drop": settings.dropout}
        if settings.dropout is not None and any(network.config[name] != share for name, share in drops.items()):
            network = rebuilt(network, **drops)
        if settings.gradient_checkpointing:
            network.enable_gradient_checkpointing()
        return network

    def tap(self, network: nn.Module, depth: int) -> Tap:
        """See the base class; class tokens, which stand in front, are left out."""
        assert isinstance(network, JiT)
        to_field = partial(field_of, rows=network.rows, columns=network.columns)
        return Tap(block_of(network.blocks, depth), int(network.config["hidden_size"]), to_field)
