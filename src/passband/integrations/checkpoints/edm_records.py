"""What a checkpoint of NVLabs' EDM says of its network: arguments, preconditioning and tensors, out of its records."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from passband._checks import nearest
from passband.integrations.checkpoints.plain_objects import Array, Record
from passband.integrations.checkpoints.plain_pickle import CheckpointFormatError, UnsafeCheckpointError, shown
from passband.process import EDM, VEPreconditioned, VPPreconditioned

#: Where the network is, the averaged one first.
KEYS = ("ema", "net", "G_ema")
_DEPTH = 32
_LARGEST = 1 << 20

#: SongUNet's arguments in order.
_NETWORK = (
    "img_resolution", "in_channels", "out_channels", "label_dim", "augment_dim", "model_channels", "channel_mult",
    "channel_mult_emb", "num_blocks", "attn_resolutions", "dropout", "label_dropout", "embedding_type",
    "channel_mult_noise", "encoder_type", "decoder_type", "resample_filter",
)  # fmt: skip
#: Our process for each preconditioning: its name and class, and the attributes that it is made of, ours and theirs.
_PROCESSES: dict[str, tuple[str, type[EDM], dict[str, str]]] = {
    "EDMPrecond": ("edm", EDM, {"sigma_data": "sigma_data", "sigma_min": "sigma_min", "sigma_max": "sigma_max"}),
    "VPPrecond": (
        "edm_vp",
        VPPreconditioned,
        {"beta_d": "beta_d", "beta_min": "beta_min", "steps": "M", "epsilon_t": "epsilon_t"},
    ),
    "VEPrecond": ("edm_ve", VEPreconditioned, {"sigma_min": "sigma_min", "sigma_max": "sigma_max"}),
}


def choose(content: dict[Any, object], key: str | None) -> tuple[str, Record]:
    """The entry of that name, or the first of `KEYS`."""
    listed = ", ".join(shown(name) for name in content) or "none"
    if key is None:
        key = next((name for name in KEYS if name in content), None)
        if key is None:
            raise CheckpointFormatError(f"has none of the entries {', '.join(KEYS)}: choose one by --key of {listed}")
    if key not in content:
        hint = nearest(key, [name for name in content if isinstance(name, str)])
        raise CheckpointFormatError(f"has no entry {key!r}{hint}; it has {listed}")
    found = content[key]
    if not isinstance(found, Record):
        raise CheckpointFormatError(f"has under {key!r} no network but a value of type {type(found).__name__}")
    if found.class_name not in _PROCESSES:
        raise CheckpointFormatError(
            f"has under {key!r} a {shown(found.class_name)}, which is not supported; "
            f"supported are {', '.join(_PROCESSES)} around a SongUNet"
        )
    return key, found


def inner(outer: Record) -> Record:
    """The network in the preconditioning."""
    network = _named(outer, "_modules").get("model")
    if not isinstance(network, Record):
        raise CheckpointFormatError(f"has a {outer.class_name} without a network in it")
    if network.class_name != "SongUNet":
        raise CheckpointFormatError(
            f"has the network {shown(network.class_name)}, which is not supported; supported is SongUNet, which the "
            "DDPM++ and NCSN++ checkpoints of EDM hold (DhariwalUNet, the ADM network of ImageNet, is not)"
        )
    return network


def constructor_arguments(network: Record) -> dict[str, Any]:
    """The recorded constructor arguments, as EDMUNet takes them."""
    positional, named = network.state.get("_init_args"), network.state.get("_init_kwargs")
    if type(positional) not in (tuple, list) or type(named) is not dict or len(positional) > len(_NETWORK):  # type: ignore[arg-type]
        raise CheckpointFormatError("has a network without its constructor arguments (_init_args and _init_kwargs)")
    given = dict(zip(_NETWORK, positional, strict=False)) | named  # type: ignore[call-overload]
    unknown = [shown(name) for name in given if name not in _NETWORK]
    if unknown:
        raise CheckpointFormatError(f"has a network made with unknown arguments: {', '.join(unknown)}")
    config = {name: _setting(name, value) for name, value in given.items()}
    channels = config.pop("in_channels", None)
    if channels is None or channels != config.pop("out_channels", None):
        raise CheckpointFormatError("has a network with different numbers of channels at its input and its output")
    return {"img_channels": channels, **config}


def _setting(name: str, value: object) -> object:
    if isinstance(value, Array):
        value = value.value.tolist()
    if isinstance(value, list | tuple) and len(value) <= _DEPTH:
        return tuple(_number(name, item) for item in value)
    if isinstance(value, str) and len(value) <= _DEPTH:
        return value
    return _number(name, value)


def _number(name: str, value: object) -> int | float:
    if type(value) not in (int, float) or not 0 <= value <= _LARGEST:  # type: ignore[operator]
        raise CheckpointFormatError(f"has a network made with {name} = {shown(value)}, which is not possible")
    return value  # type: ignore[return-value]


def process_arguments(outer: Record) -> dict[str, Any]:
    """Our process's name and arguments. The object's attributes hold what it computes with, defaults included."""
    name, process_class, wanted = _PROCESSES[outer.class_name]
    recorded = _named(outer, "_init_kwargs")
    process: dict[str, Any] = {}
    try:
        for ours, theirs in wanted.items():
            value = outer.state.get(theirs, recorded.get(theirs))
            # EDMPrecond's own limits are 0 and infinity, which limit nothing.
            if value is not None and not (outer.class_name == "EDMPrecond" and value in (0, math.inf)):
                process[ours] = _finite(theirs, value)
        if "steps" in process and process["steps"].is_integer():
            process["steps"] = int(process["steps"])
        process_class(**process)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise CheckpointFormatError(f"has a {outer.class_name} that is not possible: {error}") from error
    return {"name": name, **process}


def _finite(name: str, value: object) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]
        raise ValueError(f"{name} = {shown(value)}")
    return float(value)  # type: ignore[arg-type]


def tensors(outer: Record, size: int) -> dict[str, Tensor]:
    """The network's tensors in float32, by name, in all no larger than the file."""
    state = dict(_tensors(outer, "", set(), 0))
    if sum(tensor.nbytes for tensor in state.values()) > size:
        raise UnsafeCheckpointError("asks for more tensors than the file has room for")
    for name, tensor in state.items():
        if not name.startswith("model."):
            raise CheckpointFormatError(f"has the tensor {shown(name)} outside the network")
        if not tensor.is_floating_point():
            raise CheckpointFormatError(f"has the tensor {shown(name)} of {tensor.dtype}, expected floating-point ones")
        if not torch.isfinite(tensor).all():
            raise CheckpointFormatError(f"has NaN or infinity in the tensor {shown(name)}: it is damaged; get it anew")
    return {name.removeprefix("model."): tensor.float().contiguous() for name, tensor in state.items()}


