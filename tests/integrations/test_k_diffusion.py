"""The denoiser of k-diffusion with the term, in stand-ins of its training step."""

import copy
import functools
import pickle

import pytest
import torch
from torch import nn

from passband import EDM, AmplitudeLoss, AmplitudePhaseLoss, SpectralRegularizer, WaveletLoss
from passband.integrations.k_diffusion import with_term
from passband.regularization import DDIMEstimate

# Stand-ins of the host, in our own words: which call of the inner model its losses make, and what they compare.


def wide(x, ndim):
    return x.reshape(*x.shape, *(1,) * (ndim - x.ndim))


class Denoiser(nn.Module):
    def __init__(self, inner_model, sigma_data=1.0, weighting="karras", scales=1, noise_perturbation_factor=0.0):
        super().__init__()
        self.inner_model, self.sigma_data, self.scales = inner_model, sigma_data, scales
        self.perturbation = noise_perturbation_factor
        self.weighting = torch.ones_like if weighting == "karras" else self.soft

    def soft(self, sigma):
        return (sigma * self.sigma_data) ** 2 / (sigma**2 + self.sigma_data**2) ** 2

    def get_scalings(self, sigma):
        square = sigma**2 + self.sigma_data**2
        return self.sigma_data**2 / square, sigma * self.sigma_data / square.sqrt(), square.rsqrt()

    def inputs(self, images, noise, sigma):
        if self.perturbation:
            noise = noise + self.perturbation * torch.randn_like(noise)
        return images + noise * wide(sigma, images.ndim), [wide(c, images.ndim) for c in self.get_scalings(sigma)]

    def loss(self, images, noise, sigma, **kwargs):
        x, (c_skip, c_out, c_in) = self.inputs(images, noise, sigma)
        error = self.inner_model(x * c_in, sigma, **kwargs) - (images - c_skip * x) / c_out
        if self.scales > 1:  # the host weighs the error by frequency
            error = torch.fft.rfft2(error, norm="ortho").abs() * self.scales
        return error.square().flatten(1).mean(1) * self.weighting(sigma)

    def forward(self, images, sigma, **kwargs):
        c_skip, c_out, c_in = (wide(c, images.ndim) for c in self.get_scalings(sigma))
        return self.inner_model(images * c_in, sigma, **kwargs) * c_out + images * c_skip


class DenoiserWithVariance(Denoiser):
    def loss(self, images, noise, sigma, **kwargs):
        x, (c_skip, c_out, c_in) = self.inputs(images, noise, sigma)
        output, logvar = self.inner_model(x * c_in, sigma, return_variance=True, **kwargs)
        logvar = wide(logvar, output.ndim)
        return ((output - (images - c_skip * x) / c_out) ** 2 / logvar.exp() + logvar).flatten(1).mean(1) / 2


class SimpleLossDenoiser(Denoiser):
    def loss(self, images, noise, sigma, **kwargs):
        x, _ = self.inputs(images, noise, sigma)
        eps = (x - self(x, sigma, **kwargs)) / wide(sigma, images.ndim)
        return (eps - noise).square().flatten(1).mean(1)


class Inner(nn.Module):
    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.conv, self.dtype, self.calls = nn.Conv2d(3, 3, 3, padding=1), dtype, 0

    def forward(self, x, sigma, aug_cond=None, return_variance=False):
        self.calls += 1
        with torch.autocast("cpu", self.dtype, enabled=self.dtype != torch.float32):
            out = self.conv(x)
        out = out.float() + (0 if aug_cond is None else wide(aug_cond.mean(1), 4))
        return (out, sigma.log() / 4) if return_variance else out


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8), torch.tensor([0.05, 0.4, 1.5, 30.0])


