"""PatchGAN: the network of the paper, its initial weights, its losses in closed form, its errors."""

import pytest
import torch
from torch import nn

from passband.models import PatchGAN, adaptive_weight, generator_loss, hinge_discriminator_loss


@pytest.mark.parametrize(("layers", "patch"), [(1, 16), (2, 34), (3, 70), (4, 142)])
def test_a_value_sees_one_patch(layers, patch):
    """The receptive field, measured by the gradient of one value in the middle."""
    network = PatchGAN(in_channels=1, base_channels=1, layers=layers, norm="none")
    for weight in network.parameters():
        nn.init.constant_(weight, 0.1)  # so that no leaky ReLU's slope hides a pixel
    x = torch.zeros(1, 1, 2 * patch, 2 * patch, requires_grad=True)
    output = network(x)
    output[0, 0, output.shape[2] // 2, output.shape[3] // 2].backward()
    seen = (x.grad[0, 0] != 0).nonzero()
    extent = (seen.amax(0) - seen.amin(0) + 1).tolist()
    assert extent == [patch, patch]
    assert network.patch_size == patch


def test_widths_and_strides_are_those_of_the_paper():
    convolutions = [part for part in PatchGAN().main if isinstance(part, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [64, 128, 256, 512, 1]
    assert [c.stride[0] for c in convolutions] == [2, 2, 2, 1, 1]
    assert [c.bias is not None for c in convolutions] == [True, False, False, False, True]
    # 70x70 with 64 channels: counted from the widths, 16 weights per pair of channels.
    pairs = 3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512
    assert sum(p.numel() for p in PatchGAN().parameters()) == 16 * pairs + 64 + 1 + 2 * (128 + 256 + 512)


def test_state_dict_has_the_published_names():
    names = set(PatchGAN(base_channels=4).state_dict())
    scales = {f"main.{i}.{part}" for i in (3, 6, 9) for part in ("weight", "bias", "running_mean", "running_var")}
    assert names - {f"main.{i}.num_batches_tracked" for i in (3, 6, 9)} == scales | {
        "main.0.weight", "main.0.bias", "main.2.weight", "main.5.weight", "main.8.weight", "main.11.weight",
        "main.11.bias",
    }  # fmt: skip


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_initial_weights(norm):
    torch.manual_seed(0)
    for part in PatchGAN(base_channels=32, norm=norm).modules():
        if isinstance(part, nn.Conv2d | nn.BatchNorm2d | nn.GroupNorm):
            weight, n = part.weight.detach(), part.weight.numel()
            mean = 0.0 if isinstance(part, nn.Conv2d) else 1.0
            assert abs(float(weight.mean()) - mean) < 5 * 0.02 / n**0.5
            assert abs(float(weight.std()) / 0.02 - 1) < 5 / (2 * n) ** 0.5
            assert part.bias is None or not part.bias.any()


def test_norms():
    x = torch.randn(4, 3, 32, 40)
    alone = {}
    for norm in ("batch", "group", "none"):
        network = PatchGAN(base_channels=8, layers=2, norm=norm)
        whole = network(x)
        assert whole.shape == (4, 1, 6, 8)
        alone[norm] = torch.allclose(network(x[:2]), whole[:2], atol=1e-5)
    # Only the batch norm mixes the images of a batch.
    assert alone == {"batch": False, "group": True, "none": True}


def test_gradients_reach_image_and_weights():
    network = PatchGAN(base_channels=4, layers=1, norm="group").double()
    x = torch.randn(1, 3, 6, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: generator_loss(network(x)), (x,))
    generator_loss(network(x)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_smallest_image(layers):
    network = PatchGAN(base_channels=4, layers=layers)
    side = network.min_size
    assert network(torch.zeros(2, 3, side, side + 5)).shape[2] == 1
    with pytest.raises(
        ValueError, match=f"{layers} layers needs sides of {side} pixels or more, got {side - 1}x{side}"
    ):
        network(torch.zeros(2, 3, side - 1, side))


def test_the_advice_for_small_images_holds():
    with pytest.raises(ValueError, match="give layers=2"):
        PatchGAN(layers=3)(torch.zeros(1, 3, 16, 23))
    assert PatchGAN(layers=2)(torch.zeros(1, 3, 16, 23)).numel() > 0
    with pytest.raises(ValueError, match="give larger images"):
        PatchGAN(layers=1)(torch.zeros(1, 3, 5, 5))


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"norm": "spectral"}, ValueError, "unknown norm: got 'spectral'; expected one of 'batch', 'group', 'none'"),
        ({"layers": 0}, ValueError, "layers must be at least 1, got 0"),
        ({"base_channels": 0}, ValueError, "base_channels must be at least 1"),
        ({"layers": 2.5}, TypeError, "layers must be an int"),
    ],
)
def test_bad_options(options, error, match):
    with pytest.raises(error, match=match):
        PatchGAN(**options)


def test_bad_images():
    with pytest.raises(ValueError, match=r"shape \(batch, 3, height, width\), got \(1, 1, 32, 32\)"):
        PatchGAN()(torch.zeros(1, 1, 32, 32))
    with pytest.raises(TypeError, match="floating"):
        PatchGAN()(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


# Losses.


def test_hinge_losses_in_closed_form():
    real, fake = torch.tensor([-1.0, 0.5, 3.0]), torch.tensor([[-4.0], [0.0], [2.0]])
    assert float(hinge_discriminator_loss(real, fake)) == pytest.approx(0.5 * ((2 + 0.5 + 0) / 3 + (0 + 1 + 3) / 3))
    assert float(generator_loss(fake)) == pytest.approx(2 / 3)


def test_losses_are_computed_in_float32_and_keep_nan():
    real = torch.full((3,), 0.3, dtype=torch.bfloat16)
    assert hinge_discriminator_loss(real, real).dtype == generator_loss(real).dtype == torch.float32
    assert hinge_discriminator_loss(real.double(), real.double()).dtype == torch.float64
    broken = torch.tensor([1.0, float("nan")])
    for value in (hinge_discriminator_loss(real, broken), generator_loss(broken), adaptive_weight(broken, real[:2])):
        assert value.isnan()


def test_adaptive_weight_makes_both_gradients_equally_long():
    torch.manual_seed(0)
    last = nn.Conv2d(4, 3, 3, padding=1)
    x = torch.randn(2, 4, 16, 16)
    network = PatchGAN(base_channels=4, layers=1)
    y = last(x)
    (base,) = torch.autograd.grad(y.abs().mean(), last.weight, retain_graph=True)
    (adversarial,) = torch.autograd.grad(generator_loss(network(y)), last.weight)
    weight = adaptive_weight(base, adversarial, epsilon=0.0)
    torch.testing.assert_close((weight * adversarial).norm(), base.norm())
    assert not weight.requires_grad


@pytest.mark.parametrize(
    ("base", "adversarial", "expected"),
    [([3.0, 4.0], [0.0, 1.0], 5 / 1.0001), ([1.0, 0.0], [0.0, 0.0], 1e4), ([0.0, 0.0], [1.0, 0.0], 0.0),
     ([20.0, 0.0], [0.0, 0.0], 1e4)],
)  # fmt: skip
def test_adaptive_weight_in_closed_form(base, adversarial, expected):
    base = torch.tensor(base, requires_grad=True)
    weight = adaptive_weight(base, torch.tensor(adversarial))
    assert float(weight) == pytest.approx(expected, rel=1e-5)
    assert not weight.requires_grad
