"""The flow's velocity: losses in another prediction's space, its floor, the hybrid head, the noise scale, sampling."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband import EDM, VP, Flow, sample
from passband.sampling import predict

FLOOR = 0.05


def fields(seed: int = 0, count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(count, 2, 3, 5, generator=generator, dtype=torch.float64) for _ in range(2))


@pytest.mark.parametrize(
    ("process", "t"),
    [
        (Flow(1, "sample"), [0.1, 0.5, 0.9, 0.99]),
        (Flow(0, "epsilon", time_scale=1000), [10.0, 500.0, 900.0, 990.0]),
        (VP("epsilon"), [10.0, 200.0, 500.0, 800.0]),
        (EDM("edm"), [0.02, 0.5, 3.0, 70.0]),
    ],
)
@pytest.mark.parametrize("space", ["sample", "epsilon", "v_prediction", "velocity", "edm"])
def test_a_residual_changes_space_by_its_gain(process, t, space):
    clean, noise = fields()
    times = torch.tensor(t, dtype=torch.float64)
    noisy = process.add_noise(clean, noise, times)
    pred = process.target(clean, noise, times) + fields(1)[0]
    # The same clean estimate, as a prediction of the other kind.
    other = type(process)(data_at=process.data_at, prediction=space) if isinstance(process, Flow) else None
    if isinstance(process, Flow):
        other.time_scale = other.unit_time = process.time_scale
        other.clean_time, other.noise_time = process.clean_time, process.noise_time
    else:
        other = type(process)(space)
    estimate = process.clean_estimate(noisy, pred, times)
    alpha, sigma = (x.reshape(-1, 1, 1, 1) for x in process.level(times))
    there = other.target(estimate, (noisy - alpha * estimate) / sigma, times)
    expected = there - other.target(clean, noise, times)
    gain = process.loss_gain(times, space).reshape(-1, 1, 1, 1)
    torch.testing.assert_close((pred - process.target(clean, noise, times)) * gain, expected)


@pytest.mark.parametrize("data_at", [0, 1])
def test_the_velocity_error_is_over_at_least_the_floor(data_at):
    process = Flow(data_at, "sample", velocity_floor=FLOOR)
    tau = torch.tensor([0.0, 0.5, 0.95, 0.97, 1.0])
    times = tau if data_at == 1 else 1 - tau
    found = process.loss_gain(times, "velocity").abs()
    torch.testing.assert_close(found, 1 / (1 - tau).clamp(min=FLOOR))
    assert Flow(data_at, "sample").loss_gain(times[:4], "velocity").abs()[3].item() == pytest.approx(1 / 0.03, rel=1e-5)


def test_spaces_are_named():
    with pytest.raises(ValueError, match="unknown space: got 'velocty'"):
        Flow(1, "sample").loss_gain(0.5, "velocty")


@pytest.mark.parametrize("data_at", [0, 1])
def test_the_hybrid_head_is_the_published_mix(data_at):
    process = Flow(data_at, hybrid=True, velocity_floor=FLOOR)
    clean, noise = fields()
    tau = torch.tensor([0.0, 0.3, 0.98, 1.0], dtype=torch.float64)
    times = tau if data_at == 1 else 1 - tau
    noisy, (estimate, velocity) = process.add_noise(clean, noise, times), fields(2)
    found = predict(lambda x, t: torch.cat([estimate, velocity], dim=1), process, noisy, times)
    shaped = tau.reshape(-1, 1, 1, 1)
    by_estimate = (estimate - noisy) / (1 - shaped).clamp(min=FLOOR) * (1 if data_at == 1 else -1)
    torch.testing.assert_close(found, (1 - shaped) * by_estimate + shaped * velocity)


def test_a_hybrid_head_that_is_right_is_the_velocity():
    process = Flow(1, hybrid=True)
    clean, noise = fields()
    times = torch.tensor([0.1, 0.4, 0.7, 0.9], dtype=torch.float64)
    noisy = process.add_noise(clean, noise, times)
    found = process.read_output(noisy, torch.cat([clean, clean - noise], dim=1), times)
    torch.testing.assert_close(found, process.target(clean, noise, times))


def test_one_head_is_not_enough_for_a_hybrid():
    process = Flow(1, hybrid=True)
    with pytest.raises(ValueError, match=r"returned shape \(4, 2, 3, 5\) for an input of shape \(4, 2, 3, 5\) and 2 h"):
        predict(lambda x, t: x, process, fields()[0], 0.5)


@pytest.mark.parametrize("data_at", [0, 1])
def test_the_noise_scale_is_the_unit_of_the_noise(data_at):
    process = Flow(data_at, noise_scale=2.0)
    tau = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    times = tau if data_at == 1 else 1 - tau
    torch.testing.assert_close(process.flow_time(times), tau)
    torch.testing.assert_close(process.noise_ratio(times), 2 * (1 - tau) / tau)
    torch.testing.assert_close(process.time_at(process.noise_ratio(times)), times)
    clean, noise = (x[:3] for x in fields())
    noisy = process.add_noise(clean, noise, times)
    shaped = tau.reshape(-1, 1, 1, 1)
    torch.testing.assert_close(noisy, shaped * clean + 2 * (1 - shaped) * noise)
    target = process.target(clean, noise, times)
    torch.testing.assert_close(target, (clean - 2 * noise) * (1 if data_at == 1 else -1))
    torch.testing.assert_close(process.clean_estimate(noisy, target, times), clean)
    sampled = Flow(data_at, "sample", noise_scale=2.0, velocity_floor=FLOOR)
    torch.testing.assert_close(sampled.loss_gain(times, "velocity").abs(), 1 / (1 - tau))
    joined = Flow(data_at, hybrid=True, noise_scale=2.0)
    torch.testing.assert_close(joined.read_output(noisy, torch.cat([clean, target], 1), times), target)


def test_other_predictions_and_floors_are_refused():
    with pytest.raises(ValueError, match="set prediction to 'velocity', got 'sample'"):
        Flow(1, "sample", hybrid=True)
    with pytest.raises(ValueError, match=r"velocity_floor is a noise level of the flow, in \[0, 1\), got 1"):
        Flow(1, "sample", velocity_floor=1)
    with pytest.raises(ValueError, match="noise_scale must be positive, got 0"):
        Flow(1, noise_scale=0)
    with pytest.raises(TypeError, match="velocity_floor must be a number"):
        Flow(1, "sample", velocity_floor="0.05")


@given(steps=st.integers(2, 40))
def test_euler_with_a_floor_is_the_published_update(steps):
    model = lambda x, t: torch.tanh(x) * t.reshape(-1, 1, 1).to(x)  # noqa: E731
    process = Flow(1, "sample", velocity_floor=FLOOR)
    found = sample(model, process, (1, 6), seeds=[0, 1], steps=steps, dtype=torch.float64)
    grid = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    x = sample(lambda x, t: x, Flow(1, "sample"), (1, 6), seeds=[0, 1], times=[0.0, 1e-12], dtype=torch.float64)
    for t, s in pairwise(grid):
        x = x + (s - t) * (model(x, t.expand(2)) - x) / max(1 - t.item(), FLOOR)
    torch.testing.assert_close(found, x, rtol=1e-6, atol=1e-6)


def test_heun_with_a_floor_is_the_published_update():
    model = lambda x, t: torch.tanh(x) * t.reshape(-1, 1, 1).to(x)  # noqa: E731
    process = Flow(1, "sample", velocity_floor=0.2)
    steps = 10
    found = sample(model, process, (1, 6), seeds=[3], steps=steps, solver="heun", dtype=torch.float64)
    x = sample(lambda x, t: x, Flow(1, "sample"), (1, 6), seeds=[3], times=[0.0, 1e-12], dtype=torch.float64)
    grid = torch.linspace(0, 1, steps + 1, dtype=torch.float64)

    def velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return (model(x, t.expand(1)) - x) / max(1 - t.item(), 0.2)

    for k, (t, s) in enumerate(pairwise(grid)):
        first = velocity(x, t)
        end = x + (s - t) * first
        x = end if k == steps - 1 else x + (s - t) * (first + velocity(end, s)) / 2
    torch.testing.assert_close(found, x, rtol=1e-6, atol=1e-6)
