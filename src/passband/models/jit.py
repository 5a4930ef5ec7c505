"""JiT, a transformer on patches of pixels."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from passband._checks import check_batch, check_choice, check_integer, check_number
from passband.models._jit_blocks import (
    Block,
    FinalLayer,
    LabelEmbedding,
    PatchEmbed,
    PatchEmbedding,
    TimeEmbedding,
    images,
    initialise,
    silence,
)
from passband.models._jit_tables import position_table, rotary_table
from passband.models.saving import Saveable, registered
from passband.process.base import checkable


def _size(patch: int, depth: int, width: int, heads: int, bottleneck: int, start: int) -> dict[str, int]:
    return {
        "patch_size": patch,
        "depth": depth,
        "hidden_size": width,
        "num_heads": heads,
        "bottleneck_dim": bottleneck,
        "in_context_start": start,
    }


#: The published sizes: what each name says of [`JiT`][passband.models.JiT]'s arguments.
JIT_SIZES: Mapping[str, Mapping[str, int]] = {
    "B/8": _size(8, 12, 768, 12, 128, 4),
    "B/16": _size(16, 12, 768, 12, 128, 4),
    "B/32": _size(32, 12, 768, 12, 128, 4),
    "L/16": _size(16, 24, 1024, 16, 128, 8),
    "L/32": _size(32, 24, 1024, 16, 128, 8),
    "H/16": _size(16, 32, 1280, 16, 256, 10),
    "H/32": _size(32, 32, 1280, 16, 256, 10),
    "700M/32": _size(32, 36, 1024, 16, 128, 12),
    "2B/32": _size(32, 27, 2048, 32, 256, 9),
    "7B/32": _size(32, 24, 4096, 64, 512, 8),
}


@registered
class JiT(Saveable):
    r"""Just image Transformer: a plain transformer on large patches of pixels, without an autoencoder.

    Patches pass a bottleneck; tokens have an added position table and rotary queries and keys; time and class modulate
    each block (adaLN-zero), and learned class tokens join the sequence at a given block. State dicts have the published
    names, and the two forms of the first projection load each other's files.

    It is built for [`Flow(data_at=1)`][passband.process.Flow] with `prediction="sample"`: t is the flow time, 0 noise
    and 1 data, and the output the clean image.

    Under bfloat16 autocast linear layers and attention run in bfloat16; norms, rotations, the time's waves and the sum
    of the blocks in float32. The output has the dtype of x.

    Args:
        input_size: side of the images in pixels, or (height, width).
        patch_size: side of the patches; it divides the images' sides.
        in_channels: channels of the images.
        hidden_size: width of the tokens, a multiple of 4 times the heads.
        depth: number of blocks.
        num_heads: attention heads.
        mlp_ratio: hidden width of a block's network over its width, of which SwiGLU takes two thirds.
        num_classes: number of classes; the label `num_classes` is the null class. 0: the null class alone.
        bottleneck_dim: width between a patch and its token.
        in_context_len: number of class tokens, 0 for none.
        in_context_start: block at which they enter, 0 for the first.
        attn_drop: share of the attention weights dropped in training, in the middle half of the blocks.
        proj_drop: share of the features dropped after attention and inside the gated network, in the same blocks.
        out_channels: channels of the output; default: in_channels (twice that for the hybrid head).
        patch_embedding: form of the first projection's weight: `conv`, or `linear` as in Spectral Forcing's files.

    Raises:
        TypeError: if a size is no integer or a share no number.
        ValueError: if a choice is unknown, a number is out of range, the patches do not tile the images, or the heads
            do not divide the width.

    Example:
        >>> import torch
        >>> from passband.models import JiT
        >>> network = JiT((16, 24), 8, hidden_size=32, depth=2, num_heads=4, num_classes=10, in_context_start=1)
        >>> network(torch.randn(2, 3, 16, 24), torch.rand(2), class_labels=torch.tensor([3, 10])).shape
        torch.Size([2, 3, 16, 24])

    Source: Li and He 2025, "Back to Basics: Let Denoising Generative Models Denoise" (arXiv:2511.13720).
    """

    pos_embed: Tensor
    rotary: Tensor

    def __init__(
        self,
        input_size: int | Sequence[int],
        patch_size: int = 16,
        in_channels: int = 3,
        hidden_size: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        num_classes: int = 1000,
        bottleneck_dim: int = 128,
        in_context_len: int = 32,
        in_context_start: int = 4,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        out_channels: int | None = None,
        patch_embedding: PatchEmbedding = "conv",
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "input_size": _as_sides(input_size),
            "patch_size": patch_size,
            "in_channels": in_channels,
            "hidden_size": hidden_size,
            "depth": depth,
            "num_heads": num_heads,
            "mlp_ratio": mlp_ratio,
            "num_classes": num_classes,
            "bottleneck_dim": bottleneck_dim,
            "in_context_len": in_context_len,
            "in_context_start": in_context_start,
            "attn_drop": attn_drop,
            "proj_drop": proj_drop,
            "out_channels": in_channels if out_channels is None else out_channels,
            "patch_embedding": patch_embedding,
        }
        _check_config(self.config)
        self.height, self.width = _two(self.config["input_size"])
        self.in_channels, self.patch_size, self.num_classes = in_channels, patch_size, num_classes
        self.in_context_len, self.in_context_start = in_context_len, in_context_start
        self.rows, self.columns = self.height // patch_size, self.width // patch_size
        self.gradient_checkpointing = False
        self._build()
        self.init_weights()

    def _build(self) -> None:
        config = self.config
        width, depth = config["hidden_size"], config["depth"]
        heads, ratio = config["num_heads"], config["mlp_ratio"]
        self.t_embedder = TimeEmbedding(width)
        self.y_embedder = LabelEmbedding(self.num_classes, width)
        self.x_embedder = PatchEmbed(
            self.in_channels, self.patch_size, config["bottleneck_dim"], width, config["patch_embedding"]
        )
        self.register_buffer("pos_embed", torch.empty(1, self.rows * self.columns, width))
        tokens = self.in_context_len + self.rows * self.columns
        self.register_buffer("rotary", torch.empty(2, tokens, width // heads // 2), persistent=False)
        if self.in_context_len:
            self.in_context_posemb = nn.Parameter(torch.empty(1, self.in_context_len, width))
        middle = range(depth // 4, depth // 4 * 3)
        drops = [(config["attn_drop"], config["proj_drop"]) if index in middle else (0, 0) for index in range(depth)]
        self.blocks = nn.ModuleList(Block(width, heads, ratio, *drop) for drop in drops)
        self.final_layer = FinalLayer(width, self.patch_size**2 * config["out_channels"])

    @torch.no_grad()
    def init_weights(self) -> None:
        """Draw the weights anew as a new network has them, and fill in the tables.

        For a network that was built on the meta device: `to_empty(device=...)`, then this.
        """
        initialise(self)
        if self.in_context_len:
            nn.init.normal_(self.in_context_posemb, std=0.02)
        silence(self.final_layer.linear)
        self.reset_tables()

    @torch.no_grad()
    def reset_tables(self) -> None:
        """Compute the position tables, on the device where they are.

        For a network that was built on the meta device and takes its weights from a file, which holds no rotations.
        """
        width, heads = self.config["hidden_size"], self.config["num_heads"]
        self.pos_embed.copy_(position_table(self.rows, self.columns, width))
        self.rotary.copy_(rotary_table(self.rows, self.columns, width // heads, self.in_context_len))

    @classmethod
    def from_size(cls, size: str, input_size: int | Sequence[int], **overrides: Any) -> "JiT":
        """A network of a published size.

        Args:
            size: a key of `JIT_SIZES`, such as `"B/16"`.
            input_size: side of the images in pixels, or (height, width).
            **overrides: any other argument of the constructor, in place of the size's.

        Returns:
            The network, with new weights.

        Raises:
            TypeError: if an override is no argument of the constructor.
            ValueError: if the size is unknown, or as for the constructor.

        Example:
            >>> import torch
            >>> from passband.models import JiT
            >>> with torch.device("meta"):
            ...     network = JiT.from_size("B/16", input_size=256)
            >>> sum(parameter.numel() for parameter in network.parameters())
            131123712

        """
        check_choice("size of JiT", size, JIT_SIZES)
        return cls(input_size, **{**JIT_SIZES[size], **overrides})

    def enable_gradient_checkpointing(self) -> None:
        """Keep only the blocks' inputs for backward, and run each block again there."""
        self.gradient_checkpointing = True

    def disable_gradient_checkpointing(self) -> None:
        """Keep what backward needs."""
        self.gradient_checkpointing = False

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        t: Shaped[Tensor, "..."],
        class_labels: Shaped[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch out_channels height width"]:
        """The network's output: the clean images, where it is trained for them.

        Args:
            x: noisy images, (batch, in_channels, height, width), of the size that the network was built for.
            t: flow times, 0 noise and 1 data, one value or (batch,).
            class_labels: class indices (batch,), `num_classes` for the null class. None: the null class for all.

        Returns:
            (batch, out_channels, height, width), in x's dtype.

        Raises:
            TypeError: if x is not floating, or t or the labels are no tensors.
            ValueError: if x has another size than the network, t another batch, or labels another shape or (on the
                CPU) are out of range.

        Example:
            >>> import torch
            >>> from passband.models import JiT
            >>> network = JiT(16, 8, hidden_size=32, depth=1, num_heads=4, in_context_len=0)
            >>> network(torch.randn(2, 3, 16, 16), torch.rand(2)).abs().max()  # a new network gives zeros
            tensor(0., grad_fn=<MaxBackward1>)

        """
        self._check_images(x)
        batch, dtype = x.shape[0], self.x_embedder.proj2.weight.dtype
        labels = self.y_embedder(self._labels(class_labels, batch, x.device))
        condition = self.t_embedder(self._times(t, batch, x.device)) + labels
        tokens = self.x_embedder(x.to(dtype)) + self.pos_embed.to(dtype)
        tokens = self._run(tokens, labels, condition)
        output = self.final_layer(tokens[:, -self.rows * self.columns :], condition)
        return images(output, self.rows, self.columns, self.patch_size).to(x.dtype)

    def _run(self, tokens: Tensor, labels: Tensor, condition: Tensor) -> Tensor:
        """The blocks, with the class tokens from the block on where they enter."""
        again = self.gradient_checkpointing and self.training and torch.is_grad_enabled()
        rotary = self.rotary[:, self.in_context_len :]
        for index, block in enumerate(self.blocks):
            if self.in_context_len and index == self.in_context_start:
                tokens = torch.cat([labels[:, None] + self.in_context_posemb, tokens], dim=1)
                rotary = self.rotary
            if again:
                tokens = checkpoint(block, tokens, condition, rotary, use_reentrant=False)
            else:
                tokens = block(tokens, condition, rotary)
        return tokens

    def _check_images(self, x: Tensor) -> None:
        check_batch("x", x, dims=(2,))
        wanted = (self.in_channels, self.height, self.width)
        if x.shape[1:] != wanted:
            raise ValueError(
                f"the network takes images of shape (batch, {', '.join(map(str, wanted))}), got {tuple(x.shape)}; "
                "resize the images, or build a JiT with that input_size and in_channels"
            )

    def _times(self, t: Tensor, batch: int, device: torch.device) -> Tensor:
        if not isinstance(t, Tensor):
            raise TypeError(f"t must be a torch.Tensor, got {type(t).__name__}; use torch.full((batch,), t)")
        if t.numel() not in (1, batch):
            raise ValueError(f"t must hold one value, or one per sample: got {tuple(t.shape)} for a batch of {batch}")
        times = t.to(device).reshape(-1).expand(batch)
        return times if times.is_floating_point() else times.float()

    def _labels(self, labels: Tensor | None, batch: int, device: torch.device) -> Tensor:
        if labels is None:
            return torch.full((batch,), self.num_classes, dtype=torch.long, device=device)
        if not isinstance(labels, Tensor):
            raise TypeError(f"class_labels must be a torch.Tensor, got {type(labels).__name__}; use torch.as_tensor")
        whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
        if labels.shape != (batch,) or not whole:
            raise ValueError(
                f"class_labels must be integers of shape ({batch},), got {labels.dtype} of shape {tuple(labels.shape)}"
            )
        if checkable(labels) and not bool(((labels >= 0) & (labels <= self.num_classes)).all()):
            raise ValueError(
                f"class_labels must lie in 0 ... {self.num_classes} (the last is the null class), got values from "
                f"{labels.min()} to {labels.max()}"
            )
        return labels.to(device=device, dtype=torch.long)


def _as_sides(size: Any) -> int | list[int]:
    """One side, or the two of them, as JSON keeps them."""
    sides = list(size) if isinstance(size, tuple | list) else [size]
    if not 1 <= len(sides) <= 2:
        raise ValueError(f"input_size must be a side or (height, width), got {size!r}")
    for side in sides:
        check_integer("input_size", side)
        if side < 1:
            raise ValueError(f"input_size must be at least 1, got {size!r}")
    return int(sides[0]) if len(set(sides)) == 1 else [int(side) for side in sides]


def _two(size: int | list[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


#: The smallest value of each whole number.
_LEAST = {
    "patch_size": 1,
    "in_channels": 1,
    "hidden_size": 4,
    "depth": 1,
    "num_heads": 1,
    "num_classes": 0,
    "bottleneck_dim": 1,
    "in_context_len": 0,
    "in_context_start": 0,
    "out_channels": 1,
}


def _check_config(config: dict[str, Any]) -> None:
    for name, least in _LEAST.items():
        check_integer(name, config[name])
        if config[name] < least:
            raise ValueError(f"{name} must be at least {least}, got {config[name]}")
    check_choice("patch_embedding", config["patch_embedding"], get_args(PatchEmbedding))
    for name in ("attn_drop", "proj_drop"):
        check_number(name, config[name])
        if not 0 <= config[name] < 1:
            raise ValueError(f"{name} is a share, in [0, 1); got {config[name]}")
    check_number("mlp_ratio", config["mlp_ratio"])
    if int(int(config["hidden_size"] * config["mlp_ratio"]) * 2 / 3) < 1:
        raise ValueError(f"mlp_ratio must leave the network a width of at least 1, got {config['mlp_ratio']}")
    _check_patches(config["input_size"], config["patch_size"])
    _check_heads(config["hidden_size"], config["num_heads"])
    if config["in_context_len"] and config["in_context_start"] >= config["depth"]:
        raise ValueError(
            f"in_context_start must be one of the {config['depth']} blocks, 0 ... {config['depth'] - 1}; got "
            f"{config['in_context_start']}. Without class tokens, in_context_len is 0"
        )


def _check_patches(size: int | list[int], patch: int) -> None:
    sides = [size] if isinstance(size, int) else size
    if any(side % patch for side in sides):
        dividing = [n for n in range(1, min(sides) + 1) if all(side % n == 0 for side in sides)]
        raise ValueError(
            f"patches of {patch} pixels do not tile images of {' x '.join(map(str, sides))}; patch_size may be one of "
            f"{', '.join(map(str, dividing))}"
        )


def _check_heads(width: int, heads: int) -> None:
    if width % heads or width // heads % 4:
        possible = [n for n in range(1, width // 4 + 1) if width % (4 * n) == 0]
        hint = f"num_heads may be one of {', '.join(map(str, possible))}" if possible else "widen it"
        raise ValueError(
            f"a head's width, hidden_size / num_heads, must be a multiple of 4 (rotations in pairs, along two axes); "
            f"got {width} / {heads}: {hint}"
        )
