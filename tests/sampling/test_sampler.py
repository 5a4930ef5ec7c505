"""The sampler around a solver: seeds, batches, times, conditioning, progress, precision."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from passband.process import EDM, VP, Flow, RescaledVP
from passband.sampling import Ancestral, Euler, Heun, SampleNoise, sample, time_grid

SHAPE = (1, 3, 5)
SEEDS = [7, 0, 3, 2**31, 5]
SOLVERS = {
    "euler": "euler",
    "heun": "heun",
    "ancestral": "ancestral",
    "ancestral-0.5": Ancestral(0.5),
    "churn": Heun(churn=3.0),
}
PROCESSES = {
    "vp": VP(),
    "rescaled-vp": RescaledVP(),
    "edm": EDM(),
    "flow-1": Flow(1),
    "flow-0": Flow(0, time_scale=1000.0),
}


def one_by_one(x: Tensor, t: Tensor, **conditioning: Tensor) -> Tensor:
    """A network that calls itself for each sample alone, so that no arithmetic depends on the batch."""
    labels = conditioning.get("label", torch.zeros(len(x)))
    return torch.stack(
        [torch.tanh(row.roll(1, -1) + 0.01 * time + label) for row, time, label in zip(x, t, labels, strict=True)]
    )


COMBINATIONS = [
    pytest.param(process, solver, id=f"{process_name}-{solver_name}")
    for process_name, process in PROCESSES.items()
    for solver_name, solver in SOLVERS.items()
    if not (isinstance(process, Flow) and solver_name == "churn")
]


# Seeds.


@pytest.mark.parametrize(("process", "solver"), COMBINATIONS)
def test_neither_batch_nor_order_changes_a_sample(process, solver):
    whole = sample(one_by_one, process, SHAPE, seeds=SEEDS, steps=4, solver=solver)
    assert whole.shape == (5, *SHAPE)
    assert len({tuple(row.flatten().tolist()) for row in whole}) == 5
    for size in (1, 2, 3, 5, 9):
        assert torch.equal(
            sample(one_by_one, process, SHAPE, seeds=SEEDS, steps=4, solver=solver, batch_size=size), whole
        )
    order = [3, 0, 4, 2, 1]
    mixed = sample(one_by_one, process, SHAPE, seeds=[SEEDS[i] for i in order], steps=4, solver=solver, batch_size=2)
    assert torch.equal(mixed, whole[order])
    alone = sample(one_by_one, process, SHAPE, seeds=SEEDS[2:3], steps=4, solver=solver)
    assert torch.equal(alone, whole[2:3])


def test_repeated_seeds_repeat_the_sample():
    result = sample(one_by_one, VP(), SHAPE, seeds=[1, 1], steps=4, solver="ancestral")
    assert torch.equal(result[0], result[1])


def test_global_random_state_is_neither_used_nor_changed():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = sample(one_by_one, VP(), SHAPE, seeds=SEEDS, steps=3, solver="ancestral")
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(sample(one_by_one, VP(), SHAPE, seeds=SEEDS, steps=3, solver="ancestral"), first)


@pytest.mark.parametrize(
    ("process", "scale"), [(VP(), 1.0), (EDM(), 80.0), (Flow(1), 1.0), (Flow(0, time_scale=1000.0), 1.0)], ids=repr
)
def test_sampling_starts_from_each_seeds_noise(process, scale):
    seen = []

    def model(x: Tensor, t: Tensor) -> Tensor:
        seen.append(x)
        return torch.zeros_like(x)

    sample(model, process, SHAPE, seeds=SEEDS, steps=2)
    scaled = process.scale_input(scale * SampleNoise(SEEDS).normal(SHAPE), process.noise_time)
    torch.testing.assert_close(seen[0], scaled)


# Times.


def test_times_take_the_place_of_steps_and_spacing():
    for process in PROCESSES.values():
        by_steps = sample(one_by_one, process, SHAPE, seeds=SEEDS, steps=4)
        grid = time_grid(process, 4)
        assert torch.equal(sample(one_by_one, process, SHAPE, seeds=SEEDS, times=grid), by_steps)
        assert torch.equal(sample(one_by_one, process, SHAPE, seeds=SEEDS, times=grid.tolist(), steps=99), by_steps)


def test_spacing_is_passed_on():
    seen = []

    def model(x: Tensor, t: Tensor) -> Tensor:
        seen.append(t[0].item())
        return x

    sample(model, VP(), SHAPE, seeds=[0], steps=4, spacing="leading")
    assert seen == [750, 500, 250, 0]


def test_sampling_may_stop_before_the_clean_end():
    process = Flow(1, "sample")
    noise = SampleNoise(SEEDS).normal(SHAPE)
    result = sample(lambda x, t: torch.ones_like(x), process, SHAPE, seeds=SEEDS, times=[0.0, 0.5, 0.75])
    torch.testing.assert_close(result, 0.75 + 0.25 * noise)


@pytest.mark.parametrize("solver", ["euler", "heun", "ancestral"])
@pytest.mark.parametrize("process", [VP("sample"), EDM("sample"), Flow(0, "sample")], ids=["vp", "edm", "flow"])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_known_sample_is_reached_exactly(process, solver, steps):
    clean = torch.linspace(-1, 1, 15).reshape(1, *SHAPE).expand(5, *SHAPE)
    result = sample(lambda x, t: clean, process, SHAPE, seeds=SEEDS, steps=steps, solver=solver)
    torch.testing.assert_close(result, clean, rtol=0, atol=1e-6)


# Calls, progress, clipping, precision, outputs.


@pytest.mark.parametrize(("solver", "calls"), [("euler", 6), ("ancestral", 6), ("heun", 11)])
@pytest.mark.parametrize("process", [VP(), EDM(), Flow(1)], ids=["vp", "edm", "flow"])
def test_number_of_network_calls(process, solver, calls):
    count = 0

    def model(x: Tensor, t: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return x

    sample(model, process, SHAPE, seeds=[0, 1], steps=6, solver=solver)
    assert count == calls


def test_progress_counts_the_steps_of_all_batches():
    for batch_size, batches in [(None, 1), (2, 3), (1, 5)]:
        seen: list[tuple[int, int]] = []
        report = lambda *done, seen=seen: seen.append(done)  # noqa: E731
        sample(one_by_one, VP(), SHAPE, seeds=SEEDS, steps=4, batch_size=batch_size, on_step=report)
        assert seen == [(i + 1, 4 * batches) for i in range(4 * batches)]


@pytest.mark.parametrize("solver", ["euler", "heun", "ancestral"])
def test_clipping_bounds_every_clean_estimate(solver):
    # The last step's estimate is the sample, so it is bounded too.
    process = VP("sample")
    result = sample(lambda x, t: 3 * x, process, SHAPE, seeds=SEEDS, steps=5, solver=solver, clip=0.5)
    assert result.abs().max().item() == pytest.approx(0.5)
    clipped = sample(lambda x, t: (3 * x).clamp(-0.5, 0.5), process, SHAPE, seeds=SEEDS, steps=5, solver=solver)
    assert torch.equal(result, clipped)
    assert sample(lambda x, t: 3 * x, process, SHAPE, seeds=SEEDS, steps=5, solver=solver).abs().max() > 1


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())
def test_dtype_of_the_samples(solver):
    for dtype in (torch.float32, torch.float64):
        seen = []

        def model(x: Tensor, t: Tensor, seen: list = seen) -> Tensor:
            seen.append(x.dtype)
            return torch.tanh(x)

        result = sample(model, EDM(), SHAPE, seeds=SEEDS, steps=4, solver=solver, dtype=dtype)
        assert result.dtype == dtype
        assert set(seen) == {dtype}


def test_a_half_precision_network_steps_in_float32():
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = torch.nn.Parameter(torch.full((1,), 0.5, dtype=torch.bfloat16))

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return self.gain * x

    result = sample(Net(), Flow(1), SHAPE, seeds=SEEDS, steps=8)
    assert result.dtype == torch.float32
    exact = sample(lambda x, t: 0.5 * x, Flow(1), SHAPE, seeds=SEEDS, steps=8)
    torch.testing.assert_close(result, exact, rtol=5e-3, atol=0)
    assert not torch.equal(result, result.bfloat16().float())


def test_wrapped_outputs_are_accepted():
    expected = sample(one_by_one, VP(), SHAPE, seeds=SEEDS, steps=3)
    for wrap in (lambda y: SimpleNamespace(sample=y), lambda y: (y,)):
        result = sample(lambda x, t, wrap=wrap: wrap(one_by_one(x, t)), VP(), SHAPE, seeds=SEEDS, steps=3)
        assert torch.equal(result, expected)


def test_no_graph_is_built():
    gain = torch.ones(1, requires_grad=True)
    assert not sample(lambda x, t: gain * x, VP(), SHAPE, seeds=[0], steps=2).requires_grad


@pytest.mark.parametrize("shape", [(2, 7), (1, 4, 4), (1, 2, 3, 4)], ids=str)
def test_any_number_of_dimensions(shape):
    assert sample(lambda x, t: 0.1 * x, Flow(1), shape, seeds=range(3), steps=2).shape == (3, *shape)


def test_a_solver_of_ones_own():
    steps = []

    class Jump:
        def step(self, denoise, process, x, t, s, normal, steps_in_all):
            steps.append((t, s, steps_in_all))
            return denoise(x, t) if s == process.clean_time else x

    result = sample(lambda x, t: torch.ones_like(x), Flow(1, "sample"), SHAPE, seeds=[0], steps=2, solver=Jump())
    assert result.unique().tolist() == [1]
    assert steps == [(0.0, 0.5, 2), (0.5, 1.0, 2)]


# Conditioning.


@pytest.mark.parametrize("batch_size", [None, 1, 2, 3])
def test_conditioning_rows_follow_their_samples(batch_size):
    labels = torch.arange(5.0)
    seen = []

    def model(x: Tensor, t: Tensor, label: Tensor, table: Tensor, scalar: Tensor, option: str) -> Tensor:
        seen.append((len(x), label.tolist(), tuple(table.shape), scalar.item(), option))
        return one_by_one(x, t, label=label)

    conditioning = {"label": labels, "table": torch.zeros(7, 2), "scalar": torch.tensor(2.0), "option": "kept"}
    result = sample(model, VP(), SHAPE, seeds=SEEDS, steps=3, conditioning=conditioning, batch_size=batch_size)
    for rows, label, table, scalar, option in seen:
        assert rows == len(label)
        assert (table, scalar, option) == ((7, 2), 2.0, "kept")
    alone = [
        sample(one_by_one, VP(), SHAPE, seeds=[s], steps=3, conditioning={"label": labels[i : i + 1]})
        for i, s in enumerate(SEEDS)
    ]
    assert torch.equal(result, torch.cat(alone))


# Bad input.


def test_bad_arguments():
    def run(process=None, **options: object) -> Tensor:
        return sample(one_by_one, process or VP(), SHAPE, **({"seeds": SEEDS, "steps": 4} | options))

    with pytest.raises(
        ValueError, match=r"unknown solver: got 'huen' \(did you mean 'heun'\?\); expected one of 'euler'"
    ):
        run(solver="huen")
    with pytest.raises(ValueError, match="unknown spacing: got 'even'; expected one of"):
        run(spacing="even")
    with pytest.raises(ValueError, match="steps must be at least 1 and at most 1000, got 0"):
        run(steps=0)
    with pytest.raises(ValueError, match="seeds must hold one integer per sample, got none"):
        run(seeds=[])
    for size in (0, -1):
        with pytest.raises(ValueError, match=f"batch_size must be at least 1, got {size}"):
            run(batch_size=size)
    with pytest.raises(ValueError, match="at least 2 values, from noise to clean, got 1"):
        run(times=[999])
    with pytest.raises(ValueError, match="at least 2 values, from noise to clean, got 0"):
        run(times=[])


def test_times_must_run_from_noise_to_clean():
    for process, times in [
        (VP(), [0, 500, 999]),
        (VP(), [999, 500, 500, -1]),
        (EDM(), [80, 1, 2, 0]),
        (Flow(1), [1.0, 0.5, 0.0]),
        (Flow(0), [0.0, 0.5, 1.0]),
    ]:
        with pytest.raises(ValueError, match=r"times must run strictly from noise \(.*\) to clean \(.*\), got \["):
            sample(one_by_one, process, SHAPE, seeds=SEEDS, times=times)
    for process, times in [(VP(), [1000, 0]), (Flow(1), [0, 1.5]), (EDM(), [80, -1]), (VP(), [math.nan, 0])]:
        with pytest.raises(ValueError, match="t is outside the range of"):
            sample(one_by_one, process, SHAPE, seeds=SEEDS, times=times)


def test_wrong_outputs_of_the_model():
    with pytest.raises(ValueError, match=r"returned shape \(5, 1, 3, 4\) for an input of shape \(5, 1, 3, 5\)"):
        sample(lambda x, t: x[..., 1:], VP(), SHAPE, seeds=SEEDS, steps=2)
    with pytest.raises(TypeError, match=r"must return a tensor or an output with \.sample, got NoneType"):
        sample(lambda x, t: None, VP(), SHAPE, seeds=SEEDS, steps=2, solver=Euler())
