"""Networks in shards: weights, gradients, moments and averages divided among the processes (FSDP2).

Accelerate brings the processes, devices and precision. The sharding itself is called here: Accelerate's takes one
network, so none of the averages, and passes over processes without a GPU in silence.
"""

from collections.abc import Iterator
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from passband._checks import import_extra
from passband.training.config import AnyRecipe, Recipe, RecipeError
from passband.training.shards import is_shard, local

if TYPE_CHECKING:
    from accelerate import Accelerator

_PATIENCE = timedelta(hours=6)


def check_sharding(recipe: Recipe) -> None:
    """Raise where a recipe asks for shards together with what does not work on them.

    Raises:
        RecipeError: if it does.

    """
    settings = recipe.training
    if settings.sharding == "none":
        return
    excluded = {
        "precision": (settings.precision == "fp16", "bf16 or no"),
        "compile": (settings.compile, "false"),
        "channels_last": (settings.channels_last, "false"),
    }
    for name, (asked, instead) in excluded.items():
        if asked:
            raise RecipeError(
                f"training.{name} {getattr(settings, name)!r} does not work with training.sharding 'fsdp': set "
                f"{name} to {instead}, or sharding to none"
            )


def accelerator_options(recipe: AnyRecipe) -> list[Any]:
    """What Accelerate needs to know of the shards before it starts, for `kwargs_handlers`."""
    if recipe.training.sharding == "none":
        return []
    utils = import_extra("accelerate.utils", "train")
    return [
        # The others wait while the main process writes a checkpoint of hundreds of gigabytes.
        utils.InitProcessGroupKwargs(timeout=_PATIENCE),
        # A cache would keep every block's gathered weights in the lower precision, the whole network in the end.
        utils.AutocastKwargs(cache_enabled=False),
    ]


