"""musubi-tuner: its network trainers' calls, by stand-ins, against the term of the clean estimate."""

from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState

from passband import AmplitudePhaseLoss, Flow, SpectralRegularizer, WaveletLoss
from passband.integrations.musubi_tuner import SpectralTerm, noise_level, with_term
from passband.regularization import GradientShare

DTYPES = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 3e-3}
LEVELS = torch.tensor([0.2, 0.55])


def regularizer():
    return SpectralRegularizer(AmplitudePhaseLoss() + WaveletLoss("haar"), weight=0.5)


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def arguments(sampling="shift"):
    return SimpleNamespace(timestep_sampling=sampling)


class Accelerated:
    """The accelerator's part in a step."""

    def backward(self, loss, **named):
        self.loss = loss.detach()
        loss.backward(**named)


class DiTOutput(NamedTuple):
    """What newer versions return in place of a pair."""

    pred: torch.Tensor
    target: torch.Tensor
    extra: dict


class NetworkTrainer:
    """What a step of training/trainer_base.py does, for a network of one layer over channels."""

    dtype, wrapped, towards_noise = torch.float32, False, True

    def __init__(self):
        self.network = torch.nn.Linear(4, 4).to(self.dtype)
        with torch.no_grad():
            self.network.weight.copy_(0.3 * normal(4, 4, seed=5))
            self.network.bias.zero_()

    def get_noisy_model_input_and_timesteps(self, args, noise, latents):
        t = LEVELS.reshape(-1, *[1] * (latents.ndim - 1))
        timesteps = LEVELS * 1000 if args.timestep_sampling == "sigma" else LEVELS * 1000.0 + 1
        return (1 - t) * latents + t * noise, timesteps

    def call_dit(
        self, args, accelerator, transformer_arg, latents, batch, noise, noisy_model_input, timesteps, network_dtype
    ):
        pred = transformer_arg(noisy_model_input.to(network_dtype).movedim(1, -1)).movedim(-1, 1)
        latents = latents.to(network_dtype)
        target = noise - latents if self.towards_noise else latents - noise
        self.seen = pred.detach(), target.detach()
        return DiTOutput(pred, target, {}) if self.wrapped else (pred, target)

    def generate_step_logs(self, args, current_loss, avr_loss, lr_scheduler, lr_descriptions):
        return {"loss/current": current_loss}

    def step(self, args, accelerator, batch, noise):
        latents = batch["latents"]
        noisy, timesteps = self.get_noisy_model_input_and_timesteps(args, noise, latents)
        output = self.call_dit(args, accelerator, self.network, latents, batch, noise, noisy, timesteps, self.dtype)
        pred, target = output[:2]
        loss = torch.nn.functional.mse_loss(pred.to(self.dtype), target.to(self.dtype), reduction="none").mean()
        accelerator.backward(loss)
        return loss.detach()


class WrappedTrainer(NetworkTrainer):
    wrapped = True


class ZImageNetworkTrainer(NetworkTrainer):
    towards_noise = False


def one_step(cls, args, shape, dtype=torch.float32):
    cls.dtype = dtype
    trainer, accelerator = cls(), Accelerated()
    latents, noise = normal(*shape, seed=1).to(dtype), normal(*shape, seed=2).to(dtype)
    base = trainer.step(args, accelerator, {"latents": latents}, noise)
    return trainer, accelerator.loss.float() - base.float(), latents.float(), noise.float()


def direct(trainer, latents, noise, per_frame=False):
    """The term of the clean estimate, from noisy latents in float32."""
    pred = trainer.seen[0].float() * (1 if trainer.towards_noise else -1)
    noisy = Flow(0).add_noise(latents, noise, LEVELS)
    level = LEVELS
    if per_frame or (latents.ndim == 5 and latents.shape[2] == 1):
        level = LEVELS.repeat_interleave(latents.shape[2])
        pred, noisy, latents = (x.transpose(1, 2).flatten(0, 1) for x in (pred, noisy, latents))
    return regularizer()(Flow(0), noisy, pred, level, clean=latents)


@pytest.mark.parametrize(("dtype", "rtol"), DTYPES.items())
@pytest.mark.parametrize("host", [NetworkTrainer, WrappedTrainer, ZImageNetworkTrainer])
@pytest.mark.parametrize(
    ("shape", "per_frame"),
    [((2, 4, 3, 8, 8), False), ((2, 4, 3, 8, 8), True), ((2, 4, 8, 8), False), ((2, 4, 1, 8, 8), False)],
)
def test_the_backward_pass_has_the_term_of_the_clean_estimate(host, dtype, rtol, shape, per_frame):
    trainer, term, latents, noise = one_step(
        with_term(host, regularizer(), per_frame=per_frame), arguments(), shape, dtype
    )
    expected = direct(trainer, latents, noise, per_frame)
    torch.testing.assert_close(term, expected, rtol=rtol, atol=0)
    assert trainer.network.weight.grad.isfinite().all()


@pytest.mark.parametrize("sampling", ["sigma", "shift", "uniform"])
def test_timesteps_tell_the_noise_level_in_two_ways(sampling):
    trainer, term, latents, noise = one_step(
        with_term(NetworkTrainer, regularizer()), arguments(sampling), (2, 4, 3, 8, 8)
    )
    torch.testing.assert_close(term, direct(trainer, latents, noise), rtol=1e-4, atol=0)


