"""A process from somebody else's coefficients."""

import math

import pytest
import torch
from torch import Tensor

from passband.process import VP, Flow, Interpolant


def linear(t: Tensor) -> tuple[Tensor, ...]:
    one = torch.ones_like(t)
    return t, 1 - t, one, -one


def quarter(t: Tensor) -> tuple[Tensor, ...]:
    angle, rate = t * math.pi / 2, math.pi / 2
    return angle.sin(), angle.cos(), rate * angle.cos(), -rate * angle.sin()


def test_the_linear_path_is_the_flow() -> None:
    process, flow = Interpolant(linear), Flow(data_at=1)
    clean, noise = torch.randn(4, 2, 8), torch.randn(4, 2, 8)
    t = torch.tensor([0.0, 0.25, 0.5, 0.75])
    noisy, target = process.add_noise(clean, noise, t), process.target(clean, noise, t)
    torch.testing.assert_close(noisy, flow.add_noise(clean, noise, t))
    torch.testing.assert_close(target, flow.target(clean, noise, t))
    torch.testing.assert_close(process.clean_estimate(noisy, target, t), clean)
    torch.testing.assert_close(process.residual_gain(t), flow.residual_gain(t))
    assert (process.clean_time, process.noise_time) == (1.0, 0.0)


@pytest.mark.parametrize("prediction", ["velocity", "epsilon", "sample", "v_prediction"])
def test_the_quarter_circle_recovers_the_clean_sample(prediction: str) -> None:
    process = Interpolant(quarter, prediction)
    clean, noise = torch.randn(3, 2, 8, dtype=torch.float64), torch.randn(3, 2, 8, dtype=torch.float64)
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    noisy, target = process.add_noise(clean, noise, t), process.target(clean, noise, t)
    torch.testing.assert_close(process.clean_estimate(noisy, target, t), clean)


def test_its_velocity_is_the_slope_by_differences() -> None:
    process, h = Interpolant(quarter), 1e-6
    t = torch.tensor([0.2, 0.7], dtype=torch.float64)
    ahead, behind = process.level(t + h), process.level(t - h)
    slope = process.slope(t)
    torch.testing.assert_close(slope.alpha, (ahead.alpha - behind.alpha) / (2 * h), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(slope.sigma, (ahead.sigma - behind.sigma) / (2 * h), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("data_at", [0, 1])
def test_times_of_noise_ratios_are_the_inverse(data_at: int) -> None:
    def path(t: Tensor) -> tuple[Tensor, ...]:
        return quarter(t) if data_at == 1 else quarter(1 - t)

    process = Interpolant(path, data_at=data_at)
    ratios = torch.tensor([0.0, 0.01, 1.0, 50.0, math.inf], dtype=torch.float64)
    wanted = 1 - ratios.atan() * 2 / math.pi
    torch.testing.assert_close(process.time_at(ratios), wanted if data_at else 1 - wanted, rtol=0, atol=1e-12)


def test_times_are_drawn_within_the_range() -> None:
    times = Interpolant(linear).sample_times(1000, generator=torch.Generator().manual_seed(0))
    assert 0 <= times.min() < 0.01
    assert 0.99 < times.max() < 1


def test_a_path_on_the_unit_circle_has_the_noise_ratio_of_a_vp_process() -> None:
    vp, process = VP(), Interpolant(quarter, "v_prediction")
    t = process.time_at(vp.noise_ratio(torch.tensor([10, 500])).double())
    alpha, sigma = process.level(t)
    other = vp.level(torch.tensor([10.0, 500.0]))
    torch.testing.assert_close(alpha.float(), other.alpha, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sigma.float(), other.sigma, rtol=1e-5, atol=1e-6)


def test_wrong_arguments_are_errors() -> None:
    with pytest.raises(TypeError, match="coefficients must be a function"):
        Interpolant("linear")
    with pytest.raises(ValueError, match="unknown data_at"):
        Interpolant(linear, data_at=2)
    with pytest.raises(ValueError, match="t is outside the range of Interpolant"):
        Interpolant(linear).noise_ratio(1.5)


def test_nan_in_nan_out() -> None:
    found = Interpolant(quarter).time_at(torch.tensor([math.nan, 1.0]))
    assert found.isnan().tolist() == [True, False]
