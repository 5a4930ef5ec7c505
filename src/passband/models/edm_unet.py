"""EDM's U-Net, in its DDPM++ and NCSN++ forms."""

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional

from passband._checks import check_batch, check_choice, check_integer, check_number
from passband.models._blocks import SKIP_SCALE, ZERO_GAIN, UNetBlock, group_norm, initialised
from passband.models._embedding import FourierEmbedding, PositionalEmbedding, augment_vectors, class_vectors
from passband.models._resample import Direction, DownsampledConv2d, Resample
from passband.models.saving import Saveable, registered

Embedding = Literal["positional", "fourier"]
Encoder = Literal["standard", "skip", "residual"]
Decoder = Literal["standard", "skip"]


@registered
class EDMUNet(Saveable):
    r"""The raw network $F(c_{in} x,\, c_{noise})$ of the EDM paper: a U-Net of residual blocks.

    | form | embedding_type | encoder_type | channel_mult_noise | resample_filter |
    |---|---|---|---|---|
    | DDPM++ (published as VP) | `positional` | `standard` | 1 | (1, 1) |
    | NCSN++ (published as VE) | `fourier` | `residual` | 2 | (1, 3, 3, 1) |

    Both use the decoder `standard`, `model_channels=128`, and `channel_mult` (2, 2, 2) at 32 pixels and (1, 2, 2, 2) at
    64. State dicts have the published names. The network is not tied to `img_resolution`, which fixes the names and
    where attention sits: sides may be any multiple of 2 to the number of levels less one, and may differ.

    Under bfloat16 autocast the convolutions and attention run in bfloat16, norms and the embedding's waves in float32,
    and the output has the dtype of x.

    Args:
        img_resolution: height of the images in pixels, a multiple of 2 per level below the first.
        img_channels: channels of the images.
        label_dim: number of classes, 0 for none.
        augment_dim: width of the augmentation labels, 0 for none (9 for EDM's pipeline).
        model_channels: width of the first level, before its multiplier.
        channel_mult: multiplier of the width at each level, finest first.
        channel_mult_emb: width of the embedding over `model_channels`.
        num_blocks: residual blocks per level.
        attn_resolutions: heights (at `img_resolution`) of the levels with attention; the lowest level has it once
            anyway. A height that no level has is without effect.
        dropout: share of the activations dropped in training.
        label_dropout: share of the samples that are trained without their class, for guidance.
        embedding_type: of the noise level: `positional` or `fourier`.
        channel_mult_noise: width of the noise level's embedding over `model_channels`.
        encoder_type: how the image enters the lower levels: `standard` (not), `skip` or `residual`.
        decoder_type: `standard`, or `skip`, which sums the images of all levels.
        resample_filter: taps of the resampling filter, an even number of them.

    Raises:
        TypeError: if a number or a sequence is none.
        ValueError: if a choice is unknown, a number is out of range, the levels do not divide the resolution, or a
            width cannot be normalised in groups.

    Example:
        >>> import torch
        >>> from passband.models import EDMUNet
        >>> network = EDMUNet(16, 3, label_dim=10, model_channels=16, channel_mult=(1, 2), num_blocks=1)
        >>> network(torch.randn(2, 3, 16, 16), torch.zeros(2), class_labels=torch.tensor([3, 7])).shape
        torch.Size([2, 3, 16, 16])

    Source: Karras et al. 2022 (arXiv:2206.00364), Appendix C; Song et al. 2021 (arXiv:2011.13456), Appendix H.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        augment_dim: int = 0,
        model_channels: int = 128,
        channel_mult: Sequence[int] = (1, 2, 2, 2),
        channel_mult_emb: int = 4,
        num_blocks: int = 4,
        attn_resolutions: Sequence[int] = (16,),
        dropout: float = 0.10,
        label_dropout: float = 0.0,
        embedding_type: Embedding = "positional",
        channel_mult_noise: int = 1,
        encoder_type: Encoder = "standard",
        decoder_type: Decoder = "standard",
        resample_filter: Sequence[float] = (1, 1),
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "img_resolution": img_resolution,
            "img_channels": img_channels,
            "label_dim": label_dim,
            "augment_dim": augment_dim,
            "model_channels": model_channels,
            "channel_mult": _as_list("channel_mult", channel_mult),
            "channel_mult_emb": channel_mult_emb,
            "num_blocks": num_blocks,
            "attn_resolutions": _as_list("attn_resolutions", attn_resolutions, least=0),
            "dropout": dropout,
            "label_dropout": label_dropout,
            "embedding_type": embedding_type,
            "channel_mult_noise": channel_mult_noise,
            "encoder_type": encoder_type,
            "decoder_type": decoder_type,
            "resample_filter": _as_list("resample_filter", resample_filter),
        }
        _check_config(self.config)
        self.img_channels, self.label_dim, self.augment_dim = img_channels, label_dim, augment_dim
        self.label_dropout = label_dropout
        self.num_blocks = num_blocks
        self.encoder_type: Encoder = encoder_type
        self.decoder_type: Decoder = decoder_type
        self.heights = [img_resolution >> level for level in range(len(channel_mult))]
        self._names = [f"{height}x{height}" for height in self.heights]
        self._build_embedding()
        self._build_levels()

    def _build_embedding(self) -> None:
        width = self.config["model_channels"] * self.config["channel_mult_noise"]
        wide = self.config["model_channels"] * self.config["channel_mult_emb"]
        positional = self.config["embedding_type"] == "positional"
        self.map_noise = PositionalEmbedding(width) if positional else FourierEmbedding(width)
        self.map_label = initialised(nn.Linear(self.label_dim, width)) if self.label_dim else None
        self.map_augment = initialised(nn.Linear(self.augment_dim, width, bias=False)) if self.augment_dim else None
        self.map_layer0 = initialised(nn.Linear(width, wide))
        self.map_layer1 = initialised(nn.Linear(wide, wide))

    def _build_levels(self) -> None:
        options = self.config
        widths = [options["model_channels"] * multiplier for multiplier in options["channel_mult"]]
        attends = [height in options["attn_resolutions"] for height in self.heights]
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        skips = self._build_encoder(widths, attends)
        self._build_decoder(widths, attends, skips)

    def _build_encoder(self, widths: list[int], attends: list[bool]) -> list[int]:
        """Fill `enc`, and tell the widths of what it hands to the decoder."""
        taps, image = self.config["resample_filter"], self.img_channels
        current = self.config["model_channels"]
        feed, skips = image, []
        for level, name in enumerate(self._names):
            if level == 0:
                self.enc[f"{name}_conv"] = initialised(nn.Conv2d(image, current, 3, padding=1))
            else:
                self.enc[f"{name}_down"] = self._block(current, current, resample="down")
            if level and self.encoder_type == "skip":
                self.enc[f"{name}_aux_down"] = Resample(taps, "down")
                self.enc[f"{name}_aux_skip"] = initialised(nn.Conv2d(image, current, 1))
            elif level and self.encoder_type == "residual":
                self.enc[f"{name}_aux_residual"] = initialised(DownsampledConv2d(feed, current, 3, taps))
                feed = current
            skips.append(current)
            for index in range(self.num_blocks):
                self.enc[f"{name}_block{index}"] = self._block(current, widths[level], attention=attends[level])
                current = widths[level]
                skips.append(current)
        return skips

    def _build_decoder(self, widths: list[int], attends: list[bool], skips: list[int]) -> None:
        taps, image = self.config["resample_filter"], self.img_channels
        current, lowest = skips[-1], len(widths) - 1
        for level, name in reversed(list(enumerate(self._names))):
            if level == lowest:
                self.dec[f"{name}_in0"] = self._block(current, current, attention=True)
                self.dec[f"{name}_in1"] = self._block(current, current)
            else:
                self.dec[f"{name}_up"] = self._block(current, current, resample="up")
            for index in range(self.num_blocks + 1):
                attention = attends[level] and index == self.num_blocks
                self.dec[f"{name}_block{index}"] = self._block(
                    current + skips.pop(), widths[level], attention=attention
                )
                current = widths[level]
            if self.decoder_type == "skip" and level < lowest:
                self.dec[f"{name}_aux_up"] = Resample(taps, "up")
            if self.decoder_type == "skip" or level == 0:
                self.dec[f"{name}_aux_norm"] = group_norm(current)
                self.dec[f"{name}_aux_conv"] = initialised(nn.Conv2d(current, image, 3, padding=1), ZERO_GAIN)

    def _block(
        self, inside: int, outside: int, *, attention: bool = False, resample: Direction | None = None
    ) -> UNetBlock:
        width = self.config["model_channels"] * self.config["channel_mult_emb"]
        dropout, taps = self.config["dropout"], self.config["resample_filter"]
        return UNetBlock(inside, outside, width, dropout=dropout, taps=taps, attention=attention, resample=resample)

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        noise_labels: Shaped[Tensor, "..."],
        class_labels: Shaped[Tensor, "..."] | None = None,
        augment_labels: Shaped[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch channels height width"]:
        """The network's raw output F.

        Args:
            x: scaled noisy images, (batch, img_channels, height, width), in the dtype of the weights.
            noise_labels: what the preconditioning gives as c_noise, one value or (batch,).
            class_labels: class indices (batch,), or one-hot or soft rows (batch, label_dim). None: no class (a row of
                zeros), as for guidance.
            augment_labels: (batch, augment_dim). None: zeros, images that were not augmented.

        Returns:
            F of x's shape and dtype.

        Raises:
            TypeError: if x is not floating, or labels are no tensors.
            ValueError: if x has other channels than the network, sides that its levels do not divide, or labels of
                another shape or (on the CPU) out of range.

        Example:
            >>> import torch
            >>> from passband.models import EDMUNet
            >>> network = EDMUNet(16, 1, model_channels=16, channel_mult=(1, 2), num_blocks=1)
            >>> network(torch.randn(2, 1, 16, 24), torch.zeros(2)).shape
            torch.Size([2, 1, 16, 24])

        """
        self._check_images(x)
        embedding = self._embed(noise_labels, class_labels, augment_labels, x.shape[0])
        features, skips = self._encode(x, embedding)
        return self._decode(features, skips, embedding).to(x.dtype)

    def _check_images(self, x: Tensor) -> None:
        check_batch("x", x, dims=(2,))
        if x.shape[1] != self.img_channels:
            raise ValueError(f"the network takes {self.img_channels} channels, got x of shape {tuple(x.shape)}")
        factor = 2 ** (len(self.heights) - 1)
        if x.shape[2] % factor or x.shape[3] % factor:
            raise ValueError(
                f"the network halves the sides {len(self.heights) - 1} times, so they must be multiples of {factor}; "
                f"got {x.shape[2]} x {x.shape[3]}: crop, pad or resize the images"
            )

    def _embed(
        self, noise_labels: Tensor, class_labels: Tensor | None, augment_labels: Tensor | None, batch: int
    ) -> Tensor:
        if not isinstance(noise_labels, Tensor):
            raise TypeError(f"noise_labels must be a torch.Tensor, got {type(noise_labels).__name__}")
        times = noise_labels.to(self.map_layer0.weight.device).reshape(-1)
        if times.numel() not in (1, batch):
            raise ValueError(
                f"noise_labels must hold one value, or one per sample: got {times.numel()} for a batch of {batch}"
            )
        times = times if times.is_floating_point() else times.float()
        vector = self.map_noise(times.expand(batch)).to(self.map_layer0.weight.dtype)
        classes = class_vectors(class_labels, batch, self.label_dim, vector)
        augmentations = augment_vectors(augment_labels, batch, self.augment_dim, vector)
        if self.map_label is not None:
            if self.training and self.label_dropout:
                classes = classes * (torch.rand(batch, 1, device=vector.device) >= self.label_dropout)
            vector = vector + self.map_label(classes * math.sqrt(self.label_dim))
        if self.map_augment is not None:
            vector = vector + self.map_augment(augmentations)
        return functional.silu(self.map_layer1(functional.silu(self.map_layer0(vector))))

    def _encode(self, x: Tensor, embedding: Tensor) -> tuple[Tensor, list[Tensor]]:
        feed, skips = x, []
        for level, name in enumerate(self._names):
            x = self.enc[f"{name}_down"](x, embedding) if level else self.enc[f"{name}_conv"](x)
            if level and self.encoder_type == "skip":
                feed = self.enc[f"{name}_aux_down"](feed)
                x = x + self.enc[f"{name}_aux_skip"](feed)
            elif level and self.encoder_type == "residual":
                x = feed = SKIP_SCALE * (x + self.enc[f"{name}_aux_residual"](feed))
            skips.append(x)
            for index in range(self.num_blocks):
                x = self.enc[f"{name}_block{index}"](x, embedding)
                skips.append(x)
        return x, skips

    def _decode(self, x: Tensor, skips: list[Tensor], embedding: Tensor) -> Tensor:
        image: Tensor | None = None
        for level, name in reversed(list(enumerate(self._names))):
            if level == len(self._names) - 1:
                x = self.dec[f"{name}_in1"](self.dec[f"{name}_in0"](x, embedding), embedding)
            else:
                x = self.dec[f"{name}_up"](x, embedding)
            for index in range(self.num_blocks + 1):
                x = self.dec[f"{name}_block{index}"](torch.cat([x, skips.pop()], dim=1), embedding)
            if self.decoder_type == "skip" or level == 0:
                part = self.dec[f"{name}_aux_conv"](functional.silu(self.dec[f"{name}_aux_norm"](x)))
                image = part if image is None else part + self.dec[f"{name}_aux_up"](image)
        assert image is not None
        return image


def _as_list(name: str, values: object, least: int = 1) -> list[Any]:
    """The numbers as a list, as JSON keeps them."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise TypeError(f"{name} must be a sequence of numbers, got {values!r}")
    for value in values:
        check_number(f"each value of {name}", value)
    if len(values) < least:
        raise ValueError(f"{name} must hold at least {least} number(s), got {list(values)}")
    return list(values)


