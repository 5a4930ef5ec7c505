"""Each process equals what its scheduler does: noise, input scaling, clean estimate, target and one step."""

import copy
import subprocess
import sys
from typing import NamedTuple

import diffusers
import pytest
import torch
from torch import Tensor

from passband.integrations import process_from_scheduler
from passband.process import EDM, VP, Flow, Process, RescaledVP

NOISE_OR_V = ("epsilon", "v_prediction")
ANY = ("epsilon", "sample", "v_prediction")
STEPS = 7


class Case(NamedTuple):
    name: str
    predictions: tuple[str | None, ...]
    process: type[Process]
    options: dict

    def scheduler(self, prediction, **more):
        options = {**self.options, **more}
        if prediction is not None:
            options["prediction_type"] = prediction
        return getattr(diffusers, self.name)(**options)


ZERO_SNR = {"rescale_betas_zero_snr": True}
TRAILING = {"timestep_spacing": "trailing"}

CASES = [
    Case("DDPMScheduler", ANY, VP, {"clip_sample": False}),
    Case("DDPMScheduler", ANY, VP, {"clip_sample": False, "beta_schedule": "squaredcos_cap_v2"}),
    Case("DDPMScheduler", ANY, VP, {"clip_sample": False, "beta_schedule": "sigmoid", "num_train_timesteps": 100}),
    Case("DDIMScheduler", ANY, VP, {"clip_sample": False}),
    Case("DDIMScheduler", ("sample", "v_prediction"), VP, {"clip_sample": False, **ZERO_SNR, **TRAILING}),
    Case("PNDMScheduler", NOISE_OR_V, VP, {"skip_prk_steps": True, "set_alpha_to_one": True, "steps_offset": 1}),
    Case("DPMSolverMultistepScheduler", ANY, VP, {"solver_order": 1}),
    Case("DPMSolverMultistepScheduler", ("v_prediction",), VP, {"solver_order": 1, **ZERO_SNR, **TRAILING}),
    Case("DPMSolverSinglestepScheduler", ANY, VP, {"solver_order": 1}),
    Case("DEISMultistepScheduler", ANY, VP, {"solver_order": 1, "beta_schedule": "scaled_linear"}),
    Case("UniPCMultistepScheduler", ANY, VP, {"solver_order": 1}),
    Case("EulerDiscreteScheduler", (*ANY, "original_sample"), RescaledVP, {}),
    Case("EulerDiscreteScheduler", ("v_prediction",), RescaledVP, {**ZERO_SNR, **TRAILING}),
    Case("EulerDiscreteScheduler", ANY, RescaledVP, {"timestep_spacing": "leading", "steps_offset": 1}),
    Case(
        "EulerDiscreteScheduler",
        ("v_prediction",),
        EDM,
        {"timestep_type": "continuous", "use_karras_sigmas": True, "sigma_min": 0.002, "sigma_max": 700.0},
    ),
    Case("EulerDiscreteScheduler", ("v_prediction",), EDM, {"timestep_type": "continuous"}),
    Case("EulerDiscreteScheduler", ("epsilon",), RescaledVP, {"timestep_type": "continuous"}),
    Case("EulerAncestralDiscreteScheduler", NOISE_OR_V, RescaledVP, {}),
    Case("HeunDiscreteScheduler", ANY, RescaledVP, {}),
    Case("LMSDiscreteScheduler", ANY, RescaledVP, {}),
    Case("EDMEulerScheduler", NOISE_OR_V, EDM, {}),
    Case("EDMEulerScheduler", NOISE_OR_V, EDM, {"sigma_data": 1.0, "sigma_schedule": "exponential"}),
    Case("EDMDPMSolverMultistepScheduler", NOISE_OR_V, EDM, {"solver_order": 1}),
    Case("FlowMatchEulerDiscreteScheduler", (None,), Flow, {}),
    Case("FlowMatchEulerDiscreteScheduler", (None,), Flow, {"shift": 3.0, "num_train_timesteps": 500}),
    Case("FlowMatchEulerDiscreteScheduler", (None,), Flow, {"shift": 0.15}),
    Case("FlowMatchEulerDiscreteScheduler", (None,), Flow, {"use_karras_sigmas": True}),
    Case("FlowMatchHeunDiscreteScheduler", (None,), Flow, {"shift": 3.0}),
]
EVERY = [
    pytest.param(case, prediction, id="-".join([case.name, str(prediction), *map(str, case.options)]))
    for case in CASES
    for prediction in case.predictions
]
PNDM = "PNDMScheduler"
RANDOM = ("DDPMScheduler", "EulerAncestralDiscreteScheduler")  # their steps draw noise, but for the last
MIRRORED = ("DPMSolver", "UniPC", "DEIS")  # their add_noise reads the table backwards until set_timesteps


