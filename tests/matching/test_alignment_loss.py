"""REPA's loss and heads: closed forms, the targets, several teachers, other grids, the schedule, and bad input."""

import copy
import pickle
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from passband.matching import AlignmentLoss, alignment_loss, dog, spatial_normalize


def field(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def aligner(width=6, teachers=5, **options):
    torch.manual_seed(0)
    return AlignmentLoss(width, teachers, hidden=8, **options)


@given(angle=st.floats(0, 3.14), scale=st.floats(0.01, 100))
def test_the_loss_is_minus_the_cosine_of_the_angle(angle, scale):
    angle = torch.tensor(angle, dtype=torch.float64)
    first = torch.zeros(2, 4, 3, 5, dtype=torch.float64)
    second = first.clone()
    first[:, 1] = 2.0
    second[:, 1], second[:, 3] = scale * angle.cos(), scale * angle.sin()
    torch.testing.assert_close(alignment_loss(first, second), -angle.cos())


def test_the_loss_is_the_mean_over_tokens_and_samples():
    first, second = field(3, 4, 2, 5), field(3, 4, 2, 5, seed=1)
    cosines = [
        torch.dot(first[b, :, i, j], second[b, :, i, j]) / (first[b, :, i, j].norm() * second[b, :, i, j].norm())
        for b in range(3)
        for i in range(2)
        for j in range(5)
    ]
    torch.testing.assert_close(alignment_loss(first, second), -torch.stack(cosines).mean())


def test_the_mlp_has_three_layers_and_works_on_each_token():
    align = AlignmentLoss(6, 5)
    layers = [layer for layer in align.modules() if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in layers] == [(6, 2048), (2048, 2048), (2048, 5)]
    assert sum(isinstance(layer, nn.SiLU) for layer in align.modules()) == 2
    align = aligner()
    tokens = field(2, 6, 3, 4)
    projected = align.project(tokens)["teacher"]
    assert projected.shape == (2, 5, 3, 4)
    torch.testing.assert_close(align.project(tokens[..., 1:2, 2:3])["teacher"], projected[..., 1:2, 2:3])
    torch.testing.assert_close(align.project(tokens.flatten(2))["teacher"], projected.flatten(2))


def test_the_convolution_sees_its_neighbours_on_planes_and_lines():
    align = aligner(head="conv")
    weights = {name: value.shape for name, value in align.state_dict().items()}
    assert list(weights.values()) == [(5, 6, 3, 3), (5,)]
    tokens = field(2, 6, 5, 7)
    moved = tokens.clone()
    moved[:, :, 2, 3] += 1
    change = (align.project(moved)["teacher"] - align.project(tokens)["teacher"]).abs().amax((0, 1)) > 1e-6
    assert change[1:4, 2:5].all()
    assert change.sum() == 9
    line = field(2, 6, 7)
    weight, bias = align.state_dict().values()
    expected = nn.functional.conv1d(line, weight[..., 1], bias, padding=1)
    torch.testing.assert_close(align.project(line)["teacher"], expected)


@pytest.mark.parametrize(
    ("options", "target"),
    [
        ({}, lambda y: y),
        ({"target": "normalize", "gamma": 0.6}, lambda y: spatial_normalize(y, 0.6)),
        ({"target": "dog", "sigma1": 0.05, "sigma2": 0.3}, lambda y: dog(y, 0.05, 0.3)),
        ({"target": torch.tanh}, torch.tanh),
    ],
)
@pytest.mark.parametrize("head", ["mlp", "conv"])
def test_the_target_is_what_the_teacher_is_made_into(options, target, head):
    align = aligner(head=head, weight=0.5, **options)
    tokens, features = field(2, 6, 4, 6), 2 + field(2, 5, 4, 6, seed=1)
    projected = align.project(tokens)
    expected = alignment_loss(projected["teacher"], target(features))
    torch.testing.assert_close(align(tokens, features), 0.5 * expected)
    torch.testing.assert_close(align.compare(projected, {"teacher": features}), 0.5 * expected)
    torch.testing.assert_close(align.terms["teacher"], expected.detach())
    assert not align.terms["teacher"].requires_grad


def test_several_teachers_count_equally():
    align = aligner(teachers={"dino.v2": 5, "lite": 3}, weight=2)
    tokens = field(2, 6, 4, 6)
    features = {"lite": field(2, 3, 4, 6, seed=1), "dino.v2": field(2, 5, 4, 6, seed=2)}
    loss = align(tokens, features)
    assert list(align.terms) == ["dino.v2", "lite"]
    torch.testing.assert_close(loss, align.terms["dino.v2"] + align.terms["lite"])
    projected = align.project(tokens)
    assert {name: value.shape[1] for name, value in projected.items()} == {"dino.v2": 5, "lite": 3}


@pytest.mark.parametrize("grid", [(8, 12), (2, 3), (5, 7)])
def test_a_teacher_on_another_grid_is_resampled(grid):
    """A ramp over the plane stays one, whatever the grid it is sampled on."""
    align = aligner(width=2, teachers=2)

    def ramps(height, width):
        rows = (torch.arange(height) + 0.5) / height
        columns = (torch.arange(width) + 0.5) / width
        return torch.stack([rows[:, None].expand(height, width), columns.expand(height, width)])[None]

    align.compare({"teacher": ramps(4, 6)}, ramps(*grid))
    assert align.terms["teacher"].item() < -0.98
    align.compare({"teacher": ramps(4, 6)}, ramps(*grid).flip(1))
    assert align.terms["teacher"].item() > -0.85
    line = aligner(width=2, teachers=2)
    line.compare({"teacher": ramps(4, 6)[:, :, :, 0]}, ramps(*grid)[:, :, :, 0])
    assert line.terms["teacher"].isfinite()


def test_teachers_get_no_gradient_and_the_denoiser_does():
    align = aligner(target="dog")
    tokens, features = field(2, 6, 4, 4).requires_grad_(), field(2, 5, 8, 8).requires_grad_()
    align(tokens, features).backward()
    assert features.grad is None
    assert tokens.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in align.parameters())


