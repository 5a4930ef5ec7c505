"""LPIPS and its kin: the equation computed anew, the published names, files in every form, what goes wrong."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from passband.models import LPIPS, EfficientNetDistance, load_lpips
from passband.models.perceptual import unit_difference

NARROW = (4, 6, 8, 8, 8)
# torchvision's vgg16 and alexnet: the numbers of the convolutions, grouped by the ReLU at which lpips looks.
VGG = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
ALEX = ((0,), (3,), (6,), (8,), (10,))


def torchvision_state(net, widths=NARROW):
    """Random weights under torchvision's names, its classifier included."""
    generator = torch.Generator().manual_seed(1)
    state, inputs = {"classifier.0.weight": torch.zeros(2, 2)}, 3
    for numbers, width in zip(VGG if net == "vgg" else ALEX, widths, strict=True):
        for i in numbers:
            kernel = {"vgg": 3, "alex": {0: 11, 3: 5}.get(i, 3)}[net]
            fan = inputs * kernel**2
            state[f"features.{i}.weight"] = torch.randn(width, inputs, kernel, kernel, generator=generator) * fan**-0.5
            state[f"features.{i}.bias"] = 0.1 * torch.randn(width, generator=generator)
            inputs = width
    return state


def linear_state(widths=NARROW):
    generator = torch.Generator().manual_seed(2)
    return {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1, generator=generator) for i, c in enumerate(widths)}


def features(net, state, x):
    """The five maps, by the functions alone."""
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    x = (x - shift.view(1, 3, 1, 1)) / scale.view(1, 3, 1, 1)
    for number, numbers in enumerate(VGG if net == "vgg" else ALEX):
        if net == "vgg" and number > 0:
            x = functional.max_pool2d(x, 2)
        if net == "alex" and number in (1, 2):
            x = functional.max_pool2d(x, 3, 2)
        for i in numbers:
            stride, padding = {"vgg": (1, 1), "alex": {0: (4, 2), 3: (1, 2)}.get(i, (1, 1))}[net]
            x = functional.conv2d(x, state[f"features.{i}.weight"], state[f"features.{i}.bias"], stride, padding).relu()
        yield x


def by_hand(net, trunk, linear, x, y):
    total = 0.0
    for i, (a, b) in enumerate(zip(features(net, trunk, x), features(net, trunk, y), strict=True)):
        a, b = (m / m.square().sum(1, keepdim=True).sqrt().clamp_min(1e-12) for m in (a, b))
        total = total + ((a - b).square() * linear[f"lin{i}.model.1.weight"]).sum(1).mean((1, 2))
    return total


@pytest.fixture(params=["vgg", "alex"])
def net(request):
    return request.param


@pytest.fixture
def files(net, tmp_path):
    torch.save(torchvision_state(net), tmp_path / "trunk.pth")
    torch.save(linear_state(), tmp_path / "linear.pth")
    return tmp_path


def images(*shape):
    return torch.rand(2, *shape, generator=torch.Generator().manual_seed(3)) * 2 - 1


def test_the_equation(net, files):
    x, y = images(2, 3, 40, 56)
    distance = load_lpips(files)
    torch.testing.assert_close(distance(x, y), by_hand(net, torchvision_state(net), linear_state(), x, y))
    assert torch.equal(distance(x, x), torch.zeros(2))
    gray = images(2, 1, 40, 56)
    rgb = gray.expand(-1, -1, 3, -1, -1)
    assert torch.equal(distance(*gray), distance(*rgb))


def test_published_names_and_shapes(net):
    state = LPIPS(net).state_dict()
    convolutions = VGG if net == "vgg" else ALEX
    layers = [f"net.slice{s}.{i}" for s, numbers in enumerate(convolutions, 1) for i in numbers]
    assert set(state) == {
        *(f"{layer}.{part}" for layer in layers for part in ("weight", "bias")),
        *(f"lin{i}.model.1.weight" for i in range(5)),
        "scaling_layer.shift",
        "scaling_layer.scale",
    }
    widths = (64, 128, 256, 512, 512) if net == "vgg" else (64, 192, 384, 256, 256)
    assert [state[f"lin{i}.model.1.weight"].shape for i in range(5)] == [(1, c, 1, 1) for c in widths]
    weights = sum(v.numel() for k, v in state.items() if k.startswith("net."))
    assert weights == {"vgg": 14_714_688, "alex": 2_469_696}[net]  # torchvision's count of their features


