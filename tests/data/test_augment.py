import math
from functools import cache

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband.data.augment import LABELS, Augment, augment, warp

STRENGTHS = ("xflip", "yflip", "scale", "rotate", "anisotropy", "translate")
NONE = dict.fromkeys(STRENGTHS, 0.0)


def matrix(*rows):
    return torch.tensor(rows, dtype=torch.float64)[None]


def turn(angle):
    """The matrix of a rotation; positions are (x to the right, y down)."""
    return matrix([math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)])


def smooth(height=32, width=32, cutoff=0.15, channels=1, seed=0):
    """Noise without any frequency above the cutoff, in cycles per pixel; unit variance, periodic."""
    noise = torch.randn(1, channels, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    spectrum = torch.fft.fft2(noise)
    radius = (torch.fft.fftfreq(height)[:, None] ** 2 + torch.fft.fftfreq(width)[None] ** 2).sqrt()
    x = torch.fft.ifft2(spectrum * (radius <= cutoff)).real
    return x / x.std()


def still(count=1):
    return torch.zeros(count, 2, dtype=torch.float64)


def interior(x, border=6):
    return x[..., border:-border, border:-border]


# The warp against its definition, written out pixel by pixel.


def slow_warp(image, linear, shift):
    height, width = image.shape
    taps = pywt.Wavelet("sym6").dec_lo

    def reflected(index, size):
        while size > 1 and not 0 <= index < size:
            index = -index if index < 0 else 2 * (size - 1) - index
        return index if size > 1 else 0

    def filtered(j):
        """Image pixels that the upsampled sample j is made of."""
        return [(i, taps[j - 2 * i + 5]) for i in range(j // 2 - 8, j // 2 + 9) if 0 <= j - 2 * i + 5 < 12]

    @cache
    def fine(j, k):
        return sum(
            a * b * image[reflected(y, height), reflected(x, width)] for y, a in filtered(j) for x, b in filtered(k)
        )

    def sampled(x, y):
        x, y = linear @ (np.array([x - (width - 1) / 2, y - (height - 1) / 2]) - shift)
        x, y = 2 * (x + (width - 1) / 2), 2 * (y + (height - 1) / 2)
        k, j = math.floor(x), math.floor(y)
        u, v = x - k, y - j
        upper, lower = ((1 - u) * fine(row, k) + u * fine(row, k + 1) for row in (j, j + 1))
        return (1 - v) * upper + v * lower

    def pixel(x, y):
        return sum(
            a * b * sampled(x + (m - 5) / 2, y + (n - 5) / 2) for m, a in enumerate(taps) for n, b in enumerate(taps)
        )

    return np.array([[pixel(x, y) for x in range(width)] for y in range(height)])


@pytest.mark.parametrize("size", [(4, 5), (5, 2), (1, 4)])
def test_the_warp_is_its_definition(size):
    rng = np.random.default_rng(0)
    image, linear, shift = rng.normal(size=size), np.eye(2) + 0.4 * rng.normal(size=(2, 2)), 3 * rng.normal(size=2)
    found = warp(*(torch.from_numpy(a)[None] for a in (image[None], linear, shift)))
    np.testing.assert_allclose(found[0, 0].numpy(), slow_warp(image, linear, shift), atol=1e-10)


@pytest.mark.parametrize("size", [(8, 8), (7, 12), (1, 1), (2, 3)])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 3e-5), (torch.float64, 1e-10), (torch.bfloat16, 2e-2)])
def test_the_identity_changes_nothing(size, dtype, error):
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = warp(x, torch.eye(2).expand(2, 2, 2), torch.zeros(2, 2))
    assert found.dtype == dtype
    assert found.shape == x.shape
    assert (found - x).abs().max() < error


def shifted(x, right, down):
    """A periodic image moved by any distance."""
    y, x_ = (torch.fft.fftfreq(n, dtype=torch.float64) for n in x.shape[2:])
    return torch.fft.ifft2(torch.fft.fft2(x) * torch.exp(-2j * math.pi * (x_ * right + y[:, None] * down))).real