def test_training_the_heads_aligns():
    align = aligner(weight=1)
    optimizer = torch.optim.Adam(align.parameters(), lr=0.05)
    tokens = field(2, 6, 4, 4)
    features = torch.einsum("oc,bchw->bohw", field(5, 6, seed=3), tokens)
    for _ in range(60):
        optimizer.zero_grad()
        align(tokens, features).backward()
        optimizer.step()
    assert align(tokens, features).item() < -0.9


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({}, {0: 2.0, 10**9: 2.0}),
        ({"stop_step": 10}, {0: 2.0, 9: 2.0, 10: 0.0, 99: 0.0}),
        ({"decay_steps": 10}, {0: 2.0, 5: 1.0, 10: 0.0, 99: 0.0}),
        ({"decay_steps": 10, "stop_step": 5}, {0: 2.0, 4: 1.2, 5: 0.0}),
    ],
)
def test_the_weight_decays_or_stops(options, weights):
    align = aligner(weight=2, **options)
    tokens, features = field(1, 6, 2, 2), field(1, 5, 2, 2)
    for step, weight in weights.items():
        assert align.weight_at(step) == pytest.approx(weight)
        loss = align(tokens, features, step)
        torch.testing.assert_close(loss, weight * align.terms["teacher"])
        align.zero_grad()
        loss.backward()  # the heads stay in the graph, as DDP wants
        assert all(parameter.grad is not None for parameter in align.parameters())


