"""The loss for NVLabs' EDM and EDM2, in stand-ins of their training steps and files."""

import copy
import importlib
import io
import json
import pickle
import sys
import types

import pytest
import torch
from torch import nn

from passband import EDM, AmplitudeLoss, AmplitudePhaseLoss, SpectralRegularizer, WaveletLoss
from passband.integrations.checkpoints.plain_objects import Objects
from passband.integrations.checkpoints.plain_pickle import load_plain
from passband.integrations.edm import read_edm
from passband.integrations.nvlabs import EDM2Loss, EDMLoss

# Stand-ins of the hosts, in our own words: what they draw and in which order, and how they call the network.


class HostEDM:
    def __init__(self, P_mean=-1.2, P_std=1.2, sigma_data=0.5):
        self.P_mean, self.P_std, self.sigma_data = P_mean, P_std, sigma_data
        self._init_args, self._init_kwargs = (), {"P_mean": P_mean}  # as the host's persistence adds

    def levels(self, images):
        sigma = (self.P_mean + self.P_std * torch.randn([len(images), 1, 1, 1])).exp()
        return sigma, (sigma**2 + self.sigma_data**2) / (sigma * self.sigma_data) ** 2

    def __call__(self, net, images, labels=None, augment_pipe=None):
        sigma, weight = self.levels(images)
        clean, augment_labels = (images, None) if augment_pipe is None else augment_pipe(images)
        noise = sigma * torch.randn_like(clean)
        return weight * (net(clean + noise, sigma, labels, augment_labels=augment_labels) - clean) ** 2


class HostVP(HostEDM):
    def __init__(self, beta_d=19.9, beta_min=0.1, epsilon_t=1e-5):
        self.beta_d, self.beta_min, self.epsilon_t = beta_d, beta_min, epsilon_t

    def levels(self, images):
        t = 1 + (self.epsilon_t - 1) * torch.rand([len(images), 1, 1, 1])
        sigma = (torch.exp(self.beta_d * t**2 / 2 + self.beta_min * t) - 1).sqrt()
        return sigma, sigma**-2


class HostVE(HostEDM):
    def __init__(self, sigma_min=0.02, sigma_max=100):
        self.sigma_min, self.sigma_max = sigma_min, sigma_max

    def levels(self, images):
        sigma = self.sigma_min * (self.sigma_max / self.sigma_min) ** torch.rand([len(images), 1, 1, 1])
        return sigma, sigma**-2


class HostEDM2(HostEDM):
    def __init__(self, P_mean=-0.4, P_std=1.0, sigma_data=0.5):
        super().__init__(P_mean, P_std, sigma_data)

    def __call__(self, net, images, labels=None):
        sigma, weight = self.levels(images)
        noise = sigma * torch.randn_like(images)
        denoised, logvar = net(images + noise, sigma, labels, return_logvar=True)
        return weight / logvar.exp() * (denoised - images) ** 2 + logvar


class Precond(nn.Module):
    """A preconditioned network: an inner one of some precision, and a clean estimate in float32."""

    def __init__(self, dtype=torch.float32, sigma_data=0.5):
        super().__init__()
        self.inner, self.dtype, self.sigma_data = nn.Conv2d(3, 3, 3, padding=1), dtype, sigma_data
        self.uncertainty = nn.Parameter(torch.tensor(0.3))
        self.calls, self.seen = 0, None

    def forward(self, x, sigma, labels=None, return_logvar=False, augment_labels=None):
        self.calls += 1
        x, sigma = x.float(), sigma.float().reshape(-1, 1, 1, 1)
        norm = (sigma**2 + self.sigma_data**2).sqrt()
        raw = nn.functional.conv2d(
            (x / norm).to(self.dtype), self.inner.weight.to(self.dtype), self.inner.bias.to(self.dtype), padding=1
        )
        denoised = (self.sigma_data / norm) ** 2 * x + sigma * self.sigma_data / norm * raw.float()
        self.seen = x, sigma, denoised, augment_labels
        return (denoised, self.uncertainty * sigma.log()) if return_logvar else denoised


