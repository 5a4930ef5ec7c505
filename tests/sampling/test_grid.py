"""Times against diffusers' schedulers and EDM's formula."""

import math

import pytest
import torch
from diffusers import DDIMScheduler, EDMEulerScheduler, EulerDiscreteScheduler

from passband.process import EDM, VP, Flow, RescaledVP, linear_alphas_cumprod
from passband.sampling import default_spacing, time_grid

ZERO_SNR = torch.cat([linear_alphas_cumprod()[:-1], torch.zeros(1, dtype=torch.float64)])


@pytest.mark.parametrize(
    ("ours", "theirs"), [("leading", "leading"), ("trailing", "trailing"), ("uniform", "linspace")]
)
@pytest.mark.parametrize("steps", [1, 2, 4, 10, 15, 50, 250, 999, 1000])
def test_vp_spacings_are_diffusers(ours, theirs, steps):
    scheduler = DDIMScheduler(timestep_spacing=theirs)
    scheduler.set_timesteps(steps)
    grid = time_grid(VP(), steps, ours)
    assert grid.tolist() == [*scheduler.timesteps.tolist(), -1]
    assert time_grid(RescaledVP(), steps, ours).tolist() == grid.tolist()


def test_vp_spacings_of_a_short_schedule():
    process = VP(alphas_cumprod=linear_alphas_cumprod(50))
    assert time_grid(process, 5, "trailing").tolist() == [49, 39, 29, 19, 9, -1]
    assert time_grid(process, 5, "leading").tolist() == [40, 30, 20, 10, 0, -1]
    assert time_grid(process, 50, "uniform").tolist() == [*range(49, -2, -1)]


@pytest.mark.parametrize("steps", [1, 2, 18, 40])
def test_karras_is_edms_formula(steps):
    sigmas = [
        (80 ** (1 / 7) + (i / (steps - 1) if steps > 1 else 0) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
        for i in range(steps)
    ]
    assert time_grid(EDM(), steps).tolist() == pytest.approx([*sigmas, 0], rel=1e-12)
    c_noise = time_grid(EDM(time="c_noise"), steps).tolist()
    assert c_noise == pytest.approx([*(math.log(sigma) / 4 for sigma in sigmas), -math.inf], rel=1e-12)


def test_karras_is_diffusers_edm_grid():
    scheduler = EDMEulerScheduler(sigma_min=0.01, sigma_max=50.0, rho=5.0)
    scheduler.set_timesteps(12)
    grid = time_grid(EDM(sigma_min=0.01, sigma_max=50.0), 12, rho=5.0)
    torch.testing.assert_close(grid, scheduler.sigmas.double(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("process", [VP(), RescaledVP()], ids=["vp", "rescaled-vp"])
def test_karras_for_vp_spaces_its_noise_ratios(process):
    scheduler = EulerDiscreteScheduler(beta_start=1e-4, use_karras_sigmas=True)
    scheduler.set_timesteps(10)
    grid = time_grid(process, 10, "karras")
    assert grid[[0, -1]].tolist() == pytest.approx([999, -1])
    torch.testing.assert_close(process.noise_ratio(grid), scheduler.sigmas.double(), rtol=2e-4, atol=0)


def test_uniform_runs_through_a_flows_own_time():
    assert time_grid(Flow(1), 4).tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert time_grid(Flow(0, time_scale=1000.0), 4).tolist() == [1000, 750, 500, 250, 0]
    assert time_grid(EDM(), 4, "uniform").tolist() == [80, 60, 40, 20, 0]


@pytest.mark.parametrize(
    ("process", "spacing"),
    [(VP(), "trailing"), (EDM(), "karras"), (Flow(1), "uniform"), (Flow(0), "uniform")],
    ids=repr,
)
@pytest.mark.parametrize("steps", [1, 7, 100])
def test_every_grid_runs_from_noise_to_clean(process, spacing, steps):
    grid = time_grid(process, steps)
    assert default_spacing(process) == spacing
    assert torch.equal(grid, time_grid(process, steps, spacing))
    assert grid.dtype == torch.float64
    assert grid.shape == (steps + 1,)
    assert grid[0].item() == pytest.approx(process.noise_time)
    assert grid[-1].item() == process.clean_time
    assert (process.flow_time(grid).diff() > 0).all()


def test_bad_grids():
    with pytest.raises(ValueError, match=r"unknown spacing: got 'karas' \(did you mean 'karras'\?\); expected one of"):
        time_grid(EDM(), 4, "karas")
    for process in (VP(), EDM(), Flow(1)):
        with pytest.raises(ValueError, match=r"steps must be at least 1.*got 0"):
            time_grid(process, 0)
    with pytest.raises(ValueError, match="steps must be at least 1 and at most 1000, got 1001"):
        time_grid(VP(), 1001)
    for spacing in ("leading", "trailing"):
        for process in (EDM(), Flow(1)):
            with pytest.raises(
                ValueError, match=f"spacing '{spacing}' counts the indices of a VP process; use 'uniform'"
            ):
                time_grid(process, 4, spacing)
    for process in (Flow(1), VP("v_prediction", alphas_cumprod=ZERO_SNR)):
        with pytest.raises(
            ValueError, match=r"'karras' needs a largest noise ratio, which .* does not have; use 'uniform'"
        ):
            time_grid(process, 4, "karras")
    with pytest.raises(ValueError, match="'uniform' needs a finite time without noise"):
        time_grid(EDM(time="c_noise"), 4, "uniform")
    for rho in (0.0, math.nan):
        with pytest.raises(ValueError, match="rho must be positive, got"):
            time_grid(EDM(), 4, rho=rho)