def test_half_precision_is_compared_in_float32():
    align = aligner()
    tokens, features = field(2, 6, 3, 3), field(2, 5, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        projected = align.project(tokens)
        loss = align.compare(projected, features.half())
    assert projected["teacher"].dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    expected = alignment_loss(projected["teacher"].float(), features.half().float())
    torch.testing.assert_close(loss, 0.5 * expected)


def test_nothing_looks_at_values_on_an_accelerator():
    align = aligner(target="dog", head="conv").to("meta")
    tokens, features = torch.empty(2, 6, 4, 6, device="meta"), torch.empty(2, 5, 8, 12, device="meta")
    align(tokens, features).backward()
    assert align.terms["teacher"].device.type == "meta"


def test_nan_shows():
    align = aligner()
    features = field(2, 5, 3, 3)
    features[0, 0, 0, 0] = float("nan")
    assert align(field(2, 6, 3, 3), features).isnan()


@pytest.mark.parametrize("target", ["plain", "normalize", "dog"])
def test_copies_and_state_dicts(target):
    align = aligner(teachers={"a.b": 5, "forward": 3}, target=target)
    tokens, features = field(1, 6, 3, 3), {"a.b": field(1, 5, 3, 3), "forward": field(1, 3, 3, 3)}
    fresh = AlignmentLoss(6, {"forward": 3, "a.b": 5}, hidden=8, target=target)
    fresh.load_state_dict(align.state_dict())
    for copied in (copy.deepcopy(align), pickle.loads(pickle.dumps(align)), fresh):
        torch.testing.assert_close(copied(tokens, features), align(tokens, features))


T, Y = torch.zeros(2, 6, 4, 4), torch.zeros(2, 5, 4, 4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: AlignmentLoss(0, 5), ValueError, "width must be at least 1"),
        (lambda: AlignmentLoss(6, 5.0), TypeError, "the width of teacher 'teacher' must be an int"),
        (lambda: AlignmentLoss(6, {}), ValueError, "at least one teacher"),
        (lambda: AlignmentLoss(6, {"a.b": 5, "a_b": 5}), ValueError, "differ in more than dots"),
        (lambda: AlignmentLoss(6, {1: 5}), TypeError, "name must be a string"),
        (lambda: AlignmentLoss(6, 5, head="linear"), ValueError, "unknown head"),
        (lambda: AlignmentLoss(6, 5, target="doge"), ValueError, "did you mean 'dog'?"),
        (lambda: AlignmentLoss(6, 5, target="dog", sigma1=0.5), ValueError, "0 <= sigma1 < sigma2"),
        (lambda: AlignmentLoss(6, 5, target="normalize", gamma="1"), TypeError, "gamma must be a number"),
        (lambda: AlignmentLoss(6, 5, weight=-1), ValueError, "weight must be finite and at least 0"),
        (lambda: AlignmentLoss(6, 5, stop_step=0), ValueError, "stop_step must be at least 1"),
        (lambda: AlignmentLoss(6, 5, decay_steps=1e5), TypeError, "decay_steps must be an int"),
        (lambda: aligner(stop_step=5)(T, Y), ValueError, "pass step"),
        (lambda: aligner(stop_step=5)(T, Y, -1), ValueError, "step must be at least 0"),
        (lambda: aligner()(T[:, :5], Y), ValueError, "tokens must have shape (batch, 6, *grid)"),
        (lambda: aligner()(T.flatten(2).mT, Y), ValueError, "becomes a field by tokens.transpose(1, 2)"),
        (lambda: aligner()(T, Y[:, :4]), ValueError, "features of 'teacher' must have shape (2, 5, *grid)"),
        (lambda: aligner()(T, Y[:1]), ValueError, "must have shape (2, 5, *grid)"),
        (lambda: aligner()(T, Y.flatten(2)), ValueError, "cannot be resampled"),
        (lambda: aligner()(T, Y.long()), TypeError, "must be a real floating"),
        (lambda: aligner()(T, {"lite": Y}), ValueError, "features must be those of ['teacher'], got those of ['lite']"),
        (lambda: aligner(teachers={"a": 5, "b": 5})(T, Y), ValueError, "pass their features by name"),
        (lambda: aligner()(T, [Y]), TypeError, "features must be a tensor, or a dict"),
        (lambda: aligner(head="conv")(T.unsqueeze(-1), Y.unsqueeze(-1)), ValueError, "grids of 1 or 2 axes"),
        (lambda: aligner(target=lambda y: y[:, :1])(T, Y), ValueError, "the same shape"),
        (lambda: alignment_loss(T, Y), ValueError, "the same shape"),
    ],
)
def test_bad_input_is_told(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
