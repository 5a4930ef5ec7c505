import copy
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from passband.process import (
    EDM,
    VP,
    Flow,
    Process,
    RescaledVP,
    cosine_alphas_cumprod,
    linear_alphas_cumprod,
)

PREDICTIONS = ("epsilon", "sample", "v_prediction", "velocity", "edm", "edm_negated")
ZERO_SNR = torch.cat([linear_alphas_cumprod()[:-1], torch.zeros(1, dtype=torch.float64)])

# Each with times well inside its range.
PROCESSES = {
    "vp": (VP, [0, 3, 250.5, 500, 998.25]),
    "vp-cosine": (lambda p: VP(p, alphas_cumprod=cosine_alphas_cumprod(100)), [0, 12.5, 60, 95]),
    "rescaled-vp": (RescaledVP, [0, 3, 250.5, 500, 998.25]),
    "edm": (EDM, [0.002, 0.1, 0.5, 7, 80]),
    "edm-c_noise": (lambda p: EDM(p, sigma_data=1.3, time="c_noise"), [-1.5, -0.5, 0, 1.09]),
    "flow-1": (lambda p: Flow(1, p), [0.01, 0.3, 0.5, 0.99]),
    "flow-0": (lambda p: Flow(0, p, time_scale=1000.0), [1, 300, 500, 990]),
}
EVERY = [
    pytest.param(make, times, prediction, id=f"{name}-{prediction}")
    for name, (make, times) in PROCESSES.items()
    for prediction in PREDICTIONS
]
EACH = [pytest.param(make, times, id=name) for name, (make, times) in PROCESSES.items()]


