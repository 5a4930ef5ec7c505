"""The half-spectrum DFT against NumPy, Parseval, its inverse, and its weights."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband.transforms import half_weights, irfftn, rfftn

SIZES = [(8,), (7,), (1,), (6, 8), (5, 7), (6, 5), (1, 4), (4, 6, 8), (3, 5, 7)]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]
sizes = st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple)


def field(size: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", SIZES)
def test_equals_numpy(size):
    x = field(size)
    expected = np.fft.rfftn(x.numpy(), axes=tuple(range(2, x.ndim)), norm="ortho")
    np.testing.assert_allclose(rfftn(x).numpy(), expected, rtol=0, atol=1e-12)


def test_a_cosine_is_one_line():
    n = torch.arange(16, dtype=torch.float64)
    spectrum = rfftn(torch.cos(2 * torch.pi * 3 * n / 16)[None, None]).abs().squeeze()
    expected = torch.zeros(9, dtype=torch.float64)
    expected[3] = 2.0  # sqrt(16) / 2
    torch.testing.assert_close(spectrum, expected, rtol=0, atol=1e-12)


@given(size=sizes, seed=st.integers(0, 99))
def test_parseval_and_inverse(size, seed):
    x = field(size, seed)
    spectrum = rfftn(x)
    torch.testing.assert_close((half_weights(size) * spectrum.abs() ** 2).sum(), x.square().sum())
    torch.testing.assert_close(irfftn(spectrum, size), x)


@given(size=sizes, seed=st.integers(0, 99))
def test_weighted_sums_equal_sums_over_the_full_spectrum(size, seed):
    x = field(size, seed)
    full = torch.fft.fftn(x, dim=tuple(range(2, x.ndim)), norm="ortho").abs()
    torch.testing.assert_close((half_weights(size) * rfftn(x).abs()).sum(), full.sum())


@pytest.mark.parametrize("width", range(1, 10))
def test_weights_count_every_frequency_once(width):
    counts = np.bincount([min(k, width - k) for k in range(width)])
    assert half_weights((5, width)).tolist() == counts.tolist()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_precision(device, dtype):
    x = field((8, 7)).to(device, dtype)
    with torch.autocast(device_type=device, dtype=torch.bfloat16):
        spectrum = rfftn(x)
    assert spectrum.dtype == (torch.complex128 if dtype == torch.float64 else torch.complex64)
    torch.testing.assert_close(spectrum.to(torch.complex128), rfftn(x.double()), rtol=0, atol=1e-5)
    assert half_weights((8, 7), dtype=torch.float32, device=device).device.type == device


def test_gradients():
    x = field((4, 5)).requires_grad_()
    torch.autograd.gradcheck(rfftn, (x,))
    torch.autograd.gradcheck(lambda x: irfftn(rfftn(x) * (1 + 2j), (4, 5)), (x,))


def test_nan_stays_in_its_sample_and_channel():
    x = field((4, 4))
    x[1, 2, 0, 0] = torch.nan
    broken = rfftn(x).isnan().flatten(2)
    assert broken[1, 2].all()
    assert broken.sum() == broken[1, 2].sum()


def test_bad_input():
    with pytest.raises(TypeError, match=r"real floating-point tensor, got torch.int64"):
        rfftn(torch.zeros(1, 1, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"1 or 2 or 3 spatial dimension\(s\), got shape \(4, 4\)"):
        rfftn(torch.zeros(4, 4))
    with pytest.raises(ValueError, match=r"1 or 2 or 3 spatial"):
        rfftn(torch.zeros(1, 1, 2, 2, 2, 2))
    with pytest.raises(ValueError, match="empty dimension"):
        rfftn(torch.zeros(1, 1, 0))
    with pytest.raises(ValueError, match=r"size \(4, 9\) has a half spectrum of shape \(4, 5\), got \(4, 4\)"):
        irfftn(torch.zeros(1, 1, 4, 4, dtype=torch.complex64), (4, 9))
