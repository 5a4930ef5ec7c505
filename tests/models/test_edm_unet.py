import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import correlate2d, upfirdn
from torch import nn

from passband import sample
from passband.models import EDMDenoiser, EDMUNet
from passband.models._blocks import attend, group_norm
from passband.models._embedding import FourierEmbedding, PositionalEmbedding
from passband.models._resample import DownsampledConv2d, downsample, resample_kernel, upsample
from passband.process import EDM, Flow, VEPreconditioned, VPPreconditioned

DDPMPP = {"embedding_type": "positional", "encoder_type": "standard", "resample_filter": [1, 1]}
NCSNPP = {
    "embedding_type": "fourier",
    "encoder_type": "residual",
    "channel_mult_noise": 2,
    "resample_filter": [1, 3, 3, 1],
}
FORMS = pytest.mark.parametrize("form", [DDPMPP, NCSNPP], ids=["ddpmpp", "ncsnpp"])


def network(seed=0, **options):
    """A small network with weights of ordinary size, so that no branch is almost silent."""
    torch.manual_seed(seed)
    small = {"img_resolution": 16, "img_channels": 3, "model_channels": 8, "channel_mult": (1, 2), "num_blocks": 1}
    model = EDMUNet(**(small | {"attn_resolutions": (8,)} | options)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) / math.sqrt(max(parameter[0].numel(), 4)))
    return model


def images(batch=2, height=16, width=16, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, height, width, generator=generator), torch.randn(batch, generator=generator)


# Against the published networks.


@pytest.mark.parametrize(
    ("name", "process"),
    [
        ("ddpmpp_vp", EDM()),
        ("ncsnpp_ve", EDM()),
        ("vpprecond", VPPreconditioned()),
        ("veprecond", VEPreconditioned()),
    ],
)
def test_equals_the_published_network(shared, name, process):
    arrays = np.load(shared / "parity" / f"edm_{name}_dev.npz")
    config = json.loads((shared / "parity" / f"edm_{name}_config_dev.json").read_text())
    del config["model_type"]
    denoise = EDMDenoiser(EDMUNet(**config), process).eval()
    # Strictly: nothing missing, nothing left over.
    denoise.load_state_dict({key[2:]: torch.from_numpy(arrays[key]) for key in arrays.files if key.startswith("w:")})
    given_arrays = {key: torch.from_numpy(arrays[key]) for key in arrays.files if not key.startswith("w:")}
    expected = given_arrays.pop("out")
    with torch.no_grad():
        out = denoise(given_arrays["in_x"], given_arrays["in_sigma"], given_arrays.get("in_labels"))
    assert out.dtype == torch.float32
    assert (out - expected).abs().max() <= 1e-5 * expected.abs().max()


def parameters_of(**options):
    with torch.device("meta"):
        model = EDMUNet(img_channels=3, augment_dim=9, **options)
    return sum(parameter.numel() for parameter in model.parameters())


def test_published_sizes():
    cifar = parameters_of(img_resolution=32, channel_mult=[2, 2, 2], **DDPMPP)
    faces = parameters_of(img_resolution=64, channel_mult=[1, 2, 2, 2], **DDPMPP)
    assert (round(cifar / 1e6, 1), round(faces / 1e6, 1)) == (55.7, 61.8)


def test_size_of_ncsnpp_over_ddpmpp():
    # Twice the inputs of two embedding layers, and a 3 x 3 convolution of the image at each lower level.
    embedding = 128 * 512 + 9 * 128
    pyramid = (3 * 9 + 1) * 256 + (256 * 9 + 1) * 256
    options = {"img_resolution": 32, "channel_mult": [2, 2, 2]}
    assert parameters_of(**options, **NCSNPP) - parameters_of(**options, **DDPMPP) == embedding + pyramid


# The parts.


def test_positional_embedding():
    times = torch.tensor([0.0, 1.0, 250.5], dtype=torch.float64)
    phases = times.numpy()[:, None] * np.geomspace(1, 1e-4, 8)
    expected = np.concatenate([np.sin(phases), np.cos(phases)], axis=1)
    np.testing.assert_allclose(PositionalEmbedding(16)(times).numpy(), expected, atol=1e-12)


