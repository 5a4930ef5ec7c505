"""The term of a training script equals the one of the scheduler's own clean estimates, in every dtype."""

import copy
import pickle
from typing import NamedTuple

import diffusers
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.unets.unet_2d import UNet2DOutput
from diffusers.training_utils import compute_snr
from torch import Tensor

from passband import VP, AmplitudeLoss, SpectralRegularizer, WaveletLoss
from passband.integrations import DiffusersTerm, _known_schedulers, process_from_scheduler
from passband.regularization import FocalFrequencyLoss, GradientShare

ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
CONTINUOUS = {"timestep_type": "continuous", "prediction_type": "v_prediction", "use_karras_sigmas": True}
SCHEDULERS = [
    ("DDPMScheduler", {"clip_sample": False, "prediction_type": "epsilon"}),
    ("DDPMScheduler", {"clip_sample": False, "prediction_type": "sample"}),
    ("DDPMScheduler", {"clip_sample": False, "prediction_type": "v_prediction"}),
    ("DDPMScheduler", {"clip_sample": False, "prediction_type": "v_prediction", **ZERO_SNR}),
    ("EulerDiscreteScheduler", {"prediction_type": "epsilon"}),
    ("EulerDiscreteScheduler", {"prediction_type": "v_prediction"}),
    ("EulerDiscreteScheduler", {**CONTINUOUS, "sigma_min": 0.002, "sigma_max": 700.0}),
    ("EDMEulerScheduler", {"prediction_type": "epsilon"}),
    ("EDMEulerScheduler", {"prediction_type": "v_prediction"}),
    ("FlowMatchEulerDiscreteScheduler", {}),
    ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
]
EVERY = [pytest.param(*one, id="-".join([one[0], *map(str, one[1].values())])) for one in SCHEDULERS]
LEVELS = [e for e in EVERY if not e.values[0].startswith("DDPM")]
TOLERANCE = {torch.float64: 1e-4, torch.float32: 2e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


def clean_estimate(scheduler, index: int, noisy: Tensor, pred: Tensor, sigma: Tensor | None = None) -> Tensor:
    """What the scheduler itself takes for the clean sample at one of its timesteps."""
    time = scheduler.timesteps[index]
    if isinstance(scheduler, diffusers.DDPMScheduler):
        return scheduler.step(pred, int(time), noisy).pred_original_sample
    if sigma is None:
        sigma = scheduler.sigmas[index]
    if isinstance(scheduler, diffusers.FlowMatchEulerDiscreteScheduler):  # its step, to the end
        return noisy - sigma * pred
    if hasattr(scheduler, "precondition_outputs"):
        return scheduler.precondition_outputs(noisy, pred, sigma)
    scheduler = copy.deepcopy(scheduler)
    scheduler._step_index, scheduler.is_scale_input_called = index, True
    scheduler.sigmas[index] = sigma
    return scheduler.step(pred, time, noisy).pred_original_sample


class Batch(NamedTuple):
    """What a script holds, and the estimates to expect; all made by the scheduler in float64."""

    scheduler: object
    timesteps: Tensor
    clean: Tensor
    noise: Tensor
    noisy: Tensor
    target: Tensor
    pred: Tensor
    estimate: Tensor  # of pred

    @property
    def host(self):
        """The arguments of the script's line, but for the clean side."""
        return self.scheduler, self.pred, self.target, self.timesteps


def make_batch(scheduler, dtype=torch.float32, indices=(20, 300, 600, 990), sigmas=None) -> Batch:
    generator = torch.Generator().manual_seed(0)
    clean, noise, error = torch.randn(3, len(indices), 2, 8, 8, generator=generator, dtype=torch.float64)
    clean, noise = clean.to(dtype).double(), noise.to(dtype).double()
    timesteps = scheduler.timesteps[list(indices)]
    if sigmas is not None:
        s = sigmas.double().reshape(-1, 1, 1, 1)
        flow = isinstance(scheduler, diffusers.FlowMatchEulerDiscreteScheduler)
        noisy = (1 - s) * clean + s * noise if flow else clean + s * noise
    elif hasattr(scheduler, "scale_noise"):
        noisy = scheduler.scale_noise(clean, timesteps, noise)
    else:
        noisy = scheduler.add_noise(clean, noise, timesteps)
    rows = [(i, noisy[n], None if sigmas is None else sigmas.double()[n]) for n, i in enumerate(indices)]

    def estimates(pred: Tensor) -> Tensor:
        return torch.stack([clean_estimate(scheduler, i, x, p, s) for (i, x, s), p in zip(rows, pred, strict=True)])

    # The estimate is a straight line in the output: the target is where it meets the clean sample.
    offset = estimates(torch.zeros_like(clean))
    target = (clean - offset) / (estimates(torch.ones_like(clean)) - offset)
    pred = (target + 0.5 * error).to(dtype).requires_grad_()
    return Batch(
        scheduler, timesteps, clean.to(dtype), noise.to(dtype), noisy, target.to(dtype), pred, estimates(pred.double())
    )


def assert_near(found: Tensor, expected: Tensor, tolerance: float) -> None:
    assert (found.double() - expected.double()).norm() <= tolerance * expected.double().norm()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("name", "options"), EVERY)
