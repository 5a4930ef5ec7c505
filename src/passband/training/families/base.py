"""What the trainer asks of a kind of network."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from jaxtyping import Float
from torch import Tensor, nn

from passband.models import EDMUNet, JiT
from passband.training.sections import DiffWaveModel, DiTModel, EDMUNetModel, JiTModel, Model, UNetModel

#: (channels, *spatial) of a sample: of images (channels, height, width), of audio (1, samples).
Shape = tuple[int, ...]
Chosen = TypeVar("Chosen", UNetModel, EDMUNetModel, JiTModel, DiTModel, DiffWaveModel)
Network = TypeVar("Network", EDMUNet, JiT)


class Tap(NamedTuple):
    """Where tokens are read.

    Attributes:
        module: its output is the tokens, (batch, positions, width).
        width: of a token.
        to_field: from that output to a field, (batch, width, rows, columns).

    """

    module: nn.Module
    width: int
    to_field: Callable[[Tensor], Tensor]


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
        """A network for samples of a shape, (channels, *spatial)."""

    @abstractmethod
    def shape(self, config: Mapping[str, Any]) -> Shape:
        """(channels, *spatial) of the samples that it was made for; channels alone, where it takes any length."""

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

    def prepared(self, network: nn.Module) -> nn.Module:
        """A network as its library makes or loads it, made to take part in our training and sampling."""
        return network

    def tap(self, network: nn.Module, depth: int) -> Tap:
        """Where the tokens after a block are read.

        Args:
            network: a network of the family.
            depth: the block, counted from 1.

        Raises:
            ValueError: if the family has no tokens, or the network fewer blocks.

        """
        raise ValueError(
            f"alignment reads the tokens of a transformer, and {self.class_name} is none: set model.name to dit or "
            "jit, or alignment to null"
        )


def field_of(
    tokens: Float[Tensor, "batch positions width"], rows: int, columns: int
) -> Float[Tensor, "batch width rows columns"]:
    """The tokens of a grid of patches, the last of those given, as a field."""
    return tokens[:, -rows * columns :].transpose(1, 2).reshape(len(tokens), tokens.shape[2], rows, columns)


def block_of(blocks: nn.ModuleList, depth: int) -> nn.Module:
    """The block of a depth, counted from 1.

    Raises:
        ValueError: if there are fewer blocks.

    """
    if not 1 <= depth <= len(blocks):
        raise ValueError(
            f"alignment.depth must name one of the network's {len(blocks)} blocks, counted from 1, got {depth}"
        )
    return blocks[depth - 1]


def rebuilt(network: Network, **changes: object) -> Network:
    """The network with other arguments, of those that do not touch its weights."""
    changed = type(network)(**{**network.config, **changes})
    changed.load_state_dict(network.state_dict())
    changed.recorded_forcing = network.recorded_forcing
    return changed


def check_same_sides(made_for: Shape, where: str, shape: Shape) -> None:
    """Raise ValueError unless a network was made for the sides of the samples."""
    if made_for[1:] != shape[1:]:
        raise ValueError(
            f"{where} was made for {made_for[1]} x {made_for[2]} pixels, the data has {shape[1]} x {shape[2]}; set "
            "data.resolution (latents: that with which they are encoded)"
        )


def check_outputs(config: Mapping[str, Any], where: str, shape: Shape, heads: int) -> None:
    """Raise ValueError unless a transformer gives as many channels as the process asks for."""
    outputs = config["out_channels"] or config["in_channels"]
    if outputs != heads * config["in_channels"]:
        raise ValueError(
            f"{where} gives {outputs} channels for {config['in_channels']}, expected {heads * shape[0]}: "
            f"set process.hybrid to {str(heads == 1).lower()}"
        )
