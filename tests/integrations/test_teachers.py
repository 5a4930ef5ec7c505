"""Teachers: fields of every shape, the pixels that the networks get, tokens folded to grids, names and errors."""

import sys
import types

import pytest
import torch
from torch import nn
from torch.nn import functional

from passband._checks import MissingExtraError
from passband.integrations.teachers import IMAGENET_MEAN, IMAGENET_STD, ModuleTeacher, load_teacher


def pixels(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


class Tokens(nn.Module):
    """Patches of 16 pixels, averaged: tokens whose values tell where they come from."""

    def __init__(self, extra=0):
        super().__init__()
        self.extra = extra
        self.seen = None

    def forward(self, x):
        self.seen = x
        patches = functional.avg_pool2d(x, 16)
        tokens = patches.flatten(2).transpose(1, 2)
        return torch.cat([tokens[:, :1].expand(-1, self.extra, -1), tokens], dim=1)


# Any module.


def test_pixels_are_normalised_and_gray_ones_repeated():
    module = Tokens()
    x = pixels(2, 1, 32, 48)
    ModuleTeacher(module, "t")(x)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    torch.testing.assert_close(module.seen, (x.float().expand(-1, 3, -1, -1) - mean) / std)
    # The usual constants, of pixels in [0, 1].
    torch.testing.assert_close(mean.flatten() / 255, torch.tensor([0.485, 0.456, 0.406]))
    torch.testing.assert_close(std.flatten() / 255, torch.tensor([0.229, 0.224, 0.225]))


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (32, 32), (16, 80), (112, 112), (33, 50)])
def test_tokens_are_folded_in_reading_order(size):
    teacher = ModuleTeacher(Tokens(), "t", mean=0.0, std=1.0)
    x = pixels(2, 3, *size)
    torch.testing.assert_close(teacher(x), functional.avg_pool2d(x.float(), 16))
    assert teacher.width == 3


@pytest.mark.parametrize("size", [(48, 64), (64, 64), (32, 48)])
def test_a_class_token_makes_no_grid(size):
    with pytest.raises(ValueError, match=r"tokens of the teacher 't' make no grid .* without class or register tokens"):
        ModuleTeacher(Tokens(extra=1), "t")(pixels(1, 3, *size))


