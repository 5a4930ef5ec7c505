"""The DCT against SciPy, its inverse, Parseval, the FFT form, blocks, gradients and errors."""

import math

import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given
from hypothesis import strategies as st

import passband
from passband import _linear
from passband.transforms import block_dct, block_idct, dct, dct_matrix, idct

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]
LONG = [257, 258, 513, 1000, 1025]  # beyond the largest matrix: the FFT form
sizes = st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple)


def field(size: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "size", [(1,), (8,), (7,), (512,), *((n,) for n in LONG), (6, 5), (3, 600), (600, 3), (4, 5, 6)]
)
def test_equals_scipy(size):
    x = field(size)
    axes = tuple(range(2, x.ndim))
    np.testing.assert_allclose(
        dct(x).numpy(), scipy.fft.dctn(x.numpy(), 2, axes=axes, norm="ortho"), rtol=0, atol=1e-11
    )
    np.testing.assert_allclose(
        idct(x).numpy(), scipy.fft.idctn(x.numpy(), 2, axes=axes, norm="ortho"), rtol=0, atol=1e-11
    )


@pytest.mark.parametrize("dims", [(2,), (-1,), (3,), (-1, 2), (2, 3, 4)])
def test_chosen_axes_equal_scipy(dims):
    x = field((4, 5, 6))
    for ours, theirs in ((dct, scipy.fft.dctn), (idct, scipy.fft.idctn)):
        np.testing.assert_allclose(
            ours(x, dims).numpy(), theirs(x.numpy(), 2, axes=dims, norm="ortho"), rtol=0, atol=1e-12
        )


@given(size=sizes, seed=st.integers(0, 99))
def test_inverse_and_parseval(size, seed):
    x = field(size, seed)
    torch.testing.assert_close(idct(dct(x)), x)
    torch.testing.assert_close(dct(x).square().sum(), x.square().sum())


@given(a=st.floats(-3, 3), b=st.floats(-3, 3), n=st.sampled_from([5, 8, 520]))
def test_linear(a, b, n):
    x, y = field((n,), 1), field((n,), 2)
    torch.testing.assert_close(dct(a * x + b * y), a * dct(x) + b * dct(y), rtol=0, atol=1e-10)


def test_a_basis_function_is_one_coefficient():
    n = torch.arange(8, dtype=torch.float64)
    coefficients = dct(torch.cos(math.pi * 3 * (2 * n + 1) / 16)[None, None]).squeeze()
    expected = torch.zeros(8, dtype=torch.float64)
    expected[3] = 2.0  # sqrt(8 / 2)
    torch.testing.assert_close(coefficients, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 8, 63, 512])
def test_matrix_is_orthonormal_and_equals_scipy(n):
    matrix = dct_matrix(n)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(n, dtype=torch.float64), rtol=0, atol=1e-13)
    np.testing.assert_allclose(matrix.numpy(), scipy.fft.dct(np.eye(n), axis=0, norm="ortho"), rtol=0, atol=1e-14)


def test_matrix_is_a_copy_of_its_own():
    dct_matrix(8).zero_()
    assert dct_matrix(8).abs().sum() > 1


@given(grid=st.lists(st.integers(1, 3), min_size=1, max_size=3), side=st.integers(1, 5), seed=st.integers(0, 99))
def test_blocks_are_the_dct_of_each_tile(grid, side, seed):
    x = field(tuple(n * side for n in grid), seed)
    spectrum = block_dct(x, side)
    assert spectrum.shape == (2, 3, *grid, *[side] * len(grid))
    for position in np.ndindex(*grid):
        tile = (..., *(slice(p * side, (p + 1) * side) for p in position))
        torch.testing.assert_close(spectrum[(slice(None), slice(None), *position)], dct(x[tile]))
    torch.testing.assert_close(block_idct(spectrum), x)


def test_blocks_may_be_oblong():
    x = field((6, 10))
    spectrum = block_dct(x, (3, 5))
    assert spectrum.shape == (2, 3, 2, 2, 3, 5)
    torch.testing.assert_close(spectrum[:, :, 1, 0], dct(x[..., 3:, :5]))
    torch.testing.assert_close(block_idct(spectrum), x)


@pytest.mark.parametrize("size", [(5,), (4, 3), (2, 3, 2)])
def test_gradients(size):
    x = field(size)[:1, :1].requires_grad_()
    torch.autograd.gradcheck(dct, (x,))
    torch.autograd.gradcheck(idct, (x,))


def test_gradients_of_the_fft_form():
    x, weights = field((521,))[:1, :1].requires_grad_(), field((521,), 1)[:1, :1]
    for transform, adjoint in ((dct, idct), (idct, dct)):
        (grad,) = torch.autograd.grad((transform(x) * weights).sum(), x)
        torch.testing.assert_close(grad, adjoint(weights), rtol=0, atol=1e-11)


def test_gradients_of_blocks():
    x = field((4, 6))[:1, :1].requires_grad_()
    torch.autograd.gradcheck(lambda x: block_dct(x, 2), (x,))
    torch.autograd.gradcheck(block_idct, (block_dct(x, 2).detach().requires_grad_(),))


