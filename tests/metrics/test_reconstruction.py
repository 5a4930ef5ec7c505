"""PSNR and SSIM against closed forms and scikit-image; the streamed measure against one batch."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from passband.data import to_uint8
from passband.metrics import FeatureExtractor, FrechetDistance, ReconstructionQuality, psnr, ssim


def images(*shape, seed=0):
    """Smooth colours with noise over them, a little beyond [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = nn.functional.interpolate(torch.randn(*shape[:2], 4, 4, generator=generator), shape[2:], mode="bilinear")
    return 0.6 * coarse + 0.1 * torch.randn(*shape, generator=generator)


def pair(*shape, noise=0.1):
    x = images(*shape)
    return x, x + noise * torch.randn(x.shape, generator=torch.Generator().manual_seed(9))


# PSNR.


@given(st.integers(1, 255), st.integers(0, 255))
@settings(max_examples=20)
def test_psnr_of_a_constant_error(step, level):
    level = min(level, 255 - step)
    x = torch.full((2, 3, 4, 6), level / 127.5 - 1)
    expected = 20 * math.log10(255 / step)
    torch.testing.assert_close(
        psnr(x, x + step / 127.5), torch.full((2,), expected, dtype=torch.float64), atol=1e-9, rtol=0
    )


def test_psnr_is_of_saved_pixels():
    x, y = pair(3, 3, 12, 20)
    error = (to_uint8(x).double() - to_uint8(y).double()).square().mean((1, 2, 3))
    torch.testing.assert_close(psnr(x, y), 10 * torch.log10(255**2 / error))
    # What rounding and clipping hide is no error.
    assert psnr(torch.full((1, 1, 4, 4), 1.0), torch.full((1, 1, 4, 4), 1.7)).item() == math.inf
    assert psnr(torch.full((1, 1, 4, 4), 0.3), torch.full((1, 1, 4, 4), 0.301)).item() == math.inf


# SSIM.


def test_ssim_of_two_constants():
    """Without variance only the luminance term is left."""
    a, b = 40.0, 90.0
    x, y = (torch.full((1, 1, 16, 13), level / 127.5 - 1) for level in (a, b))
    c1 = (0.01 * 255) ** 2
    expected = (2 * a * b + c1) / (a * a + b * b + c1)
    assert ssim(x, y).item() == pytest.approx(expected, abs=1e-9)


def test_ssim_is_its_sum_over_windows():
    """One window fits into 11 x 11: the weighted moments written out."""
    x, y = pair(2, 2, 11, 11)
    g = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    w = np.outer(g, g) / np.outer(g, g).sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = np.zeros((2, 2))
    for i in range(2):
        for c in range(2):
            p, q = (to_uint8(z[i, c]).double().numpy() for z in (x, y))
            mp, mq = (w * p).sum(), (w * q).sum()
            vp, vq, v = (w * (p - mp) ** 2).sum(), (w * (q - mq) ** 2).sum(), (w * (p - mp) * (q - mq)).sum()
            expected[i, c] = (2 * mp * mq + c1) * (2 * v + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2))
    np.testing.assert_allclose(ssim(x, y).numpy(), expected.mean(1), rtol=1e-10)


@pytest.mark.parametrize("shape", [(2, 3, 24, 33), (1, 1, 11, 40), (2, 3, 64, 48)])
def test_ssim_and_psnr_are_scikit_images(shape):
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image, the reference, is not installed")
    x, y = pair(*shape)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    for i in range(len(x)):
        a, b = (to_uint8(z[i]).double().numpy() for z in (x, y))
        expected = metrics.structural_similarity(a, b, channel_axis=0, **options)
        assert ssim(x, y)[i].item() == pytest.approx(expected, abs=1e-9)
        assert psnr(x, y)[i].item() == pytest.approx(metrics.peak_signal_noise_ratio(a, b, data_range=255))


@given(st.integers(0, 1000))
@settings(max_examples=10)
def test_properties(seed):
    x, y = images(2, 3, 16, 20, seed=seed), images(2, 3, 16, 20, seed=seed + 1)
    for measure, best in ((psnr, math.inf), (ssim, 1.0)):
        torch.testing.assert_close(measure(x, y), measure(y, x))
        torch.testing.assert_close(measure(x, x), torch.full((2,), best, dtype=torch.float64))
        torch.testing.assert_close(measure(x.flip(3), y.flip(3)), measure(x, y))
        assert (measure(x, y) < best).all()


def test_nan_stays_and_there_is_no_gradient():
    x, y = pair(2, 1, 12, 12)
    y[1, 0, 5, 5] = math.nan
    for measure in (psnr, ssim):
        values = measure(x.requires_grad_(), y)
        assert values.isnan().tolist() == [False, True]
        assert not values.requires_grad


def test_bad_images():
    x = torch.zeros(1, 3, 16, 16)
    for measure in (psnr, ssim):
        with pytest.raises(ValueError, match="must have the same shape"):
            measure(x, x[:, :1])
        with pytest.raises(ValueError, match=r"shape \(batch, channels, height, width\), got \(3, 16, 16\)"):
            measure(x[0], x[0])
        with pytest.raises(TypeError, match="floating"):
            measure(x.byte(), x.byte())
    with pytest.raises(ValueError, match="sides of 11 pixels or more, got 10x16"):
        ssim(x[:, :, :10], x[:, :, :10])


