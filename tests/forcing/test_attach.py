"""Forcing on networks of every kind: what they then see, what is kept as it was, and what goes on working."""

import copy
import gc
import inspect
import json
import pickle

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint
from torch.utils.hooks import RemovableHandle

from passband import EDM, VP, Flow, SpectralForcing, forcing, process_from_scheduler
from passband.forcing import Attachment, ConstantFront, attached, detach, recorded, register_model
from passband.models import EDMDenoiser, EDMUNet
from passband.process import VEPreconditioned, VPPreconditioned
from passband.training.ema import HalfLife, WeightAverage

PROCESS = Flow(data_at=1)
TIMES = torch.tensor([0.2, 0.9])


class Plain(nn.Module):
    """A network whose output tells both of its inputs apart."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x, t, scale=1.0):
        return scale * self.layer(x) + torch.as_tensor(t).reshape(-1, 1, 1, 1)


def images(seed=0):
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def unet(**options):
    diffusers = pytest.importorskip("diffusers")
    small = {"sample_size": 16, "block_out_channels": (8, 8), "layers_per_block": 1, "norm_num_groups": 4}
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2, "add_attention": False}
    return diffusers.UNet2DModel(**small, **blocks, **options).eval()


def conditional_unet():
    diffusers = pytest.importorskip("diffusers")
    return diffusers.UNet2DConditionModel(
        sample_size=16,
        in_channels=3,
        out_channels=3,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=4,
        attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).eval()


def dit():
    diffusers = pytest.importorskip("diffusers")
    return diffusers.DiTTransformer2DModel(
        sample_size=16, in_channels=3, num_layers=1, num_attention_heads=2, attention_head_dim=4, patch_size=4,
        norm_num_groups=1, num_embeds_ada_norm=1000,
    ).eval()  # fmt: skip


def edm_unet():
    torch.manual_seed(0)
    network = EDMUNet(16, 3, model_channels=8, channel_mult=(1,), num_blocks=1).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


def jit():
    models = pytest.importorskip("passband.models")
    if not hasattr(models, "JiT"):
        pytest.skip("passband.models has no JiT")
    network = models.JiT(
        16, patch_size=4, hidden_size=16, depth=2, num_heads=2, num_classes=0, bottleneck_dim=8, in_context_start=1
    ).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


TEXT = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1))
NETWORKS = {
    "own": (Plain, PROCESS, {}),
    "UNet2DModel": (unet, VP(), {}),
    "UNet2DConditionModel": (conditional_unet, Flow(0, time_scale=1000.0), {"encoder_hidden_states": TEXT}),
    "DiTTransformer2DModel": (dit, VP(), {"class_labels": torch.tensor([1, 2])}),
    "EDMUNet": (edm_unet, EDM(), {}),
    "EDMUNet as VP": (edm_unet, VPPreconditioned(), {}),
    "EDMUNet as VE": (edm_unet, VEPreconditioned(), {}),
    "JiT": (jit, PROCESS, {}),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def output(result):
    return getattr(result, "sample", result)


def network_and_times(name):
    build, process, conditioning = NETWORKS[name]
    torch.manual_seed(0)
    network = build()
    own = process.time_at(torch.tensor([2.0, 0.3]))
    if isinstance(process, VP):
        own = own.round().long()
    return network, process, own, process.model_time(own), conditioning


@every_network
def test_the_network_sees_the_forced_image_and_nothing_else(name):
    network, process, own, seen, conditioning = network_and_times(name)
    spectral = SpectralForcing(process)
    x = images()
    keys, before = list(network.state_dict()), output(network(x, seen, **conditioning))
    expected = output(network(spectral(x, own), seen, **conditioning))
    attachment = spectral.attach(network)
    assert attached(network) is spectral
    forced = output(network(x, seen, **conditioning))
    torch.testing.assert_close(forced, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(forced, before, rtol=1e-2, atol=1e-3)
    assert torch.equal(output(attachment(x, seen, **conditioning)), forced)
    assert list(network.state_dict()) == keys
    image, time = list(inspect.signature(network.forward).parameters)[:2]
    assert torch.equal(output(network(**{time: seen, image: x}, **conditioning)), forced)
    assert torch.equal(output(network(x, **{time: seen}, **conditioning)), forced)


@every_network
def test_detach_leaves_everything_as_it_was(name):
    network, process, _, seen, conditioning = network_and_times(name)
    network.register_forward_pre_hook(lambda module, args: None)
    x = images()
    before = output(network(x, seen, **conditioning))
    kept = copy.copy(vars(network))
    hooks = dict(network._forward_pre_hooks)
    config = dict(getattr(network, "config", {}))
    attachment = SpectralForcing(process).attach(network)
    attachment.detach()
    assert attached(network) is None
    assert dict(network._forward_pre_hooks) == hooks
    assert not network._forward_pre_hooks_with_kwargs
    assert vars(network).keys() == kept.keys()
    assert dict(getattr(network, "config", {})) == config
    assert torch.equal(output(network(x, seen, **conditioning)), before)
    with pytest.raises(ValueError, match=f"no forcing is on {type(network).__name__}"):
        attachment.detach()


def test_the_input_gradient_is_the_operator_of_the_gradient():
    network, x = Plain(), images().requires_grad_()
    spectral = SpectralForcing(PROCESS)
    upstream = images(1)
    (plain,) = torch.autograd.grad(network(x, TIMES), x, upstream)
    spectral.attach(network)
    (forced,) = torch.autograd.grad(network(x, TIMES), x, upstream)
    torch.testing.assert_close(forced, spectral(plain, TIMES))


@pytest.mark.parametrize(
    "time", [0.5, 1, torch.tensor(0.5), torch.tensor(1), torch.tensor([0.5]), torch.full((2, 1), 0.5)]
)
def test_times_of_every_kind(time):
    network, spectral, x = Plain(), SpectralForcing(PROCESS), images()
    expected = network(spectral(x, float(torch.as_tensor(time).flatten()[0])), 0.5) - 0.5
    time_added = torch.as_tensor(time).reshape(-1, 1, 1, 1)
    spectral.attach(network)
    torch.testing.assert_close(network(x, time) - time_added, expected, rtol=0, atol=1e-5)


def test_training_and_evaluation_alike():
    network, x = Plain(), images()
    SpectralForcing(PROCESS).attach(network)
    assert torch.equal(network.train()(x, TIMES), network.eval()(x, TIMES))


def test_the_module_equals_the_function():
    x = images()
    spectral = SpectralForcing(VP(), ConstantFront(0.3), kappa=9, window=(8, 4), exact=True)
    expected = forcing.spectral_low_pass(x, 0.3, kappa=9, window=(8, 4), exact=True)
    torch.testing.assert_close(spectral(x, 500), expected)
    assert not list(spectral.parameters())
    assert not spectral.state_dict()


# A preconditioned denoiser.


@pytest.mark.parametrize("process", [EDM(), VPPreconditioned(), VEPreconditioned()], ids=repr)
def test_inside_a_preconditioned_denoiser(process):
    denoiser = EDMDenoiser(edm_unet(), process)
    spectral = SpectralForcing(process)
    x, sigma = images(), torch.tensor([0.5, 5.0])
    scaled = process.scale_input(x, sigma)
    seen = process.model_time(sigma)
    expected = process.clean_estimate(x, denoiser.model(spectral(scaled, sigma), seen), sigma)
    attachment = spectral.attach(denoiser)
    assert attached(denoiser) is attached(denoiser.model) is spectral
    torch.testing.assert_close(attachment(x, sigma), expected, rtol=1e-4, atol=1e-4)
    detach(denoiser)
    assert attached(denoiser.model) is None


def test_a_denoiser_of_another_process_is_refused():
    with pytest.raises(ValueError, match=r"made for EDM\(.*would misread the times that EDMDenoiser's process, VPPre"):
        SpectralForcing(EDM()).attach(EDMDenoiser(edm_unet(), VPPreconditioned()))
    with pytest.raises(ValueError, match=r"made for Flow\(.*would misread the times"):
        SpectralForcing(PROCESS).attach(EDMDenoiser(edm_unet()))


# Plain callables.


def test_a_plain_callable():
    spectral, x = SpectralForcing(PROCESS), images()

    def function(image, timesteps, scale=1.0):
        return scale * image

    attachment = spectral.attach(function)
    assert torch.equal(attachment(x, TIMES, scale=2.0), 2 * spectral(x, TIMES))
    assert torch.equal(attachment.model(timesteps=TIMES, image=x), spectral(x, TIMES))
    assert attached(attachment.model) is attached(attachment) is spectral
    assert attached(function) is None
    forced = attachment.model
    attachment.detach()
    assert attachment.model is function
    assert torch.equal(forced(x, TIMES), x)


def test_a_callable_without_a_signature():
    attachment = SpectralForcing(PROCESS).attach(max, image=0, time=1)
    assert attachment.model.hook.arguments.image.position == 0


# Finding the arguments.


def network_of(forward):
    return type("Host", (nn.Module,), {"forward": forward})()


@pytest.mark.parametrize(
    ("forward", "options"),
    [
        (lambda self, x, sigma: (x, sigma), {}),
        (lambda self, picture, c_noise: (picture, c_noise), {}),
        (lambda self, t, x: (x, t), {}),
        (lambda self, *, sample, timestep: (sample, timestep), {}),
        (lambda self, mask, hidden_states, timestep: (hidden_states, timestep), {}),
        (lambda self, u, s: (u, s), {"time": "s"}),
        (lambda self, cond, y, s: (y, s), {"image": "y", "time": 2}),
        (lambda self, **inputs: (inputs["picture"], inputs["when"]), {"image": "picture", "time": "when"}),
        (lambda self, *inputs: (inputs[1], inputs[0]), {"image": 1, "time": 0}),
    ],
)
def test_arguments_by_name_position_or_telling(forward, options):
    network, spectral, x = network_of(forward), SpectralForcing(PROCESS), images()
    arguments = inspect.signature(network.forward).parameters.values()
    attachment = spectral.attach(network, **options)
    values = {"image": x, "time": TIMES}
    found = attached(network) and next(iter(network._forward_pre_hooks.values())).arguments
    given = {getattr(found, what).name: value for what, value in values.items()}
    if None in given or any(p.kind is p.VAR_POSITIONAL for p in arguments):
        result = attachment(*(values[what] for what in sorted(values, key=lambda w: getattr(found, w).position)))
    else:
        others = {p.name: None for p in arguments if p.kind is not p.VAR_KEYWORD}
        result = attachment(**(others | given))
    assert torch.equal(result[0], spectral(x, TIMES))
    assert torch.equal(result[1], TIMES)


@pytest.mark.parametrize(
    ("forward", "options", "message"),
    [
        (
            lambda self, x, y: x,
            {},
            r"cannot tell which argument of Host is its time: its parameters are \(x, y\); pass",
        ),
        (lambda self, t, y: y, {}, r"is its image: its parameters are \(t, y\); pass image=, time="),
        (lambda self, *a, **k: a, {}, r"image and time: its parameters are \(\*a, \*\*k\)"),
        (lambda self, x, t: x, {"time": "tt"}, r"Host has no parameter 'tt' .*its parameters are \(x, t\)"),
        (lambda self, x, t: x, {"time": "x"}, "image and time are the same argument of Host, 'x'"),
        (lambda self, x, t: x, {"time": 1.5}, "names or positions of parameters, got 1.5"),
        (lambda self, x, t: x, {"image": -1}, "names or positions of parameters, got -1"),
    ],
)
def test_arguments_that_are_not_found(forward, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        SpectralForcing(PROCESS).attach(network_of(forward), **options)


def test_a_registered_class():
    class Odd(nn.Module):
        def forward(self, first, second):
            return second

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = Odd()

        def forward(self, x, t):
            return x + self.inside(t, x)

    register_model(Odd, image="second", time=0)
    register_model(Outer, inner=lambda model: model.inside)
    spectral, network, x = SpectralForcing(PROCESS), type("Sub", (Outer,), {})(), images()
    spectral.attach(network)
    assert attached(network.inside) is spectral
    assert torch.equal(network(x, TIMES), x + spectral(x, TIMES))


# What goes on working.


def test_copies_are_forced_and_independent():
    network, x = Plain(), images()
    attachment = SpectralForcing(VP(), window=8).attach(network)
    expected = network(x, torch.tensor([10, 900]))
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network)), copy.deepcopy(attachment).model):
        assert attached(twin) is not attached(network)
        assert torch.equal(twin(x, torch.tensor([10, 900])), expected)
        detach(twin)
        assert attached(twin) is None
        assert attached(network) is not None
    attachment.detach()


def test_an_unpickled_hook_keeps_its_place(monkeypatch):
    network = Plain()
    SpectralForcing(PROCESS).attach(network)
    stored = pickle.dumps(network)
    monkeypatch.setattr(RemovableHandle, "next_id", 0)  # as in a fresh process, where hooks are counted from zero
    network = pickle.loads(stored)
    for _ in range(max(network._forward_pre_hooks) + 2):
        network.register_forward_pre_hook(lambda module, args: None)
    assert attached(network) is not None


def test_averages_of_the_weights():
    network, x = Plain(), images()
    spectral = SpectralForcing(PROCESS)
    spectral.attach(network)
    ours, theirs = WeightAverage(network, HalfLife(images=10)), AveragedModel(network)
    nn.init.normal_(network.layer.weight)
    ours.update(network, images_seen=0, batch_size=10)
    theirs.update_parameters(network)
    for average in (ours.module, theirs):
        assert attached(average) is not None
        forced = average(x, TIMES)
        detach(average)
        assert torch.equal(forced, average(spectral(x, TIMES), TIMES))


@pytest.fixture
def one_process(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    gc.collect()  # wrapped networks before their group
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("before", [True, False], ids=["attached before", "attached after"])
def test_distributed_data_parallel(one_process, before):
    network, x, spectral = Plain(), images(), SpectralForcing(PROCESS)
    expected = network(spectral(x, TIMES), TIMES)
    (expected_grad,) = torch.autograd.grad(expected.square().sum(), network.layer.weight)
    if before:
        spectral.attach(network)
    parallel = DistributedDataParallel(network)
    if not before:
        spectral.attach(parallel)
    assert attached(parallel) is attached(network) is spectral
    forced = parallel(x, t=TIMES)
    forced.square().sum().backward()
    assert torch.equal(forced, expected)
    torch.testing.assert_close(network.layer.weight.grad, expected_grad)
    detach(parallel)
    assert attached(network) is None


def grads(network, x, *times, call=None):
    network.zero_grad()
    result = output((call or network)(x, *times))
    result.square().sum().backward()
    return result.detach(), [p.grad.clone() for p in network.parameters() if p.grad is not None]


def test_gradient_checkpointing_of_diffusers():
    torch.manual_seed(0)
    network, x, t = unet().train(), images(), torch.tensor([10, 900])
    SpectralForcing(VP()).attach(network)
    expected = grads(network, x, t)
    network.enable_gradient_checkpointing()
    torch.testing.assert_close(grads(network, x, t), expected)


def test_gradient_checkpointing_of_a_whole_model():
    network, x = Plain(), images().requires_grad_()
    SpectralForcing(PROCESS).attach(network)
    expected = grads(network, x, TIMES)
    for reentrant in (True, False):
        got = grads(network, x, TIMES, call=lambda *a, r=reentrant: checkpoint(network, *a, use_reentrant=r))
        torch.testing.assert_close(got, expected)


@pytest.mark.filterwarnings("ignore:.*config attributes")
def test_diffusers_configurations_record_the_forcing(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    network, x, t = unet(), images(), torch.tensor([10, 900])
    spectral = SpectralForcing(VP(), ConstantFront(0.25), window=(8, 16))
    assert recorded(network) is None
    attachment = spectral.attach(network)
    assert recorded(network) == spectral.config
    expected = network(x, t).sample
    network.save_pretrained(tmp_path / "forced")
    loaded = diffusers.UNet2DModel.from_pretrained(tmp_path / "forced")
    assert attached(loaded) is None
    assert recorded(loaded) == spectral.config
    rebuilt = SpectralForcing.from_config(recorded(loaded), VP())
    again = rebuilt.attach(loaded)
    assert torch.equal(loaded(x, t).sample, expected)
    again.detach()
    assert recorded(loaded) == spectral.config, "what the checkpoint said is still so"
    attachment.detach()
    assert recorded(network) is None
    network.save_pretrained(tmp_path / "plain")
    assert "spectral_forcing" not in json.loads((tmp_path / "plain" / "config.json").read_text())


# Errors.


def test_attaching_twice():
    network = Plain()
    attachment = SpectralForcing(PROCESS).attach(network)
    for model in (network, attachment, AveragedModel(network), SpectralForcing(PROCESS).attach(lambda x, t: x).model):
        with pytest.raises(ValueError, match=r"has a forcing already.*passband.forcing.detach\(model\)"):
            SpectralForcing(PROCESS).attach(model)
    attachment.detach()
    SpectralForcing(PROCESS).attach(network)


@pytest.mark.parametrize("model", [Plain, 3, None, "model"])
def test_not_a_model(model):
    with pytest.raises(TypeError, match="model must be a network or a function"):
        SpectralForcing(PROCESS).attach(model)


def test_calls_without_image_or_time():
    network = type("Host", (nn.Module,), {"forward": lambda self, x=None, t=None: x})()
    SpectralForcing(PROCESS).attach(network)
    with pytest.raises(TypeError, match="the forcing on Host needs the time, as the argument 't', got None"):
        network(images())
    with pytest.raises(TypeError, match="expects the noisy image as the argument 'x', got NoneType"):
        network(t=TIMES)


def test_packed_tokens_are_refused_and_told_signals_are_not():
    forward = {"forward": lambda self, hidden_states, timestep: hidden_states}
    tokens, signals = (type(name, (nn.Module,), forward)() for name in ("Tokens", "Signals"))
    spectral, x = SpectralForcing(PROCESS), images().flatten(2)
    spectral.attach(tokens)
    with pytest.raises(ValueError, match=r"Tokens takes its hidden_states as a sequence.*before it is packed"):
        tokens(x, TIMES)
    assert torch.equal(tokens(images(), TIMES), spectral(images(), TIMES))
    spectral.attach(signals, image="hidden_states")
    assert torch.equal(signals(hidden_states=x, timestep=TIMES), spectral(x, TIMES))


def test_times_of_another_scale():
    network = Plain()
    SpectralForcing(PROCESS).attach(network)
    with pytest.raises(ValueError, match=r"t is outside the range of Flow.*time_scale=1000"):
        network(images(), torch.tensor([10, 900]))
    SpectralForcing(Flow(0, time_scale=1000.0)).attach(other := Plain())
    with pytest.raises(ValueError, match=r"cutoff must hold one value, or one per sample: got shape \(3,\)"):
        other(images(), torch.tensor([10, 900, 1]))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SpectralForcing("flow"), r"process must be a Process such as Flow\(data_at=1\), got str"),
        (lambda: SpectralForcing(PROCESS, "lineal"), r"unknown front: got 'lineal' \(did you mean 'linear'\?\)"),
        (
            lambda: SpectralForcing(PROCESS, "constant"),
            r"the front 'constant' needs arguments: pass ConstantFront\(...\)",
        ),
        (lambda: SpectralForcing(PROCESS, ConstantFront), "front must be one such as LinearFront"),
        (lambda: SpectralForcing(PROCESS, 0.5), "front must be one such as LinearFront"),
        (lambda: SpectralForcing(PROCESS, kappa=0), "kappa is the steepness of the edge, positive"),
        (lambda: SpectralForcing(PROCESS, window=-1), "positive sides, got -1"),
        (lambda: SpectralForcing(PROCESS, exact="yes"), "exact must be True or False, got 'yes'"),
        (
            lambda: SpectralForcing.from_config({"kapa": 3}, PROCESS),
            "holds 'kapa', which is not known; expected front, k",
        ),
        (lambda: SpectralForcing.from_config(None, PROCESS), "is a mapping, got None"),
        (lambda: register_model(Plain()), r"cls must be a class of models, got Plain\("),
        (lambda: register_model(Plain, inner="model"), "inner must be a function"),
        (lambda: detach(Plain()), "no forcing is on Plain"),
        (
            lambda: SpectralForcing(PROCESS, window=5)(torch.zeros(1, 1, 12), 0.5),
            "of 12, these do: 1, 2, 3, 4, 6, 12",
        ),
        (lambda: SpectralForcing(PROCESS, lambda tau: 40 * tau)(torch.zeros(1, 1, 4), 1.0), "not frequency indices"),
    ],
)
def test_bad_forcings(build, message):
    with pytest.raises((TypeError, ValueError), match=message):
        build()


# Configurations.


@pytest.mark.parametrize("options", [{}, {"kappa": 10, "window": 8, "exact": True}, {"window": (4, 8)}])
def test_configurations_rebuild_the_forcing(options):
    spectral = SpectralForcing(PROCESS, ConstantFront(0.4), **options)
    config = json.loads(json.dumps(spectral.config))
    assert config == spectral.config
    rebuilt = SpectralForcing.from_config(config, PROCESS)
    assert rebuilt.config == config
    x = images()
    assert torch.equal(rebuilt(x, TIMES), spectral(x, TIMES))


def half(tau):
    return 0.5 * tau


def test_a_function_as_front():
    spectral, x = SpectralForcing(PROCESS, half), images()
    assert torch.equal(spectral(x, TIMES), forcing.spectral_low_pass(x, 0.5 * TIMES))
    assert spectral.config["front"] == {"name": "custom", "function": "half"}
    with pytest.raises(ValueError, match=r"from_config\(config, process, front=...\)"):
        SpectralForcing.from_config(spectral.config, PROCESS)
    rebuilt = SpectralForcing.from_config(spectral.config, PROCESS, front=half)
    assert torch.equal(rebuilt(x, TIMES), spectral(x, TIMES))


class Learned(nn.Module):
    """A front with a parameter."""

    def __init__(self):
        super().__init__()
        self.level = nn.Parameter(torch.tensor(0.0))

    def forward(self, tau):
        return tau * self.level.sigmoid()


def test_a_learned_front():
    front, network = Learned(), Plain()
    attachment = SpectralForcing(PROCESS, front).attach(network)
    attachment(images(), TIMES).square().sum().backward()
    assert bool(front.level.grad.isfinite())
    assert front.level.grad != 0
    assert list(network.state_dict()) == ["layer.weight", "layer.bias"]


def test_a_scheduler_gives_the_process():
    diffusers = pytest.importorskip("diffusers")
    process = process_from_scheduler(diffusers.DDPMScheduler())
    network, x = unet(), images()
    attachment = SpectralForcing(process).attach(network)
    assert isinstance(attachment, Attachment)
    assert torch.equal(network(x, 500).sample, network(x, torch.tensor([500, 500])).sample)