def test_fourier_embedding():
    torch.manual_seed(0)
    embedding = FourierEmbedding(4096)
    assert embedding.freqs.std().item() == pytest.approx(16, rel=0.05)
    phases = 2 * np.pi * embedding.freqs.double().numpy() * -0.7
    expected = np.concatenate([np.sin(phases), np.cos(phases)])
    np.testing.assert_allclose(embedding(torch.tensor([-0.7], dtype=torch.float64))[0].numpy(), expected, atol=1e-9)


TAPS = pytest.mark.parametrize("taps", [(1, 1), (1, 3, 3, 1), (1, 2, 5, 5, 2, 1)], ids=["box", "cubic", "long"])


@TAPS
def test_downsampling(taps):
    x = torch.randn(1, 2, 8, 12, dtype=torch.float64)
    kernel = resample_kernel(taps).double()
    line, pad = np.array(taps) / np.sum(taps), (len(taps) - 1) // 2
    for got, channel in zip(downsample(x, kernel, pad)[0], x[0].numpy(), strict=True):
        padded = np.pad(channel, pad)
        np.testing.assert_allclose(got, correlate2d(padded, np.outer(line, line), "valid")[::2, ::2], atol=1e-6)


@TAPS
def test_upsampling(taps):
    x = torch.randn(1, 2, 5, 7, dtype=torch.float64)
    line, pad = 2 * np.array(taps) / np.sum(taps), (len(taps) - 1) // 2
    got = upsample(x, resample_kernel(taps).double(), pad)
    assert got.shape == (1, 2, 10, 14)
    rows = upfirdn(line, x.numpy(), up=2, axis=2)[:, :, pad : pad + 10]
    np.testing.assert_allclose(got, upfirdn(line, rows, up=2, axis=3)[..., pad : pad + 14], atol=1e-6)


def test_downsampled_convolution_keeps_a_constant_with_its_bias():
    layer = DownsampledConv2d(1, 1, 3, (1, 3, 3, 1))
    with torch.no_grad():
        layer.weight.fill_(1 / 9)
        layer.bias.fill_(5.0)
    inside = layer(torch.full((1, 1, 16, 16), 2.0))[0, 0]
    assert inside.shape == (8, 8)
    torch.testing.assert_close(inside[2:-2, 2:-2], torch.full((4, 4), 7.0))


def test_attention():
    qkv = torch.randn(2, 3 * 4, 3, 5, dtype=torch.float64)
    query, key, value = (qkv[:, part::3].flatten(2) for part in range(3))
    weights = torch.softmax(torch.einsum("bcq,bck->bqk", query, key) / math.sqrt(4), dim=-1)
    expected = torch.einsum("bqk,bck->bcq", weights, value).reshape(2, 4, 3, 5)
    torch.testing.assert_close(attend(qkv), expected)


def test_groups():
    assert [group_norm(channels).num_groups for channels in (4, 8, 48, 128, 512)] == [1, 2, 12, 32, 32]


# The whole network.


@FORMS
def test_a_fresh_network_is_almost_silent(form):
    # So that D starts as c_skip x, and its initial loss is that of the best linear denoiser.
    torch.manual_seed(0)
    denoise = EDMDenoiser(EDMUNet(16, 3, model_channels=16, channel_mult=(1, 2), num_blocks=2, **form)).eval()
    x, _ = images()
    torch.testing.assert_close(denoise(x, 2.0), x * 0.25 / 4.25, rtol=0, atol=1e-3)


def test_initial_weights():
    torch.manual_seed(0)
    model = EDMUNet(16, 3, model_channels=32, channel_mult=(1, 2), num_blocks=1, attn_resolutions=(8,))
    block = model.enc["8x8_block0"]
    gains = {"conv0": 1.0, "affine": 1.0, "skip": 1.0, "conv1": 1e-5, "qkv": math.sqrt(0.2), "proj": 1e-5}
    for name, gain in gains.items():
        weight = getattr(block, name).weight
        bound = gain * math.sqrt(6 / ((weight.shape[0] + weight.shape[1]) * weight[0, 0].numel()))
        assert bound * 0.9 < weight.abs().max() <= bound * (1 + 1e-6)
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)
    assert all(not p.any() for name, p in model.named_parameters() if name.endswith("bias"))


