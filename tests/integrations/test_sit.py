"""SiT's transport with the term, in stand-ins of its training step."""

import copy
import enum
import math
import pickle

import pytest
import torch
from torch import nn

from passband import AmplitudeLoss, AmplitudePhaseLoss, Flow, SpectralRegularizer, WaveletLoss
from passband.integrations.sit import SpectralTransport
from passband.regularization import DDIMEstimate

ModelType = enum.Enum("ModelType", "NOISE SCORE VELOCITY")

# Stand-ins of the host, in our own words: paths as (value, slope) of the two coefficients, and the transport's loss.


class Linear:
    def compute_alpha_t(self, t):
        return t, 1

    def compute_sigma_t(self, t):
        return 1 - t, -1


class GVP:
    def compute_alpha_t(self, t):
        return (t * math.pi / 2).sin(), math.pi / 2 * (t * math.pi / 2).cos()

    def compute_sigma_t(self, t):
        return (t * math.pi / 2).cos(), -math.pi / 2 * (t * math.pi / 2).sin()


class VP:
    low, high = 0.1, 20.0

    def log_mean(self, t):
        return -((1 - t) ** 2) * (self.high - self.low) / 4 - (1 - t) * self.low / 2

    def slope(self, t):
        return (1 - t) * (self.high - self.low) / 2 + self.low / 2

    def compute_alpha_t(self, t):
        alpha = self.log_mean(t).exp()
        return alpha, alpha * self.slope(t)

    def compute_sigma_t(self, t):
        square = (2 * self.log_mean(t)).exp()
        sigma = (1 - square).sqrt()
        return sigma, -square * self.slope(t) / sigma


class Transport:
    def __init__(self, model_type, path_sampler, eps=1e-3):
        self.model_type, self.path_sampler, self.eps = model_type, path_sampler, eps

    def training_losses(self, model, x1, model_kwargs=None):
        noise = torch.randn_like(x1)
        t = torch.rand((len(x1),)) * (1 - 2 * self.eps) + self.eps
        wide = t.view(-1, 1, 1, 1)
        alpha, alpha_slope = self.path_sampler.compute_alpha_t(wide)
        sigma, sigma_slope = self.path_sampler.compute_sigma_t(wide)
        output = model(alpha * x1 + sigma * noise, t, **(model_kwargs or {}))
        error = {
            ModelType.VELOCITY: lambda: output - alpha_slope * x1 - sigma_slope * noise,
            ModelType.NOISE: lambda: output - noise,
            ModelType.SCORE: lambda: output * sigma + noise,
        }[self.model_type]()
        return {"pred": output, "loss": error.square().mean((1, 2, 3))}

    def prior_logp(self, z):
        return z.square().sum()

    def get_drift(self):
        return lambda x, t, model, **kwargs: model(x, t, **kwargs)


class Model(nn.Module):
    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.conv, self.dtype, self.calls, self.seen = nn.Conv2d(4, 4, 3, padding=1), dtype, 0, None

    def forward(self, x, t, y):
        self.calls += 1
        with torch.autocast("cpu", self.dtype, enabled=self.dtype != torch.float32):
            output = self.conv(x) + y[:, None, None, None].to(self.dtype)
        self.seen = x, t, output
        return output


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.randn(3, 4, 8, 8), {"y": torch.randn(3)}


def clean_estimate(transport, x, t, output):
    """x0-hat in float64, for each model type by its own formula."""
    x, t, output = x.double(), t.double()[:, None, None, None], output.double()
    alpha, alpha_slope = transport.path_sampler.compute_alpha_t(t)
    sigma, sigma_slope = transport.path_sampler.compute_sigma_t(t)
    if transport.model_type is ModelType.VELOCITY:
        return (sigma_slope * x - sigma * output) / (alpha * sigma_slope - sigma * alpha_slope)
    noise = output if transport.model_type is ModelType.NOISE else -sigma * output
    return (x - sigma * noise) / alpha


PATHS = [Linear(), GVP(), VP()]
LOSSES = [AmplitudeLoss(), AmplitudePhaseLoss(), WaveletLoss("haar", 2)]


