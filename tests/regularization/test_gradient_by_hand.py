"""What every loss with a gradient of its own shares: `with_gradient`, and estimates that are made again."""

import pytest
import torch

from passband import EDM, VP, AmplitudeLoss, AmplitudePhaseLoss, Flow, SpectralRegularizer, WaveletLoss, backend
from passband.regularization import SpectralLoss
from passband.regularization._gradient import Gradient, with_gradient
from passband.regularization._held import remade


def cubes(x, y):
    return ((x - y) ** 3).flatten(1).mean(1)


class Cubes:
    """A loss with its gradient, which counts its calls."""

    def __init__(self):
        self.asked = []

    def __call__(self, x, y, wanted):
        self.asked.append(wanted)
        gradient = Gradient(3 * (x - y).square(), 1 / x[0].numel()) if wanted else None
        return cubes(x, y), gradient


@pytest.fixture
def pair():
    return torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True), torch.randn(3, 2, 4, dtype=torch.float64)


def kept(call):
    """The tensors that a graph keeps of a call."""
    found = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: found.append(x) or x, lambda x: x):
        call()
    return found


def test_first_and_second_derivatives(pair):
    x, y = pair
    assert torch.autograd.gradcheck(lambda x: with_gradient(cubes, Cubes(), x, y), (x,))
    assert torch.autograd.gradgradcheck(lambda x: with_gradient(cubes, Cubes(), x, y), (x,))


def test_the_gradient_by_hand_is_the_one_that_autograd_gets(pair):
    x, y = pair

    def wrong(x, y, wanted):
        return cubes(x, y), Gradient(torch.full_like(x, 7.0))

    (gradient,) = torch.autograd.grad(with_gradient(cubes, wrong, x, y).sum(), x)
    assert torch.equal(gradient, torch.full_like(x, 7.0))


def test_no_gradient_is_computed_unless_asked_for(pair):
    x, y = pair
    loss = Cubes()
    with_gradient(cubes, loss, x.detach(), y)
    with torch.no_grad():
        with_gradient(cubes, loss, x, y)
    assert loss.asked == [False, False]


def test_a_clean_sample_with_gradients_takes_the_formula(pair):
    x, y = pair
    loss = Cubes()
    assert torch.autograd.gradcheck(lambda y: with_gradient(cubes, loss, x, y), (y.requires_grad_(),))
    assert loss.asked == []


def test_transforms_take_the_formula(pair):
    x, y = pair
    loss = Cubes()
    gradient = torch.func.grad(lambda x: with_gradient(cubes, loss, x, y).sum())(x.detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(cubes(x, y).sum(), x)[0])
    per_sample = torch.func.vmap(lambda x, y: with_gradient(cubes, loss, x[None], y[None])[0])(x.detach(), y)
    torch.testing.assert_close(per_sample, cubes(x, y).detach())
    _, tangent = torch.func.jvp(lambda x: with_gradient(cubes, loss, x, y), (x.detach(),), (torch.ones_like(x),))
    torch.testing.assert_close(tangent, gradient.flatten(1).sum(1))
    assert loss.asked == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_what_is_kept_has_the_estimates_bytes(dtype):
    x, y = torch.randn(2, 3, 8, dtype=dtype, requires_grad=True), torch.randn(2, 3, 8, dtype=dtype)
    *inputs, gradient = kept(lambda: with_gradient(cubes, Cubes(), x, y))
    assert gradient.dtype == dtype
    assert gradient.nbytes == x.nbytes
    assert [tensor.data_ptr() for tensor in inputs] == [x.data_ptr(), y.data_ptr()]
    assert len(kept(lambda: with_gradient(cubes, Cubes(), x, y, piecewise_linear=True))) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_small_gradients_of_halves_do_not_underflow(dtype):
    x, y = torch.randn(1, 1, 2**22, dtype=dtype, requires_grad=True), torch.zeros(1, 1, 2**22, dtype=dtype)
    loss = Cubes()
    with_gradient(cubes, loss, x, y).mul(2.0**16).sum().backward()
    expected = 3 * x.detach().double().square() * 2.0**16 / 2**22
    torch.testing.assert_close(x.grad.double(), expected, rtol=0.02, atol=1e-6)


PROCESSES = [VP("epsilon"), VP("v_prediction"), EDM("edm"), Flow(data_at=1, prediction="velocity")]


@pytest.fixture
def batch():
    clean, noise = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    return clean, noise, torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)


def times(process):
    return torch.tensor([100, 700]) if isinstance(process, VP) else torch.tensor([0.3, 0.6], dtype=torch.float64)


@pytest.mark.parametrize("process", PROCESSES, ids=str)
@pytest.mark.parametrize("loss", [AmplitudeLoss(), AmplitudePhaseLoss(), WaveletLoss(levels=2)], ids=lambda x: x.name)
def test_a_regularizer_keeps_the_gradient_and_what_its_caller_holds(process, loss, batch):
    clean, noise, pred = batch
    t = times(process)
    noisy = process.add_noise(clean, noise, t)
    theirs = {x.data_ptr() for x in (clean, noisy, pred)}
    large = [
        x
        for x in kept(lambda: SpectralRegularizer(loss)(process, noisy, pred, t, clean=clean))
        if isinstance(x, torch.Tensor) and x.data_ptr() not in theirs
    ]
    assert sum(x.nbytes for x in large) <= 1.01 * pred.nbytes + 512


