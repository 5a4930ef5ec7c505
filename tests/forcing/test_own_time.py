"""The time that a network is given, turned back into the process's own, for every process."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband import EDM, VP, Flow, process_from_scheduler
from passband.process import RescaledVP, VEPreconditioned, VPPreconditioned

PROCESSES = [
    VP(),
    RescaledVP(),
    EDM(),
    EDM("epsilon"),
    EDM(time="c_noise"),
    VPPreconditioned(),
    VPPreconditioned(beta_d=5.0, beta_min=0.5, steps=50),
    VEPreconditioned(),
    Flow(0),
    Flow(1, "sample"),
    Flow(0, time_scale=1000.0),
]
SCHEDULERS = [
    ("DDPMScheduler", {}),
    ("EulerDiscreteScheduler", {}),
    ("EulerDiscreteScheduler", {"timestep_type": "continuous", "prediction_type": "v_prediction"}),
    ("EDMEulerScheduler", {}),
    ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
]


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
@given(ratios=st.lists(st.floats(0.01, 50), min_size=1, max_size=3))
def test_inverse_of_model_time(process, ratios):
    t = process.time_at(torch.tensor(ratios, dtype=torch.float64))
    back = process.own_time(process.model_time(t))
    assert back.shape == t.shape
    torch.testing.assert_close(back, t, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_times_as_training_draws_them(process):
    t = process.sample_times(64, generator=torch.Generator().manual_seed(0))
    seen = process.model_time(t)
    torch.testing.assert_close(process.flow_time(process.own_time(seen)), process.flow_time(t), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_numbers_and_shapes(process):
    seen = process.model_time(process.time_at(torch.tensor([[0.5], [2.0]], dtype=torch.float64)))
    whole = process.own_time(seen)
    assert whole.shape == (2, 1)
    for number, expected in zip(seen.flatten().tolist(), whole.flatten(), strict=True):
        torch.testing.assert_close(process.own_time(number).double(), expected, rtol=1e-6, atol=1e-6)
        assert process.own_time(torch.tensor(number)).ndim == 0


@pytest.mark.parametrize(("name", "options"), SCHEDULERS)
def test_timesteps_of_diffusers(name, options):
    scheduler = getattr(pytest.importorskip("diffusers"), name)(**options)
    process = process_from_scheduler(scheduler)
    scheduler.set_timesteps(7)
    # diffusers gives the network its timestep: that is the time of the process, and what the hook sees.
    timesteps = scheduler.timesteps.double()
    expected = process.flow_time(timesteps)
    seen = process.model_time(timesteps)
    torch.testing.assert_close(seen, timesteps, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(process.flow_time(process.own_time(seen)), expected)


def test_half_precision_labels_become_float32():
    label = EDM().model_time(torch.tensor([3.0])).to(torch.bfloat16)
    assert EDM().own_time(label).dtype == torch.float32
