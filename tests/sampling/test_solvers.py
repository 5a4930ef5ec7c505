"""Solvers against diffusers' schedulers, EDM's algorithms written out, and measured convergence orders."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    UNet2DModel,
)
from torch import Tensor

from passband.process import EDM, VP, Flow, Process, RescaledVP, linear_alphas_cumprod
from passband.sampling import SOLVERS, Ancestral, Euler, Heun, SampleNoise, Solver, sample, time_grid

SHAPE = (1, 8, 8)
SEEDS = [11, 4]
ZERO_SNR = torch.cat([linear_alphas_cumprod()[:-1], torch.zeros(1, dtype=torch.float64)])


def start(dtype: torch.dtype = torch.float32) -> Tensor:
    """The unit noise that `sample` draws first."""
    return SampleNoise(SEEDS).normal(SHAPE, dtype)


def bend(x: Tensor, t: Tensor) -> Tensor:
    """A fixed nonlinear network of bounded output, the same for every position."""
    t = t.reshape(-1, *(1,) * (x.ndim - 1))
    return 0.8 * torch.tanh(0.7 * x + torch.sin(t / 150 + x.roll(1, -1)))


@pytest.fixture(scope="module")
def unet() -> Callable[[Tensor, Tensor], Tensor]:
    torch.manual_seed(0)
    model = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    return model.eval().requires_grad_(False)


@pytest.fixture(params=["unet", "bend"])
def network(request: pytest.FixtureRequest) -> Callable[[Tensor, Tensor], Tensor]:
    return request.getfixturevalue("unet") if request.param == "unet" else bend


def output(model: Callable[..., object], x: Tensor, t: Tensor) -> Tensor:
    result = model(x, t.to(torch.float32).expand(len(x)))
    return getattr(result, "sample", result)


@torch.no_grad()
def run_scheduler(scheduler, model: Callable[..., object], x: Tensor) -> Tensor:
    """The loop of a diffusers pipeline."""
    scale = getattr(scheduler, "scale_model_input", lambda x, t: x)
    for t in scheduler.timesteps:
        x = scheduler.step(output(model, scale(x, t), t), t, x).prev_sample
    return x


# Euler.


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_euler_of_vp_is_ddim(network, prediction, spacing):
    scheduler = DDIMScheduler(
        prediction_type=prediction, timestep_spacing=spacing, clip_sample=False, set_alpha_to_one=True
    )
    scheduler.set_timesteps(10)
    expected = run_scheduler(scheduler, network, start())
    result = sample(network, VP(prediction), SHAPE, seeds=SEEDS, steps=10, spacing=spacing)
    assert expected.std() > 0.1
    scale = max(1.0, expected.abs().max().item())
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5 * scale)


def test_euler_of_vp_is_ddim_step_by_step():
    scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=True)
    scheduler.set_timesteps(50)
    process, x = VP(), start()
    for t, s in zip(scheduler.timesteps.tolist(), [*scheduler.timesteps.tolist()[1:], -1], strict=True):
        pred = bend(x, torch.tensor(float(t)))
        result = Euler().step(
            lambda x, t: process.clean_estimate(x, bend(x, torch.tensor(t)), t), process, x, t, s, start, 50
        )
        x = scheduler.step(pred, t, x).prev_sample
        torch.testing.assert_close(result, x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_euler_of_flow_is_diffusers_flow_match_euler(network, shift):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(12)
    expected = run_scheduler(scheduler, network, start())
    times = [*scheduler.timesteps.tolist(), 0.0]
    result = sample(network, Flow(0, time_scale=1000.0), SHAPE, seeds=SEEDS, times=times)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


def test_default_grid_of_flow_is_diffusers_with_even_sigmas():
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / 8, 8))
    expected = run_scheduler(scheduler, bend, start())
    result = sample(bend, Flow(0, time_scale=1000.0), SHAPE, seeds=SEEDS, steps=8)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


def test_both_conventions_of_flow_give_the_same_sample():
    result = sample(lambda x, t: bend(x, 1000 * t), Flow(0), SHAPE, seeds=SEEDS, steps=8, solver="heun")
    mirrored = sample(lambda x, t: -bend(x, 1000 * (1 - t)), Flow(1), SHAPE, seeds=SEEDS, steps=8, solver="heun")
    torch.testing.assert_close(result, mirrored, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "solver", ["euler", "heun", "ancestral", Heun(churn=3.0)], ids=["euler", "heun", "ancestral", "churn"]
)
def test_rescaled_vp_gives_the_samples_of_vp(network, solver):
    # The same network, called on the same VP samples; indices alone, between which the two interpolate differently.
    if isinstance(solver, Heun):
        grid = [999.0, 700.0, 400.0, 100.0]  # ends in noise, in coordinates that differ by alpha
        last = VP().level(torch.tensor(100.0, dtype=torch.float64)).alpha.item()
        tolerance = 0.02
    else:
        grid, last, tolerance = [999.0, 700.0, 400.0, 100.0, -1.0], 1.0, 2e-5
    vp, rescaled = (sample(network, p, SHAPE, seeds=SEEDS, times=grid, solver=solver) for p in (VP(), RescaledVP()))
    torch.testing.assert_close(rescaled * last, vp, rtol=0, atol=tolerance * vp.abs().max().item())


# Heun.


def edm_sampler(
    denoise: Callable[[np.ndarray, float], np.ndarray], x: np.ndarray, sigmas: list[float], noises: list[np.ndarray],
    churn: float = 0.0, low: float = 0.0, high: float = math.inf, scale: float = 1.0,
) -> np.ndarray:  # fmt: skip
    """EDM's Algorithm 2 line by line (Algorithm 1 at churn 0), with a list of noises to draw from."""
    noises = list(noises)
    count = len(sigmas) - 1
    for t, t_next in pairwise(sigmas):
        gamma = min(churn / count, math.sqrt(2) - 1) if low <= t <= high else 0.0
        if gamma > 0:
            t_hat = t + gamma * t
            x = x + math.sqrt(t_hat**2 - t**2) * scale * noises.pop(0)
        else:
            t_hat = t
        d = (x - denoise(x, t_hat)) / t_hat
        x_next = x + (t_next - t_hat) * d
        if t_next != 0:
            d_next = (x_next - denoise(x_next, t_next)) / t_next
            x_next = x + (t_next - t_hat) * (d + d_next) / 2
        x = x_next
    return x


