"""The families of networks that a recipe can name: how each is built, and what its configuration says of it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from torch import nn

from passband._checks import import_extra
from passband.models import EDMUNet, JiT
from passband.training.sections import EDMUNetModel, JiTModel, Model, UNetModel

Shape = tuple[int, int, int]
Chosen = TypeVar("Chosen", UNetModel, EDMUNetModel, JiTModel)
Network = TypeVar("Network", EDMUNet, JiT)


class Family(ABC, Generic[Chosen]):
    """What the trainer asks of a kind of network; `config` is the network's own configuration."""

    #: The name of the networks' class, and of the recipe's section.
    class_name: ClassVar[str]
    name: ClassVar[str]
    #: Its folder in a checkpoint, by diffusers' names.
    folder: ClassVar[str]
    #: Whether it takes classes as rows of a one-hot matrix, with zeros for none, or as indices, with the last for none.
    one_hot: ClassVar[bool] = False

    @abstractmethod
    def build(self, settings: Chosen, shape: Shape, classes: int, heads: int) -> nn.Module:
        """A network for samples of a shape, (channels, height, width)."""

    @abstractmethod
    def shape(self, config: Mapping[str, Any]) -> Shape:
        """(channels, height, width) of the samples that it was made for."""

    @abstractmethod
    def class_inputs(self, config: Mapping[str, Any]) -> int:
        """How many classes it tells apart, 0 without; a null class counts, where it has one."""

    def augment_inputs(self, config: Mapping[str, Any]) -> int:
        """The width of the augmentation labels that it takes, 0 without."""
        return 0

    def has_null(self, settings: Model | None) -> bool:
        """Whether the last class stands for none, by the recipe that it was trained by."""
        return False

    @abstractmethod
    def check(self, config: Mapping[str, Any], where: str, shape: Shape, heads: int) -> None:
        """Raise ValueError unless a pretrained network fits the data."""

    def adapted(self, network: nn.Module, settings: Chosen) -> nn.Module:
        """A pretrained network with the settings that do not touch its weights."""
        return network


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
        if shape[1] % unit:
            raise ValueError(
                f"{where} needs a resolution divisible by {unit}, the data has {shape[1]}; set data.resolution"
            )


class EDMFamily(Family[EDMUNetModel]):
    """EDM's DDPM++ and NCSN++."""

    class_name, name, folder = "EDMUNet", "edm_unet", "unet"
    one_hot = True

    def build(self, settings: EDMUNetModel, shape: Shape, classes: int, heads: int) -> nn.Module:
        """See the base class."""
        if heads != 1:
            raise ValueError("edm_unet has one head: set process.hybrid to false, or take model.name jit or unet")
        channels, height, _ = shape
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
        _check_same_sides(self.shape(config), where, shape)

    def adapted(self, network: nn.Module, settings: EDMUNetModel) -> nn.Module:
        """The network with the settings' dropout, if they name one and it has another."""
        assert isinstance(network, EDMUNet)
        if settings.dropout in (None, network.config["dropout"]):
            return network
        return _rebuilt(network, dropout=settings.dropout)


class JiTFamily(Family[JiTModel]):
    """The pixel transformer. Its last class is the null class."""

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
        _check_same_sides(self.shape(config), where, shape)
        outputs = config["out_channels"] or config["in_channels"]
        if outputs != heads * config["in_channels"]:
            raise ValueError(
                f"{where} gives {outputs} channels for {config['in_channels']}, expected {heads * shape[0]}: "
                f"set process.hybrid to {str(heads == 1).lower()}"
            )

    def adapted(self, network: nn.Module, settings: JiTModel) -> nn.Module:
        """The network with the settings' dropout, if they name one and it has another, and gradient checkpointing."""
        assert isinstance(network, JiT)
        drops = {"attn_drop": settings.dropout, "proj_drop": settings.dropout}
        if settings.dropout is not None and any(network.config[name] != share for name, share in drops.items()):
            network = _rebuilt(network, **drops)
        if settings.gradient_checkpointing:
            network.enable_gradient_checkpointing()
        return network


def _rebuilt(network: Network, **changes: object) -> Network:
    """The network with other arguments, of those that do not touch its weights."""
    changed = type(network)(**{**network.config, **changes})
    changed.load_state_dict(network.state_dict())
    changed.recorded_forcing = network.recorded_forcing
    return changed


def _check_same_sides(made_for: Shape, where: str, shape: Shape) -> None:
    if made_for[1:] != shape[1:]:
        raise ValueError(
            f"{where} was made for {made_for[1]} x {made_for[2]} pixels, the data has {shape[1]}; set data.resolution"
        )


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

_FAMILIES: tuple[Family[Any], ...] = (UNetFamily(), EDMFamily(), JiTFamily())


def family_of(network: nn.Module) -> Family[Any]:
    """The family of a network.

    Raises:
        ValueError: if it is of none.

    """
    for family in _FAMILIES:
        # Among the bases, since a sharded network is of a subclass.
        if family.class_name in (kind.__name__ for kind in type(network).__mro__):
            return family
    known = ", ".join(family.class_name for family in _FAMILIES)
    raise ValueError(f"networks of the class {type(network).__name__} are not trained here; expected one of {known}")


def family_named(settings: Model) -> Family[Any]:
    """The family that a recipe's section `model` names."""
    return next(family for family in _FAMILIES if family.name == settings.name)
