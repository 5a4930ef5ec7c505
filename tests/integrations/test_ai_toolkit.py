"""ai-toolkit: SDTrainer's loss, by a stand-in, against the term of the clean estimate."""

from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDPMScheduler

from passband import VP, AmplitudePhaseLoss, Flow, SpectralRegularizer, WaveletLoss
from passband.integrations.ai_toolkit import process_of, with_term

DTYPES = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 3e-3}
TIMES = torch.tensor([40.0, 333.0, 700.0])


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Model:
    """The host's `sd`: what it is trained on."""

    def __init__(self, kind):
        self.is_flow_matching, self.prediction_type = kind == "flow", kind
        self.noise_scheduler = SimpleNamespace() if kind == "flow" else DDPMScheduler()


class OwnTarget(Model):
    """Newer models say their target themselves."""

    def get_loss_target(self, *args, **named):
        self.asked = named["timesteps"]
        return (named["noise"] - named["batch"].latents).detach()


class SDTrainer:
    """The constructor, configuration and loss of the host's trainer."""

    def __init__(self, process_id, job, config, **kwargs):
        self.config = config
        self.train_config = SimpleNamespace(**config.get("train", {}))
        self.sd = kwargs["sd"]

    def get_conf(self, key, default=None, required=False, as_type=None):
        value = self.config.get(key, default)
        if value is None and required:
            raise ValueError(f'config file error. Missing "config.process[0].{key}" key')
        return value

    def calculate_loss(
        self, noise_pred, noise, noisy_latents, timesteps, batch, mask_multiplier=1.0, prior_pred=None, **kwargs
    ):
        target = noise - batch.latents if self.sd.is_flow_matching else noise
        if prior_pred is not None:
            target = prior_pred
        if noise_pred.ndim == 5:
            mask_multiplier = mask_multiplier.unsqueeze(2).repeat(1, 1, noise_pred.shape[2], 1, 1)
        loss = (noise_pred.float() - target.float()).square() * mask_multiplier
        return loss.mean()

    def hook_train_loop(self, batch):
        return OrderedDict(loss=1.0)


def trainer_of(kind, term=None, model=Model, config=None, host=SDTrainer):
    return with_term(host, term or regularizer())(0, None, config or {}, sd=model(kind))


def regularizer():
    return SpectralRegularizer(AmplitudePhaseLoss() + WaveletLoss("haar"), weight=0.5)


def process_for(kind):
    return Flow(0, time_scale=1000.0) if kind == "flow" else VP(kind, alphas_cumprod=DDPMScheduler().alphas_cumprod)


def step(trainer, kind, dtype=torch.float32, shape=(3, 4, 16, 16), **given):
    """The host's call, by keywords; returns what the term added, the prediction, and the oracle's arguments."""
    process = process_for(kind)
    latents, noise = normal(*shape, seed=1).to(dtype), normal(*shape, seed=2).to(dtype)
    exact = process.target(latents.float(), noise.float(), TIMES)
    pred = (exact + 0.1 * normal(*shape, seed=3)).to(dtype).requires_grad_()
    noisy = process.add_noise(latents, noise, TIMES)
    batch = SimpleNamespace(latents=latents, **given.pop("batch", {}))
    seen = {
        "noise_pred": pred, "noise": noise, "noisy_latents": noisy.to(dtype), "timesteps": TIMES, "batch": batch,
        "mask_multiplier": torch.ones(3, 1, 1, 1, dtype=dtype), "prior_pred": None, **given,
    }  # fmt: skip
    loss = trainer.calculate_loss(**seen)
    base = SDTrainer.calculate_loss(trainer, **seen)
    oracle = (process, noisy.float(), pred.detach().float(), TIMES)
    return loss - base, pred, oracle, latents.float()


@pytest.mark.parametrize(("dtype", "rtol"), DTYPES.items())
@pytest.mark.parametrize("kind", ["flow", "epsilon", "v_prediction"])
@pytest.mark.parametrize("model", [Model, OwnTarget])
def test_the_loss_has_the_term_of_the_clean_estimate(kind, dtype, rtol, model):
    # Of v the host's own target is not the velocity; the term's is.
    trainer = trainer_of(kind, model=model)
    term, pred, oracle, clean = step(trainer, kind, dtype)
    torch.testing.assert_close(term.detach(), regularizer()(*oracle, clean=clean), rtol=rtol, atol=0)
    (gradient,) = torch.autograd.grad(term, pred)
    assert gradient.isfinite().all()
    assert hasattr(trainer.sd, "asked") == (kind == "flow" and model is OwnTarget)


def test_videos_and_their_masks():
    mask = torch.ones(3, 1, 8, 8)
    mask[..., 4:] = 0
    term, pred, *_ = step(trainer_of("flow"), "flow", shape=(3, 4, 2, 8, 8), mask_multiplier=mask)
    (gradient,) = torch.autograd.grad(term, pred)
    assert gradient[..., 4:].abs().max() == 0
    assert gradient[..., :4].abs().mean() > 0