#: The smallest value of each whole number, and of those in a sequence.
_LEAST = {
    "img_resolution": 1,
    "img_channels": 1,
    "label_dim": 0,
    "augment_dim": 0,
    "model_channels": 1,
    "channel_mult": 1,
    "channel_mult_emb": 1,
    "num_blocks": 1,
    "attn_resolutions": 1,
    "channel_mult_noise": 1,
}
_CHOICES = {"embedding_type": Embedding, "encoder_type": Encoder, "decoder_type": Decoder}


def _check_config(config: dict[str, Any]) -> None:
    for name, least in _LEAST.items():
        for value in config[name] if isinstance(config[name], list) else [config[name]]:
            check_integer(name, value)
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {config[name]}")
    for name, choices in _CHOICES.items():
        check_choice(name, config[name], get_args(choices))
    for name in ("dropout", "label_dropout"):
        check_number(name, config[name])
        if not 0 <= config[name] < 1:
            raise ValueError(f"{name} is a share, in [0, 1); got {config[name]}")
    taps = config["resample_filter"]
    if len(taps) % 2 or not math.isfinite(sum(taps)) or sum(taps) == 0:
        raise ValueError(f"resample_filter must be an even number of taps whose sum is not 0, got {taps}")
    factor = 2 ** (len(config["channel_mult"]) - 1)
    if config["img_resolution"] % factor:
        raise ValueError(
            f"{len(config['channel_mult'])} levels halve img_resolution to a {factor}-th, so it must be a multiple of "
            f"{factor}; got {config['img_resolution']}"
        )
    if config["model_channels"] * config["channel_mult_noise"] % 2:
        raise ValueError("model_channels times channel_mult_noise must be even: half sines, half cosines")
