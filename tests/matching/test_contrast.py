"""RMS spatial contrast against the published values, closed forms, and the spectral energy that it equals."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband.matching import directional_spectral_energy, rms_spatial_contrast

sides = st.integers(1, 9)
sizes = st.one_of(st.tuples(sides), st.tuples(sides, sides), st.tuples(*[st.integers(1, 4)] * 3))


def field(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("latent", ["z16c4", "z32c4", "z8c16"])
def test_equals_the_published_values(shared, latent):
    arrays = np.load(shared / "parity" / "spectrum_matching_dev.npz")
    expected = torch.tensor(arrays[f"{latent}_rmsc"])
    torch.testing.assert_close(rms_spatial_contrast(torch.tensor(arrays[f"{latent}_z"])), expected, rtol=0, atol=1e-5)


@given(size=sizes, channels=st.integers(1, 8), seed=st.integers(0, 99))
def test_is_the_directional_spectral_energy(size, channels, seed):
    """Of the DCT and of the DFT, on odd, even and not square grids."""
    tokens = field(2, channels, *size, seed=seed)
    contrast = rms_spatial_contrast(tokens)
    torch.testing.assert_close(directional_spectral_energy(tokens), contrast, rtol=0, atol=1e-6)
    directions = tokens / tokens.norm(dim=1, keepdim=True)
    dft = torch.fft.fftn(directions, dim=tuple(range(2, tokens.ndim)), norm="ortho").abs().square()
    energy = (dft.flatten(2)[..., 1:].sum((1, 2)) / math.prod(size)).sqrt()
    torch.testing.assert_close(energy, contrast, rtol=0, atol=1e-6)
    single = directional_spectral_energy(tokens.float()) - rms_spatial_contrast(tokens.float())
    assert single.abs().max() < 1e-6


@given(size=sizes, scale=st.floats(1e-3, 1e3))
def test_lengths_of_tokens_do_not_count(size, scale):
    tokens = field(2, 4, *size)
    lengths = scale * torch.rand(2, 1, *size, dtype=torch.float64).add(0.1)
    torch.testing.assert_close(rms_spatial_contrast(lengths * tokens), rms_spatial_contrast(tokens))


def test_one_direction_has_none_and_opposite_ones_have_all():
    one = field(1, 5, 1, 1).expand(1, 5, 4, 3)
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(6).reshape(1, 1, 4, 3)
    for measure in (rms_spatial_contrast, directional_spectral_energy):
        assert measure(one).item() < 1e-7
        assert measure(one * signs).item() == pytest.approx(1)


@given(share=st.floats(0, 1))
def test_two_directions_in_a_share(share):
    """A share p of tokens along one axis, the rest along another: the mean has length² p² + (1-p)²."""
    count = round(share * 20)
    tokens = torch.zeros(1, 2, 20, dtype=torch.float64)
    tokens[:, 0, :count], tokens[:, 1, count:] = 3.0, 0.5
    p = count / 20
    expected = math.sqrt(1 - p**2 - (1 - p) ** 2)
    assert rms_spatial_contrast(tokens).item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("measure", [rms_spatial_contrast, directional_spectral_energy])
def test_gradients_precision_and_nan(measure):
    tokens = field(2, 3, 3, 2).requires_grad_()
    assert torch.autograd.gradcheck(measure, tokens)
    alike = torch.ones(2, 3, 4, 4, requires_grad=True)
    measure(alike).sum().backward()
    assert alike.grad.isfinite().all()
    half = field(2, 8, 4, 4).bfloat16()
    assert measure(half).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(measure(half), measure(half.float()), rtol=0, atol=1e-6)
    spoiled = field(3, 2, 4)
    spoiled[1, 0, 2] = math.nan
    assert measure(spoiled).isnan().tolist() == [False, True, False]
    assert measure(torch.empty(2, 3, 4, 5, device="meta")).shape == (2,)


@pytest.mark.parametrize("measure", [rms_spatial_contrast, directional_spectral_energy])
def test_bad_input_is_told(measure):
    with pytest.raises(TypeError, match="tokens must be a real floating-point tensor"):
        measure(torch.zeros(2, 3, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="tokens must have shape"):
        measure(torch.zeros(2, 3))
