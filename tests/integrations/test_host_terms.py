"""What the drop-ins for hosts have in common: which regularizers they take, and that their steps wait for no device."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import DDPMScheduler, EDMEulerScheduler, FlowMatchEulerDiscreteScheduler

from passband import SpectralRegularizer
from passband.integrations import DiffusersTerm, ai_toolkit, k_diffusion, musubi_tuner, repa, sd_scripts, sit
from passband.integrations.diffwave_learner import attach_term
from passband.regularization import DDIMEstimate


class Host(torch.nn.Module):
    """Enough of every host's class to be wrapped."""

    model_type = path_sampler = training_losses = interpolant = None
    get_noise_pred_and_target = post_process_loss = call_dit = calculate_loss = lambda self: None


def on_transport(term):
    transport = SimpleNamespace(model_type="VELOCITY", path_sampler=Linear(), training_losses=losses)
    return sit.SpectralTransport(transport, term)


def on_learner(term):
    params = SimpleNamespace(noise_schedule=[0.1, 0.2])
    return attach_term(SimpleNamespace(model=torch.nn.Identity(), loss_fn=None, params=params), term)


HOSTS = {
    "ai-toolkit": lambda term: ai_toolkit.with_term(Host, term),
    "diffusers": DiffusersTerm,
    "diffwave": on_learner,
    "k-diffusion": lambda term: k_diffusion.with_term(Host, term),
    "musubi-tuner": lambda term: musubi_tuner.with_term(Host, term),
    "repa": lambda term: repa.spectral_loss(Host, term),
    "sd-scripts": lambda term: sd_scripts.with_term(Host, term),
    "sit": on_transport,
}


class Linear:
    def compute_alpha_t(self, t):
        return t, 1

    def compute_sigma_t(self, t):
        return 1 - t, -1


def losses(model, x1, model_kwargs=None):
    t, noise = torch.rand(len(x1), device=x1.device), torch.randn_like(x1)
    u = t[:, None, None, None]
    velocity = model(u * x1 + (1 - u) * noise, t, **(model_kwargs or {}))
    return {"loss": (velocity - x1 + noise).square().flatten(1).mean(1)}


@pytest.mark.parametrize("host", HOSTS)
def test_a_clean_estimate_of_several_calls_is_refused_before_training(host):
    with pytest.raises(ValueError, match=r"DDIMEstimate\(steps=2\) calls the network again.*pass denoiser="):
        HOSTS[host](SpectralRegularizer("wavelet", clean_estimate=DDIMEstimate(2)))


@pytest.mark.parametrize("host", sorted(HOSTS.keys() - {"diffusers"}))
def test_plain_values_describe_the_term(host):
    HOSTS[host]({"loss": "wavelet", "weight": {"share": 0.1}})
    with pytest.raises(ValueError, match="unknown loss: got 'wavelett'"):
        HOSTS[host]({"loss": "wavelett"})


# On the device `meta` a value that is looked at is an error, as it is a wait on an accelerator.


def term():
    description = [{"name": "amplitude_phase"}, {"name": "wavelet", "wavelet": "haar"}]
    return SpectralRegularizer(description, weight={"share": 0.1}, gate={"max_ratio": 10, "softness": 0.5})


def batch(dims=2, device="meta"):
    clean, noise, pred = (torch.randn(2, 4, *[8] * dims, device=device) for _ in range(3))
    return clean, noise, pred.requires_grad_()


@pytest.mark.parametrize("scheduler", [DDPMScheduler, EDMEulerScheduler, FlowMatchEulerDiscreteScheduler])
def test_a_diffusers_step_waits_for_nothing(scheduler):
    spectral, noise_scheduler = DiffusersTerm(term()), scheduler()
    clean, target, pred = batch()
    weights, times = torch.empty(2, 1, 1, 1, device="meta"), torch.empty(2, device="meta")
    loss = (pred - target).square().mean()
    loss = loss + spectral(noise_scheduler, pred, target, times, clean=clean, base_loss=loss, sample_weight=weights)
    loss.backward()
    assert pred.grad.device.type == "meta"


def test_an_sd_scripts_step_waits_for_nothing():
    spectral, args = sd_scripts.SpectralTerm(term()), SimpleNamespace(v_parameterization=True)
    clean, target, pred = batch()
    times, loss = torch.empty(2, dtype=torch.long, device="meta"), (pred - target).square().mean()
    spectral(args, DDPMScheduler(), pred, target, times, latents=clean, base_loss=loss).backward()


def test_a_musubi_tuner_step_after_the_first_waits_for_nothing():
    spectral, args = musubi_tuner.SpectralTerm(term(), per_frame=True), SimpleNamespace(timestep_sampling="shift")
    for device in ("cpu", "meta"):  # the first looks at the target's direction
        clean, noise, pred = batch(3, device)
        loss = (pred - noise + clean).square().mean()
        times = torch.full((2,), 501.0, device=device)
        spectral(args, pred, noise - clean, times, clean, noise, base_loss=loss).backward()


def test_a_sit_step_waits_for_nothing():
    clean, _, weight = batch()
    on_transport(term()).training_losses(lambda x, t: weight * x, clean)["loss"].mean().backward()