def test_where_attention_sits():
    model = network(channel_mult=(1, 1, 1), num_blocks=2, attn_resolutions=(8,))
    found = {name for name, module in model.named_modules() if name.endswith("qkv")}
    assert found == {"enc.8x8_block0.qkv", "enc.8x8_block1.qkv", "dec.4x4_in0.qkv", "dec.8x8_block2.qkv"}


@pytest.mark.parametrize("encoder", ["standard", "skip", "residual"])
@pytest.mark.parametrize("decoder", ["standard", "skip"])
def test_every_parameter_takes_part(encoder, decoder):
    forms = {"encoder_type": encoder, "decoder_type": decoder, "resample_filter": (1, 3, 3, 1)}
    model = network(label_dim=4, augment_dim=2, channel_mult=(1, 1, 2), **forms)
    x, times = images()
    out = model(x, times, torch.tensor([0, 1]), torch.ones(2, 2))
    assert out.shape == x.shape
    out.square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_skip_decoder_sums_the_images_of_all_levels():
    model = network(decoder_type="skip", channel_mult=(1, 1, 1))
    heights = (4, 8, 16)
    with torch.no_grad():
        for height, value in zip(heights, (1.0, 20.0, 300.0), strict=True):
            model.dec[f"{height}x{height}_aux_conv"].weight.zero_()
            model.dec[f"{height}x{height}_aux_conv"].bias.fill_(value)
    x, times = images()
    torch.testing.assert_close(model(x, times), torch.full_like(x, 321.0))


@pytest.mark.parametrize("encoder", ["skip", "residual"])
def test_the_image_enters_the_lower_levels(encoder):
    model = network(encoder_type=encoder)
    x, times = images()
    with torch.no_grad():
        for name, parameter in model.enc.named_parameters():
            if name.startswith("16x16"):
                parameter.zero_()
    # The first level now tells nothing of the image.
    plain = network()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if "aux" not in k or k.startswith("dec")})
    assert torch.equal(plain(x, times), plain(-x, times))
    assert (model(x, times) - model(-x, times)).abs().max() > 1e-3


@FORMS
def test_samples_are_independent(form):
    model = network(**form)
    x, times = images(batch=3)
    torch.testing.assert_close(model(x, times)[1:2], model(x[1:2], times[1:2]), rtol=1e-4, atol=1e-5)


def test_one_noise_label_serves_the_batch():
    model = network()
    x, _ = images()
    torch.testing.assert_close(model(x, torch.tensor(3)), model(x, torch.tensor([3.0, 3.0])))


@FORMS
def test_sides_may_differ(form):
    model = network(**form)
    x, times = images(height=8, width=24)
    out = model(x, times)
    assert out.shape == x.shape
    torch.testing.assert_close(model(x.mT, times).shape, x.mT.shape)


@FORMS
def test_channels_last_gives_the_same(form):
    model = network(**form)
    x, times = images()
    expected = model(x, times)
    model.to(memory_format=torch.channels_last)
    got = model(x.contiguous(memory_format=torch.channels_last), times)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


COMPILED = """
import torch
from passband.models import EDMUNet
forms = [dict(embedding_type="fourier", encoder_type="residual"), dict(encoder_type="skip", decoder_type="skip")]
for form in forms:
    torch.manual_seed(0)
    torch.compiler.reset()
    form |= dict(label_dim=3, augment_dim=2, model_channels=8, channel_mult=(1, 2), num_blocks=1)
    model = EDMUNet(8, 1, **form).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    inputs = (torch.randn(2, 1, 8, 8), torch.randn(2), torch.tensor([0, 2]), torch.randn(2, 2))
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*inputs), model(*inputs))
"""


def test_compiles_as_one_graph():
    # In a process of its own: the run-time shape checks of this one are not part of the library and break the graph.
    result = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@FORMS
def test_bfloat16_autocast(form):
    model = network(**form)
    x, times = images()
    with torch.autocast("cpu", torch.bfloat16):
        out = model(x, times)
    expected = model(x, times)
    assert out.dtype == torch.float32
    assert (out - expected).norm() < 0.05 * expected.norm()
    assert (out - expected).norm() > 1e-5 * expected.norm(), "autocast had no effect"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes(dtype):
    model = network(label_dim=3, **NCSNPP)
    x, times = images()
    expected = model(x, times, torch.tensor([0, 1]))
    got = model.to(dtype)(x.to(dtype), times, torch.tensor([0, 1]))
    assert got.dtype == dtype
    if dtype == torch.float64:  # bfloat16 rounds the frequencies, too
        torch.testing.assert_close(got.float(), expected, rtol=1e-3, atol=1e-3)


