"""A target that is not the scheduler's is noticed on the first call, as far as the given samples tell."""

from types import SimpleNamespace

import diffusers
import pytest
import torch
from diffusers.training_utils import compute_dream_and_update_latents

from passband import AmplitudeLoss
from passband.integrations import DiffusersTerm

T = torch.tensor([100, 400, 700, 900])


def fields(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [x.to(dtype) for x in torch.randn(3, 4, 2, 8, 8, generator=generator)]


def made(prediction, dtype=torch.float32):
    """Scheduler, clean, noise, noisy and target as a script makes them, in its dtype."""
    scheduler = diffusers.DDPMScheduler(prediction_type=prediction)
    clean, noise, _ = fields(dtype)
    noisy = scheduler.add_noise(clean, noise, T)
    target = {"epsilon": noise, "sample": clean, "v_prediction": scheduler.get_velocity(clean, noise, T)}[prediction]
    return scheduler, clean, noise, noisy, target


def dream(scheduler, noise, noisy, target, error):
    def unet(*_):
        return SimpleNamespace(sample=noise + 0.3 * error)

    return compute_dream_and_update_latents(unet, scheduler, T, noise, noisy, target, None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_the_schedulers_own_target_passes(prediction, dtype):
    scheduler, clean, noise, noisy, target = made(prediction, dtype)
    for given in ({"noise": noise}, {"noise": noise, "noisy": noisy}, {"noisy": noisy}):
        assert DiffusersTerm(AmplitudeLoss())(scheduler, target, target, T, clean=clean, **given) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("with_clean", [True, False])
def test_dream_is_refused(with_clean, dtype):
    scheduler, clean, noise, noisy, target = made("epsilon", dtype)
    noisy, target = dream(scheduler, noise, noisy, target, fields(dtype)[2])
    given = {"clean": clean} if with_clean else {"noisy": noisy}
    with pytest.raises(ValueError, match=r"DREAM \(--dream_training\) rewrote it, leave the term out"):
        DiffusersTerm(AmplitudeLoss())(scheduler, target, target, T, noise=noise, **given)


def test_dream_moves_noise_and_target_together():
    """So without noise= it cannot be told from another noise; the term is that of the pair which the network saw."""
    scheduler, clean, noise, noisy, target = made("epsilon")
    noisy, target = dream(scheduler, noise, noisy, target, fields()[2])
    pred = target + 0.1 * fields()[2]
    abar = scheduler.alphas_cumprod[T].reshape(-1, 1, 1, 1)
    estimate = (noisy - (1 - abar).sqrt() * pred) / abar.sqrt()
    found = DiffusersTerm(AmplitudeLoss(), weight=1.0).per_sample(scheduler, pred, target, T, clean=clean, noisy=noisy)
    torch.testing.assert_close(found, AmplitudeLoss()(estimate, clean), rtol=1e-3, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("by", ["noise", "noisy"])
@pytest.mark.parametrize(("said", "done"), [("epsilon", "v_prediction"), ("v_prediction", "epsilon")])
def test_another_prediction_is_noticed(said, done, by, dtype):
    scheduler, clean, noise, noisy, target = made(done, dtype)
    scheduler.register_to_config(prediction_type=said)
    given = {"clean": clean, by: {"noise": noise, "noisy": noisy}[by]}
    with pytest.raises(ValueError, match=f"not that of a '{said}' prediction.*say it with prediction="):
        DiffusersTerm(AmplitudeLoss())(scheduler, target, target, T, **given)
    right = DiffusersTerm(AmplitudeLoss(), prediction=done)
    assert right(scheduler, target, target, T, **given) == 0


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_latents_in_another_scale_are_noticed(prediction):
    scheduler, clean, noise, noisy, target = made(prediction)
    for given in ({"noise": noise}, {"noisy": noisy}):
        if prediction == "epsilon" and "noise" in given:
            continue  # its target holds nothing of them
        with pytest.raises(ValueError, match="scaled as the network sees them"):
            DiffusersTerm(AmplitudeLoss())(scheduler, target, target, T, clean=clean / 0.18215, **given)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction", "velocity"])
def test_times_in_another_unit_are_noticed(prediction):
    if prediction == "velocity":
        scheduler, (clean, noise, _) = diffusers.FlowMatchEulerDiscreteScheduler(), fields()
        sigma = T.reshape(-1, 1, 1, 1) / 1000
        noisy, target = (1 - sigma) * clean + sigma * noise, noise - clean
    else:
        scheduler, clean, noise, noisy, target = made(prediction)
    for given in ({}, {"noise": noise}, {"noisy": noisy}, {"noise": noise, "noisy": noisy}):
        with pytest.raises(ValueError, match="look divided by the number of steps"):
            DiffusersTerm(AmplitudeLoss())(scheduler, target, target, T / 1000, clean=clean, **given)


def test_small_times_that_may_be_meant_are_taken():
    scheduler, (clean, noise, _) = diffusers.FlowMatchEulerDiscreteScheduler(), fields()
    target = noise - clean
    for times in (torch.tensor([0.5]), torch.zeros(len(clean)), torch.linspace(0.5, 1.5, len(clean))):
        n = len(times)
        assert DiffusersTerm(AmplitudeLoss())(scheduler, target[:n], target[:n], times, clean=clean[:n]) == 0
    levels = torch.full((len(clean),), 0.0005)
    assert DiffusersTerm(AmplitudeLoss())(scheduler, target, target, sigmas=levels, clean=clean) == 0
    scheduler, clean, _, _, target = made("epsilon")
    assert DiffusersTerm(AmplitudeLoss())(scheduler, target, target, torch.ones_like(T).long(), clean=clean) == 0


def test_input_perturbation_is_noticed_where_the_noisy_samples_are_given():
    scheduler, clean, noise, _, target = made("epsilon")
    noisy = scheduler.add_noise(clean, noise + 0.1 * fields()[2], T)
    assert DiffusersTerm(AmplitudeLoss())(scheduler, target, target, T, clean=clean, noise=noise) == 0
    for given, message in (({"noise": noise}, "--input_perturbation"), ({}, "not that of a 'epsilon' prediction")):
        with pytest.raises(ValueError, match=message):
            DiffusersTerm(AmplitudeLoss())(scheduler, target, target, T, clean=clean, noisy=noisy, **given)


def test_an_epsilon_target_is_checked_without_clean_and_others_need_it():
    scheduler, _, noise, noisy, target = made("epsilon")
    with pytest.raises(ValueError, match="not that of a 'epsilon' prediction"):
        DiffusersTerm(AmplitudeLoss())(scheduler, target, -target, T, noise=noise, noisy=noisy)
    scheduler, _, noise, noisy, target = made("v_prediction")
    with pytest.raises(ValueError, match="pass clean= with it"):
        DiffusersTerm(AmplitudeLoss())(scheduler, target, target, T, noise=noise, noisy=noisy)


def test_only_the_first_call_for_a_scheduler_looks():
    scheduler, clean, noise, _, target = made("epsilon")
    spectral = DiffusersTerm(AmplitudeLoss())
    spectral(scheduler, target, target, T, clean=clean, noise=noise)
    spectral(scheduler, target, -target, T, clean=clean, noise=noise)
    scheduler.register_to_config(prediction_type="v_prediction")
    with pytest.raises(ValueError, match="not that of a 'v_prediction' prediction"):
        spectral(scheduler, target, target, T, clean=clean, noise=noise)
