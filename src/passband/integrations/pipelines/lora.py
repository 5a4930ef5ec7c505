"""Low-rank adapters of a pipeline's network, through peft: put in, saved, loaded, folded in."""

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from passband._checks import check_integer, check_number, import_extra
from passband.integrations.pipelines.lora_files import read_adapters, write_adapters

if TYPE_CHECKING:
    from passband.integrations.pipelines.base import TrainablePipeline

#: The projections of attention in diffusers' networks: of images, and of texts where both attend jointly.
ATTENTION = (
    "to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out",
)  # fmt: skip

_ADAPTER = "default"
_KEPT = ("r", "lora_alpha", "rank_pattern", "alpha_pattern")


def add_lora(
    network: nn.Module,
    *,
    rank: int,
    alpha: float | None = None,
    targets: Sequence[str] | None = None,
    dropout: float = 0.0,
    seed: int = 0,
) -> nn.Module:
    """Put adapters into a network, in place, and freeze everything else; they start as the identity.

    Args:
        network: a network of diffusers; returned.
        rank: of the adapters, at least 1.
        alpha: their scale is alpha / rank, above 0; default: rank. Tools that do not read the metadata of a saved file
            take alpha to be rank.
        targets: ends of the names of layers; default: the projections of attention.
        dropout: on the adapters' input, in [0, 1).
        seed: of the adapters' first weights; PyTorch's own random state is left as it was.

    Raises:
        MissingExtraError: if peft is not installed.
        TypeError: if rank is no integer, or alpha or dropout no number.
        ValueError: if one is out of range, the network has adapters already, or no layer has such a name.

    """
    check_integer("rank", rank)
    alpha = float(rank) if alpha is None else alpha
    check_number("alpha", alpha)
    check_number("dropout", dropout)
    if rank < 1 or not 0 < alpha < math.inf or not 0 <= dropout < 1:
        raise ValueError(
            f"rank must be at least 1, alpha above 0 and dropout in [0, 1), got rank={rank}, alpha={alpha}, "
            f"dropout={dropout}"
        )
    _check_has_none(network)
    found = _layers(network, ATTENTION if targets is None else targets)
    if not found:
        wanted = "attention" if targets is None else f"the names {list(targets)}"
        raise ValueError(
            f"the {type(network).__name__} has no layers of {wanted} for adapters: pass targets=, ends of names such "
            f"as {_examples(network)}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # where peft draws; torch.manual_seed would seed accelerators too
        return _inject(network, {"r": rank, "lora_alpha": alpha, "lora_dropout": dropout, "target_modules": found})


def has_lora(network: nn.Module) -> bool:
    """Whether the network has adapters."""
    return any(".lora_" in name for name, _ in network.named_parameters())


def lora_parameters(network: nn.Module) -> list[nn.Parameter]:
    """The adapters' parameters, in the network's order; none without."""
    return [parameter for name, parameter in network.named_parameters() if ".lora_" in name]


def merged(network: nn.Module) -> nn.Module:
    """A copy of the network with its adapters folded in, frozen and of the class that it was before.

    Raises:
        ValueError: if it has none.

    """
    _check_has_lora(network)
    network = copy.deepcopy(network)
    for module in network.modules():
        if hasattr(module, "base_layer"):
            module.merge()  # type: ignore[operator]
    return _without_adapters(network).requires_grad_(False)


def save_lora(pipeline: "TrainablePipeline", folder: Path, network: nn.Module) -> Path:
    """Write the adapters alone, whole or not at all.

    Raises:
        FileExistsError: if the folder holds something else.
        ValueError: if the network has no adapters.
        OSError: if it cannot be written.

    """
    _check_has_lora(network)
    weights = {
        name.replace(f".{_ADAPTER}.", "."): parameter.detach().to("cpu").contiguous()
        for name, parameter in network.named_parameters()
        if ".lora_" in name
    }
    return write_adapters(folder, weights, _config(network), pipeline)


def load_lora(pipeline: "TrainablePipeline", network: nn.Module, folder: Path) -> nn.Module:
    """Put saved adapters into the network, in place, and freeze everything else.

    Raises:
        FileNotFoundError: if there are none.
        ValueError: if they are damaged or of another network, or the network has adapters already.

    """
    _check_has_none(network)
    weights, config = read_adapters(folder, pipeline.network_folder)
    names = sorted({name.rpartition(".lora_")[0] for name in weights if ".lora_A." in name})
    layers = dict(network.named_modules())
    strange = [name for name in weights if name.rpartition(".lora_")[0] not in names]
    strange += [name for name in names if name not in layers]
    if strange or not names:
        raise ValueError(
            f"the adapters at {str(folder)!r} are of another network than this {type(network).__name__}, or not in the "
            f"layout of diffusers or peft: {strange[:3] or 'no lora_A in its names'}"
        )
    ranks = {name: weights[f"{name}.lora_A.weight"].shape[0] for name in names}
    rank = max(ranks.values())
    defaults: dict[str, Any] = {"r": rank, "rank_pattern": {n: r for n, r in ranks.items() if r != rank}}
    defaults |= {"lora_alpha": rank, "alpha_pattern": defaults["rank_pattern"]}
    given = {name: config[name] for name in _KEPT if config.get(name) is not None}
    if given:
        defaults |= {"rank_pattern": {}, "alpha_pattern": {}}
    _inject(network, defaults | given | {"target_modules": names})
    problem = _fill(network, weights)
    if problem:
        _without_adapters(network)
        raise ValueError(
            f"the adapters at {str(folder)!r} do not fit this {type(network).__name__}: {problem}; expected those of "
            "the same pipeline"
        )
    return network


def _inject(network: nn.Module, options: Mapping[str, Any]) -> nn.Module:
    peft = import_extra("peft", "lora")
    network.requires_grad_(False)
    peft.inject_adapter_in_model(peft.LoraConfig(**options), network, adapter_name=_ADAPTER)
    for parameter in lora_parameters(network):
        parameter.data = parameter.data.float()  # small, and trained: in float32 also where the rest is not
        parameter.requires_grad_(True)
    return network


def _fill(network: nn.Module, weights: Mapping[str, Tensor]) -> str | None:
    """Copy weights into the adapters, or say what does not fit."""
    wanted = {
        name.replace(f".{_ADAPTER}.", "."): parameter
        for name, parameter in network.named_parameters()
        if ".lora_" in name
    }
    if difference := sorted(wanted.keys() ^ weights.keys()):
        return f"{difference[0]} is on one side only"
    for name, parameter in wanted.items():
        if parameter.shape != weights[name].shape:
            return f"{name} has shape {tuple(weights[name].shape)}, expected {tuple(parameter.shape)}"
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(weights[name])
    return None


def _without_adapters(network: nn.Module) -> nn.Module:
    """The network with its own layers in the adapters' place."""
    for name, module in list(network.named_modules()):
        if hasattr(module, "base_layer") and hasattr(module, "lora_A"):
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, module.base_layer)
    if hasattr(network, "peft_config"):
        del network.peft_config
    return network


def _config(network: nn.Module) -> dict[str, Any]:
    """What another program needs to build the adapters."""
    config: Any = network.peft_config[_ADAPTER]  # type: ignore[index]
    found = {name: getattr(config, name) for name in _KEPT}
    return found | {"target_modules": sorted(config.target_modules)}


def _layers(network: nn.Module, targets: Sequence[str]) -> list[str]:
    """Names of the linear and convolutional layers that end in one of the targets."""
    if isinstance(targets, str):
        raise TypeError(f"targets must be a list of names, got the text {targets!r}: put it into a list")
    ends = tuple(f".{target}" for target in targets)
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d) and f".{name}".endswith(ends)
    ]


def _examples(network: nn.Module) -> str:
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    ends = sorted({name.rpartition(".")[2] for name in names} - set("0123456789"))
    return ", ".join(map(repr, ends[:6]))


def _check_has_none(network: nn.Module) -> None:
    if has_lora(network):
        raise ValueError("the network has adapters already: fold them in first, with merged(network)")


def _check_has_lora(network: nn.Module) -> None:
    if not has_lora(network):
        raise ValueError("the network has no adapters: add them first, with add_lora(network, rank=...)")
