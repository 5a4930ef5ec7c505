"""sd-scripts: its network trainers' calls, by stand-ins, against the term of the clean estimate."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler

from passband import VP, AmplitudePhaseLoss, Flow, SpectralRegularizer, WaveletLoss
from passband.integrations.sd_scripts import SpectralTerm, process_of, with_term
from passband.regularization import GradientShare

DTYPES = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 4e-3}
TIMES = torch.tensor([40, 333, 700])


def schedule(prediction="epsilon", zero_terminal_snr=False):
    found = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction)
    snr = found.alphas_cumprod / (1 - found.alphas_cumprod)
    found.all_snr = snr  # the host takes it before it changes the table
    if zero_terminal_snr:
        root = found.alphas_cumprod.sqrt()
        found.alphas_cumprod = ((root - root[-1]) * root[0] / (root[0] - root[-1])).square()
    return found


def arguments(**given):
    return SimpleNamespace(**{"v_parameterization": False, "masked_loss": False, "min_snr_gamma": None, **given})


class NetworkTrainer:
    """The two hooks of train_network.py and what calls them, for a network that errs by a tenth of unit noise."""

    dtype = torch.float32
    times = TIMES

    def predict(self, exact):
        # A leaf with a gradient, in the dtype in which autocast leaves the network's output.
        error = torch.randn(exact.shape, generator=torch.Generator().manual_seed(3))
        return (exact.float() + 0.1 * error).to(self.dtype).requires_grad_(self.trains)

    def noised(self, latents):
        self.noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(2)).to(latents.dtype)
        return self.noise

    def get_noise_pred_and_target(
        self, args, accelerator, noise_scheduler, latents, batch, conds, unet, network, dtype, train_unet, is_train=True
    ):
        noise, times = self.noised(latents), self.times
        target = noise_scheduler.get_velocity(latents, noise, times) if args.v_parameterization else noise
        return self.predict(target), target, times, None

    def post_process_loss(self, loss, args, timesteps, noise_scheduler):
        if args.min_snr_gamma:
            snr = torch.stack([noise_scheduler.all_snr[t] for t in timesteps])
            loss = loss * snr.clamp(max=args.min_snr_gamma) / (snr + 1 if args.v_parameterization else snr)
        return loss

    def generate_step_logs(self, args, current_loss, avr_loss, lr_scheduler, lr_descriptions):
        return {"loss/current": current_loss}

    def process_batch(self, batch, noise_scheduler, args, is_train=True):
        self.trains = is_train
        found = self.get_noise_pred_and_target(
            args, None, noise_scheduler, batch["latents"], batch, [], None, None, self.dtype, True, is_train=is_train
        )
        self.pred, target, timesteps, weighting = found[0], *found[1:3], found[-1]
        loss = (self.pred.float() - target.float()).square()
        if weighting is not None:
            loss = loss * weighting
        self.elementwise = loss.detach()
        loss = loss.mean(dim=(1, 2, 3)) * batch["loss_weights"]
        return self.post_process_loss(loss, args, timesteps, noise_scheduler).mean()


class FluxNetworkTrainer(NetworkTrainer):
    """Timesteps are 1000 times the noise level; the host's older form returns one value more."""

    model_sign, end = 1, ()
    times = TIMES.float() + 0.25

    def get_noise_pred_and_target(self, args, accelerator, noise_scheduler, latents, *rest, is_train=True):
        noise = self.noised(latents)
        target = self.model_sign * (noise - latents)
        return self.predict(target), target, self.times, *self.end, torch.full((3, 1, 1, 1), 2.0)

    def post_process_loss(self, loss, args, timesteps, noise_scheduler):
        return loss


class OldFluxNetworkTrainer(FluxNetworkTrainer):
    end = (None,)


class LuminaNetworkTrainer(FluxNetworkTrainer):
    """The same timesteps, and the velocity towards the data: the sign alone turns around."""

    model_sign = -1


class AnimaNetworkTrainer(FluxNetworkTrainer):
    times = (TIMES.float() + 0.25) / 1000

    def get_noise_pred_and_target(self, args, accelerator, noise_scheduler, latents, *rest, is_train=True):
        return super().get_noise_pred_and_target(args, accelerator, noise_scheduler, latents.squeeze(2), *rest)