def fields(count: int, shape=(2, 4, 3), dtype=torch.float64, seed=0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    clean = torch.randn(count, *shape, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, *shape, generator=generator, dtype=torch.float64)
    return clean.to(dtype), noise.to(dtype)


def double(values) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# The levels.


def test_vp_levels_are_ddpms():
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    product = 1.0
    for t in range(1000):
        product *= 1 - beta[t].item()
        alpha, sigma = VP().level(double(t))
        assert alpha.item() == pytest.approx(math.sqrt(product), rel=1e-12)
        assert sigma.item() == pytest.approx(math.sqrt(1 - product), rel=1e-12)


def test_vp_between_indices_stays_on_the_circle_between_its_neighbours():
    process = VP()
    t = torch.arange(-1, 999, dtype=torch.float64)
    for weight in (0.25, 0.9):
        alpha, sigma = process.level(t + weight)
        torch.testing.assert_close(alpha.square() + sigma.square(), torch.ones_like(t), rtol=1e-14, atol=0)
        low, high = process.noise_ratio(t), process.noise_ratio(t + 1)
        assert ((low < sigma / alpha) & (sigma / alpha < high)).all()


def test_clean_end_of_vp():
    for process in (VP(), RescaledVP()):
        assert [v.item() for v in process.level(double(-1))] == [1, 0]


def test_noise_ratio_at_the_end_of_linear_ddpm():
    log_product = sum(math.log1p(-(1e-4 + (0.02 - 1e-4) * k / 999)) for k in range(1000))
    ratio = math.sqrt(math.expm1(-log_product))
    assert round(ratio) == 157
    assert VP().noise_ratio(999).item() == pytest.approx(ratio, rel=1e-9)
    assert RescaledVP().noise_ratio(999).item() == pytest.approx(ratio, rel=1e-9)


def test_rescaled_vp_is_vp_divided_by_alpha():
    t = torch.arange(-1, 1000, dtype=torch.float64)
    alpha, sigma = VP().level(t)
    rescaled = RescaledVP().level(t)
    assert (rescaled.alpha == 1).all()
    torch.testing.assert_close(rescaled.sigma, sigma / alpha, rtol=1e-13, atol=0)


def test_rescaled_vp_is_linear_in_the_ratio_between_indices():
    process = RescaledVP()
    torch.testing.assert_close(
        process.noise_ratio(double(700.25)), 0.75 * process.noise_ratio(700) + 0.25 * process.noise_ratio(701)
    )


def test_rescaled_vp_network_sees_the_vp_sample():
    clean, noise = fields(3)
    t = torch.tensor([0, 400, 999])
    process = RescaledVP()
    seen = process.scale_input(process.add_noise(clean, noise, t), t)
    torch.testing.assert_close(seen, VP().add_noise(clean, noise, t), rtol=1e-12, atol=1e-12)


@given(sigma=st.floats(1e-3, 1e3))
def test_edm_levels(sigma):
    for process, t in ((EDM(), sigma), (EDM(time="c_noise"), math.log(sigma) / 4)):
        alpha, level = process.level(double(t))
        assert alpha.item() == 1
        assert level.item() == pytest.approx(sigma, rel=1e-12)
        assert process.model_time(t).item() == pytest.approx(math.log(sigma) / 4, abs=1e-12)


@given(u=st.floats(0, 1))
def test_flow_levels_in_both_conventions(u):
    assert [v.item() for v in Flow(1).level(double(u))] == [u, 1 - u]
    assert [v.item() for v in Flow(0).level(double(u))] == [1 - u, u]
    scaled = Flow(0, time_scale=1000.0).level(double(1000 * u))
    assert scaled.sigma.item() == pytest.approx(u, abs=1e-15)


def test_cosine_schedule():
    table = cosine_alphas_cumprod(1000)
    t = (torch.arange(1000, dtype=torch.float64) + 1) / 1000
    start = math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    expected = ((t + 0.008) / 1.008 * math.pi / 2).cos().square() / start
    torch.testing.assert_close(table[:-1], expected[:-1], rtol=1e-10, atol=0)
    assert table[-1] == pytest.approx(1e-3 * table[-2].item(), rel=1e-12)  # beta is clipped at 0.999


# What follows from the levels.


@pytest.mark.parametrize(("make", "times"), EACH)
def test_flow_time_log_snr_and_edm_weight(make, times):
    process = make("epsilon")
    for t in times:
        alpha, sigma = (v.item() for v in process.level(double(t)))
        r, d = sigma / alpha, process.sigma_data
        assert process.noise_ratio(t).item() == pytest.approx(r)
        assert process.flow_time(t).item() == pytest.approx(1 / (1 + r))
        assert process.log_snr(t).item() == pytest.approx(-2 * math.log(r))
        assert process.edm_weight(t).item() == pytest.approx((r**2 + d**2) / (r * d) ** 2)


def test_flow_time_at_the_ends():
    for process in (VP(alphas_cumprod=ZERO_SNR), Flow(0), Flow(1), Flow(1, time_scale=10.0)):
        assert process.flow_time(process.clean_time).item() == 1
        assert process.flow_time(process.noise_time).item() == 0
        assert process.noise_ratio(process.noise_time).item() == math.inf


@pytest.mark.parametrize(("make", "times"), EACH)
def test_time_at_inverts_the_noise_ratio(make, times):
    process = make("epsilon")
    t = double(times)
    torch.testing.assert_close(process.time_at(process.noise_ratio(t)), t, rtol=1e-10, atol=1e-10)
    close = process.time_at(process.noise_ratio(t.float()))
    assert close.dtype == torch.float32
    torch.testing.assert_close(close, t.float(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("process", [VP(alphas_cumprod=ZERO_SNR), Flow(0), Flow(1)])
def test_time_at_the_ends_and_in_any_layout(process):
    ratio = double([[0.0, 1.0], [math.inf, math.nan]]).t()
    t = process.time_at(ratio)
    assert t[0, 0] == process.clean_time
    assert t[0, 1] == process.noise_time
    assert t[1, 1].isnan()
    assert process.noise_ratio(t[1, 0]).item() == pytest.approx(1)


@given(ratio=st.floats(0, 1e6))
def test_time_at_beyond_the_table_is_its_end(ratio):
    t = VP().time_at(double(ratio)).item()
    assert -1 <= t <= 999
    if ratio <= 157:
        assert VP().noise_ratio(t).item() == pytest.approx(ratio, rel=1e-9, abs=1e-12)
    if ratio >= 158:
        assert t == 999


def test_table_that_rises_at_its_very_end():
    """Diffusers' zero-SNR tables: the last entry is 2**-24, a little above the one before."""
    table = torch.cat([linear_alphas_cumprod()[:-2], double([4e-9, 2**-24])])
    for process in (VP(alphas_cumprod=table), RescaledVP(alphas_cumprod=table)):
        assert process.noise_ratio(999).item() == pytest.approx(math.sqrt(2**24 - 1), rel=1e-12)
        ratio = double([0.0, 1e-3, 1, 50, 150, 160, 1e3, 1e4, 15811])
        torch.testing.assert_close(process.noise_ratio(process.time_at(ratio)), ratio, rtol=1e-9, atol=0)
        assert process.time_at(double(1e5)) == 998


@pytest.mark.parametrize(("make", "times"), EACH)
def test_slope_is_the_derivative_of_the_path(make, times):
    process = make("velocity")
    unit = getattr(process, "time_scale", 1)  # a flow's velocity is in its unit time
    for t in times:
        low, high = (
            (t - 1e-4 * unit, t + 1e-4 * unit) if not isinstance(process, VP) else (math.ceil(t) - 1, math.ceil(t))
        )
        before, after = process.level(double(low)), process.level(double(high))
        middle = process.slope(double((low + high) / 2))
        for found, a, b in zip(middle, before, after, strict=True):
            expected = (b - a).item() / ((high - low) / unit)
            # EDM's sigma(t) = exp(4t) and VP's arcs curve over the difference.
            assert found.item() == pytest.approx(expected, rel=2e-3 if isinstance(process, VP) else 1e-6, abs=1e-9)


@given(index=st.integers(-1, 998), fraction=st.floats(1e-3, 1))
def test_vp_velocity_turns_the_state_by_its_angle(index, fraction):
    """Orthogonal to the state, at a speed that brings the angle from one index to the next."""
    process, t = VP(), double(index + fraction)
    alpha, sigma = process.level(t)
    fall, rise = process.slope(t)
    assert (alpha * fall + sigma * rise).item() == pytest.approx(0, abs=1e-15)
    before, after = process.noise_ratio(double([index, index + 1])).atan().tolist()
    assert torch.hypot(fall, rise).item() == pytest.approx(after - before, rel=1e-9)


@pytest.mark.parametrize(("make", "times"), [p for p in EACH if not p.id.startswith(("vp", "rescaled"))])
def test_velocity_target_is_the_derivative_of_the_noisy_sample(make, times):
    process = make("velocity")
    unit = getattr(process, "time_scale", 1)
    clean, noise = fields(len(times))
    t, step = double(times), 1e-5 * unit
    slope = (process.add_noise(clean, noise, t + step) - process.add_noise(clean, noise, t - step)) / (2 * step / unit)
    torch.testing.assert_close(process.target(clean, noise, t), slope, rtol=1e-6, atol=1e-6)


# Predictions.


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-9), (torch.float32, 1e-5), (torch.bfloat16, 4e-3), (torch.float16, 1e-3)],
)
@pytest.mark.parametrize(("make", "times", "prediction"), EVERY)
def test_clean_estimate_inverts_the_target(make, times, prediction, dtype, tolerance):
    process = make(prediction)
    clean, noise = fields(len(times), dtype=dtype)
    t = double(times) if dtype == torch.float64 else torch.tensor(times, dtype=torch.float32)
    noisy, pred = process.add_noise(clean, noise, t), process.target(clean, noise, t)
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    assert noisy.dtype == pred.dtype == compute
    found = process.clean_estimate(noisy.to(dtype), pred.to(dtype), t)
    assert found.dtype == compute
    # An error e in noisy or pred reaches the estimate as (|b| + |sigma|) / |scale| e.
    alpha, sigma = process.level(t)
    a, b = process._mix(t)
    gain = ((b.abs() + sigma) / (alpha * b - sigma * a).abs()).reshape(-1, 1, 1, 1) * (1 + sigma.reshape(-1, 1, 1, 1))
    error = (found - clean.to(compute)).abs()
    assert (error <= tolerance * 4 * gain.clamp(min=1)).all()


