"""The operator against the published one and SciPy; self-adjointness, exactness, memory, precision and errors."""

import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband import Flow
from passband.forcing import ConstantFront, ContourFront, LinearFront, SpectralForcing, spectral_low_pass
from passband.transforms import dct, idct

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]
PUBLISHED = {
    "full32": (LinearFront(), 30.0, None),
    "win8of32": (LinearFront(), 30.0, 8),
    "fixed_0p5_of32": (ConstantFront(0.05 + 0.95 * 0.5), 30.0, None),
    "sharp10_cmin0p2_cmax0p8": (LinearFront(0.2, 0.8), 10.0, None),
}
FRONTS = [
    LinearFront(),
    LinearFront(0.0, 0.7),
    ContourFront(2.7, 4.0, 64),
    ContourFront(2.0, 3.0, 16, approximate=False),
]

cutoffs = st.floats(0, 1)
sides = st.integers(1, 6)
sizes = st.one_of(st.tuples(sides), st.tuples(sides, sides))
options = st.fixed_dictionaries({"kappa": st.floats(0.5, 100), "exact": st.booleans()})


def field(size, seed=0, dtype=torch.float64, batch=2):
    return torch.randn(batch, 2, *size, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def gain(cutoff, size, **options):
    """The gain of each frequency, from the operator's effect on the DCT's basis functions."""
    spectrum = torch.eye(int(np.prod(size)), dtype=torch.float64).reshape(-1, 1, *size)
    filtered = dct(spectral_low_pass(idct(spectrum), cutoff, **options))
    matrix = filtered.reshape(len(spectrum), -1)
    torch.testing.assert_close(matrix, matrix.diagonal().diag(), rtol=0, atol=1e-12)
    return matrix.diagonal().reshape(size)


@pytest.mark.parametrize("name", PUBLISHED)
def test_equals_the_published_operator(shared, name):
    arrays = np.load(shared / "parity" / "spectral_forcing_dev.npz")
    z, t, expected = (torch.tensor(arrays[f"{name}_{part}"]) for part in "xty")
    front, kappa, window = PUBLISHED[name]
    forced = SpectralForcing(Flow(data_at=1), front, kappa=kappa, window=window)(z, t)
    # Relative: the published basis has its angles rounded to float32, which shows in the last digits.
    torch.testing.assert_close(forced, expected, rtol=1e-5, atol=1e-5)
    assert (forced - expected).norm() / expected.norm() < 5e-6


@given(cutoff=cutoffs, size=sizes, kappa=st.floats(1, 60))
def test_equals_its_formula_in_scipy(cutoff, size, kappa):
    z = field(size)
    axes = tuple(range(2, z.ndim))
    radius = np.sqrt(sum((k / n) ** 2 for k, n in zip(np.indices(size), size, strict=True)))
    rho = radius / max(radius.max(), 1e-300)
    mask = 1 / (1 + np.exp(-kappa * (cutoff - rho)))
    expected = scipy.fft.idctn(mask * scipy.fft.dctn(z.numpy(), axes=axes, norm="ortho"), axes=axes, norm="ortho")
    np.testing.assert_allclose(spectral_low_pass(z, cutoff, kappa=kappa).numpy(), expected, rtol=0, atol=1e-12)


@given(cutoff=cutoffs, side=sides, kappa=st.floats(1, 60))
def test_the_exact_gain_is_its_formula(cutoff, side, kappa):
    rho = torch.arange(side, dtype=torch.float64) / max(side - 1, 1)
    mask = (kappa * (cutoff - rho)).sigmoid()
    expected = 1 - min(1, kappa * (1 - cutoff) / 4) * (1 - mask / mask[0])
    torch.testing.assert_close(gain(cutoff, (side,), kappa=kappa, exact=True), expected, rtol=0, atol=1e-12)


@given(grid=st.tuples(st.integers(1, 3), st.integers(1, 3)), window=st.tuples(sides, sides), options=options)
def test_windows_are_fields_of_their_own(grid, window, options):
    z = field(tuple(n * side for n, side in zip(grid, window, strict=True)))
    whole = spectral_low_pass(z, 0.4, window=window, **options)
    for i, j in np.ndindex(*grid):
        (h, w), tile = (
            window,
            (..., slice(i * window[0], (i + 1) * window[0]), slice(j * window[1], (j + 1) * window[1])),
        )
        assert z[tile].shape[2:] == (h, w)
        torch.testing.assert_close(whole[tile], spectral_low_pass(z[tile], 0.4, **options))


def test_windows_of_a_signal():
    z = field((12,))
    torch.testing.assert_close(spectral_low_pass(z, 0.4, window=4)[..., 4:8], spectral_low_pass(z[..., 4:8], 0.4))


@given(low=cutoffs, high=cutoffs, size=sizes, options=options)
def test_each_sample_has_its_own_cutoff(low, high, size, options):
    z = field(size)
    both = spectral_low_pass(z, torch.tensor([low, high], dtype=torch.float64), **options)
    for i, cutoff in enumerate((low, high)):
        torch.testing.assert_close(both[i : i + 1], spectral_low_pass(z[i : i + 1], cutoff, **options))


# The exact form.


@given(size=sizes, kappa=st.floats(0.5, 100), dtype=st.sampled_from([torch.float16, torch.float32, torch.float64]))
def test_exact_is_the_input_itself_at_cutoff_one(size, kappa, dtype):
    z = field(size).to(dtype)
    assert torch.equal(spectral_low_pass(z, 1.0, kappa=kappa, exact=True), z)


@pytest.mark.parametrize("front", [f for f in FRONTS if getattr(f, "c_max", 1) == 1], ids=repr)
@pytest.mark.parametrize("window", [None, 4])
def test_exact_is_the_input_itself_at_clean_data(front, window):
    z = field((8, 12), dtype=torch.float32)
    assert torch.equal(SpectralForcing(Flow(data_at=1), front, window=window, exact=True)(z, torch.ones(2)), z)


@given(cutoff=cutoffs, size=sizes, kappa=st.floats(0.5, 100))
def test_exact_keeps_the_mean(cutoff, size, kappa):
    z = field(size)
    low = spectral_low_pass(z, cutoff, kappa=kappa, exact=True)
    torch.testing.assert_close(low.flatten(2).mean(-1), z.flatten(2).mean(-1))
    constant = torch.full_like(z, 1.7)
    torch.testing.assert_close(spectral_low_pass(constant, cutoff, kappa=kappa, exact=True), constant)


@given(front=st.sampled_from(FRONTS), times=st.tuples(cutoffs, cutoffs), options=options, size=sizes)
def test_the_gain_never_falls_as_tau_grows(front, times, options, size):
    early, late = (front(torch.tensor(t, dtype=torch.float64)).item() for t in sorted(times))
    lower, higher = gain(early, size, **options), gain(late, size, **options)
    assert bool((higher - lower > -1e-12).all())
    assert bool(((higher > -1e-12) & (higher < 1 + 1e-12)).all())


# Gradients.


@given(cutoff=cutoffs, size=sizes, options=options)
def test_the_gradient_is_the_operator_itself(cutoff, size, options):
    z, upstream = field(size).requires_grad_(), field(size, seed=1)
    (grad,) = torch.autograd.grad(spectral_low_pass(z, cutoff, **options), z, upstream)
    assert torch.equal(grad, spectral_low_pass(upstream, cutoff, **options))


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(("size", "window"), [((5,), None), ((2, 3), None), ((2, 4), (1, 2))])
def test_first_and_second_derivatives(size, window, exact):
    z = field(size).requires_grad_()
    cutoff = torch.tensor([0.3, 0.8], dtype=torch.float64)

    def forced(z):
        return spectral_low_pass(z, cutoff, kappa=7.0, window=window, exact=exact)

    assert torch.autograd.gradcheck(forced, (z,))
    assert torch.autograd.gradgradcheck(forced, (z,))


@pytest.mark.parametrize("exact", [False, True])
def test_a_learned_cutoff_gets_its_gradient(exact):
    z = field((4, 3)).requires_grad_()
    cutoff = torch.tensor([0.3, 0.8], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z, c: spectral_low_pass(z, c, kappa=7.0, exact=exact), (z, cutoff))


@pytest.mark.parametrize("exact", [False, True])
def test_next_to_nothing_is_kept_for_the_backward_pass(exact):
    kept = []
    z = torch.randn(4, 3, 32, 32, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.nbytes), lambda x: x):
        spectral_low_pass(z, torch.rand(4), exact=exact)
    assert 0 < sum(kept) <= 0.01 * z.nbytes