def without(params, names):
    return [param for param in params if not param.values[0].name.startswith(tuple(names))]


def fields(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(1, 2, 4, 3, generator=generator, dtype=dtype) for _ in range(3))


def sampling_times(scheduler) -> list[Tensor]:
    """Scheduler times in order, without Heun's repetitions."""
    scheduler.set_timesteps(STEPS)
    return list(dict.fromkeys(scheduler.timesteps.tolist()))


def as_timestep(scheduler, t: float) -> Tensor:
    return torch.tensor(t, dtype=scheduler.timesteps.dtype)


def at(scheduler, t: float):
    """A fresh copy of a scheduler, about to do the step at t."""
    scheduler = copy.deepcopy(scheduler)
    if hasattr(scheduler, "_init_step_index"):
        scheduler._step_index = None
        scheduler._init_step_index(as_timestep(scheduler, t))
        scheduler.is_scale_input_called = True
    return scheduler


def scheduler_noisy(scheduler, clean: Tensor, noise: Tensor, t: float) -> Tensor:
    scheduler, times = at(scheduler, t), as_timestep(scheduler, t)[None]
    if hasattr(scheduler, "scale_noise"):
        return scheduler.scale_noise(clean, times, noise)
    return scheduler.add_noise(clean, noise, times)


def scheduler_clean_estimate(scheduler, name: str, noisy: Tensor, pred: Tensor, t: float) -> Tensor:
    """What the scheduler itself takes for the clean sample."""
    scheduler, time = at(scheduler, t), as_timestep(scheduler, t)
    if name == "DEISMultistepScheduler":  # converts to epsilon
        alpha, sigma = scheduler._sigma_to_alpha_sigma_t(scheduler.sigmas[scheduler.step_index])
        return (noisy - sigma * scheduler.convert_model_output(pred, sample=noisy)) / alpha
    if hasattr(scheduler, "convert_model_output"):
        return scheduler.convert_model_output(pred, sample=noisy)
    if hasattr(scheduler, "precondition_outputs"):
        return scheduler.precondition_outputs(noisy, pred, scheduler.sigmas[scheduler.step_index])
    if name == PNDM:  # a step to the clean end
        return scheduler._get_prev_sample(noisy, int(t), -1, pred)
    if name.startswith("FlowMatch"):  # no estimate of its own: a step to the clean end
        scheduler.sigmas[scheduler.step_index + 1] = 0
        return scheduler.step(pred, time, noisy).prev_sample
    time = time if time.is_floating_point() else int(t)
    return scheduler.step(pred, time, noisy).pred_original_sample