def test_value_is_that_of_the_schedulers_estimate(name, options, dtype):
    batch = make_batch(getattr(diffusers, name)(**options), dtype)
    loss = AmplitudeLoss() + 0.5 * WaveletLoss("haar")
    spectral = DiffusersTerm(loss, weight=0.3)
    found = spectral.per_sample(*batch.host, clean=batch.clean, noise=batch.noise)
    expected = 0.3 * loss(batch.estimate, batch.clean.double())
    torch.testing.assert_close(found.double(), expected, rtol=TOLERANCE[dtype], atol=1e-9)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    mean = spectral(*batch.host, clean=batch.clean)
    torch.testing.assert_close(mean, found.mean())
    torch.testing.assert_close(spectral.terms["total"], found.detach().mean())


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("name", "options"), EVERY)
def test_gradient_is_that_of_the_schedulers_estimate(name, options, dtype):
    batch = make_batch(getattr(diffusers, name)(**options), dtype)
    loss = FocalFrequencyLoss()  # smooth: an L1 term's gradient jumps where rounding turns a sign
    found = DiffusersTerm(loss, weight=1.0).per_sample(*batch.host, clean=batch.clean)
    expected = loss(batch.estimate, batch.clean.double())
    for one, other in zip(found, expected, strict=True):  # each alone, as their sizes differ by orders
        (gradient,) = torch.autograd.grad(one, batch.pred, retain_graph=True)
        (direct,) = torch.autograd.grad(other, batch.pred, retain_graph=True)
        assert_near(gradient, direct, 3 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "options"), EVERY)
def test_noisy_stands_in_for_clean(name, options, dtype):
    batch = make_batch(getattr(diffusers, name)(**options), dtype, indices=(300, 600))
    spectral = DiffusersTerm(AmplitudeLoss(), weight=1.0)
    found = spectral.per_sample(*batch.host, noisy=batch.noisy.to(dtype))
    expected = AmplitudeLoss()(batch.estimate, batch.clean.double())
    torch.testing.assert_close(found.double(), expected, rtol=2e-3, atol=1e-6)


def test_a_loss_of_the_difference_needs_neither():
    batch = make_batch(diffusers.DDPMScheduler(clip_sample=False))
    spectral = DiffusersTerm("wavelet", weight=1.0)
    torch.testing.assert_close(spectral(*batch.host), spectral(*batch.host, clean=batch.clean), rtol=1e-4, atol=0)
    with pytest.raises(ValueError, match="pass clean="):
        DiffusersTerm("amplitude")(*batch.host)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1, 1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("name", "options"), LEVELS)
