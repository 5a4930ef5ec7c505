"""The hand-written gradient of amplitude and phase against autograd's of the formula."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import passband
from passband.regularization import amplitude_phase_loss
from passband.regularization.fourier import _COUPLINGS, _compare
from passband.regularization.kernels.phase import amplitude_phase, amplitude_phase_

COUPLINGS = ("frequency", "energy", "norm")
SIZES = [(1,), (2,), (3,), (8,), (9,), (1, 1), (2, 3), (3, 2), (6, 8), (5, 7), (1, 5), (4, 3, 5), (2, 1, 4)]


def pair(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    estimate, clean = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return estimate.to(dtype), clean.to(dtype)


def values_and_gradient(backend: str, estimate: Tensor, clean: Tensor, *options) -> tuple[Tensor, Tensor]:
    """Each sample with a weight of its own."""
    leaf = estimate.detach().requires_grad_()
    with passband.backend(backend):
        values = amplitude_phase_loss(leaf, clean, *options)
        weights = torch.linspace(-1, 2, len(values), dtype=values.dtype)
        (gradient,) = torch.autograd.grad((values * weights).sum(), leaf)
    return values.detach(), gradient


def assert_agree(estimate: Tensor, clean: Tensor, *options, rtol: float = 1e-12) -> None:
    values, gradient = values_and_gradient("torch", estimate, clean, *options)
    expected, expected_gradient = values_and_gradient("plain", estimate, clean, *options)
    assert gradient.dtype == estimate.dtype
    assert gradient.isfinite().all()
    torch.testing.assert_close(values, expected, rtol=rtol, atol=1e-300)
    # Relative to the size that a gradient has: of order 1 per frequency, over the count.
    scale = max(expected_gradient.abs().max().item(), 1 / estimate[0].numel())
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=rtol * scale)


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_values_and_gradient_are_those_of_the_formula(size, coupling):
    assert_agree(*pair(3, 2, *size), coupling, 1e-3)
    assert_agree(*pair(1, 1, *size, seed=1), coupling, 0.5)


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.integers(1, 3),
    st.integers(0, 1000),
    st.sampled_from(COUPLINGS),
    st.floats(1e-4, 0.9),
)
def test_any_shape_and_share(size, channels, seed, coupling, rel):
    assert_agree(*pair(2, channels, *size, seed=seed), coupling, rel, rtol=1e-11)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_float32_agrees(coupling):
    assert_agree(*pair(3, 2, 12, 10, dtype=torch.float32), coupling, rtol=2e-5)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_parts_of_a_batch_are_put_together(coupling, monkeypatch):
    import passband.regularization.kernels.phase as kernels

    monkeypatch.setattr(kernels, "chunks", lambda x: [slice(0, 2), slice(2, 3), slice(3, None)])
    assert_agree(*pair(5, 2, 6, 5), coupling)


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("size", [(5,), (3, 2), (1, 3, 2)], ids=str)
def test_derivatives_against_differences(size, coupling):
    estimate, clean = pair(1, 1, *size, seed=3)
    estimate.requires_grad_()

    def loss(x: Tensor) -> Tensor:
        return amplitude_phase_loss(x, clean, coupling, 0.3)

    assert torch.autograd.gradcheck(loss, estimate)
    assert torch.autograd.gradgradcheck(loss, estimate)


# In the spectrum, where each amplitude and phase can be set.


def spectrum_gradient(x: Tensor, y: Tensor, width: int, coupling: str, rel: float) -> tuple[Tensor, Tensor]:
    """Sums and G by autograd, from the formula, with the half-spectrum weights taken out."""
    size = (*x.shape[2:-1], width)
    leaf = x.clone().requires_grad_()
    values = _COUPLINGS[coupling](_compare(leaf, y, size, rel))
    (gradient,) = torch.autograd.grad(values.sum(), leaf)
    weights = passband.transforms.half_weights(size)
    return values.detach(), gradient * x.shape[1] * math.prod(size) / weights


def floors(y: Tensor, width: int, rel: float) -> Tensor:
    weights = passband.transforms.half_weights((width,))
    power = (weights * y.abs().square()).flatten(1).sum(1) / (y[0, ..., 0].numel() * width)
    return (rel**2 * power).clamp(min=1e-12).sqrt()


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("width", [8, 9])
def test_singular_places(width, coupling):
    half = width // 2 + 1
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(2, 2, 3, half, dtype=torch.complex128, generator=generator)
    x = torch.randn(2, 2, 3, half, dtype=torch.complex128, generator=generator)
    row_x, row_y = x[0, 0, 0], y[0, 0, 0]
    row_x[0], row_y[1] = 0, 0  # one has no amplitude
    row_x[2] = row_y[2] = 0  # neither has
    row_x[3] = row_y[3]  # no difference
    row_x[4] = -row_y[4]  # equal amplitudes, opposite phases
    x[0, 0, 1, :5] = torch.tensor([1e-200, 1e-160j, 1e-9, 1e-3 + 1e-3j, 1e9])  # squares that vanish, about the floor
    y[0, 0, 2, :5] = torch.tensor([1e-200, 1e-160j, 1e-9, 1e-3, -1e9])
    x[0, 1, 0] = -2 * y[0, 1, 0]  # opposite phases
    x[0, 1, 1] = 0.5 * y[0, 1, 1]  # equal phases
    x[0, 1, 2] = 2**40 * y[0, 1, 2]
    y[1] = 0  # silence
    x[1, 0] = 0
    x[1, 1, 0] *= 1e-6
    floor = floors(y, width, 1e-3)
    expected, expected_gradient = spectrum_gradient(x, y, width, coupling, 1e-3)
    sums = amplitude_phase_(x, y, width, floor, coupling, True)
    means = sums / (x[0, ..., 0].numel() * width)
    values = means[:, 0] * (1 + means[:, 1]) if coupling == "norm" else means
    torch.testing.assert_close(values, expected, rtol=1e-12, atol=0)
    gradient = torch.view_as_real(x)
    assert gradient.isfinite().all()
    expected_gradient = torch.view_as_real(expected_gradient)
    for i in range(2):
        # "norm" scales all gradients of a sample with its means.
        scale = expected_gradient[i].abs().max().item() if coupling == "norm" else 1
        # 1e-200 is the one amplitude whose direction is not seen: its square is 0.
        seen = torch.ones_like(gradient[i], dtype=torch.bool)
        seen[0, 1, :2] = i == 1
        torch.testing.assert_close(
            gradient[i][seen], expected_gradient[i][seen].detach(), rtol=1e-11, atol=1e-12 * scale
        )


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_g_is_0_where_the_estimate_has_no_amplitude(coupling):
    x, y = torch.zeros(1, 1, 5, dtype=torch.complex128), torch.randn(1, 1, 5, dtype=torch.complex128)
    amplitude_phase_(x, y, 8, floors(y, 8, 1e-3), coupling, True)
    assert (x == 0).all()


def test_a_gradient_that_nobody_wants_leaves_the_spectrum():
    x, y = torch.randn(2, 3, 2, 5, 4, dtype=torch.complex128).unbind()
    before = x.clone()
    for coupling in COUPLINGS:
        amplitude_phase_(x, y, 7, floors(y, 7, 1e-3), coupling, False)
        assert torch.equal(x, before)


# In the field, where phases and amplitudes meet.


def waves() -> Tensor:
    n = torch.arange(16, dtype=torch.float64) * 2 * math.pi / 16
    return (3 * n).cos().reshape(1, 1, -1) * (2 * n).cos().reshape(1, 1, -1, 1)


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize(
    "make",
    [
        lambda x, y: (y.clone(), y),
        lambda x, y: (-y, y),
        lambda x, y: (torch.zeros_like(y), y),
        lambda x, y: (x, torch.zeros_like(y)),
        lambda x, y: (1e-9 * x, torch.zeros_like(y)),
        lambda x, y: (torch.zeros_like(y), torch.zeros_like(y)),
        lambda x, y: (x, waves()),
        lambda x, y: (x, torch.ones_like(y)),
        lambda x, y: (1e-8 * x, 1e-8 * y),
        lambda x, y: (1e6 * x, 1e-6 * y),
    ],
    ids=["equal", "opposite", "no estimate", "silence", "faint", "nothing", "one wave", "constant", "small", "far"],
)
def test_fields_at_which_something_is_0(make, coupling):
    x, y = pair(1, 1, 16, 16)
    assert_agree(*make(x, y), coupling)


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("make", [lambda x: x, lambda x: -2 * x, lambda x: x.roll(3, -1)])
def test_gradients_are_finite_on_single_waves(make, coupling):
    clean = waves()
    values, gradient = values_and_gradient("torch", make(clean), clean, coupling)
    assert values.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_equal_fields_have_no_gradient(coupling):
    _, clean = pair(2, 2, 6, 7)
    values, gradient = values_and_gradient("torch", clean.clone(), clean, coupling)
    assert (values == 0).all()
    assert (gradient == 0).all()


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("scale", [1e17, 1e-22])
def test_float32_far_from_1(scale, coupling):
    estimate, clean = pair(2, 1, 6, 6, dtype=torch.float32)
    values, gradient = values_and_gradient("torch", scale * estimate, clean, coupling)
    expected, _ = values_and_gradient("plain", scale * estimate, clean, coupling)
    torch.testing.assert_close(values, expected, rtol=1e-5, atol=0)
    assert gradient.isfinite().all()
    assert gradient.abs().max() < 100 / 36


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_nan_in_nan_out(coupling):
    estimate, clean = pair(3, 1, 6, 6)
    estimate[1, 0, 2, 3] = math.nan
    values, gradient = values_and_gradient("torch", estimate, clean, coupling)
    assert values.isnan().tolist() == [False, True, False]
    assert gradient.isnan().flatten(1).any(1).tolist() == [False, True, False]


# Inputs as networks give them.


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_are_computed_in_float32(dtype):
    estimate, clean = pair(2, 3, 16, 16, dtype=dtype)
    values, gradient = values_and_gradient("torch", estimate, clean)
    expected, expected_gradient = values_and_gradient("plain", estimate.float(), clean.float())
    assert (values.dtype, gradient.dtype) == (torch.float32, dtype)
    torch.testing.assert_close(values, expected, rtol=1e-5, atol=0)
    atol = 2 * torch.finfo(dtype).eps * expected_gradient.abs().max().item()
    torch.testing.assert_close(gradient.float(), expected_gradient, rtol=2 * torch.finfo(dtype).eps, atol=atol)


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize(
    "lay",
    [
        lambda x: x.contiguous(memory_format=torch.channels_last),
        lambda x: x.transpose(2, 3),
        lambda x: x[..., ::2],
        lambda x: x[:1, :1].expand(4, 3, -1, -1),
    ],
    ids=["channels last", "transposed", "every other", "expanded"],
)
def test_any_layout(lay, coupling):
    estimate, clean = pair(4, 3, 8, 8)
    assert_agree(lay(estimate), clean.reshape(lay(clean).shape) if lay(clean).shape == clean.shape else lay(clean))
    assert_agree(lay(estimate), lay(clean).contiguous(), coupling)


def test_without_a_gradient():
    estimate, clean = pair(2, 2, 6, 7)
    expected, _ = values_and_gradient("plain", estimate, clean)
    values = amplitude_phase_loss(estimate, clean)
    assert not values.requires_grad
    torch.testing.assert_close(values, expected, rtol=1e-12, atol=0)
    with torch.no_grad():
        assert torch.equal(amplitude_phase_loss(estimate.requires_grad_(), clean), values)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_a_clean_sample_may_want_a_gradient_too(coupling):
    estimate, clean = (x.requires_grad_() for x in pair(1, 1, 4, 3))
    assert torch.autograd.gradcheck(lambda x, y: amplitude_phase_loss(x, y, coupling, 0.3), (estimate, clean))


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_inputs_stay_as_they_are(coupling):
    estimate, clean = pair(2, 2, 1, 1)  # a spectrum of one number, the smallest thing to alias
    kept = estimate.clone(), clean.clone()
    values_and_gradient("torch", estimate, clean, coupling)
    assert torch.equal(estimate, kept[0])
    assert torch.equal(clean, kept[1])


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_more_is_kept_than_the_estimate_has_bytes(dtype, coupling):
    estimate, clean = pair(4, 3, 32, 32, dtype=dtype)
    estimate.requires_grad_()
    given_by_the_caller = {estimate.data_ptr(), clean.data_ptr()}
    kept: list[Tensor] = []

    def pack(x: Tensor) -> Tensor:
        if x.data_ptr() not in given_by_the_caller:
            kept.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        values = amplitude_phase_loss(estimate, clean, coupling)
    assert values.requires_grad
    assert 0 < sum(x.nbytes for x in kept) <= estimate.nbytes


def test_the_gradient_comes_only_where_it_is_wanted():
    estimate, clean = pair(2, 1, 4, 4)
    assert amplitude_phase(estimate, clean, False, "frequency", 1e-3)[1] is None
    gradient = amplitude_phase(estimate, clean, True, "frequency", 1e-3)[1]
    assert gradient is not None
    assert gradient.kept.shape == estimate.shape
