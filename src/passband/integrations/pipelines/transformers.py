"""Stable Diffusion 3 and Flux: flow transformers on latents."""

from typing import Any

import torch
from torch import Tensor, nn

from passband.integrations.pipelines.process import dynamic_log_shift, shifted
from passband.integrations.pipelines.text import TextPipeline
from passband.process import Flow, Process


class FlowPipeline(TextPipeline):
    """What both share: an autoencoder with a shift, and training times that may depend on the resolution."""

    network_folder = "transformer"
    _shifts = True
    #: The largest dynamic shift where the scheduler names none.
    _max_shift: float

    def process_at(self, height: int, width: int) -> Process:
        """The process for images of this size: with a dynamic shift, larger ones are trained at higher noise.

        Raises:
            ValueError: if the sides do not fit.

        """
        _, rows, columns = self.sample_shape(height, width)
        tokens = (rows // self._positions) * (columns // self._positions)
        shift = dynamic_log_shift(self.pipeline.scheduler.config, tokens, self._max_shift)
        assert isinstance(self.process, Flow)
        return self.process if shift is None else shifted(self.process, shift)

    @property
    def _config(self) -> Any:
        return self.network.config

    def _check(self) -> None:
        if not isinstance(self.process, Flow):
            raise TypeError(
                f"a {self.class_name} needs a flow scheduler, such as FlowMatchEulerDiscreteScheduler, and has a "
                f"{type(self.pipeline.scheduler).__name__}"
            )
        super()._check()
        self.process = self.process_at(*self.size)


class StableDiffusion3Training(FlowPipeline):
    """`StableDiffusion3Pipeline`: two CLIP text encoders and T5, which may be left out."""

    network_classes = ("SD3Transformer2DModel",)
    _max_shift = 1.16

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return int(self._config["in_channels"])

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) that the transformer was made for."""
        side = int(self._config["sample_size"]) * self.autoencoder.factor
        return side, side

    def model(self, network: nn.Module) -> nn.Module:
        """`forward(x, t, encoder_hidden_states, pooled_projections)`."""
        return _StableDiffusion3(network)

    @property
    def _positions(self) -> int:  # type: ignore[override]
        return int(self._config["patch_size"])

    def sample_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(channels, height, width) of the latents.

        Raises:
            ValueError: if a side does not fit, or is larger than the table of positions.

        """
        shape = super().sample_shape(height, width)
        largest = self._config["pos_embed_max_size"]
        if largest is not None and max(height, width) > largest * self.multiple:
            raise ValueError(
                f"the sides of an image must be {largest * self.multiple} at most for the {self.class_name} of "
                f"{str(self.folder)!r}, whose table of positions ends there, got {height} x {width}"
            )
        return shape

    def _embed(self, prompts: list[str]) -> dict[str, Tensor]:
        found = self.pipeline.encode_prompt(prompts, None, None, device=self.device, do_classifier_free_guidance=False)
        return {"encoder_hidden_states": found[0], "pooled_projections": found[2]}


class FluxTraining(FlowPipeline):
    """`FluxPipeline`: latents in 2 x 2 patches, CLIP's pooled embedding, T5's tokens.

    Attributes:
        training_guidance: the scale that a guidance-distilled network (`guidance_embeds`) is given while it is trained;
            1, no guidance: what is trained on is data, not the guided images that the network was distilled from.

    """

    network_classes = ("FluxTransformer2DModel",)
    training_guidance: float = 1.0
    _positions = 2
    _max_shift = 1.15

    @property
    def latent_channels(self) -> int:
        """Channels of the latents, before they are packed."""
        return int(self._config["in_channels"]) // 4

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) that the pipeline draws by default."""
        side = int(self.pipeline.default_sample_size) * self.autoencoder.factor
        return side, side

    def model(self, network: nn.Module) -> nn.Module:
        """`forward(x, t, encoder_hidden_states, pooled_projections, guidance=None)`; guidance is (batch,)."""
        embeds = bool(self._config["guidance_embeds"])
        return _Flux(network, self.training_guidance if embeds else None)

    def _embed(self, prompts: list[str]) -> dict[str, Tensor]:
        tokens, pooled, _ = self.pipeline.encode_prompt(prompts, None, device=self.device)
        return {"encoder_hidden_states": tokens, "pooled_projections": pooled}


class _StableDiffusion3(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor, encoder_hidden_states: Tensor, pooled_projections: Tensor) -> Tensor:
        output: Tensor = self.network(
            hidden_states=x,
            timestep=t,
            encoder_hidden_states=encoder_hidden_states.to(x.dtype),
            pooled_projections=pooled_projections.to(x.dtype),
            return_dict=False,
        )[0]
        return output


class _Flux(nn.Module):
    def __init__(self, network: nn.Module, guidance: float | None) -> None:
        super().__init__()
        self.network = network
        self.guidance = guidance

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        encoder_hidden_states: Tensor,
        pooled_projections: Tensor,
        guidance: Tensor | None = None,
    ) -> Tensor:
        if guidance is None and self.guidance is not None:
            guidance = torch.full((len(x),), self.guidance, device=x.device)
        output: Tensor = self.network(
            hidden_states=packed(x),
            timestep=t / 1000,
            guidance=guidance,
            pooled_projections=pooled_projections.to(x.dtype),
            encoder_hidden_states=encoder_hidden_states.to(x.dtype),
            txt_ids=torch.zeros(encoder_hidden_states.shape[1], 3, device=x.device),
            img_ids=positions(x),
            return_dict=False,
        )[0]
        return unpacked(output, x.shape[2], x.shape[3])


def packed(x: Tensor) -> Tensor:
    """Latents (batch, channels, height, width) as tokens (batch, height width / 4, 4 channels), one per 2 x 2 patch."""
    batch, channels, height, width = x.shape
    patches = x.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(batch, (height // 2) * (width // 2), 4 * channels)


def unpacked(tokens: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `packed`."""
    batch, _, channels = tokens.shape
    patches = tokens.reshape(batch, height // 2, width // 2, channels // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return patches.reshape(batch, channels // 4, height, width)


def positions(x: Tensor) -> Tensor:
    """(0, row, column) of each patch of latents, (tokens, 3)."""
    rows, columns = (torch.arange(side // 2, device=x.device, dtype=torch.float32) for side in x.shape[2:])
    grid = torch.stack(torch.meshgrid(torch.zeros_like(rows[:1]), rows, columns, indexing="ij"), dim=-1)
    return grid.reshape(-1, 3)