def test_sigmas_are_the_noise_levels_in_the_dtype_that_they_came_in(name, options, dtype, shape):
    scheduler = getattr(diffusers, name)(**options)
    indices = [20, 300, 600, 990]
    sigmas = scheduler.sigmas[indices].to(dtype)
    batch = make_batch(scheduler, indices=indices, sigmas=sigmas)
    spectral = DiffusersTerm(AmplitudeLoss(), weight=1.0)
    given = {"sigmas": sigmas.reshape(shape), "clean": batch.clean, "noise": batch.noise}
    found = spectral.per_sample(scheduler, batch.pred, batch.target, **given)
    expected = AmplitudeLoss()(batch.estimate, batch.clean.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=0)
    # Times beside them do not matter.
    torch.testing.assert_close(spectral.per_sample(*batch.host, **given), found)


@pytest.mark.parametrize("precondition", ["--precondition_outputs", "--do_edm_style_training"])
def test_outputs_that_the_script_turned_into_clean_estimates(precondition):
    name = "FlowMatchEulerDiscreteScheduler" if precondition == "--precondition_outputs" else "EDMEulerScheduler"
    batch = make_batch(getattr(diffusers, name)())
    spectral = DiffusersTerm(AmplitudeLoss(), weight=1.0, prediction="sample")
    found = spectral.per_sample(
        batch.scheduler, batch.estimate, batch.clean.double(), batch.timesteps, clean=batch.clean, noise=batch.noise
    )
    torch.testing.assert_close(found, AmplitudeLoss()(batch.estimate, batch.clean.double()), rtol=1e-6, atol=0)
    assert spectral.prediction == "sample"


def test_prediction_type_may_change_and_the_process_is_built_once_for_each(monkeypatch):
    built = []

    def build(scheduler, *prediction):
        built.append(scheduler.config.prediction_type)
        return process_from_scheduler(scheduler, *prediction)

    monkeypatch.setattr(_known_schedulers, "process_from_scheduler", build)
    scheduler, spectral = diffusers.DDPMScheduler(clip_sample=False), DiffusersTerm(AmplitudeLoss(), weight=1.0)
    for prediction in ("epsilon", "epsilon", "v_prediction", "v_prediction"):
        scheduler.register_to_config(prediction_type=prediction)  # as train_text_to_image does in its loop
        batch = make_batch(scheduler)
        found = spectral.per_sample(*batch.host, clean=batch.clean, noise=batch.noise)
        expected = AmplitudeLoss()(batch.estimate, batch.clean.double())
        torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=0)
    assert built == ["epsilon", "v_prediction"]
    scheduler.alphas_cumprod = scheduler.alphas_cumprod**2  # another table of noise levels
    batch = make_batch(scheduler)
    found = spectral.per_sample(*batch.host, clean=batch.clean, noise=batch.noise)
    expected = AmplitudeLoss()(batch.estimate, batch.clean.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=0)
    assert len(built) == 3
    for other in [diffusers.DDPMScheduler() for _ in range(20)]:
        spectral(other, *batch.host[1:], clean=batch.clean)
    assert len(spectral._schedulers._known) < 10


def test_a_process_in_the_schedulers_place():
    batch = make_batch(diffusers.DDPMScheduler(clip_sample=False))
    spectral = DiffusersTerm(AmplitudeLoss())
    found = spectral(VP(), *batch.host[1:], clean=batch.clean)
    torch.testing.assert_close(found, spectral(*batch.host, clean=batch.clean), rtol=1e-4, atol=0)
    as_sample = DiffusersTerm(AmplitudeLoss(), prediction="sample")
    process = VP()
    torch.testing.assert_close(
        as_sample(process, batch.clean + 1, batch.clean, batch.timesteps, clean=batch.clean),
        0.01 * AmplitudeLoss()(batch.clean + 1, batch.clean).mean(),
    )
    assert process.prediction == "epsilon"


