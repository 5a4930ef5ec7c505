"""What the checkpoints of DiffWave's published code record of a network, and what of ours they can hold."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from passband.integrations.checkpoints.plain_pickle import CheckpointFormatError, shown
from passband.models import DiffWave
from passband.process import VP, linear_alphas_cumprod
from passband.sampling import FAST_SCHEDULE, schedule_times
from passband.transforms import MelSpectrogram

#: The tensor by which a network is known, and the one that some files hold and the network computes.
FIRST = "input_projection.weight"
TABLE = re.compile(r"diffusion_embedding\.embedding")

#: The published parameters, in their order; what a file does not say is as it is here.
PUBLISHED: dict[str, Any] = {
    "batch_size": 16,
    "learning_rate": 2e-4,
    "max_grad_norm": None,
    "sample_rate": 22050,
    "n_mels": 80,
    "n_fft": 1024,
    "hop_samples": 256,
    "crop_mel_frames": 62,
    "residual_layers": 30,
    "residual_channels": 64,
    "dilation_cycle_length": 10,
    "unconditional": False,
    "noise_schedule": torch.linspace(1e-4, 0.05, 50, dtype=torch.float64).tolist(),
    "inference_noise_schedule": list(FAST_SCHEDULE),
    "audio_len": 22050 * 5,
}
#: What the published code does not leave open, and what it is there; other values stand under `mel_` and the name.
_MEL: dict[str, Any] = {"f_min": 20.0, "f_max": None, "scale": "htk", "area_norm": False}
_HOPS_PER_WINDOW = 4
_FACTORS = [16, 16]
_LARGEST, _DEEPEST, _LONGEST = 1 << 20, 24, 10_000


def plain_params(recorded: object) -> dict[str, Any]:
    """The recorded parameters that are plain values."""
    if recorded is None:
        return {}
    if not isinstance(recorded, dict):
        raise CheckpointFormatError(f"has under 'params' no dictionary but a value of type {type(recorded).__name__}")
    return {name: _plain(value) for name, value in recorded.items() if isinstance(name, str) and _is_plain(value)}


def network_config(state: Mapping[str, Tensor], params: Mapping[str, Any]) -> dict[str, Any]:
    """The constructor's arguments of [`DiffWave`][passband.models.DiffWave]: shapes first, and params agree with them.

    Args:
        state: the network's tensors.
        params: the checkpoint's, as far as they are there.

    """
    layers = len({name.split(".")[1] for name in state if name.startswith("residual_layers.")})
    unconditional = not any(name.startswith("spectrogram_upsampler.") for name in state)
    config: dict[str, Any] = {
        "n_mels": _whole(params, "n_mels"),
        "residual_layers": layers,
        "residual_channels": _shape(state, FIRST, 3)[0],
        "dilation_cycle_length": _whole(params, "dilation_cycle_length", _DEEPEST),
        "unconditional": unconditional,
        "upsample_factors": _FACTORS,
    }
    found: dict[str, Any] = {name: config[name] for name in ("residual_layers", "residual_channels", "unconditional")}
    if not unconditional:
        config["n_mels"] = _shape(state, "residual_layers.0.conditioner_projection.weight", 3)[1]
        config["upsample_factors"] = _factors(state)
        found |= {"n_mels": config["n_mels"], "hop_samples": math.prod(config["upsample_factors"])}
    for name, value in found.items():
        if name in params and params[name] != value:
            raise CheckpointFormatError(
                f"says {name} = {shown(params[name])}, and its weights are those of {value}: it is damaged, or its "
                "parts come from different trainings"
            )
    return config


def process_record(params: Mapping[str, Any]) -> dict[str, Any]:
    """The process's name and arguments."""
    betas = params.get("noise_schedule", PUBLISHED["noise_schedule"])
    if not isinstance(betas, list) or not 1 <= len(betas) <= _LONGEST or not all(_is_beta(beta) for beta in betas):
        raise CheckpointFormatError("has no noise_schedule of numbers between 0 and 1")
    even = torch.linspace(betas[0], betas[-1], len(betas), dtype=torch.float64)
    if betas[0] > betas[-1] or not torch.allclose(torch.tensor(betas, dtype=torch.float64), even, rtol=1e-6, atol=0):
        raise CheckpointFormatError("has a noise_schedule that is not linear, which is not supported")
    ends = {"beta_start": betas[0], "beta_end": betas[-1]}
    return {"name": "vp", "prediction": "epsilon", "schedule": "linear", "steps": len(betas), **ends}


