"""What is measured: items, the arms that take turns in each, and their inputs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from passband._checks import MissingExtraError
from passband._seeds import seed_for
from passband.bench.bars import Bar
from passband.bench.timing import Call
from passband.bench.words import named as error_named
from passband.bench.words import without_folders

Kind = Literal["ours", "rival", "floor", "step", "share", "with"]
"""ours, rival, floor; or in a training step: the step itself, a loss alone, a step with the loss."""

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Arm:
    """One way to compute an item.

    Attributes:
        name: as in the tables.
        call: what is timed.
        kind: ours, rival, floor; step, share, with.
        leaf: the tensor whose gradient `call.backward` computes, if any.
        differs: why what `call.forward` returns is not that of the first arm; then nothing is compared.
        tolerance: relative difference of values that passes.
        same_gradient: whether gradients are compared too.
        forward_alone: it has no backward pass, and is compared with the forward one of the first arm.
        remark: what else a reader should know.
        bars: what is promised of it.

    """

    name: str
    call: Call
    kind: Kind = "rival"
    leaf: Tensor | None = None
    differs: str = ""
    tolerance: float = 1e-4
    same_gradient: bool = True
    forward_alone: bool = False
    remark: str = ""
    bars: tuple[Bar, ...] = ()


@dataclass(frozen=True)
class Missing:
    """An arm whose package is not installed, or does not work.

    Attributes:
        name: as in the tables.
        reason: what is missing and how to install it; begins with `broken` where it is installed.
        bars: what can then not be checked.

    """

    name: str
    reason: str
    bars: tuple[Bar, ...] = ()


@dataclass(frozen=True)
class Case:
    """An item made ready on a device.

    Attributes:
        arms: the first one is what the others are compared with.
        inputs: their storages are not counted as kept.
        unit: bytes of the prediction.

    """

    arms: tuple[Arm | Missing, ...]
    inputs: tuple[Tensor, ...] = ()
    unit: int = 0


class Setting:
    """Where and with which random numbers an item is made.

    Args:
        device: where it computes.
        seed: of the inputs.

    """

    def __init__(self, device: torch.device | str = "cpu", seed: int = 0) -> None:
        self.device = torch.device(device)
        self.seed = seed

    def noise(self, shape: Sequence[int], index: int = 0) -> Tensor:
        """Standard normal numbers, the same on every device."""
        generator = torch.Generator().manual_seed(seed_for(self.seed, index, "bench"))
        return torch.randn(tuple(shape), generator=generator).to(self.device)

    def pair(self, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """A clean estimate that takes gradients, and the clean sample, a tenth of its deviation apart."""
        clean = self.noise(shape)
        return (clean + 0.1 * self.noise(shape, 1)).requires_grad_(), clean


@dataclass(frozen=True)
class Item:
    """One thing to measure.

    Attributes:
        name: family and shape or kind, with slashes.
        build: makes it ready.
        title: what it is, in a line.
        share: of the seconds that an item has.

    """

    name: str
    build: Callable[[Setting], Case]
    title: str = ""
    share: float = 1.0

    @property
    def family(self) -> str:
        """All of the name but its last part."""
        return self.name.rpartition("/")[0] or self.name


def named(shape: Sequence[int]) -> str:
    """`16x3x64x64`."""
    return "x".join(map(str, shape))


def loss_call(loss: Loss, estimate: Tensor, clean: Tensor) -> Call:
    """Forward and backward of a loss's mean, the gradient made anew."""

    def forward() -> Tensor:
        estimate.grad = None
        return loss(estimate, clean).mean()

    return Call(forward, lambda value: value.backward())


def operator_call(operator: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor) -> Call:
    """Forward and backward of a map of fields, for one gradient of its output."""

    def forward() -> Tensor:
        x.grad = None
        return operator(x)

    return Call(forward, lambda y: y.backward(grad))


def unless_missing(name: str, make: Callable[[], Arm], bars: tuple[Bar, ...] = ()) -> Arm | Missing:
    """The arm, or why its package cannot be used: that of another package does not end the item."""
    try:
        return make()
    except MissingExtraError as error:
        absent = isinstance(error.__cause__, ModuleNotFoundError)
        return Missing(name, without_folders(str(error) if absent else f"broken: {error}"), bars)
    except Exception as error:  # noqa: BLE001  (what a package raises at its import is its own choice)
        return Missing(name, f"broken: {error_named(error)}", bars)


def loss_case(
    ours: Loss,
    pair: tuple[Tensor, Tensor],
    others: Sequence["Other"],
    floors: Sequence[Arm] = (),
    bars: tuple[Bar, ...] = (),
) -> Case:
    """A loss, its rivals, its floors, and the mean squared error, which every training step has."""
    estimate, clean = pair

    def arm(other: Other) -> Arm:
        return Arm(
            other.name,
            loss_call(other.make(), estimate, clean),
            leaf=estimate,
            differs=other.differs,
            tolerance=other.tolerance,
            same_gradient=other.same_gradient,
            remark=other.remark,
            bars=() if other.bar is None else (other.bar,),
        )

    def prepared(other: Other) -> Arm | Missing:
        return unless_missing(other.name, lambda: arm(other), () if other.bar is None else (other.bar,))

    first = Arm("passband", loss_call(ours, estimate, clean), "ours", leaf=estimate, bars=bars)
    squared = Arm("MSE", loss_call(torch.nn.functional.mse_loss, estimate, clean), "floor")
    arms = (first, *map(prepared, others), *floors, squared)
    return Case(arms, (estimate, clean), estimate.untyped_storage().nbytes())


@dataclass(frozen=True)
class Other:
    """A rival of a loss.

    Attributes:
        name: as in the tables.
        make: imports its package and returns the loss.
        bar: the least ratio of its time to ours.
        differs: why it is not the same quantity.
        tolerance: relative difference of values that passes.
        same_gradient: whether gradients are compared too.
        remark: what else a reader should know.

    """

    name: str
    make: Callable[[], Loss]
    bar: Bar | None = None
    differs: str = ""
    tolerance: float = 1e-4
    same_gradient: bool = True
    remark: str = ""
