"""The VP and VE preconditionings beside EDM's own."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import brentq

from passband import EDM, sample
from passband.process import VEPreconditioned, VPPreconditioned

SIGMA_DATA = 0.4


def vp_sigma(t, beta_d=19.9, beta_min=0.1):
    return math.sqrt(math.exp(beta_d * t * t / 2 + beta_min * t) - 1)


def edm_norm(sigma):
    return math.sqrt(sigma**2 + SIGMA_DATA**2)


# Table 1 of the EDM paper: c_skip, c_out, c_in, c_noise and the loss weight, each written as there.
TABLE = {
    "vp": (
        VPPreconditioned(sigma_data=SIGMA_DATA),
        lambda s: 1.0,
        lambda s: -s,
        lambda s: 1 / math.sqrt(s**2 + 1),
        lambda s: 999 * brentq(lambda t: vp_sigma(t) - s, 0, 2, xtol=1e-15),
        lambda s: 1 / s**2,
    ),
    "ve": (
        VEPreconditioned(sigma_data=SIGMA_DATA),
        lambda s: 1.0,
        lambda s: s,
        lambda s: 1.0,
        lambda s: math.log(0.5 * s),
        lambda s: 1 / s**2,
    ),
    "edm": (
        EDM(sigma_data=SIGMA_DATA),
        lambda s: SIGMA_DATA**2 / (s**2 + SIGMA_DATA**2),
        lambda s: s * SIGMA_DATA / edm_norm(s),
        lambda s: 1 / edm_norm(s),
        lambda s: math.log(s) / 4,
        lambda s: (s**2 + SIGMA_DATA**2) / (s * SIGMA_DATA) ** 2,
    ),
}
ROWS = pytest.mark.parametrize("row", TABLE.values(), ids=list(TABLE))
OLD = pytest.mark.parametrize("process", [VPPreconditioned(), VEPreconditioned()], ids=["vp", "ve"])


def fields(count=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, 1, 4, 4, dtype=torch.float64, generator=generator) for _ in range(count)]


@ROWS
@given(sigma=st.floats(1e-3, 150))
def test_the_denoiser_is_the_table_s(row, sigma):
    process, c_skip, c_out, c_in, c_noise, _ = row
    x, pred = fields()
    expected = c_skip(sigma) * x + c_out(sigma) * pred
    torch.testing.assert_close(process.clean_estimate(x, pred, sigma), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(process.scale_input(x, sigma), c_in(sigma) * x, rtol=1e-12, atol=0)
    assert process.model_time(sigma).item() == pytest.approx(c_noise(sigma), rel=1e-7, abs=1e-7)
    assert process.residual_gain(sigma).item() == pytest.approx(-c_out(sigma), rel=1e-10)


@ROWS
@given(sigma=st.floats(1e-3, 150))
def test_plain_error_on_the_network_is_the_table_s_weighted_loss(row, sigma):
    process, weight = row[0], row[-1]
    clean, noise, error = fields(3)
    noisy, pred = process.add_noise(clean, noise, sigma), process.target(clean, noise, sigma) + error
    estimate = process.clean_estimate(noisy, pred, sigma)
    torch.testing.assert_close(weight(sigma) * (estimate - clean).square(), error.square(), rtol=1e-5, atol=1e-5)


@OLD
@given(sigma=st.floats(1e-3, 150))
def test_round_trip(process, sigma):
    clean, noise = fields()
    noisy = process.add_noise(clean, noise, sigma)
    torch.testing.assert_close(noisy, clean + sigma * noise)
    torch.testing.assert_close(process.clean_estimate(noisy, process.target(clean, noise, sigma), sigma), clean)


def test_what_the_networks_predict():
    clean, noise = fields()
    assert torch.equal(VPPreconditioned().target(clean, noise, 3.0), noise)
    assert torch.equal(VEPreconditioned().target(clean, noise, 3.0), -noise)
    assert torch.equal(VPPreconditioned("edm_negated").target(clean, noise, 3.0), -noise)
    assert torch.equal(VEPreconditioned("edm_negated").target(clean, noise, 3.0), noise)


@OLD
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_other_predictions_are_those_of_edm(process, prediction):
    x, pred = fields()
    process = type(process)(prediction)
    torch.testing.assert_close(process.clean_estimate(x, pred, 2.0), EDM(prediction).clean_estimate(x, pred, 2.0))
    assert torch.equal(process.scale_input(x, 2.0), x)


@OLD
def test_without_noise_the_estimate_is_the_input(process):
    x, pred = fields()
    assert torch.equal(process.clean_estimate(x, pred, 0.0), x)


@OLD
def test_one_noise_level_per_sample(process):
    x, pred = fields()
    sigma = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    together = process.clean_estimate(x, pred, sigma)
    for row, level in enumerate(sigma.tolist()):
        torch.testing.assert_close(
            together[row], process.clean_estimate(x[row : row + 1], pred[row : row + 1], level)[0]
        )


@OLD
def test_gradients(process):
    x, pred = (field[:1, :, :2, :2].clone().requires_grad_() for field in fields())
    sigma = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
    for function in (
        process.clean_estimate,
        lambda x, pred, t: process.scale_input(x, t),
        lambda x, pred, t: process.model_time(t),
    ):
        assert torch.autograd.gradcheck(function, (x, pred, sigma))


def test_the_vp_time_of_small_noise_is_precise_in_float32():
    # ln(1 + sigma^2) by itself would round to multiples of 1e-7 and t by steps of 1e-6 of the whole.
    process = VPPreconditioned()
    sigma = torch.logspace(-3, 2, 50)
    torch.testing.assert_close(process.model_time(sigma), process.model_time(sigma.double()).float(), rtol=1e-6, atol=0)


def test_the_ends():
    vp = VPPreconditioned()
    assert vp.sigma_max == pytest.approx(vp_sigma(1), rel=1e-9)
    assert vp.sigma_min == pytest.approx(vp_sigma(1e-5), rel=1e-6)
    assert vp.model_time(vp.sigma_max).item() == pytest.approx(999)
    assert VPPreconditioned(steps=500).model_time(vp.sigma_max).item() == pytest.approx(499)
    assert VPPreconditioned(beta_d=10, beta_min=0.2).sigma_max == pytest.approx(vp_sigma(1, 10, 0.2), rel=1e-9)
    ve = VEPreconditioned()
    assert (ve.sigma_min, ve.sigma_max) == (0.02, 100)


def test_training_draws_the_vp_time_uniformly():
    process = VPPreconditioned(epsilon_t=0.25)
    sigma = process.sample_times(4000, generator=torch.Generator().manual_seed(0)).double().numpy()
    # t as the positive root of beta_d t^2 / 2 + beta_min t = ln(1 + sigma^2)
    t = (np.sqrt(0.1**2 + 2 * 19.9 * np.log1p(sigma**2)) - 0.1) / 19.9
    assert stats.kstest(t, stats.uniform(0.25, 0.75).cdf).pvalue > 0.01
    assert sigma.min() >= process.sigma_min * (1 - 1e-5)
    assert sigma.max() <= process.sigma_max * (1 + 1e-5)


def test_training_draws_the_ve_log_sigma_uniformly():
    process = VEPreconditioned(sigma_min=0.5, sigma_max=30)
    log_sigma = process.sample_times(4000, generator=torch.Generator().manual_seed(0)).double().log().numpy()
    assert stats.kstest(log_sigma, stats.uniform(math.log(0.5), math.log(60)).cdf).pvalue > 0.01


@OLD
def test_the_generator_decides(process):
    one, other = (process.sample_times(5, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, other)
    assert one.shape == (5,)
    with pytest.raises(ValueError, match="at least 0; got -1"):
        process.sample_times(-1)


@OLD
@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_sampling_a_gaussian(process, solver):
    # The ideal network for data N(2, 0.5^2): every sample is the noise carried along the exact flow of the ODE.
    seen = []

    def model(x, c_noise):
        seen.append(c_noise[0].item())
        sigma = levels.pop(0)
        noisy = x * (math.hypot(sigma, 1) if isinstance(process, VPPreconditioned) else 1)
        noise = (noisy - 2) * sigma / (sigma**2 + 0.25)
        return noise if isinstance(process, VPPreconditioned) else -noise

    from passband.sampling import time_grid

    grid = time_grid(process, 40)[:-1].tolist()
    levels = (
        grid if solver == "euler" else [level for pair in zip(grid, [*grid[1:], None], strict=True) for level in pair]
    )
    levels = list(levels)
    drawn = sample(model, process, (1, 8, 8), seeds=range(16), steps=40, solver=solver)
    assert levels in ([], [None])
    assert drawn.mean().item() == pytest.approx(2, abs=0.1)
    assert drawn.std().item() == pytest.approx(0.5, rel=0.15)
    assert seen[0] == pytest.approx(process.model_time(process.sigma_max).item(), rel=1e-5)


def test_repr_tells_the_arguments():
    assert repr(VPPreconditioned(steps=100)) == (
        "VPPreconditioned(prediction='edm', beta_d=19.9, beta_min=0.1, steps=100, epsilon_t=1e-05, sigma_data=0.5)"
    )
    assert repr(VEPreconditioned(sigma_max=50.0)) == (
        "VEPreconditioned(prediction='edm', sigma_min=0.02, sigma_max=50.0, sigma_data=0.5)"
    )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: VPPreconditioned(beta_d=0), ValueError, "beta_d must be positive, got 0"),
        (lambda: VPPreconditioned(beta_min=math.nan), ValueError, "beta_min must be positive, got nan"),
        (lambda: VPPreconditioned(beta_min="a"), TypeError, "beta_min must be a number, got 'a'"),
        (lambda: VPPreconditioned(steps=1), ValueError, "at least 2; got 1"),
        (lambda: VPPreconditioned(steps=10.0), TypeError, "steps must be an int, got 10.0"),
        (lambda: VPPreconditioned(epsilon_t=1), ValueError, "below 1; got 1"),
        (lambda: VPPreconditioned("noise"), ValueError, "unknown prediction"),
        (lambda: VEPreconditioned(sigma_min=2, sigma_max=1), ValueError, "0 < sigma_min < sigma_max"),
        (lambda: VEPreconditioned(sigma_data=0), ValueError, "sigma_data must be positive"),
        (lambda: VEPreconditioned().model_time(-1.0), ValueError, "the noise level sigma, not a timestep index"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
