"""The trained part of a network whose other weights stay as they are: averaged and saved alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

#: The file of a checkpoint.
ADAPTERS = "adapters.safetensors"


class Adapters(nn.Module):
    """The parameters of a network that are trained, under their names in it; those of the network itself, no copies."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                *path, last = name.split(".")
                self._holder(path).register_parameter(last, parameter)

    def _holder(self, path: list[str]) -> nn.Module:
        found: nn.Module = self
        for part in path:
            inside = dict(found.named_children())
            if part not in inside:
                found.add_module(part, nn.Module())
            found = found.get_submodule(part)
        return found

    def save_pretrained(self, folder: str | Path) -> None:
        """Write them under their names."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        save_file({name: value.detach().contiguous() for name, value in _named(self).items()}, Path(folder) / ADAPTERS)


@contextmanager
def holding(network: nn.Module, adapters: nn.Module) -> Iterator[nn.Module]:
    """The network with other values of the adapters, which it holds for as long as this is open.

    Args:
        network: the network.
        adapters: a copy of its `Adapters`.

    """
    live, values = dict(network.named_parameters()), _named(adapters)
    kept = {name: live[name].data for name in values}
    try:
        for name, value in values.items():
            live[name].data = value.detach().to(kept[name])
        yield network
    finally:
        for name, value in kept.items():
            live[name].data = value


def trained_share(network: nn.Module) -> tuple[int, int]:
    """How many of a network's weights are trained, and how many it has."""
    counts = [(weight.numel(), weight.requires_grad) for weight in network.parameters()]
    return sum(count for count, trained in counts if trained), sum(count for count, _ in counts)


def _named(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.data for name, value in module.named_parameters()}


def count_text(network: nn.Module) -> str:
    """Of a network's weights, those that are trained, in words."""
    trained, total = trained_share(network)
    return f"{trained:,} weights" if trained == total else f"{trained:,} of {total:,} weights"
