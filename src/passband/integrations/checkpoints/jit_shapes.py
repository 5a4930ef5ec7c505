"""What the tensors of a JiT checkpoint say of its network and its training."""

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from passband.forcing import SpectralForcing
from passband.integrations.checkpoints.plain_pickle import CheckpointFormatError, shown
from passband.integrations.checkpoints.torch_save import network_tensors
from passband.models import JIT_SIZES
from passband.process import Flow

_FIRST = "x_embedder.proj1.weight"
#: Rotations, which some versions of the published code keep in the state dict, and which are computed here.
_TABLES = re.compile(r"feat_rope\w*\.freqs_\w+")
_CHANNELS = (3, 1, 4)
_LARGE = 512


def network_state(entry: Mapping[Any, object], size: int) -> dict[str, Tensor]:
    """The network's tensors in float32 by their names, without what stands before all of them (`net.`).

    Args:
        entry: of the checkpoint.
        size: of the file in bytes, which the tensors may not exceed.

    """
    return network_tensors(entry, _FIRST, "JiT", size, _TABLES)


def network_config(
    state: Mapping[str, Tensor], arguments: Mapping[str, Any], image_size: int | None, context_start: int | None
) -> dict[str, Any]:
    """The constructor's arguments of [`JiT`][passband.models.JiT], from shapes first, then from what is recorded.

    Args:
        state: the network's tensors.
        arguments: the checkpoint's recorded arguments, any of them.
        image_size: side of the images, where neither tells.
        context_start: block where the class tokens enter, where neither tells.

    """
    _, tokens, width = _shape(state, "pos_embed", 3)
    depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    heads = _heads(width, _shape(state, "blocks.0.attn.q_norm.weight", 1)[0])
    side = _whole(arguments.get("img_size")) if image_size is None else image_size
    patch, channels, form = _patches(_shape(state, _FIRST), tokens, side)
    context = _shape(state, "in_context_posemb", 3)[1] if "in_context_posemb" in state else 0
    config = {
        "input_size": math.isqrt(tokens) * patch,
        "patch_size": patch,
        "in_channels": channels,
        "hidden_size": width,
        "depth": depth,
        "num_heads": heads,
        "mlp_ratio": _ratio(width, _shape(state, "blocks.0.mlp.w3.weight", 2)[1]),
        "num_classes": _shape(state, "y_embedder.embedding_table.weight", 2)[0] - 1,
        "bottleneck_dim": _shape(state, _FIRST)[0],
        "in_context_len": context,
        "in_context_start": 0,
        "attn_drop": _share(arguments.get("attn_dropout")),
        "proj_drop": _share(arguments.get("proj_dropout")),
        "out_channels": _shape(state, "final_layer.linear.weight", 2)[0] // patch**2,
        "patch_embedding": form,
    }
    if context:
        config["in_context_start"] = _start(config, arguments, context_start)
    return config


def size_name(config: Mapping[str, Any]) -> str | None:
    """The published size that a configuration has, or None."""
    for name, size in JIT_SIZES.items():
        if all(config[key] == value for key, value in size.items()):
            return name
    return None


def process_arguments(
    config: Mapping[str, Any], arguments: Mapping[str, Any], noise_scale: float | None
) -> dict[str, Any]:
    """The process's name and arguments: what the training recorded, or else what was published."""
    channels, outputs = config["in_channels"], config["out_channels"]
    if outputs not in (channels, 2 * channels):
        raise CheckpointFormatError(f"has {outputs} channels at its output and {channels} at its input")
    hybrid = outputs != channels
    normal = (_finite(arguments, "P_mean", -0.8), _finite(arguments, "P_std", 0.8))
    process: dict[str, Any] = {
        "name": "flow",
        "data_at": 1,
        "prediction": "velocity" if hybrid else "sample",
        "time_scale": 1.0,
        "logit_normal": list(normal),
        "velocity_floor": _finite(arguments, "t_eps", 0.05),
    }
    if hybrid:
        process["hybrid"] = True
    # As the published trainings had it; their files do not always say so.
    usual = 2.0 if config["input_size"] >= _LARGE else 1.0
    scale = _finite(arguments, "noise_scale", usual) if noise_scale is None else noise_scale
    if scale != 1:
        process["noise_scale"] = scale
    try:
        Flow(1, process["prediction"], logit_normal=normal, velocity_floor=process["velocity_floor"])
        if not 0 < scale < math.inf:
            raise ValueError(f"noise_scale must be above 0, got {scale}")
    except ValueError as error:
        raise CheckpointFormatError(f"was trained in a way that is not possible: {error}") from error
    return process