def test_all_forms_of_files_agree(net, files, tmp_path):
    from safetensors.torch import save_file

    x, y = images(1, 3, 32, 40)
    expected = load_lpips([files / "trunk.pth", files / "linear.pth"])
    # The state dict of the published package names the linear weights twice.
    whole = expected.state_dict()
    whole |= {f"lins.{i}.model.1.weight": whole[f"lin{i}.model.1.weight"].clone() for i in range(5)}
    for name, save in (("whole.safetensors", save_file), ("whole.pt", torch.save)):
        save(whole, tmp_path / name)
        assert torch.equal(load_lpips(str(tmp_path / name))(x, y), expected(x, y))
    module = LPIPS(net, widths=NARROW)
    module.load_state_dict(whole)
    assert torch.equal(module(x, y), expected(x, y))


@pytest.mark.parametrize(
    ("left_out", "match"),
    [
        ("trunk", "no trunk in .*expected 'features.0.weight'"),
        ("linear", r"5 of the 31 weights of LPIPS on 'vgg' are missing.*lin0\.model\.1\.weight.*the linear weights"),
        ("features.12.bias", r"1 of the 31 weights.*missing.*net\.slice3\.12\.bias; give the file"),
    ],
)
def test_missing_weights_are_named(tmp_path, left_out, match):
    trunk = {k: v for k, v in torchvision_state("vgg").items() if k != left_out}
    for name, state in (("trunk", trunk), ("linear", linear_state())):
        if name != left_out:
            torch.save(state, tmp_path / f"{name}.pth")
    with pytest.raises(ValueError, match=match):
        load_lpips(tmp_path)


def test_weights_of_other_shapes(tmp_path):
    torch.save(torchvision_state("vgg"), tmp_path / "trunk.pth")
    torch.save(linear_state((4, 6, 8, 8, 9)), tmp_path / "linear.pth")
    with pytest.raises(ValueError, match=r"(?s)other shapes.*lin4\.model\.1\.weight"):
        load_lpips(tmp_path)


class Spy:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_files_that_are_no_weights(tmp_path):
    torch.save(Spy(tmp_path / "spied"), tmp_path / "spy.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"12")
    (tmp_path / "text.pt").write_text("no weights")
    for name in ("spy.pth", "cut.safetensors", "text.pt"):
        with pytest.raises(ValueError, match=f"{name} cannot be read as weights alone"):
            load_lpips(tmp_path / name)
    assert not (tmp_path / "spied").exists()
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="holds no state dict"):
        load_lpips(tmp_path / "list.pt")
    with pytest.raises(FileNotFoundError, match="no weights at"):
        load_lpips(tmp_path / "absent.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"a folder with \.safetensors, \.pt, \.pth"):
        load_lpips(tmp_path / "empty")


def test_bad_options_and_images():
    with pytest.raises(ValueError, match="unknown net: got 'vgg19'"):
        LPIPS("vgg19")
    with pytest.raises(ValueError, match="widths must be 5 numbers"):
        LPIPS(widths=(4, 4))
    distance = LPIPS(widths=NARROW)
    with pytest.raises(ValueError, match="sides of 16 pixels or more, got 15x40"):
        distance(*images(1, 3, 15, 40))
    with pytest.raises(ValueError, match="must have the same shape"):
        distance(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 40))
    with pytest.raises(ValueError, match=r"shape \(batch, 1 or 3, height, width\), got \(1, 4, 32, 32\)"):
        distance(*images(1, 4, 32, 32))
    with pytest.raises(TypeError, match="floating"):
        distance(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


@pytest.mark.parametrize(("net", "side"), [("vgg", 16), ("alex", 31)])
def test_the_smallest_image(net, side):
    distance = LPIPS(net, widths=NARROW)
    assert distance(*images(1, 3, side, side + 1)).isfinite().all()
    with pytest.raises(ValueError, match=f"sides of {side} pixels"):
        distance(*images(1, 3, side - 1, side))


# What all distances have in common.


@pytest.fixture(scope="module", params=["lpips", "efficientnet"])
def distance(request):
    torch.manual_seed(0)
    return LPIPS(widths=NARROW) if request.param == "lpips" else EfficientNetDistance()


def test_it_is_frozen(distance):
    nn.Sequential(distance).train()
    assert not any(module.training for module in distance.modules())
    assert not any(p.requires_grad for p in distance.parameters())


def test_gradients_reach_both_images(distance):
    from copy import deepcopy

    double = deepcopy(distance).double()
    x, y = (z.requires_grad_() for z in images(1, 3, 32, 40).double())
    double(x, y).sum().backward()
    for moved in (x, y):
        direction = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) * 1e-6
        with torch.no_grad():
            ends = [double(*(z + sign * direction if z is moved else z for z in (x, y))) for sign in (1, -1)]
        torch.testing.assert_close((moved.grad * direction).sum(), (ends[0] - ends[1]).sum() / 2, rtol=1e-4, atol=0)