class Sharding:
    """How a run's networks lie on its processes: whole on each, or in shards where the recipe asks and there are two.

    Args:
        network: the network to be trained, whole, on the CPU; with its hooks, if it has any.
        accelerator: the run's.
        on: whether the recipe asks for shards. A process on its own keeps all of it.

    Attributes:
        active: whether there are shards.

    Raises:
        RecipeError: if the network has no blocks to divide, or Accelerate is configured to shard it too.

    """

    def __init__(self, network: nn.Module, accelerator: "Accelerator", on: bool) -> None:
        self.accelerator = accelerator
        if accelerator.distributed_type == "FSDP":
            raise RecipeError(
                "Accelerate's configuration asks for FSDP, of which the averages of the weights would know nothing: "
                "launch without it (accelerate launch --multi_gpu, or torchrun), and set training.sharding to fsdp"
            )
        self.active = on and accelerator.num_processes > 1
        if self.active:
            blocks(network)
            self._plain = meta_copy(network)

    def place(self, network: nn.Module) -> nn.Module:
        """Divide the network that is trained, in place, before its optimizer is made; or leave it whole."""
        return shard(network, self.accelerator.device) if self.active else network

    def prepare(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        """What Accelerate makes of the two, without a wrapping of a divided network."""
        if self.active:
            return network, self.accelerator.prepare(optimizer)
        model, prepared = self.accelerator.prepare(network, optimizer)
        return model, prepared

    def copy(self, network: nn.Module) -> nn.Module:
        """A copy of a network, for its average; of a divided one each process copies its shards."""
        if not self.active:
            return deepcopy(network)
        copied = shard(meta_copy(self._plain), self.accelerator.device)
        copied.to_empty(device=self.accelerator.device)
        with torch.no_grad():
            for target, source in zip(_tensors(copied), _tensors(network), strict=True):
                target.copy_(source)
        return copied.train(network.training)

    def whole(self, network: nn.Module) -> nn.Module | None:
        """The network as it is saved: itself; put together on the CPU of the main process if it is divided.

        Every process takes part; the others get None.
        """
        if not self.active:
            return network
        state = gathered(network.state_dict(), self.accelerator.is_main_process)
        if not self.accelerator.is_main_process:
            return None
        plain = meta_copy(self._plain)
        plain.load_state_dict(state, assign=True)
        return plain

    def whole_state(self, optimizer: torch.optim.Optimizer) -> Any:
        """The optimizer's state as one process would have it, on the main process; every process takes part."""
        state = optimizer.state_dict()
        return gathered(state, self.accelerator.is_main_process) if self.active else state

    def load(self, network: nn.Module, folder: Path) -> None:
        """Load weights that `whole` gave and that were saved, each process its own.

        Raises:
            OSError, ValueError, RuntimeError: if there are none, or they are not this network's.

        """
        # Mapped, not read: the processes of a machine share the pages.
        stored = {
            name: value for file in sorted(folder.glob("*.safetensors")) for name, value in load_file(file).items()
        }
        network.load_state_dict(divided(stored, network.state_dict()) if self.active else stored)

    def load_state(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Load an optimizer's state that `whole_state` gave, or a run without shards."""
        if self.active:
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            moments = {
                index: divided(found, dict.fromkeys(found, parameters[index]))
                for index, found in state["state"].items()
            }
            state = {**state, "state": moments}
        optimizer.load_state_dict(state)

    def not_finite(self, network: nn.Module) -> list[str]:
        """Names of the weights that are NaN or infinite on any process; every process takes part."""
        names = [name for name, _ in network.named_parameters()]
        finite = [torch.isfinite(local(weight)).all() for weight in network.parameters()]
        worst = self.accelerator.gather(torch.stack(finite).logical_not()[None]).any(0).tolist()
        return [name for name, bad in zip(names, worst, strict=True) if bad]


def blocks(network: nn.Module) -> list[nn.Module]:
    """The parts of a network that are gathered one at a time: the members of its lists of modules.

    Raises:
        RecipeError: if it has none.

    """
    lists = [child for child in network.children() if isinstance(child, nn.ModuleList | nn.ModuleDict)]
    found = [block for members in lists for block in members.children() if any(True for _ in block.parameters())]
    if any(kind.__name__ == "DiTTransformer2DModel" for kind in type(network).__mro__):
        # It asks its first block for the embedding of time and class once more, outside the block's own forward.
        found = [block for block in found if block is not network.transformer_blocks[0]]  # type: ignore[index]
    if not found:
        raise RecipeError(
            f"training.sharding 'fsdp' divides a network by its blocks (nn.ModuleList or nn.ModuleDict), and "
            f"{type(network).__name__} has none: set sharding to none"
        )
    return found


def shard(network: nn.Module, device: torch.device) -> nn.Module:
    """Divide each block, and what is left, among all processes, in place.

    Args:
        network: on the CPU, or the meta device, where it stays.
        device: where this process computes.

    """
    fsdp = import_extra("torch.distributed.fsdp", "train")
    meshes = import_extra("torch.distributed.device_mesh", "train")
    mesh = meshes.init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for block in blocks(network):
        fsdp.fully_shard(block, mesh=mesh)
    # Resharded at the end too, or a forward pass without a backward would leave parameters that are no shards.
    fsdp.fully_shard(network, mesh=mesh, reshard_after_forward=True)
    return network


def meta_copy(network: nn.Module) -> nn.Module:
    """A copy with all that a network is but the values of its parameters and buffers."""
    memo: dict[int, Any] = {}
    for parameter in network.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
    for buffer in network.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return deepcopy(network, memo)


def gathered(value: Any, keep: bool) -> Any:
    """Nested dicts and lists with whole tensors on the CPU in the place of shards; one is in device memory at a time.

    Args:
        value: the same on every process, all of which take part.
        keep: whether this one wants the values; it gets blanks otherwise.

    """
    if is_shard(value):
        full = value.full_tensor().detach()
        return full.cpu() if keep else None
    if isinstance(value, Tensor):
        return value.detach().cpu() if keep else None
    if isinstance(value, dict):
        return {key: gathered(item, keep) for key, item in value.items()}
    return [gathered(item, keep) for item in value] if isinstance(value, list | tuple) else value


def divided(stored: dict[str, Any], like: dict[str, Any]) -> dict[str, Any]:
    """Each whole tensor in shards where its namesake of the same shape is; without communication."""
    found = dict(stored)
    for name, value in stored.items():
        other: Any = like.get(name)
        if is_shard(other) and isinstance(value, Tensor) and value.shape == other.shape:
            found[name] = import_extra("torch.distributed.tensor", "train").distribute_tensor(
                value, other.device_mesh, other.placements, src_data_rank=None
            )
    return found


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    for tensor in (*network.parameters(), *network.buffers()):
        yield local(tensor)