class Sd3NetworkTrainer(FluxNetworkTrainer):
    """The output is made a clean estimate, and compared to the latents."""

    def get_noise_pred_and_target(self, args, accelerator, noise_scheduler, latents, *rest, is_train=True):
        noise, sigmas = self.noised(latents), (self.times / 1000).reshape(-1, 1, 1, 1)
        noisy = sigmas * noise + (1 - sigmas) * latents
        return self.predict(noise - latents) * -sigmas + noisy, latents, self.times, None


PROCESSES = {
    FluxNetworkTrainer: Flow(0, time_scale=1000.0),
    OldFluxNetworkTrainer: Flow(0, time_scale=1000.0),
    LuminaNetworkTrainer: Flow(0, time_scale=1000.0),
    AnimaNetworkTrainer: Flow(0),
    Sd3NetworkTrainer: Flow(0, "sample", time_scale=1000.0),
}


def batch_of(dtype=torch.float32, **given):
    latents = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(1)).to(dtype)
    return {"latents": latents, "loss_weights": torch.ones(3), **given}


def regularizer(loss=None):
    return SpectralRegularizer(loss or AmplitudePhaseLoss() + WaveletLoss("haar"), weight=0.5)


def direct(trainer, process, batch, **given):
    """The term of the clean estimate, from noisy latents in float32."""
    clean = batch["latents"].float().reshape(3, 4, 16, 16)
    noisy = process.add_noise(clean, trainer.noise.float(), trainer.times)
    pred = getattr(trainer, "model_sign", 1) * trainer.pred.detach().float()
    return regularizer()(process, noisy, pred, trainer.times, clean=clean, **given)


def base_of(trainer, batch, scheduler, args):
    plain = type(trainer).__mro__[1]()
    plain.dtype = trainer.dtype
    return plain.process_batch(batch, scheduler, args)


@pytest.mark.parametrize(("dtype", "rtol"), DTYPES.items())
@pytest.mark.parametrize("v", [False, True])
@pytest.mark.parametrize("told", [False, True])
def test_sd_loss_has_the_term_of_the_clean_estimate(dtype, rtol, v, told):
    # Whether the scheduler's config knows of --v_parameterization depends on the version.
    scheduler, args = schedule("v_prediction" if v and told else "epsilon"), arguments(v_parameterization=v)
    trainer, batch = with_term(NetworkTrainer, regularizer())(), batch_of(dtype)
    trainer.dtype = dtype
    loss = trainer.process_batch(batch, scheduler, args)
    process = VP("v_prediction" if v else "epsilon", alphas_cumprod=scheduler.alphas_cumprod)
    expected = direct(trainer, process, batch)
    term = loss - base_of(trainer, batch, scheduler, args)
    torch.testing.assert_close(term.detach(), expected, rtol=rtol, atol=0)
    loss.backward()
    assert trainer.pred.grad.isfinite().all()


@pytest.mark.parametrize(("dtype", "rtol"), DTYPES.items())
@pytest.mark.parametrize("host", PROCESSES)
def test_flow_losses_have_it_too(host, dtype, rtol):
    scheduler, args, batch = FlowMatchEulerDiscreteScheduler(), arguments(), batch_of(dtype)
    if host is AnimaNetworkTrainer:
        batch["latents"] = batch["latents"].unsqueeze(2)
    trainer = with_term(host, regularizer())()
    trainer.dtype = dtype
    loss = trainer.process_batch(batch, scheduler, args)
    expected = direct(trainer, PROCESSES[host], batch)
    torch.testing.assert_close((loss - base_of(trainer, batch, scheduler, args)).detach(), expected, rtol=rtol, atol=0)


def test_zero_terminal_snr_is_read_when_training_runs():
    trainer, batch, args = with_term(NetworkTrainer, regularizer())(), batch_of(), arguments(v_parameterization=True)
    trainer.times = torch.tensor([40, 700, 999])
    scheduler = schedule(zero_terminal_snr=True)
    loss = trainer.process_batch(batch, scheduler, args)
    process = VP("v_prediction", alphas_cumprod=scheduler.alphas_cumprod)
    assert process.noise_ratio(999).isinf()
    plain = type(trainer).__mro__[1]()
    plain.times = trainer.times
    term = loss - plain.process_batch(batch, scheduler, args)
    torch.testing.assert_close(term.detach(), direct(trainer, process, batch), rtol=1e-4, atol=0)


