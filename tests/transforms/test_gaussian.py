"""The Gaussian blur against SciPy, its fixed points, gradients and errors."""

import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband.transforms import gaussian_blur

MODES = ["reflect", "mirror", "nearest", "constant", "wrap"]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


def field(size: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 2, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def reference(x: torch.Tensor, sigma: list[float], mode: str, truncate: float = 4.0) -> np.ndarray:
    return scipy.ndimage.gaussian_filter(x.numpy(), [0.0, 0.0, *sigma], mode=mode, truncate=truncate)


@pytest.mark.parametrize("mode", MODES)
@given(
    size=st.lists(st.integers(1, 12), min_size=1, max_size=3).map(tuple),
    sigma=st.sampled_from([0.1, 0.4, 1.0, 2.5, 9.0]),  # radii from nothing to several times the field
    seed=st.integers(0, 99),
)
def test_equals_scipy(mode, size, sigma, seed):
    x = field(size, seed)
    expected = reference(x, [sigma] * len(size), mode)
    np.testing.assert_allclose(gaussian_blur(x, sigma, mode=mode).numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("truncate", [0.5, 2.0, 3.3])
def test_one_sigma_per_axis_and_truncation_equal_scipy(truncate):
    x = field((9, 8, 7))
    blurred = gaussian_blur(x, (1.5, 0, 0.7), truncate=truncate)
    np.testing.assert_allclose(blurred.numpy(), reference(x, [1.5, 0, 0.7], "reflect", truncate), rtol=0, atol=1e-12)


@pytest.mark.parametrize("sigma", [0, 0.0, (0.0, 0)])
def test_sigma_zero_is_the_identity(sigma):
    x = field((5, 6))
    assert torch.equal(gaussian_blur(x, sigma), x)


@given(sigma=st.floats(0.3, 5.0), seed=st.integers(0, 99))
def test_wrap_is_a_product_in_fourier_space(sigma, seed):
    x = field((16,), seed)
    impulse = torch.zeros(1, 1, 16, dtype=torch.float64)
    impulse[..., 0] = 1
    gain = torch.fft.rfft(gaussian_blur(impulse, sigma, mode="wrap"))
    torch.testing.assert_close(torch.fft.rfft(gaussian_blur(x, sigma, mode="wrap")), gain * torch.fft.rfft(x))
    assert gain.imag.abs().max() < 1e-12  # a symmetric kernel moves nothing


@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "wrap"])
def test_a_constant_stays(mode):
    torch.testing.assert_close(
        gaussian_blur(torch.full((1, 1, 6, 7), 3.0), 2.0, mode=mode), torch.full((1, 1, 6, 7), 3.0)
    )


@pytest.mark.parametrize("mode", ["reflect", "wrap"])
def test_the_mean_stays(mode):
    x = field((6, 7))
    torch.testing.assert_close(gaussian_blur(x, 2.0, mode=mode).mean((2, 3)), x.mean((2, 3)))


@given(a=st.floats(-3, 3), b=st.floats(-3, 3), mode=st.sampled_from(MODES))
def test_linear(a, b, mode):
    x, y = field((6, 7), 1), field((6, 7), 2)
    whole = gaussian_blur(a * x + b * y, 1.2, mode=mode)
    parts = a * gaussian_blur(x, 1.2, mode=mode) + b * gaussian_blur(y, 1.2, mode=mode)
    torch.testing.assert_close(whole, parts, rtol=0, atol=1e-10)


@pytest.mark.parametrize("mode", MODES)
def test_gradients(mode):
    x = field((4, 3))[:1, :1].requires_grad_()
    torch.autograd.gradcheck(lambda x: gaussian_blur(x, 1.0, mode=mode), (x,))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_precision(device, dtype):
    x = field((8, 9)).to(device, dtype)
    with torch.autocast(device_type=device, dtype=torch.bfloat16):
        blurred = gaussian_blur(x, 1.3)
    assert blurred.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(blurred.double(), gaussian_blur(x.double(), 1.3), rtol=0, atol=1e-6)


def test_bad_input():
    x = torch.zeros(1, 1, 8, 8)
    with pytest.raises(TypeError, match=r"real floating-point tensor, got torch.int64"):
        gaussian_blur(x.long(), 1.0)
    with pytest.raises(ValueError, match=r"got shape \(8, 8\)"):
        gaussian_blur(x[0, 0], 1.0)
    with pytest.raises(ValueError, match=r"unknown mode: got 'miror' \(did you mean 'mirror'\?\); expected one of"):
        gaussian_blur(x, 1.0, mode="miror")
    for sigma in (-1.0, math.nan, math.inf, (1.0, -0.1)):
        with pytest.raises(ValueError, match="sigma must be finite and at least 0"):
            gaussian_blur(x, sigma)
    with pytest.raises(ValueError, match=r"one number or one per spatial axis \(2\), got 3"):
        gaussian_blur(x, (1.0, 1.0, 1.0))
    for truncate in (0, -4.0, math.inf):
        with pytest.raises(ValueError, match="truncate must be a finite number above 0"):
            gaussian_blur(x, 1.0, truncate=truncate)
