"""What sd-scripts' trainers are trained on: processes by scheduler and by trainer, and loss masks."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from passband.process import VP, Flow, Level, Process


def process_of(args: Any, noise_scheduler: Any) -> Process:
    """The process of SD's and SDXL's scripts: the scheduler's noise levels, the arguments' prediction.

    Args:
        args: the script's arguments, with `v_parameterization` or without.
        noise_scheduler: the script's DDPM scheduler, after `--zero_terminal_snr` has changed it.

    Raises:
        ValueError: if the scheduler is that of a flow, whose direction and time the script knows and it does not, or if
            there is no signal at the last step while the prediction is the noise.

    Example:
        >>> from types import SimpleNamespace
        >>> from diffusers import DDPMScheduler
        >>> from passband.integrations.sd_scripts import process_of
        >>> process_of(SimpleNamespace(v_parameterization=True), DDPMScheduler()).prediction
        'v_prediction'

    """
    table = getattr(noise_scheduler, "alphas_cumprod", None)
    if table is None:
        raise ValueError(
            f"{type(noise_scheduler).__name__} has no alphas_cumprod: of a flow, pass the process, e.g. "
            "process=Flow(data_at=0, time_scale=1000) where timesteps are 1000 times the noise level, with "
            "prediction='sample' where the script compares clean latents"
        )
    if getattr(args, "v_parameterization", False):
        return VP("v_prediction", alphas_cumprod=table)
    if float(table[-1]) <= _NO_SIGNAL:
        raise ValueError(
            "zero_terminal_snr with noise prediction: at the last step no clean estimate follows from the noise; "
            "train with --v_parameterization, or without --zero_terminal_snr"
        )
    return VP("epsilon", alphas_cumprod=table)


#: Below, alpha is what rounding left of 0.
_NO_SIGNAL = 1e-10


class _TowardsData(Flow):
    """The flow whose time is the noise level, of a network that predicts latents minus noise."""

    def slope(self, t: Tensor) -> Level:
        """That of the path from noise to data."""
        alpha, sigma = super().slope(t)
        return Level(-alpha, -sigma)


def _flows() -> dict[str, Process]:
    of_noise_level = Flow(0, time_scale=1000.0)
    return {
        "FluxNetworkTrainer": of_noise_level,
        "HunyuanImageNetworkTrainer": of_noise_level,
        "LuminaNetworkTrainer": _TowardsData(0, time_scale=1000.0),
        "AnimaNetworkTrainer": Flow(0),
        "Sd3NetworkTrainer": Flow(0, "sample", time_scale=1000.0),
    }


_FLOWS = _flows()


def flow_of(trainer: object) -> Process | None:
    """The flow of a trainer that is known by its class's name, or None."""
    found = (_FLOWS[cls.__name__] for cls in type(trainer).__mro__ if cls.__name__ in _FLOWS)
    return next(found, None)


def loss_mask(args: Any, batch: Mapping[str, Any], pred: Tensor) -> Tensor | None:
    """The loss mask at the prediction's size, (batch, 1, *spatial): of alpha channels, or of masks in [-1, 1]."""
    alpha = batch.get("alpha_masks")
    if not getattr(args, "masked_loss", False) and alpha is None:
        return None
    images = batch.get("conditioning_images")
    if images is not None:
        mask = images[:, :1].float() / 2 + 0.5
    elif alpha is not None:
        mask = alpha[:, None].float()
    else:
        return None
    return torch.nn.functional.interpolate(mask, size=pred.shape[2:], mode="area")