@pytest.mark.parametrize(("frames", "per_frame"), [(1, False), (2, True)])
def test_frames_apart(frames, per_frame):
    trainer = with_term(SDTrainer, regularizer(), per_frame=per_frame)(0, None, {}, sd=Model("flow"))
    mask = torch.ones(3, 1, 8, 8)
    term, _, (process, noisy, pred, t), clean = step(trainer, "flow", shape=(3, 4, frames, 8, 8), mask_multiplier=mask)
    noisy, pred, clean = (x.transpose(1, 2).flatten(0, 1) for x in (noisy, pred, clean))
    expected = regularizer()(process, noisy, pred, t.repeat_interleave(frames), clean=clean)
    torch.testing.assert_close(term.detach(), expected, rtol=1e-4, atol=0)


def test_loss_multipliers_of_datasets_count():
    term, _, oracle, clean = step(trainer_of("flow"), "flow", batch={"loss_multiplier_list": [1.0, 0.0, 0.5]})
    expected = regularizer()(*oracle, clean=clean, sample_weight=torch.tensor([1.0, 0.0, 0.5]))
    torch.testing.assert_close(term.detach(), expected)


def test_where_the_host_matches_a_prior_prediction_the_term_does():
    prior = normal(3, 4, 16, 16, seed=7)
    term, pred, _, clean = step(trainer_of("flow"), "flow", prior_pred=prior)
    expected = regularizer().of_residual(process_for("flow"), pred, prior, TIMES, clean=clean)
    torch.testing.assert_close(term, expected)
    unmasked = trainer_of("flow", config={"train": {"inverted_mask_prior": True}})
    torch.testing.assert_close(step(unmasked, "flow", prior_pred=prior)[0], expected)
    for option in ("do_prior_divergence", "inverted_mask_prior"):
        kept = trainer_of("flow", config={"train": {option: True}})
        term, _, oracle, clean = step(kept, "flow", prior_pred=prior, batch={"mask_tensor": torch.ones(3, 1, 16, 16)})
        torch.testing.assert_close(term.detach(), regularizer()(*oracle, clean=clean), rtol=1e-4, atol=0)


def test_the_jobs_configuration_may_describe_the_term():
    cls = with_term(SDTrainer)
    config = {"spectral": {"loss": {"name": "wavelet", "wavelet": "haar"}, "weight": 0.25}}
    trainer = cls(0, None, config, sd=Model("flow"))
    term, _, oracle, clean = step(trainer, "flow")
    expected = SpectralRegularizer(WaveletLoss("haar"), weight=0.25)(*oracle, clean=clean)
    torch.testing.assert_close(term.detach(), expected, rtol=1e-4, atol=0)
    assert trainer.hook_train_loop(None) == {"loss": 1.0, **trainer.spectral.logged()}
    with pytest.raises(ValueError, match=r"Missing .*spectral"):
        cls(0, None, {}, sd=Model("flow"))


def test_a_prediction_without_gradient_keeps_the_base_loss():
    trainer = trainer_of("flow")
    latents = normal(3, 4, 8, 8, seed=1)
    loss = trainer.calculate_loss(latents, latents, latents, TIMES, SimpleNamespace(latents=latents))
    assert loss == latents.square().mean()


class CleanModel(OwnTarget):
    """Predicts the clean latents, and says so."""

    x0_pred = True

    def get_loss_target(self, *args, **named):
        return named["batch"].latents.detach()


class SilentCleanModel(CleanModel):
    x0_pred = False


def test_a_model_that_predicts_clean_latents():
    assert process_of(CleanModel("flow")).prediction == "sample"
    shape, process = (3, 4, 16, 16), Flow(0, "sample", time_scale=1000.0)
    latents, noise = normal(*shape, seed=1), normal(*shape, seed=2)
    pred = (latents + 0.1 * normal(*shape, seed=3)).requires_grad_()
    seen = (pred, noise, process.add_noise(latents, noise, TIMES), TIMES, SimpleNamespace(latents=latents))
    trainer = trainer_of("flow", model=CleanModel)
    term = trainer.calculate_loss(*seen) - SDTrainer.calculate_loss(trainer, *seen)
    torch.testing.assert_close(term, regularizer()(process, seen[2], pred, TIMES, clean=latents), rtol=1e-4, atol=0)
    with pytest.raises(ValueError, match=r"get_loss_target is not the target of Flow\(.*pass the process"):
        trainer_of("flow", model=SilentCleanModel).calculate_loss(*seen)
    told = with_term(SDTrainer, regularizer(), process=process)(0, None, {}, sd=SilentCleanModel("flow"))
    torch.testing.assert_close(told.calculate_loss(*seen) - SDTrainer.calculate_loss(told, *seen), term)


@pytest.mark.parametrize(
    "option",
    [
        "train_turbo", "do_guidance_loss", "do_differential_guidance", "correct_pred_norm", "match_noise_norm",
        "do_signal_amplification", "pred_scaler", "target_noise_multiplier",
    ],
)  # fmt: skip
def test_options_that_replace_the_target_are_refused(option):
    config = {"train": {option: 0.9 if option in {"pred_scaler", "target_noise_multiplier"} else True}}
    for process in (None, process_for("flow")):
        trainer = with_term(SDTrainer, regularizer(), process=process)(0, None, config, sd=Model("flow"))
        with pytest.raises(ValueError, match=f"train.{option} replaces what the prediction is compared to"):
            step(trainer, "flow")


def test_what_it_cannot_know_is_an_error():
    with pytest.raises(ValueError, match="prediction_type 'other' with the scheduler DDPMScheduler; pass its process"):
        process_of(Model("other"))
    with pytest.raises(TypeError, match="has no calculate_loss"):
        with_term(dict)