def test_noise_prediction_without_signal_is_an_error():
    with pytest.raises(ValueError, match=r"zero_terminal_snr with noise prediction.*--v_parameterization"):
        process_of(arguments(), schedule(zero_terminal_snr=True))


@pytest.mark.parametrize("v", [False, True])
def test_the_hosts_weights_are_there_on_demand(v):
    scheduler, args, batch = schedule(), arguments(v_parameterization=v, min_snr_gamma=5.0), batch_of()
    snr = scheduler.all_snr[TIMES]
    weights = snr.clamp(max=5) / (snr + 1 if v else snr)
    process = VP("v_prediction" if v else "epsilon", alphas_cumprod=scheduler.alphas_cumprod)
    for choice, sample_weight in (("host", weights), ("none", None)):
        trainer = with_term(NetworkTrainer, regularizer(), weights=choice)()
        term = trainer.process_batch(batch, scheduler, args) - base_of(trainer, batch, scheduler, args)
        expected = direct(trainer, process, batch, sample_weight=sample_weight)
        torch.testing.assert_close(term.detach(), expected, rtol=1e-4, atol=0)


def test_a_weighting_scheme_is_one_of_the_hosts_weights():
    scheduler, args, batch = FlowMatchEulerDiscreteScheduler(), arguments(), batch_of()
    terms = []
    for choice in ("none", "host"):
        trainer = with_term(FluxNetworkTrainer, regularizer(), weights=choice)()
        terms.append(trainer.process_batch(batch, scheduler, args) - base_of(trainer, batch, scheduler, args))
    torch.testing.assert_close(terms[1], 2 * terms[0])  # the stand-in's scheme weights all by 2


