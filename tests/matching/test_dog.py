"""DoG and spatial normalisation against SciPy, their limits, small and odd grids, and bad input."""

import math
import re

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband.matching import dog, spatial_normalize

sides = st.integers(1, 9)
sizes = st.one_of(st.tuples(sides), st.tuples(sides, sides), st.tuples(*[st.integers(2, 4)] * 3))


def field(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@given(size=sizes, sigma1=st.floats(0, 0.5), more=st.floats(0.01, 3))
def test_dog_equals_scipy_on_any_grid(size, sigma1, more):
    """Large widths reach far beyond small grids."""
    if math.prod(size) == 1:
        return
    tokens = field(2, 3, *size)
    side = min(size)
    blurs = [
        scipy.ndimage.gaussian_filter(tokens.numpy(), (0, 0, *[sigma * side] * len(size)), mode="reflect")
        for sigma in (sigma1, sigma1 + more)
    ]
    std = tokens.numpy().std(tuple(range(2, tokens.ndim)), keepdims=True)
    torch.testing.assert_close(
        dog(tokens, sigma1, sigma1 + more), torch.tensor((blurs[0] - blurs[1]) / std), rtol=0, atol=1e-6
    )


@given(size=sizes, gamma=st.floats(-1, 2))
def test_spatial_normalisation_equals_its_formula(size, gamma):
    if math.prod(size) == 1:
        return
    tokens = field(2, 3, *size) + 2
    axes = tuple(range(2, tokens.ndim))
    values = tokens.numpy()
    expected = (values - gamma * values.mean(axes, keepdims=True)) / values.std(axes, keepdims=True)
    torch.testing.assert_close(spatial_normalize(tokens, gamma), torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_full_normalisation_has_mean_0_and_deviation_1():
    z = spatial_normalize(5 * field(2, 3, 6, 7) - 40)
    torch.testing.assert_close(z.mean((2, 3)), torch.zeros(2, 3, dtype=torch.float64), rtol=0, atol=1e-10)
    torch.testing.assert_close(z.std((2, 3), correction=0), torch.ones(2, 3, dtype=torch.float64), rtol=1e-5, atol=0)


def test_a_very_wide_outer_blur_is_spatial_normalisation():
    tokens = field(2, 3, 6, 8) + 1
    torch.testing.assert_close(dog(tokens, 0, 20.0), spatial_normalize(tokens), rtol=0, atol=1e-3)


def test_the_band_between_the_widths_stays():
    """The gain on a wave of w cycles over the grid is exp(-2(πσ₁w)²) - exp(-2(πσ₂w)²), σ as shares of the side."""
    n = 64
    for cycles in (1, 4, 16):
        wave = torch.cos(math.pi * 2 * cycles * (2 * torch.arange(n, dtype=torch.float64) + 1) / (2 * n))
        band = dog(wave.expand(1, 1, n, n), 1 / 32, 1 / 8)
        gain = math.exp(-2 * (math.pi * cycles / 32) ** 2) - math.exp(-2 * (math.pi * cycles / 8) ** 2)
        expected = gain * wave * math.sqrt(2)
        torch.testing.assert_close(band[0, 0, 0], expected, rtol=0, atol=2e-3)


def test_widths_are_shares_of_the_shorter_side():
    tokens = field(1, 2, 6, 12)
    values = tokens.numpy()
    expected = (values - scipy.ndimage.gaussian_filter(values, (0, 0, 1.5, 1.5), mode="reflect")) / values.std(
        (2, 3), keepdims=True
    )
    torch.testing.assert_close(dog(tokens, 0, 0.25), torch.tensor(expected), rtol=0, atol=1e-6)


TARGETS = [spatial_normalize, lambda tokens: dog(tokens, 0.0, 0.25)]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, -700.0])
def test_a_constant_channel_gives_0_not_noise(target, dtype, value):
    tokens = field(1, 2, 7, 9, dtype=dtype)
    tokens[:, 1] = value
    out = target(tokens)
    assert out[:, 1].abs().max() < 0.01
    assert out[:, 0].abs().max() > 0.5


@pytest.mark.parametrize("target", TARGETS)
def test_one_token_has_no_contrast(target):
    assert not target(field(2, 3, 1, 1)).any()


@pytest.mark.parametrize("target", TARGETS)
def test_gradients_precision_and_nan(target):
    assert torch.autograd.gradcheck(target, field(1, 2, 4, 3).requires_grad_())
    half = field(2, 3, 5, 5).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(target(half), target(half.float()))
    spoiled = field(2, 2, 5)
    spoiled[0, 1, 2] = math.nan
    assert target(spoiled).isnan().flatten(2).any(2).tolist() == [[False, True], [False, False]]
    assert target(torch.empty(2, 3, 4, 5, device="meta")).shape == (2, 3, 4, 5)


def test_scale_of_a_channel_does_not_count():
    tokens = field(2, 3, 6, 5)
    scales = torch.tensor([1e-3, 1.0, 1e4]).double().reshape(1, 3, 1, 1)
    for target in TARGETS:
        torch.testing.assert_close(target(tokens * scales), target(tokens), rtol=1e-5, atol=1e-6)
    assert np.isfinite(dog(1e-30 * tokens, 0, 1).numpy()).all()


X = torch.zeros(2, 3, 4, 4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: dog(X, 0.2, 0.1), ValueError, "0 <= sigma1 < sigma2"),
        (lambda: dog(X, 0.1, 0.1), ValueError, "0 <= sigma1 < sigma2"),
        (lambda: dog(X, -0.1, 0.1), ValueError, "0 <= sigma1 < sigma2"),
        (lambda: dog(X, 0, math.inf), ValueError, "0 <= sigma1 < sigma2"),
        (lambda: dog(X, None, 0.1), TypeError, "sigma1 must be a number"),
        (lambda: dog(X.long(), 0, 0.1), TypeError, "tokens must be a real floating"),
        (lambda: dog(X[0, 0], 0, 0.1), ValueError, "tokens must have shape"),
        (lambda: spatial_normalize(X, math.nan), ValueError, "gamma is the share"),
        (lambda: spatial_normalize(X, "1"), TypeError, "gamma must be a number"),
        (lambda: spatial_normalize(X.byte()), TypeError, "tokens must be a real floating"),
    ],
)
def test_bad_input_is_told(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