class Pipe:
    """An augmentation: flipped images that are brighter by a drawn amount, and the labels that say so."""

    def __init__(self):
        self.calls = 0

    def __call__(self, images):
        self.calls += 1
        amount = torch.rand(len(images), 1, 1, 1)
        return images.flip(3) + amount, amount.reshape(-1, 1)


HOSTS = {"EDMLoss": HostEDM, "VPLoss": HostVP, "VELoss": HostVE}


@pytest.fixture(autouse=True)
def host(monkeypatch):
    """The host's modules, as its training script has them loaded."""
    for name, content in {
        "training": {},
        "training.loss": HOSTS,
        "training.training_loop": {"EDM2Loss": HostEDM2},
        "torch_utils": {},
    }.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def images():
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)


def construct(class_name, **kwargs):
    """As the host builds a class by its dotted path."""
    module, _, name = class_name.rpartition(".")
    return getattr(importlib.import_module(module), name)(**kwargs)


def host_then_ours(host_loss, ours, **call):
    """Both losses from one seed, the host's first, the random state after each, and what the network saw."""
    results = []
    for loss_fn in (host_loss, ours):
        torch.manual_seed(7)
        results.append((loss_fn(**call), torch.get_rng_state()))
    (base, state), (loss, state_after) = results
    assert torch.equal(state, state_after)
    return base, loss


LOSSES = {
    "amplitude": AmplitudeLoss(),
    "amplitude_phase": AmplitudePhaseLoss(),
    "wavelet": WaveletLoss("haar", 2),
}


@pytest.mark.parametrize("augmented", [False, True])
@pytest.mark.parametrize("base_name", HOSTS)
@pytest.mark.parametrize("name", LOSSES)
def test_sum_over_elements_is_the_mean_base_loss_plus_the_weighted_term(images, name, base_name, augmented):
    net, pipe = Precond(), Pipe() if augmented else None
    description = {"name": "wavelet", "wavelet": "haar", "levels": 2} if name == "wavelet" else name
    loss_fn = construct(
        "passband.integrations.nvlabs.EDMLoss", loss=description, weight=0.3, base=f"training.loss.{base_name}"
    )
    base, loss = host_then_ours(HOSTS[base_name](), loss_fn, net=net, images=images, labels=None, augment_pipe=pipe)
    _, _, denoised, labels = net.seen
    clean = images.flip(3) + labels[:, :, None, None] if augmented else images
    term = LOSSES[name](denoised, clean)
    assert loss.shape == images.shape
    torch.testing.assert_close(loss.mean((1, 2, 3)), base.mean((1, 2, 3)) + 0.3 * term)
    torch.testing.assert_close(loss.sum() / images.numel(), base.mean() + 0.3 * term.mean())
    assert net.calls == 2  # one by each of the two losses
    assert not augmented or pipe.calls == 2


@pytest.mark.parametrize("base_name", HOSTS)
def test_the_base_loss_is_the_hosts_to_the_bit(images, base_name):
    loss_fn = EDMLoss(weight=0.0, base=f"training.loss.{base_name}")
    base, loss = host_then_ours(HOSTS[base_name](), loss_fn, net=Precond(), images=images, augment_pipe=Pipe())
    assert torch.equal(base, loss)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_network_of_half_precision_gives_the_term_of_its_own_estimate(images, dtype):
    net = Precond(dtype)
    base, loss = host_then_ours(HostEDM(), EDMLoss(weight=0.3), net=net, images=images)
    term = AmplitudePhaseLoss()(net.seen[2], images)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.mean((1, 2, 3)), base.mean((1, 2, 3)) + 0.3 * term)


