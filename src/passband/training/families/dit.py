"""diffusers' DiT."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from passband._checks import import_extra
from passband.training.families.base import Family, Shape, Tap, block_of, check_same_sides, field_of
from passband.training.sections import DiTModel, Model


class DiTFamily(Family[DiTModel]):
    """diffusers' DiTTransformer2DModel, for square latents. Its last class is the null class."""

    class_name, name, folder = "DiTTransformer2DModel", "dit", "transformer"

    def build(self, settings: DiTModel, shape: Shape, classes: int, heads: int) -> nn.Module:
        """See the base class."""
        diffusers = import_extra("diffusers", "train")
        channels, height, width = shape
        _check_square(shape)
        if height % settings.patch_size:
            raise ValueError(f"model.patch_size {settings.patch_size} does not divide the samples, {height} x {width}")
        if settings.num_heads * settings.head_dim % 4:
            raise ValueError(
                f"model.num_heads times model.head_dim must be a multiple of 4, which the position table needs; got "
                f"{settings.num_heads} x {settings.head_dim}"
            )
        network = diffusers.DiTTransformer2DModel(
            num_attention_heads=settings.num_heads,
            attention_head_dim=settings.head_dim,
            in_channels=channels,
            out_channels=heads * channels,
            num_layers=settings.num_layers,
            dropout=settings.dropout,
            sample_size=height,
            patch_size=settings.patch_size,
            # The class embeddings have one row more than this, for the null class.
            num_embeds_ada_norm=classes,
        )
        assert isinstance(network, nn.Module)
        initialise(network)
        return self.adapted(self.prepared(network), settings)

    def shape(self, config: Mapping[str, Any]) -> Shape:
        """See the base class."""
        return config["in_channels"], config["sample_size"], config["sample_size"]

    def class_inputs(self, config: Mapping[str, Any]) -> int:
        """See the base class."""
        return int(config["num_embeds_ada_norm"]) + 1 if config["num_embeds_ada_norm"] else 0

    def has_null(self, settings: Model | None) -> bool:
        """See the base class."""
        return True

    def check(self, config: Mapping[str, Any], where: str, shape: Shape, heads: int) -> None:
        """See the base class."""
        _check_square(shape)
        outputs = config["out_channels"] or config["in_channels"]
        if outputs != heads * config["in_channels"]:
            raise ValueError(
                f"{where} gives {outputs} channels for {config['in_channels']}, expected "
                f"{heads * config['in_channels']}: one that learns the variance too, as the published DiTs do, cannot "
                "be trained here"
            )
        check_same_sides(self.shape(config), where, shape)

    def prepared(self, network: nn.Module) -> nn.Module:
        """The network without its own label dropout, which draws from the global generator, and with the null class.

        Labels are dropped by the trainer, from (seed, global position). Called without labels, the network takes the
        null class.
        """
        for module in network.modules():
            if type(module).__name__ == "LabelEmbedding":
                # The table keeps its row of the null class, and the class its number.
                module.dropout_prob = 0.0  # type: ignore[assignment]
        network.register_forward_pre_hook(fill_in_null_class, with_kwargs=True)
        return network

    def adapted(self, network: nn.Module, settings: DiTModel) -> nn.Module:
        """The network with gradient checkpointing, if the settings ask for it."""
        if settings.gradient_checkpointing:
            network.enable_gradient_checkpointing()  # type: ignore[operator]
        return network

    def tap(self, network: nn.Module, depth: int) -> Tap:
        """See the base class."""
        config: Any = network.config
        side = config["sample_size"] // config["patch_size"]
        width = config["num_attention_heads"] * config["attention_head_dim"]
        blocks = network.transformer_blocks
        assert isinstance(blocks, nn.ModuleList)
        return Tap(block_of(blocks, depth), width, partial(field_of, rows=side, columns=side))


_LABELS = 2  # the position of class_labels in a call


def fill_in_null_class(
    network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A forward pre-hook: the null class for all, where no classes are given."""
    given = args[_LABELS] if len(args) > _LABELS else kwargs.get("class_labels")
    if given is not None:
        return args, kwargs
    image = args[0] if args else kwargs["hidden_states"]
    config: Any = network.config
    null = torch.full((len(image),), config["num_embeds_ada_norm"], dtype=torch.long, device=image.device)
    if len(args) > _LABELS:
        return (*args[:_LABELS], null, *args[_LABELS + 1 :]), kwargs
    return args, {**kwargs, "class_labels": null}


@torch.no_grad()
def initialise(network: nn.Module) -> None:
    """Draw the weights as DiT's own code has them: every block the identity at first, and the output zero.

    diffusers leaves PyTorch's defaults, since it loads weights. Source: Peebles and Xie 2023 (arXiv:2212.09748),
    Section 3.2, and the published code's initialisation.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, nn.Linear | nn.Conv2d):
            _draw(name, module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _draw(name: str, weight: Tensor) -> None:
    if name.endswith("norm1.linear") or name.startswith("proj_out"):
        nn.init.zeros_(weight)
    elif "timestep_embedder" in name:
        nn.init.normal_(weight, std=0.02)
    else:
        # Of one matrix for query, key and value, as DiT has it, a third each.
        fused = name.endswith(("attn1.to_q", "attn1.to_k", "attn1.to_v"))
        nn.init.xavier_uniform_(weight.flatten(1), gain=0.5**0.5 if fused else 1.0)


def _check_square(shape: Shape) -> None:
    if shape[1] != shape[2]:
        raise ValueError(
            f"diffusers' DiT takes square samples, got {shape[1]} x {shape[2]}: take model.name jit with patch_size 1 "
            "or 2"
        )