def of_class(obj):
    return obj.name if hasattr(obj, "name") else type(obj).__name__


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("loss", LOSSES, ids=of_class)
@pytest.mark.parametrize("path", PATHS, ids=of_class)
@pytest.mark.parametrize("model_type", list(ModelType), ids=of_class)
def test_loss_is_the_hosts_plus_the_term(batch, model_type, path, loss, dtype):
    transport, model, results = Transport(model_type, path), Model(dtype), []
    for one in (transport, SpectralTransport(transport, SpectralRegularizer(loss, weight=0.3))):
        torch.manual_seed(1)
        results.append((one.training_losses(model, *batch), torch.get_rng_state()))
    (base, state), (terms, state_after) = results
    expected = 0.3 * loss(clean_estimate(transport, *model.seen), batch[0].double()).float()
    torch.testing.assert_close(terms["spectral"], expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(terms["loss"], base["loss"] + terms["spectral"])
    assert not terms["spectral"].requires_grad
    assert terms["pred"] is model.seen[2]
    assert torch.equal(state, state_after)
    assert model.calls == 2  # one by each of the two


@pytest.mark.parametrize("model_type", list(ModelType), ids=of_class)
def test_the_base_loss_is_the_hosts_to_the_bit(batch, model_type):
    transport, model, losses = Transport(model_type, GVP()), Model(), []
    for one in (transport, SpectralTransport(transport, SpectralRegularizer(AmplitudeLoss(), weight=0.0))):
        torch.manual_seed(1)
        losses.append(one.training_losses(model, *batch)["loss"])
    assert torch.equal(*losses)


def test_the_linear_path_is_flow(batch):
    """Weight and gate as of the library's own process."""
    spectral, model = SpectralRegularizer(AmplitudeLoss(), weight="edm", gate=2.0), Model()
    SpectralTransport(Transport(ModelType.VELOCITY, Linear()), spectral).training_losses(model, *batch)
    x, t, output = model.seen
    direct = SpectralRegularizer(AmplitudeLoss(), weight="edm", gate=2.0)
    direct(Flow(data_at=1), x, output, t, clean=batch[0])
    torch.testing.assert_close(spectral.terms["total"], direct.terms["total"])


@pytest.mark.parametrize("model_type", list(ModelType), ids=of_class)
def test_gradient_share_is_that_of_the_hosts_loss(batch, model_type):
    transport, model, gradients = Transport(model_type, GVP()), Model(), []
    for one in (transport, SpectralTransport(transport, SpectralRegularizer(AmplitudeLoss(), {"share": 0.2}))):
        torch.manual_seed(1)
        loss = one.training_losses(model, *batch)["loss"].mean()
        gradients.append(torch.autograd.grad(loss, model.seen[2])[0])
    base, both = gradients
    torch.testing.assert_close((both - base).norm() / base.norm(), torch.tensor(0.2), rtol=1e-3, atol=0)


def test_all_else_is_the_transports_own(batch):
    transport = Transport(ModelType.VELOCITY, Linear())
    wrapped = SpectralTransport(transport, SpectralRegularizer(AmplitudeLoss()))
    assert wrapped.path_sampler is transport.path_sampler
    assert wrapped.prior_logp(torch.ones(2)).item() == 2
    model, t = Model(), torch.zeros(3)
    assert torch.equal(wrapped.get_drift()(batch[0], t, model, **batch[1]), model(batch[0], t, **batch[1]))
    assert copy.copy(wrapped).eps == transport.eps
    with pytest.raises(AttributeError, match="no attribute 'missing'"):
        _ = wrapped.missing


def test_ddp_gives_the_gradient_of_the_plain_model(batch, group):
    transport = SpectralTransport(
        Transport(ModelType.VELOCITY, Linear()), SpectralRegularizer(AmplitudePhaseLoss(), weight=0.3)
    )
    model = Model()
    ddp = nn.parallel.DistributedDataParallel(copy.deepcopy(model))
    for network in (model, ddp):
        torch.manual_seed(1)
        transport.training_losses(network, *batch)["loss"].mean().backward()
    assert torch.equal(ddp.module.conv.weight.grad, model.conv.weight.grad)


@pytest.mark.bad_input  # the run-time shape checks do not compile
def test_a_compiled_step_gives_the_same_loss(batch):
    model, losses = Model(), []
    transport = SpectralTransport(Transport(ModelType.VELOCITY, GVP()), SpectralRegularizer(AmplitudeLoss(), 0.3))
    for step in (transport.training_losses, torch.compile(transport.training_losses, backend="eager")):
        torch.manual_seed(1)
        losses.append(step(model, *batch)["loss"])
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_has_a_path_of_its_own(copied):
    transport = SpectralTransport(Transport(ModelType.SCORE, GVP()), SpectralRegularizer("amplitude"))
    again, t = copied(transport), torch.tensor([0.25])
    again.transport.path_sampler = Linear()
    assert again.process.level(t) == (0.25, 0.75)
    assert transport.process.level(t) != again.process.level(t)


AGAIN = SpectralRegularizer("amplitude", clean_estimate=DDIMEstimate(2))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((object(), SpectralRegularizer(AmplitudeLoss())), TypeError, "no transport of SiT: it has no training_losses"),
        ((Transport(ModelType.NOISE, GVP()), AGAIN), ValueError, "calls it once"),
        ((Transport(ModelType.NOISE, GVP()), AmplitudeLoss()), TypeError, "must be a SpectralRegularizer"),
        (
            (Transport("DATA", GVP()), SpectralRegularizer(AmplitudeLoss())),
            ValueError,
            "unknown model type: got 'DATA'",
        ),
    ],
)
def test_bad_input_is_an_error(arguments, error, message):
    with pytest.raises(error, match=message):
        SpectralTransport(*arguments)