# Streamed.


class Means(FeatureExtractor):
    name = "mean colour, resize none"
    dim = 3

    def __call__(self, pixels):
        assert pixels.dtype == torch.uint8
        return pixels.float().mean((2, 3))


class Difference(nn.Module):
    def forward(self, x, y):
        assert x.dtype == torch.float32
        return (x - y).abs().mean((1, 2, 3), keepdim=True)


def quality():
    return ReconstructionQuality(Difference(), Means())


def test_it_is_the_mean_of_the_single_values():
    x, y = pair(7, 3, 16, 20)
    measure = quality()
    for part in (slice(0, 3), slice(3, 3), slice(3, 7)):
        measure.update(x[part], y[part])
    result = measure.compute()
    saved = [to_uint8(z).float() / 127.5 - 1 for z in (x, y)]
    frechet = FrechetDistance()
    frechet.update(real=to_uint8(x).float().mean((2, 3)), fake=to_uint8(y).float().mean((2, 3)))
    assert result.psnr == pytest.approx(psnr(x, y).mean().item())
    assert result.ssim == pytest.approx(ssim(x, y).mean().item())
    assert result.mse == pytest.approx((saved[0] - saved[1]).mul(127.5).square().mean().item(), rel=1e-5)
    assert result.perceptual == pytest.approx(Difference()(*saved).mean().item(), rel=1e-6)
    assert result.frechet == pytest.approx(frechet.compute().distance, rel=1e-6)
    assert (result.count, result.exact) == (7, 0)
    assert (result.perceptual_name, result.features) == ("Difference", Means.name)


def test_without_a_distance_or_features():
    measure = ReconstructionQuality()
    measure.update(*pair(1, 1, 12, 12))
    result = measure.compute()
    assert (result.perceptual, result.frechet, result.perceptual_name, result.features) == (None, None, "", "")


def test_exact_images_are_counted_and_left_out_of_the_mean():
    x, y = pair(3, 3, 16, 16)
    y[1] = x[1]
    measure = ReconstructionQuality()
    measure.update(x, y)
    result = measure.compute()
    assert (result.count, result.exact) == (3, 1)
    assert result.psnr == pytest.approx(psnr(x, y)[[0, 2]].mean().item())
    assert result.ssim == pytest.approx(ssim(x, y).mean().item())
    all_exact = ReconstructionQuality()
    all_exact.update(x, x)
    assert all_exact.compute().psnr == math.inf
    assert all_exact.compute().mse == 0


def test_ranks_merge_and_states_come_back():
    x, y = pair(8, 3, 16, 16)
    whole, first, second = quality(), quality(), quality()
    whole.update(x, y)
    first.update(x[:3], y[:3])
    second.update(x[3:], y[3:])
    sent = quality()
    sent.load_state_dict(second.state_dict())
    assert sent.compute() == second.compute()
    merged, expected = first.merge(sent).compute(), whole.compute()
    for key, value in vars(expected).items():
        assert getattr(merged, key) == (pytest.approx(value) if isinstance(value, float) else value)
    first.reset()
    with pytest.raises(ValueError, match="images"):
        first.compute()


def test_only_equal_measures_merge():
    x, y = pair(2, 3, 16, 16)
    plain, other = ReconstructionQuality(), quality()
    plain.update(x, y)
    with pytest.raises(ValueError, match="different perceptual distances: 'Difference' and 'none'"):
        other.merge(plain)
    with pytest.raises(ValueError, match="different perceptual distances"):
        plain.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="not a state of ReconstructionQuality: it lacks"):
        plain.load_state_dict({})
    named = ReconstructionQuality(Difference(), name="L1")
    with pytest.raises(ValueError, match="'L1' and 'Difference'"):
        named.merge(other)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_values_that_are_not_finite_are_named_and_nothing_is_added(broken):
    x, y = pair(4, 3, 16, 16)
    measure = quality()
    measure.update(x, y)
    before = measure.compute()
    bad = y.clone()
    bad[2, 0, 0, 0] = broken
    with pytest.raises(ValueError, match=r"the reconstructions must be finite; batch 1 \(images 4 to 7\)"):
        measure.update(x, bad)
    assert measure.compute() == before


def test_a_distance_must_give_one_value_per_image():
    class Scalar(nn.Module):
        def forward(self, x, y):
            return (x - y).square().mean()

    with pytest.raises(ValueError, match=r"'Scalar' must return one value per image, got \(\)"):
        ReconstructionQuality(Scalar()).update(*pair(2, 3, 16, 16))


def test_with_real_networks():
    """LPIPS' shape of things and EfficientNet's features, on images that are not square."""
    from passband.metrics import load_features
    from passband.models import EfficientNetDistance

    x, y = pair(3, 3, 32, 48)
    worse = ReconstructionQuality(EfficientNetDistance(), load_features("efficientnet-lite0"))
    better = ReconstructionQuality(EfficientNetDistance(), load_features("efficientnet-lite0"))
    worse.update(x, y)
    better.update(x, x + 0.2 * (y - x))
    a, b = worse.compute(), better.compute()
    assert a.psnr < b.psnr
    assert a.ssim < b.ssim
    assert a.perceptual > b.perceptual > 0
    assert a.frechet > b.frechet > 0