@pytest.mark.parametrize(("base_name", "gate"), [("EDMLoss", 0.3), ("VPLoss", 5.0), ("VELoss", 5.0)])
def test_weight_and_gate_are_those_of_the_noise_level(images, base_name, gate):
    net = Precond()
    loss_fn = EDMLoss("amplitude", weight={"edm": 0.5}, gate=gate, base=f"training.loss.{base_name}")
    base, loss = host_then_ours(HOSTS[base_name](), loss_fn, net=net, images=images)
    noisy, sigma, denoised, _ = net.seen
    direct = SpectralRegularizer(AmplitudeLoss(), {"edm": 0.5}, gate)
    term = direct.per_sample(EDM("sample"), noisy, denoised, sigma.flatten(), clean=images)
    assert 0 < (term > 0).sum() < len(images)
    assert torch.equal(term > 0, sigma.flatten() <= gate)
    torch.testing.assert_close(loss.mean((1, 2, 3)), base.mean((1, 2, 3)) + term)


def test_options_of_the_base_loss_reach_it_and_its_sigma_data_the_weight(images):
    net = Precond(sigma_data=0.7)
    loss_fn = EDMLoss("amplitude", weight="edm", P_mean=0.4, P_std=0.1, sigma_data=0.7)
    base, loss = host_then_ours(HostEDM(0.4, 0.1, 0.7), loss_fn, net=net, images=images)
    _, sigma, denoised, _ = net.seen
    weight = (sigma**2 + 0.7**2) / (sigma * 0.7) ** 2
    torch.testing.assert_close((loss - base).mean((1, 2, 3)), weight.flatten() * AmplitudeLoss()(denoised, images))


def test_gradient_share_is_that_of_the_mean_base_loss(images):
    net, gradients = Precond(), []
    for loss_fn in (HostEDM(), EDMLoss("amplitude", weight={"share": 0.2})):
        torch.manual_seed(7)
        loss = loss_fn(net=net, images=images)
        gradients.append(torch.autograd.grad(loss.mean(), net.seen[2])[0])
    base, both = gradients
    torch.testing.assert_close((both - base).norm() / base.norm(), torch.tensor(0.2), rtol=1e-3, atol=0)


def test_edm2_adds_the_term_outside_of_the_uncertainty(images):
    net = Precond()
    loss_fn = construct("passband.integrations.nvlabs.EDM2Loss", weight=0.3, P_mean=-0.8, P_std=1.6)
    base, loss = host_then_ours(HostEDM2(-0.8, 1.6), loss_fn, net=net, images=images, labels=None)
    term = AmplitudePhaseLoss()(net.seen[2], images)
    torch.testing.assert_close(loss.sum() / images.numel(), base.mean() + 0.3 * term.mean())
    assert net.calls == 2


# Several processes: the host's wrapped network, its accumulation, and its report.


@pytest.mark.parametrize("make", [EDMLoss, EDM2Loss])
def test_ddp_and_accumulation_give_the_gradient_of_the_plain_network(images, make, group):
    net = Precond()
    ddp = nn.parallel.DistributedDataParallel(copy.deepcopy(net), find_unused_parameters=make is EDMLoss)
    for network in (net, ddp):
        torch.manual_seed(3)
        for index, part in enumerate(images.chunk(2)):
            loss = make(weight=0.3)(net=network, images=part, labels=torch.zeros(2, 0))
            if network is ddp and index == 0:
                with ddp.no_sync():
                    loss.sum().mul(1 / len(images)).backward()
            else:
                loss.sum().mul(1 / len(images)).backward()
    torch.testing.assert_close(ddp.module.inner.weight.grad, net.inner.weight.grad)


@pytest.mark.bad_input  # the run-time shape checks do not compile
def test_a_compiled_step_gives_the_same_loss(images):
    net, losses, loss_fn = Precond(), [], EDMLoss(weight=0.3)
    for step in (loss_fn, torch.compile(loss_fn, backend="eager")):
        torch.manual_seed(1)
        losses.append(step(net=net, images=images))
    torch.testing.assert_close(*losses)


