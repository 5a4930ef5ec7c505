"""JiT against the published numbers, and what its users may do with it."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.fft import dctn, idctn

from passband import Flow, SpectralForcing
from passband.models import JIT_SIZES, JiT
from passband.models._jit_blocks import PatchEmbed, RMSNorm, images, rotate
from passband.models._jit_tables import position_table, rotary_table

FORMS = pytest.mark.parametrize("form", ["conv", "linear"])
SMALL = {
    "patch_size": 8,
    "hidden_size": 32,
    "depth": 3,
    "num_heads": 4,
    "num_classes": 5,
    "bottleneck_dim": 8,
    "in_context_len": 2,
    "in_context_start": 1,
}


def network(size=16, seed=0, **options):
    """A small network with weights of ordinary size, so that no branch is silent."""
    torch.manual_seed(seed)
    model = JiT(size, **(SMALL | options)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) / math.sqrt(max(parameter[0].numel(), 4)))
    return model


def batch(count=2, height=16, width=16, channels=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, channels, height, width, generator=generator)
    return x, torch.rand(count, generator=generator)


def reference(shared, name):
    arrays = np.load(shared / "parity" / f"jit_{name}_dev.npz")
    weights = {key[2:]: torch.from_numpy(arrays[key]) for key in arrays.files if key.startswith("w:")}
    given = [torch.from_numpy(arrays[f"in_{key}"]) for key in "xty"]
    return weights, given, torch.from_numpy(arrays["out"])


def published(shared, weights, form):
    model = JiT(**json.loads((shared / "parity" / "jit_config_dev.json").read_text()), patch_embedding=form)
    model.load_state_dict(weights, strict=True)
    return model.eval()


def relative(got, expected):
    return ((got - expected).abs().max() / expected.abs().max()).item()


# Against the published network.


@FORMS
def test_equals_the_published_network(shared, form):
    weights, given, expected = reference(shared, "plain")
    with torch.no_grad():
        assert relative(published(shared, weights, form)(*given), expected) < 1e-5


@FORMS
def test_equals_the_published_network_with_forcing(shared, form):
    weights, given, expected = reference(shared, "sf")
    model = published(shared, weights, form)
    with torch.no_grad():
        assert relative(model(*given), expected) > 1e-3  # it makes a difference
        attachment = SpectralForcing(Flow(data_at=1)).attach(model)
        assert relative(attachment(*given), expected) < 1e-5
    assert set(model.state_dict()) == set(weights)


def test_forcing_is_a_low_pass_of_the_input(shared):
    """The same as above without our operator: the input filtered by SciPy."""
    weights, (x, t, y), expected = reference(shared, "sf")
    index = np.arange(32)
    radius = np.sqrt((index[:, None] ** 2 + index**2) / (2 * 31**2))
    cutoff = 0.05 + 0.95 * t.numpy().astype(float)[:, None, None, None]
    spectrum = dctn(x.numpy().astype(float), axes=(2, 3), norm="ortho") / (1 + np.exp(-30 * (cutoff - radius)))
    low = torch.from_numpy(idctn(spectrum, axes=(2, 3), norm="ortho")).float()
    with torch.no_grad():
        assert relative(published(shared, weights, "linear")(low, t, y), expected) < 1e-5


def test_the_state_dict_is_the_published_one(shared):
    for name, form in (("plain", "conv"), ("sf", "linear")):
        weights, _, _ = reference(shared, name)
        state = published(shared, weights, form).state_dict()
        assert {key: value.shape for key, value in state.items()} == {
            key: value.shape for key, value in weights.items()
        }


def test_the_position_table_is_the_published_one(shared):
    weights, _, _ = reference(shared, "plain")
    assert torch.allclose(position_table(4, 4, 48), weights["pos_embed"], atol=1e-6)


# The sizes.


@pytest.mark.parametrize(
    ("size", "side", "millions"),
    [("B/16", 256, 131.1), ("B/32", 512, 133.2), ("L/16", 256, 458.9), ("700M/32", 512, 688.2)],
)
def test_parameters_as_published(size, side, millions):
    with torch.device("meta"):
        model = JiT.from_size(size, input_size=side)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 1) == millions


def test_large_sizes_are_what_they_are_called():
    counts = {}
    for size in ("H/16", "H/32", "2B/32", "7B/32", "L/32", "B/8"):
        with torch.device("meta"):
            model = JiT.from_size(size, input_size=256)
        counts[size] = sum(parameter.numel() for parameter in model.parameters()) / 1e9
    assert round(counts["2B/32"]) == 2
    assert round(counts["7B/32"]) == 7
    assert set(counts) | {"B/16", "B/32", "L/16", "700M/32"} == set(JIT_SIZES)


def test_a_size_with_changes():
    model = JiT.from_size("B/16", (32, 64), depth=2, hidden_size=32, num_heads=2, in_context_start=0, num_classes=3)
    assert (model.config["patch_size"], model.config["bottleneck_dim"], model.config["input_size"]) == (
        16,
        128,
        [32, 64],
    )
    with pytest.raises(
        ValueError, match=r"unknown size of JiT: got 'B/61' \(did you mean 'B/16'\?\); expected one of 'B/8'"
    ):
        JiT.from_size("B/61", 256)


# What it computes.


def test_a_new_network_gives_zeros_and_its_blocks_pass_on():
    model = JiT(16, **SMALL)
    x, t = batch()
    assert not model(x, t).any()
    tokens, condition = torch.randn(2, 4, 32), torch.randn(2, 32)
    assert torch.equal(model.blocks[0](tokens, condition, model.rotary[:, 2:]), tokens)


def test_two_forms_of_the_patches_are_one_map():
    torch.manual_seed(0)
    conv, linear = PatchEmbed(3, 4, 6, 16, "conv"), PatchEmbed(3, 4, 6, 16, "linear")
    linear.load_state_dict(conv.state_dict())
    x = torch.randn(2, 3, 8, 12)
    assert torch.allclose(conv(x), linear(x), atol=1e-6)
    again = PatchEmbed(3, 4, 6, 16, "conv")
    again.load_state_dict(linear.state_dict(), assign=True)
    assert torch.equal(again(x), conv(x))
    state = conv.state_dict()
    before = state["proj1.weight"]
    linear.load_state_dict(state)
    assert state["proj1.weight"] is before


def test_weights_of_another_size_are_refused():
    state = PatchEmbed(3, 4, 6, 16, "conv").state_dict()
    with pytest.raises(RuntimeError, match=r"size mismatch for proj1\.weight"):
        PatchEmbed(1, 4, 6, 16, "linear").load_state_dict(state)


@given(rows=st.integers(1, 4), columns=st.integers(1, 4), patch=st.integers(1, 3), channels=st.integers(1, 3))
def test_images_undo_the_cut_into_patches(rows, columns, patch, channels):
    x = torch.randn(2, channels, rows * patch, columns * patch)
    tokens = [
        x[:, :, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch].permute(0, 2, 3, 1).flatten(1)
        for row in range(rows)
        for column in range(columns)
    ]
    assert torch.equal(images(torch.stack(tokens, dim=1), rows, columns, patch), x)


def test_rotations_keep_lengths_and_depend_on_distances_alone():
    table = rotary_table(3, 5, 8).double()
    torch.manual_seed(0)
    q, k = torch.randn(2, 8, dtype=torch.float64)
    turned_q, turned_k = rotate(q.expand(15, 8), table), rotate(k.expand(15, 8), table)
    assert torch.allclose(turned_q.norm(dim=1), q.norm().expand(15), atol=1e-6)
    products = (turned_q @ turned_k.T).reshape(3, 5, 3, 5)
    assert torch.allclose(products[0, 1, 1, 3], products[1, 2, 2, 4], atol=1e-6)
    assert not torch.allclose(products[0, 0, 0, 1], products[0, 0, 1, 0], atol=1e-3)


def test_context_tokens_are_not_turned():
    table = rotary_table(2, 2, 8, context=3)
    x = torch.randn(7, 8)
    turned = rotate(x, table)
    assert torch.equal(turned[:3], x[:3])
    assert torch.equal(table[:, 3:], rotary_table(2, 2, 8))


def test_norms_are_in_float32():
    norm = RMSNorm(64)
    x = 300 * torch.randn(4, 64)
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    assert torch.allclose(norm(x), expected, atol=1e-5)
    half = x.half()  # whose squares overflow
    assert torch.allclose(norm(half).float(), expected, atol=1e-2)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(norm(x), norm(x.float()))
        assert norm(x).dtype == torch.float32


def test_the_class_and_the_time_matter():
    model, (x, t) = network(), batch()
    with torch.no_grad():
        base = model(x, t, torch.tensor([0, 1]))
        assert not torch.allclose(base, model(x, t, torch.tensor([2, 1])))
        assert torch.equal(base[1], model(x, t, torch.tensor([2, 1]))[1])
        assert not torch.allclose(base, model(x, 1 - t, torch.tensor([0, 1])))
        assert torch.equal(model(x, t), model(x, t, torch.tensor([5, 5])))


def test_one_time_for_all_and_whole_times():
    model, (x, _) = network(), batch()
    with torch.no_grad():
        assert torch.equal(model(x, torch.tensor(1)), model(x, torch.ones(2)))


def test_class_tokens_enter_and_leave():
    x, t = batch()
    with torch.no_grad():
        for start in range(3):
            model = network(in_context_start=start)
            base = model(x, t)
            model.in_context_posemb += 1
            assert not torch.allclose(model(x, t), base)
    model = network(in_context_len=0)
    assert model(x, t).shape == x.shape
    assert "in_context_posemb" not in model.state_dict()


@FORMS
def test_not_square_and_other_channels(form):
    model = network((16, 40), in_channels=2, out_channels=4, patch_embedding=form)
    x, t = batch(height=16, width=40, channels=2)
    assert model(x, t).shape == (2, 4, 16, 40)


def test_no_classes():
    model, (x, t) = network(num_classes=0), batch()
    assert torch.equal(model(x, t), model(x, t, torch.zeros(2, dtype=torch.int32)))


def test_dropout_is_in_the_middle_half_and_in_training_alone():
    model = network(depth=8, attn_drop=0.5, proj_drop=0.25)
    assert [block.attn.attn_drop for block in model.blocks] == [0, 0, 0.5, 0.5, 0.5, 0.5, 0, 0]
    assert [block.mlp.drop.p for block in model.blocks] == [0, 0, 0.25, 0.25, 0.25, 0.25, 0, 0]
    x, t = batch()
    assert torch.equal(model(x, t), model(x, t))
    model.train()
    assert not torch.equal(model(x, t), model(x, t))


# Precision, memory, compilation, devices.


def test_half_precision():
    model, (x, t) = network(), batch()
    with torch.no_grad():
        expected = model(x, t)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(x, t)
        half = network().bfloat16()(x.bfloat16(), t)
        double = network().double()(x.double(), t.double())
    assert (mixed.dtype, half.dtype, double.dtype) == (torch.float32, torch.bfloat16, torch.float64)
    assert relative(mixed, expected) < 0.03
    assert relative(half.float(), expected) < 0.1
    assert relative(double.float(), expected) < 1e-5


def test_gradients_are_those_of_finite_differences():
    model = network(8, hidden_size=8, depth=2, num_heads=2, patch_size=4, in_channels=1, bottleneck_dim=2).double()
    x, t = batch(1, 8, 8, 1)
    assert torch.autograd.gradcheck(lambda z: model(z, t.double()).sum((2, 3)), x.double().requires_grad_())


def test_checkpointing_changes_no_gradient():
    model, (x, t) = network().train(), batch()

    def gradients():
        return torch.autograd.grad(model(x, t).square().mean(), list(model.parameters()))

    plain, calls = gradients(), []
    model.enable_gradient_checkpointing()
    handle = model.blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    again = gradients()
    assert len(calls) == 2  # forward, and again in backward
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))
    model.disable_gradient_checkpointing()
    gradients()
    assert len(calls) == 3
    handle.remove()


COMPILED = """
import torch
from passband.models import JiT
torch.manual_seed(0)
model = JiT(16, 8, hidden_size=16, depth=2, num_heads=2, num_classes=3, in_context_len=2, in_context_start=1)
for parameter in model.parameters():
    torch.nn.init.normal_(parameter, std=0.2)