KINDS = {
    "karras": functools.partial(Denoiser, sigma_data=0.5),
    "soft": functools.partial(Denoiser, sigma_data=0.5, weighting="soft-min-snr", scales=2),
    "variance": functools.partial(DenoiserWithVariance, sigma_data=0.7),
    "simple": functools.partial(SimpleLossDenoiser),
}
LOSSES = [AmplitudeLoss(), AmplitudePhaseLoss(), WaveletLoss("haar", 2)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
@pytest.mark.parametrize("kind", KINDS)
def test_loss_is_the_hosts_plus_the_term_on_the_denoised_sample(batch, kind, loss, dtype):
    images, noise, sigma = batch
    inner, aug = Inner(dtype), torch.randn(4, 9)
    plain = KINDS[kind](inner)
    model = with_term(KINDS[kind], SpectralRegularizer(loss, weight=0.3))(inner)
    losses = model.loss(images, noise, sigma, aug_cond=aug)
    assert inner.calls == 1
    base = plain.loss(images, noise, sigma, aug_cond=aug)
    denoised = plain(images + noise * wide(sigma, 4), sigma, aug_cond=aug)
    assert losses.shape == (4,)
    # At sigma = 30 the clean estimate is a difference of numbers of size 30.
    torch.testing.assert_close(losses, base + 0.3 * loss(denoised, images), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_base_loss_and_the_random_numbers_are_the_hosts_to_the_bit(batch, kind):
    inner, results = Inner(), []
    factory = functools.partial(KINDS[kind], noise_perturbation_factor=0.1)
    for make in (factory, with_term(factory, SpectralRegularizer(AmplitudeLoss(), weight=0.0))):
        torch.manual_seed(5)
        results += [make(inner).loss(*batch), torch.get_rng_state()]
    assert torch.equal(results[0], results[2])
    assert torch.equal(results[1], results[3])


def test_the_term_sees_the_noise_that_the_host_added(batch):
    images, noise, sigma = batch
    factory, inner = functools.partial(Denoiser, noise_perturbation_factor=0.5), Inner()
    model = with_term(factory, SpectralRegularizer(AmplitudeLoss(), weight=1.0))(inner)
    torch.manual_seed(5)
    model.loss(images, noise, sigma)
    torch.manual_seed(5)
    perturbed = noise + 0.5 * torch.randn_like(noise)
    denoised = factory(inner)(images + perturbed * wide(sigma, 4), sigma)
    torch.testing.assert_close(
        model.loss.regularizer.terms["total"], AmplitudeLoss()(denoised, images).mean(), rtol=2e-5, atol=2e-5
    )


def test_all_but_the_loss_is_the_hosts_own(batch):
    images, _, sigma = batch
    inner = Inner()
    plain, model = Denoiser(inner, 0.5), with_term(Denoiser, SpectralRegularizer(AmplitudeLoss()))(inner, 0.5)
    assert type(model) is Denoiser
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert [name for name, _ in model.named_modules()] == [name for name, _ in plain.named_modules()]
    assert torch.equal(model(images, sigma), plain(images, sigma))
    model.loss(*batch)
    assert model.inner_model is inner


@pytest.mark.bad_input
def test_the_inner_model_is_back_after_an_error(batch):
    inner = Inner()
    model = with_term(Denoiser, SpectralRegularizer(AmplitudeLoss()))(inner)
    with pytest.raises(TypeError, match="unexpected keyword"):
        model.loss(*batch, unknown=1)
    assert model.inner_model is inner


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_is_a_denoiser_of_its_own(batch, copied):
    """The host's averaged model is a copy in some versions."""
    model = with_term(Denoiser, SpectralRegularizer(AmplitudeLoss(), weight=0.3))(Inner())
    before = model.loss(*batch)
    other = copied(model)
    with torch.no_grad():
        other.inner_model.conv.weight.zero_()
    assert torch.equal(model.loss(*batch), before)
    assert not torch.equal(other.loss(*batch), before)
    assert other.inner_model.calls == 2


def test_weight_and_gate_follow_sigma(batch):
    images, noise, sigma = batch
    spectral = SpectralRegularizer(AmplitudeLoss(), weight="edm", gate=1.0)
    factory, inner = functools.partial(Denoiser, sigma_data=0.7), Inner()
    term = with_term(factory, spectral)(inner).loss(*batch) - factory(inner).loss(*batch)
    denoised = factory(inner)(images + noise * wide(sigma, 4), sigma)
    weight = EDM(sigma_data=0.7).edm_weight(sigma) * (sigma <= 1)
    torch.testing.assert_close(term, weight * AmplitudeLoss()(denoised, images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_share_is_that_of_the_hosts_loss(batch, kind):
    inner, gradients = Inner(), []
    for make in (KINDS[kind], with_term(KINDS[kind], SpectralRegularizer(AmplitudeLoss(), weight={"share": 0.2}))):
        outputs = []
        handle = inner.register_forward_hook(lambda *call, kept=outputs: kept.append(call[2]))
        loss = make(inner).loss(*batch).mean()
        handle.remove()
        output = outputs[0][0] if isinstance(outputs[0], tuple) else outputs[0]
        gradients.append(torch.autograd.grad(loss, output)[0])
    base, both = gradients
    torch.testing.assert_close((both - base).norm() / base.norm(), torch.tensor(0.2), rtol=1e-3, atol=0)


def test_a_wrapped_inner_model_and_accumulation_give_the_same_gradients(batch, group):
    """As the host has it: the inner model goes through DistributedDataParallel, and the denoiser around that."""
    spectral, inner = SpectralRegularizer(AmplitudePhaseLoss(), weight=0.3), Inner()
    ddp = nn.parallel.DistributedDataParallel(copy.deepcopy(inner))
    with_term(Denoiser, spectral)(inner).loss(*batch).mean().backward()
    model = with_term(Denoiser, spectral)(ddp)
    for index, part in enumerate(zip(*(x.chunk(2) for x in batch), strict=True)):
        if index == 0:
            with ddp.no_sync():
                model.loss(*part).mean().div(2).backward()
        else:
            model.loss(*part).mean().div(2).backward()
    torch.testing.assert_close(ddp.module.conv.weight.grad, inner.conv.weight.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.bad_input  # the run-time shape checks do not compile
def test_a_compiled_inner_model_and_a_compiled_loss_give_the_same_loss(batch):
    """The former is the host's --compile."""
    inner = Inner()
    model = with_term(Denoiser, SpectralRegularizer(AmplitudeLoss(), weight=0.3))(inner)
    eager = model.loss(*batch)
    torch.testing.assert_close(torch.compile(model.loss, backend="eager")(*batch), eager)
    inner.compile(backend="eager")
    torch.testing.assert_close(model.loss(*batch), eager)
    assert inner.calls == 3
    assert model.inner_model is inner


@pytest.mark.bad_input
def test_a_clean_estimate_of_several_calls_is_an_error():
    with pytest.raises(ValueError, match="the host's loss calls it once"):
        with_term(Denoiser, SpectralRegularizer("amplitude", clean_estimate=DDIMEstimate(2)))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda spectral: with_term(Denoiser, AmplitudeLoss()), "must be a SpectralRegularizer"),
        (lambda spectral: with_term(Denoiser(Inner()).state_dict(), spectral), "factory must make a denoiser"),
        (lambda spectral: with_term(Denoiser(Inner()), spectral), "factory must make .*, got a Denoiser$"),
        (lambda spectral: with_term(lambda inner: inner, spectral)(Inner()), "no denoiser of k-diffusion"),
        (lambda spectral: with_term(with_term(Denoiser, spectral), spectral)(Inner()), "has a term already"),
    ],
)
def test_bad_input_is_an_error(make, message):
    with pytest.raises(TypeError, match=message):
        make(SpectralRegularizer(AmplitudeLoss()))
