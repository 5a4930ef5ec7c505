"""Rings, binned spectra and the anti-aliased image against NumPy, SciPy and waves that can be written down."""

import math
import re

import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband.matching import anti_aliased, latent_spectrum, spectrum_rings

sides = st.integers(1, 12)
sizes = st.one_of(st.tuples(sides), st.tuples(sides, sides), st.tuples(*[st.integers(1, 4)] * 3))


def field(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def wave(index, n, axis=-1, dims=1):
    """One DCT wave of amplitude 1, along an axis of a field."""
    x = torch.cos(math.pi * index * (2 * torch.arange(n, dtype=torch.float64) + 1) / (2 * n))
    return x.reshape(1, 1, *[n if i == axis % dims else 1 for i in range(dims)])


@given(size=sizes, bins=st.integers(1, 20))
def test_spectra_are_means_over_rings(size, bins):
    x = field(2, 3, *size)
    rings = spectrum_rings(size, bins)
    power = scipy.fft.dctn(x.numpy(), axes=tuple(range(2, x.ndim)), norm="ortho") ** 2
    radius = np.sqrt(sum(axis**2 for axis in np.meshgrid(*[np.arange(n) / (2 * n) for n in size], indexing="ij")))
    ring = np.searchsorted(rings.edges.numpy() - 1e-9, radius, side="right") - 1
    ring.flat[0] = -1
    expected = [power[..., ring == b].mean(-1) if (ring == b).any() else np.zeros((2, 3)) for b in range(bins)]
    torch.testing.assert_close(latent_spectrum(x, bins), torch.tensor(np.stack(expected, -1)))
    assert rings.counts.tolist() == [int((ring == b).sum()) for b in range(bins)]
    assert rings.counts.sum() == math.prod(size) - 1


def test_a_wave_is_in_the_ring_of_its_frequency_whatever_the_size():
    for n in (16, 24, 40):
        spectrum = latent_spectrum(wave(n // 4, n, dims=2).expand(1, 1, n, n), bins=8)  # 1/8 of a cycle per pixel
        assert spectrum.argmax().item() == 1
        edges = spectrum_rings((n, n), bins=8).edges
        assert edges[1] < 1 / 8 < edges[2]


def test_white_noise_is_1_and_the_mean_is_left_out():
    x = field(200, 1, 12, 20)
    spectrum = latent_spectrum(x, bins=4)
    torch.testing.assert_close(spectrum.mean((0, 1)), torch.ones(4, dtype=torch.float64), rtol=0.05, atol=0)
    torch.testing.assert_close(latent_spectrum(x + 100, bins=4), spectrum)


@given(old=st.integers(1, 40), share=st.floats(0, 1), index=st.integers(0, 39))
def test_waves_that_fit_stay_and_others_go(old, share, index):
    new = max(1, int(share * old))
    index = index % old
    small = anti_aliased(wave(index, old), (new,))
    expected = wave(index, new) if index < new else torch.zeros(1, 1, new, dtype=torch.float64)
    torch.testing.assert_close(small, expected, rtol=0, atol=1e-12)


def test_axes_are_resized_on_their_own():
    rows, columns = wave(2, 15, axis=0, dims=2), wave(5, 20, axis=1, dims=2)
    expected = wave(2, 7, axis=0, dims=2) * wave(5, 9, axis=1, dims=2)
    torch.testing.assert_close(anti_aliased(rows * columns, (7, 9)), expected, rtol=0, atol=1e-12)


def test_its_own_size_is_the_image_itself():
    x = field(2, 3, 9, 5, dtype=torch.bfloat16)
    small = anti_aliased(x, (9, 5))
    assert small.dtype == torch.float32
    assert torch.equal(small, x.float())


def test_gradients():
    x = field(1, 2, 6, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: anti_aliased(x, (4, 3)), x)
    assert torch.autograd.gradcheck(lambda x: latent_spectrum(x, 3), x)


@pytest.mark.parametrize("size", [(9, 4), (4,), (4, 4, 4), (0, 4), (4.0, 4), 4])
def test_sizes_that_cannot_be_are_told(size):
    with pytest.raises(ValueError, match=r"size must be|must have as many axes as the image and be at most as large"):
        anti_aliased(field(1, 1, 8, 8), size)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: latent_spectrum(torch.zeros(1, 1, 4, 4, dtype=torch.uint8)), TypeError, "floating-point"),
        (lambda: latent_spectrum(torch.zeros(4, 4)), ValueError, "(batch, channels, *spatial)"),
        (lambda: latent_spectrum(torch.zeros(1, 1, 4, 4), 0), ValueError, "pass at least 1"),
        (lambda: spectrum_rings((4, 4), True), TypeError, "bins must be an int"),
        (lambda: spectrum_rings(()), ValueError, "1 to 3 positive"),
        (lambda: anti_aliased(torch.zeros(1, 1, 4, dtype=torch.int32), (2,)), TypeError, "floating-point"),
    ],
)
def test_bad_input_is_told(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
