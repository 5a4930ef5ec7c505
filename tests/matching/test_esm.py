"""ESM against the published numbers and a plain NumPy one; what the default form repairs; gradients and bad input."""

import math
import re
from itertools import pairwise

import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband.matching import ESM, anti_aliased, esm_divergence, esm_loss, spectrum_rings
from passband.transforms import dct, idct

LATENTS = ("z16c4", "z32c4", "z8c16")
OPTIONS = [(delta, center, dc) for delta in (0.0, 0.4, 1.0) for center, dc in (("mean", 0), ("none", 0), ("none", 1))]


def field(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def photograph_like(n, batch=8, exponent=2.7):
    """Fields with the power law of photographs."""
    index = torch.arange(n, dtype=torch.float64)
    radius = (index[:, None].square() + index.square()).sqrt()
    radius[0, 0] = math.inf
    return idct(field(batch, 3, n, n) * radius ** (-exponent / 2))


@pytest.mark.parametrize("latent", LATENTS)
@pytest.mark.parametrize(("delta", "center", "dc"), OPTIONS)
def test_the_reference_form_equals_the_published_values_and_gradients(shared, latent, delta, center, dc):
    arrays = np.load(shared / "parity" / "spectrum_matching_dev.npz")
    image, z = torch.tensor(arrays["x"]), torch.tensor(arrays[f"{latent}_z"]).requires_grad_()
    name = f"{latent}_delta{delta}_center-{center}_dc{dc}"
    loss = esm_loss(image, z, delta=delta, reference=True, center=center == "mean", keep_dc=dc == 1)
    loss.backward()
    assert loss.item() == pytest.approx(float(arrays[f"{name}_loss"]), rel=1e-5)
    published = torch.tensor(arrays[f"{name}_grad"])
    torch.testing.assert_close(z.grad, published, rtol=0, atol=1e-5 * published.abs().max().item())


def plain_distribution(spectrum, bins, weights):
    """The density over rings of a DCT, ring by ring."""
    size = spectrum.shape[1:]
    index = np.meshgrid(*[np.arange(n) / (2 * n) for n in size], indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in index))
    ring = np.floor(radius / (math.sqrt(len(size)) / 2 / bins) + 1e-9).astype(int)
    ring.flat[0] = -1
    power = (spectrum**2).mean(0)
    means = np.array([power[ring == b].mean() if (ring == b).any() else 0.0 for b in range(bins)]) * weights
    counts = np.array([(ring == b).sum() for b in range(bins)])
    density = np.log(1 + means / ((means * counts).sum() / counts.sum()))
    return density / density.sum()


def plain_divergence(image, latent, delta, bins):
    values = []
    for x, z in zip(image.numpy(), latent.numpy(), strict=True):
        axes = tuple(range(1, x.ndim))
        small = scipy.fft.dctn(x, axes=axes, norm="ortho")[(slice(None), *(slice(n) for n in z.shape[1:]))]
        p = plain_distribution(small, bins, (np.arange(bins) + 1.0) ** delta)
        q = plain_distribution(scipy.fft.dctn(z, axes=axes, norm="ortho"), bins, np.ones(bins))
        values.append(np.sum(p[p > 0] * np.log(p[p > 0] / q[p > 0])))
    return torch.tensor(np.array(values))


sides = st.integers(2, 12)


@given(
    size=st.one_of(st.tuples(sides), st.tuples(sides, sides), st.tuples(*[st.integers(2, 5)] * 3)),
    grow=st.tuples(*[st.floats(1, 3)] * 3),
    bins=st.integers(1, 20),
    delta=st.floats(0, 2),
)
def test_the_default_form_equals_its_formula_in_scipy(size, grow, bins, delta):
    image = field(2, 3, *(int(n * share) for n, share in zip(size, grow, strict=False)))
    latent = field(2, 2, *size, seed=1)
    found = esm_divergence(image, latent, delta=delta, bins=bins)
    # The floors keep logarithms of empty rings finite; they show in the sixth digit.
    torch.testing.assert_close(found, plain_divergence(image, latent, delta, bins), rtol=1e-5, atol=1e-6)


@given(
    height=st.integers(2, 40),
    width=st.integers(2, 48),
    exponent=st.floats(-12, 12),
    sign=st.sampled_from([-1, 1]),
    shift=st.floats(-2, 2),
    repeats=st.integers(1, 4),
)
def test_any_multiple_of_the_anti_aliased_image_has_divergence_0(height, width, exponent, sign, shift, repeats):
    image = field(2, 3, 40, 48).float()
    small = anti_aliased(image, (height, width)).repeat(1, repeats, 1, 1)
    latent = sign * 10.0**exponent * (small + shift)
    torch.testing.assert_close(esm_divergence(image, latent, delta=0.0), torch.zeros(2), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(31, 31), (32, 32), (33, 33), (16, 24)])
