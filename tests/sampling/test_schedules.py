"""Inference schedules against DDPM's own formulas and DiffWave's search for the times."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband import EDM, VP, Flow
from passband.process import linear_alphas_cumprod
from passband.sampling import FAST_SCHEDULE, sample, schedule_times

TRAINED = VP(alphas_cumprod=linear_alphas_cumprod(50, 1e-4, 0.05))


def network(x, t):
    """A toy that answers to both of its inputs."""
    return torch.tanh(x.roll(1, -1) + 0.3 * x + 0.02 * t.reshape(-1, 1, 1))


def ddpm(model, betas, times, noises):
    """DDPM's sampler with the schedule's own betas: the mean from beta and alpha-bar, the posterior's variance."""
    betas = np.asarray(betas)
    alphas, kept = 1 - betas, np.cumprod(1 - betas)
    x = noises[0]
    for n in range(len(betas) - 1, -1, -1):
        eps = model(x, torch.full((1,), times[n]))
        x = (x - betas[n] / np.sqrt(1 - kept[n]) * eps) / np.sqrt(alphas[n])
        if n > 0:
            x = x + np.sqrt((1 - kept[n - 1]) / (1 - kept[n]) * betas[n]) * noises[len(betas) - n]
    return x


@pytest.mark.parametrize("betas", [FAST_SCHEDULE, (0.002, 0.02, 0.3), tuple(np.linspace(1e-4, 0.05, 50))], ids=len)
def test_ancestral_sampling_at_these_times_is_ddpm_with_these_betas(betas):
    times = schedule_times(TRAINED, betas)
    generator = torch.Generator().manual_seed(3)
    noises = [torch.randn(1, 64, generator=generator, dtype=torch.float64)[None] for _ in range(len(betas))]
    expected = ddpm(network, betas, times.flip(0)[1:].tolist(), noises)
    options = {"times": times, "solver": "ancestral", "seeds": [3], "dtype": torch.float64}
    found = sample(network, TRAINED, (1, 64), **options)
    assert (found - expected).abs().max() < 1e-6  # the times that the toy sees are float32 in one of both


def test_training_s_own_schedule_is_its_own_indices():
    times = schedule_times(TRAINED, np.linspace(1e-4, 0.05, 50).tolist())
    assert torch.allclose(times, torch.arange(49, -2, -1, dtype=torch.float64), atol=1e-9)


def test_the_published_times_of_the_fast_schedule_are_close():
    """DiffWave looks for the interval that holds each level and goes linearly in sqrt(alpha-bar) within."""
    table, wanted = (np.sqrt(np.cumprod(1 - betas)) for betas in (np.linspace(1e-4, 0.05, 50), np.array(FAST_SCHEDULE)))
    published = np.interp(-wanted, -table, np.arange(50))
    difference = np.abs(schedule_times(TRAINED).flip(0)[1:].numpy() - published)
    assert difference.max() < 0.05


@given(st.lists(st.floats(1e-4, 0.1), min_size=1, max_size=8))
def test_levels_are_those_of_the_schedule(betas):
    process = VP()
    times = schedule_times(process, betas)
    kept = torch.tensor(betas, dtype=torch.float64).neg().add(1).cumprod(0).flip(0)
    assert torch.allclose(process.level(times[:-1]).alpha.square(), kept, rtol=1e-9)
    assert bool((times.diff() < 0).all())
    assert times[-1] == process.clean_time


@pytest.mark.parametrize(
    ("process", "betas", "kind", "message"),
    [
        (TRAINED, (0.5, 0.9), ValueError, r"noise ratios from 1 to 4.359, .* from 0.01 to .* stay within"),
        (TRAINED, (1e-6, 0.5), ValueError, "stay within"),
        (TRAINED, (), ValueError, "one row of numbers"),
        (TRAINED, ((0.1,),), ValueError, "one row of numbers"),
        (TRAINED, (0.1, 1.0), ValueError, "between 0 and 1, got"),
        (TRAINED, (0.1, float("nan")), ValueError, "between 0 and 1"),
        (TRAINED, "fast", TypeError, "betas must hold numbers"),
        (EDM(), FAST_SCHEDULE, TypeError, "for a VP process, got EDM"),
        (Flow(1), FAST_SCHEDULE, TypeError, "for a VP process, got Flow"),
        ("vp", FAST_SCHEDULE, TypeError, "process must be a Process"),
    ],
    ids=str,
)
def test_errors(process, betas, kind, message):
    with pytest.raises(kind, match=message):
        schedule_times(process, betas)
