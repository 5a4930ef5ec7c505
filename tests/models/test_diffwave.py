"""DiffWave against the published numbers, and what its users may do with it."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from passband import VP, sample
from passband.models import DiffWave, load_model
from passband.models.diffwave import StepEmbedding

SMALL = {"n_mels": 5, "residual_layers": 4, "residual_channels": 6, "dilation_cycle_length": 3}


def network(seed=0, **options):
    """A small network whose last layer is not zero, so that no branch is silent."""
    torch.manual_seed(seed)
    model = DiffWave(**(SMALL | {"upsample_factors": (4, 4)} | options)).eval()
    torch.nn.init.normal_(model.output_projection.weight, std=0.5)
    return model


def batch(count=2, frames=6, hop=16, mels=5, seed=1):
    generator = torch.Generator().manual_seed(seed)
    audio = torch.randn(count, 1, frames * hop, generator=generator)
    return audio, torch.arange(count) * 3.0, torch.rand(count, mels, frames, generator=generator)


@pytest.fixture
def reference(shared):
    arrays = np.load(shared / "parity" / "diffwave_dev.npz")
    config = json.loads((shared / "parity" / "diffwave_config_dev.json").read_text())
    sizes = ("n_mels", "residual_layers", "residual_channels", "dilation_cycle_length", "unconditional")
    model = DiffWave(**{name: config[name] for name in sizes if name in config}).eval()
    model.load_state_dict({key[2:]: torch.from_numpy(arrays[key]) for key in arrays.files if key.startswith("w:")})
    given = [torch.from_numpy(arrays[f"in_{key}"]) for key in ("audio", "t", "spectrogram")]
    return model, given, torch.from_numpy(arrays["out"])


def test_the_reference_network_loads_strictly_and_gives_its_numbers(reference):
    model, given, wanted = reference
    assert not given[1].is_floating_point()
    out = model(*given)
    assert (out.reshape(wanted.shape) - wanted).abs().max() < 1e-5 * wanted.abs().max()
    again = model(given[0], given[1].double(), given[2])
    assert torch.equal(again, out)


def test_gradients_reach_every_parameter(reference):
    model, given, _ = reference
    model(*given).square().mean().backward()
    silent = [name for name, parameter in model.named_parameters() if not parameter.grad.abs().max() > 0]
    # The last layer's residual goes nowhere, but its weights are shared with the skip.
    assert silent == []


def test_published_size():
    with torch.device("meta"):
        model = DiffWave()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    channels, layers, width, mels = 64, 30, 512, 80
    layer = 2 * channels * (3 * channels + 1) + channels * (width + 1) + 2 * channels * (mels + 1 + channels + 1)
    outside = 2 * channels + (128 + 1) * width + (width + 1) * width + 2 * (3 * 32 + 1)
    outside += channels * (channels + 1) + channels + 1
    assert parameters == layers * layer + outside
    assert (model.hop, model.receptive_field) == (256, 3 * 1023)


# Steps.


def test_the_embedding_of_a_step():
    """Sines, then cosines, at 64 frequencies from 1 to 10,000 radians per step, before its two layers."""
    embedding = StepEmbedding()
    embedding.projection1, embedding.projection2 = torch.nn.Identity(), torch.nn.Identity()
    found = embedding(torch.tensor([0, 7]), torch.float32)
    phases = torch.tensor([[0.0], [7.0]], dtype=torch.float64) * torch.logspace(0, 4, 64, dtype=torch.float64)
    wanted = torch.nn.functional.silu(torch.nn.functional.silu(torch.cat([phases.sin(), phases.cos()], 1)))
    assert (found - wanted).abs().max() < 0.02  # float32 holds 70,000 radians to 0.004


def test_a_fractional_step_lies_on_the_line_between_its_neighbours():
    embedding = StepEmbedding()
    embedding.projection2 = torch.nn.Identity()
    before, after, between = (embedding.projection1.weight.new_tensor([value]) for value in (11.0, 12.0, 11.25))
    tables = []
    embedding.projection1.register_forward_hook(lambda _, given, out: tables.append(given[0]))
    for t in (before, after, between):
        embedding(t, torch.float32)
    assert torch.allclose(tables[2], 0.75 * tables[0] + 0.25 * tables[1], atol=1e-6)
    audio, _, mel = batch(1)
    model = network()
    near, far = (model(audio, torch.tensor([t]), mel) for t in (11.001, 12.5))
    assert torch.allclose(near, model(audio, torch.tensor([11]), mel), atol=0.01)
    assert not torch.allclose(far, near, atol=0.01)


def test_one_step_and_one_spectrogram_serve_all():
    audio, _, mel = batch(3)
    model = network()
    out = model(audio, torch.tensor([4]), mel[:1])
    assert torch.allclose(out, model(audio, torch.full((3,), 4), mel[:1].expand(3, -1, -1)), atol=1e-6)
    assert torch.allclose(out[1:2], model(audio[1:2], torch.tensor([4]), mel[:1]), atol=1e-6)
    assert torch.equal(model(audio[:, 0], torch.tensor([4]), mel[:1]), out)


# Forms.


@pytest.mark.parametrize("factors", [(16, 16), (4, 4), (2,), (8, 4, 4), (10, 30)], ids=str)
def test_hops(factors):
    hop = math.prod(factors)
    model = network(upsample_factors=factors)
    audio, t, mel = batch(1, frames=3, hop=hop)
    assert model.hop == hop
    assert model(audio, t, mel).shape == audio.shape


def test_a_spectrogram_changes_its_own_stretch():
    model = network()
    audio, t, mel = batch(1, frames=20)
    changed = mel.clone()
    changed[..., 10] += 1.0
    where = (model(audio, t, changed) - model(audio, t, mel)).abs()[0, 0].nonzero().flatten()
    reach = model.receptive_field + 2 * model.hop  # two more frames by the upsampling
    assert 10 * 16 - reach <= where.min() < where.max() < 11 * 16 + reach
    assert model.receptive_field == 1 + 2 + 4 + 1


def test_without_a_spectrogram():
    model = network(unconditional=True)
    audio, t, mel = batch()
    assert model.unconditional
    assert not any("spectrogram" in name or "conditioner" in name for name in model.state_dict())
    assert model(audio[..., :33], t).shape == (2, 1, 33)
    drawn = sample(model, VP(), (1, 50), seeds=[0, 1], steps=3)
    assert bool(drawn.isfinite().all())
    with pytest.raises(ValueError, match="is unconditional and takes no spectrogram: leave it out"):
        model(audio, t, mel)


def test_it_begins_by_predicting_the_bias():
    """The last weights are zero, as published."""
    torch.manual_seed(0)
    model = DiffWave(**SMALL, upsample_factors=(4, 4))
    out = model(*batch())
    assert torch.allclose(out, model.output_projection.bias.expand_as(out))


# Memory, precision, compilation, files.


def test_gradient_checkpointing_changes_nothing():
    plain, thrifty = network().train(), network().train()
    thrifty.enable_gradient_checkpointing()
    given = batch()
    for model in (plain, thrifty):
        model(*given).square().sum().backward()
    for (name, one), two in zip(plain.named_parameters(), thrifty.parameters(), strict=True):
        assert torch.allclose(one.grad, two.grad, rtol=1e-5, atol=1e-7), name


def test_gradients_are_those_of_finite_differences():
    model = network().double()
    audio, t, mel = (value.double() for value in batch(1, frames=2))
    audio.requires_grad_()
    mel.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: model(x, t, y), (audio, mel), fast_mode=True)


def test_autocast_and_half_precision():
    model, given = network(), batch()
    expected = model(*given)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(*given)
    assert mixed.dtype == torch.float32
    audio, t, mel = given
    half = network().bfloat16()(audio.bfloat16(), t, mel.bfloat16())
    assert half.dtype == torch.bfloat16
    for out in (mixed, half.float()):
        assert (out - expected).abs().max() < 0.1 * expected.abs().max()


COMPILED = """
import torch
from passband.models import DiffWave
torch.manual_seed(0)
model = DiffWave(n_mels=5, residual_layers=2, residual_channels=4, upsample_factors=(4, 4))
torch.nn.init.normal_(model.output_projection.weight)
inputs = (torch.randn(2, 1, 64), torch.tensor([1.0, 3.5]), torch.rand(2, 5, 4))
compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
torch.testing.assert_close(compiled(*inputs), model(*inputs))
compiled(*inputs).sum().backward()
"""


def test_compiles_as_one_graph():
    # In a process of its own: the run-time shape checks of this one are not part of the library and break the graph.
    result = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_saved_and_loaded(tmp_path):
    model = network(upsample_factors=(8, 2))
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert isinstance(loaded, DiffWave)
    assert loaded.config == model.config
    assert torch.equal(loaded(*batch()), model(*batch()))


# Errors.


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"n_mels": 0}, ValueError, "n_mels must be at least 1, got 0"),
        ({"residual_layers": 2.5}, TypeError, "residual_layers must be an int"),
        ({"residual_channels": -1}, ValueError, "residual_channels must be at least 1"),
        ({"dilation_cycle_length": 0}, ValueError, "dilation_cycle_length must be at least 1"),
        ({"upsample_factors": (3, 2)}, ValueError, "upsample_factors must be even numbers"),
        ({"upsample_factors": ()}, ValueError, "upsample_factors must be even numbers"),
        ({"upsample_factors": (0, 2)}, ValueError, r"upsample_factors\[0\] must be at least 1"),
    ],
    ids=str,
)
def test_sizes_that_are_not_possible(options, kind, message):
    with pytest.raises(kind, match=message):
        DiffWave(**options)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda x, t, mel: (x, t), ValueError, r"needs a spectrogram of shape \(batch, 5, frames\)"),
        (lambda x, t, mel: (x[..., :-1], t, mel), ValueError, r"audio must be frames x 16 samples long"),
        (lambda x, t, mel: (x, t, mel[..., :-1]), ValueError, r"got \(2, 1, 96\) and \(2, 5, 5\)"),
        (lambda x, t, mel: (x, t, mel[:, :4]), ValueError, r"got \(2, 1, 96\) and \(2, 4, 6\)"),
        (lambda x, t, mel: (x, t, mel[0]), ValueError, r"and \(5, 6\)"),
        (lambda x, t, mel: (torch.cat([x, x[:1]]), t[:1], mel), ValueError, r"got \(3, 1, 96\) and \(2, 5, 6\)"),
        (lambda x, t, mel: (x.expand(-1, 2, -1), t, mel), ValueError, r"\(batch, 1, samples\) or \(batch, samples\)"),
        (lambda x, t, mel: (x, torch.arange(3), mel), ValueError, r"one for each of 2 samples, got \(3,\)"),
        (lambda x, t, mel: (x.int(), t, mel), TypeError, "audio must be a real floating-point tensor"),
        (lambda x, t, mel: (x, t, mel.int()), TypeError, "spectrogram must be a real floating-point tensor"),
    ],
    ids=["none", "length", "frames", "bands", "dims", "batch", "channels", "steps", "audio", "mel"],
)
def test_inputs_that_do_not_fit(change, kind, message):
    with pytest.raises(kind, match=message):
        network()(*change(*batch()))


def test_a_network_in_half_precision_takes_a_spectrogram_in_float32():
    model, (audio, t, spectrogram) = network().to(torch.bfloat16), batch()
    found = model(audio.to(torch.bfloat16), t, spectrogram)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), network()(audio, t, spectrogram), rtol=0.1, atol=0.2)