@pytest.mark.parametrize("size", [(5,), (3, 4), (300,), (257, 3), (3, 270), (2, 3, 2)])
@pytest.mark.parametrize("transform", [dct, idct])
def test_equals_plain_autograd(transform, size):
    x, upstream = field(size).requires_grad_(), field(size, 1)
    results = []
    for backend in ("auto", "plain"):
        with passband.backend(backend):
            result = transform(x)
            (grad,) = torch.autograd.grad(result.square().sum(), x, create_graph=True)
            results.append((result, grad, *torch.autograd.grad(grad, x, upstream)))
    torch.testing.assert_close(*results, rtol=0, atol=1e-12)


def test_second_derivatives():
    x = field((3, 4))[:1, :1].requires_grad_()
    torch.autograd.gradgradcheck(lambda x: dct(x).pow(3), (x,))
    torch.autograd.gradgradcheck(lambda x: idct(x, (3,)).pow(3), (x,))


def test_nothing_is_kept_for_the_backward_pass():
    kept = []
    x = torch.randn(2, 3, 16, 300, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.nbytes), lambda t: t):
        idct(dct(x))
    assert kept == []


@pytest.mark.parametrize("shape", [(2, 2, 130, 140), (3, 1, 256, 64), (1, 2, 3, 128, 130)])
@pytest.mark.parametrize("inverse", [False, True])
def test_large_products(shape, inverse):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    transform = idct if inverse else dct
    expected = transform(x.double())
    torch.testing.assert_close(transform(x).double(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(transform(x.mT.contiguous().mT).double(), expected, rtol=0, atol=1e-5)


@given(rows=st.integers(1, 9), n=st.integers(1, 9), columns=st.integers(1, 9), seed=st.integers(0, 9))
def test_products_by_either_library(rows, n, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    x, weight = torch.randn(rows, n, generator=generator), torch.randn(columns, n, generator=generator)
    expected = x.double() @ weight.double().T
    with pytest.MonkeyPatch.context() as patch:
        for smallest in (0, 2**21):
            patch.setattr(_linear, "_SMALLEST", smallest)
            for a in (x, x.T.contiguous().T):
                for b in (weight, weight.T.contiguous().T):
                    torch.testing.assert_close(_linear.linear(a, b).double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(300,), (3, 4)])
@pytest.mark.parametrize("transform", [dct, idct])
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_batched_gradients(transform, size):
    x = field(size)[:1]
    for name in ("auto", "plain"):
        with passband.backend(name):
            at_once, one_by_one = (
                torch.autograd.functional.jacobian(lambda x: transform(x).flatten()[:4], x, vectorize=vectorize)
                for vectorize in (True, False)
            )
        torch.testing.assert_close(at_once, one_by_one)


def test_under_function_transforms():
    x, upstream = field((4, 5)), field((4, 5), 1)
    torch.testing.assert_close(torch.func.vmap(lambda x: dct(x[None])[0])(x), dct(x))
    torch.testing.assert_close(torch.func.jvp(dct, (x,), (upstream,))[1], dct(upstream))
    torch.testing.assert_close(torch.func.grad(lambda x: (dct(x) * upstream).sum())(x), idct(upstream))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("n", [16, 600])
def test_precision(device, dtype, n):
    x = field((4, n)).to(device, dtype)
    with torch.autocast(device_type=device, dtype=torch.bfloat16):
        coefficients = dct(x)
        restored = idct(coefficients)
        blocks = block_dct(x, 4)
    assert (
        coefficients.dtype
        == restored.dtype
        == blocks.dtype
        == (torch.float64 if dtype == torch.float64 else torch.float32)
    )
    torch.testing.assert_close(coefficients.double(), dct(x.double()), rtol=0, atol=2e-5)
    torch.testing.assert_close(restored.double(), x.double(), rtol=0, atol=2e-5)
    torch.testing.assert_close(block_idct(blocks).double(), x.double(), rtol=0, atol=2e-5)


def test_a_first_use_without_gradients_does_not_spoil_a_later_one():
    with torch.inference_mode():
        dct(torch.ones(1, 1, 11))
    x = torch.ones(1, 1, 11, requires_grad=True)
    dct(x).sum().backward()
    assert x.grad is not None


def test_bad_input():
    x = torch.zeros(1, 1, 8, 12)
    with pytest.raises(TypeError, match=r"real floating-point tensor, got torch.int64"):
        dct(x.long())
    with pytest.raises(ValueError, match=r"got shape \(8, 12\)"):
        idct(x[0, 0])
    for dims in [(1,), (4,), (-3,), (2, 2), (2, -2), ()]:
        with pytest.raises(ValueError, match=r"dims must be distinct spatial axes .* \(2, 3\) \(or \(-2, -1\)\)"):
            dct(x, dims)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        dct_matrix(0)


def test_bad_blocks():
    x = torch.zeros(1, 1, 8, 12)
    with pytest.raises(ValueError, match=r"blocks of \(8, 8\) do not tile a field of size \(8, 12\); crop or pad"):
        block_dct(x)
    with pytest.raises(ValueError, match=r"blocks of \(0, 0\) do not tile"):
        block_dct(x, 0)
    with pytest.raises(ValueError, match=r"one side or one per axis \(2\), got \(4,\)"):
        block_dct(x, (4,))
    with pytest.raises(ValueError, match=r"\(batch, channels, \*blocks, \*block\).*got shape \(1, 1, 2, 2, 2\)"):
        block_idct(torch.zeros(1, 1, 2, 2, 2))
    with pytest.raises(TypeError, match="got list"):
        block_idct([1.0])