def close(actual: Tensor, expected: Tensor, tolerance: float = 2e-5) -> None:
    expected = expected.to(actual.dtype)
    scale = expected.abs().max().item()
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance * max(scale, 1e-3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("case", "prediction"), EVERY)
def test_noise_input_and_clean_estimate_are_the_schedulers(case, prediction, dtype):
    scheduler = case.scheduler(prediction)
    process = process_from_scheduler(scheduler)
    assert type(process) is case.process
    clean, noise, pred = fields(dtype)
    for t in sampling_times(scheduler):
        noisy = process.add_noise(clean, noise, as_timestep(scheduler, t))
        close(noisy, scheduler_noisy(scheduler, clean, noise, t))
        if hasattr(scheduler, "scale_model_input"):
            close(process.scale_input(noisy, t), at(scheduler, t).scale_model_input(noisy, as_timestep(scheduler, t)))
        estimate = process.clean_estimate(noisy, pred, as_timestep(scheduler, t))
        # Half of float32's digits cancel where the network's output is multiplied by up to 157 (20,000: cosine).
        close(estimate, scheduler_clean_estimate(scheduler, case.name, noisy, pred, t), 1e-4)
        # The target is what the scheduler inverts to the clean sample.
        target = process.target(clean, noise, t)
        gain = process.residual_gain(t).abs().item()
        found = scheduler_clean_estimate(scheduler, case.name, noisy, target, t)
        torch.testing.assert_close(found.to(dtype), clean, rtol=1e-4, atol=1e-5 * max(1.0, 2 * gain))


@pytest.mark.parametrize(("case", "prediction"), without(EVERY, RANDOM))
def test_deterministic_step_is_the_schedulers(case, prediction):
    scheduler = case.scheduler(prediction)
    process = process_from_scheduler(scheduler)
    clean, noise, pred = fields()
    times = sampling_times(scheduler)
    ratio = scheduler.config.num_train_timesteps // STEPS
    for index in (0, 3, len(times) - 1):
        t = times[index]
        one = at(scheduler, t)
        if case.name in ("DDIMScheduler", PNDM):
            s = max(t - ratio, -1)  # they step by a fixed ratio
        else:
            sigma = one.sigmas[one.step_index + 1]
            s = process.time_at(sigma / (1 - sigma) if case.process is Flow else sigma)
        noisy = process.add_noise(clean, noise, t)
        if case.name == "LMSDiscreteScheduler" and index > 0:
            continue  # multistep from its second step on
        time = as_timestep(one, t) if one.timesteps.is_floating_point() else int(t)
        expected = one.step(pred, time, noisy).prev_sample
        close(process.step(noisy, process.clean_estimate(noisy, pred, t), t, s), expected, 1e-4)


@pytest.mark.parametrize("name", RANDOM)
def test_last_step_of_random_samplers_is_the_clean_estimate(name):
    scheduler = getattr(diffusers, name)(**({"clip_sample": False} if name == "DDPMScheduler" else {}))
    process = process_from_scheduler(scheduler)
    _, noisy, pred = fields()
    t = sampling_times(scheduler)[-1]
    time = as_timestep(scheduler, t)
    expected = at(scheduler, t).step(pred, time, noisy).prev_sample
    close(process.step(noisy, process.clean_estimate(noisy, pred, t), t, process.clean_time), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("case", "prediction"), without(EVERY, MIRRORED))