def test_the_reference_form_is_not_0_there(size):
    image = photograph_like(64)
    latent = 3 * anti_aliased(image, size)
    assert esm_divergence(image, latent, delta=0.0, reference=True).min() > 1e-3


@pytest.mark.parametrize("delta", [0.4, 1.0])
def test_a_latent_flattened_ring_by_ring_has_divergence_0(delta):
    image = photograph_like(24, batch=2)
    spectrum = dct(anti_aliased(image, (12, 18)))
    rows, columns = torch.arange(12) / 24, torch.arange(18) / 36
    radius = (rows[:, None].square() + columns.square()).sqrt()
    ring = torch.bucketize(radius, spectrum_rings((12, 18)).edges[1:].float() - 1e-6, right=True)
    latent = idct(spectrum * (ring + 1.0) ** (delta / 2))
    assert esm_divergence(image, latent, delta=delta).abs().max() < 1e-6
    assert esm_divergence(image, latent, delta=0.0).min() > 1e-3


@pytest.mark.parametrize("delta", [0.0, 1.0])
def test_the_divergence_does_not_jump_between_sizes(delta):
    """White latents, so many channels that chance plays no part: 31, 32 and 33 are nearly the same latent."""
    image = photograph_like(96, batch=4)

    def largest_step(**options):
        latents = [field(4, 256, n, n, dtype=torch.float32) for n in (31, 32, 33)]
        values = [esm_loss(image, z, delta=delta, **options).item() for z in latents]
        return max(abs(math.log(after / before)) for before, after in pairwise(values))

    assert largest_step() < 0.03
    if delta:
        assert largest_step(reference=True) > 0.1


@given(exponent=st.floats(-15, 15), shift=st.floats(-3, 3), seed=st.integers(0, 99))
def test_scale_mean_and_order_of_channels_do_not_count(exponent, shift, seed):
    image, latent = field(2, 3, 24, 32), field(2, 5, 9, 12, seed=seed)
    changed = 10.0**exponent * (latent.flip(1) + shift)
    torch.testing.assert_close(esm_divergence(image, changed), esm_divergence(image, latent), rtol=1e-5, atol=1e-7)
    changed = 10.0**exponent * (image + shift)
    torch.testing.assert_close(esm_divergence(changed, latent), esm_divergence(image, latent), rtol=1e-5, atol=1e-7)


def test_samples_do_not_mix_and_axes_are_equal():
    image, latent = field(3, 3, 24, 30), field(3, 2, 8, 10, seed=1)
    together = esm_divergence(image, latent)
    alone = [esm_divergence(x, z) for x, z in zip(image.split(1), latent.split(1), strict=True)]
    torch.testing.assert_close(together, torch.cat(alone))
    torch.testing.assert_close(esm_divergence(image.mT, latent.mT), together)
    torch.testing.assert_close(esm_loss(image, latent), together.mean())


@pytest.mark.parametrize("size", [(7,), (5, 4), (3, 2, 2)])
@pytest.mark.parametrize("reference", [False, True])
def test_gradients_reach_latent_and_image(size, reference):
    if reference and len(size) != 2:
        return
    image = field(1, 1, *(n + 2 for n in size)).requires_grad_()
    latent = field(1, 2, *size, seed=1).requires_grad_()
    options = {"reference": True, "center": True} if reference else {}
    assert torch.autograd.gradcheck(lambda x, z: esm_divergence(x, z, bins=5, **options), (image, latent))


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("value", [0.0, 0.3, -100.0, 1e-20])
def test_a_constant_latent_has_a_finite_divergence_and_gradient(value, reference):
    image = field(2, 3, 32, 32, dtype=torch.float32)
    latent = torch.full((2, 4, 8, 8), value, requires_grad=True)
    values = esm_divergence(image, latent, reference=reference)
    values.sum().backward()
    assert values.isfinite().all()
    assert values.min() > 0.05
    assert latent.grad.abs().max() < 1e-6  # what is left is rounding


@pytest.mark.parametrize("value", [0.0, 0.3, -100.0])
def test_a_blank_image_asks_for_nothing(value):
    latent = field(2, 4, 8, 8, dtype=torch.float32).requires_grad_()
    values = esm_divergence(torch.full((2, 3, 32, 32), value), latent)
    values.sum().backward()
    assert values.tolist() == [0.0, 0.0]
    assert not latent.grad.any()