def forcing_config(config: Mapping[str, Any], forcing: str) -> dict[str, Any] | None:
    """The forcing that goes with a network: the published one, for a linear projection, unless it is named."""
    if forcing == "none" or (forcing == "auto" and config["patch_embedding"] != "linear"):
        return None
    return SpectralForcing(Flow(1)).config


def _shape(state: Mapping[str, Tensor], name: str, dims: int | None = None) -> tuple[int, ...]:
    if name not in state:
        raise CheckpointFormatError(f"holds no JiT: the tensor {name} is missing")
    shape = tuple(state[name].shape)
    if (dims is not None and len(shape) != dims) or 0 in shape:
        raise CheckpointFormatError(f"holds no JiT: {name} has the shape {shape}")
    return shape


def _heads(width: int, head: int) -> int:
    if width % head:
        raise CheckpointFormatError(f"has heads of width {head}, which do not divide tokens of width {width}")
    return width // head


def _patches(first: tuple[int, ...], tokens: int, side: int | None) -> tuple[int, int, str]:
    """Side and channels of the patches, and the form of their projection."""
    grid = math.isqrt(tokens)
    if grid**2 != tokens:
        raise CheckpointFormatError(f"has {tokens} patches, which make no square image")
    if len(first) == 4 and first[2] == first[3]:
        return first[2], first[1], "conv"
    if len(first) != 2:
        raise CheckpointFormatError(f"holds no JiT: {_FIRST} has the shape {first}")
    for patch, channels in _guesses(first[1], grid, side):
        if patch and patch**2 * channels == first[1]:
            return patch, channels, "linear"
    known = "a side of the images in pixels" if side is None else f"another one than {side}, which does not fit"
    raise CheckpointFormatError(
        f"has a linear projection of {first[1]} numbers, from which the size of a patch does not follow: give "
        f"--image-size, {known}"
    )


def _guesses(numbers: int, grid: int, side: int | None) -> list[tuple[int, int]]:
    if side is not None:
        patch = side // grid if side % grid == 0 else 0
        return [(patch, numbers // patch**2 if patch else 0)]
    return [(math.isqrt(numbers // channels), channels) for channels in _CHANNELS]


def _ratio(width: int, inner: int) -> float:
    """The ratio that gives a gated network of this width: the published 4, or the smallest that does."""
    hidden = math.ceil(inner * 3 / 2)
    for ratio in (4.0, hidden / width, (hidden + 0.5) / width):
        if int(int(width * ratio) * 2 / 3) == inner:
            return ratio
    raise CheckpointFormatError(f"has gated networks of width {inner}, which no ratio to {width} gives")


def _start(config: Mapping[str, Any], arguments: Mapping[str, Any], given: int | None) -> int:
    """Where the class tokens enter: as given, as recorded, or as in the published size of these shapes."""
    recorded = _whole(arguments.get("in_context_start"))
    if given is not None or recorded is not None:
        return recorded if given is None else given  # type: ignore[return-value]
    for size in JIT_SIZES.values():
        if all(config[key] == size[key] for key in ("depth", "hidden_size", "num_heads", "bottleneck_dim")):
            return size["in_context_start"]
    raise CheckpointFormatError(
        "has class tokens in a network of no published size, and no shape says at which block they enter: give "
        f"--context-start, 0 ... {config['depth'] - 1}"
    )


def _whole(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _share(value: object) -> float:
    return float(value) if type(value) in (int, float) and 0 <= value < 1 else 0.0  # type: ignore[operator,arg-type]


def _finite(arguments: Mapping[str, Any], name: str, default: float) -> float:
    value = arguments.get(name, default)
    if type(value) not in (int, float) or not math.isfinite(value):
        raise CheckpointFormatError(f"was trained with {name} = {shown(value)}, which is not possible")
    return float(value)
