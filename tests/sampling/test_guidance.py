"""Classifier-free guidance."""

import math

import pytest
import torch
from torch import Tensor

from passband.process import EDM, VP, Flow
from passband.sampling import Guidance, sample, time_grid

SHAPE = (1, 4, 4)
SEEDS = [3, 1, 4]


class Conditional:
    """A linear network that notes the times and labels of its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, list[float]]] = []

    def __call__(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        self.calls.append((t[0].item(), label.tolist()))
        return 0.3 * x + label.reshape(-1, 1, 1, 1)

    def times(self, label: float) -> list[float]:
        return [t for t, labels in self.calls if labels[0] == label]


CONDITION = {"label": torch.full((3,), 2.0)}
NULL = {"label": torch.full((3,), -1.0)}


@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("solver", ["euler", "heun"])
@pytest.mark.parametrize("process", [VP("sample"), EDM("edm"), Flow(1)], ids=["vp", "edm", "flow"])
def test_guidance_extrapolates_the_predictions(process, solver, scale):
    options = {"seeds": SEEDS, "steps": 4, "solver": solver}
    guided = sample(Conditional(), process, SHAPE, conditioning=CONDITION, guidance=Guidance(scale, NULL), **options)
    # 0.3 x - 1 + scale * (2 + 1)
    label = torch.full((3,), -1.0 + scale * 3.0)
    expected = sample(Conditional(), process, SHAPE, conditioning={"label": label}, **options)
    torch.testing.assert_close(guided, expected, rtol=1e-4, atol=1e-4)


def test_scale_one_is_the_plain_sample_at_the_plain_cost():
    model = Conditional()
    plain = sample(Conditional(), VP(), SHAPE, seeds=SEEDS, steps=4, conditioning=CONDITION)
    guided = sample(model, VP(), SHAPE, seeds=SEEDS, steps=4, conditioning=CONDITION, guidance=Guidance(1.0, NULL))
    assert torch.equal(guided, plain)
    assert len(model.calls) == 4
    assert model.times(-1.0) == []


def test_scale_zero_is_the_unconditional_sample():
    guided = sample(
        Conditional(), Flow(1), SHAPE, seeds=SEEDS, steps=4, conditioning=CONDITION, guidance=Guidance(0.0, NULL)
    )
    expected = sample(Conditional(), Flow(1), SHAPE, seeds=SEEDS, steps=4, conditioning=NULL)
    torch.testing.assert_close(guided, expected)


@pytest.mark.parametrize("process", [Flow(1), Flow(0, time_scale=1024.0)], ids=["flow-1", "flow-0"])
def test_guidance_acts_within_its_interval_of_flow_time_ends_included(process):
    model = Conditional()
    guidance = Guidance(3.0, NULL, interval=(0.25, 0.625))
    sample(model, process, SHAPE, seeds=SEEDS, steps=8, conditioning=CONDITION, guidance=guidance)
    times = time_grid(process, 8)[:-1].tolist()
    assert model.times(2.0) == times
    assert model.times(-1.0) == times[2:6]


@pytest.mark.parametrize("process", [VP(), EDM()], ids=["vp", "edm"])
def test_the_interval_means_the_same_for_every_process(process):
    model, interval = Conditional(), (0.2, 0.7)
    sample(model, process, SHAPE, seeds=SEEDS, steps=20, conditioning=CONDITION, guidance=Guidance(2.0, NULL, interval))
    flow_times = [1 / (1 + r) for r in process.noise_ratio(time_grid(process, 20)[:-1]).tolist()]
    inside = [interval[0] <= tau <= interval[1] for tau in flow_times]
    assert 3 < sum(inside) < 15
    times = model.times(2.0)
    assert model.times(-1.0) == [t for t, acts in zip(times, inside, strict=True) if acts]


def test_heun_asks_at_both_ends_of_a_step():
    model = Conditional()
    guidance = Guidance(3.0, NULL, interval=(0.25, 0.25))
    sample(model, Flow(1), SHAPE, seeds=SEEDS, steps=4, conditioning=CONDITION, guidance=guidance, solver="heun")
    assert model.times(2.0) == [0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75]
    assert model.times(-1.0) == [0.25, 0.25]


def test_outside_the_interval_the_sample_is_plain():
    plain = sample(Conditional(), Flow(1), SHAPE, seeds=SEEDS, steps=8, conditioning=CONDITION)
    options = {"seeds": SEEDS, "steps": 8, "conditioning": CONDITION}
    never = sample(Conditional(), Flow(1), SHAPE, guidance=Guidance(3.0, NULL, (0.3, 0.35)), **options)
    assert torch.equal(never, plain)
    once = sample(Conditional(), Flow(1), SHAPE, guidance=Guidance(3.0, NULL, (0.3, 0.4)), **options)
    assert not torch.allclose(once, plain)


def test_both_conditions_are_split_with_the_batch():
    conditioning, null = {"label": torch.tensor([1.0, 2.0, 3.0])}, {"label": torch.tensor([-1.0, -2.0, -3.0])}
    options = {"seeds": SEEDS, "steps": 3, "conditioning": conditioning, "guidance": Guidance(2.0, null)}
    whole = sample(Conditional(), VP(), SHAPE, **options)
    for batch_size in (1, 2):
        model = Conditional()
        split = sample(model, VP(), SHAPE, batch_size=batch_size, **options)
        torch.testing.assert_close(split, whole, rtol=1e-5, atol=1e-5)
        for (_, plus), (_, minus) in zip(model.calls[::2], model.calls[1::2], strict=True):
            assert [-label for label in plus] == minus


def test_guidance_of_a_half_precision_network_is_computed_in_float32():
    def model(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        # Both predictions are exact in bfloat16, their extrapolation is not.
        return torch.full_like(x, 1.0 + label[0].item() / 128).bfloat16()

    guidance = Guidance(1.5, {"label": torch.zeros(3)})
    result = sample(
        model, Flow(1, "sample"), SHAPE, seeds=SEEDS, steps=1, conditioning={"label": torch.ones(3)}, guidance=guidance
    )
    assert result.unique().tolist() == [1 + 1.5 / 128]


def test_bad_intervals():
    for interval in [(0.5, 0.4), (-0.1, 1.0), (0.0, 1.1), (math.nan, 1.0)]:
        with pytest.raises(ValueError, match=r"interval is \(low, high\) in flow time within \[0, 1\], got"):
            Guidance(2.0, {}, interval)
