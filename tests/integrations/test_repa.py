"""REPA's loss object with the term, in stand-ins of its training step."""

import copy
import math

import pytest
import torch
from torch import nn

from passband import AmplitudeLoss, AmplitudePhaseLoss, Flow, SpectralRegularizer, WaveletLoss, dog
from passband.integrations.repa import dog_tokens, spectral_loss
from passband.regularization import DDIMEstimate


class SILoss:
    """The host's loss, in our own words: its constructor, its path, its draws and its one call of the model."""

    def __init__(
        self,
        prediction="v",
        path_type="linear",
        weighting="uniform",
        encoders=(),
        accelerator=None,
        latents_scale=None,
        latents_bias=None,
    ):
        self.prediction, self.path_type, self.weighting = prediction, path_type, weighting
        self.encoders, self.accelerator = encoders, accelerator
        self.latents_scale, self.latents_bias = latents_scale, latents_bias

    def interpolant(self, t):
        if self.path_type == "linear":
            return 1 - t, t, -1, 1
        angle, speed = t * math.pi / 2, math.pi / 2
        return angle.cos(), angle.sin(), -speed * angle.sin(), speed * angle.cos()

    def __call__(self, model, images, model_kwargs=None, zs=None):
        if self.weighting == "uniform":
            t = torch.rand((len(images), 1, 1, 1))
        else:
            ratio = torch.randn((len(images), 1, 1, 1)).exp()
            t = ratio / (1 + ratio) if self.path_type == "linear" else ratio.atan() * 2 / math.pi
        t = t.to(images)
        noise = torch.randn_like(images)
        alpha, sigma, alpha_slope, sigma_slope = self.interpolant(t)
        output, tokens = model(alpha * images + sigma * noise, t.flatten(), **(model_kwargs or {}))
        denoising = (output - alpha_slope * images - sigma_slope * noise).square().mean((1, 2, 3))
        pairs = list(zip(zs, tokens, strict=True))
        projection = sum(-nn.functional.cosine_similarity(z, z_tilde, dim=-1).mean() for z, z_tilde in pairs)
        return denoising, projection / len(pairs)


class Model(nn.Module):
    """A transformer that also returns the projected tokens of a block."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.conv, self.dtype, self.calls, self.seen = nn.Conv2d(4, 4, 3, padding=1), dtype, 0, None

    def forward(self, x, t, y):
        self.calls += 1
        with torch.autocast("cpu", self.dtype, enabled=self.dtype != torch.float32):
            output = self.conv(x) + y[:, None, None, None]
        output = output.float()  # as accelerate's prepared models return it
        tokens = nn.functional.avg_pool2d(output, 2).flatten(2).transpose(1, 2).repeat(1, 1, 2)
        self.seen = x, t, output
        return output, [tokens]


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.randn(3, 4, 8, 8), {"y": torch.randn(3)}, [torch.randn(3, 16, 8)]


def clean_estimate(path_type, x, t, output):
    """x0-hat written out: x - t v, and the rotation by t pi / 2."""
    t = t[:, None, None, None]
    if path_type == "linear":
        return x - t * output
    angle = t * math.pi / 2
    return angle.cos() * x - angle.sin() * output * 2 / math.pi


LOSSES = [AmplitudeLoss(), AmplitudePhaseLoss(), WaveletLoss("haar", 2)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
@pytest.mark.parametrize("path_type", ["linear", "cosine"])
@pytest.mark.parametrize("weighting", ["uniform", "lognormal"])
def test_denoising_loss_has_the_term_and_the_projection_is_the_hosts(batch, path_type, weighting, loss, dtype):
    images, kwargs, zs = batch
    model, results = Model(dtype), []
    for base in (SILoss, spectral_loss(SILoss, SpectralRegularizer(loss, weight=0.3))):
        torch.manual_seed(1)
        loss_fn = base(prediction="v", path_type=path_type, encoders=[None], accelerator=None, weighting=weighting)
        results.append((*loss_fn(model, images, kwargs, zs=zs), torch.get_rng_state()))
    (base, projection, state), (denoising, projection_after, state_after) = results
    term = loss(clean_estimate(path_type, *model.seen), images)
    torch.testing.assert_close(denoising, base + 0.3 * term, rtol=1e-5, atol=1e-5)
    assert torch.equal(projection, projection_after)
    assert torch.equal(state, state_after)
    assert model.calls == 2  # one by each of the two


@pytest.mark.parametrize("path_type", ["linear", "cosine"])
def test_the_base_loss_is_the_hosts_to_the_bit(batch, path_type):
    images, kwargs, zs = batch
    results = []
    for base in (SILoss, spectral_loss(SILoss, SpectralRegularizer(AmplitudeLoss(), weight=0.0))):
        torch.manual_seed(1)
        model = Model()  # of the same seed
        results.append(base(path_type=path_type)(model, images, kwargs, zs=zs)[0])
    assert torch.equal(*results)


def test_the_linear_path_is_flow_in_its_other_direction(batch):
    """Weight and gate as of the library's own process."""
    images, kwargs, zs = batch
    spectral, model = SpectralRegularizer(AmplitudeLoss(), weight="edm", gate=1.0), Model()
    spectral_loss(SILoss, spectral)()(model, images, kwargs, zs=zs)
    x, t, output = model.seen
    direct = SpectralRegularizer(AmplitudeLoss(), weight="edm", gate=1.0)
    direct(Flow(data_at=0), x, output, t, clean=images)
    torch.testing.assert_close(spectral.terms["total"], direct.terms["total"])