def test_training_loop_without_set_timesteps(case, prediction, dtype):
    """A batch of training times, drawn as training scripts do from the untouched scheduler."""
    scheduler = case.scheduler(prediction)
    process = process_from_scheduler(scheduler)
    count = scheduler.config.num_train_timesteps
    every = torch.arange(count) if case.name == PNDM else scheduler.timesteps.flip(0)
    t = every[torch.tensor([0, count // 3, count - 20, count - 1])]
    generator = torch.Generator().manual_seed(1)
    clean, noise = torch.randn(2, 4, 3, 5, 5, generator=generator, dtype=dtype)
    if case.name == "FlowMatchHeunDiscreteScheduler":  # takes one time only
        pairs = [
            copy.deepcopy(scheduler).scale_noise(c[None], time, n[None])
            for c, n, time in zip(clean, noise, t, strict=True)
        ]
        expected = torch.cat(pairs)
    elif case.name == "FlowMatchEulerDiscreteScheduler":
        expected = scheduler.scale_noise(clean, t, noise)
    else:
        expected = scheduler.add_noise(clean, noise, t)
    table_only = dtype == torch.float64 and case.process is VP
    close(process.add_noise(clean, noise, t), expected, 1e-12 if table_only else 2e-5)


@pytest.mark.parametrize("name", ["DDPMScheduler", "DDIMScheduler"])
@pytest.mark.parametrize("options", [{}, ZERO_SNR, {"beta_schedule": "squaredcos_cap_v2"}])
def test_v_target_is_get_velocity(name, options):
    scheduler = getattr(diffusers, name)(prediction_type="v_prediction", **options)
    clean, noise = torch.randn(2, 3, 1, 4, 4, dtype=torch.float64)
    t = torch.tensor([0, 500, 999])
    target = process_from_scheduler(scheduler).target(clean, noise, t)
    torch.testing.assert_close(target, scheduler.get_velocity(clean, noise, t), rtol=1e-12, atol=1e-12)


def test_table_is_the_schedulers_own():
    for scheduler in (
        diffusers.DDPMScheduler(**ZERO_SNR),
        diffusers.DDPMScheduler(trained_betas=[0.1, 0.2, 0.4]),
        diffusers.DPMSolverMultistepScheduler(**ZERO_SNR),
    ):
        process = process_from_scheduler(scheduler)
        alpha, sigma = process.level(torch.arange(len(scheduler.alphas_cumprod), dtype=torch.float64))
        expected = scheduler.alphas_cumprod.double()
        torch.testing.assert_close(alpha.square(), expected, rtol=1e-14, atol=0)
        torch.testing.assert_close(sigma.square(), 1 - expected, rtol=1e-14, atol=0)


def test_zero_snr_end_of_ddpm_is_pure_noise_and_of_euler_nearly():
    assert process_from_scheduler(diffusers.DDPMScheduler(**ZERO_SNR)).noise_ratio(999).item() == float("inf")
    euler = process_from_scheduler(diffusers.EulerDiscreteScheduler(**ZERO_SNR))
    assert euler.noise_ratio(999).item() == pytest.approx((2**24 - 1) ** 0.5, rel=1e-6)


def test_euler_interpolates_the_noise_level_between_indices():
    scheduler = diffusers.EulerDiscreteScheduler()
    scheduler.set_timesteps(13)
    fractional = scheduler.timesteps[1:-1]
    assert (fractional != fractional.round()).any()
    close(process_from_scheduler(scheduler).noise_ratio(fractional), scheduler.sigmas[1:-2], 1e-6)


def test_edm_settings_are_carried():
    scheduler = diffusers.EDMEulerScheduler(sigma_data=0.7, sigma_min=0.01, sigma_max=50.0)
    process = process_from_scheduler(scheduler)
    assert (process.sigma_data, process.sigma_min, process.sigma_max) == (0.7, 0.01, 50.0)
    assert process.noise_time == pytest.approx(scheduler.timesteps.max().item(), rel=1e-6)


def test_continuous_euler_spans_the_schedulers_levels():
    scheduler = diffusers.EulerDiscreteScheduler(timestep_type="continuous", prediction_type="v_prediction")
    process = process_from_scheduler(scheduler)
    assert process.sigma_min == pytest.approx(scheduler.sigmas[-2].item(), rel=1e-5)
    assert process.sigma_max == pytest.approx(scheduler.sigmas[0].item(), rel=1e-5)


def test_stochastic_flow_sampling_is_the_same_process():
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)
    process = process_from_scheduler(scheduler)
    clean, noise, pred = fields()
    t = sampling_times(scheduler)[-1]
    noisy = process.add_noise(clean, noise, t)
    expected = at(scheduler, t).step(pred, as_timestep(scheduler, t), noisy).prev_sample  # its last step adds no noise
    close(process.clean_estimate(noisy, pred, t), expected)


def test_subclass():
    class MyScheduler(diffusers.EulerDiscreteScheduler):
        pass

    assert type(process_from_scheduler(MyScheduler(prediction_type="v_prediction"))) is RescaledVP


def test_leftover_options_of_another_class_are_ignored():
    config = diffusers.DPMSolverMultistepScheduler(use_karras_sigmas=True, prediction_type="sample").config
    assert diffusers.DDPMScheduler.from_config(config).config.use_karras_sigmas
    assert process_from_scheduler(diffusers.DDPMScheduler.from_config(config)).prediction == "sample"
    assert (
        process_from_scheduler(diffusers.FlowMatchEulerDiscreteScheduler.from_config(config)).prediction == "velocity"
    )


@pytest.mark.parametrize(
    ("name", "prediction"),
    [
        *((case.name, "nonsense") for case in CASES if case.predictions != (None,) and not case.options),
        ("DPMSolverMultistepScheduler", "flow_prediction"),
        ("UniPCMultistepScheduler", "flow_prediction"),
        ("PNDMScheduler", "sample"),
        ("EulerAncestralDiscreteScheduler", "sample"),
        ("EDMEulerScheduler", "sample"),
        ("EDMDPMSolverMultistepScheduler", "sample"),
    ],
)
def test_unknown_prediction_type_is_refused(name, prediction):
    scheduler = getattr(diffusers, name)(prediction_type=prediction)
    hint = "; for a flow, use a FlowMatch scheduler" if prediction == "flow_prediction" else "$"
    with pytest.raises(ValueError, match=f"{name} with prediction_type='{prediction}'.* one of 'epsilon'.*'{hint}"):
        process_from_scheduler(scheduler)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("EulerDiscreteScheduler", ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")),
        ("HeunDiscreteScheduler", ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")),
        ("LMSDiscreteScheduler", ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")),
        ("DPMSolverMultistepScheduler", ("use_karras_sigmas", "use_lu_lambdas", "use_flow_sigmas")),
        ("DPMSolverSinglestepScheduler", ("use_karras_sigmas", "use_beta_sigmas", "use_flow_sigmas")),
        ("DEISMultistepScheduler", ("use_exponential_sigmas", "use_flow_sigmas")),
        ("UniPCMultistepScheduler", ("use_beta_sigmas", "use_flow_sigmas")),
        ("FlowMatchEulerDiscreteScheduler", ("invert_sigmas",)),
    ],
)
def test_options_that_untie_times_from_levels_are_refused(name, options):
    for option in options:
        with pytest.raises(ValueError, match=f"{name} with {option}=True is not supported"):
            process_from_scheduler(getattr(diffusers, name)(**{option: True}))


def test_log_linear_is_refused_and_the_advice_works():
    scheduler = diffusers.EulerDiscreteScheduler(interpolation_type="log_linear")
    with pytest.raises(ValueError, match=r"from_config\(scheduler.config, interpolation_type='linear'\)") as error:
        process_from_scheduler(scheduler)
    advice = str(error.value).split(", ", 1)[1]
    names = {"process_from_scheduler": process_from_scheduler, "scheduler": scheduler}
    assert type(eval(advice, names)) is RescaledVP


def test_unsupported_class_is_named():
    with pytest.raises(TypeError, match="unsupported scheduler LCMScheduler; supported are DDPMScheduler"):
        process_from_scheduler(diffusers.LCMScheduler())


def test_what_is_no_scheduler_is_refused():
    class Pipeline:
        config = {}  # noqa: RUF012
        scheduler = diffusers.DDPMScheduler()

    for thing in (Pipeline(), 3, "ddpm", VP()):
        with pytest.raises(TypeError, match=f"got {type(thing).__name__}; of a pipeline, pass pipeline.scheduler"):
            process_from_scheduler(thing)


def test_import_brings_no_diffusers():
    code = "import sys, passband; passband.process_from_scheduler; assert 'diffusers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
