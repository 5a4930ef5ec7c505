"""What a front lets through, against closed forms and against the operator itself on fields."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband.forcing import ConstantFront, ContourFront, LinearFront, spectral_low_pass
from passband.metrics import PowerLawResult, measure_power_law, passed_power
from passband.transforms import idct, radial_grid

TAU = torch.tensor([0.0, 0.2, 0.6, 0.9, 1.0], dtype=torch.float64)


def law(size: tuple[int, ...], beta: float = 2.5, k1: float = 3.0, count: int = 20) -> PowerLawResult:
    gain = (radial_grid(size, "dct").clamp_min(1e-9) / k1) ** (-beta / 2)
    gain.view(-1)[0] = 20.0
    noise = torch.randn(count, 1, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return measure_power_law(idct(noise * gain))


def test_a_mask_of_ones_passes_all() -> None:
    passed = passed_power(ConstantFront(1.0), TAU, law((16, 16)), exact=True)
    for share in (passed.signal, passed.mean, passed.noise):
        torch.testing.assert_close(share, torch.ones_like(TAU))
    torch.testing.assert_close(passed.lost, torch.zeros_like(TAU))
    assert passed.cutoff.tolist() == [1.0] * 5


@pytest.mark.parametrize("cutoff", [0.15, 0.5, 0.83])
def test_a_steep_mask_counts_what_lies_below_the_cutoff(cutoff: float) -> None:
    measured = law((16, 16))
    passed = passed_power(ConstantFront(cutoff), TAU, measured, kappa=1e7)
    rows = [(i, j) for i in range(16) for j in range(16)]
    below = [math.hypot(i, j) < cutoff * math.hypot(15, 15) for i, j in rows]
    power = [0.0 if i + j == 0 else float(measured.power[math.floor(math.hypot(i, j) + 0.5)]) for i, j in rows]
    signal = sum(p for p, inside in zip(power, below, strict=True) if inside) / sum(power)
    assert passed.signal.tolist() == pytest.approx([signal] * 5)
    assert passed.noise.tolist() == pytest.approx([sum(below) / 256] * 5)
    assert passed.mean.tolist() == pytest.approx([1.0] * 5)
    # Lost is what lies above the cutoff and, with ((1 - 0.6) / 0.6)^2 of the data's unit, above the noise.
    lost = sum(p for p, inside in zip(power, below, strict=True) if not inside and p > (0.4 / 0.6) ** 2) / sum(power)
    assert float(passed.lost[2]) == pytest.approx(lost)
    assert float(passed.lost[0]) == 0
    assert float(passed.lost[4]) == pytest.approx(1 - signal)


@given(st.floats(0, 1), st.floats(1, 200), st.booleans(), st.sampled_from([(12,), (8, 12), (9, 9)]))
def test_the_gain_is_the_operator_s(cutoff: float, kappa: float, exact: bool, size: tuple[int, ...]) -> None:
    # All coefficients 1: the output's energy is the sum of the squared gains.
    count = math.prod(size)
    field = idct(torch.ones(1, 1, *size, dtype=torch.float64))
    low = spectral_low_pass(field, cutoff, kappa=kappa, exact=exact)
    passed = passed_power(ConstantFront(cutoff), TAU[:1], law(size), kappa=kappa, exact=exact)
    assert float(passed.noise) == pytest.approx(float(low.square().sum()) / count, rel=1e-9)
    constant = spectral_low_pass(torch.ones_like(field), cutoff, kappa=kappa, exact=exact)
    assert float(passed.mean) == pytest.approx(float(constant.square().mean()), rel=1e-9)


def test_white_data_pass_as_the_noise_does() -> None:
    white = measure_power_law(torch.randn(2000, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    passed = passed_power(ConstantFront(0.4), TAU[1:2], white, exact=True, kappa=1e7)
    inside = (radial_grid((8, 8), "dct") < 0.4 * math.hypot(7, 7)).sum()
    assert float(passed.noise) == pytest.approx(float(inside) / 64)
    assert float(passed.signal) == pytest.approx((float(inside) - 1) / 63, rel=0.02)


def test_shares_rise_with_the_front() -> None:
    measured = law((16, 16))
    for front in (LinearFront(), ContourFront(2.5, 3.0, 16)):
        passed = passed_power(front, TAU, measured)
        assert bool((passed.signal.diff() > 0).all())
        assert bool((passed.noise.diff() > 0).all())
        torch.testing.assert_close(passed.cutoff, front(TAU))


def test_a_steep_exact_contour_loses_no_data_above_the_noise() -> None:
    measured = law((32, 32), count=2000)
    front = ContourFront(2.5, 3.0 * 1.15, 32, approximate=False)  # a little above, for the rings' width
    passed = passed_power(front, torch.linspace(0.3, 0.95, 20, dtype=torch.float64), measured, kappa=1e7)
    assert float(passed.lost.max()) < 0.01
    cut_short = passed_power(ContourFront(2.5, 1.5, 32, approximate=False), TAU[2:3], measured, kappa=1e7)
    assert float(cut_short.lost) > 0.1


def test_bad_input_is_a_clear_error() -> None:
    measured = law((8, 8))
    with pytest.raises(ValueError, match="kappa"):
        passed_power(LinearFront(), TAU, measured, kappa=0)
    with pytest.raises(ValueError, match=r"flow times in \[0, 1\]"):
        passed_power(LinearFront(), TAU + 0.5, measured)
    with pytest.raises(ValueError, match=r"flow times in \[0, 1\]"):
        passed_power(LinearFront(), TAU[None], measured)
    with pytest.raises(TypeError, match="floating"):
        passed_power(LinearFront(), torch.tensor([0, 1]), measured)