@given(index=st.integers(0, len(EVERY) - 1), where=st.floats(0, 1), seed=st.integers(0, 2**31), dims=st.integers(0, 3))
def test_residual_gain_identity(index, where, seed, dims):
    """x0_hat - x0 = -k (p - p*), for any prediction at all, in any number of dimensions."""
    make, times, prediction = EVERY[index].values
    process = make(prediction)
    t = double(times[0] + where * (times[-1] - times[0]))
    clean, noise = fields(1, shape=(2,) * dims, seed=seed)
    pred, _ = fields(1, shape=(2,) * dims, seed=seed + 1)
    target = process.target(clean, noise, t)
    error = process.clean_estimate(process.add_noise(clean, noise, t), pred, t) - clean
    gain = process.residual_gain(t)
    torch.testing.assert_close(error, -gain * (pred - target), rtol=1e-7, atol=1e-8 * max(1, gain.abs().item()))


def test_residual_gain_closed_forms():
    t = double([0.2, 3.0, 40.0])
    d = 0.5
    assert torch.equal(EDM("epsilon").residual_gain(t), t)
    assert torch.equal(EDM("sample").residual_gain(t), -torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(EDM("edm").residual_gain(t), -t * d / torch.hypot(t, double(d)))
    torch.testing.assert_close(VP("epsilon").residual_gain(double(500)), VP().noise_ratio(double(500)))
    torch.testing.assert_close(VP("v_prediction").residual_gain(double(500)), VP().level(double(500)).sigma)
    torch.testing.assert_close(Flow(1).residual_gain(double(0.3)), double(-0.7))
    torch.testing.assert_close(Flow(0).residual_gain(double(0.3)), double(0.3))


def test_v_prediction_is_the_papers():
    clean, noise = fields(3)
    t = torch.tensor([0, 500, 999])
    alpha, sigma = (v.reshape(-1, 1, 1, 1) for v in VP().level(t.double()))
    torch.testing.assert_close(VP("v_prediction").target(clean, noise, t), alpha * noise - sigma * clean)
    torch.testing.assert_close(RescaledVP("v_prediction").target(clean, noise, t), alpha * noise - sigma * clean)


def test_flow_velocity_points_from_one_end_to_the_other():
    clean, noise = fields(2)
    torch.testing.assert_close(Flow(1).target(clean, noise, 0.3), clean - noise)
    torch.testing.assert_close(Flow(0, time_scale=1000.0).target(clean, noise, 300), noise - clean)


@pytest.mark.parametrize(("prediction", "sign"), [("edm", 1), ("edm_negated", -1)])
def test_edm_is_the_preconditioned_denoiser(prediction, sign):
    d = 0.7
    sigma = double([0.002, 0.5, 80.0]).reshape(-1, 1, 1, 1)
    noisy, raw = fields(3)
    process = EDM(prediction, sigma_data=d)
    c_skip = d**2 / (sigma**2 + d**2)
    c_out = sigma * d / (sigma**2 + d**2).sqrt()
    c_in = 1 / (sigma**2 + d**2).sqrt()

    def network(x: Tensor) -> Tensor:
        return (x * raw).sin()

    denoised = c_skip * noisy + sign * c_out * network(c_in * noisy)
    found = process.clean_estimate(noisy, network(process.scale_input(noisy, sigma)), sigma)
    torch.testing.assert_close(found, denoised, rtol=1e-12, atol=1e-12)


def test_mse_of_raw_edm_output_is_edms_weighted_loss():
    process = EDM()
    sigma = double([0.01, 0.5, 20.0])
    clean, noise = fields(3)
    raw, _ = fields(3, seed=5)
    noisy = process.add_noise(clean, noise, sigma)
    error = (process.clean_estimate(noisy, raw, sigma) - clean).square().mean((1, 2, 3))
    plain = (raw - process.target(clean, noise, sigma)).square().mean((1, 2, 3))
    torch.testing.assert_close(process.edm_weight(sigma) * error, plain, rtol=1e-9, atol=0)


def test_only_the_preconditioned_network_gets_a_scaled_input():
    noisy, _ = fields(1)
    for prediction in ("sample", "epsilon", "v_prediction"):
        assert torch.equal(EDM(prediction).scale_input(noisy, 3.0), noisy)
    for process in (VP(), Flow(0), Flow(1)):
        assert torch.equal(process.scale_input(noisy, 0.5), noisy)


# One step.


@pytest.mark.parametrize(("make", "times"), EACH)
def test_step_is_ddims_formula(make, times):
    process = make("epsilon")
    noisy, estimate = fields(1)
    for t, s in zip(times[1:], times[:-1], strict=True):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = process.level(double(t)), process.level(double(s))
        expected = alpha_s * estimate + sigma_s * (noisy - alpha_t * estimate) / sigma_t
        torch.testing.assert_close(process.step(noisy, estimate, t, s), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("make", "times"), EACH)
def test_step_with_the_true_clean_sample_follows_the_path(make, times):
    process = make("epsilon")
    clean, noise = fields(1)
    for t, s in zip(times[1:], times[:-1], strict=True):
        found = process.step(process.add_noise(clean, noise, t), clean, t, s)
        torch.testing.assert_close(found, process.add_noise(clean, noise, s), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("make", "times"), EACH)
def test_step_to_the_clean_end_is_the_clean_estimate_itself(make, times):
    process = make("epsilon")
    noisy, estimate = fields(1)
    assert torch.equal(process.step(noisy, estimate, times[1], process.clean_time), estimate)


def test_step_starts_at_pure_noise():
    noise, estimate = fields(1)
    found = Flow(1).step(noise, estimate, 0.0, 0.25)
    torch.testing.assert_close(found, 0.25 * estimate + 0.75 * noise)


@pytest.mark.parametrize(
    ("process", "expected"),
    [
        (VP(), 1.0),
        (Flow(1), 1.0),
        (Flow(0, time_scale=1000.0), 1.0),
        (EDM(), 80.0),
        (RescaledVP(), math.hypot(1, 157.407)),
    ],
)
def test_initial_noise_scale(process, expected):
    noise, _ = fields(1)
    torch.testing.assert_close(process.initial(noise, process.noise_time), expected * noise, rtol=1e-5, atol=0)


# Singular ends.


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("make", [VP, RescaledVP, EDM, lambda p: Flow(0, p), lambda p: Flow(1, p)])
def test_at_the_clean_end_the_estimate_is_the_sample(make, prediction):
    process = make(prediction)
    noisy, pred = fields(1)
    found = process.clean_estimate(noisy, pred, process.clean_time)
    assert torch.equal(found, pred if prediction == "sample" else noisy)
    assert process.residual_gain(process.clean_time).item() == (-1 if prediction == "sample" else 0)


@pytest.mark.parametrize("process", [VP("epsilon", alphas_cumprod=ZERO_SNR), Flow(0, "epsilon"), Flow(1, "epsilon")])
def test_epsilon_at_pure_noise_is_an_error(process):
    noisy, pred = fields(2)
    for t in (process.noise_time, double([process.noise_time, process.clean_time])):
        with pytest.raises(ValueError, match=r"'epsilon' prediction holds nothing of the clean sample where alpha = 0"):
            process.clean_estimate(noisy, pred, t)
        with pytest.raises(ValueError, match="train with 'v_prediction' or 'sample'"):
            process.residual_gain(t)


@pytest.mark.parametrize("prediction", [p for p in PREDICTIONS if p != "epsilon"])
@pytest.mark.parametrize(
    "make", [lambda p: VP(p, alphas_cumprod=ZERO_SNR), lambda p: Flow(0, p), lambda p: Flow(1, p)], ids=["vp", "0", "1"]
)
def test_every_other_prediction_recovers_the_clean_sample_from_pure_noise(make, prediction):
    process = make(prediction)
    clean, noise = fields(1)
    t = process.noise_time
    noisy = process.add_noise(clean, noise, t)
    torch.testing.assert_close(noisy, noise)
    torch.testing.assert_close(process.clean_estimate(noisy, process.target(clean, noise, t), t), clean)


# Times.


@pytest.mark.parametrize(("make", "times"), EACH)
def test_every_form_of_time_means_the_same(make, times):
    process = make("v_prediction")
    clean, noise = fields(3)
    t = times[1]
    expected = process.add_noise(clean, noise, t)
    full = torch.full((3,), float(t), dtype=torch.float64)
    for form in (double(t), double([t]), full, full.reshape(3, 1, 1, 1), full.reshape(1, 3)):
        assert torch.equal(process.add_noise(clean, noise, form), expected)


def test_times_are_per_sample():
    clean, noise = fields(2)
    both = VP().add_noise(clean, noise, torch.tensor([10, 900]))
    assert torch.equal(both[:1], VP().add_noise(clean[:1], noise[:1], 10))
    assert torch.equal(both[1:], VP().add_noise(clean[1:], noise[1:], 900))


@pytest.mark.parametrize("shape", [(), (5,), (3, 7), (3, 4, 5), (2, 3, 4, 5)])
def test_any_number_of_dimensions(shape):
    clean, noise = fields(2, shape=shape)
    t = double([0.25, 0.5])
    found = Flow(0).add_noise(clean, noise, t)
    for i, u in enumerate((0.25, 0.5)):
        torch.testing.assert_close(found[i], (1 - u) * clean[i] + u * noise[i])


@pytest.mark.parametrize(
    ("process", "t", "message"),
    [
        (
            VP(),
            1000,
            r"outside the range of VP: got values in \[1000, 1000\], expected \[-1, 999\] \(an index of its 1000",
        ),
        (VP(), torch.tensor([3, -2]), r"got values in \[-2, 3\], expected \[-1, 999\]"),
        (VP(alphas_cumprod=double([0.5, 0.1])), 2, r"expected \[-1, 1\] \(an index of its 2 noise levels"),
        (RescaledVP(), 999.5, "outside the range of RescaledVP"),
        (EDM(), -0.1, r"expected \[0, inf\] \(the noise level sigma, not a timestep index\)"),
        (Flow(0), 500, r"expected \[0, 1\]; for timesteps that run to 1000, as diffusers' do, pass .*time_scale=1000"),
        (Flow(1, time_scale=1000.0), 1001.0, r"expected \[0, 1000\]$"),
        (Flow(1), math.nan, r"got values in \[nan, nan\]"),
        (VP(), torch.tensor([1.0, math.nan]), r"got values in \[nan, nan\]"),
        (EDM(time="c_noise"), math.nan, r"got values in \[nan, nan\]"),
    ],
)
def test_time_outside_the_range(process, t, message):
    x, y = fields(2)
    for call in (
        lambda: process.add_noise(x, y, t),
        lambda: process.target(x, y, t),
        lambda: process.clean_estimate(x, y, t),
        lambda: process.step(x, y, t, process.clean_time),
        lambda: process.step(x, y, process.noise_time, t),
        lambda: process.scale_input(x, t),
        lambda: process.noise_ratio(t),
        lambda: process.residual_gain(t),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_sample_prediction_checks_times_too():
    x, y = fields(2)
    with pytest.raises(ValueError, match="outside the range of VP"):
        VP("sample").clean_estimate(x, y, 1000)


def test_rounding_at_the_ends_of_the_range_is_no_error():
    x, y = fields(1, dtype=torch.float32)
    t = torch.tensor(1000.0).nextafter(torch.tensor(2000.0))
    torch.testing.assert_close(Flow(0, time_scale=1000.0).add_noise(x, y, t), y)


def test_wrong_number_of_times():
    x, y = fields(2)
    for t in (torch.tensor([1, 2, 3]), torch.tensor([])):
        with pytest.raises(ValueError, match=rf"one per sample: got shape \({len(t)},\) for a batch of 2"):
            VP().add_noise(x, y, t)


def test_times_that_are_not_real_numbers():
    x, y = fields(1)
    for t in (torch.tensor([True]), torch.tensor([1j])):
        with pytest.raises(TypeError, match="t must hold real numbers, got torch"):
            VP().add_noise(x, y, t)


@pytest.mark.parametrize("process", [VP(), RescaledVP(), EDM(), Flow(0), Flow(1)])
def test_nan_in_is_nan_out_of_the_unchecked_level(process):
    alpha, sigma = process.level(double([math.nan, 0.5]))
    assert (alpha * sigma).isnan().tolist() == [True, False]


@pytest.mark.parametrize(("make", "times", "prediction"), EVERY)
def test_nothing_looks_at_values_on_an_accelerator(make, times, prediction):
    """The meta device has no values to look at: whatever waits for one fails."""
    process = make(prediction)
    x = torch.empty(2, 3, 4, 4, device="meta")
    t = torch.empty(2, device="meta")
    for out in (
        process.add_noise(x, x, t),
        process.target(x, x, t),
        process.clean_estimate(x, x, t),
        process.step(x, x, t, t),
        process.scale_input(x, t),
        process.initial(x, t),
    ):
        assert out.shape == x.shape
    for out in (process.residual_gain(t), process.edm_weight(t), process.flow_time(t), process.log_snr(t)):
        assert out.shape == t.shape
    assert process.sample_times(5, device="meta").shape == (5,)
    assert process.time_at(t).shape == t.shape


# Fields.


def test_shapes_that_differ():
    process, (x, _) = VP(), fields(2)
    other = x[:, :1]
    with pytest.raises(
        ValueError, match=r"noise and clean must have the same shape, got \(2, 1, 4, 3\) and \(2, 2, 4, 3\)"
    ):
        process.add_noise(x, other, 5)
    with pytest.raises(ValueError, match="noise and clean must have the same shape"):
        process.target(x, other, 5)
    with pytest.raises(ValueError, match="pred and noisy must have the same shape"):
        process.clean_estimate(x, other, 5)
    with pytest.raises(ValueError, match="clean_estimate and noisy must have the same shape"):
        process.step(x, other, 5, 4)


def test_field_without_a_batch_axis():
    with pytest.raises(ValueError, match=r"clean must have shape \(batch, .*got a single number; add a batch axis"):
        VP().add_noise(double(1.0), double(2.0), 5)


def test_integer_fields():
    x, y = fields(1)
    for process in (VP(), VP("sample")):
        with pytest.raises(TypeError, match=r"clean must be a real floating-point tensor, got torch.uint8"):
            process.add_noise(torch.zeros(1, 2, 4, 3, dtype=torch.uint8), y, 5)
        with pytest.raises(TypeError, match=r"pred must be a real floating-point tensor, got torch.int64"):
            process.clean_estimate(x, y.long(), 5)


@pytest.mark.parametrize(("make", "times", "prediction"), EVERY)
def test_nan_in_is_nan_out(make, times, prediction):
    process = make(prediction)
    noisy, pred = fields(2)
    pred[1, 0, 2, 1] = math.nan
    found = process.clean_estimate(noisy, pred, times[1])
    assert found.isnan().sum() == 1
    assert found[1, 0, 2, 1].isnan()
    assert process.add_noise(noisy, pred, times[1]).isnan().sum() == 1


@pytest.mark.parametrize(("make", "times", "prediction"), EVERY)
def test_gradients_of_the_clean_estimate(make, times, prediction):
    process = make(prediction)
    noisy, pred = fields(2, shape=(1, 2))
    t = double(times[1:3])
    pred.requires_grad_()
    noisy.requires_grad_()
    assert torch.autograd.gradcheck(lambda n, p: process.clean_estimate(n, p, t), (noisy, pred))
    (gradient,) = torch.autograd.grad(process.clean_estimate(noisy, pred, t).sum(), pred)
    expected = -process.residual_gain(t).reshape(-1, 1, 1).expand_as(pred)  # the residual gain identity
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=0)


def test_first_use_in_inference_mode_leaves_training_intact():
    process = VP()
    noisy, pred = fields(2, dtype=torch.float32)
    with torch.inference_mode():
        process.clean_estimate(noisy, pred, 5)
    pred.requires_grad_()
    process.clean_estimate(noisy, pred, torch.tensor([5, 6])).sum().backward()
    assert pred.grad.isfinite().all()


def test_autocast_does_not_reach_the_arithmetic():
    noisy, pred = fields(2, dtype=torch.bfloat16)
    process, t = VP("v_prediction"), torch.tensor([10, 900])
    outside = process.clean_estimate(noisy, pred, t)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(process.clean_estimate(noisy, pred, t), outside)
    assert outside.dtype == torch.float32


# Objects.


@pytest.mark.parametrize(("make", "times"), EACH)
def test_processes_pickle_and_copy(make, times):
    process = make("v_prediction")
    expected = process.noise_ratio(double(times))  # fills what is kept per device
    for twin in (pickle.loads(pickle.dumps(process)), copy.deepcopy(process)):
        assert repr(twin) == repr(process)
        assert torch.equal(twin.noise_ratio(double(times)), expected)


def test_repr_shows_the_settings():
    assert repr(VP("sample")) == "VP(prediction='sample', sigma_data=0.5)"
    assert "time_scale=1000" in repr(Flow(0, time_scale=1000.0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VP("eps"), "unknown prediction: got 'eps'.*expected one of 'epsilon', 'sample', 'v_prediction'"),
        (lambda: Flow(0, "velocityy"), "did you mean 'velocity'"),
        (lambda: Flow(2), "unknown data_at: got 2; expected one of 0, 1"),
        (lambda: Flow(0, time_scale=0.0), "time_scale must be positive, got 0"),
        (lambda: Flow(0, logit_normal=(0.0, -1.0)), "positive std, got"),
        (lambda: EDM(sigma_data=0.0), "sigma_data must be positive, got 0"),
        (lambda: EDM(sigma_min=1.0, sigma_max=0.5), "expected 0 < sigma_min < sigma_max, got 1.0 and 0.5"),
        (lambda: EDM(p_std=0.0), "p_std must be positive"),
        (lambda: EDM(time="t"), "unknown time: got 't'"),
        (
            lambda: VP(alphas_cumprod=torch.linspace(1e-4, 0.02, 10)),
            "that decreases: got shape .10,. and values from 0.02",
        ),
        (lambda: VP(alphas_cumprod=torch.full((4,), 0.5)), "that decreases"),
        (lambda: VP(alphas_cumprod=double([0.5, 0.1, 0.1 + 1e-7, 0.05])), "that decreases"),
        (lambda: VP(alphas_cumprod=double([0.5, 0.1, 0.1])), "that decreases"),
        (lambda: VP(alphas_cumprod=double([[0.5, 0.1]])), r"got shape \(1, 2\)"),
        (lambda: VP(alphas_cumprod=torch.tensor([1.5, 0.5])), r"in \[0, 1\]"),
        (lambda: VP(alphas_cumprod=torch.tensor([math.nan, 0.5])), r"in \[0, 1\]"),
        (lambda: RescaledVP(alphas_cumprod=ZERO_SNR), "reaches 0, where x / alpha does not exist: use VP"),
        (lambda: linear_alphas_cumprod(0), "steps >= 1 and 0 <= beta_start <= beta_end < 1, got 0"),
        (lambda: linear_alphas_cumprod(10, 0.1, 1.0), "beta_end < 1, got 10, 0.1 and 1.0"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_new_process_is_its_levels():
    """DDPM's angle as the time: nothing but the abstract methods is written, everything else follows."""

    class Angle(Process):
        clean_time, noise_time = 0.0, math.pi / 2

        def level(self, t):
            return VP().level(t)._make((t.cos(), t.sin()))

        def slope(self, t):
            return VP().level(t)._make((-t.sin(), t.cos()))

        def time_at(self, noise_ratio):
            return noise_ratio.atan()

        def sample_times(self, count, *, generator=None, device=None):
            return torch.rand(count, generator=generator, device=device) * math.pi / 2

    clean, noise = fields(2)
    t = double([0.3, 1.2])
    for prediction in PREDICTIONS:
        process = Angle(prediction)
        found = process.clean_estimate(process.add_noise(clean, noise, t), process.target(clean, noise, t), t)
        torch.testing.assert_close(found, clean)
    # On the circle v is the velocity.
    torch.testing.assert_close(Angle("velocity").target(clean, noise, t), Angle("v_prediction").target(clean, noise, t))


# Training times.

COUNT = 20_000


def drawn(process: Process, seed: int = 0) -> Tensor:
    return process.sample_times(COUNT, generator=torch.Generator().manual_seed(seed))


def check_moments(values: Tensor, mean: float, std: float) -> None:
    """Within five standard errors, those of a normal distribution for the standard deviation (an upper bound here)."""
    values = values.double()
    assert values.mean().item() == pytest.approx(mean, abs=5 * std / COUNT**0.5)
    assert values.std().item() == pytest.approx(std, abs=5 * std / (2 * COUNT) ** 0.5)


def test_vp_times_are_uniform_indices():
    t = drawn(VP(alphas_cumprod=linear_alphas_cumprod(50)))
    assert t.dtype == torch.int64
    check_moments(t, 24.5, math.sqrt((50**2 - 1) / 12))
    assert torch.bincount(t, minlength=50).shape == (50,)
    assert (torch.bincount(t, minlength=50) > 0).all()


@pytest.mark.parametrize("time", ["sigma", "c_noise"])
def test_edm_times_are_log_normal(time):
    process = EDM(time=time, p_mean=-0.4, p_std=1.0)
    check_moments(process.noise_ratio(drawn(process)).log(), -0.4, 1.0)


def test_flow_times_are_uniform():
    t = drawn(Flow(0, time_scale=1000.0))
    check_moments(t / 1000, 0.5, math.sqrt(1 / 12))
    assert t.min() >= 0
    assert t.max() <= 1000


def test_flow_times_are_logit_normal():
    check_moments(drawn(Flow(1, logit_normal=(-0.8, 0.8))).logit(), -0.8, 0.8)


@pytest.mark.parametrize("process", [VP(), EDM(), EDM(time="c_noise"), Flow(0), Flow(1, logit_normal=(0.0, 1.0))])
def test_drawn_times_are_repeatable_and_in_range(process):
    assert torch.equal(drawn(process), drawn(process))
    assert not torch.equal(drawn(process), drawn(process, seed=1))
    process.noise_ratio(drawn(process))  # raises where a time is out of range