def mel_record(config: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """The spectrograms that the network was given, as mel.json holds them."""
    n_fft = _whole(params, "n_fft")
    hop = _whole(params, "hop_samples") if config["unconditional"] else math.prod(config["upsample_factors"])
    window = params.get("mel_win_length", _HOPS_PER_WINDOW * hop)
    mel = {
        "sample_rate": _whole(params, "sample_rate"),
        "n_fft": n_fft,
        "win_length": None if window == n_fft else window,
        "hop_length": hop,
        "n_mels": config["n_mels"],
        **{name: params.get(f"mel_{name}", value) for name, value in _MEL.items()},
    }
    try:
        MelSpectrogram(**mel)
    except (ValueError, TypeError) as error:
        raise CheckpointFormatError(f"describes a spectrogram that is not possible: {error}") from error
    return mel


def exported_params(
    model: DiffWave, process: VP, mel: Mapping[str, Any], inference_schedule: Sequence[float] | None
) -> tuple[dict[str, Any], list[str]]:
    """The parameters of a network of ours, and what the published code would do otherwise.

    Raises:
        TypeError: if mel has unknown items.
        ValueError: if the spectrograms are not possible or do not fit the network, or the schedule not the process.

    """
    config, made = model.config, MelSpectrogram(**mel)
    if not config["unconditional"] and (made.n_mels, made.hop_length) != (config["n_mels"], model.hop):
        raise ValueError(
            f"the network takes {config['n_mels']} bands and {model.hop} samples a frame, and mel says "
            f"{made.n_mels} and {made.hop_length}"
        )
    rate, n_fft, hop = made.sample_rate, made.n_fft, made.hop_length
    betas = _betas(process)
    sizes = ("n_mels", "residual_layers", "residual_channels", "dilation_cycle_length", "unconditional")
    params = PUBLISHED | {name: config[name] for name in sizes}
    params |= {"sample_rate": rate, "n_fft": n_fft, "hop_samples": hop, "noise_schedule": betas, "audio_len": 5 * rate}
    params["inference_noise_schedule"] = _inference(process, betas, inference_schedule)
    given = {"win_length": made.win_length, **{name: mel.get(name, _MEL[name]) for name in _MEL}}
    if given["f_max"] == rate / 2:
        given["f_max"] = None
    usual = {"win_length": _HOPS_PER_WINDOW * hop, **_MEL}
    other = {name: value for name, value in given.items() if value != usual[name]}
    differs = [f"its spectrograms have {name} = {shown(usual[name])}, ours {shown(other[name])}" for name in other]
    if not config["unconditional"] and config["upsample_factors"] != _FACTORS:
        factors = " x ".join(map(str, config["upsample_factors"]))
        differs.append(f"it upsamples frames by 16 x 16, this network by {factors}: it cannot load it")
    return params | {f"mel_{name}": value for name, value in other.items()}, differs


def _betas(process: VP) -> list[float]:
    kept = process.level(torch.arange(-1, process.steps, dtype=torch.float64)).alpha.square()
    betas = 1 - kept[1:] / kept[:-1]
    first, last = round(betas[0].item(), 12), round(betas[-1].item(), 12)
    if 0 < first <= last < 1 and torch.allclose(
        linear_alphas_cumprod(process.steps, first, last), kept[1:], rtol=1e-12
    ):
        return torch.linspace(first, last, process.steps, dtype=torch.float64).tolist()
    raise ValueError("the process's betas are not linear, and an export to DiffWave's layout takes linear ones alone")


def _inference(process: VP, betas: list[float], schedule: Sequence[float] | None) -> list[float]:
    if schedule is not None:
        schedule_times(process, schedule)
        return [float(beta) for beta in schedule]
    try:
        first = schedule_times(process, FAST_SCHEDULE)[0]
    except ValueError:
        return betas
    # It starts from pure noise, as if none of the signal were left: so it may leave out little of the training's.
    left_out = process.noise_ratio(process.noise_time) / process.noise_ratio(first)
    return betas if left_out > 2 else list(FAST_SCHEDULE)


def _factors(state: Mapping[str, Tensor]) -> list[int]:
    count = len({name for name in state if re.fullmatch(r"spectrogram_upsampler\.conv\d+\.weight", name)})
    return [_shape(state, f"spectrogram_upsampler.conv{i}.weight", 4)[3] // 2 for i in range(1, count + 1)]


def _shape(state: Mapping[str, Tensor], name: str, dims: int) -> tuple[int, ...]:
    if name not in state:
        raise CheckpointFormatError(f"holds no whole DiffWave: the tensor {name} is missing")
    shape = tuple(state[name].shape)
    if len(shape) != dims:
        raise CheckpointFormatError(f"holds no DiffWave: {name} has the shape {shape}, expected {dims} sizes")
    return shape


def _whole(params: Mapping[str, Any], name: str, largest: int = _LARGEST) -> int:
    value = params.get(name, PUBLISHED[name])
    if type(value) is not int or not 1 <= value <= largest:
        raise CheckpointFormatError(f"says {name} = {shown(value)}, which is not possible")
    return value


def _is_beta(value: object) -> bool:
    return type(value) is float and 0 < value < 1


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return len(value) <= _LONGEST and all(_is_plain(item) and not isinstance(item, list | tuple) for item in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | bool | None) or (isinstance(value, int) and abs(value) < 1 << 63)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value
