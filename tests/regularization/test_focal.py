"""Focal frequency loss against a plain NumPy formula."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from passband.regularization import FocalFrequencyLoss, focal_frequency_loss

SIZES = [(8,), (7,), (6, 8), (5, 7), (1, 4), (4, 3, 5)]


def pair(size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return tuple(torch.randn(3, 2, *size, generator=generator, dtype=torch.float64) for _ in range(2))


def by_hand(estimate: np.ndarray, clean: np.ndarray, alpha: float) -> np.ndarray:
    values = np.zeros(len(clean))
    for sample in range(clean.shape[0]):
        for channel in range(clean.shape[1]):
            gap = np.abs(np.fft.fftn(estimate[sample, channel] - clean[sample, channel], norm="ortho"))
            values[sample] += ((gap / gap.max()) ** alpha * gap**2).mean() / clean.shape[1]
    return values


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_is_the_formula_on_the_full_spectrum(size, alpha):
    estimate, clean = pair(size)
    expected = by_hand(estimate.numpy(), clean.numpy(), alpha)
    np.testing.assert_allclose(focal_frequency_loss(estimate, clean, alpha).numpy(), expected, rtol=1e-11)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_parseval_an_unweighted_l2_loss_is_the_mean_squared_error(size):
    estimate, clean = pair(size)
    mse = (estimate - clean).square().flatten(1).mean(1)
    torch.testing.assert_close(focal_frequency_loss(estimate, clean, 0.0), mse, rtol=1e-12, atol=0)
    assert (focal_frequency_loss(estimate, clean, 1.0) < mse).all() or math.prod(size) == 1


def test_weights_are_constant_in_the_gradient():
    estimate, clean = pair((6, 7))
    gap = np.fft.fftn((estimate - clean).numpy(), axes=(2, 3), norm="ortho")
    weight = np.abs(gap) / np.abs(gap).max((2, 3), keepdims=True)
    # d/dx of mean w |F x|^2 at fixed w is 2 F*(w F x) / count.
    expected = 2 * np.fft.ifftn(weight * gap, axes=(2, 3), norm="ortho").real / clean[0].numel()
    estimate.requires_grad_()
    focal_frequency_loss(estimate, clean).sum().backward()
    np.testing.assert_allclose(estimate.grad.numpy(), expected, rtol=1e-10, atol=1e-14)


def test_equal_samples_give_zero_with_a_zero_gradient():
    _, clean = pair((6, 7))
    estimate = clean.clone().requires_grad_()
    value = focal_frequency_loss(estimate, clean)
    value.sum().backward()
    assert value.tolist() == [0, 0, 0]
    assert estimate.grad.abs().max() == 0


def test_one_equal_channel_does_not_disturb_the_other():
    estimate, clean = pair((6, 7))
    estimate[:, 0] = clean[:, 0]
    expected = focal_frequency_loss(estimate[:, 1:], clean[:, 1:]) / 2
    torch.testing.assert_close(focal_frequency_loss(estimate, clean), expected, rtol=1e-12, atol=0)


def test_module_equals_function():
    estimate, clean = pair((6, 7))
    assert torch.equal(FocalFrequencyLoss(0.7)(estimate, clean), focal_frequency_loss(estimate, clean, 0.7))
    assert torch.equal(FocalFrequencyLoss()(estimate, clean), focal_frequency_loss(estimate, clean, 1.0))
    assert FocalFrequencyLoss().name == "focal_frequency"
    assert repr(FocalFrequencyLoss(2.0)) == "FocalFrequencyLoss(alpha=2.0)"


@pytest.mark.parametrize("alpha", [-0.1, math.nan])
def test_alpha_out_of_range(alpha):
    estimate, clean = pair((4, 4))
    with pytest.raises(ValueError, match="alpha must be at least 0, got"):
        focal_frequency_loss(estimate, clean, alpha)
    with pytest.raises(ValueError, match="alpha must be at least 0, got"):
        FocalFrequencyLoss(alpha)