@pytest.mark.parametrize(("turns", "right", "down"), [(1, 0, -1), (2, -1, -1), (3, -1, 0)])
def test_quarter_turns_are_rot90(turns, right, down):
    # Counter-clockwise, as rot90. The filter's centre of mass lies 0.098 half-pixels beyond its largest tap, so the
    # upsampled image lies 0.049 pixels too far right and down, and is moved back so far after it was turned.
    taps = pywt.Wavelet("sym6").dec_lo
    late = (np.dot(taps, range(12)) / sum(taps) - 5) / 2
    assert late == pytest.approx(0.049, abs=1e-3)
    x = smooth(cutoff=0.07)  # the filter's delay is constant at low frequencies
    found = warp(x, turn(turns * math.pi / 2), still())
    turned = torch.rot90(x, turns, (2, 3))
    assert interior(found - turned).square().mean().sqrt() < 0.06
    assert interior(found - shifted(turned, 2 * late * right, 2 * late * down)).square().mean().sqrt() < 3e-3


@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, -2), (-4, 5)])
def test_whole_pixel_shifts_move_the_content_right_and_down(right, down):
    x = smooth()
    found = warp(x, torch.eye(2)[None], torch.tensor([[float(right), float(down)]]))
    assert interior(found - x.roll((down, right), (2, 3))).abs().max() < 1e-9


def test_beyond_its_border_the_image_is_reflected_about_the_outermost_pixels():
    x = smooth(8, 6)
    period = 10  # 2 (6 - 1)
    once, far = (warp(x, torch.eye(2)[None], torch.tensor([[s, 0.0]])) for s in (3.0, 3.0 + 7 * period))
    assert (once[..., 3:] - x[..., :3]).abs().max() < 1e-9
    assert (once[..., :3] - x[..., 1:4].flip(3)).abs().max() < 1e-9
    assert (once - far).abs().max() < 1e-9


@given(angle=st.floats(-math.pi, math.pi))
def test_rotations_leave_a_radially_symmetric_image(angle):
    grid = torch.arange(33, dtype=torch.float64) - 16
    bump = torch.exp(-(grid[:, None] ** 2 + grid[None] ** 2) / (2 * 4.0**2))[None, None]
    inside = grid[:, None] ** 2 + grid[None] ** 2 <= 14**2  # beyond, the reflected border comes in
    assert (warp(bump, turn(angle), still()) - bump)[..., inside].abs().max() < 0.03


@pytest.mark.parametrize("factor", [0.8, 1.25, 2.0])
def test_scaling_divides_the_frequency_of_a_wave(factor):
    # sin(2 pi f x) enlarged by the factor has frequency f / factor, here a whole number of waves.
    size, waves = 160, 20
    x = torch.sin(2 * math.pi * waves / size * torch.arange(size, dtype=torch.float64)).expand(1, 1, 8, size)
    found = warp(x, matrix([1 / factor, 0], [0, 1 / factor]), still())[0, 0, 4]
    centre = found[20:-20] * torch.hann_window(size - 40, periodic=False, dtype=torch.float64)
    peak = torch.fft.rfft(centre, n=16 * size).abs().argmax() / (16 * size)
    assert abs(peak - waves / size / factor) < 0.5 / size / 4
    assert found[20:-20].abs().max() == pytest.approx(1, abs=0.1)


@given(
    angle=st.floats(-3, 3),
    right=st.floats(-3, 3),
    down=st.floats(-3, 3),
    factor=st.floats(0.85, 1.2),
    seed=st.integers(0, 99),
)
def test_a_warp_and_its_inverse_give_the_image_back(angle, right, down, factor, seed):
    # q = A (p - s) is undone by A^-1 (q + A s).
    x = smooth(48, 48, cutoff=0.08, seed=seed)
    linear, shift = turn(angle) * factor, matrix([right, down])[0]
    there = warp(x, linear, shift)
    back = warp(there, linear.inverse(), -(linear @ shift[..., None])[..., 0])
    assert interior(back - x, 17).square().mean().sqrt() < 0.1 * interior(x, 17).square().mean().sqrt()


def test_fine_detail_is_removed_where_it_would_alias():
    # Halved in size, a wave of 0.4 cycles per pixel would have 0.8, seen as 0.2.
    x = torch.cos(2 * math.pi * 0.4 * torch.arange(60, dtype=torch.float64)).expand(1, 1, 60, 60)
    shrunk = interior(warp(x, 2 * torch.eye(2)[None], still()), 18)
    naive = x[..., ::2]
    assert shrunk.square().mean() < 0.25 * naive.square().mean()


# The pipeline.


def test_probability_zero_gives_the_images_back():
    x = torch.randn(5, 3, 9, 8)
    found, labels = augment(x, range(5), probability=0)
    assert torch.equal(found, x)
    assert found.data_ptr() != x.data_ptr()
    assert torch.equal(labels, torch.zeros(5, 9))


