"""The operator's forms on a CPU against its plain formula: matrices, FFTs, chunks, what is truncated, and gradients."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import passband
from passband.forcing import _by_matrix, _planes, spectral_low_pass
from passband.forcing._gains import Options, gains

sides = st.integers(1, 9)
sizes = st.one_of(st.tuples(sides), st.tuples(sides, sides))
options = st.fixed_dictionaries({"kappa": st.floats(1, 200), "exact": st.booleans()})
cutoffs = st.tuples(*[st.floats(0, 1)] * 3)
forms = st.sampled_from(["matrices", "ffts", "either"])


@pytest.fixture
def choose(monkeypatch):
    """Fixes the form, and how many bytes a chunk has."""

    def chosen(form="either", chunk=None):
        limit = {"matrices": 10**9, "ffts": -1}.get(form)
        if limit is not None:
            monkeypatch.setattr(_planes, "FFT_PRODUCTS", {True: limit, False: limit})
        if chunk is not None:
            monkeypatch.setattr(_planes, "CHUNK_BYTES", chunk)

    return chosen


def field(size, seed=0, dtype=torch.float64, batch=3, channels=2):
    return torch.randn(batch, channels, *size, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def plainly(z, cutoff, **kwargs):
    with passband.backend("plain"):
        return spectral_low_pass(z, cutoff, **kwargs)


@given(data=st.data(), size=sizes, given_cutoffs=cutoffs, shared=st.booleans(), options=options, form=forms)
def test_equals_the_formula(data, size, given_cutoffs, shared, options, form):
    c = torch.tensor(given_cutoffs[:1] if shared else given_cutoffs, dtype=torch.float64)
    window = tuple(data.draw(st.sampled_from([d for d in range(1, n + 1) if n % d == 0])) for n in size)
    chunk = data.draw(st.sampled_from([1, 500, 2**20]))
    with pytest.MonkeyPatch.context() as patch:
        limit = {"matrices": 10**9, "ffts": -1, "either": 20}[form]
        patch.setattr(_planes, "FFT_PRODUCTS", {True: limit, False: limit})
        patch.setattr(_planes, "CHUNK_BYTES", chunk)
        z = field(size)
        result = spectral_low_pass(z, c, window=window, **options)
        single = spectral_low_pass(z.float(), c, window=window, **options)
    expected = plainly(z, c, window=window, **options)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("form", ["matrices", "ffts"])
@pytest.mark.parametrize("size", [(64, 64), (96, 65), (31, 47), (300,), (129,), (1, 50), (50, 1)])
def test_larger_windows_equal_the_formula(choose, form, size):
    choose(form)
    c = torch.tensor([0.02, 0.4, 1.0], dtype=torch.float64)
    for exact in (False, True):
        z = field(size)
        expected = plainly(z, c, exact=exact)
        torch.testing.assert_close(spectral_low_pass(z, c, exact=exact), expected, rtol=0, atol=1e-12)
        single = spectral_low_pass(z.float(), c, exact=exact)
        torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-5)


def test_small_windows_go_by_matrices_and_large_ones_by_ffts(monkeypatch):
    taken = []
    for module in (_by_matrix, _planes._by_fft):
        original = module.low_pass

        def recorded(*args, original=original, module=module):
            taken.append(module.__name__.rpartition("_")[2])
            return original(*args)

        monkeypatch.setattr(module, "low_pass", recorded)
    for side in (16, 256):
        spectral_low_pass(torch.zeros(1, 1, side, side), 0.5)
    spectral_low_pass(torch.zeros(1, 1, 256, 256), 0.05, kappa=200.0)  # little is left of it
    assert taken == ["matrix", "fft", "matrix"]


# What is left out.


@given(
    size=sizes, cutoff=st.floats(0, 1), kappa=st.floats(1, 500), dtype=st.sampled_from([torch.float32, torch.float64])
)
def test_only_gains_below_the_tolerance_are_left_out(size, cutoff, kappa, dtype):
    options = Options(kappa, size, False)
    kept = _by_matrix.passed(cutoff, options, dtype)
    gain = gains(torch.tensor([cutoff], dtype=torch.float64), options).reshape(_by_matrix.two_axes(size))
    gain[: kept[0], : kept[1]] = 0
    assert gain.max() <= _by_matrix.tolerance(dtype)


def test_little_is_kept_of_a_sharp_mask():
    assert _by_matrix.passed(0.1, Options(200.0, (256, 256), False), torch.float32) == (96, 96)
    assert _by_matrix.passed(0.1, Options(200.0, (256, 256), True), torch.float32) == (256, 256)
    assert _by_matrix.passed(math.nan, Options(200.0, (256, 256), False), torch.float32) == (256, 256)


@pytest.mark.parametrize("cutoff", [0.0, 0.05, 0.2, 0.5])
def test_truncation_is_less_than_rounding(choose, cutoff):
    z = field((64, 64), dtype=torch.float32)
    expected = plainly(z.double(), cutoff, kappa=60.0)
    choose("matrices")
    truncated = spectral_low_pass(z, cutoff, kappa=60.0)
    rounding = (plainly(z, cutoff, kappa=60.0) - expected).norm()
    assert (truncated - expected).norm() < 1.5 * rounding + 1e-6


# Gradients.


@given(size=sizes, given_cutoffs=cutoffs, options=options, form=forms)
def test_gradients_equal_those_of_the_formula(size, given_cutoffs, options, form):
    z, upstream = field(size).requires_grad_(), field(size, seed=1)
    c = torch.tensor(given_cutoffs, dtype=torch.float64)
    for cutoff in (c, c.clone().requires_grad_(), c[:1].clone().requires_grad_()):
        wanted = [z] + [cutoff] * cutoff.requires_grad
        with pytest.MonkeyPatch.context() as patch:
            limit = {"matrices": 10**9, "ffts": -1, "either": 20}[form]
            patch.setattr(_planes, "FFT_PRODUCTS", {True: limit, False: limit})
            found = torch.autograd.grad(spectral_low_pass(z, cutoff, **options), wanted, upstream)
        expected = torch.autograd.grad(plainly(z, cutoff, **options), wanted, upstream)
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("form", ["matrices", "ffts"])
@pytest.mark.parametrize(
    ("size", "window", "values"), [((4,), 2, [0.4]), ((2, 3), None, [0.3, 0.8]), ((2, 2), (1, 2), [0.3, 0.8])]
)
@pytest.mark.parametrize("exact", [False, True])
def test_second_derivatives_of_a_learned_cutoff(choose, form, size, window, values, exact):
    choose(form)
    z = field(size, batch=2, channels=1).requires_grad_()
    cutoff = torch.tensor(values, dtype=torch.float64, requires_grad=True)

    def forced(z, c):
        return spectral_low_pass(z, c, kappa=7.0, window=window, exact=exact)

    assert torch.autograd.gradcheck(forced, (z, cutoff))
    assert torch.autograd.gradgradcheck(forced, (z, cutoff))


def test_only_the_cutoff_learns():
    z, cutoff = field((4, 5)), torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(spectral_low_pass(z, cutoff).square().sum(), cutoff, create_graph=True)
    (second,) = torch.autograd.grad(found.sum(), cutoff)
    with passband.backend("plain"):
        (expected,) = torch.autograd.grad(spectral_low_pass(z, cutoff).square().sum(), cutoff, create_graph=True)
        (expected_second,) = torch.autograd.grad(expected.sum(), cutoff)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(second, expected_second)


def test_a_learned_cutoff_keeps_the_field_alone():
    kept = {}
    z = torch.randn(4, 3, 32, 32, requires_grad=True)
    cutoff = torch.rand(4, requires_grad=True)

    def keep(x):
        kept[x.data_ptr()] = x.nbytes
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        spectral_low_pass(z, cutoff)
    assert kept.pop(z.data_ptr()) == z.nbytes  # the caller's own
    assert sum(kept.values()) <= 0.01 * z.nbytes


def test_function_transforms_and_forward_mode():
    z, c = field((4, 6)), torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    mapped = torch.func.vmap(lambda z, c: spectral_low_pass(z[None], c)[0])(z, c)
    torch.testing.assert_close(mapped, spectral_low_pass(z, c))
    tangent = field((4, 6), seed=1)
    _, derivative = torch.func.jvp(lambda z: spectral_low_pass(z, c), (z,), (tangent,))
    torch.testing.assert_close(derivative, spectral_low_pass(tangent, c))
    gradient = torch.func.grad(lambda z: (spectral_low_pass(z, c) * tangent).sum())(z)
    torch.testing.assert_close(gradient, spectral_low_pass(tangent, c))


@pytest.mark.parametrize("window", [None, (2, 3)])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("again", [False, True])
def test_batched_gradients(window, exact, again):
    def some(z, c):
        return spectral_low_pass(z, c, window=window, exact=exact).flatten()[:40:9]

    z, c = field((4, 6)), torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    at_once, one_by_one = (
        torch.autograd.functional.jacobian(some, (z, c), vectorize=vectorize, create_graph=again)
        for vectorize in (True, False)
    )
    torch.testing.assert_close(at_once, one_by_one)  # learned cutoffs
    at_once, one_by_one = (
        torch.autograd.functional.jacobian(lambda z: some(z, c), z, vectorize=vectorize, create_graph=again)
        for vectorize in (True, False)
    )
    torch.testing.assert_close(at_once, one_by_one)  # fixed ones


def test_a_vmap_of_gradients():
    z, c = field((4, 6)), torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64, requires_grad=True)
    values = spectral_low_pass(z, c).square().mean((1, 2, 3))
    found = torch.vmap(lambda v: torch.autograd.grad(values, c, v, retain_graph=True)[0])(torch.eye(3).double())
    (expected,) = torch.autograd.grad(values.sum(), c)
    torch.testing.assert_close(found, expected.diag())


@pytest.mark.parametrize("learned", [True, False])
def test_tensors_made_in_inference_mode(learned):
    z, c = field((4, 6)), torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    results = []
    for mode in (False, True):
        with torch.inference_mode(mode):
            fixed = z.clone() if learned else c.clone()
        leaf = (c if learned else z).clone().requires_grad_()
        values = spectral_low_pass(fixed, leaf) if learned else spectral_low_pass(leaf, fixed)
        results.append(torch.autograd.grad(values.square().sum(), leaf)[0])
    assert torch.equal(*results)


def test_a_field_that_changed_raises():
    z, c = field((4, 6)), torch.full((3,), 0.5, dtype=torch.float64, requires_grad=True)
    values = spectral_low_pass(z, c)
    z.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        values.sum().backward()


# Inputs.


@pytest.mark.parametrize("form", ["matrices", "ffts"])
@pytest.mark.parametrize("window", [None, (1, 4), (5, 2)])
def test_any_layout(choose, form, window):
    choose(form, chunk=200)
    z = field((10, 8))
    layouts = {
        "transposed": z.mT.contiguous().mT,
        "channels last": z.to(memory_format=torch.channels_last),
        "strided": torch.stack([z, z], -1)[..., 0],
        "expanded": z[:1, :1].expand(3, 2, 10, 8),
        "reversed batch": z.flip(0)[[2, 1, 0]],
    }
    for name, x in layouts.items():
        before = x.clone()
        expected = plainly(x.contiguous(), 0.3, window=window)
        torch.testing.assert_close(spectral_low_pass(x, 0.3, window=window), expected, msg=name)
        assert torch.equal(x, before), name


@pytest.mark.parametrize("window", [4, None])
def test_signals_of_any_layout(window):
    z = field((12,)).transpose(0, 1).contiguous().transpose(0, 1)
    torch.testing.assert_close(spectral_low_pass(z, 0.3, window=window), plainly(z, 0.3, window=window))
    strided = torch.stack([z, z], -1)[..., 0]
    torch.testing.assert_close(spectral_low_pass(strided, 0.3, window=window), plainly(z, 0.3, window=window))


@pytest.mark.parametrize("form", ["matrices", "ffts"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_computed_in_single(choose, form, dtype):
    choose(form)
    z = field((12, 10)).to(dtype)
    torch.testing.assert_close(spectral_low_pass(z, 0.4), plainly(z.double(), 0.4).to(dtype))


@pytest.mark.parametrize("form", ["matrices", "ffts"])
def test_silence_and_inference(choose, form):
    choose(form)
    z = torch.zeros(2, 1, 8, 8, requires_grad=True)
    for exact in (False, True):
        forced = spectral_low_pass(z, torch.tensor([0.0, 1.0]), exact=exact)
        assert torch.equal(forced, torch.zeros_like(z))
        (grad,) = torch.autograd.grad(forced.sum(), z)
        assert bool(grad.isfinite().all())
    x = field((8, 8))
    with torch.inference_mode():
        result = spectral_low_pass(x, 0.5)
    torch.testing.assert_close(result, spectral_low_pass(x, 0.5))


@pytest.mark.parametrize("form", ["matrices", "ffts"])
def test_nan_cutoffs_and_fields_stay_with_their_sample(choose, form):
    choose(form)
    for position in range(3):
        cutoff = torch.tensor([1.0, 1.0, 1.0])
        cutoff[position] = torch.nan
        for exact in (False, True):
            forced = spectral_low_pass(field((4, 4)), cutoff, exact=exact)
            assert forced.isnan().flatten(1).any(1).tolist() == [i == position for i in range(3)]
    z = field((4, 4))
    z[1, 0, 2, 3] = torch.nan
    assert spectral_low_pass(z, 0.1, kappa=500.0).isnan().flatten(1).any(1).tolist() == [False, True, False]
