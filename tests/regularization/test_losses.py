"""What all losses promise, sums of them, and the pixel control."""

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from passband.regularization import (
    AmplitudeLoss,
    AmplitudePhaseLoss,
    FocalFrequencyLoss,
    PixelLoss,
    SpectralLoss,
    WaveletLoss,
    WeightedSum,
    pixel_loss,
)

LOSSES = {
    "amplitude": AmplitudeLoss(),
    "frequency": AmplitudePhaseLoss("frequency"),
    "energy": AmplitudePhaseLoss("energy"),
    "norm": AmplitudePhaseLoss("norm"),
    "haar": WaveletLoss(),
    "bior1.3": WaveletLoss("bior1.3", levels=1, mode="periodization"),
    "stationary": WaveletLoss("db2", levels=1, stationary=True),
    "focal": FocalFrequencyLoss(),
    "focal-0.5": FocalFrequencyLoss(0.5),
    "pixel": PixelLoss(),
    "sum": AmplitudePhaseLoss("energy") + 0.3 * WaveletLoss() + 2 * FocalFrequencyLoss(),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def pair(size: tuple[int, ...] = (10, 12), dtype: torch.dtype = torch.float64, seed: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    estimate, clean = (torch.randn(2, 2, *size, generator=generator, dtype=torch.float64) for _ in range(2))
    return estimate.to(dtype), clean.to(dtype)


def gradient(loss: SpectralLoss, estimate: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
    estimate = estimate.clone().requires_grad_()
    value = loss(estimate, clean)
    (grad,) = torch.autograd.grad(value.sum(), estimate)
    return value.detach(), grad


# Gradients.


# The focal weights are constant in the gradient, which is no gradient of the value then: see test_focal.
DIFFERENTIABLE = {name: loss for name, loss in LOSSES.items() if name not in ("focal", "focal-0.5", "sum")} | {
    "focal-0": FocalFrequencyLoss(0.0),
    "sum": AmplitudePhaseLoss("energy") + 0.3 * WaveletLoss() + 2 * FocalFrequencyLoss(0.0),
}


@pytest.mark.parametrize("loss", DIFFERENTIABLE.values(), ids=DIFFERENTIABLE.keys())
@pytest.mark.parametrize("size", [(11,), (10, 12)], ids=str)
def test_gradcheck(loss, size):
    if isinstance(loss, WaveletLoss) and loss.stationary:
        size = tuple(n + n % 2 for n in size)
    estimate, clean = pair(size)
    estimate.requires_grad_()
    clean.requires_grad_()
    assert torch.autograd.gradcheck(loss, (estimate, clean), eps=1e-7, atol=1e-6, fast_mode=True)


@pytest.mark.parametrize("loss", [AmplitudePhaseLoss("norm"), WaveletLoss()], ids=["norm", "haar"])
def test_gradcheck_of_volumes(loss):
    estimate, clean = pair((3, 2, 4))
    assert torch.autograd.gradcheck(loss, (estimate.requires_grad_(), clean), eps=1e-7, atol=1e-6)


@every_loss
def test_the_clean_sample_has_a_gradient_too(loss):
    # Alignment of two networks may train both sides.
    estimate, clean = pair()
    estimate.requires_grad_()
    clean.requires_grad_()
    for grad in torch.autograd.grad(loss(estimate, clean).sum(), [estimate, clean]):
        assert grad.isfinite().all()
        assert grad.abs().max() > 0


def _edge_cases() -> dict[str, tuple[Tensor, Tensor]]:
    estimate, clean = pair(dtype=torch.float32)
    flat, silent = torch.full_like(clean, 0.3), torch.zeros_like(clean)
    return {
        "pred-zero": (silent, clean),
        "pred-equals-target": (clean, clean),
        "opposite": (-clean, clean),
        "both-constant": (flat, 2 * flat),
        "constant-equal": (flat, flat),
        "pred-constant": (flat, clean),
        "target-constant": (estimate, flat),
        "pred-faint": (1e-8 * estimate, clean),
        "faint-difference": (clean + 1e-8 * estimate, clean),
        "both-faint": (1e-8 * estimate, 1e-8 * clean),
        "both-vanishing": (1e-20 * estimate, 1e-20 * clean),
        "target-silent": (estimate, silent),
        "target-silent-pred-faint": (1e-8 * estimate, silent),
        "both-silent": (silent, silent),
        "both-huge": (1e14 * estimate, 1e14 * clean),
        "pred-huge": (1e14 * estimate, clean),
        "pred-huge-target-silent": (1e14 * estimate, silent),
        "target-huge": (estimate, 1e14 * clean),
        "one-pixel": (torch.eye(10, 12).expand_as(clean), clean * (torch.arange(12) == 3)),
    }


CASES = _edge_cases()


@every_loss
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_finite(loss, case):
    estimate, clean = CASES[case]
    value, grad = gradient(loss, estimate, clean)
    assert value.dtype == grad.dtype == torch.float32
    assert value.isfinite().all()
    assert (value >= 0).all()
    assert grad.isfinite().all()


@pytest.mark.parametrize("name", ["amplitude", "frequency", "energy", "norm", "haar", "bior1.3", "pixel"])
@pytest.mark.parametrize("case", CASES)
def test_gradients_of_l1_losses_stay_moderate(name, case):
    # Autograd through angle() would reach 1e8 where an amplitude almost vanishes.
    estimate, clean = CASES[case]
    _, grad = gradient(LOSSES[name], estimate, clean)
    assert grad.abs().max() < 10


@pytest.mark.parametrize("coupling", ["frequency", "energy", "norm"])
@given(logs=st.tuples(st.integers(-30, 14), st.integers(-30, 14)), seed=st.integers(0, 99))
def test_amplitude_phase_gradients_are_finite_at_any_scale(coupling, logs, seed):
    estimate, clean = pair((4, 5), torch.float32, seed)
    value, grad = gradient(AmplitudePhaseLoss(coupling), estimate * 10.0 ** logs[0], clean * 10.0 ** logs[1])
    assert value.isfinite().all()
    assert grad.isfinite().all()


# Values.


@every_loss
def test_one_value_per_sample(loss):
    estimate, clean = pair((16, 16))
    whole = loss(estimate, clean)
    assert whole.shape == (2,)
    alone = torch.cat([loss(estimate[i : i + 1], clean[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(whole, alone, rtol=1e-12, atol=0)


@every_loss
def test_zero_at_equality(loss):
    _, clean = pair()
    assert loss(clean, clean).abs().max() == 0


@every_loss
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("side", ["estimate", "clean"])
def test_not_a_number_in_not_a_number_out(loss, bad, side):
    estimate, clean = pair()
    expected = loss(estimate, clean)[1]
    (estimate if side == "estimate" else clean)[0, 1, 2, 3] = bad
    value = loss(estimate, clean)
    assert not value[0].isfinite()
    torch.testing.assert_close(value[1], expected)  # the other sample is untouched


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(loss, dtype):
    estimate, clean = pair(dtype=dtype)
    value = loss(estimate, clean)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(estimate.float(), clean.float()))
    assert torch.equal(loss(estimate, clean.double()), loss(estimate.double(), clean.double()))


@every_loss
def test_autocast_changes_nothing(loss):
    estimate, clean = pair(dtype=torch.float32)
    expected, expected_gradient = gradient(loss, estimate, clean)
    with torch.autocast("cpu", torch.bfloat16):
        value, grad = gradient(loss, estimate, clean)
    assert torch.equal(value, expected)
    assert torch.equal(grad, expected_gradient)


@every_loss
def test_no_value_is_looked_at(loss):
    estimate, clean = (x.to("meta") for x in pair())
    estimate.requires_grad_()
    value = loss(estimate, clean)
    value.mean().backward()
    assert value.shape == (2,)
    assert estimate.grad.shape == estimate.shape


@every_loss
def test_non_contiguous_input(loss):
    estimate, clean = pair((12, 12))
    expected = loss(estimate.transpose(2, 3).contiguous(), clean.transpose(2, 3).contiguous())
    torch.testing.assert_close(loss(estimate.transpose(2, 3), clean.transpose(2, 3)), expected, rtol=1e-12, atol=0)


@every_loss
def test_no_state(loss):
    assert loss.state_dict() == {}
    assert list(loss.parameters()) == []
    estimate, clean = pair()
    for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert torch.equal(twin(estimate, clean), loss(estimate, clean))
        assert [term[:2] for term in twin.terms()] == [term[:2] for term in loss.terms()]


# Bad input.


@every_loss
def test_bad_fields(loss):
    estimate, clean = pair(dtype=torch.float32)
    with pytest.raises(ValueError, match=r"estimate and clean must have the same shape, got \(1, 2, 10, 12\) and"):
        loss(estimate[:1], clean)
    with pytest.raises(ValueError, match=r"estimate must have shape \(batch, channels, \*spatial\)"):
        loss(estimate[0, 0], clean[0, 0])
    with pytest.raises(ValueError, match=r"clean must have shape \(batch, channels, \*spatial\)"):
        loss(estimate, clean[0, 0])
    with pytest.raises(TypeError, match=r"estimate must be a real floating-point tensor, got torch\.int64"):
        loss(estimate.long(), clean)
    with pytest.raises(TypeError, match=r"clean must be a real floating-point tensor, got torch\.complex64"):
        loss(estimate, clean + 0j)
    with pytest.raises(TypeError, match=r"estimate must be a torch\.Tensor, got list"):
        loss([1.0], clean)


# Sums.


class Shift(SpectralLoss):
    """A loss of a user's own: the squared difference of means."""

    def forward(self, estimate: Tensor, clean: Tensor) -> Tensor:
        return (estimate - clean).flatten(1).mean(1).square()


def test_a_loss_of_ones_own_needs_forward_only():
    estimate, clean = pair()
    loss = Shift() + 0.5 * PixelLoss()
    expected = Shift()(estimate, clean) + 0.5 * pixel_loss(estimate, clean)
    torch.testing.assert_close(loss(estimate, clean), expected, rtol=1e-14, atol=0)
    assert [term[:2] for term in loss.terms()] == [("shift", 1.0), ("pixel", 0.5)]


def test_the_base_says_what_to_define():
    estimate, clean = pair()

    class Empty(SpectralLoss):
        pass

    with pytest.raises(NotImplementedError, match=r"Empty must define forward\(estimate, clean\) -> \(batch,\)"):
        Empty()(estimate, clean)


def test_sums_are_linear():
    estimate, clean = pair()
    a, b = AmplitudeLoss(), WaveletLoss()
    x, y = a(estimate, clean), b(estimate, clean)
    for loss, expected in [
        (a + b, x + y),
        (2 * a, 2 * x),
        (a * 2, 2 * x),
        (3 * (a + 0.5 * b), 3 * x + 1.5 * y),
        ((a + b) + (a + b), 2 * x + 2 * y),
        (-0.5 * a + b, y - 0.5 * x),
        (WeightedSum([(0.25, a), (4, 2 * b)]), 0.25 * x + 8 * y),
    ]:
        torch.testing.assert_close(loss(estimate, clean), expected, rtol=1e-13, atol=0)


def test_nested_sums_are_taken_apart_and_repeated_names_counted():
    loss = 2 * (AmplitudeLoss() + 3 * WaveletLoss()) + WaveletLoss("db2") + 0.5 * (WaveletLoss("sym4") + PixelLoss())
    assert [term[:2] for term in loss.terms()] == [
        ("amplitude", 2.0),
        ("wavelet", 6.0),
        ("wavelet_2", 1.0),
        ("wavelet_3", 0.5),
        ("pixel", 0.5),
    ]
    assert [term.wavelet for name, _, term in loss.terms() if name.startswith("wavelet")] == ["haar", "db2", "sym4"]
    assert not any(isinstance(term, WeightedSum) for _, _, term in loss.terms())
    assert "weights=[2.0, 6.0, 1.0, 0.5, 0.5]" in repr(loss)


def test_a_counted_name_does_not_hide_one_that_a_user_chose():
    class Named(Shift):
        @property
        def name(self) -> str:
            return "shift_2"

    loss = WeightedSum([(1.0, Shift()), (1.0, Named()), (1.0, Shift())])
    assert len({name for name, _, _ in loss.terms()}) == 3


def test_the_same_object_may_appear_twice():
    estimate, clean = pair()
    loss = AmplitudeLoss()
    torch.testing.assert_close((loss + loss)(estimate, clean), 2 * loss(estimate, clean))


def test_bad_sums():
    with pytest.raises(ValueError, match="a sum needs at least one loss"):
        WeightedSum([])
    with pytest.raises(TypeError, match=r"expected \(number, SpectralLoss\) pairs, got \(float, L1Loss\)"):
        WeightedSum([(1.0, torch.nn.L1Loss())])
    with pytest.raises(TypeError, match=r"got \(str, AmplitudeLoss\)"):
        WeightedSum([("edm", AmplitudeLoss())])
    with pytest.raises(TypeError, match=r"got \(float, int\)"):
        AmplitudeLoss() + 1
    with pytest.raises(TypeError, match=r"got \(str, AmplitudeLoss\)"):
        "2" * AmplitudeLoss()


# The pixel control.


@pytest.mark.parametrize("size", [(7,), (5, 6), (3, 4, 2)], ids=str)
def test_pixel_loss_is_the_mean_absolute_difference(size):
    estimate, clean = pair(size)
    expected = [(e - c).abs().mean().item() for e, c in zip(estimate, clean, strict=True)]
    assert pixel_loss(estimate, clean).tolist() == pytest.approx(expected, rel=1e-13)
    assert torch.equal(PixelLoss()(estimate, clean), pixel_loss(estimate, clean))
    assert PixelLoss().name == "pixel"


def test_python_sum_adds_losses() -> None:
    x, y = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    total = sum([AmplitudeLoss(), WaveletLoss()])
    torch.testing.assert_close(total(x, y), AmplitudeLoss()(x, y) + WaveletLoss()(x, y))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wavelet": "har"}, "did you mean 'haar'"),
        ({"mode": "symetric"}, "did you mean 'symmetric'"),
        ({"levels": 0}, "level"),
        ({"weights": {"aa": 1.0}}, r"function of \(level, sub-band name\)"),
    ],
)
def test_wrong_wavelet_options_are_refused_when_the_loss_is_made(options: dict[str, object], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        WaveletLoss(**options)


@pytest.mark.parametrize("loss", [AmplitudeLoss(), AmplitudePhaseLoss()])
def test_an_empty_batch_is_refused(loss: SpectralLoss) -> None:
    with pytest.raises(ValueError, match="holds no samples"):
        loss(torch.zeros(0, 3, 8, 8), torch.zeros(0, 3, 8, 8))