@pytest.mark.parametrize(("name", "column", "axis"), [("xflip", 0, 3), ("yflip", 1, 2)])
def test_flips_are_exact_and_labelled(name, column, axis):
    x = torch.randn(64, 2, 5, 6)
    found, labels = augment(x, range(64), 1.0, **(NONE | {name: 1.0}))
    flipped = labels[:, column] == 1
    assert 10 < flipped.sum() < 54
    assert torch.equal(found[flipped], x[flipped].flip(axis))
    assert torch.equal(found[~flipped], x[~flipped])
    assert labels.sum() == flipped.sum()


def from_labels(image, label):
    """The docstring's formulas. (w, r) and (-w, r + pi) share their labels, so there are two candidates."""
    height, width = image.shape[1:]
    flip_x, flip_y, scale, cos, sin, stretch_x, stretch_y, right, down = label.tolist()
    image = image.flip([axis for axis, flip in ((2, flip_x), (1, flip_y)) if flip])
    rotation = matrix([cos + 1, sin], [-sin, cos + 1])
    moved = matrix([right * width / 8, down * height / 8])[0]
    amount, direction = math.hypot(stretch_x, stretch_y), math.atan2(stretch_y, stretch_x)
    for w, r in (amount, direction), (-amount, direction + math.pi):
        stretch = turn(-r) @ matrix([2 ** (0.2 * w), 0], [0, 2 ** (-0.2 * w)]) @ turn(r)
        forward = stretch @ rotation * 2 ** (0.2 * scale)  # first scaled, then rotated, then stretched
        yield warp(image[None], forward.inverse(), moved)[0]


def test_the_labels_tell_what_was_done():
    x = smooth(12, 10).expand(24, 1, 12, 10)
    found, labels = augment(x, range(24), 1.0)
    assert labels.dtype == torch.float32
    for image, result, label in zip(x, found, labels.double(), strict=True):
        assert min((result - expected).abs().max() for expected in from_labels(image, label)) < 1e-4


def test_labels_have_the_stated_distributions():
    count, probability = 4000, 0.12
    _, labels = augment(torch.zeros(count, 1, 1, 1), range(count), probability)
    columns = dict(zip(LABELS, labels.double().T, strict=True))

    def share_is(found, expected):
        assert abs(found.double().mean() - expected) < 4.5 * (expected * (1 - expected) / count) ** 0.5

    share_is(columns["x-flip"], 0.5)
    share_is(columns["y-flip"], probability / 2)
    for name in ("scale", "rotation sin", "anisotropy cos", "x-translation", "y-translation"):
        share_is(columns[name] != 0, probability)
    share_is(columns["anisotropy sin"] != 0, probability / 2)  # half of the stretches are along an axis
    assert torch.equal(columns["x-translation"] != 0, columns["y-translation"] != 0)

    stretch = torch.hypot(columns["anisotropy cos"], columns["anisotropy sin"])
    for values in (columns["scale"], columns["x-translation"], columns["y-translation"], stretch):
        enabled = values[values != 0]
        assert abs(enabled.square().mean() - 1) < 4.5 * (2 / len(enabled)) ** 0.5  # variance 1
    angle = torch.atan2(columns["rotation sin"], columns["rotation cos - 1"] + 1)
    angle = angle[angle != 0]
    assert angle.abs().max() <= math.pi
    # U(-pi, pi): variance pi^2 / 3, fourth moment pi^4 / 5.
    assert abs(angle.square().mean() - math.pi**2 / 3) < 4.5 * (math.pi**4 * (1 / 5 - 1 / 9) / len(angle)) ** 0.5
    # Independent of each other: the share of scaled and rotated ones is the product.
    share_is((columns["scale"] != 0) & (columns["rotation sin"] != 0), probability**2)


@pytest.mark.parametrize("name", STRENGTHS)
def test_strengths_multiply_the_probability(name):
    seeds = range(600)
    labels = [augment(torch.zeros(600, 1, 1, 1), seeds, p, **(NONE | {name: s}))[1] for p, s in ((0.5, 0.4), (0.1, 2))]
    assert torch.equal(*labels)
    assert labels[0].abs().sum() > 0


