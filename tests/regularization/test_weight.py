"""Weights of the spectral term, called as the regularizer calls them."""

import copy
import math
import pickle

import pytest
import torch
from torch import Tensor

from passband.process import EDM, VP, Flow, RescaledVP
from passband.regularization import (
    AmplitudePhaseLoss,
    ConstantWeight,
    EDMWeight,
    GradientShare,
    NoiseRatioGate,
    SpectralRegularizer,
    WaveletLoss,
    Weight,
)


def call(weight: Weight, values: Tensor, t=0.5, process=None, pred=None, base_loss=None) -> Tensor:
    process = process or Flow(data_at=1)
    return weight(values, process=process, t=t, pred=values if pred is None else pred, base_loss=base_loss)


def test_constant():
    values = torch.tensor([1.0, 2.0])
    assert call(ConstantWeight(0.5), values).tolist() == [0.5, 1.0]
    assert call(ConstantWeight(0), values).tolist() == [0, 0]


# EDM's weight.


@pytest.mark.parametrize("sigma_data", [0.5, 1.0])
@pytest.mark.parametrize(
    ("make", "times"),
    [
        (lambda s: EDM(sigma_data=s), [0.002, 0.5, 80.0]),
        (lambda s: EDM(sigma_data=s, time="c_noise"), [-1.0, 0.0, 1.0]),
        (lambda s: VP(sigma_data=s), [0.0, 500.0, 999.0]),
        (lambda s: RescaledVP(sigma_data=s), [0.0, 500.0, 999.0]),
        (lambda s: Flow(1, sigma_data=s), [0.1, 0.5, 0.9]),
        (lambda s: Flow(0, sigma_data=s, time_scale=1000.0), [100.0, 500.0, 900.0]),
    ],
    ids=["edm", "edm-c_noise", "vp", "rescaled-vp", "flow-1", "flow-0"],
)
def test_edm_weight_is_the_closed_form_of_the_noise_ratio(make, times, sigma_data):
    process = make(sigma_data)
    t = torch.tensor(times, dtype=torch.float64)
    alpha, sigma = process.level(t)
    r = (sigma / alpha).tolist()
    expected = [3 * v * (x**2 + sigma_data**2) / (x * sigma_data) ** 2 for v, x in zip([1, 2, 3], r, strict=True)]
    values = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    assert call(EDMWeight(3.0), values, t, process).tolist() == pytest.approx(expected, rel=1e-9)


def test_edm_weight_takes_times_of_any_shape_and_keeps_the_dtype():
    values = torch.tensor([1.0, 2.0])
    t = torch.tensor([0.5, 2.0], dtype=torch.float64)
    expected = [1 / 0.25 + 1 / 0.25, 2 * (1 / 0.25 + 1 / 4)]
    for times in (t, t.reshape(2, 1, 1, 1)):
        result = call(EDMWeight(), values, times, EDM())
        assert result.dtype == torch.float32
        assert result.tolist() == pytest.approx(expected)
    assert call(EDMWeight(), values, 0.5, EDM()).tolist() == pytest.approx([8.0, 16.0])


def test_edm_weight_at_infinite_noise_is_its_limit():
    assert call(EDMWeight(), torch.ones(1), 0.0, Flow(data_at=1)).tolist() == [4.0]


@pytest.mark.parametrize("prediction", ["velocity", "epsilon"])
def test_edm_weight_leaves_out_samples_without_noise(prediction):
    # A flow draws t = 0 now and then: the clean estimate is exact there, and the weight infinite.
    process, spectral = Flow(data_at=0, prediction=prediction), SpectralRegularizer(AmplitudePhaseLoss("energy"), "edm")
    generator = torch.Generator().manual_seed(0)
    clean, noise, pred = (torch.randn(2, 1, 4, 4, generator=generator) for _ in range(3))
    t = torch.tensor([0.0, 0.5])
    pred.requires_grad_()
    values = spectral.per_sample(process, process.add_noise(clean, noise, t), pred, t, clean=clean)
    values.mean().backward()
    assert values[0].item() == 0
    assert values[1].item() > 0
    assert pred.grad.isfinite().all()


# The share of the base loss's gradient.


def training_step(process, loss, weight, gate=None, seed=0, dtype=torch.float64):
    """Returns the base loss, the spectral term and the prediction of one step."""
    generator = torch.Generator().manual_seed(seed)
    clean, noise, error = (
        torch.randn(3, 2, 8, 8, generator=generator, dtype=torch.float64).to(dtype) for _ in range(3)
    )
    t = process.time_at(torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)).to(dtype)
    noisy, target = process.add_noise(clean, noise, t), process.target(clean, noise, t)
    pred = (target + 0.3 * error).requires_grad_()
    base = (pred - target).square().mean()
    return base, SpectralRegularizer(loss, weight, gate)(process, noisy, pred, t, clean=clean, base_loss=base), pred


def norm_of_gradient(value: Tensor, pred: Tensor) -> float:
    return torch.autograd.grad(value, pred, retain_graph=True)[0].double().norm().item()