@pytest.mark.parametrize("process", PROCESSES, ids=str)
@pytest.mark.parametrize("by", ["noisy", "clean", "direct"])
def test_second_derivatives_of_a_regularizer(process, by, batch):
    clean, noise, pred = batch
    t = times(process)
    noisy, target = process.add_noise(clean, noise, t), process.target(clean, noise, t)
    spectral = SpectralRegularizer(AmplitudeLoss(), weight=1.0)

    def penalty():
        if by == "direct":
            value = spectral(process, noisy, pred, t, clean=clean)
        else:
            value = spectral.of_residual(process, pred, target, t, **{by: {"noisy": noisy, "clean": clean}[by]})
        (gradient,) = torch.autograd.grad(value, pred, create_graph=True)
        return torch.autograd.grad((gradient * torch.linspace(0, 1, 8)).sum(), pred)[0]

    ours = penalty()
    with backend("plain"):
        reference = penalty()
    assert reference.abs().max() > 0
    torch.testing.assert_close(ours, reference, rtol=1e-10, atol=1e-14)


def test_an_estimate_is_made_again_only_for_a_second_derivative(batch):
    clean, _, x = batch
    made = []
    estimate = 2 * x

    def make():
        made.append(1)
        return 2 * x

    with remade(estimate, make, x):
        value = with_gradient(cubes, Cubes(), estimate, clean).sum()
    torch.autograd.grad(value, x, retain_graph=True)
    assert made == []
    (gradient,) = torch.autograd.grad(value, x, create_graph=True)
    assert made == [1]
    (second,) = torch.autograd.grad(gradient.sum(), x)
    torch.testing.assert_close(second, 24 * (2 * x - clean).detach() / x[0].numel())


def test_inputs_may_change_before_a_first_derivative(pair):
    x, y = pair
    estimate, clean = 2 * x, y.clone()
    expected = torch.autograd.grad(cubes(2 * x, y).sum(), x)[0]
    value = with_gradient(cubes, Cubes(), estimate, clean).sum()
    clean.zero_()
    torch.testing.assert_close(torch.autograd.grad(value, x)[0], expected)


def test_samples_made_in_inference_mode(pair):
    x, _ = pair
    with torch.inference_mode():
        clean = torch.randn(3, 2, 4, dtype=torch.float64)
    copy = clean.clone()
    with backend("plain"):
        expected = with_gradient(cubes, Cubes(), x, copy)
    torch.testing.assert_close(with_gradient(cubes, Cubes(), x, clean), expected)
    assert torch.autograd.gradgradcheck(lambda x: with_gradient(cubes, Cubes(), x, clean), (x,))


def test_latents_made_in_inference_mode(batch):
    _, _, pred = batch
    with torch.inference_mode():
        clean, noisy = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    process, t = VP("epsilon"), torch.tensor([100, 700])
    for loss in (AmplitudeLoss(), WaveletLoss()):
        value = SpectralRegularizer(loss)(process, noisy.clone(), pred, t, clean=clean)
        assert torch.autograd.grad(value, pred)[0].abs().max() > 0


def test_a_penalty_on_the_gradient_of_a_loss_of_constant_slope_is_constant(pair):
    x, y = pair
    (gradient,) = torch.autograd.grad(WaveletLoss()(x, y).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), x)
    assert torch.equal(second, torch.zeros_like(x))


class InPlace(SpectralLoss):
    """A loss that overwrites the estimate, which belongs to it."""

    def forward(self, estimate, clean):
        return estimate.sub_(clean).square().flatten(1).mean(1)


def test_a_loss_of_ones_own_may_change_the_estimate(batch):
    clean, noise, pred = batch
    process, t = VP("epsilon"), torch.tensor([100, 700])
    noisy = process.add_noise(clean, noise, t)

    def gradient():
        return torch.autograd.grad(SpectralRegularizer(InPlace())(process, noisy, pred, t, clean=clean), pred)[0]

    with backend("plain"):
        expected = gradient()
    torch.testing.assert_close(gradient(), expected)


@pytest.mark.parametrize("changed", ["noisy", "t"])
def test_a_source_that_was_changed_in_place_is_an_error(changed, batch):
    clean, noise, pred = batch
    process, t = VP("epsilon"), torch.tensor([100, 700])
    noisy = process.add_noise(clean, noise, t)
    value = SpectralRegularizer(AmplitudeLoss())(process, noisy, pred, t, clean=clean)
    {"noisy": noisy, "t": t}[changed].fill_(1)
    with pytest.raises(RuntimeError, match="changed in place"):
        torch.autograd.grad(value, pred, create_graph=True)
