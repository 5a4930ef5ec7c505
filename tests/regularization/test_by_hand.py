"""Losses whose gradient is written by hand, against the same formulas with autograd's gradient."""

import math
import weakref
from functools import partial
from threading import Event, Thread

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import passband
from passband import _backend
from passband.regularization import (
    FramedLoss,
    PixelLoss,
    amplitude_loss,
    focal_frequency_loss,
    framed_loss,
    pixel_loss,
)
from passband.regularization.kernels import half

LOSSES = {
    "amplitude": amplitude_loss,
    "focal": focal_frequency_loss,
    "focal 0": partial(focal_frequency_loss, alpha=0.0),
    "focal 1.7": partial(focal_frequency_loss, alpha=1.7),
    "pixel": pixel_loss,
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
SIZES = [(1,), (2,), (3,), (8,), (9,), (1, 1), (5, 1), (2, 3), (6, 8), (7, 5), (3, 1, 2), (4, 3, 5), (2, 4, 6)]


def pair(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    estimate, clean = (torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return estimate.to(dtype), clean.to(dtype)


def gradient(loss, estimate: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
    """Values, and the gradient of a sum of them with another weight for each."""
    estimate = estimate.detach().requires_grad_()
    values = loss(estimate, clean)
    weights = torch.arange(1, 1 + len(values), dtype=values.dtype)
    (result,) = torch.autograd.grad(values, estimate, weights)
    return values.detach(), result


def assert_plain_agrees(loss, estimate: Tensor, clean: Tensor, tolerance: float = 1e-12) -> None:
    values, result = gradient(loss, estimate, clean)
    with passband.backend("plain"):
        plain_values, plain_result = gradient(loss, estimate, clean)
    torch.testing.assert_close(values, plain_values, rtol=tolerance, atol=1e-300)
    assert result.dtype == plain_result.dtype == estimate.dtype
    scale = plain_result.abs().max().item()
    torch.testing.assert_close(result, plain_result, rtol=0, atol=tolerance * scale + 1e-300)
    with torch.no_grad():
        torch.testing.assert_close(loss(estimate, clean), values, rtol=1e-14, atol=0)


@every_loss
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_plain_autograd_agrees(loss, size):
    assert_plain_agrees(loss, *pair(3, 2, *size))


@given(
    st.sampled_from(sorted(LOSSES)),
    st.lists(st.integers(1, 7), min_size=1, max_size=3),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(0, 99),
)
def test_plain_autograd_agrees_on_any_shape(name, size, batch, channels, seed):
    assert_plain_agrees(LOSSES[name], *pair(batch, channels, *size, seed=seed))


@every_loss
@pytest.mark.parametrize("size", [(40,), (9, 8), (4, 5, 6)], ids=str)
def test_work_in_parts_is_the_same(loss, size, monkeypatch):
    monkeypatch.setattr(half, "_WHOLE", 0)
    monkeypatch.setattr(half, "_PART", 1500)
    monkeypatch.setattr(half, "_ROWS", 3)
    estimate, clean = pair(3, 5, *size)
    assert len(list(half.chunks(estimate.reshape(-1, 1, *size)))) > 1
    assert_plain_agrees(loss, estimate, clean)


@pytest.mark.parametrize("name", ["amplitude", "focal 0", "pixel"])  # the others hold a weight constant
@pytest.mark.parametrize("size", [(7,), (4, 5), (2, 3, 2)], ids=str)
def test_first_and_second_derivatives_are_those_of_the_values(name, size):
    estimate, clean = pair(2, 2, *size, seed=1)
    estimate.requires_grad_()
    loss = partial(LOSSES[name], clean=clean)
    assert torch.autograd.gradcheck(loss, estimate, eps=1e-7, atol=1e-6)
    # A second derivative at a distance from where amplitudes meet.
    assert torch.autograd.gradgradcheck(loss, estimate, eps=1e-7, atol=1e-5)


@every_loss
def test_a_gradient_penalty_is_that_of_plain_autograd(loss):
    def penalty(estimate: Tensor, clean: Tensor) -> Tensor:
        values = loss(estimate, clean)
        (inner,) = torch.autograd.grad(values.sum(), estimate, create_graph=True)
        return values + inner.square().flatten(1).sum(1)

    assert_plain_agrees(penalty_without_grad_mode(penalty), *pair(2, 2, 5, 6))


def penalty_without_grad_mode(penalty):
    """The penalty needs autograd; where nobody asks for a gradient it is switched on for it alone."""

    def loss(estimate: Tensor, clean: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return penalty(estimate, clean)
        with torch.enable_grad():
            return penalty(estimate.detach().requires_grad_(), clean).detach()

    return loss


@every_loss
def test_a_clean_sample_that_learns_gets_its_gradient(loss):
    estimate, clean = pair(2, 2, 5, 6)
    results = []
    for name in ("auto", "plain"):
        with passband.backend(name):
            inputs = [x.clone().requires_grad_() for x in (estimate, clean)]
            results.append(torch.autograd.grad(loss(*inputs).sum(), inputs))
    for by_hand, plain in zip(*results, strict=True):
        torch.testing.assert_close(by_hand, plain, rtol=1e-12, atol=1e-15)


@every_loss
@pytest.mark.parametrize("size", [(50,), (12, 15)], ids=str)
def test_single_precision(loss, size):
    estimate, clean = pair(2, 3, *size, dtype=torch.float32)
    values, result = gradient(loss, estimate, clean)
    expected_values, expected = gradient(loss, estimate.double(), clean.double())
    torch.testing.assert_close(values.double(), expected_values, rtol=1e-5, atol=0)
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(loss, dtype):
    estimate, clean = pair(2, 3, 12, 15, dtype=dtype)
    values, result = gradient(loss, estimate, clean)
    expected_values, expected = gradient(loss, estimate.float(), clean.float())
    assert (values.dtype, result.dtype) == (torch.float32, dtype)
    assert torch.equal(values, expected_values)
    torch.testing.assert_close(
        result.float(), expected, rtol=4 * torch.finfo(dtype).eps, atol=1e-3 * expected.abs().max().item()
    )


@every_loss
def test_memory_layout_does_not_matter(loss):
    estimate, clean = pair(2, 3, 6, 8)
    expected_values, expected = gradient(loss, estimate, clean)
    layouts = [
        (estimate.to(memory_format=torch.channels_last), clean.to(memory_format=torch.channels_last)),
        (estimate, clean.to(memory_format=torch.channels_last)),
        (estimate.mT.contiguous().mT, clean),
        (torch.stack((estimate, estimate), -1)[..., 0], clean),
    ]
    for layout in layouts:
        values, result = gradient(loss, *layout)
        torch.testing.assert_close(values, expected_values, rtol=1e-14, atol=0)
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-14)
    assert_plain_agrees(loss, estimate[:1].expand(2, 3, 6, 8), clean[:, :1].expand(2, 3, 6, 8))


@every_loss
@pytest.mark.parametrize("size", [(9,), (6, 8), (4, 3, 5)], ids=str)
def test_no_difference_no_gradient(loss, size):
    for dtype in (torch.float32, torch.float64):
        _, clean = pair(2, 2, *size, dtype=dtype)
        for same in (clean, torch.zeros_like(clean), torch.ones_like(clean)):
            values, result = gradient(loss, same, same.clone())
            assert values.tolist() == [0, 0]
            assert result.abs().max() == 0


@every_loss
@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e-21, 1e-10, 1e10])
def test_silence_and_extremes_are_finite(loss, scale):
    estimate, clean = pair(2, 2, 6, 8, dtype=torch.float32)
    silent = torch.zeros_like(clean)
    for case in [(scale * estimate, clean), (scale * estimate, silent), (silent, scale * clean), (silent, silent)]:
        values, result = gradient(loss, *case)
        assert values.isfinite().all()
        assert result.isfinite().all()


def test_faint_amplitudes_have_bounded_gradients():
    # X / |X| is at most 1 for each frequency, so its energy is at most that of as many ones.
    estimate, clean = pair(1, 1, 8, 8, dtype=torch.float32)
    for scale in (1e-38, 1e-30, 1e-20, 1e-19, 1e-18, 1.0):
        _, result = gradient(amplitude_loss, scale * estimate, clean)
        assert (64 * result).square().mean().item() <= 1 + 1e-5
    for scale in (1e-15, 1e-10, 1.0):
        _, result = gradient(amplitude_loss, scale * estimate, torch.zeros_like(clean))
        assert (64 * result).square().mean().item() == pytest.approx(1, rel=1e-5)


@every_loss
def test_what_is_not_a_number_stays_that(loss):
    estimate, clean = pair(2, 2, 6, 8)
    estimate[0, 1, 2, 3] = math.nan
    values, result = gradient(loss, estimate, clean)
    assert values.isnan().tolist() == [True, False]
    with passband.backend("plain"):  # whose sign of what is not a number is 0
        assert torch.equal(result.isnan(), gradient(loss, estimate, clean)[1].isnan())
    assert not result[1].isnan().any()


@every_loss
def test_kept_for_backward_is_one_field(loss):
    for dtype in (torch.float32, torch.bfloat16):
        estimate, clean = pair(2, 2, 6, 8, dtype=dtype)
        estimate.requires_grad_()
        kept: list[Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, kept=kept: kept.append(x) or x, lambda x: x):
            loss(estimate, clean)
        inputs = {x.untyped_storage().data_ptr() for x in (estimate, clean)}
        own = [x for x in kept if x.untyped_storage().data_ptr() not in inputs]
        assert sum(x.untyped_storage().nbytes() for x in own) <= estimate.nbytes


@every_loss
def test_one_graph_two_backwards(loss):
    estimate, clean = pair(2, 2, 6, 8)
    estimate.requires_grad_()
    value = loss(estimate, clean).sum()
    first, second = (torch.autograd.grad(value, estimate, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


@every_loss
def test_inputs_stay_as_they_are(loss):
    estimate, clean = pair(2, 2, 6, 8)
    before = estimate.clone(), clean.clone()
    gradient(loss, estimate, clean)
    assert torch.equal(estimate, before[0])
    assert torch.equal(clean, before[1])


@every_loss
def test_forward_mode_and_functional_transforms(loss):
    estimate, clean = pair(2, 2, 5, 6)
    expected = gradient(loss, estimate, clean)[1]
    total = lambda x: (loss(x, clean) * torch.tensor([1.0, 2.0])).sum()  # noqa: E731
    torch.testing.assert_close(torch.func.grad(total)(estimate), expected, rtol=0, atol=1e-14)
    tangent = torch.ones_like(estimate)
    _, slope = torch.func.jvp(total, (estimate,), (tangent,))
    torch.testing.assert_close(slope, expected.sum(), rtol=1e-10, atol=1e-12)


# Frames.

FRAMED = {
    "hann": FramedLoss(passband.AmplitudeLoss(), (8, 16)),
    "no divisor": FramedLoss(passband.AmplitudeLoss(), (9, 13), overlap=0.6),
    "apart": FramedLoss(passband.AmplitudeLoss(), (7,), overlap=0, window="rectangular"),
    "one": FramedLoss(passband.AmplitudeLoss(), (31,), overlap=0.9),
    "sum": FramedLoss(passband.AmplitudeLoss() + 0.5 * passband.WaveletLoss(levels=1), (8,)),
    "phase": FramedLoss(passband.AmplitudePhaseLoss(), (12,)),
}
every_framed = pytest.mark.parametrize("loss", FRAMED.values(), ids=FRAMED.keys())


@every_framed
@pytest.mark.parametrize("samples", [31, 32, 50])
def test_framed_plain_autograd_agrees(loss, samples):
    assert_plain_agrees(loss, *pair(2, 3, samples), tolerance=1e-11)


@every_framed
def test_framed_penalty_is_that_of_plain_autograd(loss):
    def penalty(estimate: Tensor, clean: Tensor) -> Tensor:
        values = loss(estimate, clean)
        (inner,) = torch.autograd.grad(values.sum(), estimate, create_graph=True)
        return values + inner.square().flatten(1).sum(1)

    assert_plain_agrees(penalty_without_grad_mode(penalty), *pair(2, 1, 33), tolerance=1e-10)


@given(st.integers(2, 12), st.integers(0, 30), st.floats(0, 0.95), st.sampled_from(["hann", "rectangular"]))
def test_what_frames_take_is_given_back(length, more, overlap, window):
    """The adjoint: <frames of x, g> = <x, g added back>."""
    from passband.regularization.frames import _hop, _Resolution

    resolution = _Resolution(length, _hop(length, overlap), window)
    x, _ = pair(2, 3, length + more)
    framed = resolution.frames(x)
    other = torch.randn(framed.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    total = torch.ones_like(x)
    resolution.add_back_(total, other)
    expected = (framed * other).sum()
    torch.testing.assert_close((x * (total - 1)).sum(), expected, rtol=1e-10, atol=1e-10)


def test_framed_forward_runs_once():
    calls = []

    def counted(estimate: Tensor, clean: Tensor) -> Tensor:
        calls.append(estimate.shape)
        return (estimate - clean).square().flatten(1).mean(1)

    estimate, clean = pair(2, 1, 40)
    gradient(partial(passband.regularization.framed_loss, loss=counted, frame_lengths=(8, 16)), estimate, clean)
    assert len(calls) == 2


def test_a_framed_module_that_learns_runs_once():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.calls = nn.Parameter(torch.ones(())), 0

        def forward(self, estimate: Tensor, clean: Tensor) -> Tensor:
            self.calls += 1
            return self.scale * (estimate - clean).square().flatten(1).mean(1)

    loss = Scaled()
    estimate, clean = (x.float().requires_grad_() for x in pair(2, 1, 40))
    values = framed_loss(estimate, clean.detach(), loss, (8, 16))
    assert loss.calls == 2
    values.sum().backward()
    torch.testing.assert_close(loss.scale.grad, values.sum())  # at a scale of 1


def test_a_checkpoint_around_a_framed_loss_makes_its_input_once_more():
    calls = []

    def network(x: Tensor) -> Tensor:
        calls.append(1)
        return x.sin()

    estimate, clean = pair(2, 1, 40)
    loss = FramedLoss(passband.AmplitudeLoss(), (8, 16))
    x = estimate.requires_grad_()
    values = checkpoint(lambda x: loss(network(x), clean), x, use_reentrant=False)
    (found,) = torch.autograd.grad(values.sum(), x)
    assert len(calls) == 2
    torch.testing.assert_close(found, torch.autograd.grad(loss(network(x), clean).sum(), x)[0])


def test_a_framed_loss_that_goes_unused_is_freed():
    made = []

    def kept(estimate: Tensor, clean: Tensor) -> Tensor:
        result = (estimate - clean).exp()  # which autograd saves
        made.append(weakref.ref(result))
        return parameter * result.flatten(1).mean(1)

    parameter = torch.ones((), requires_grad=True)
    framed_loss(*(x.requires_grad_(i == 0) for i, x in enumerate(pair(2, 1, 40))), kept, (8,))
    assert [ref() for ref in made] == [None] * len(made)


def test_framed_losses_leave_other_threads_backend_alone():
    chosen, inside, done = [], Event(), Event()

    def slow(estimate: Tensor, clean: Tensor) -> Tensor:
        chosen.append(_backend.by_hand(estimate))
        inside.set()
        done.wait(10)
        return (estimate - clean).square().flatten(1).mean(1)

    estimate, clean = pair(2, 1, 40)
    clean.requires_grad_()  # only plain autograd gives its gradient
    thread = Thread(target=lambda: framed_loss(estimate, clean, slow, (8,)))
    thread.start()
    assert inside.wait(10)
    chosen.append(_backend.by_hand(estimate))
    done.set()
    thread.join()
    assert chosen == [False, True]


@pytest.mark.parametrize("name", ["auto", "plain"])
def test_empty_batches(name):
    x = torch.zeros(0, 2, 40, requires_grad=True)
    with passband.backend(name):
        for loss in (pixel_loss, FramedLoss(PixelLoss(), (8, 16))):
            values = loss(x, torch.zeros(0, 2, 40))
            (found,) = torch.autograd.grad(values.sum(), x)
            assert (values.shape, found.shape) == ((0,), x.shape)
        with pytest.raises(ValueError, match="clean holds no samples"):
            FramedLoss(passband.AmplitudeLoss(), (8,))(x, torch.zeros(0, 2, 40))


def learning(parameter: Tensor):
    return lambda estimate, clean: (parameter * (estimate - clean)).square().flatten(1).mean(1)


@pytest.mark.parametrize("learns", [True, False])
def test_a_framed_loss_of_ones_own_may_learn(learns):
    estimate, clean = pair(2, 1, 40)
    results = []
    for name in ("auto", "plain"):
        with passband.backend(name):
            parameter = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
            loss = learning(parameter.exp() if learns else parameter.detach())
            x = estimate.clone().requires_grad_()
            value = passband.regularization.framed_loss(x, clean, loss, (8,)).sum()
            results.append(torch.autograd.grad(value, [x, parameter] if learns else [x]))
    for by_hand, plain in zip(*results, strict=True):
        torch.testing.assert_close(by_hand, plain, rtol=1e-12, atol=1e-14)


def test_a_framed_loss_that_ignores_the_estimate_has_no_gradient():
    constant = lambda estimate, clean: clean.square().flatten(1).mean(1)  # noqa: E731
    values, result = gradient(
        partial(passband.regularization.framed_loss, loss=constant, frame_lengths=(8,)), *pair(2, 1, 40)
    )
    assert (values > 0).all()
    assert result.abs().max() == 0