def test_factors_of_images_count_in_the_term():
    scheduler, args, batch = schedule(), arguments(), batch_of(loss_weights=torch.tensor([1.0, 0.0, 0.5]))
    trainer = with_term(NetworkTrainer, regularizer())()
    term = trainer.process_batch(batch, scheduler, args) - base_of(trainer, batch, scheduler, args)
    process = VP(alphas_cumprod=scheduler.alphas_cumprod)
    expected = direct(trainer, process, batch, sample_weight=batch["loss_weights"])
    torch.testing.assert_close(term.detach(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("masked_loss", "name", "low", "channels"),
    [(True, "conditioning_images", -1.0, (3,)), (False, "alpha_masks", 0.0, ())],
)
def test_masked_regions_get_no_gradient(masked_loss, name, low, channels):
    mask = torch.full((3, *channels, 128, 128), low)
    mask[..., :64] = 1
    trainer, batch = with_term(NetworkTrainer, regularizer())(), batch_of(**{name: mask})
    trainer.process_batch(batch, schedule(), arguments(masked_loss=masked_loss))
    found = trainer.get_noise_pred_and_target(
        arguments(), None, schedule(), batch["latents"], batch, [], None, None, None, True
    )
    values = trainer.post_process_loss(torch.zeros(3), arguments(masked_loss=masked_loss), found[2], schedule())
    (gradient,) = torch.autograd.grad(values.sum(), found[0])
    assert gradient[..., 8:].abs().max() == 0
    assert gradient[..., :8].abs().mean() > 0


def test_validation_losses_stay_what_they_were():
    trainer, batch, scheduler = with_term(NetworkTrainer, regularizer())(), batch_of(), schedule()
    found = trainer.process_batch(batch, scheduler, arguments(), is_train=False)
    assert found == NetworkTrainer().process_batch(batch, scheduler, arguments(), is_train=False)


def test_terms_join_the_logged_steps():
    trainer = with_term(NetworkTrainer, {"loss": "wavelet", "weight": 0.1})()
    trainer.process_batch(batch_of(), schedule(), arguments())
    logs = trainer.generate_step_logs(arguments(), 1.0, 1.0, None, None)
    assert logs == {"loss/current": 1.0, **trainer.spectral.logged()}
    assert set(trainer.spectral.logged()) == {"spectral/total", "spectral/wavelet"}


def test_a_weight_by_gradient_share_sees_the_base_loss():
    batch, scheduler, args = batch_of(), schedule(), arguments()
    trainer = with_term(NetworkTrainer, SpectralRegularizer("wavelet", weight=GradientShare(0.1)))()
    loss = trainer.process_batch(batch, scheduler, args)
    (total,) = torch.autograd.grad(loss, trainer.pred)
    plain = NetworkTrainer()
    (base,) = torch.autograd.grad(plain.process_batch(batch, scheduler, args), plain.pred)
    assert (total - base).norm() / base.norm() == pytest.approx(0.1, rel=1e-3)


def fine_tune_step(spectral, args, scheduler, latents, noise, noise_pred, latents_too):
    """The loss of fine_tune.py and sdxl_train.py with the documented line."""
    target = scheduler.get_velocity(latents, noise, TIMES) if args.v_parameterization else noise
    loss = (noise_pred.float() - target.float()).square().mean()
    return loss + spectral(args, scheduler, noise_pred, target, TIMES, latents=latents if latents_too else None)


@pytest.mark.parametrize(("dtype", "rtol"), DTYPES.items())
@pytest.mark.parametrize("v", [False, True])
@pytest.mark.parametrize("latents_too", [False, True])
def test_the_patch_of_scripts_without_hooks(dtype, rtol, v, latents_too):
    args, scheduler, latents = arguments(v_parameterization=v), schedule(), batch_of(dtype)["latents"]
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    process = VP("v_prediction" if v else "epsilon", alphas_cumprod=scheduler.alphas_cumprod)
    exact = process.target(latents.float(), noise.float(), TIMES)
    pred = (exact + 0.1 * torch.randn(exact.shape, generator=torch.Generator().manual_seed(3))).to(dtype)
    term = SpectralRegularizer("wavelet", weight=0.5)
    noisy = process.add_noise(latents.float(), noise.float(), TIMES)
    expected = term(process, noisy, pred.float(), TIMES, clean=latents.float())
    spectral = SpectralTerm(term)
    loss = fine_tune_step(spectral, args, scheduler, latents, noise, pred, latents_too)
    target = scheduler.get_velocity(latents, noise, TIMES) if v else noise
    base = (pred.float() - target.float()).square().mean()
    torch.testing.assert_close(loss - base, expected, rtol=rtol, atol=0)
    assert spectral.process(args, scheduler) is spectral.process(args, scheduler)


@pytest.mark.bad_input  # the run-time shape checks do not compile
def test_a_compiled_step_gives_the_same_loss():
    spectral, scheduler, args = SpectralTerm({"loss": "amplitude", "weight": 0.5}), schedule(), arguments()
    latents = batch_of()["latents"]
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(2))

    def step(pred):
        return fine_tune_step(spectral, args, scheduler, latents, noise, pred, True)

    expected = step(0.9 * noise)
    torch.testing.assert_close(torch.compile(step, backend="eager")(0.9 * noise), expected)


def test_unknown_flows_trainers_and_options_are_errors():
    class SomeNetworkTrainer(NetworkTrainer):
        def get_noise_pred_and_target(self, args, accelerator, noise_scheduler, latents, *rest, is_train=True):
            return self.predict(latents), latents, self.times, None

    trainer = with_term(SomeNetworkTrainer, regularizer())()
    with pytest.raises(ValueError, match="FlowMatchEulerDiscreteScheduler has no alphas_cumprod: of a flow, pass"):
        trainer.process_batch(batch_of(), FlowMatchEulerDiscreteScheduler(), arguments())
    with_process = with_term(SomeNetworkTrainer, regularizer(), process=Flow(0, "sample", time_scale=1000.0))()
    assert with_process.process_batch(batch_of(), FlowMatchEulerDiscreteScheduler(), arguments()) > 0
    with pytest.raises(TypeError, match="has no get_noise_pred_and_target"):
        with_term(dict, regularizer())
    with pytest.raises(ValueError, match="unknown weights: got 'snr'"):
        with_term(NetworkTrainer, regularizer(), weights="snr")
    with pytest.raises(TypeError, match="regularizer must be a SpectralRegularizer or its arguments"):
        with_term(NetworkTrainer, "wavelet")