def test_gradient_share_is_that_of_the_denoising_loss(batch):
    images, kwargs, zs = batch
    gradients = []
    for base in (SILoss, spectral_loss(SILoss, SpectralRegularizer(AmplitudeLoss(), weight={"share": 0.2}))):
        torch.manual_seed(1)
        model = Model()
        denoising, _ = base()(model, images, kwargs, zs=zs)
        gradients.append(torch.autograd.grad(denoising.mean(), model.seen[2])[0])
    base, both = gradients
    torch.testing.assert_close((both - base).norm() / base.norm(), torch.tensor(0.2), rtol=1e-3, atol=0)


def test_targets_are_band_passed(batch):
    images, kwargs, zs = batch
    band = dog(zs[0].transpose(1, 2).reshape(3, 8, 4, 4), 0.05, 0.25)
    band = band.flatten(2).transpose(1, 2)
    results, model = [], Model()
    for base, targets in ((SILoss, [band]), (spectral_loss(SILoss, dog=(0.05, 0.25)), zs), (SILoss, zs)):
        torch.manual_seed(1)
        results.append(base()(model, images, kwargs, zs=targets))
    (denoising, by_hand), (denoising_after, projection), (_, unfiltered) = results
    assert torch.equal(denoising, denoising_after)
    torch.testing.assert_close(projection, by_hand)
    assert (projection - unfiltered).abs() > 1e-3


def test_targets_of_half_precision_are_filtered_in_float32(batch):
    tokens = batch[2][0].half()
    assert torch.equal(dog_tokens(tokens, 0.0, 0.2), dog_tokens(tokens.float(), 0.0, 0.2))


def test_it_is_a_subclass_with_the_hosts_constructor():
    made = spectral_loss(SILoss, SpectralRegularizer(AmplitudeLoss()))
    assert issubclass(made, SILoss)
    assert made.__name__ == "SpectralSILoss"
    assert made(path_type="cosine").path_type == "cosine"


def test_ddp_gives_the_gradient_of_the_plain_model(batch, group):
    images, kwargs, zs = batch
    loss_fn = spectral_loss(SILoss, SpectralRegularizer(AmplitudePhaseLoss(), weight=0.3))()
    model = Model()
    ddp = nn.parallel.DistributedDataParallel(copy.deepcopy(model))
    for network in (model, ddp):
        torch.manual_seed(1)
        denoising, projection = loss_fn(network, images, kwargs, zs=zs)
        (denoising.mean() + 0.5 * projection.mean()).backward()
    assert torch.equal(ddp.module.conv.weight.grad, model.conv.weight.grad)


@pytest.mark.bad_input  # the run-time shape checks do not compile
def test_a_compiled_step_gives_the_same_loss(batch):
    images, kwargs, zs = batch
    model, losses = Model(), []
    loss_fn = spectral_loss(SILoss, SpectralRegularizer(AmplitudeLoss(), weight=0.3))(path_type="cosine")
    for step in (loss_fn, torch.compile(loss_fn, backend="eager")):
        torch.manual_seed(1)
        losses.append(step(model, images, kwargs, zs=zs)[0])
    torch.testing.assert_close(*losses)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((SILoss(), None), TypeError, "must be REPA's class SILoss"),
        ((dict, None), TypeError, "must be REPA's class SILoss"),
        ((SILoss, SpectralRegularizer("amplitude", clean_estimate=DDIMEstimate(2))), ValueError, "calls it once"),
        ((SILoss, AmplitudeLoss()), TypeError, "must be a SpectralRegularizer"),
    ],
)
def test_bad_input_is_an_error(arguments, error, message):
    with pytest.raises(error, match=message):
        spectral_loss(*arguments)


@pytest.mark.bad_input
@pytest.mark.parametrize("sigmas", [(0.2, 0.1), (-0.1, 0.1)])
def test_bad_widths_are_an_error_where_the_class_is_made(sigmas):
    with pytest.raises(ValueError, match="0 <= sigma1 < sigma2"):
        spectral_loss(SILoss, dog=sigmas)


@pytest.mark.bad_input
def test_tokens_that_are_no_square_grid_are_an_error():
    with pytest.raises(ValueError, match="leave class and register tokens out"):
        dog_tokens(torch.randn(2, 17, 8), 0.0, 0.1)
