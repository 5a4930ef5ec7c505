"""Clean estimates by several deterministic updates, against closed forms of exact denoisers."""

import copy
import math
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from passband.process import EDM, VP, Flow, Process, RescaledVP, VPPreconditioned, linear_alphas_cumprod
from passband.regularization import (
    AmplitudeLoss,
    CleanEstimate,
    DDIMEstimate,
    GradientShare,
    SpectralRegularizer,
    tweedie,
)

PREDICTIONS = ("epsilon", "sample", "v_prediction", "velocity", "edm", "edm_negated")
PROCESSES = {
    "vp": VP,
    "vp-50": lambda p: VP(p, alphas_cumprod=linear_alphas_cumprod(50, 1e-4, 0.05)),
    "rescaled-vp": RescaledVP,
    "edm": EDM,
    "edm-c_noise": lambda p: EDM(p, time="c_noise"),
    "flow-1": lambda p: Flow(1, p),
    "flow-0": lambda p: Flow(0, p, time_scale=1000.0),
}
every_process = pytest.mark.parametrize(
    "process",
    [pytest.param(make(p), id=f"{name}-{p}") for name, make in PROCESSES.items() for p in PREDICTIONS]
    + [pytest.param(VPPreconditioned(), id="edm_vp")],
)
MEAN, SCALE = 0.3, 0.7
Denoiser = Callable[[Tensor, Tensor], Tensor]


def gaussian(process: Process) -> Denoiser:
    """The exact prediction where every value of the data is N(MEAN, SCALE^2)."""

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (c.reshape(-1, 1, 1) for c in process.level(t.to(x)))
        gain = alpha * SCALE**2 / (alpha**2 * SCALE**2 + sigma**2)
        return as_prediction(process, x, MEAN + gain * (x - alpha * MEAN), t)

    return denoiser


def as_prediction(process: Process, x: Tensor, estimate: Tensor, t: Tensor) -> Tensor:
    alpha, sigma = (c.reshape(-1, 1, 1) for c in process.level(t.to(x)))
    return process.target(estimate, (x - alpha * estimate) / sigma, t)


def start(process: Process, ratios: tuple[float, ...] = (0.2, 1.0, 3.0)) -> tuple[Tensor, Tensor]:
    """Noisy samples of the Gaussian data, and their times."""
    generator = torch.Generator().manual_seed(1)
    data, noise = torch.randn(2, len(ratios), 2, 6, generator=generator, dtype=torch.float64)
    t = process.time_at(torch.tensor(ratios, dtype=torch.float64))
    return process.add_noise(MEAN + SCALE * data, noise, t), t


def closed_form(process: Process, noisy: Tensor, t: Tensor) -> Tensor:
    """The end of the exact path: (x - alpha m) / its standard deviation never changes along it."""
    alpha, sigma = (c.reshape(-1, 1, 1) for c in process.level(t))
    return MEAN + SCALE * (noisy - alpha * MEAN) / torch.hypot(alpha * SCALE, sigma)


def estimate(process: Process, steps: int, noisy: Tensor, t: Tensor, denoiser: Denoiser) -> Tensor:
    return DDIMEstimate(steps)(process, noisy, denoiser(noisy, t), t, denoiser)


# Closed forms.


@every_process
def test_many_updates_reach_the_closed_form(process):
    noisy, t = start(process)
    denoiser, expected = gaussian(process), closed_form(process, noisy, t)
    errors = [(estimate(process, n, noisy, t, denoiser) - expected).abs().max().item() for n in (1, 40, 80)]
    assert errors[2] < 0.05 < errors[0]
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.25)  # of first order


@every_process
def test_data_of_one_point_is_reached_at_once(process):
    noisy, t = start(process)

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        return as_prediction(process, x, torch.full_like(x, 0.3), t)

    for steps in (1, 2, 5):
        torch.testing.assert_close(
            estimate(process, steps, noisy, t, denoiser), torch.full_like(noisy, 0.3), rtol=1e-8, atol=1e-8
        )


