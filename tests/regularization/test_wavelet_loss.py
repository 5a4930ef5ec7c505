"""The wavelet loss against PyWavelets' coefficients."""

import numpy as np
import pytest
import pywt
import torch
from torch import Tensor

from passband.regularization import WaveletLoss, wavelet_loss


def pair(size: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    estimate, clean = (torch.randn(3, 2, *size, generator=generator, dtype=torch.float64) for _ in range(2))
    return estimate.to(dtype), clean.to(dtype)


def mean_gap(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.abs(x - y).reshape(len(x), -1).mean(1)


def by_hand(estimate: Tensor, clean: Tensor, wavelet: str, levels: int, mode: str, gamma=lambda level, name: 1.0):
    """Transforms both samples by PyWavelets and compares sub-band by sub-band."""
    axes = tuple(range(2, estimate.ndim))
    x, y = (pywt.wavedecn(z.numpy(), wavelet, mode=mode, level=levels, axes=axes) for z in (estimate, clean))
    total = gamma(levels, "a" * len(axes)) * mean_gap(x[0], y[0])
    for level, bands_x, bands_y in zip(range(levels, 0, -1), x[1:], y[1:], strict=True):
        for name in bands_x:
            total = total + gamma(level, name) * mean_gap(bands_x[name], bands_y[name])
    return total


@pytest.mark.parametrize("mode", ["symmetric", "periodization", "zero", "reflect", "smooth"])
@pytest.mark.parametrize("wavelet", ["haar", "bior1.3", "db2"])
@pytest.mark.parametrize(
    ("size", "levels"), [((32,), 2), ((33,), 1), ((20, 22), 2), ((21, 19), 1), ((10, 11, 12), 1)], ids=str
)
def test_decimated_loss_is_pywavelets(size, levels, wavelet, mode):
    estimate, clean = pair(size)
    expected = by_hand(estimate, clean, wavelet, levels, mode)
    np.testing.assert_allclose(wavelet_loss(estimate, clean, wavelet, levels, mode).numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize(("wavelet", "most"), [("haar", 4), ("db2", 2), ("bior1.3", 1)])
def test_default_is_the_most_levels_that_the_size_allows(wavelet, most):
    estimate, clean = pair((16, 24))
    assert pywt.dwt_max_level(16, wavelet) == most
    expected = by_hand(estimate, clean, wavelet, most, "symmetric")
    np.testing.assert_allclose(wavelet_loss(estimate, clean, wavelet).numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("wavelet", ["haar", "bior1.3", "db2"])
@pytest.mark.parametrize(("size", "levels"), [((32,), 3), ((8, 12), 2), ((4, 6, 8), 1)], ids=str)
def test_stationary_loss_is_pywavelets(size, levels, wavelet):
    estimate, clean = pair(size)
    axes = tuple(range(2, estimate.ndim))
    x, y = (pywt.swtn(z.numpy(), wavelet, levels, axes=axes, trim_approx=True) for z in (estimate, clean))
    expected = mean_gap(x[0], y[0])
    for bands_x, bands_y in zip(x[1:], y[1:], strict=True):
        expected = expected + sum(mean_gap(bands_x[name], bands_y[name]) for name in bands_x)
    result = wavelet_loss(estimate, clean, wavelet, levels, stationary=True)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-10)


def test_stationary_default_is_one_level():
    estimate, clean = pair((8, 6))
    expected = wavelet_loss(estimate, clean, levels=1, stationary=True)
    assert torch.equal(wavelet_loss(estimate, clean, stationary=True), expected)


def test_stationary_loss_moves_with_both_samples():
    estimate, clean = pair((8, 8))
    shifted = [x.roll((1, 3), dims=(2, 3)) for x in (estimate, clean)]
    expected = wavelet_loss(estimate, clean, "db2", 2, stationary=True)
    torch.testing.assert_close(wavelet_loss(*shifted, "db2", 2, stationary=True), expected, rtol=1e-12, atol=0)
    assert not torch.allclose(wavelet_loss(*shifted, "db2", 1), wavelet_loss(estimate, clean, "db2", 1), rtol=1e-3)


def test_weights_multiply_their_sub_bands():
    estimate, clean = pair((16, 16))

    def gamma(level: int, name: str) -> float:
        return 10.0**level + {"aa": 1, "ad": 2, "da": 3, "dd": 4}[name]

    expected = by_hand(estimate, clean, "db2", 2, "symmetric", gamma)
    np.testing.assert_allclose(wavelet_loss(estimate, clean, "db2", 2, weights=gamma).numpy(), expected, rtol=1e-10)
    assert torch.equal(
        WaveletLoss("db2", 2, weights=gamma)(estimate, clean), wavelet_loss(estimate, clean, "db2", 2, weights=gamma)
    )


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_the_approximation_counts_once_at_the_coarsest_level(dims):
    seen = []
    estimate, clean = pair((8,) * dims)
    wavelet_loss(estimate, clean, levels=2, weights=lambda level, name: seen.append((level, name)) or 1.0)
    assert [level for level, name in seen if name == "a" * dims] == [2]
    assert len(seen) == len(set(seen)) == 1 + 2 * (2**dims - 1)


def test_a_weight_of_zero_hides_a_sub_band():
    _, clean = pair((8, 8))
    checker = clean + torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(4)  # alternates along the last axis: 'ad'
    assert wavelet_loss(checker, clean, levels=1, weights=lambda level, name: float(name != "ad")).max() < 1e-14
    # Haar: (1 + 1) / 2 per pair of positions along the row, twice over the rows.
    assert wavelet_loss(checker, clean, levels=1).tolist() == pytest.approx([2.0] * 3)


def test_squares_in_an_orthonormal_wavelet_are_the_mean_squared_error():
    # Why the loss is L1: an L2 loss with weights by sub-band sizes is nothing new.
    estimate, clean = pair((16,))
    x = pywt.wavedec((estimate - clean).numpy(), "db2", mode="periodization", level=2)
    energy = sum((band**2).sum((1, 2)) for band in x) / estimate[0].numel()
    np.testing.assert_allclose(energy, (estimate - clean).square().mean((1, 2)).numpy(), rtol=1e-10)


def test_options_and_name():
    estimate, clean = pair((16, 16))
    loss = WaveletLoss("bior1.3", 1, "periodization")
    assert torch.equal(loss(estimate, clean), wavelet_loss(estimate, clean, "bior1.3", 1, "periodization"))
    loss = WaveletLoss(stationary=True)
    assert torch.equal(loss(estimate, clean), wavelet_loss(estimate, clean, stationary=True))
    assert loss.name == "wavelet"
    assert repr(loss) == "WaveletLoss('haar', levels=None, mode='symmetric', stationary=True)"


def test_bad_options():
    estimate, clean = pair((8, 8))
    with pytest.raises(ValueError, match="harr"):
        wavelet_loss(estimate, clean, "harr")
    with pytest.raises(ValueError, match=r"unknown mode: got 'symetric' .*'symmetric'"):
        wavelet_loss(estimate, clean, mode="symetric")
    with pytest.raises(ValueError, match=r"too many levels: a field of size .* allows at most 3"):
        wavelet_loss(estimate, clean, levels=4)
    with pytest.raises(ValueError, match="levels"):
        wavelet_loss(estimate, clean, levels=0)
    with pytest.raises(ValueError, match="divisible by 16"):
        wavelet_loss(estimate, clean, levels=4, stationary=True)