def test_terms_are_reported_as_tensors_where_the_host_collects_them(images, monkeypatch):
    reported = {}
    module = types.ModuleType("torch_utils.training_stats")
    module.report = reported.__setitem__
    EDMLoss()(net=Precond(), images=images)
    assert reported == {}
    monkeypatch.setitem(sys.modules, "torch_utils.training_stats", module)
    EDMLoss(report=False)(net=Precond(), images=images)
    assert reported == {}
    loss_fn = EDMLoss(weight=0.25)
    loss_fn(net=Precond(), images=images)
    assert set(reported) == {"Loss/spectral/amplitude_phase", "Loss/spectral/total"}
    assert all(isinstance(value, torch.Tensor) for value in reported.values())
    torch.testing.assert_close(
        reported["Loss/spectral/total"], 0.25 * reported["Loss/spectral/amplitude_phase"], rtol=1e-5, atol=0
    )
    assert loss_fn.logged()["spectral/total"] == pytest.approx(reported["Loss/spectral/total"].item())


def test_terms_are_reported_to_a_function_of_ones_own(images):
    reported = {}
    sys.modules["training.loss"].report = reported.__setitem__
    EDMLoss(report="training.loss.report")(net=Precond(), images=images)
    assert "Loss/spectral/total" in reported


# Files.


class HostCheckpoint:
    """As EDM2 saves and loads the objects of its run: by what each of them offers."""

    def __init__(self, **objects):
        self.objects = objects

    def save(self, stream):
        torch.save({name: obj.__getstate__() for name, obj in self.objects.items()}, stream)

    def load(self, stream, weights_only):
        data = torch.load(stream, map_location="cpu", weights_only=weights_only)
        for name, obj in self.objects.items():
            if hasattr(obj, "__setstate__"):
                obj.__setstate__(data[name])
            else:
                vars(obj).clear()
                vars(obj).update(data[name])


def saved(loss_fn):
    stream = io.BytesIO()
    HostCheckpoint(loss_fn=loss_fn).save(stream)
    stream.seek(0)
    return stream


def same(a, b, images, net=None):
    """Whether two losses give the same numbers from one seed."""
    net, values = net or Precond(), []
    for loss_fn in (a, b):
        torch.manual_seed(0)
        values.append(loss_fn(net=net, images=images))
    return torch.equal(*values)


OPTIONS = {
    "loss": [{"name": "wavelet", "wavelet": "haar", "levels": 2, "scale": 0.5}, {"name": "amplitude"}],
    "weight": {"edm": 0.2},
    "gate": {"max_ratio": 3.0, "softness": 0.5},
    "P_mean": -0.7,
}


@pytest.mark.parametrize("make", [EDMLoss, EDM2Loss])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_and_pickles_are_the_same_loss_and_hold_no_tensor(images, make, copied):
    loss_fn = make(**OPTIONS)
    loss_fn(net=Precond(), images=images)  # its terms are tensors now, and no part of the state
    other = copied(loss_fn)
    assert same(loss_fn, other, images)
    assert other.logged().keys() == loss_fn.logged().keys()
    assert b"torch" not in pickle.dumps(loss_fn)
    assert json.loads(json.dumps(loss_fn.__getstate__()["passband"])) == loss_fn.__getstate__()["passband"]


def test_it_is_no_module_so_that_the_hosts_check_of_ranks_passes_it_by():
    assert not isinstance(EDMLoss(), nn.Module)
    assert not hasattr(EDM2Loss(), "state_dict")


@pytest.mark.parametrize("weights_only", [False, True])
@pytest.mark.parametrize("make", [EDMLoss, EDM2Loss])
def test_a_checkpoint_restores_the_options_of_its_run(images, make, weights_only):
    first, second = make(**OPTIONS), make("amplitude", weight=7.0)
    first(net=Precond(), images=images)
    assert not same(first, second, images)
    HostCheckpoint(loss_fn=second).load(saved(first), weights_only)
    assert same(first, second, images)
    assert second.base.P_mean == -0.7