def test_the_noisiest_timestep_is_no_noise_level_above_1():
    assert noise_level(arguments(), torch.tensor([1.0, 1001.0, 1002.0])).tolist() == [0, 1, 1]
    assert noise_level(arguments("sigma"), torch.tensor([1000.0])).tolist() == [1]


@pytest.mark.parametrize("towards_noise", [True, False])
def test_the_patch_of_loops_without_a_hook(towards_noise):
    latents, noise = normal(2, 4, 3, 8, 8, seed=1), normal(2, 4, 3, 8, 8, seed=2)
    target = noise - latents if towards_noise else latents - noise
    pred = target + 0.1 * normal(2, 4, 3, 8, 8, seed=3)
    host = SimpleNamespace(seen=(pred, target), towards_noise=towards_noise)
    for per_frame in (False, True):
        spectral = SpectralTerm(regularizer(), per_frame=per_frame)
        found = spectral(arguments(), pred, target, 1000 * LEVELS + 1, latents, noise)
        torch.testing.assert_close(found, direct(host, latents, noise, per_frame), rtol=1e-4, atol=0)


def test_a_prediction_without_gradient_changes_nothing():
    cls = with_term(NetworkTrainer, regularizer())
    cls.dtype = torch.float32
    trainer, accelerator = cls(), Accelerated()
    latents, noise = normal(2, 4, 3, 8, 8, seed=1), normal(2, 4, 3, 8, 8, seed=2)
    with torch.no_grad():
        noisy, timesteps = trainer.get_noisy_model_input_and_timesteps(arguments(), noise, latents)
        trainer.call_dit(arguments(), accelerator, trainer.network, latents, {}, noise, noisy, timesteps, torch.float32)
    assert trainer.plus_spectral_term(torch.tensor(2.0)) == 2
    trainer.step(arguments(), accelerator, {"latents": latents}, noise)
    assert accelerator.loss > 0
    assert trainer.plus_spectral_term(torch.tensor(2.0)) == 2  # a term is added once


def test_gradients_add_up_over_accumulated_steps_and_terms_are_logged():
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    cls = with_term(NetworkTrainer, regularizer())
    cls.dtype = torch.float32
    trainer, reference = cls(), cls()
    shape = (2, 4, 3, 8, 8)
    for seed in (1, 2):
        latents, noise = normal(*shape, seed=seed), normal(*shape, seed=seed + 10)
        with accelerator.accumulate(trainer.network):
            trainer.step(arguments(), accelerator, {"latents": latents}, noise)
        plain = Accelerated()
        reference.step(arguments(), plain, {"latents": latents}, noise)
    torch.testing.assert_close(trainer.network.weight.grad, reference.network.weight.grad / 2)
    logs = trainer.generate_step_logs(arguments(), 1.0, 1.0, None, None)
    assert logs == {"loss/current": 1.0, **trainer.spectral.logged()}
    assert len(logs) == 4


@pytest.mark.bad_input  # the run-time shape checks do not compile
def test_a_compiled_step_gives_the_same_term():
    latents, noise = normal(2, 4, 3, 8, 8, seed=1), normal(2, 4, 3, 8, 8, seed=2)
    spectral = SpectralTerm({"loss": "amplitude", "weight": 0.5}, per_frame=True)

    def step(pred):
        return spectral(arguments(), pred, noise - latents, 1000 * LEVELS + 1, latents, noise)

    expected = step(0.9 * noise)
    torch.testing.assert_close(torch.compile(step, backend="eager")(0.9 * noise), expected)


def test_a_weight_by_gradient_share_sees_the_base_loss():
    term = SpectralRegularizer("wavelet", weight=GradientShare(0.1))
    weighted, total, *_ = one_step(with_term(NetworkTrainer, term), arguments(), (2, 4, 3, 8, 8))
    pred, target = weighted.seen
    (base,) = torch.autograd.grad((x := pred.clone().requires_grad_()).sub(target).square().mean(), x)
    unit = SpectralRegularizer("wavelet", weight=1.0).of_residual(
        Flow(0), (y := pred.clone().requires_grad_()), target, LEVELS
    )
    (gradient,) = torch.autograd.grad(unit, y)
    torch.testing.assert_close(total, unit.detach() * 0.1 * base.norm() / gradient.norm(), rtol=1e-3, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_target_that_is_no_velocity_is_an_error(dtype):
    latents, noise = normal(1, 4, 3, 8, 8, seed=1).to(dtype), normal(1, 4, 3, 8, 8, seed=2).to(dtype)
    for target in (latents, noise, 2 * (noise - latents)):
        with pytest.raises(ValueError, match="neither noise minus latents nor latents minus noise"):
            SpectralTerm(regularizer())(arguments(), target, target, 1000 * LEVELS[:1] + 1, latents, noise)


def test_a_class_without_the_hook_is_an_error():
    with pytest.raises(TypeError, match="has no call_dit: expected a network trainer class of musubi-tuner"):
        with_term(dict, regularizer())
