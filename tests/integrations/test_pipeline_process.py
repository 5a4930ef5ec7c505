"""The process that a pipeline's network is trained in, against the schedulers that draw with it."""

import json
import math
import shutil
from pathlib import Path

import diffusers
import pytest
import torch

from passband.integrations.pipelines import open_pipeline, training_process
from passband.process import EDM, VP, Flow

BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SCHEDULERS = ["PNDM", "DDIM", "DDPM", "EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete", "LMSDiscrete"]
SOLVERS = ["DPMSolverMultistep", "DPMSolverSinglestep", "DEISMultistep", "UniPCMultistep"]


def scheduler(name, **options):
    return getattr(diffusers, f"{name}Scheduler")(**BETAS, **options)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_network_sees_what_the_scheduler_shows_it(name):
    made = scheduler(name)
    process = training_process(made)
    assert type(process) is VP
    made.set_timesteps(10)
    clean, noise = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 4, 4)
    for t in made.timesteps[::3]:
        noisy = made.add_noise(clean, noise, t.reshape(1))
        seen = made.scale_model_input(noisy, t) if hasattr(made, "sigmas") else noisy
        if hasattr(made, "_step_index"):
            made._step_index = None
        assert torch.allclose(process.add_noise(clean, noise, t).float(), seen, atol=2e-3)


@pytest.mark.parametrize("name", [*SCHEDULERS, *SOLVERS])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_one_table_for_all_of_them(name, prediction):
    process, table = training_process(scheduler(name, prediction_type=prediction)), scheduler("DDPM").alphas_cumprod
    assert process.prediction == prediction
    indices = torch.arange(1000)
    alpha, sigma = process.level(indices.double())
    assert torch.allclose(alpha, table.double().sqrt(), atol=1e-6)
    assert torch.allclose(sigma, (1 - table.double()).sqrt(), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("EulerDiscrete", {"use_karras_sigmas": True}),
        ("EulerDiscrete", {"interpolation_type": "log_linear"}),
        ("HeunDiscrete", {"use_exponential_sigmas": True}),
        ("DPMSolverMultistep", {"use_lu_lambdas": True}),
        ("UniPCMultistep", {"use_karras_sigmas": True}),
    ],
)
def test_spacing_plays_no_part_in_training(name, option):
    plain, spaced = training_process(scheduler(name)), training_process(scheduler(name, **option))
    t = torch.tensor([0.0, 250.0, 999.0])
    assert torch.equal(torch.stack(plain.level(t)), torch.stack(spaced.level(t)))


def test_other_families():
    edm = training_process(diffusers.EDMEulerScheduler())
    assert type(edm) is EDM
    continuous = scheduler("EulerDiscrete", timestep_type="continuous", prediction_type="v_prediction")
    assert type(training_process(continuous)) is EDM
    with pytest.raises(TypeError, match="unsupported scheduler DDPMWuerstchenScheduler"):
        training_process(diffusers.DDPMWuerstchenScheduler())
    with pytest.raises(ValueError, match="use a FlowMatch scheduler"):
        training_process(diffusers.UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction"))


@pytest.mark.parametrize("name", ["DDPM", "DDIM", "EulerDiscrete"])
def test_zero_terminal_snr_needs_v(name):
    process = training_process(scheduler(name, rescale_betas_zero_snr=True, prediction_type="v_prediction"))
    alpha, _ = process.level(torch.tensor([999.0]))
    assert alpha < 1e-3
    clean, noise, t = torch.randn(1, 2, 4), torch.randn(1, 2, 4), torch.tensor([999])
    noisy, pred = process.add_noise(clean, noise, t), process.target(clean, noise, t)
    assert torch.allclose(process.clean_estimate(noisy, pred, t), clean, atol=1e-4)
    with pytest.raises(ValueError, match="pass prediction='v_prediction'"):
        training_process(scheduler(name, rescale_betas_zero_snr=True))


def logits(u):
    return torch.log(u / (1 - u))


def test_a_static_shift_is_in_the_training_times():
    shifted = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    plain = diffusers.FlowMatchEulerDiscreteScheduler(shift=1.0)
    process = training_process(shifted)
    assert isinstance(process, Flow)
    assert process.time_scale == 1000
    moved = (logits(shifted.sigmas[:-1]) - logits(plain.sigmas[:-1]))[1:]
    mean, std = process.logit_normal
    assert torch.allclose(moved, torch.tensor(mean), atol=1e-3)
    assert (mean, std) == (math.log(3), 1.0)


@pytest.mark.parametrize("kind", ["exponential", "linear"])
@pytest.mark.parametrize("size", [(16, 16), (64, 32)])
def test_a_dynamic_shift_follows_the_resolution(tiny_pipeline, tmp_path, kind, size):
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    folder = Path(shutil.copytree(tiny_pipeline("flux"), tmp_path / "flux"))
    host = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type=kind, shift=3.0)
    host.save_pretrained(folder / "scheduler")
    process = open_pipeline(folder).process_at(*size)
    tokens = size[0] // 4 * (size[1] // 4)
    sigmas = torch.linspace(0.9, 0.1, 9)
    host.set_timesteps(sigmas=sigmas.numpy(), mu=calculate_shift(tokens))
    mean, std = process.logit_normal
    assert torch.allclose(logits(host.sigmas[:-1]) - logits(sigmas), torch.tensor(mean), atol=1e-3)
    assert std == 1.0


def test_a_pipeline_is_trained_for_its_own_size_by_default(tiny_pipeline):
    pipeline = open_pipeline(tiny_pipeline("flux"))
    assert pipeline.process.logit_normal == pipeline.process_at(*pipeline.size).logit_normal
    assert pipeline.process_at(16, 16).logit_normal[0] < pipeline.process.logit_normal[0]
    for kind in ("ddpm", "sd", "sd3"):
        pipeline = open_pipeline(tiny_pipeline(kind))
        assert pipeline.process_at(16, 16) is pipeline.process


def test_a_wrong_prediction_type_is_put_right(tiny_pipeline, tmp_path):
    pipeline = open_pipeline(tiny_pipeline("sd"), prediction="v_prediction")
    assert pipeline.process.prediction == "v_prediction"
    options = {"seeds": [0], "prompts": ["a"], "steps": 2, "height": 16, "width": 16}
    plain = open_pipeline(tiny_pipeline("sd"))
    drawn = pipeline.draw(pipeline.network, **options)
    assert not torch.allclose(drawn, plain.draw(plain.network, **options), atol=1e-2)
    pipeline.save(tmp_path / "out", pipeline.network)
    config = json.loads((tmp_path / "out" / "scheduler" / "scheduler_config.json").read_text())
    assert config["prediction_type"] == "v_prediction"
    assert open_pipeline(tmp_path / "out").process.prediction == "v_prediction"


@pytest.mark.parametrize(
    ("kind", "prediction", "message"),
    [
        ("ddpm", "v", "unknown prediction: got 'v'"),
        ("ddpm", "velocity", "expected one of 'epsilon', 'sample', 'v_prediction'"),
        ("flux", "epsilon", "FlowMatchEulerDiscreteScheduler has no prediction type to choose"),
        ("sd", "sample", "PNDMScheduler with prediction_type='sample' is not supported"),
    ],
)
def test_a_prediction_that_does_not_suit(tiny_pipeline, kind, prediction, message):
    with pytest.raises(ValueError, match=message):
        open_pipeline(tiny_pipeline(kind), prediction=prediction)