@every_process
def test_one_update_is_tweedies(process):
    noisy, t = start(process)
    pred = torch.randn(noisy.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert torch.equal(DDIMEstimate(1)(process, noisy, pred, t), tweedie(process, noisy, pred, t))
    assert torch.equal(tweedie(process, noisy, pred, t), process.clean_estimate(noisy, pred, t))


@pytest.mark.parametrize("process", [VP(), EDM(), Flow(1), Flow(0)], ids=["vp", "edm", "flow-1", "flow-0"])
def test_two_updates_by_hand(process):
    noisy, t = start(process)
    denoiser, middle = gaussian(process), (t + process.clean_time) / 2
    first = process.clean_estimate(noisy, denoiser(noisy, t), t)
    x = process.step(noisy, first, t, middle)
    expected = process.clean_estimate(x, denoiser(x, middle), middle)
    torch.testing.assert_close(estimate(process, 2, noisy, t, denoiser), expected, rtol=1e-12, atol=1e-12)


def test_times_run_evenly_to_the_clean_end_from_each_samples_own():
    seen: list[Tensor] = []

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        seen.append(t)
        return torch.zeros_like(x)

    def times(process: Process, t: Tensor | float) -> list[list[float]]:
        seen.clear()
        x = torch.zeros(2, 1, 4, dtype=torch.float64)
        DDIMEstimate(4)(process, x, x, t, denoiser)
        assert {time.shape for time in seen} == {(2,)}
        return [[round(value, 9) for value in time.tolist()] for time in seen]

    assert times(VP(), torch.tensor([3, 999])) == [[2, 749], [1, 499], [0, 249]]
    assert times(VP(), torch.tensor([0, 1]))[0] == [-0.25, 0.5]  # between the indices
    assert times(EDM(), torch.tensor([4.0, 80.0])) == [[3, 60], [2, 40], [1, 20]]
    assert times(Flow(1), 0.2) == [[0.4, 0.4], [0.6, 0.6], [0.8, 0.8]]
    assert times(Flow(0, time_scale=1000.0), torch.tensor([1000.0])) == [[750, 750], [500, 500], [250, 250]]
    levels = [[0.25 * math.log(s) for s in row] for row in ([3, 60], [2, 40], [1, 20])]
    found = times(EDM(time="c_noise"), EDM(time="c_noise").time_at(torch.tensor([4.0, 80.0], dtype=torch.float64)))
    assert torch.tensor(found).flatten().tolist() == pytest.approx(torch.tensor(levels).flatten().tolist(), abs=1e-6)


def test_a_sample_without_noise_stays_as_it_is():
    process = Flow(0)
    clean = torch.randn(2, 1, 4, dtype=torch.float64)
    t = torch.tensor([0.0, 0.5], dtype=torch.float64)
    pred = torch.ones_like(clean, requires_grad=True)
    result = DDIMEstimate(3)(process, clean, pred, t, lambda x, t: torch.ones_like(x))
    assert torch.equal(result[0], clean[0])
    (gradient,) = torch.autograd.grad(result.sum(), pred)
    assert gradient[0].abs().max() == 0
    assert gradient.isfinite().all()


def test_pure_noise_of_a_flow():
    process = Flow(1)
    noise = torch.randn(2, 1, 4, dtype=torch.float64)
    expected = MEAN + SCALE * noise  # where alpha is 0, by the closed form
    result = estimate(process, 200, noise, torch.zeros(2, dtype=torch.float64), gaussian(process))
    torch.testing.assert_close(result, expected, rtol=0, atol=0.02)


def test_updates_head_where_the_sampler_does():
    # JiT's floor limits what a step heads for, not the estimate that is returned.
    process = Flow(1, "sample", velocity_floor=0.5)
    noisy, t = torch.ones(1, 1, 4), torch.tensor([0.8])
    estimates = DDIMEstimate(2)(process, noisy, torch.zeros_like(noisy), t, lambda x, t: x)
    target = process.steered(noisy, torch.zeros_like(noisy), t)
    torch.testing.assert_close(estimates, process.step(noisy, target, t, torch.tensor([0.9])))
    assert estimates.mean().item() == pytest.approx(1 - 0.1 / 0.5)


# Gradients.


@pytest.mark.parametrize("process", [VP(), EDM(), Flow(1)], ids=["vp", "edm", "flow"])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_gradients_flow_through_all_calls(process, steps):
    noisy, t = start(process)

    def result(weight: Tensor, pred: Tensor) -> Tensor:
        return DDIMEstimate(steps)(process, noisy, pred, t, lambda x, t: weight * x.tanh())

    weight = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    pred = torch.randn(noisy.shape, dtype=torch.float64, requires_grad=True)
    inputs = (weight, pred) if steps > 1 else (weight.detach(), pred)  # the first output is given
    assert torch.autograd.gradcheck(result, inputs, fast_mode=True)
    (through_pred,) = torch.autograd.grad(result(weight, pred).sum(), pred)
    assert (through_pred != 0).all()


def test_every_call_has_its_own_gradient():
    process = Flow(1)
    noisy, t = start(process)
    outputs = [torch.randn(noisy.shape, dtype=torch.float64, requires_grad=True) for _ in range(4)]
    rest = iter(outputs[1:])
    result = DDIMEstimate(4)(process, noisy, outputs[0], t, lambda x, t: next(rest))
    for gradient in torch.autograd.grad(result.sum(), outputs):
        assert (gradient != 0).all()


# In the regularizer.


def test_the_regularizer_passes_the_denoiser_on():
    process = VP("v_prediction")
    noisy, t = start(process)
    clean, denoiser = torch.zeros_like(noisy), gaussian(process)
    spectral = SpectralRegularizer(AmplitudeLoss(), weight=1, clean_estimate=DDIMEstimate(3))
    assert spectral.needs_denoiser
    pred = denoiser(noisy, t)
    expected = AmplitudeLoss()(estimate(process, 3, noisy, t, denoiser), clean)
    result = spectral.per_sample(process, noisy, pred, t, clean=clean, denoiser=denoiser)
    torch.testing.assert_close(result, expected)
    mean = spectral(process, noisy, pred, t, clean=clean, denoiser=denoiser)
    torch.testing.assert_close(mean, expected.mean())
    plain = SpectralRegularizer(AmplitudeLoss(), weight=1)
    assert not plain.needs_denoiser
    assert not SpectralRegularizer(AmplitudeLoss(), clean_estimate=DDIMEstimate(1)).needs_denoiser
    tweedies = plain.per_sample(process, noisy, pred, t, clean=clean, denoiser=denoiser)
    assert not torch.allclose(result, tweedies, rtol=0.01)


def test_a_share_of_the_gradient_at_the_first_output():
    process = VP()
    noisy, t = start(process)
    pred = torch.zeros_like(noisy, requires_grad=True)
    base = (pred - 1).square().mean()
    spectral = SpectralRegularizer(AmplitudeLoss(), GradientShare(0.2), clean_estimate=DDIMEstimate(2))
    term = spectral(process, noisy, pred, t, clean=noisy / 2, base_loss=base, denoiser=lambda x, t: 0.1 * x)
    norms = [torch.autograd.grad(x, pred)[0].norm().item() for x in (term, base)]
    assert norms[0] / norms[1] == pytest.approx(0.2, rel=1e-6)


@pytest.mark.parametrize("process", [VP(), EDM(), Flow(1), Flow(0)], ids=["vp", "edm", "flow-1", "flow-0"])
def test_precision_and_devices(process):
    noisy, t = start(process)
    half = DDIMEstimate(3)(process, noisy.bfloat16(), noisy.bfloat16(), t, lambda x, t: x.tanh().bfloat16())
    assert half.dtype == torch.float32
    whole = DDIMEstimate(3)(process, noisy.float(), noisy.float(), t.float(), lambda x, t: x.tanh())
    with torch.autocast("cpu", torch.bfloat16):
        again = DDIMEstimate(3)(process, noisy.float(), noisy.float(), t.float(), lambda x, t: x.tanh())
    assert torch.equal(whole, again)
    torch.testing.assert_close(half, whole, rtol=0.1, atol=0.1)
    x = torch.zeros(2, 1, 8, device="meta")
    times = process.sample_times(2).to("meta")
    assert DDIMEstimate(3)(process, x, x, times, lambda x, t: x).device.type == "meta"


def test_not_a_number_in_not_a_number_out():
    process = VP()
    noisy, t = start(process)
    noisy[1, 0, 0] = math.nan
    result = estimate(process, 3, noisy, t, gaussian(process))
    assert result.isnan().any(-1).any(-1).tolist() == [False, True, False]


# Bad input.


def test_no_denoiser():
    noisy, t = start(VP())
    message = r"DDIMEstimate\(steps=3\) calls the network 2 more time\(s\): pass denoiser="
    with pytest.raises(ValueError, match=message):
        DDIMEstimate(3)(VP(), noisy, noisy, t)
    spectral = SpectralRegularizer(AmplitudeLoss(), clean_estimate=DDIMEstimate(3))
    with pytest.raises(ValueError, match=message):
        spectral(VP(), noisy, noisy, t, clean=noisy)


def test_wrong_steps_and_shapes():
    for steps in (0, -1):
        with pytest.raises(ValueError, match="steps is the number of updates, at least 1; got"):
            DDIMEstimate(steps)
    with pytest.raises(TypeError, match=r"steps must be an int, got 2\.0"):
        DDIMEstimate(2.0)
    noisy, t = start(VP())
    with pytest.raises(ValueError, match="t must hold one time, or one per sample"):
        DDIMEstimate(2)(VP(), noisy, noisy, t[:2], lambda x, t: x)
    with pytest.raises(ValueError, match="pred and noisy must have the same shape"):
        DDIMEstimate(2)(VP(), noisy, noisy, t, lambda x, t: x[:1])
    with pytest.raises(ValueError, match="t is outside the range of VP"):
        DDIMEstimate(2)(VP(), noisy, noisy, 1000.0, lambda x, t: x)


def test_text_and_copies():
    three = DDIMEstimate(3)
    assert isinstance(three, CleanEstimate)
    assert isinstance(tweedie, CleanEstimate)
    assert repr(pickle.loads(pickle.dumps(copy.deepcopy(three)))) == "DDIMEstimate(steps=3)"
    assert "clean_estimate=DDIMEstimate(steps=3)" in repr(SpectralRegularizer(AmplitudeLoss(), clean_estimate=three))
    assert "clean_estimate=tweedie" in repr(SpectralRegularizer(AmplitudeLoss()))