def test_gradients():
    model = network(model_channels=4, channel_mult=(1, 1), img_resolution=4, **NCSNPP).double()
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    times = torch.tensor([0.01], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(model, (x, times), fast_mode=True)


def test_dropout_acts_in_training_alone():
    model = network(dropout=0.5)
    x, times = images()
    assert torch.equal(model(x, times), model(x, times))
    assert not torch.equal(model.train()(x, times), model(x, times))


# Labels.


def test_class_indices_are_one_hot_rows():
    model = network(label_dim=5)
    x, times = images()
    labels = torch.tensor([4, 1])
    rows = nn.functional.one_hot(labels, 5)
    assert torch.equal(model(x, times, labels), model(x, times, rows))
    assert torch.equal(model(x, times, labels.int()), model(x, times, rows.double()))
    assert not torch.allclose(model(x, times, labels), model(x, times, labels.flip(0)))


def test_without_labels_they_are_zeros():
    model = network(label_dim=5, augment_dim=9)
    x, times = images()
    plain = model(x, times)
    assert torch.equal(plain, model(x, times, torch.zeros(2, 5), torch.zeros(2, 9)))
    assert not torch.allclose(plain, model(x, times, augment_labels=torch.ones(2, 9)))


def test_label_dropout_forgets_a_share_of_the_classes():
    model = network(label_dim=5, label_dropout=0.25, dropout=0.0)
    rows = torch.eye(5)[torch.arange(4000) % 5]
    times = torch.zeros(4000)
    with torch.no_grad():
        kept = model._embed(times, rows, None, 4000)
        torch.manual_seed(0)
        trained = model.train()._embed(times, rows, None, 4000)
        none = model.eval()._embed(times, None, None, 4000)
    forgotten = (trained == none).all(dim=1)
    assert ((trained == kept).all(dim=1) ^ forgotten).all()
    assert forgotten.double().mean().item() == pytest.approx(0.25, abs=0.03)


# With a process.


def test_the_denoiser_is_the_clean_estimate_of_the_process():
    model = network(label_dim=3)
    x, _ = images()
    sigma, labels = torch.tensor([0.3, 7.0]), torch.tensor([0, 2])
    c_in = 1 / (sigma**2 + 0.25).sqrt()
    c_skip, c_out = 0.25 * c_in**2, sigma * 0.5 * c_in
    raw = model(c_in[:, None, None, None] * x, sigma.log() / 4, labels)
    expected = c_skip[:, None, None, None] * x + c_out[:, None, None, None] * raw
    for process in (EDM(), EDM(time="c_noise")):
        torch.testing.assert_close(EDMDenoiser(model, process)(x, sigma, labels), expected)
    torch.testing.assert_close(EDMDenoiser(model)(x[:1], 0.3, labels[:1]), expected[:1])


def test_the_denoiser_of_a_half_precision_network():
    x, _ = images()
    assert EDMDenoiser(network().bfloat16())(x, torch.ones(2)).dtype == torch.float32


@pytest.mark.parametrize("process", [EDM(), VPPreconditioned(), VEPreconditioned()])
def test_the_sampler_calls_it(process):
    model = network(label_dim=2, img_resolution=8)
    drawn = sample(
        model, process, (3, 8, 8), seeds=[0, 1], steps=3, conditioning={"class_labels": torch.tensor([0, 1])}
    )
    assert drawn.shape == (2, 3, 8, 8)
    assert drawn.isfinite().all()


# Bad input.


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"img_resolution": 18, "channel_mult": (1, 1, 1)}, ValueError, "must be a multiple of 4; got 18"),
        ({"img_resolution": 16.0}, TypeError, "img_resolution must be an int, got 16.0"),
        ({"model_channels": 6}, ValueError, "6 channels cannot be normalised|18 channels|12 channels"),
        ({"model_channels": 3}, ValueError, "must be even|cannot be normalised"),
        ({"model_channels": 132, "channel_mult": (1,)}, ValueError, "132 channels cannot be normalised in 32 groups"),
        ({"embedding_type": "fourrier"}, ValueError, "embedding_type.*did you mean 'fourier'"),
        ({"encoder_type": "dense"}, ValueError, "'standard', 'skip', 'residual'"),
        ({"decoder_type": "residual"}, ValueError, "expected one of 'standard', 'skip'"),
        ({"dropout": 1.0}, ValueError, r"dropout is a share, in \[0, 1\); got 1.0"),
        ({"label_dropout": "x"}, TypeError, "label_dropout must be a number"),
        ({"channel_mult": 2}, TypeError, "channel_mult must be a sequence of numbers, got 2"),
        ({"channel_mult": ()}, ValueError, "channel_mult must hold at least 1"),
        ({"channel_mult": (1, 0)}, ValueError, "channel_mult must be at least 1"),
        ({"num_blocks": 0}, ValueError, "num_blocks must be at least 1, got 0"),
        ({"label_dim": -1}, ValueError, "label_dim must be at least 0, got -1"),
        ({"resample_filter": (1, 2, 1)}, ValueError, "an even number of taps"),
        ({"resample_filter": (1, -1)}, ValueError, "whose sum is not 0"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        network(**options)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": torch.zeros(2, 4, 16, 16)}, ValueError, r"takes 3 channels, got x of shape \(2, 4, 16, 16\)"),
        ({"x": torch.zeros(2, 3, 16, 15)}, ValueError, "must be multiples of 2; got 16 x 15"),
        ({"x": torch.zeros(3, 16, 16)}, ValueError, "batch, channels"),
        ({"x": torch.zeros(2, 3, 16, 16, dtype=torch.uint8)}, TypeError, "floating"),
        ({"noise_labels": torch.zeros(3)}, ValueError, "noise_labels must hold one value, or one per sample: got 3"),
        ({"noise_labels": 1.0}, TypeError, "noise_labels must be a torch.Tensor, got float"),
        (
            {"class_labels": torch.tensor([0, 5])},
            ValueError,
            "class_labels must lie in 0 ... 4, got values from 0 to 5",
        ),
        ({"class_labels": torch.tensor([-1, 0])}, ValueError, "got values from -1 to 0"),
        ({"class_labels": torch.zeros(2, 4)}, ValueError, r"rows of shape \(2, 5\), got torch.float32 of shape"),
        ({"class_labels": torch.zeros(2)}, ValueError, "must be integers"),
        ({"class_labels": [0, 1]}, TypeError, "class_labels must be a torch.Tensor, got list"),
        ({"augment_labels": torch.zeros(2, 8)}, ValueError, r"must have shape \(2, 9\) .* got \(2, 8\)"),
        ({"augment_labels": [0.0]}, TypeError, "augment_labels must be a torch.Tensor"),
    ],
)
def test_bad_input(arguments, error, message):
    model = network(label_dim=5, augment_dim=9)
    x, times = images()
    with pytest.raises(error, match=message):
        model(**({"x": x, "noise_labels": times} | arguments))


def test_labels_for_a_network_without_them():
    model = network()
    x, times = images()
    with pytest.raises(ValueError, match="network without classes; build it with label_dim"):
        model(x, times, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="no augmentation input; build it with augment_dim"):
        model(x, times, augment_labels=torch.zeros(2, 9))


def test_bad_denoisers():
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got function"):
        EDMDenoiser(lambda x, t: x)
    with pytest.raises(TypeError, match="process must be EDM, VPPreconditioned or VEPreconditioned, got Flow"):
        EDMDenoiser(network(), Flow(data_at=1))
    x, _ = images()
    with pytest.raises(TypeError, match="sigma must be a number, got 'a'"):
        EDMDenoiser(network())(x, "a")
    with pytest.raises(ValueError, match="outside the range"):
        EDMDenoiser(network())(x, -1.0)


@given(st.integers(1, 3), st.sampled_from([4, 8, 32]), st.booleans())
def test_config_builds_the_same_network(levels, channels, labelled):
    with torch.device("meta"):
        model = EDMUNet(32, 1, label_dim=3 * labelled, model_channels=channels, channel_mult=[1] * levels, num_blocks=1)
        again = EDMUNet(**json.loads(json.dumps(model.config)))
    assert again.config == model.config
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}
