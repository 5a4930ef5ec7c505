"""A network and its optimizer, as they are placed on the run's processes."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from passband.training.schedule import learning_rate
from passband.training.sections import OptimizerSettings
from passband.training.sharding import Sharding

if TYPE_CHECKING:
    from accelerate import Accelerator


class Learner:
    """What one optimizer trains.

    Args:
        network: the module whose parameters it trains, with its hooks.
        accelerator: the run's.
        settings: the optimizer's.
        shards: whether the network is divided among the processes.
        compiled: whether `forward` is compiled.

    Attributes:
        model: the network as Accelerate wraps it.
        forward: the same, compiled where that was asked for.
        optimizer: its optimizer.
        sharding: how both lie on the processes.

    """

    def __init__(
        self,
        network: nn.Module,
        accelerator: "Accelerator",
        settings: OptimizerSettings,
        *,
        shards: bool = False,
        compiled: bool = False,
    ) -> None:
        self.accelerator, self.settings = accelerator, settings
        self.sharding = Sharding(network, accelerator, shards)
        network = self.sharding.place(network)
        optimizer = AdamW(
            network.parameters(), settings.lr, settings.betas, settings.eps, weight_decay=settings.weight_decay
        )
        self.model, self.optimizer = self.sharding.prepare(network, optimizer)
        self.forward: Callable[..., Any] = torch.compile(self.model) if compiled else self.model

    @property
    def network(self) -> nn.Module:
        """The network itself, without Accelerate's wrapping."""
        found = self.accelerator.unwrap_model(self.model)
        assert isinstance(found, nn.Module)
        return found

    def step(self, step: int) -> None:
        """One step of the optimizer, by the gradients that have been added up."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.settings, step)
        if self.settings.clip_norm is not None:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def release(self) -> None:
        """Let go of Accelerate's wrapping, and so of the group of processes."""
        self.model = self.forward = self.network

    def state(self) -> Any:
        """The optimizer's state, whole, on the main process."""
        return self.sharding.whole_state(self.optimizer)

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` gave."""
        self.sharding.load_state(self.optimizer, state)
        _lay_out(self.optimizer)


def _lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Give the state its parameters' memory layout (channels_last), as a fresh one has: another makes steps slow."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