def test_prior_preservation_takes_the_half_of_the_batch_that_is_compared():
    batch = make_batch(diffusers.DDPMScheduler(clip_sample=False))
    spectral = DiffusersTerm(AmplitudeLoss(), weight=1.0)
    whole = spectral.per_sample(*batch.host, clean=batch.clean)
    preds, targets = batch.pred.chunk(2), batch.target.chunk(2)  # as the scripts split them
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    for chunk in (0, 1):
        found = spectral.per_sample(
            batch.scheduler,
            preds[chunk],
            targets[chunk],
            batch.timesteps,
            clean=batch.clean,
            noisy=batch.noisy,
            noise=batch.noise,
            sample_weight=weights,
            chunk=chunk,
        )
        torch.testing.assert_close(found, (weights * whole).chunk(2)[chunk])
    found = spectral.per_sample(
        batch.scheduler, preds[0], targets[0], batch.timesteps, clean=batch.clean[:2], sample_weight=weights[:2]
    )
    torch.testing.assert_close(found, (weights * whole)[:2])  # latents that are cut already
    sigmas = torch.tensor([0.1, 0.3, 0.5, 0.9]).reshape(-1, 1, 1, 1)
    flow = diffusers.FlowMatchEulerDiscreteScheduler()
    found = spectral.per_sample(flow, preds[1], targets[1], sigmas=sigmas, clean=batch.clean, chunk=1)
    expected = spectral.per_sample(flow, preds[1], targets[1], sigmas=sigmas[2:], clean=batch.clean[2:])
    torch.testing.assert_close(found, expected)


def test_learned_variance_is_left_out():
    batch = make_batch(diffusers.DDPMScheduler(clip_sample=False))
    spectral = DiffusersTerm(AmplitudeLoss())
    both = torch.cat([batch.pred, torch.full_like(batch.pred, torch.nan)], 1)
    found = spectral(batch.scheduler, both, batch.target, batch.timesteps, clean=batch.clean)
    torch.testing.assert_close(found, spectral(*batch.host, clean=batch.clean))


@pytest.mark.parametrize("shape", [(-1,), (-1, 1, 1, 1)])
def test_snr_weights_multiply_the_samples(shape):
    batch = make_batch(diffusers.DDPMScheduler(clip_sample=False))
    snr = compute_snr(batch.scheduler, batch.timesteps)
    weights = torch.stack([snr, 5.0 * torch.ones_like(batch.timesteps)], dim=1).min(dim=1)[0] / snr
    spectral = DiffusersTerm(AmplitudeLoss())
    plain = spectral.per_sample(*batch.host, clean=batch.clean)
    weighted = spectral(*batch.host, clean=batch.clean, sample_weight=weights.reshape(shape))
    torch.testing.assert_close(weighted, (weights * plain).mean())
    assert weights.unique().numel() > 1


def test_gate_and_weight_are_the_regularizers():
    batch = make_batch(diffusers.DDPMScheduler(clip_sample=False))
    abar = batch.scheduler.alphas_cumprod[batch.timesteps]
    ratio = ((1 - abar) / abar).sqrt()
    plain = DiffusersTerm(AmplitudeLoss(), weight=1.0).per_sample(*batch.host, clean=batch.clean)
    gated = DiffusersTerm("amplitude", "edm", gate=1.0).per_sample(*batch.host, clean=batch.clean)
    edm = (ratio**2 + 0.5**2) / (0.5 * ratio) ** 2
    torch.testing.assert_close(gated, plain * edm * (ratio <= 1), rtol=1e-4, atol=0)
    regularizer = SpectralRegularizer(AmplitudeLoss(), "edm", 1.0)
    torch.testing.assert_close(DiffusersTerm(regularizer).per_sample(*batch.host, clean=batch.clean), gated)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradient_share_of_the_scripts_loss(dtype):
    batch = make_batch(diffusers.DDPMScheduler(clip_sample=False), dtype)
    loss = torch.nn.functional.mse_loss(batch.pred.float(), batch.target.float())
    term = DiffusersTerm(AmplitudeLoss(), GradientShare(0.1))(*batch.host, clean=batch.clean, base_loss=loss)
    base, share = (torch.autograd.grad(x, batch.pred, retain_graph=True)[0].float().norm() for x in (loss, term))
    torch.testing.assert_close(share, 0.1 * base, rtol=2e-2, atol=0)


