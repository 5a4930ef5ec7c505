"""EQ-VAE's transform: exact sizes, fields that can be written down, draws, and bad input."""

import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband.matching import EQ, draw_transform, eq_transform


def field(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    factor=st.sampled_from([(8, 8), (4, 2), (1, 3)]),
    scale=st.floats(0.05, 2),
    turns=st.integers(-5, 5),
)
def test_the_image_is_exactly_as_much_larger_as_before(height, width, factor, scale, turns):
    image, latent = field(1, 1, height * factor[0], width * factor[1]), field(1, 2, height, width)
    image, latent = eq_transform(image, latent, scale, turns)
    new = [max(1, math.floor(scale * n + 0.5)) for n in (height, width)]
    large = [n * f for n, f in zip(new, factor, strict=True)]
    if turns % 2:
        new, large = new[::-1], large[::-1]
    assert list(latent.shape[2:]) == new
    assert list(image.shape[2:]) == large


@given(turns=st.integers(-8, 8))
def test_turns_are_quarter_turns_of_both(turns):
    image, latent = field(2, 3, 16, 24), field(2, 4, 4, 6)
    turned_image, turned_latent = eq_transform(image, latent, 1, turns)
    assert torch.equal(turned_image, torch.rot90(image, turns, (2, 3)))
    assert torch.equal(turned_latent, torch.rot90(latent, turns, (2, 3)))


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
def test_a_ramp_stays_a_ramp_and_fine_waves_go(mode):
    ramp = torch.linspace(-1, 1, 64, dtype=torch.float64).expand(1, 1, 64, 64)
    image, latent = eq_transform(ramp, ramp[..., ::8, ::8], 0.5, 0, mode=mode)
    steps = image[0, 0, 8, 4:-4].diff()  # the ends see the border
    torch.testing.assert_close(steps, torch.full_like(steps, 2 * 2 / 63))
    torch.testing.assert_close(image.mean(), ramp.mean())
    assert latent.shape[2:] == (4, 4)
    checkerboard = (-1.0) ** torch.arange(64, dtype=torch.float64)
    checkerboard = (checkerboard[:, None] * checkerboard).expand(1, 1, 64, 64)
    assert eq_transform(checkerboard, checkerboard[..., :8, :8], 0.5, 0, mode=mode)[0].abs().max() < 0.1  # antialiased


def test_a_decoder_that_repeats_pixels_is_equivariant_for_smooth_latents():
    """Turning and a decoder that works pixel by pixel commute exactly; that is what the term asks for."""
    latent = field(1, 3, 6, 8)

    def decode(z):
        return z.repeat_interleave(4, 2).repeat_interleave(4, 3)

    image, transformed = eq_transform(decode(latent), latent, 1, 3)
    assert torch.equal(decode(transformed), image)


def test_dtypes_gradients_and_autocast():
    image, latent = field(2, 3, 16, 16, dtype=torch.float32), field(2, 4, 4, 4, dtype=torch.bfloat16)
    new_image, new_latent = eq_transform(image, latent, 0.5, 1)
    assert (new_image.dtype, new_latent.dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(new_latent, eq_transform(image, latent.float(), 0.5, 1)[1].bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(eq_transform(image, latent, 0.5, 1)[0], new_image)
    z = field(1, 1, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: eq_transform(field(1, 1, 8, 10), z, 0.6, 1)[1], z)


def test_nothing_looks_at_values_on_an_accelerator():
    image, latent = torch.empty(2, 3, 64, 40, device="meta"), torch.empty(2, 4, 8, 5, device="meta")
    new_image, new_latent = eq_transform(image, latent, 0.5, 1)
    assert new_image.shape[2:] == (24, 32)
    assert new_latent.shape[2:] == (3, 4)


def test_draws_depend_on_seed_and_step_alone_and_fill_their_ranges():
    draws = [draw_transform(3, step) for step in range(2000)]
    assert draws == [draw_transform(3, step) for step in range(2000)]
    kept = [scale == 1.0 and turns == 0 for scale, turns in draws]
    assert abs(sum(kept) - 1000) < 100  # 4.5 standard deviations
    scales = [scale for (scale, _), same in zip(draws, kept, strict=True) if not same]
    assert 0.25 <= min(scales) < 0.26
    assert 0.99 < max(scales) <= 1
    assert abs(sum(scales) / len(scales) - 0.625) < 0.03
    turns = [turns for (_, turns), same in zip(draws, kept, strict=True) if not same]
    assert all(abs(turns.count(quarter) / len(turns) - 0.25) < 0.06 for quarter in range(4))


def test_draws_can_be_narrowed():
    always = [draw_transform(0, step, scale=(0.5, 0.5), turns=False, probability=1) for step in range(50)]
    assert set(always) == {(0.5, 0)}
    assert {draw_transform(0, step, probability=0) for step in range(50)} == {(1.0, 0)}


def test_a_module_counts_its_calls_and_goes_on_after_a_restart():
    image, latent = field(1, 1, 16, 16), field(1, 1, 8, 8)
    first = EQ(seed=2, probability=0.8)
    for step in range(9):
        if step == 5:
            resumed = EQ(seed=2, probability=0.8)
            resumed.load_state_dict(first.state_dict())
            first = resumed
        expected = eq_transform(image, latent, *draw_transform(2, step, probability=0.8))
        for found, wanted in zip(first(image, latent), expected, strict=True):
            assert torch.equal(found, wanted)
    expected = eq_transform(image, latent, *draw_transform(2, 40, probability=0.8))
    assert torch.equal(first(image, latent, step=40)[0], expected[0])


X = torch.zeros(2, 3, 8, 8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: eq_transform(X, X, 0.0, 0), ValueError, "scale must be positive"),
        (lambda: eq_transform(X, X, math.nan, 0), ValueError, "scale must be positive"),
        (lambda: eq_transform(X, X, "1", 0), TypeError, "scale must be a number"),
        (lambda: eq_transform(X, X, 1.0, 0.5), TypeError, "turns must be an int"),
        (lambda: eq_transform(X, X, 1.0, 0, mode="area"), ValueError, "unknown mode"),
        (lambda: eq_transform(X, X[..., :3], 1.0, 0), ValueError, "must divide the image's"),
        (lambda: eq_transform(X[..., :4], X, 1.0, 0), ValueError, "must divide the image's"),
        (lambda: eq_transform(X, X[:1], 1.0, 0), ValueError, "the same batch"),
        (lambda: eq_transform(X.byte(), X, 1.0, 0), TypeError, "image must be a real floating"),
        (lambda: eq_transform(X[0], X[0], 1.0, 0), ValueError, "with 2 spatial"),
        (lambda: draw_transform(0, 0, scale=(1.0, 0.5)), ValueError, "rising range"),
        (lambda: draw_transform(0, 0, scale=(0.0, 0.5)), ValueError, "rising range"),
        (lambda: draw_transform(0, 0, scale=0.5), TypeError, "scale must be a pair"),
        (lambda: draw_transform(0, 0, probability=1.5), ValueError, "probability must lie"),
        (lambda: EQ(turns=3), TypeError, "turns must be True or False"),
        (lambda: EQ(mode="nearest"), ValueError, "unknown mode"),
        (lambda: EQ(scale=(0.5, math.inf)), ValueError, "rising range"),
    ],
)
def test_bad_input_is_told(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