inputs = (torch.randn(2, 3, 16, 16), torch.rand(2), torch.tensor([0, 3]))
compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
with torch.no_grad():
    torch.testing.assert_close(compiled(*inputs), model(*inputs))
"""


def test_compiles_as_one_graph():
    # In a process of its own: the run-time shape checks of this one are not part of the library and break the graph.
    result = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_built_on_no_device_and_filled_later():
    with torch.device("meta"):
        model = JiT(16, **SMALL)
    model.to_empty(device="cpu")
    torch.manual_seed(0)
    model.init_weights()
    torch.manual_seed(0)
    expected = JiT(16, **SMALL)
    expected.init_weights()
    for (name, value), other in zip(expected.named_buffers(), model.buffers(), strict=True):
        assert torch.equal(value, other), name
    spread = {name: value.std() for name, value in model.named_parameters() if value.numel() > 1000}
    assert all(abs(value - dict(expected.named_parameters())[name].std()) < 0.01 for name, value in spread.items())
    model.load_state_dict(network().state_dict())
    x, t = batch()
    assert torch.equal(model.eval()(x, t), network()(x, t))


# Errors.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"input_size": (24, 16), "patch_size": 16},
            r"do not tile images of 24 x 16; patch_size may be one of 1, 2, 4, 8$",
        ),
        ({"input_size": (8, 8, 8)}, r"a side or \(height, width\), got \(8, 8, 8\)"),
        ({"input_size": 0}, "input_size must be at least 1, got 0"),
        ({"num_heads": 5}, r"a multiple of 4 .* got 32 / 5: num_heads may be one of 1, 2, 4, 8$"),
        ({"num_heads": 16}, r"got 32 / 16: num_heads"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"in_context_start": 3}, r"one of the 3 blocks, 0 ... 2; got 3. Without class tokens, in_context_len is 0"),
        ({"proj_drop": 1.0}, r"proj_drop is a share, in \[0, 1\); got 1.0"),
        (
            {"patch_embedding": "convolution"},
            r"unknown patch_embedding: got 'convolution'.* expected one of 'conv', 'linear'",
        ),
        ({"mlp_ratio": 0.0}, "a width of at least 1, got 0.0"),
        ({"out_channels": 0}, "out_channels must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_built(options, message):
    with pytest.raises(ValueError, match=message):
        JiT(**({"input_size": 16} | SMALL | options))


def test_kinds_that_are_wrong():
    with pytest.raises(TypeError, match=r"depth must be an int, got 2\.5"):
        JiT(16, **(SMALL | {"depth": 2.5}))
    with pytest.raises(TypeError, match=r"t must be a torch\.Tensor, got float"):
        network()(batch()[0], 0.5)
    with pytest.raises(TypeError, match=r"class_labels must be a torch\.Tensor, got list"):
        network()(*batch(), class_labels=[1, 2])


def test_inputs_that_do_not_fit():
    model, (x, t) = network(), batch()
    with pytest.raises(ValueError, match=r"of shape \(batch, 3, 16, 16\), got \(2, 1, 16, 16\)"):
        model(x[:, :1], t)
    with pytest.raises(ValueError, match=r"got \(2, 3, 8, 16\); resize the images"):
        model(x[:, :, :8], t)
    with pytest.raises(ValueError, match=r"one per sample: got \(3,\) for a batch of 2"):
        model(x, torch.rand(3))
    with pytest.raises(ValueError, match=r"lie in 0 \.\.\. 5 \(the last is the null class\), got values from 0 to 6"):
        model(x, t, torch.tensor([0, 6]))
    with pytest.raises(ValueError, match=r"integers of shape \(2,\), got torch.float32 of shape \(2, 5\)"):
        model(x, t, torch.zeros(2, 5))