def edm_denoiser(x: np.ndarray, sigma: float, sigma_data: float = 0.5) -> np.ndarray:
    """The preconditioning of Table 1 around a fixed F."""
    total = sigma**2 + sigma_data**2
    c_skip, c_out, c_in = sigma_data**2 / total, sigma * sigma_data / math.sqrt(total), 1 / math.sqrt(total)
    return c_skip * x + c_out * np.tanh(2 * c_in * x + math.log(sigma) / 4)


def edm_network(x: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(2 * x + t.reshape(-1, 1, 1, 1))


CHURNS = {
    "algorithm-1": {},
    "churn": {"churn": 4.0},
    "churn-capped": {"churn": 40.0},
    "churn-range": {"churn": 4.0, "low": 0.05, "high": 10.0, "scale": 1.007},
}


@pytest.mark.parametrize("process", [EDM(), EDM(time="c_noise")], ids=["sigma", "c_noise"])
@pytest.mark.parametrize("options", CHURNS.values(), ids=CHURNS.keys())
def test_heun_of_edm_is_its_algorithm(options, process):
    sigmas = [*((80 ** (1 / 7) + i / 9 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(10)), 0.0]
    noise = SampleNoise(SEEDS)
    x, *noises = [noise.normal(SHAPE, torch.float64).numpy() for _ in range(11)]
    expected = edm_sampler(edm_denoiser, 80 * x, sigmas, noises, **options)
    solver = Heun(
        options.get("churn", 0.0), (options.get("low", 0.0), options.get("high", math.inf)), options.get("scale", 1.0)
    )
    result = sample(edm_network, process, SHAPE, seeds=SEEDS, steps=10, solver=solver, dtype=torch.float64)
    assert expected.std() > 0.1
    torch.testing.assert_close(result, torch.from_numpy(expected), rtol=1e-7, atol=1e-9)
    if not options:
        same = sample(edm_network, process, SHAPE, seeds=SEEDS, steps=10, solver="heun", dtype=torch.float64)
        assert torch.equal(same, result)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("process_type", [VP, RescaledVP])
def test_heun_of_vp_is_diffusers_heun(network, process_type, prediction):
    scheduler = HeunDiscreteScheduler(beta_start=1e-4, beta_end=0.02, prediction_type=prediction)
    scheduler.set_timesteps(10)  # every 111th index
    process = process_type(prediction)
    ratio = process.noise_ratio(999.0).item()
    expected = run_scheduler(scheduler, network, start() * math.hypot(1, ratio))
    result = sample(network, process, SHAPE, seeds=SEEDS, steps=10, spacing="uniform", solver="heun")
    torch.testing.assert_close(result, expected, rtol=0, atol=2e-5 * max(1.0, expected.abs().max().item()))


@pytest.mark.parametrize("scale", [1.0, 1000.0])
@pytest.mark.parametrize("data_at", [0, 1])
def test_heun_of_flow_is_the_explicit_trapezoid_of_its_own_time(data_at, scale):
    process = Flow(data_at, time_scale=scale)
    x, count = start(torch.float64), 9
    times = np.linspace(process.noise_time, process.clean_time, count + 1)
    for i, (t, s) in enumerate(pairwise(times)):
        first = bend(x, torch.tensor(1000 * t / scale))
        last = bend(x + (s - t) / scale * first, torch.tensor(1000 * s / scale)) if i < count - 1 else first
        x = x + (s - t) / scale * (first + last) / 2
    result = sample(
        lambda x, t: bend(x, 1000 * t / scale),
        process,
        SHAPE,
        seeds=SEEDS,
        steps=count,
        solver="heun",
        dtype=torch.float64,
    )
    torch.testing.assert_close(result, x, rtol=1e-9, atol=1e-9)


def test_churn_of_vp_adds_the_noise_of_the_ratio():
    # A perfect denoiser of a single known sample: whatever was added is taken out again.
    clean = 0.3 * torch.ones(2, *SHAPE, dtype=torch.float64)
    result = sample(
        lambda x, t: clean,
        VP("sample"),
        SHAPE,
        seeds=SEEDS,
        times=[900, 500, 200, -1],
        solver=Heun(churn=2),
        dtype=torch.float64,
    )
    torch.testing.assert_close(result, clean)
    process, normals = VP("sample"), []

    def normal() -> Tensor:
        normals.append(torch.ones(2, *SHAPE, dtype=torch.float64))
        return normals[-1]

    seen = []

    def denoise(x: Tensor, t: float) -> Tensor:
        seen.append((x, t))
        return torch.zeros_like(x)

    x = start(torch.float64)
    Heun(churn=1.2).step(denoise, process, x, 500.0, 400.0, normal, 4)
    alpha, sigma = (v.item() for v in process.level(torch.tensor(500.0, dtype=torch.float64)))
    raised = sigma / alpha * 1.3
    time = process.time_at(torch.tensor(raised, dtype=torch.float64))
    raised_alpha = process.level(time).alpha
    expected = raised_alpha * (x / alpha + math.sqrt(raised**2 - (sigma / alpha) ** 2))
    assert len(normals) == 1
    assert seen[0][1] == pytest.approx(time.item(), rel=1e-12)
    torch.testing.assert_close(seen[0][0], expected, rtol=1e-9, atol=0)


def test_churn_stays_within_the_schedule():
    process, times = VP("sample"), []
    x = start(torch.float64)
    Heun(churn=10).step(lambda x, t: times.append(t) or x, process, x, 999.0, 500.0, lambda: x, 1)
    assert times[0] == pytest.approx(999)


# Ancestral.


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize(
    ("steps", "times"),
    [
        (1000, [500, 499, 498, 497, 496]),
        (1000, [3, 2, 1, 0, -1]),
        (1000, [999, 998, 997]),
        (10, [900, 800, 700, 600, 500, 400, 300, 200, 100, 0, -1]),
    ],
    ids=["middle", "end", "start", "coarse"],
)
def test_ancestral_of_vp_is_ddpm(network, prediction, steps, times):
    scheduler = DDPMScheduler(prediction_type=prediction, variance_type="fixed_small", clip_sample=False)
    # In float32, 1 - alphas_cumprod loses 4 digits at the clean end.
    scheduler.alphas_cumprod = linear_alphas_cumprod()
    scheduler.set_timesteps(steps)
    (seed,) = SEEDS[:1]
    generator = torch.Generator().manual_seed(seed)
    expected = torch.randn(1, *SHAPE, generator=generator)
    with torch.no_grad():
        for t in times[:-1]:
            expected = scheduler.step(
                output(network, expected, torch.tensor(t)), t, expected, generator=generator
            ).prev_sample
    result = sample(network, VP(prediction), SHAPE, seeds=[seed], times=times, solver="ancestral")
    torch.testing.assert_close(result, expected, rtol=0, atol=2e-5 * max(1.0, expected.abs().max().item()))


@pytest.mark.parametrize("process", [VP(), RescaledVP(), EDM(), Flow(1), Flow(0, time_scale=1000.0)], ids=repr)
@pytest.mark.parametrize("ratios", [(3.0, 2.0), (1.0, 0.1), (0.2, 0.05)])
def test_ancestral_draws_from_the_posterior(process, ratios):
    # q(x_s | x_t, x0) from Bayes' rule: a Gaussian prior around alpha_s x0, seen through a Gaussian channel to x_t.
    t, s = process.time_at(torch.tensor(ratios, dtype=torch.float64)).tolist()
    (alpha_t, sigma_t), (alpha_s, sigma_s) = (
        [v.item() for v in process.level(torch.tensor(time, dtype=torch.float64))] for time in (t, s)
    )
    gain = alpha_t / alpha_s
    channel = sigma_t**2 - gain**2 * sigma_s**2
    variance = 1 / (1 / sigma_s**2 + gain**2 / channel)
    x, clean = torch.tensor([[1.7]], dtype=torch.float64), torch.tensor([[0.4]], dtype=torch.float64)
    mean = variance * (alpha_s * clean / sigma_s**2 + gain * x / channel)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    drawn = [Ancestral().step(lambda x, t: clean, process, x, t, s, lambda n=n: n, 10) for n in (zero, one)]
    torch.testing.assert_close(drawn[0], mean, rtol=1e-8, atol=0)
    torch.testing.assert_close(drawn[1] - drawn[0], math.sqrt(variance) * one, rtol=1e-8, atol=0)


def test_eta_zero_is_euler_and_eta_in_between_keeps_the_variance():
    process, x = VP("sample"), start(torch.float64)
    arguments = (lambda x, t: 0 * x, process, x, 600.0, 300.0)
    euler = Euler().step(*arguments, start, 10)

    def refuse() -> Tensor:
        raise AssertionError("eta = 0 draws nothing")

    torch.testing.assert_close(Ancestral(0.0).step(*arguments, refuse, 10), euler, rtol=1e-12, atol=0)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    for eta in (0.3, 1.0):
        kept = Ancestral(eta).step(*arguments, lambda: zero, 10)
        fresh = Ancestral(eta).step(*arguments, lambda: one, 10) - kept
        share = (kept / x)[0, 0, 0, 0] * process.level(torch.tensor(600.0, dtype=torch.float64)).sigma
        total = share.square() + fresh[0, 0, 0, 0].square()
        torch.testing.assert_close(total, process.level(torch.tensor(300.0, dtype=torch.float64)).sigma.square())


def test_ancestral_starts_where_alpha_is_zero():
    for process in (Flow(1, "sample"), VP("v_prediction", alphas_cumprod=ZERO_SNR)):
        result = sample(lambda x, t: 0.5 * x, process, SHAPE, seeds=SEEDS, steps=5, solver="ancestral")
        assert result.isfinite().all()


# Convergence orders, on Gaussian data, whose denoiser and probability flow are known.

MEAN, SPREAD = 0.7, 0.3


def gaussian_denoiser(process: Process) -> Callable[[Tensor, Tensor], Tensor]:
    """E[x0 | x_t] for x0 ~ N(MEAN, SPREAD^2), as a network that predicts the sample."""

    def model(x: Tensor, t: Tensor) -> Tensor:
        time = (4 * t).exp() if isinstance(process, EDM) and process.time == "sigma" else t
        alpha, sigma = (v.reshape(-1, *(1,) * (x.ndim - 1)) for v in process.level(time))
        x = x * torch.hypot(alpha, sigma) if isinstance(process, RescaledVP) else x
        gain = alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2)
        return MEAN + gain * (x - alpha * MEAN)

    return model


def exact_flow(process: Process, x: Tensor, t: float, s: float) -> Tensor:
    """Where the probability flow takes x: its standardised value does not change."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = (process.level(torch.tensor(v, dtype=torch.float64)) for v in (t, s))
    spread_t, spread_s = (
        torch.hypot(alpha * SPREAD, sigma) for alpha, sigma in ((alpha_t, sigma_t), (alpha_s, sigma_s))
    )
    return alpha_s * MEAN + spread_s / spread_t * (x - alpha_t * MEAN)


GRIDS = {
    "vp": (VP("sample"), lambda n: torch.linspace(800, 160, n + 1, dtype=torch.float64)),
    "rescaled-vp": (RescaledVP("sample"), lambda n: torch.linspace(800, 160, n + 1, dtype=torch.float64)),
    "edm": (
        EDM("sample", sigma_max=10.0, sigma_min=0.05),
        lambda n: time_grid(EDM(sigma_max=10.0, sigma_min=0.05), n + 1)[:-1],
    ),
    "flow": (Flow(1, "sample"), lambda n: torch.linspace(0.05, 0.95, n + 1, dtype=torch.float64)),
    "flow-0": (Flow(0, "sample", time_scale=1000.0), lambda n: torch.linspace(950, 50, n + 1, dtype=torch.float64)),
    "flow-whole": (Flow(1, "sample"), lambda n: time_grid(Flow(1), n)),
}


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
@pytest.mark.parametrize("name", GRIDS)
def test_convergence_order(name, solver, order):
    process, grid = GRIDS[name]
    noise = SampleNoise(SEEDS).normal((1, 4), torch.float64)
    errors = []
    for count in (32, 64, 128):
        times = grid(count).tolist()
        result = sample(
            gaussian_denoiser(process), process, (1, 4), seeds=SEEDS, times=times, solver=solver, dtype=torch.float64
        )
        exact = exact_flow(process, process.initial(noise, times[0]), times[0], times[-1])
        errors.append((result - exact).abs().max().item())
    measured = [math.log2(errors[i] / errors[i + 1]) for i in range(2)]
    assert measured == pytest.approx([order, order], abs=0.2)


@pytest.mark.parametrize(
    "solver", ["euler", "heun", "ancestral", Heun(churn=10)], ids=["euler", "heun", "ancestral", "churn"]
)
@pytest.mark.parametrize(
    "process",
    [
        VP("sample"),
        RescaledVP("sample"),
        EDM("sample"),
        EDM("sample", time="c_noise"),
        Flow(1, "sample"),
        Flow(0, "sample"),
    ],
    ids=["vp", "rescaled-vp", "edm", "edm-c_noise", "flow-1", "flow-0"],
)
def test_samples_of_gaussian_data_have_its_mean_and_spread(process, solver):
    second_order = solver == "heun" or isinstance(solver, Heun)
    if isinstance(solver, Heun) and isinstance(process, Flow):
        solver = Heun()  # no churn there
    result = sample(
        gaussian_denoiser(process),
        process,
        (1, 200),
        seeds=range(100),
        steps=100 if second_order else 250,
        solver=solver,
    )
    assert result.shape == (100, 1, 200)
    # 20,000 values: standard errors 0.002 and 0.0015, and the first-order solvers' own bias in the spread.
    assert result.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert result.std().item() == pytest.approx(SPREAD, abs=0.01 if second_order else 0.018)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "velocity", "edm", "edm_negated"])
@pytest.mark.parametrize(
    "make", [VP, EDM, lambda p: Flow(1, p), lambda p: Flow(0, p)], ids=["vp", "edm", "flow-1", "flow-0"]
)
@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_the_prediction_does_not_change_the_sample(make, prediction, solver):
    # The same denoiser in the words of another prediction.
    process, plain = make(prediction), make("sample")
    inner = gaussian_denoiser(plain)

    def model(x: Tensor, t: Tensor) -> Tensor:
        time = (4 * t).exp() if isinstance(process, EDM) and process.time == "sigma" else t
        alpha, sigma = (v.reshape(-1, 1, 1) for v in process.level(time))
        if isinstance(process, EDM) and prediction.startswith("edm"):
            x = x * (sigma**2 + 0.25).sqrt()
        clean = inner(x, t)
        return process.target(clean, (x - alpha * clean) / sigma, time)

    times = [process.time_at(torch.tensor(r, dtype=torch.float64)).item() for r in (20.0, 5.0, 1.0, 0.2)]
    times.append(process.clean_time)
    options = {"seeds": SEEDS, "times": times, "solver": solver, "dtype": torch.float64}
    expected = sample(inner, plain, (1, 4), **options)
    torch.testing.assert_close(sample(model, process, (1, 4), **options), expected, rtol=1e-8, atol=1e-9)


# Options.


def test_solvers_by_name_and_by_object():
    assert {name: type(make()) for name, make in SOLVERS.items()} == {
        "euler": Euler,
        "heun": Heun,
        "ancestral": Ancestral,
    }
    for name, make in SOLVERS.items():
        assert isinstance(make(), Solver)
        by_name, by_object = (sample(bend, VP(), SHAPE, seeds=SEEDS, steps=4, solver=s) for s in (name, make()))
        assert torch.equal(by_name, by_object)


def test_options_out_of_range():
    for eta in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"eta must be in \[0, 1\], got"):
            Ancestral(eta)
    for options in [
        {"churn": -1},
        {"churn": math.nan},
        {"churn_noise": 0},
        {"churn_range": (2, 1)},
        {"churn_range": (-1, 1)},
    ]:
        with pytest.raises(ValueError, match=r"expected churn >= 0, churn_noise > 0 and 0 <= churn_range\[0\]"):
            Heun(**options)


def test_churn_is_refused_for_flow():
    with pytest.raises(
        ValueError, match=r"churn is defined on the noise ratio of EDM and VP, not for Flow.*set churn=0"
    ):
        sample(bend, Flow(1), SHAPE, seeds=SEEDS, steps=4, solver=Heun(churn=1))


def test_heun_of_vp_cannot_start_where_alpha_is_zero():
    process = VP("v_prediction", alphas_cumprod=ZERO_SNR)
    with pytest.raises(
        ValueError, match="Heun's step of VP divides by alpha, which is 0 at t = 999: start at a later time"
    ):
        sample(bend, process, SHAPE, seeds=SEEDS, steps=4, solver="heun")
    with pytest.raises(ValueError, match="'epsilon' prediction holds nothing of the clean sample where alpha = 0"):
        sample(bend, VP(alphas_cumprod=ZERO_SNR), SHAPE, seeds=SEEDS, steps=4)
    assert sample(bend, process, SHAPE, seeds=SEEDS, steps=4).isfinite().all()
    assert sample(bend, process, SHAPE, seeds=SEEDS, times=[900, 500, -1], solver="heun").isfinite().all()
