"""DSM's mask against the published images and SciPy; its block sides, its draws, and their count in a state dict."""

import re

import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband.matching import DSM, draw_corner, dsm_low_pass, dsm_mask
from passband.transforms import block_dct

CORNERS = (0, 8, 10, 12)
corners = st.integers(0, 14)


def field(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("corner", CORNERS)
def test_equals_the_published_images(shared, corner):
    arrays = np.load(shared / "parity" / "spectrum_matching_dev.npz")
    masked = dsm_mask(torch.tensor(arrays["x"]), torch.tensor(arrays["z16c4_z"]), corner)
    for found, name in zip(masked, ("x", "z16c4"), strict=True):
        torch.testing.assert_close(found, torch.tensor(arrays[f"dsm_{name}_mask{corner}"]), rtol=0, atol=1e-5)


@given(corner=corners, rows=st.integers(1, 3), columns=st.integers(1, 3))
def test_blocks_of_8_equal_scipy(corner, rows, columns):
    x = field(2, 1, 8 * rows, 8 * columns)
    expected = np.empty_like(x.numpy())
    index = np.add.outer(np.arange(8), np.arange(8))
    for i in range(0, 8 * rows, 8):
        for j in range(0, 8 * columns, 8):
            block = scipy.fft.dctn(x.numpy()[..., i : i + 8, j : j + 8], axes=(2, 3), norm="ortho")
            block[..., index >= 15 - corner] = 0
            expected[..., i : i + 8, j : j + 8] = scipy.fft.idctn(block, axes=(2, 3), norm="ortho")
    torch.testing.assert_close(dsm_low_pass(x, corner), torch.tensor(expected), rtol=0, atol=1e-12)


SIDES = {8: 8, 64: 8, 12: 6, 20: 5, 14: 7, 4: 4, 6: 6, 1: 1, 3: 3, 9: 9, 13: 13, 22: 22, 31: 31, 36: 6, 28: 7, 5: 5}


@pytest.mark.parametrize(("n", "side"), SIDES.items())
def test_a_side_that_8_does_not_divide_takes_a_smaller_block_or_the_whole_side(n, side):
    masked = dsm_low_pass(field(1, 1, n, 8), 9)
    kept = block_dct(masked, (side, 8)).abs().amax((0, 1, 2, 3)) > 1e-12
    columns = torch.arange(8.0) * (2 if side == 1 else 1)
    rows = torch.arange(side) * 7 / max(side - 1, 1)
    assert torch.equal(kept, rows[:, None] + columns < 6 - 1e-5)


@pytest.mark.parametrize("size", [(12, 20), (6, 5), (1, 16)])
def test_the_last_corner_leaves_the_mean_of_each_block_of_up_to_8(size):
    masked = block_dct(dsm_low_pass(field(1, 1, *size), 14), [SIDES.get(n, 8) for n in size])
    assert masked[..., 0, 0].abs().min() > 1e-3
    masked[..., 0, 0] = 0
    assert masked.abs().max() < 1e-12


sides = st.integers(1, 40)


@given(
    size=st.one_of(st.tuples(sides), st.tuples(sides, sides), st.tuples(*[st.integers(1, 9)] * 3)),
    low=corners,
    high=corners,
)
def test_masks_are_nested_projections_between_everything_and_the_mean(size, low, high):
    x = field(2, 2, *size)
    low, high = sorted((low, high))
    once = dsm_low_pass(x, high)
    torch.testing.assert_close(dsm_low_pass(once, low), once, rtol=0, atol=1e-12)
    torch.testing.assert_close(dsm_low_pass(dsm_low_pass(x, low), high), once, rtol=0, atol=1e-12)
    torch.testing.assert_close(once.mean(), x.mean())
    assert torch.equal(dsm_low_pass(x, 0), x)


def test_other_blocks_count_indices_by_their_own_largest():
    masked = block_dct(dsm_low_pass(field(1, 1, 16, 16), 7, block=4), 4)
    kept = masked.abs().amax((0, 1, 2, 3)) > 1e-12
    index = torch.arange(4) * 7 / 3
    assert torch.equal(kept, index[:, None] + index < 8 - 1e-9)


def test_one_axis_counts_twice():
    kept = block_dct(dsm_low_pass(field(1, 1, 64), 9)).abs().amax((0, 1, 2)) > 1e-12
    assert kept.tolist() == [2 * u < 6 for u in range(8)]


def test_image_and_latent_are_masked_alike_and_keep_their_dtypes():
    image, latent = field(2, 3, 64, 48, dtype=torch.float32), field(2, 4, 8, 6, dtype=torch.bfloat16)
    masked_image, masked_latent = dsm_mask(image, latent, 10)
    assert torch.equal(masked_image, dsm_low_pass(image, 10))
    assert torch.equal(masked_latent, dsm_low_pass(latent.float(), 10).bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(dsm_mask(image, latent, 10)[0], masked_image)


def test_gradients_are_the_mask_itself():
    latent = field(1, 1, 6, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: dsm_low_pass(z, 9), latent)


def test_nothing_looks_at_values_on_an_accelerator():
    image, latent = torch.empty(2, 3, 64, 40, device="meta"), torch.empty(2, 4, 8, 5, device="meta", requires_grad=True)
    masked_image, masked_latent = dsm_mask(image, latent, 12)
    masked_latent.sum().backward()
    assert (masked_image.shape, latent.grad.shape) == (image.shape, latent.shape)


def test_draws_depend_on_seed_and_step_alone_and_are_even():
    draws = [draw_corner(3, step) for step in range(1600)]
    assert draws == [draw_corner(3, step) for step in range(1600)]
    assert draws != [draw_corner(4, step) for step in range(1600)]
    counts = [draws.count(corner) for corner in CORNERS]
    assert sum(counts) == 1600
    assert all(abs(count - 400) < 78 for count in counts)  # 4.5 standard deviations


def corners_of(module, count, **options):
    """The corners that a module draws, seen from how it masks."""
    x = field(1, 1, 8, 8)
    by_mask = {corner: dsm_low_pass(x, corner) for corner in CORNERS}
    found = []
    for _ in range(count):
        masked, _ = module(x, x, **options)
        found += [corner for corner, expected in by_mask.items() if torch.equal(masked, expected)]
    return found


def test_a_module_counts_its_calls_and_goes_on_after_a_restart():
    drawn = [draw_corner(5, step) for step in range(12)]
    first, rank = DSM(seed=5), DSM(seed=5)
    assert corners_of(first, 7) == drawn[:7] == corners_of(rank, 7)
    resumed = DSM(seed=5)
    resumed.load_state_dict(first.state_dict())
    assert corners_of(resumed, 5) == drawn[7:]


def test_a_step_given_decides_and_is_not_counted():
    module = DSM(seed=5)
    assert corners_of(module, 1, step=11) == [draw_corner(5, 11)]
    assert corners_of(module, 2) == [draw_corner(5, 0), draw_corner(5, 1)]


def test_nan_stays_in_its_block():
    x = field(1, 1, 16, 16)
    x[0, 0, 3, 3] = float("nan")
    masked = dsm_low_pass(x, 8).isnan()
    assert masked[..., :8, :8].all()
    assert masked.sum() == 64


X = torch.zeros(2, 3, 8, 8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: dsm_mask(X, X, 15), ValueError, "corner must be 0 (no mask) to 14 (the mean"),
        (lambda: dsm_mask(X, X, -1), ValueError, "corner must be 0"),
        (lambda: dsm_mask(X, X, 8.0), TypeError, "corner must be an int"),
        (lambda: dsm_mask(X, X, 8, block=0), ValueError, "block must be at least 1"),
        (lambda: dsm_mask(X.byte(), X, 8), TypeError, "image must be a real floating"),
        (lambda: dsm_mask(X, X.long(), 8), TypeError, "latent must be a real floating"),
        (lambda: dsm_mask(X, X[:1], 8), ValueError, "the same batch"),
        (lambda: dsm_mask(X, X[..., 0], 8), ValueError, "number of axes"),
        (lambda: dsm_low_pass(X[0], 8).sum() + dsm_low_pass(X[0, 0], 8), ValueError, "(batch, channels, *spatial)"),
        (lambda: draw_corner(0, 0, ()), ValueError, "corners is empty"),
        (lambda: draw_corner(0, 0, (0, 20)), ValueError, "corner must be 0"),
        (lambda: draw_corner(0, 0, "8"), TypeError, "corner must be an int"),
        (lambda: DSM(8), TypeError, "corners must be a sequence"),
        (lambda: DSM(block=2.5), TypeError, "block must be an int"),
        (lambda: DSM(seed="0"), TypeError, "seed must be an int"),
        (lambda: DSM()(X, X, step=1.5), TypeError, "step must be an int"),
    ],
)
def test_bad_input_is_told(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
