"""The half spectrum that the losses share, against the full one."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from passband.regularization.kernels import half

SIZES = [(1,), (2,), (7,), (8,), (1, 1), (2, 2), (5, 1), (6, 8), (7, 5), (3, 4, 5), (2, 1, 2)]
every_size = pytest.mark.parametrize("size", SIZES, ids=str)


def fields(*size: int) -> Tensor:
    return torch.randn(3, 2, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def full(x: Tensor) -> np.ndarray:
    return np.fft.fftn(x.numpy(), axes=tuple(range(2, x.ndim)), norm="ortho")


@every_size
def test_it_is_the_first_half_of_the_full_spectrum(size):
    x = fields(*size)
    np.testing.assert_allclose(half.spectrum(x).numpy(), full(x)[..., : size[-1] // 2 + 1], atol=1e-14)


@every_size
def test_there_and_back(size):
    x = fields(*size)
    torch.testing.assert_close(half.field(half.spectrum(x), size), x, rtol=0, atol=1e-14)


@every_size
def test_sums_are_those_of_the_full_spectrum(size):
    x = fields(*size)
    spectrum = half.spectrum(x)
    power = half.squares(spectrum, torch.empty_like(spectrum))
    expected = (np.abs(full(x)) ** 2).reshape(3, -1).sum(1)
    np.testing.assert_allclose(half.whole_sum_(power, size[-1]).numpy(), expected, rtol=1e-13)


@every_size
def test_the_way_back_is_the_gradient(size):
    # Of the sum of |X|^3 over the full spectrum, whose gradient in the spectrum is 3 |X| X.
    x = fields(*size).requires_grad_()
    value = torch.fft.fftn(x, dim=tuple(range(2, x.ndim)), norm="ortho").abs().pow(3).sum()
    (expected,) = torch.autograd.grad(value, x)
    spectrum = half.spectrum(x.detach())
    result = half.field(3 * spectrum.abs() * spectrum, size)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-12)


def test_the_modulus_and_its_square():
    x = half.spectrum(fields(6, 8))
    x[0] = 0
    expected = x.abs()
    torch.testing.assert_close(half.modulus(x, torch.empty_like(x)), expected, rtol=1e-14, atol=0)
    torch.testing.assert_close(half.squares(x.clone(), x), expected.square(), rtol=1e-14, atol=0)
    x = half.spectrum(fields(6, 8))
    torch.testing.assert_close(half.modulus(x.clone(), x)[1:], expected[1:], rtol=1e-14, atol=0)
    x = half.spectrum(fields(6, 8))
    torch.testing.assert_close(half.modulus(x, x)[1:], expected[1:], rtol=1e-14, atol=0)
    assert half.modulus(x.to("meta"), x.to("meta")).shape == x.shape


@given(st.integers(1, 50), st.integers(1, 3), st.lists(st.integers(1, 90), min_size=1, max_size=2))
def test_chunks_are_a_partition(batch, channels, size):
    x = torch.zeros(batch, channels, *size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(half, "_WHOLE", 5000)
        patch.setattr(half, "_PART", 2000)
        parts = list(half.chunks(x))
    assert torch.equal(torch.cat([torch.arange(batch)[part] for part in parts]), torch.arange(batch))
    lengths = [part.stop - part.start for part in parts]
    assert max(lengths) - min(lengths) <= 1
    assert min(lengths) > 0


def test_nothing_is_cut_off_a_cpu():
    assert list(half.chunks(torch.zeros(64, 3, 256, 256, device="meta"))) == [slice(0, 64)]