def _tensors(record: Record, prefix: str, seen: set[int], depth: int) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor of each parameter and lasting buffer. An object that occurs twice, or in itself, is refused."""
    if id(record) in seen or depth > _DEPTH:
        raise UnsafeCheckpointError(f"has the module {shown(prefix)} in itself, twice, or too deep")
    seen.add(id(record))
    passing = record.state.get("_non_persistent_buffers_set", ())
    for kind in ("_parameters", "_buffers"):
        for name, tensor in _named(record, kind).items():
            if tensor is None or (kind == "_buffers" and isinstance(passing, set | frozenset) and name in passing):
                continue
            if not isinstance(tensor, Tensor):
                raise CheckpointFormatError(f"has no tensor but a {type(tensor).__name__} under {shown(prefix + name)}")
            yield prefix + name, tensor
    for name, module in _named(record, "_modules").items():
        if module is None:
            continue
        if not isinstance(module, Record):
            raise CheckpointFormatError(f"has no module but a {type(module).__name__} under {shown(prefix + name)}")
        yield from _tensors(module, f"{prefix}{name}.", seen, depth + 1)


def _named(record: Record, attribute: str) -> Mapping[str, object]:
    found = record.state.get(attribute, {})
    if type(found) is not dict or not all(isinstance(name, str) for name in found):
        raise CheckpointFormatError(f"has a {record.class_name[:60]} whose {attribute} are no dictionary")
    return found
