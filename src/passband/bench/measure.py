"""One item: are the quantities the same, what is kept, how long it takes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from passband.bench.bars import Bar
from passband.bench.item import Arm, Case, Item, Missing, Setting
from passband.bench.memory import kept_bytes
from passband.bench.results import FORWARD_ALONE, ArmResult, Check, ItemResult
from passband.bench.timing import Timing, half_quartile_distance, take_turns

GRADIENT_TOLERANCE = 1e-2
"""Of the norm: where an L1 term is at its kink, rounding decides the sign of its gradient."""


@dataclass(frozen=True)
class Budget:
    """How long an item may take.

    Attributes:
        seconds: of timing, about.
        repeats: the number of turns instead.

    """

    seconds: float = 4.0
    repeats: int | None = None


class DifferenceError(ValueError):
    """Two ways to compute one quantity do not agree."""


def measure(
    item: Item, setting: Setting, budget: Budget, on_turn: Callable[[int, int], None] | None = None
) -> ItemResult:
    """Make an item ready, compare its quantities, and time its arms in turns.

    Args:
        item: what to measure.
        setting: device and seed.
        budget: seconds or turns.
        on_turn: called with (turns done, turns).

    Raises:
        DifferenceError: if arms that should compute the same quantity do not.
        RuntimeError: what an arm itself raises.

    """
    case = item.build(setting)
    arms = [arm for arm in case.arms if isinstance(arm, Arm)]
    deviations = _compare(arms)
    kept = {arm.name: _kept(arm, case) for arm in arms}
    calls = {arm.name: arm.call for arm in arms}
    timings = take_turns(calls, budget.seconds * item.share, budget.repeats, setting.device, on_turn)
    base = timings[arms[0].name]
    results = []
    for arm in case.arms:
        if isinstance(arm, Missing):
            unchecked = len(_promised(arm.bars, setting)) or None
            results.append(ArmResult(arm.name, "rival", missing=arm.reason, unchecked=unchecked))
        else:
            result = _result(arm, timings[arm.name], base, kept[arm.name], deviations.get(arm.name))
            numbers = {"ratio": result.ratio, "kept": result.kept}
            results.append(replace(result, checks=tuple(_check(bar, numbers) for bar in _promised(arm.bars, setting))))
    return ItemResult(item.name, item.title, tuple(results), case.unit)


def _result(
    arm: Arm, timing: Timing, base: Timing, kept: tuple[int, float] | None, deviation: float | None
) -> ArmResult:
    against = base.forward if arm.forward_alone else base.total
    ratio = spread = None
    if timing is not base:
        ratio = timing.median / _median(against)
        spread = half_quartile_distance([own / other for own, other in zip(timing.total, against, strict=True)])
    return ArmResult(
        arm.name,
        arm.kind,
        ms=1e3 * timing.median,
        spread=1e3 * timing.spread,
        forward_ms=1e3 * _median(timing.forward),
        turns=len(timing.total),
        calls=timing.calls,
        ratio=ratio,
        ratio_spread=spread,
        kept_bytes=None if kept is None else kept[0],
        kept=None if kept is None else kept[1],
        deviation=deviation,
        differs=arm.differs or (FORWARD_ALONE if arm.forward_alone else ""),
        remark=arm.remark,
    )


def _promised(bars: Sequence[Bar], setting: Setting) -> list[Bar]:
    return [bar for bar in bars if bar.applies(setting.device.type, torch.get_num_threads())]


def _median(values: Sequence[float]) -> float:
    return Timing(list(values)).median


def _check(bar: Bar, numbers: dict[str, float | None]) -> Check:
    value = numbers[bar.of]
    assert value is not None, f"nothing was measured for the bar {bar}"
    return Check(bar.of, bar.bar, bar.goal, bar.most, value, bar.verdict(value))


def _kept(arm: Arm, case: Case) -> tuple[int, float] | None:
    if arm.leaf is None or not case.unit:
        return None
    total = kept_bytes(arm.call, case.inputs)
    return total, total / case.unit


def _compare(arms: Sequence[Arm]) -> dict[str, float]:
    """The relative difference of each arm's quantity from the first one's."""
    base = arms[0]
    others = [arm for arm in arms[1:] if arm.kind == "rival" and not arm.differs]
    if not others:
        return {}
    wanted, gradient = _answer(base)
    found = {}
    for arm in others:
        value, own = _answer(arm)
        found[arm.name] = _distance(value, wanted)
        if not found[arm.name] <= arm.tolerance:
            raise DifferenceError(
                f"{arm.name} and {base.name} should compute the same, but differ by {found[arm.name]:.2g} of the value"
            )
        if gradient is None or own is None or not arm.same_gradient or arm.forward_alone:
            continue
        if not (apart := _distance(own, gradient)) <= GRADIENT_TOLERANCE:
            raise DifferenceError(f"the gradients of {arm.name} and {base.name} differ by {apart:.2g} of their norm")
    return found


def _answer(arm: Arm) -> tuple[Tensor, Tensor | None]:
    result = arm.call.forward()
    value = _as_tensor(result)
    if arm.leaf is None or arm.call.backward is None:
        return value, None
    arm.call.backward(result)
    assert arm.leaf.grad is not None
    return value, _as_tensor(arm.leaf.grad)


def _as_tensor(value: Any) -> Tensor:
    tensor = value if isinstance(value, Tensor) else torch.as_tensor(value)
    return tensor.detach().double().cpu()


def _distance(a: Tensor, b: Tensor) -> float:
    """Norm of the difference over the norm of b; infinite for other shapes."""
    if a.shape != b.shape:
        return float("inf")
    return float((a - b).norm() / b.norm().clamp(min=1e-30))