# Precision.


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_at_least_float32_also_under_autocast(device, dtype, exact):
    z = field((16, 16)).to(device, dtype).requires_grad_()
    with torch.autocast(device_type=device, dtype=torch.bfloat16):
        forced = spectral_low_pass(z, 0.5, exact=exact)
    assert forced.dtype == dtype
    assert forced.device == z.device
    (grad,) = torch.autograd.grad(forced, z, torch.ones_like(forced))
    assert grad.dtype == dtype
    rounding = torch.finfo(dtype).eps if dtype != torch.float64 else 1e-12
    expected = spectral_low_pass(z.detach().double(), 0.5, exact=exact)
    torch.testing.assert_close(forced.double(), expected, rtol=rounding, atol=2e-6)


@pytest.mark.parametrize("exact", [False, True])
def test_nan_stays_with_its_sample(exact):
    z = field((4, 4))
    z[0, 0, 1, 2] = torch.nan
    forced = spectral_low_pass(z, 0.5, exact=exact)
    assert forced[0, 0].isnan().all()
    assert not forced[1].isnan().any()
    cutoff = torch.tensor([torch.nan, 0.5])
    assert spectral_low_pass(field((4, 4)), cutoff, exact=exact).isnan().flatten(1).any(1).tolist() == [True, False]


