"""Real and generated samples side by side, and their states as one."""

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor

Both = TypeVar("Both", bound="RealAndFake")


class RealAndFake:
    """What is kept of real and of generated samples; the base of the metrics that compare the two.

    Attributes:
        real: what is kept of the real samples.
        fake: what is kept of the generated ones.

    """

    real: Any
    fake: Any

    def merge(self: Both, other: Both) -> Both:
        """Add what another one has seen (another rank's, for instance), and return self."""
        self.real.merge(other.real)
        self.fake.merge(other.fake)
        return self

    def reset(self) -> None:
        """Forget all samples, real ones included."""
        self.real.reset()
        self.fake.reset()

    def state_dict(self) -> dict[str, Tensor]:
        """The state as a flat dictionary of tensors."""
        return join_states(real=self.real.state_dict(), fake=self.fake.state_dict())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace the state by one of `state_dict`."""
        self.real.load_state_dict(part_of(state, "real"))
        self.fake.load_state_dict(part_of(state, "fake"))


def join_states(**parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """States under their part's name and a dot."""
    return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.items()}


def part_of(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """One part of `join_states`."""
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