def test_a_run_without_the_term_continues_with_it(images):
    loss_fn = EDM2Loss(weight=0.3)
    HostCheckpoint(loss_fn=loss_fn).load(saved(HostEDM2(P_mean=0.9)), weights_only=True)
    assert loss_fn.base.P_mean == 0.9
    assert same(loss_fn, EDM2Loss(weight=0.3, P_mean=0.9), images)


def test_a_run_with_the_term_continues_without_it(images):
    host = HostEDM2()
    HostCheckpoint(loss_fn=host).load(saved(EDM2Loss(weight=0.3, P_mean=0.9)), weights_only=True)
    assert same(host, HostEDM2(P_mean=0.9), images)


def test_a_snapshot_opens_and_passband_imports_its_network(tmp_path, pickles, network):
    loss_fn = EDMLoss(**OPTIONS)
    whole = pickle.loads(pickle.dumps({"ema": None, "loss_fn": loss_fn, "augment_pipe": None, "dataset_kwargs": {}}))
    assert repr(whole["loss_fn"]) == repr(loss_fn)
    ours = pickles.new(pickles.name("passband.integrations.nvlabs", "EDMLoss"), loss_fn.__getstate__())
    path = tmp_path / "network-snapshot-000000.pkl"
    path.write_bytes(pickles.dumps({"ema": pickles.checkpoint(network), "loss_fn": ours, "dataset_kwargs": {}}))
    assert read_edm(path).key == "ema"
    written = pickle.dumps({"loss_fn": loss_fn})  # as the host writes it
    read = load_plain(io.BytesIO(written), Objects(len(written)).names())
    assert read["loss_fn"].state == loss_fn.__getstate__()


def test_a_pickle_opens_without_the_host(monkeypatch):
    text = pickle.dumps(EDMLoss(P_mean=-0.7))
    for name in ("training", "training.loss"):
        monkeypatch.delitem(sys.modules, name)
    assert "P_mean" in repr(pickle.loads(text))


# Bad input.


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"base": "nowhere.loss.EDMLoss"}, ImportError, "run this from the host's folder"),
        ({"base": "training.loss.Missing"}, ValueError, "training.loss has no 'Missing'"),
        ({"base": "EDMLoss"}, ValueError, "expected a dotted path"),
        ({"base": 3}, TypeError, "base must be the host's loss"),
        ({"base": "passband.integrations.nvlabs.EDMLoss"}, ValueError, "base must be the host's own loss"),
        ({"base": HostEDM(), "P_mean": 1.0}, TypeError, "is an object already"),
        ({"loss": "amplitud"}, ValueError, "did you mean 'amplitude'"),
        ({"loss": AmplitudeLoss()}, TypeError, "must be a plain value"),
        ({"weight": torch.tensor(1.0)}, TypeError, r"options\['weight'\] must be a plain value"),
        ({"weight": "emd"}, ValueError, "weight"),
        ({"gate": -1.0}, ValueError, "must be positive"),
    ],
)
def test_bad_options_are_errors_where_the_loss_is_built(options, error, message):
    with pytest.raises(error, match=message):
        EDMLoss(**options)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("base", "message"),
    [
        (lambda net, images, labels, augment_pipe: net(images, torch.ones(4)).mean(), "loss that is not reduced"),
        (lambda net, images, labels, augment_pipe: images, "must call the network once"),
    ],
)
def test_a_base_of_another_kind_is_an_error(images, base, message):
    with pytest.raises(TypeError, match=message):
        EDMLoss(base=base)(net=Precond(), images=images)


@pytest.mark.bad_input
def test_a_state_of_something_else_is_an_error():
    with pytest.raises(ValueError, match="no state of a EDMLoss"):
        EDMLoss.__new__(EDMLoss).__setstate__({"P_mean": 1.0})