def test_descending_the_gradient_gives_the_latent_its_spectrum():
    image = photograph_like(32, batch=2).float()
    latent = field(2, 4, 8, 8, seed=1).float().requires_grad_()
    optimizer = torch.optim.Adam([latent], lr=0.08)
    before = esm_loss(image, latent).item()
    for _ in range(40):
        optimizer.zero_grad()
        esm_loss(image, latent).backward()
        optimizer.step()
    assert esm_loss(image, latent).item() < 0.1 * before


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("where", ["image", "latent"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_and_infinity_show_in_their_own_sample(where, value, reference):
    image, latent = field(3, 3, 16, 16), field(3, 2, 4, 4)
    (image if where == "image" else latent)[1, 0, 2, 2] = value
    values = esm_divergence(image, latent, reference=reference)
    assert values.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("reference", [False, True])
def test_half_precision_is_computed_in_float32(dtype, reference):
    image, latent = field(2, 3, 32, 32).to(dtype), field(2, 4, 8, 8, seed=1).to(dtype).requires_grad_()
    values = esm_divergence(image, latent, reference=reference)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, esm_divergence(image.float(), latent.float(), reference=reference))
    values.sum().backward()
    assert latent.grad.dtype == dtype
    assert latent.grad.isfinite().all()


@pytest.mark.parametrize("reference", [False, True])
def test_autocast_changes_nothing(reference):
    image, latent = field(2, 3, 32, 32).float(), field(2, 4, 8, 8, seed=1).float()
    with torch.autocast("cpu", torch.bfloat16):
        inside = esm_divergence(image, latent, reference=reference)
    assert torch.equal(inside, esm_divergence(image, latent, reference=reference))


@pytest.mark.parametrize("reference", [False, True])
def test_nothing_looks_at_values_on_an_accelerator(reference):
    """The meta device has no values to look at: whatever waits for one fails."""
    image, latent = torch.empty(2, 3, 30, 42, device="meta"), torch.empty(2, 4, 5, 7, device="meta", requires_grad=True)
    loss = esm_loss(image, latent, reference=reference)
    loss.backward()
    assert latent.grad.shape == latent.shape


@pytest.mark.parametrize("options", [{}, {"delta": 0.4, "bins": 7}, {"reference": True, "keep_dc": True}])
def test_the_module_is_the_function(options):
    image, latent = field(2, 3, 32, 32), field(2, 4, 8, 8, seed=1)
    module = ESM(**options)
    assert torch.equal(module(image, latent), esm_loss(image, latent, **options))
    assert not module.state_dict()
    assert all(f"{name}={value}" in repr(module) for name, value in options.items())


X, Z = torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 4, 4)


@pytest.mark.parametrize(
    ("image", "latent", "options", "error", "message"),
    [
        (X.byte(), Z, {}, TypeError, "image must be a real floating"),
        (X, Z.long(), {}, TypeError, "latent must be a real floating"),
        (X, None, {}, TypeError, "latent must be a torch.Tensor"),
        (X, torch.zeros(4, 3, 4, 4), {}, ValueError, "the same batch"),
        (X, torch.zeros(2, 3, 4), {}, ValueError, "number of axes"),
        (X, torch.zeros(2, 3), {}, ValueError, "latent must have shape"),
        (X, torch.zeros(2, 3, 4, 9), {}, ValueError, "must not be larger than the image"),
        (torch.zeros(2, 3, 8), torch.zeros(2, 3, 4), {"reference": True}, ValueError, "with 2 spatial"),
        (X, Z, {"bins": 0}, ValueError, "pass at least 1"),
        (X, Z, {"bins": 2.0}, TypeError, "bins must be an int"),
        (X, Z, {"delta": -1}, ValueError, "delta must be a finite"),
        (X, Z, {"delta": math.inf}, ValueError, "delta must be a finite"),
        (X, Z, {"delta": "1"}, TypeError, "delta must be a number"),
        (X, Z, {"reference": 1}, TypeError, "reference must be True or False"),
        (X, Z, {"center": True}, ValueError, "belong to the reference form"),
        (X, Z, {"keep_dc": True}, ValueError, "belong to the reference form"),
    ],
)
def test_bad_input_is_told(image, latent, options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        esm_divergence(image, latent, **options)


@pytest.mark.parametrize(
    ("options", "error"), [({"delta": -1}, ValueError), ({"bins": 0}, ValueError), ({"keep_dc": True}, ValueError)]
)
def test_the_module_checks_its_options_when_made(options, error):
    with pytest.raises(error, match=next(iter(options))):
        ESM(**options)