@pytest.mark.parametrize("share", [0.01, 0.5, 3.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gate", [None, 1.5, NoiseRatioGate(1.0, 0.5)], ids=["ungated", "hard", "soft"])
@pytest.mark.parametrize("process", [VP(), EDM(), Flow(0, "sample")], ids=["vp", "edm", "flow"])
def test_the_term_takes_the_stated_share_of_the_gradient(process, gate, dtype, share):
    loss = AmplitudePhaseLoss() + 0.2 * WaveletLoss()
    base, term, pred = training_step(process, loss, GradientShare(share), gate, dtype=dtype)
    assert term.dtype == dtype
    assert norm_of_gradient(term, pred) / norm_of_gradient(base, pred) == pytest.approx(share, rel=1e-4)


def test_the_share_scales_the_term_and_does_not_turn_it():
    plain = training_step(VP(), AmplitudePhaseLoss(), 1.0)
    shared = training_step(VP(), AmplitudePhaseLoss(), GradientShare(0.1))
    gradients = [torch.autograd.grad(term, pred)[0] for _, term, pred in (plain, shared)]
    ratio = gradients[1] / gradients[0]
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-9, atol=0)
    assert (shared[1] / plain[1]).item() == pytest.approx(ratio.mean().item(), rel=1e-9)


def test_the_share_does_not_depend_on_the_loss_s_own_weight():
    _, small, _ = training_step(VP(), 1e-3 * AmplitudePhaseLoss(), GradientShare(0.1))
    _, large, _ = training_step(VP(), 1e3 * AmplitudePhaseLoss(), GradientShare(0.1))
    torch.testing.assert_close(small, large, rtol=1e-10, atol=0)


def test_backward_still_works_after_the_share_was_measured():
    base, term, pred = training_step(VP(), AmplitudePhaseLoss(), GradientShare(0.1))
    (base + term).backward()
    assert pred.grad.isfinite().all()


def test_a_term_without_a_gradient_is_switched_off():
    _, term, pred = training_step(VP(), AmplitudePhaseLoss(), GradientShare(0.1), gate=1e-3)  # all three gated away
    (grad,) = torch.autograd.grad(term, pred)
    assert term.item() == 0
    assert grad.abs().max() == 0


def test_a_base_loss_at_its_minimum_gives_weight_zero():
    pred = torch.ones(2, requires_grad=True)
    values = call(GradientShare(0.1), pred * 3, pred=pred, base_loss=(pred - 1).square().mean())
    assert values.tolist() == [0, 0]


def test_without_a_gradient_the_weight_is_the_share():
    # In evaluation there is nothing to compare.
    values = torch.tensor([1.0, 2.0])
    assert call(GradientShare(0.5), values, base_loss=torch.tensor(1.0)).tolist() == [0.5, 1.0]


def test_a_gradient_that_is_not_finite_is_not_hidden():
    pred = torch.tensor([1.0, 2.0], requires_grad=True)
    assert call(GradientShare(0.5), pred * math.nan, pred=pred, base_loss=pred.square().mean()).isnan().all()
    assert call(GradientShare(0.5), pred * 1.0, pred=pred, base_loss=(pred * math.nan).mean()).isnan().all()


def test_half_precision_predictions_do_not_overflow_the_norm():
    pred = torch.full((4,), 3e4, dtype=torch.float16, requires_grad=True)
    values = pred.float() * 2
    result = call(GradientShare(0.5), values, pred=pred, base_loss=(pred.float() * 3e4).sum())
    # Gradients 3e4 and 2 / 4 per entry; the norm of four of 3e4 is the largest float16.
    assert (result / values).tolist() == pytest.approx([0.5 * 3e4 / 0.5] * 4, rel=1e-3)


def test_gradients_of_means_over_many_half_precision_elements_do_not_underflow():
    found = []
    exact = torch.randn(2, 2**21, generator=torch.Generator().manual_seed(0))
    for dtype in (torch.float32, torch.float16):
        pred = (0.01 * exact).to(dtype).requires_grad_()  # per element the gradient of the mean is 5e-9
        values = pred.float().abs().mean(1)
        found.append(call(GradientShare(0.1), values, pred=pred, base_loss=pred.float().square().mean()))
    torch.testing.assert_close(found[1], found[0], rtol=5e-3, atol=0)


def test_no_value_is_looked_at():
    pred = torch.ones(2, device="meta", requires_grad=True)
    result = call(GradientShare(0.5), pred * 2, pred=pred, base_loss=pred.square().mean())
    assert result.device.type == "meta"
    t = torch.ones(2, device="meta")
    assert call(EDMWeight(), pred * 2, t, EDM()).device.type == "meta"


def test_gradient_share_errors():
    pred = torch.ones(2, requires_grad=True)
    other = torch.ones(2, requires_grad=True)
    share, values = GradientShare(0.1), pred * 2
    with pytest.raises(ValueError, match="needs the base loss: call the regularizer with base_loss=loss"):
        call(share, values, pred=pred)
    with pytest.raises(ValueError, match=r"base_loss must be a scalar, got shape \(2,\); reduce it with .mean\(\)"):
        call(share, values, pred=pred, base_loss=pred.square())
    with pytest.raises(ValueError, match="base_loss does not depend on pred"):
        call(share, values, pred=pred, base_loss=pred.square().mean().detach())
    with pytest.raises(ValueError, match="base_loss does not depend on pred"):
        call(share, values, pred=pred, base_loss=other.square().mean())
    with pytest.raises(ValueError, match="spectral term does not depend on pred"):
        call(share, other * 2, pred=pred, base_loss=pred.square().mean())


def test_values_out_of_range():
    for value in (-0.1, math.nan, math.inf):
        for make in (ConstantWeight, EDMWeight):
            with pytest.raises(ValueError, match="weight must be a finite number of at least 0, got"):
                make(value)
    for share in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="share must be positive and finite, got"):
            GradientShare(share)


def test_copies_and_text():
    for weight, text in [
        (ConstantWeight(0.5), "ConstantWeight(0.5)"),
        (EDMWeight(), "EDMWeight(1.0)"),
        (GradientShare(0.1), "GradientShare(0.1)"),
    ]:
        assert isinstance(weight, Weight)
        assert repr(weight) == repr(copy.deepcopy(weight)) == repr(pickle.loads(pickle.dumps(weight))) == text