def test_flat_images_have_finite_gradients(distance):
    """Where a map is zero everywhere its length has no slope."""
    x = torch.zeros(1, 3, 32, 32, requires_grad=True)
    distance(x, torch.ones(1, 3, 32, 32)).sum().backward()
    assert x.grad.isfinite().all()


def test_it_is_symmetric_and_computed_in_float32(distance):
    x, y = images(2, 3, 32, 48)
    torch.testing.assert_close(distance(x, y), distance(y, x))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(distance(x, y), distance(x, y))
        inside = distance(x, y)
    assert torch.equal(inside, distance(x, y))
    assert inside.dtype == distance(x.bfloat16(), y.bfloat16()).dtype == torch.float32
    assert distance(torch.full_like(x, float("nan")), y).isnan().all()


def test_dead_maps():
    a, b = torch.zeros(1, 2, 1, 1, requires_grad=True), torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    squares = unit_difference(a, b)
    torch.testing.assert_close(squares.flatten(), torch.tensor([0.36, 0.64]))
    squares.sum().backward()
    assert a.grad.isfinite().all()


# EfficientNet's.


def test_efficientnet_distance_is_the_mean_over_blocks():
    from passband.metrics import efficientnet_lite0

    x, y = images(2, 3, 64, 48)
    distance, parts = EfficientNetDistance(), []
    for block in (0, 2, 4, 10):
        trunk = efficientnet_lite0(block).module
        a, b = (trunk(((z + 1) * 127.5 - 127) / 128) for z in (x, y))
        a, b = (m / m.norm(dim=1, keepdim=True) for m in (a, b))
        parts.append((2 - 2 * (a * b).sum(1)).mean((1, 2)))  # |a - b|² of unit vectors
    torch.testing.assert_close(distance(x, y), torch.stack(parts).mean(0), rtol=1e-4, atol=1e-5)


def test_efficientnet_distance_enlarges_small_images():
    x, y = images(2, 3, 16, 24)
    larger = [functional.interpolate(z, size=(32, 48), mode="bilinear") for z in (x, y)]
    distance = EfficientNetDistance()
    torch.testing.assert_close(distance(x, y), distance(*larger))
    assert distance(*images(1, 3, 4, 4)).isfinite().all()


def test_efficientnet_distance_grows_with_blur(shared):
    import numpy as np
    from PIL import Image

    from passband.transforms import gaussian_blur

    photo = min((shared / "data" / "photos").iterdir())
    pixels = np.asarray(Image.open(photo).convert("RGB"))[:96, :128]
    x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 127.5 - 1
    distance = EfficientNetDistance()
    values = [float(distance(x, gaussian_blur(x, sigma))) for sigma in (0.0, 0.5, 1.0, 2.0, 4.0)]
    assert values == sorted(values)
    assert values[0] == 0
    assert values[1] > 0.001
    assert values[-1] < 4
