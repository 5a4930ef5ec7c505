r"""The decoder of a latent diffusion model as a function of latents: for losses in pixel space."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from passband._numerics import no_autocast

Latents = Float[Tensor, "batch channels *spatial"]
Pixels = Float[Tensor, "batch colours *space"]


class LatentDecoder:
    """See [`latent_decoder`][passband.integrations.latent_decoder]."""

    def __init__(self, vae: Any, dtype: torch.dtype) -> None:
        self.vae = vae
        self.dtype = dtype

    def __call__(self, latents: Latents) -> Pixels:
        """Return the decoded pixels, in the decoder's dtype; the gradient reaches the latents."""
        self._check_dtype()
        with no_autocast(latents):
            z = unscaled(self.vae.config, latents.to(torch.promote_types(latents.dtype, torch.float32)))
            decoded = self.vae.decode(z.to(self.dtype))
        pixels: Tensor = decoded if isinstance(decoded, Tensor) else decoded[0]
        return pixels

    def _check_dtype(self) -> None:
        found = _own_dtype(self.vae, self.dtype)
        if found != self.dtype:
            raise ValueError(
                f"the vae was turned to {found} after latent_decoder(vae), which decodes in {self.dtype}: make the "
                "decoder when the vae has its dtype and device, or pass dtype="
            )

    def __repr__(self) -> str:
        return f"LatentDecoder({type(self.vae).__name__}, {self.dtype})"


def latent_decoder(
    vae: Any, checkpointing: bool = True, *, dtype: torch.dtype | None = None
) -> Callable[[Tensor], Tensor]:
    r"""A diffusion model's latents to pixels, for [`DecodedLoss`][passband.regularization.DecodedLoss].

    $D(z / s + m)$ with the scaling and shift of the autoencoder's config; where the config has the latents' mean and
    standard deviation, $D(z\, \text{std} / s + \text{mean})$. Decoding runs outside autocast. The vae is frozen
    (`requires_grad_(False)`) and put into evaluation mode; its values are not changed.

    Args:
        vae: a diffusers autoencoder (AutoencoderKL and others with `config` and `decode`), in its dtype and on its
            device.
        checkpointing: recompute the decoder's activations in the backward pass, block by block, where the autoencoder
            can (`enable_gradient_checkpointing`): about the memory of one block instead of all.
        dtype: floating dtype to decode in; default: the vae's own, or float32 where that is float16, in which many
            decoders overflow. For another dtype than its own, a copy of the vae is made, at once.

    Returns:
        A function from latents, as the network sees them, to pixels, nominally in [-1, 1] and not clamped.

    Raises:
        TypeError: if vae has no `decode` and `config`, or dtype is not floating.

    Example:
        >>> import torch
        >>> from diffusers import AutoencoderKL
        >>> from passband.integrations import latent_decoder
        >>> vae = AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
        ...     down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2)
        >>> latent_decoder(vae)(torch.randn(2, 4, 8, 8)).shape
        torch.Size([2, 3, 16, 16])

    """
    if not callable(getattr(vae, "decode", None)) or not hasattr(vae, "config"):
        raise TypeError(
            f"vae must be a diffusers autoencoder, with decode and config, got {type(vae).__name__}; of a pipeline, "
            "pass pipeline.vae"
        )
    own = _own_dtype(vae, torch.float32)
    if dtype is None:
        dtype = torch.float32 if own == torch.float16 else own
    if not dtype.is_floating_point:
        raise TypeError(f"dtype must be floating, got {dtype}")
    if dtype != own:
        vae = deepcopy(vae).to(dtype)
    vae.requires_grad_(False).eval()
    if checkpointing and getattr(vae, "_supports_gradient_checkpointing", False):
        vae.enable_gradient_checkpointing()
    return LatentDecoder(vae, dtype)


def _own_dtype(vae: Any, otherwise: torch.dtype) -> torch.dtype:
    return next((parameter.dtype for parameter in vae.parameters()), otherwise)


def unscaled(config: Any, latents: Latents) -> Latents:
    """Latents in the autoencoder's own scale, from those that a diffusion model is trained on."""
    scale: float = _entry(config, "scaling_factor", 1.0)
    shift: float = _entry(config, "shift_factor", 0.0)
    mean, std = _entry(config, "latents_mean"), _entry(config, "latents_std")
    if mean is not None and std is not None:
        mean, std = (
            torch.as_tensor(x, dtype=latents.dtype, device=latents.device).reshape(-1, *(1,) * (latents.ndim - 2))
            for x in (mean, std)
        )
        return latents / scale * std + mean
    return latents / scale + shift


def _entry(config: Any, name: str, otherwise: float | None = None) -> Any:
    found = config.get(name) if hasattr(config, "get") else getattr(config, name, None)
    return otherwise if found is None else found