def test_long_signals():
    z = field((700,), dtype=torch.float32)  # beyond the largest matrix of the DCT
    expected = spectral_low_pass(z.double(), 0.3)
    torch.testing.assert_close(spectral_low_pass(z, 0.3).double(), expected, rtol=0, atol=1e-5)


def test_an_empty_batch():
    assert spectral_low_pass(torch.zeros(0, 3, 4, 4), torch.zeros(0)).shape == (0, 3, 4, 4)


def test_not_contiguous():
    z = field((4, 6), dtype=torch.float32)
    torch.testing.assert_close(spectral_low_pass(z.mT, 0.4), spectral_low_pass(z.mT.contiguous(), 0.4))
    last = z.to(memory_format=torch.channels_last)
    torch.testing.assert_close(spectral_low_pass(last, 0.4), spectral_low_pass(z, 0.4))


# Tables.


def test_a_first_use_in_inference_does_not_spoil_training():
    with torch.inference_mode():
        spectral_low_pass(torch.ones(1, 1, 11, 13), 0.5)
    z, cutoff = torch.ones(1, 1, 11, 13, requires_grad=True), torch.tensor(0.5, requires_grad=True)
    spectral_low_pass(z, cutoff).square().sum().backward()
    assert bool(z.grad.isfinite().all())
    assert bool(cutoff.grad.isfinite())


def test_tensors_without_values():
    fake = torch._subclasses.FakeTensorMode()
    with fake:
        assert spectral_low_pass(torch.empty(2, 1, 9, 17), 0.5).shape == (2, 1, 9, 17)
    assert type(spectral_low_pass(torch.ones(2, 1, 9, 17), 0.5)) is torch.Tensor
    assert spectral_low_pass(torch.empty(2, 1, 9, 17, device="meta"), 0.5).device.type == "meta"


# Errors.


@pytest.mark.parametrize(
    ("z", "message"),
    [
        (torch.zeros(1, 1, 4, 4, 4), r"with 1 or 2 spatial dimension\(s\), got shape \(1, 1, 4, 4, 4\)"),
        (torch.zeros(4, 4), r"got shape \(4, 4\)"),
        (torch.zeros(1, 1, 0), "empty dimension"),
        (torch.zeros(1, 1, 4, dtype=torch.int64), "real floating-point tensor, got torch.int64"),
        ([[1.0]], "z must be a torch.Tensor, got list"),
    ],
)
def test_bad_fields(z, message):
    with pytest.raises((TypeError, ValueError), match=message):
        spectral_low_pass(z, 0.5)


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (5, r"a window of 5 does not divide axis 2 of a field of size \(12, 8\); of 12, these do: 1, 2, 3, 4, 6, 12"),
        ((4, 3), r"window of 3 does not divide axis 3 .* of 8, these do: 1, 2, 4, 8"),
        (24, "window of 24 does not divide"),
        ((4,), r"one side or one per axis \(2\), got \(4,\)"),
        (0, "positive sides, got 0"),
        ((2, 2, 2), "1 or 2 positive sides"),
        (2.0, "window must be None, an int, or one int per axis, got 2.0"),
        ("8", "got '8'"),
        (True, "got True"),
    ],
)
def test_bad_windows(window, message):
    with pytest.raises((TypeError, ValueError), match=message):
        spectral_low_pass(torch.zeros(1, 1, 12, 8), 0.5, window=window)


@pytest.mark.parametrize("kappa", [0, -1, float("nan"), float("inf"), "30", None, True])
def test_bad_slopes(kappa):
    with pytest.raises((TypeError, ValueError), match="kappa"):
        spectral_low_pass(torch.zeros(1, 1, 4), 0.5, kappa=kappa)


@pytest.mark.parametrize(
    ("cutoff", "message"),
    [
        (1.5, r"0 to 1; got values in \[1.5, 1.5\]"),
        (-0.1, r"got values in \[-0.1, -0.1\]"),
        (torch.tensor([0.5, 32.0]), r"got values in \[0.5, 32\] \(a front returns cutoffs, not frequency indices\)"),
        (torch.tensor([0.1, 0.2, 0.3]), r"one per sample: got shape \(3,\) for a batch of 2"),
        (torch.tensor([1, 0]), "floating-point numbers, got torch.int64"),
        ("0.5", "cutoff must be a number"),
        (None, "cutoff must be a number"),
    ],
)
def test_bad_cutoffs(cutoff, message):
    with pytest.raises((TypeError, ValueError), match=message):
        spectral_low_pass(torch.zeros(2, 1, 4), cutoff)