@pytest.mark.parametrize(
    ("resize", "size", "expected"),
    [(32, (48, 64), (32, 43)), (96, (48, 64), (96, 128)), (None, (20, 30), (20, 30)),
     (lambda h, w: (h // 2, w), (32, 32), (16, 32))],
)  # fmt: skip
def test_resize(resize, size, expected):
    module = nn.Identity()
    fields = ModuleTeacher(module, "t", 0.0, 1.0, resize)(pixels(1, 3, *size))
    assert fields.shape == (1, 3, *expected)
    # A flat image stays flat, whatever the filter.
    flat = ModuleTeacher(module, "t", 0.0, 1.0, resize)(torch.full((1, 3, *size), 77, dtype=torch.uint8))
    torch.testing.assert_close(flat, torch.full_like(flat, 77.0))


def test_the_module_is_frozen_and_its_fields_carry_no_graph():
    module = nn.Sequential(nn.Conv2d(3, 4, 4, stride=4), nn.BatchNorm2d(4)).train()
    teacher = ModuleTeacher(module, "conv")
    before = module[1].running_mean.clone()
    fields = teacher(pixels(2, 3, 8, 12))
    assert fields.dtype == torch.float32
    assert not fields.requires_grad
    assert not module.training
    assert not any(p.requires_grad for p in module.parameters())
    assert torch.equal(module[1].running_mean, before)
    # They may be the target of a loss: no inference tensors.
    weight = torch.ones((), requires_grad=True)
    (weight * fields).sum().backward()
    torch.testing.assert_close(weight.grad, fields.sum())


def test_half_precision_is_asked_for():
    convolution = nn.Conv2d(3, 4, 4, stride=4)
    x = pixels(1, 3, 32, 32)
    full = ModuleTeacher(convolution, "c")(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ModuleTeacher(convolution, "c")(x), full)
    half = ModuleTeacher(convolution, "c", dtype=torch.bfloat16)(x)
    assert half.dtype == torch.float32
    assert torch.equal(half, half.bfloat16().float())
    torch.testing.assert_close(half, full, rtol=0.05, atol=0.05)


class Returns(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return self.value


@pytest.mark.parametrize(
    ("value", "error", "match"),
    [
        ((torch.zeros(1, 4, 4),), TypeError, "must return a tensor, got tuple"),
        (torch.zeros(1, 4), ValueError, r"got shape \(1, 4\)"),
        (torch.zeros(2, 3, 4, 4), ValueError, r"fields \(1, width, rows, columns\)"),
    ],
)
def test_bad_outputs(value, error, match):
    with pytest.raises(error, match=match):
        ModuleTeacher(Returns(value), "t")(pixels(1, 3, 32, 32))


def test_bad_input_and_options():
    with pytest.raises(TypeError, match="must be a uint8 tensor"):
        ModuleTeacher(Tokens(), "t")(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match=r"\(batch, 1 or 3, height, width\)"):
        ModuleTeacher(Tokens(), "t")(pixels(1, 4, 32, 32))
    with pytest.raises(ValueError, match="must return 5 channels, got 3"):
        ModuleTeacher(Tokens(), "t", width=5)(pixels(1, 3, 32, 32))
    with pytest.raises(ValueError, match="std must be positive"):
        ModuleTeacher(Tokens(), "t", std=0.0)
    with pytest.raises(ValueError, match="a letter or a digit"):
        ModuleTeacher(Tokens(), "///")
    with pytest.raises(ValueError, match="resize must be at least 1"):
        ModuleTeacher(Tokens(), "t", resize=0)
    with pytest.raises(TypeError, match=r"must be an nn\.Module"):
        ModuleTeacher(torch.zeros, "t")


# EfficientNet-Lite0.


def test_efficientnet_fields_average_to_the_metric_features():
    from passband.metrics import efficientnet_lite0

    x = pixels(2, 3, 48, 64)
    teacher = load_teacher("efficientnet-lite0")
    fields = teacher(x)
    assert (fields.shape, teacher.width, teacher.name) == ((2, 112, 3, 4), 112, "efficientnet-lite0-10")
    torch.testing.assert_close(fields.mean((2, 3)), efficientnet_lite0(10)(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "size", "shape"),
    [("efficientnet-lite0:4", (48, 64), (40, 6, 8)), ("efficientnet-lite0:10@128", (48, 64), (112, 8, 10)),
     ("efficientnet-lite0", (16, 24), (112, 2, 3)), ("efficientnet-lite0:2@16", (64, 64), (24, 8, 8))],
)  # fmt: skip
def test_efficientnet_blocks_and_sizes(spec, size, shape):
    teacher = load_teacher(spec)
    assert teacher(pixels(1, 3, *size)).shape == (1, *shape)
    assert teacher.width == shape[0]
    assert teacher.name.replace("-", "").isalnum()


# DINOv2.


@pytest.fixture(scope="module", params=["dinov2", "dinov2_with_registers"])
def dino(request, tmp_path_factory):
    """A small random one, saved by transformers, and its folder."""
    transformers = pytest.importorskip("transformers")
    size = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 14, "image_size": 42}
    torch.manual_seed(0)
    if request.param == "dinov2":
        network = transformers.Dinov2Model(transformers.Dinov2Config(**size))
    else:
        network = transformers.Dinov2WithRegistersModel(
            transformers.Dinov2WithRegistersConfig(num_register_tokens=3, **size)
        )
    folder = tmp_path_factory.mktemp(request.param) / "dino.small"
    network.save_pretrained(folder)
    return network.eval(), folder


@pytest.mark.parametrize(
    ("side", "size", "grid"),
    [("", (48, 64), (3, 4)), ("", (64, 48), (4, 3)), ("", (40, 24), (2, 2)), ("@56", (48, 64), (4, 5)),
     ("", (5, 9), (1, 1))],
)  # fmt: skip
def test_dinov2_gives_the_patch_tokens_in_their_places(dino, side, size, grid):
    network, folder = dino
    teacher = load_teacher(f"dinov2:{folder}{side}")
    x = pixels(2, 3, *size)
    fields = teacher(x)
    resized = functional.interpolate(x.float(), (14 * grid[0], 14 * grid[1]), mode="bicubic", antialias=True)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        tokens = network((resized - mean) / std).last_hidden_state[:, -grid[0] * grid[1] :]
    assert fields.shape == (2, 12, *grid)
    assert teacher.width == 12
    for row in range(grid[0]):
        for column in range(grid[1]):
            torch.testing.assert_close(fields[:, :, row, column], tokens[:, row * grid[1] + column])


def test_dinov2_at_repas_size(dino):
    """256 pixels are resized to 224: one patch of 14 for every 16 pixels."""
    from passband.integrations._dinov2 import load_dinov2

    _, resize, width = load_dinov2(dino[1])
    assert (resize(256, 256), resize(512, 512), resize(48, 64), width) == ((224, 224), (448, 448), (42, 56), 12)


def test_dinov2_name(dino):
    assert load_teacher(f"dinov2:{dino[1]}").name == "dinov2-dino-small"


def test_dinov2_folders_that_are_none(dino, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    with pytest.raises(FileNotFoundError, match=r"no config\.json in .*save_pretrained"):
        load_teacher(f"dinov2:{tmp_path}")
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ValueError, match=r"holds a 'vit', expected DINOv2 .*module:package\.name"):
        load_teacher(f"dinov2:{other}")
    part = tmp_path / "part"
    shutil.copytree(dino[1], part)
    weights = load_file(part / "model.safetensors")
    del weights["layernorm.weight"]
    save_file(weights, part / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lack 1 of DINOv2's tensors, the first is 'layernorm\.weight'"):
        load_teacher(f"dinov2:{part}")
    (part / "model.safetensors").unlink()
    torch.save(weights, part / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"cannot read the weights .* must be safetensors"):
        load_teacher(f"dinov2:{part}")


# By name.


@pytest.fixture
def package(monkeypatch):
    found = types.ModuleType("my_networks")
    found.patches = lambda: nn.Conv2d(3, 8, 16, stride=16)
    found.tokens, found.number = Tokens, 3
    found.text = lambda: "no network"
    monkeypatch.setitem(sys.modules, "my_networks", found)


def test_modules_by_name(package):
    for spec, width in (("module:my_networks.patches", 8), ("module:my_networks.tokens", 3)):
        teacher = load_teacher(spec)
        assert teacher(pixels(2, 3, 48, 64)).shape == (2, width, 3, 4)
        assert load_teacher(f"{spec}@96").width == width
        assert load_teacher(f"{spec}@96")(pixels(2, 3, 48, 64)).shape == (2, width, 6, 8)
    assert load_teacher("module:my_networks.tokens@96").name == "my_networks-tokens-96"


@pytest.mark.parametrize(
    ("spec", "error", "match"),
    [
        ("module:my_networks.absent", ValueError, "my_networks has no function 'absent'"),
        ("module:my_networks.number", ValueError, "has no function 'number'"),
        ("module:my_networks.text", TypeError, r"text\(\) must return an nn.Module, got str"),
        ("module:no_such_package_anywhere.make", ImportError, "cannot import 'no_such_package_anywhere'.*PYTHONPATH"),
        ("module:alone", ValueError, r"expected module:package\.name"),
        ("efficientnet", ValueError, "unknown teacher: got 'efficientnet' .did you mean 'efficientnet-lite0'"),
        ("dinov2", ValueError, "unknown teacher: got 'dinov2'"),
        ("dinov2:no/such/folder", FileNotFoundError, r"no config\.json in no/such/folder"),
        ("efficientnet-lite0:head", ValueError, "unknown block in 'efficientnet-lite0:head'"),
        ("efficientnet-lite0:16", ValueError, "block 0 … 15, got 16"),
        ("efficientnet-lite0@0", ValueError, "@SIDE must be at least 1"),
        ("module:my_networks.patches@0", ValueError, "@SIDE must be at least 1"),
    ],
)
def test_unknown_teachers(package, spec, error, match):
    with pytest.raises(error, match=match):
        load_teacher(spec)


def test_a_package_that_fails_to_import_another_says_so(tmp_path, monkeypatch):
    (tmp_path / "needs_another.py").write_text("import not_here_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_here_at_all") as caught:
        load_teacher("module:needs_another.make")
    assert "PYTHONPATH" not in str(caught.value)


def test_missing_packages_say_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"passband\[eval\]"):
        load_teacher("efficientnet-lite0")
    with pytest.raises(MissingExtraError, match=r"passband\[integrations\]"):
        load_teacher(f"dinov2:{tmp_path}")
