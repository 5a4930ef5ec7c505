r"""The process that a pipeline's network is trained in, from the scheduler it draws with.

Schedulers of one family share the noising of training and differ in how they draw: PNDM, DDIM, Euler and DPM-Solver of
a Stable Diffusion network all stand for the same table of noise levels, whatever their spacing of steps.
"""

import math
from typing import Any

import torch

from passband.integrations.diffusers import process_from_scheduler
from passband.process import VP, Flow, Process, RescaledVP

#: What changes the choice of sampling steps only, and its value that changes nothing.
_SPACING = {
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "use_lu_lambdas": False,
    "interpolation_type": "linear",
}


def training_process(scheduler: Any) -> Process:
    r"""The noising that the network of this scheduler was trained with, and what it predicts.

    - A table of $\bar\alpha$ (DDPM, DDIM, PNDM, Euler, Heun, LMS, DPM-Solver, DEIS, UniPC): `VP` with that table.
      Karras and other spacings choose sampling steps only and are left aside.
    - EDM: `EDM`.
    - Flow matching: `Flow(data_at=0, time_scale=1000)`, whose training times are logit-normal and shifted by the
      scheduler's static shift s: $u = s\,v / (1 + (s - 1)\,v)$ with logit(v) ~ N(0, 1), which is
      logit(u) ~ N(ln s, 1). A dynamic shift depends on the resolution: see
      [`process_at`][passband.integrations.pipelines.TrainablePipeline.process_at].

    Raises:
        TypeError: if the scheduler is not supported.
        ValueError: if one of its options is not, or it has a step without signal and the network predicts epsilon.

    Source: Esser et al. 2024 (SD3, arXiv:2403.03206), logit-normal times and the shift; Lin et al. 2024
    (arXiv:2305.08891), zero terminal SNR, which needs v_prediction.
    """
    process = process_from_scheduler(_without_spacing(scheduler))
    if isinstance(process, RescaledVP):
        process = VP(process.prediction, alphas_cumprod=scheduler.alphas_cumprod)
    if isinstance(process, VP):
        _check_recoverable(process, bool(scheduler.config.get("rescale_betas_zero_snr")))
    if isinstance(process, Flow):
        config = scheduler.config
        return shifted(process, 0.0 if config.get("use_dynamic_shifting") else math.log(config.get("shift", 1.0)))
    return process


def shifted(process: Flow, log_shift: float) -> Flow:
    """The same flow, its training times logit-normal with a mean of log_shift and a standard deviation of 1."""
    return Flow(0, process.prediction, time_scale=process.time_scale, logit_normal=(log_shift, 1.0))


def dynamic_log_shift(config: Any, tokens: int, default_max_shift: float) -> float | None:
    """Ln of the shift that a flow scheduler with dynamic shifting takes for this many tokens, None without.

    Linear in the number of tokens between (base_image_seq_len, base_shift) and (max_image_seq_len, max_shift).

    Args:
        config: the scheduler's.
        tokens: of an image.
        default_max_shift: the pipeline's own, where the scheduler names none.

    Source: the published code of Flux, as diffusers' pipelines have it.
    """
    if not config.get("use_dynamic_shifting"):
        return None
    fewest, most = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", default_max_shift)
    mu = low + (high - low) * (tokens - fewest) / (most - fewest)
    return math.log(mu) if config.get("time_shift_type") == "linear" else float(mu)


def _without_spacing(scheduler: Any) -> Any:
    config = getattr(scheduler, "config", None)
    if config is None:
        return scheduler
    changed = {name: value for name, value in _SPACING.items() if config.get(name, value) not in (None, value)}
    return type(scheduler).from_config(config, **changed) if changed else scheduler


def _check_recoverable(process: VP, rescaled: bool) -> None:
    alpha, _ = process.level(torch.tensor(process.noise_time, dtype=torch.float64))
    if process.prediction == "epsilon" and (rescaled or alpha.item() == 0):
        raise ValueError(
            "the scheduler's last step has no signal left (zero terminal SNR), and its prediction_type is 'epsilon', "
            "which says nothing of the image there: such networks predict v; pass prediction='v_prediction' "
            "(pipeline.prediction=v_prediction)"
        )