def test_it_has_no_state_and_pickles():
    batch = make_batch(diffusers.DDPMScheduler(clip_sample=False))
    spectral = DiffusersTerm(WaveletLoss("haar"), prediction="v_prediction")
    value = spectral(*batch.host, clean=batch.clean)
    assert not spectral.state_dict()
    assert not list(spectral.parameters())
    assert spectral.logged("train") == {f"train/{name}": x.item() for name, x in spectral.terms.items()}
    data = pickle.dumps(spectral)
    assert b"Scheduler" not in data.replace(b"KnownSchedulers", b"")
    again = pickle.loads(data)
    torch.testing.assert_close(again(*batch.host, clean=batch.clean), value)


def call(**changes):
    batch = make_batch(diffusers.DDPMScheduler(clip_sample=False))
    given = dict(zip(("scheduler", "model_pred", "target", "timesteps"), batch.host, strict=True))
    return DiffusersTerm(AmplitudeLoss())(**{**given, "clean": batch.clean, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"timesteps": None}, "timesteps or its sigmas"),
        ({"timesteps": torch.tensor([1, 2, 3])}, "got 3 timesteps .* for 4 predictions: expected 4, or 8"),
        ({"timesteps": torch.tensor([1, 2]), "clean": torch.ones(2, 2, 8, 8)}, "got 2 timesteps"),
        ({"clean": torch.ones(8, 2, 8, 8)}, "clean holds 8 samples for 4 predictions: expected 4 "),
        ({"timesteps": torch.arange(8), "clean": torch.ones(3, 2, 8, 8)}, "clean holds 3 .* expected 4 or 8"),
        ({"chunk": 1}, "chunk=1 is the prior's half"),
        ({"chunk": 2}, "unknown chunk"),
        ({"model_pred": torch.ones(4, 64, 8)}, "must have the same shape.*unpack"),
        ({"target": torch.ones(4, 2, 4, 4)}, "must have the same shape"),
        ({"sample_weight": torch.ones(4, 2, 8, 8)}, "one number per sample"),
        ({"sample_weight": torch.ones(3)}, "sample_weight holds 3"),
        ({"sigmas": torch.ones(4)}, "VP goes by timesteps"),
        ({"timesteps": torch.tensor([0, 1, 2, 1000])}, "outside the range"),
        ({"scheduler": diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction")}, "use a FlowMatch"),
    ],
)
def test_what_does_not_fit_is_an_error(changes, message):
    with pytest.raises(ValueError, match=message):
        call(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scheduler": object()}, "expected a diffusers scheduler, got object"),
        ({"scheduler": diffusers.LCMScheduler()}, "unsupported scheduler LCMScheduler"),
        ({"scheduler": diffusers.DDPMScheduler}, "got the class DDPMScheduler: pass an object"),
        (
            {"model_pred": UNet2DOutput(torch.ones(4, 2, 8, 8))},
            r"must be a torch.Tensor, got UNet2DOutput; .* \.sample$",
        ),
        (
            {"clean": DiagonalGaussianDistribution(torch.ones(4, 4, 8, 8))},
            r"clean must be .*; pass its \.mean or \.sample\(\)",
        ),
        ({"sample_weight": 0.5}, "sample_weight must be a torch.Tensor, got float; convert"),
        ({"target": torch.ones(4, 2, 8, 8).long()}, "target must be a real floating-point"),
        ({"sigmas": torch.ones(4).long()}, "sigmas must be a real floating-point"),
    ],
)
def test_what_is_of_a_wrong_kind_is_an_error(changes, message):
    with pytest.raises(TypeError, match=message):
        call(**changes)


def test_wrong_options():
    with pytest.raises(ValueError, match="its own weight and gate"):
        DiffusersTerm(SpectralRegularizer(AmplitudeLoss()), gate=1.0)
    with pytest.raises(ValueError, match=r"unknown prediction.*did you mean 'velocity'"):
        DiffusersTerm("amplitude", prediction="velocty")