def test_a_strength_of_zero_leaves_the_other_draws_alone():
    x = torch.zeros(50, 1, 1, 1)
    _, everything = augment(x, range(50), 0.7)
    _, without = augment(x, range(50), 0.7, rotate=0)
    rotation = [LABELS.index("rotation cos - 1"), LABELS.index("rotation sin")]
    assert everything[:, rotation].any()
    assert not without[:, rotation].any()
    kept = [column for column in range(9) if column not in rotation]
    assert torch.equal(everything[:, kept], without[:, kept])


def test_an_image_depends_on_its_own_seed_alone():
    x = torch.randn(12, 3, 10, 14, generator=torch.Generator().manual_seed(1))
    seeds = [2**62 + i for i in range(12)]
    pipe = Augment(probability=0.5)
    torch.manual_seed(5)
    images, labels = pipe(x, seeds)
    torch.manual_seed(6)
    for part in (slice(0, 1), slice(1, 7), slice(7, 12)):
        alone, label = pipe(x[part], seeds[part])
        assert torch.equal(label, labels[part])
        torch.testing.assert_close(alone, images[part], rtol=0, atol=1e-5)
    assert len(labels.unique(dim=0)) > 6


def test_standard_deviations_scale_the_warp():
    x = smooth(16, 16)
    only = NONE | {"translate": 1.0}
    found, labels = augment(x, [3], 1.0, **only, translate_std=0.25)
    expected = warp(x, torch.eye(2)[None], labels.double()[:, -2:] * 0.25 * 16)
    assert (found - expected).abs().max() < 1e-5
    unmoved, labels = augment(x, [3], 1.0, **only, translate_std=0)
    assert (unmoved - x).abs().max() < 1e-9
    assert labels[:, -2:].abs().min() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtype_is_kept_and_half_precision_computes_in_float32(dtype):
    x = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, labels = augment(x, range(8), 1.0)
    exact, _ = augment(x.double(), range(8), 1.0)
    assert found.dtype == dtype
    assert labels.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=4 * torch.finfo(dtype).eps, atol=4 * torch.finfo(dtype).eps)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_device_changes_nothing():
    x = torch.rand(16, 3, 32, 32)
    images, labels = augment(x, range(16), 0.5)
    torch.cuda.set_sync_debug_mode("error")
    try:
        on_gpu = x.to("cuda", non_blocking=True)
        there, there_labels = augment(on_gpu, range(16), 0.5)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert there.device.type == there_labels.device.type == "cuda"
    torch.testing.assert_close(there.cpu(), images, rtol=0, atol=1e-4)
    assert torch.equal(there_labels.cpu(), labels)


def test_nan_stays_nan():
    x = torch.zeros(2, 1, 8, 8)
    x[0, 0, 3, 3] = torch.nan
    found, _ = augment(x, [0, 1], 1.0)
    assert found[0].isnan().any()
    assert not found[1].isnan().any()


def test_no_gradient_flows():
    x = torch.zeros(1, 1, 8, 8, requires_grad=True)
    assert not augment(x, [0], 1.0)[0].requires_grad


def test_the_pipeline_is_a_value():
    assert Augment() == Augment(probability=0.12)
    assert Augment().label_dim == len(LABELS) == 9
    x = torch.rand(3, 1, 8, 8)
    for ours, other in zip(Augment(0.6, scale=0)(x, range(3)), augment(x, range(3), 0.6, scale=0), strict=True):
        assert torch.equal(ours, other)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: augment(x, [0]), ValueError, "1 seeds for 2 images"),
        (lambda x: augment(x, [0, 0.5]), TypeError, "each seed must be an int"),
        (lambda x: augment(x, [0, 2**64]), ValueError, "64 bits"),
        (lambda x: augment(x[:0], []), ValueError, "no samples"),
        (lambda x: augment(x[0], [0]), ValueError, "2 spatial"),
        (lambda x: augment(x.to(torch.uint8), [0, 1]), TypeError, "floating"),
        (lambda x: augment(x, [0, 1], 1.2), ValueError, "between 0 and 1, got 1.2"),
        (lambda x: Augment(scale=-1), ValueError, "scale must be a finite number of at least 0"),
        (lambda x: Augment(scale_std=math.nan), ValueError, "scale_std"),
        (lambda x: Augment(xflip=True), TypeError, "xflip must be a number"),
        (lambda x: warp(x, torch.eye(2)[None], torch.zeros(2, 2)), ValueError, r"got \(1, 2, 2\) and \(2, 2\)"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(torch.zeros(2, 3, 4, 4))
