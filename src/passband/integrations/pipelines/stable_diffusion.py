"""Stable Diffusion and Stable Diffusion XL: a conditional U-Net on latents."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from passband.integrations.pipelines.pixels import check_outputs, square
from passband.integrations.pipelines.text import TextPipeline

#: Both pipelines ask this of an image's sides, whatever their autoencoder.
_PIXELS = 8


class StableDiffusionTraining(TextPipeline):
    """`StableDiffusionPipeline`: the U-Net reads the tokens of one CLIP text encoder."""

    network_folder = "unet"
    network_classes = ("UNet2DConditionModel",)

    @property
    def _config(self) -> Any:
        return self.network.config

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return int(self._config["in_channels"])

    @property
    def multiple(self) -> int:
        """What the sides of an image must be multiples of."""
        return math.lcm(_PIXELS, self.autoencoder.factor)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) that the U-Net was made for."""
        height, width = square(self._config["sample_size"])
        return height * self.autoencoder.factor, width * self.autoencoder.factor

    def model(self, network: nn.Module) -> nn.Module:
        """`forward(x, t, encoder_hidden_states)`."""
        return _StableDiffusion(network)

    def _check(self) -> None:
        super()._check()
        check_outputs(self.network, str(self.folder))
        if self._config.get("time_cond_proj_dim") is not None:
            raise ValueError(
                f"the unet of {str(self.folder)!r} takes the scale of guidance as an input (a consistency model): it "
                "is distilled, and not trained by denoising"
            )

    def _embed(self, prompts: list[str]) -> dict[str, Tensor]:
        tokens, _ = self.pipeline.encode_prompt(prompts, self.device, 1, False)
        return {"encoder_hidden_states": tokens}


class StableDiffusionXLTraining(StableDiffusionTraining):
    """`StableDiffusionXLPipeline`: two text encoders, a pooled embedding, and the sizes of the image."""

    def model(self, network: nn.Module) -> nn.Module:
        """`forward(x, t, encoder_hidden_states, text_embeds, time_ids=None)`.

        time_ids are (batch, 6): original height and width, top and left of the crop, target height and width, in
        pixels; by default the size that x has, not cropped, as the pipeline has it.
        """
        return _StableDiffusionXL(network, self.autoencoder.factor)

    def unconditional(self) -> dict[str, Tensor]:
        """One row: zeros where the pipeline's `force_zeros_for_empty_prompt` says so, else the empty prompt."""
        empty = self.embed([""])
        if self.pipeline.config["force_zeros_for_empty_prompt"]:
            return {name: torch.zeros_like(value) for name, value in empty.items()}
        return empty

    def _embed(self, prompts: list[str]) -> dict[str, Tensor]:
        found = self.pipeline.encode_prompt(prompts, device=self.device, do_classifier_free_guidance=False)
        return {"encoder_hidden_states": found[0], "text_embeds": found[2]}

    def _scaled(self, latents: Tensor) -> Tensor:
        mean, std = self._statistics(latents)
        return (latents - mean) * (self._scale / std)

    def _unscaled(self, latents: Tensor) -> Tensor:
        mean, std = self._statistics(latents)
        return latents * (std / self._scale) + mean

    def _statistics(self, latents: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """Mean and standard deviation per channel that some autoencoders name; 0 and 1 without both."""
        found = [self._vae_config.get(name) for name in ("latents_mean", "latents_std")]
        if None in found:
            return 0.0, 1.0
        mean, std = (torch.tensor(value).to(latents).reshape(1, -1, 1, 1) for value in found)
        return mean, std


class _StableDiffusion(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        output: Tensor = self.network(x, t, encoder_hidden_states=encoder_hidden_states.to(x.dtype), return_dict=False)[
            0
        ]
        return output[:, : x.shape[1]]


class _StableDiffusionXL(nn.Module):
    def __init__(self, network: nn.Module, factor: int) -> None:
        super().__init__()
        self.network = network
        self.factor = factor

    def forward(
        self, x: Tensor, t: Tensor, encoder_hidden_states: Tensor, text_embeds: Tensor, time_ids: Tensor | None = None
    ) -> Tensor:
        if time_ids is None:
            height, width = self.factor * x.shape[2], self.factor * x.shape[3]
            # Filled on the device: a list would be copied there, and waited for, at each step.
            sizes = (height, width, 0, 0, height, width)
            time_ids = torch.cat([torch.full((len(x), 1), float(size), device=x.device) for size in sizes], dim=1)
        added = {"text_embeds": text_embeds.to(x.dtype), "time_ids": time_ids.to(x.dtype)}
        output: Tensor = self.network(
            x,
            t,
            encoder_hidden_states=encoder_hidden_states.to(x.dtype),
            added_cond_kwargs=added,
            return_dict=False,
        )[0]
        return output[:, : x.shape[1]]
