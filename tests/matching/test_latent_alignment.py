"""VA-VAE's two terms against loops and closed forms; the projection, gradients and bad input."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband.matching import LatentAlignment, marginal_cosine_loss, marginal_distance_loss


def field(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def cosine(a, b):
    return torch.dot(a, b) / (a.norm() * b.norm())


@given(margin=st.floats(0, 2), grid=st.sampled_from([(4,), (2, 3), (1, 2, 2)]))
def test_both_terms_equal_loops(margin, grid):
    z, f = field(2, 3, *grid), field(2, 3, *grid, seed=1)
    tokens = [list(zip(a.flatten(1).T, b.flatten(1).T, strict=True)) for a, b in zip(z, f, strict=True)]
    near = [max(0.0, 1 - margin - cosine(a, b).item()) for sample in tokens for a, b in sample]
    assert marginal_cosine_loss(z, f, margin).item() == pytest.approx(sum(near) / len(near))
    alike = [
        max(0.0, abs(cosine(a, c).item() - cosine(b, d).item()) - margin)
        for sample in tokens
        for a, b in sample
        for c, d in sample
    ]
    assert marginal_distance_loss(z, f, margin).item() == pytest.approx(sum(alike) / len(alike), abs=1e-12)


def test_a_rotated_teacher_has_the_same_relations():
    features = field(2, 4, 3, 3)
    rotation = torch.linalg.qr(field(4, 4, seed=1)).Q
    rotated = torch.einsum("oc,bchw->bohw", rotation, features)
    assert marginal_distance_loss(3 * rotated, features, 0.0).item() < 1e-6
    assert marginal_cosine_loss(rotated, features, 0.0).item() > 0.3
    wider = torch.cat([rotated, torch.zeros_like(rotated)], 1)
    assert marginal_distance_loss(wider, features, 0.0).item() < 1e-6


def test_the_module_adds_both_terms_of_the_projected_latent():
    align = LatentAlignment(4, 6, cos_margin=0.3, distance_margin=0.1)
    assert [tuple(parameter.shape) for parameter in align.parameters()] == [(6, 4)]
    latent, features = field(2, 4, 4, 6).float(), field(2, 6, 4, 6).float()
    projected = torch.einsum("oc,bchw->bohw", align.projection.weight, latent)
    expected = marginal_cosine_loss(projected, features, 0.3) + marginal_distance_loss(projected, features, 0.1)
    torch.testing.assert_close(align(latent, features), expected)
    torch.testing.assert_close(
        align(latent, features.repeat_interleave(2, 2).repeat_interleave(2, 3)), expected, rtol=0.3, atol=0
    )


def test_gradients_reach_the_latent_and_not_the_teacher():
    align = LatentAlignment(4, 6).double()
    latent, features = field(1, 4, 2, 3).requires_grad_(), field(1, 6, 2, 3).requires_grad_()
    align(latent, features).backward()
    assert features.grad is None
    assert align.projection.weight.grad.abs().sum() > 0
    assert torch.autograd.gradcheck(lambda z: align(z, features.detach()), latent)


def test_half_precision_nan_and_accelerators():
    z, f = field(2, 3, 4).bfloat16(), field(2, 3, 4, seed=1).bfloat16()
    for term in (marginal_cosine_loss, marginal_distance_loss):
        with torch.autocast("cpu", torch.bfloat16):
            found = term(z, f)
        assert torch.equal(found, term(z.float(), f.float()))
        assert term(z.float() * float("nan"), f.float()).isnan()
    align = LatentAlignment(4, 6).to("meta")
    assert align(torch.empty(2, 4, 4, 4, device="meta"), torch.empty(2, 6, 8, 8, device="meta")).shape == ()


X = torch.zeros(2, 4, 3, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: LatentAlignment(0, 4), ValueError, "latent_channels must be at least 1"),
        (lambda: LatentAlignment(4, 4.0), TypeError, "teacher_width must be an int"),
        (lambda: LatentAlignment(4, 4, cos_margin=3), ValueError, "cos_margin must lie in 0 to 2"),
        (lambda: LatentAlignment(4, 4, distance_margin="a"), TypeError, "distance_margin must be a number"),
        (lambda: LatentAlignment(3, 4)(X, X), ValueError, "latent must have shape (batch, 3, *grid)"),
        (lambda: LatentAlignment(4, 3)(X, X), ValueError, "features must have shape (2, 3, *grid)"),
        (lambda: LatentAlignment(4, 4)(X, X[:1]), ValueError, "features must have shape (2, 4, *grid)"),
        (lambda: LatentAlignment(4, 4)(X.byte(), X), TypeError, "latent must be a real floating"),
        (lambda: LatentAlignment(4, 4)(X, X.flatten(2)), ValueError, "cannot be resampled"),
        (lambda: marginal_cosine_loss(X, X[:, :2]), ValueError, "the same shape"),
        (lambda: marginal_distance_loss(X, X[..., :2]), ValueError, "the same batch and grid"),
        (lambda: marginal_distance_loss(X, X, -0.1), ValueError, "margin must lie in 0 to 2"),
    ],
)
def test_bad_input_is_told(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
